/* Several rows of logits of FSL_REAL at once: see rows.h. */

/* Copies n <= FSL_LANES rows into a tile; the remaining lanes repeat the last row. */
FSL_INLINE void FSL_NAME(fsl_tile_in)(const FSL_REAL **rows, int n, ptrdiff_t n_classes, FSL_REAL *tile)
{
    for (int lane = 0; lane < FSL_LANES; lane++) {
        const FSL_REAL *x = rows[lane < n ? lane : n - 1];
        for (ptrdiff_t c = 0; c < n_classes; c++) tile[c * FSL_LANES + lane] = x[c];
    }
}

FSL_INLINE void FSL_NAME(fsl_tile_out)(const FSL_REAL *tile, int n, ptrdiff_t n_classes, FSL_REAL **rows)
{
    for (int lane = 0; lane < n; lane++) {
        FSL_REAL *x = rows[lane];
        for (ptrdiff_t c = 0; c < n_classes; c++) x[c] = tile[c * FSL_LANES + lane];
    }
}

FSL_INLINE void FSL_NAME(fsl_tile_max)(const FSL_REAL *tile, ptrdiff_t n_classes, FSL_REAL *m)
{
    for (int i = 0; i < FSL_LANES; i++) m[i] = -(FSL_REAL)INFINITY;
    for (ptrdiff_t c = 0; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL x = tile[c * FSL_LANES + i];
            m[i] = x > m[i] ? x : m[i];
        }
    }
    for (int i = 0; i < FSL_LANES; i++) m[i] = m[i] == -(FSL_REAL)INFINITY ? 0 : m[i];
}

/* tile = exp(tile - m), and the sums of its rows. */
FSL_INLINE void FSL_NAME(fsl_tile_exp)(FSL_REAL *tile, ptrdiff_t n_classes, const FSL_REAL *m, double *sum)
{
    double total[FSL_LANES] = {0};
    FSL_REAL floor = FSL_EXP_LEAST;
    FSL_OPAQUE(floor);
    for (ptrdiff_t c = 0; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL e = FSL_NAME(fsl_exp_floored)(tile[c * FSL_LANES + i] - m[i], floor);
            tile[c * FSL_LANES + i] = e;
            total[i] += (double)e;
        }
    }
    for (int i = 0; i < FSL_LANES; i++) sum[i] = total[i];
}

/* Sum of q (x - m) over classes; q is one row for all rows, or a tile. */
FSL_INLINE void FSL_NAME(fsl_tile_dot)(const FSL_REAL *tile, ptrdiff_t n_classes, const FSL_REAL *m, const FSL_REAL *q,
                                       int q_is_tile, double *dot)
{
    double total[FSL_LANES] = {0};
    for (ptrdiff_t c = 0; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL weight = q_is_tile ? q[c * FSL_LANES + i] : q[c];
            const double term = (double)weight * ((double)tile[c * FSL_LANES + i] - (double)m[i]);
            total[i] += weight == 0 ? 0 : term;
        }
    }
    for (int i = 0; i < FSL_LANES; i++) dot[i] = total[i];
}

/* Gradient: tile = factor * tile - shift * q. */
FSL_INLINE void FSL_NAME(fsl_tile_gradient)(FSL_REAL *tile, ptrdiff_t n_classes, const double *factor,
                                            const double *shift, const FSL_REAL *q, int q_is_tile)
{
    FSL_REAL f[FSL_LANES], s[FSL_LANES];
    int large = 0;
    for (int i = 0; i < FSL_LANES; i++) {
        f[i] = (FSL_REAL)factor[i];
        s[i] = (FSL_REAL)shift[i];
        large |= FSL_NAME(fsl_is_large)(factor[i]) | FSL_NAME(fsl_is_large)(shift[i]);
    }
    for (ptrdiff_t c = 0; large && c < n_classes; c++)
        for (int i = 0; i < FSL_LANES; i++) {
            const double own = q ? (double)(q_is_tile ? q[c * FSL_LANES + i] : q[c]) : 0;
            const double e = (double)tile[c * FSL_LANES + i];
            tile[c * FSL_LANES + i] = (FSL_REAL)(factor[i] * e - shift[i] * own);
        }
    for (ptrdiff_t c = 0; !large && c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            FSL_REAL g = f[i] * tile[c * FSL_LANES + i];
            if (q) g -= s[i] * (q_is_tile ? q[c * FSL_LANES + i] : q[c]);
            tile[c * FSL_LANES + i] = g;
        }
    }
}

