/* Rows of FSL_REAL, each of FSL_LANES classes or more: see dense.h. */

/* ---- long rows, one by one ----------------------------------------------------------------- */

/* exp(x - m) of the last FSL_LANES classes, and the sum of those beyond the last whole vector. */
FSL_INLINE double FSL_NAME(fsl_dense_tail)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, FSL_REAL floor, FSL_REAL *tail)
{
    const int seen = (int)(FSL_LANES - n % FSL_LANES);
    const FSL_REAL *last = x + n - FSL_LANES;
    double sum = 0;
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) tail[i] = FSL_NAME(fsl_exp_floored)(last[i] - m, floor);
    FSL_SIMD(reduction(+ : sum))
    for (int i = 0; i < FSL_LANES; i++) sum += i < seen ? 0.0 : (double)tail[i];
    return sum;
}

/* e = exp(x - m) of n classes (whole vectors); returns their sum. `most` becomes the maximum of the row `next` and
 * itself. */
FSL_INLINE double FSL_NAME(fsl_dense_block)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, FSL_REAL floor, FSL_REAL *e,
                                            const FSL_REAL *next, FSL_REAL *most, const FSL_REAL *later)
{
    FSL_REAL lanes[FSL_LANES], peaks[FSL_LANES], peak = *most;
    double sum = 0;
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0, peaks[i] = next[i];
    for (ptrdiff_t j = 0; j < n; j += FSL_LANES) {
        FSL_PREFETCH_WRITE(later + j);
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL value = FSL_NAME(fsl_exp_floored)(x[j + i] - m, floor), ahead = next[j + i];
            e[j + i] = value;
            lanes[i] += value;
            peaks[i] = ahead > peaks[i] ? ahead : peaks[i];
        }
    }
    FSL_SIMD(reduction(+ : sum))
    for (int i = 0; i < FSL_LANES; i++) sum += (double)lanes[i];
    FSL_SIMD(reduction(FSL_MAX : peak))
    for (int i = 0; i < FSL_LANES; i++) peak = peaks[i] > peak ? peaks[i] : peak;
    *most = peak;
    return sum;
}

/* e = exp(x - m), which may be x; returns the sum. `next_max` becomes the maximum of the row `next`, 0 if all are -inf;
 * the row `later` is prefetched. */
FSL_UNUSED static double FSL_NAME(fsl_dense_exp)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, FSL_REAL *e,
                                                 const FSL_REAL *next, FSL_REAL *next_max, const FSL_REAL *later)
{
    const ptrdiff_t whole = n - n % FSL_LANES;
    FSL_REAL tail[FSL_LANES], floor = FSL_EXP_LEAST, most = -(FSL_REAL)INFINITY;
    double sum = 0;
    FSL_OPAQUE(floor);
    if (whole < n) {
        most = FSL_NAME(fsl_lanes_max)(next + n - FSL_LANES);
        sum = FSL_NAME(fsl_dense_tail)(x, n, m, floor, tail);
    }
    for (ptrdiff_t from = 0; from < whole; from += FSL_DENSE_BLOCK) {
        const ptrdiff_t n_block = from + FSL_DENSE_BLOCK < whole ? FSL_DENSE_BLOCK : whole - from;
        sum += FSL_NAME(fsl_dense_block)(x + from, n_block, m, floor, e + from, next + from, &most, later + from);
    }
    if (whole < n) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) e[n - FSL_LANES + i] = tail[i];
    }
    *next_max = most == -(FSL_REAL)INFINITY ? 0 : most;
    return sum < 2 ? FSL_NAME(fsl_sum)(e, n) : sum;
}

/* ---- short rows, many at once: operations across lanes follow in loops over independent rows -- */

/* e = exp(x - m) of a row, and its FSL_LANES / 2 partial sums. If classes are left over after whole vectors (`rest`),
 * they come from a vector that overlaps, whose own classes are those with `counts` 1. e may be x; the row `later` is
 * prefetched. */
FSL_INLINE void FSL_NAME(fsl_dense_vectors)(const FSL_REAL *x, ptrdiff_t n, int rest, FSL_REAL m, FSL_REAL floor,
                                            const FSL_REAL *counts, FSL_REAL *e, const FSL_REAL *later, FSL_REAL *parts)
{
    FSL_REAL tail[FSL_LANES], sums[FSL_LANES];
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) {
        tail[i] = rest ? FSL_NAME(fsl_exp_floored)(x[n - FSL_LANES + i] - m, floor) : 0;
        sums[i] = rest ? tail[i] * counts[i] : 0;
    }
    for (ptrdiff_t j = 0; j + FSL_LANES <= n; j += FSL_LANES) {
        FSL_PREFETCH_WRITE(later + j);
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL value = FSL_NAME(fsl_exp_floored)(x[j + i] - m, floor);
            e[j + i] = value;
            sums[i] += value;
        }
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES / 2; i++) parts[i] = sums[i] + sums[i + FSL_LANES / 2];
    if (!rest) return;
    FSL_PREFETCH_WRITE(later + n - 1);
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) e[n - FSL_LANES + i] = tail[i];
}

/* Maxima m of n rows of FSL_LANES to FSL_SHORT classes, e = exp(x - m), and the sums of its rows. e may be the rows;
 * those `ahead` elements further are prefetched. */
FSL_UNUSED static void FSL_NAME(fsl_dense_short)(const FSL_REAL **x, int n, ptrdiff_t n_classes, FSL_REAL *m,
                                                 FSL_REAL **e, ptrdiff_t ahead, double *sum)
{
    FSL_REAL parts[FSL_MOST_ROWS][FSL_LANES / 2], counts[FSL_LANES], floor = FSL_EXP_LEAST;
    FSL_OPAQUE(floor);
    for (int i = 0; i < FSL_LANES; i++) counts[i] = i >= FSL_LANES - (int)(n_classes % FSL_LANES);
    FSL_NAME(fsl_short_max)(x, n, n_classes, m);
    if (n_classes % FSL_LANES)
        for (int k = 0; k < n; k++)
            FSL_NAME(fsl_dense_vectors)(x[k], n_classes, 1, m[k], floor, counts, e[k], x[k] + ahead, parts[k]);
    else
        for (int k = 0; k < n; k++)
            FSL_NAME(fsl_dense_vectors)(x[k], n_classes, 0, m[k], floor, counts, e[k], x[k] + ahead, parts[k]);
    for (int k = 0; k < n; k++) sum[k] = FSL_NAME(fsl_sum)(parts[k], FSL_LANES / 2);
    for (int k = 0; k < n; k++)
        if (sum[k] < 2) sum[k] = FSL_NAME(fsl_sum)(e[k], n_classes);
}

/* ---- gradients ----------------------------------------------------------------------------- */

/* x = factor * x; the row `next` is prefetched. */
FSL_UNUSED static void FSL_NAME(fsl_dense_scale)(FSL_REAL *x, ptrdiff_t n, double factor, const FSL_REAL *next)
{
    const FSL_REAL scale = (FSL_REAL)factor;
    FSL_REAL tail[FSL_LANES], *last = x + n - FSL_LANES;
    if (FSL_NAME(fsl_is_large)(factor) || n < FSL_LANES) {
        FSL_NAME(fsl_row_scale)(x, n, factor);
        return;
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) tail[i] = scale * last[i];
    for (ptrdiff_t j = 0; j + FSL_LANES <= n; j += FSL_LANES) {
        FSL_PREFETCH_WRITE(next + j);
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) x[j + i] *= scale;
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) last[i] = tail[i];
}