/* Maximum by halves, which compilers keep in registers. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_lanes_max)(const FSL_REAL *lanes)
{
    FSL_REAL a[8], b[4], most = -(FSL_REAL)INFINITY;
    FSL_SIMD()
    for (int i = 0; i < 8; i++) a[i] = lanes[i] > lanes[i + 8] ? lanes[i] : lanes[i + 8];
    FSL_SIMD()
    for (int i = 0; i < 4; i++) b[i] = a[i] > a[i + 4] ? a[i] : a[i + 4];
    for (int i = 0; i < 4; i++) most = b[i] > most ? b[i] : most;
    return most;
}

/* Maxima of n rows of FSL_LANES classes or more; 0 if all are -inf. The last vector overlaps. */
FSL_UNUSED static void FSL_NAME(fsl_short_max)(const FSL_REAL **rows, int n, ptrdiff_t n_classes, FSL_REAL *m)
{
    for (int k = 0; k < n; k++) {
        const FSL_REAL *x = rows[k];
        FSL_REAL lanes[FSL_LANES], most;
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) lanes[i] = -(FSL_REAL)INFINITY;
        for (ptrdiff_t start = 0; start + FSL_LANES <= n_classes; start += FSL_LANES) {
            FSL_SIMD()
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = x[start + i] > lanes[i] ? x[start + i] : lanes[i];
        }
        const FSL_REAL *last = x + n_classes - FSL_LANES;
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) lanes[i] = last[i] > lanes[i] ? last[i] : lanes[i];
        most = FSL_NAME(fsl_lanes_max)(lanes);
        m[k] = most == -(FSL_REAL)INFINITY ? 0 : most;
    }
}

/* out = exp(x - m) of the whole vectors of such rows, and FSL_LANES / 2 partial sums for each row. out may be the rows.
 * The rows of the next block lie `ahead` elements further. */
FSL_INLINE void FSL_NAME(fsl_short_vectors)(const FSL_REAL **rows, int n, ptrdiff_t n_classes, const FSL_REAL *m,
                                            FSL_REAL **out, ptrdiff_t ahead, FSL_REAL (*parts)[FSL_LANES / 2])
{
    FSL_REAL floor = FSL_EXP_LEAST;
    FSL_OPAQUE(floor);
    for (int k = 0; k < n; k++) {
        const FSL_REAL *x = rows[k], most = m[k];
        FSL_REAL lanes[FSL_LANES], *e = out[k];
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;
        for (ptrdiff_t start = 0; start + FSL_LANES <= n_classes; start += FSL_LANES) {
            FSL_PREFETCH(x + start + ahead);
            FSL_PREFETCH_WRITE(e + start + ahead);
            FSL_SIMD()
            for (int i = 0; i < FSL_LANES; i++) {
                const FSL_REAL value = FSL_NAME(fsl_exp_floored)(x[start + i] - most, floor);
                e[start + i] = value;
                lanes[i] += value;
            }
        }
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES / 2; i++) parts[k][i] = lanes[i] + lanes[i + FSL_LANES / 2];
    }
}

/* exp(x - m) of the last FSL_LANES classes of such rows. */
FSL_INLINE void FSL_NAME(fsl_short_tails)(const FSL_REAL **rows, int n, ptrdiff_t n_classes, const FSL_REAL *m,
                                          FSL_REAL (*tails)[FSL_LANES])
{
    FSL_REAL floor = FSL_EXP_LEAST;
    FSL_OPAQUE(floor);
    for (int k = 0; k < n; k++) {
        const FSL_REAL *last = rows[k] + n_classes - FSL_LANES, most = m[k];
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) tails[k][i] = FSL_NAME(fsl_exp_floored)(last[i] - most, floor);
    }
}

/* out = exp(x - m) of such rows, and the sums of its rows; sums under 2 in float64, as in fsl_row_exp. */
FSL_UNUSED static void FSL_NAME(fsl_short_exp)(const FSL_REAL **rows, int n, ptrdiff_t n_classes, const FSL_REAL *m,
                                               FSL_REAL **out, ptrdiff_t ahead, double *sum)
{
    FSL_REAL parts[FSL_MOST_ROWS][FSL_LANES / 2], tails[FSL_MOST_ROWS][FSL_LANES];
    const int rest = (int)(n_classes % FSL_LANES);
    if (rest) FSL_NAME(fsl_short_tails)(rows, n, n_classes, m, tails);
    FSL_NAME(fsl_short_vectors)(rows, n, n_classes, m, out, ahead, parts);
    for (int k = 0; k < n; k++) {
        sum[k] = FSL_NAME(fsl_sum)(parts[k], FSL_LANES / 2);
        if (rest) { /* adds the last `rest` elements of the tail: the vectors contain the others */
            sum[k] += FSL_NAME(fsl_sum)(tails[k] + FSL_LANES - rest, rest);
            memcpy(out[k] + n_classes - FSL_LANES, tails[k], sizeof tails[k]);
        }
        if (sum[k] < 2) sum[k] = FSL_NAME(fsl_sum)(out[k], n_classes);
    }
}

/* Gradient factor * e - scale * own of such rows, for q equal to `own` at the target and 0 elsewhere. */
FSL_UNUSED static void FSL_NAME(fsl_short_gradient)(FSL_REAL **rows, int n, ptrdiff_t n_classes, const int64_t *target,
                                                    const double *factor, const double *scale, const double *own)
{
    for (int k = 0; k < n; k++) {
        FSL_REAL *x = rows[k];
        const double at_target = factor[k] * (double)x[target[k]] - scale[k] * own[k];
        FSL_NAME(fsl_row_scale)(x, n_classes, factor[k]);
        x[target[k]] = (FSL_REAL)at_target;
    }
}

/* Maximum of a row, 0 if all are -inf; a row of half precision is converted in the same pass. */
FSL_UNUSED static FSL_REAL FSL_NAME(fsl_load_max)(fsl_stored kind, const char *from, ptrdiff_t n, FSL_REAL *restrict to)
{
    FSL_REAL most = -(FSL_REAL)INFINITY;
    if (kind == FSL_FLOAT16) FSL_LOAD_MAX(fsl_float16, FSL_REAL, fsl_from_float16)
    else if (kind == FSL_BFLOAT16) FSL_LOAD_MAX(fsl_bfloat16, FSL_REAL, fsl_from_bfloat16)
    else return FSL_NAME(fsl_row_max)((const FSL_REAL *)from, n);
    return most == -(FSL_REAL)INFINITY ? 0 : most;
}

/* Sum of q (x - m), or of q log p; terms with q = 0 are 0. */
FSL_INLINE double FSL_NAME(fsl_row_dot)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, const FSL_REAL *q)
{
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (ptrdiff_t c = 0; c < n; c++) total += q[c] == 0 ? 0 : (double)q[c] * ((double)x[c] - (double)m);
    return total;
}

FSL_INLINE double FSL_NAME(fsl_row_dot_log)(const FSL_REAL *p, ptrdiff_t n, const FSL_REAL *q)
{
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (ptrdiff_t c = 0; c < n; c++)
        total += q[c] == 0 ? 0 : (double)q[c] * fsl_log64(fsl_clamp_probability((double)p[c]));
    return total;
}

/* First of n numbers below 0 or above `most` by more than rounding, or n; NaN is ignored. */
FSL_UNUSED static ptrdiff_t FSL_NAME(fsl_find_outside)(const FSL_REAL *p, ptrdiff_t n, double most)
{
    int bad = 0;
    FSL_SIMD(reduction(| : bad))
    for (ptrdiff_t i = 0; i < n; i++) bad |= FSL_IS_OUTSIDE(p[i], most);
    for (ptrdiff_t i = 0; bad && i < n; i++)
        if (FSL_IS_OUTSIDE(p[i], most)) return i;
    return n;
}

/* x = factor * x - shift * q; q may be NULL. */
FSL_INLINE void FSL_NAME(fsl_row_gradient)(FSL_REAL *x, ptrdiff_t n, double factor, double shift, const FSL_REAL *q)
{
    const FSL_REAL f = (FSL_REAL)factor, s = (FSL_REAL)shift;
    if (!q) {
        FSL_NAME(fsl_row_scale)(x, n, factor);
        return;
    }
    if (FSL_NAME(fsl_is_large)(factor) | FSL_NAME(fsl_is_large)(shift)) {
        for (ptrdiff_t c = 0; c < n; c++) x[c] = (FSL_REAL)(factor * (double)x[c] - shift * (double)q[c]);
        return;
    }
    FSL_SIMD()
    for (ptrdiff_t c = 0; c < n; c++) x[c] = f * x[c] - s * q[c];
}

/* out = -scale * q, or -scale * q / p, 0 where q is 0; out may be p. */
FSL_INLINE void FSL_NAME(fsl_row_slope)(const FSL_REAL *p, ptrdiff_t n, double scale, const FSL_REAL *q, int divide,
                                        FSL_REAL *out)
{
    FSL_SIMD()
    for (ptrdiff_t c = 0; c < n; c++) {
        const double by = divide ? fsl_clamp_probability((double)p[c]) : 1.0;
        const FSL_REAL slope = by == 0 ? -(FSL_REAL)INFINITY : (FSL_REAL)(-scale * (double)q[c] / by);
        out[c] = q[c] == 0 ? 0 : slope;
    }
}

/* q = weight ((1 - epsilon) y + epsilon / n), with weight 1 if NULL; returns the sum of q. */
FSL_INLINE double FSL_NAME(fsl_row_smooth)(const FSL_REAL *y, ptrdiff_t n, const double *weight, double epsilon,
                                           FSL_REAL *q)
{
    const double all = epsilon / (double)n, own = 1.0 - epsilon;
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (ptrdiff_t c = 0; c < n; c++) {
        const double value = (weight ? weight[c] : 1.0) * (own * (y[c] < 0 ? 0 : (double)y[c]) + all);
        q[c] = (FSL_REAL)value;
        total += value;
    }
    return total;
}
