/* A tile of frames of FSL_REAL: see tile.h. */

/* tile = the rows x, x + stride, ...; frames from n on repeat the last one. */
FSL_INLINE void FSL_NAME(fsl_frames_read)(const FSL_REAL *x, ptrdiff_t stride, int n, ptrdiff_t n_classes,
                                        FSL_REAL *tile)
{
    const FSL_REAL *rows[FSL_FRAMES];
    for (int i = 0; i < FSL_FRAMES; i++) rows[i] = x + (i < n ? i : n - 1) * stride;
#if FSL_VECTORS
    for (int from = 0; n_classes >= FSL_TILE_LANES && from < FSL_FRAMES; from += FSL_TILE_LANES)
        for (ptrdiff_t c = 0; c < n_classes; c += FSL_TILE_LANES) {
            FSL_TILE_VECTOR v[FSL_TILE_LANES];
            c = c + FSL_TILE_LANES > n_classes ? n_classes - FSL_TILE_LANES : c; /* the last columns overlap */
            FSL_UNROLL
            for (int i = 0; i < FSL_TILE_LANES; i++) v[i] = FSL_TILE_OP(load)(rows[from + i] + c);
            FSL_TILE_OP(transpose)(v);
            FSL_UNROLL
            for (int i = 0; i < FSL_TILE_LANES; i++) FSL_TILE_OP(store)(tile + (c + i) * FSL_FRAMES + from, v[i]);
        }
    if (n_classes >= FSL_TILE_LANES) return;
#endif
    for (ptrdiff_t c = 0; c < n_classes; c++)
        for (int i = 0; i < FSL_FRAMES; i++) tile[c * FSL_FRAMES + i] = rows[i][c];
}

/* The first n frames of a tile to the rows x, x + stride, ... */
FSL_INLINE void FSL_NAME(fsl_frames_write)(const FSL_REAL *tile, ptrdiff_t stride, int n, ptrdiff_t n_classes,
                                         FSL_REAL *x)
{
#if FSL_VECTORS
    for (int from = 0; n_classes >= FSL_TILE_LANES && from < n; from += FSL_TILE_LANES)
        for (ptrdiff_t c = 0; c < n_classes; c += FSL_TILE_LANES) {
            FSL_TILE_VECTOR v[FSL_TILE_LANES];
            c = c + FSL_TILE_LANES > n_classes ? n_classes - FSL_TILE_LANES : c;
            FSL_UNROLL
            for (int i = 0; i < FSL_TILE_LANES; i++) v[i] = FSL_TILE_OP(load)(tile + (c + i) * FSL_FRAMES + from);
            FSL_TILE_OP(transpose)(v);
            if (n >= from + FSL_TILE_LANES) {
                FSL_UNROLL
                for (int i = 0; i < FSL_TILE_LANES; i++) FSL_TILE_OP(store)(x + (from + i) * stride + c, v[i]);
            } else
                for (int i = 0; from + i < n; i++) FSL_TILE_OP(store)(x + (from + i) * stride + c, v[i]);
        }
    if (n_classes >= FSL_TILE_LANES) return;
#endif
    for (int i = 0; i < n; i++)
        for (ptrdiff_t c = 0; c < n_classes; c++) x[i * stride + c] = tile[c * FSL_FRAMES + i];
}

/* Greatest and least score of each frame; NaN is ignored. */
FSL_INLINE void FSL_NAME(fsl_frames_range)(const FSL_REAL *tile, ptrdiff_t n_classes, FSL_REAL *most, FSL_REAL *least)
{
    FSL_REAL hi[FSL_FRAMES], lo[FSL_FRAMES];
    FSL_SIMD()
    for (int i = 0; i < FSL_FRAMES; i++) hi[i] = lo[i] = tile[i];
    for (ptrdiff_t c = 1; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_FRAMES; i++) {
            const FSL_REAL x = tile[c * FSL_FRAMES + i];
            hi[i] = x > hi[i] ? x : hi[i];
            lo[i] = x < lo[i] ? x : lo[i];
        }
    }
    for (int i = 0; i < FSL_FRAMES; i++) most[i] = hi[i], least[i] = lo[i];
}

/* y = exp(x - maximum) of the classes of a tile; `range` is the distance of the least y below 1 in binary orders of
 * magnitude. */
FSL_INLINE void FSL_NAME(fsl_frames_open)(const FSL_REAL *restrict tile, ptrdiff_t n_classes, double *restrict y,
                                          double *restrict sum, double *restrict range, double *restrict maximum)
{
    FSL_REAL most[FSL_FRAMES], least[FSL_FRAMES];
    double m[FSL_FRAMES], total[FSL_FRAMES];
    FSL_NAME(fsl_frames_range)(tile, n_classes, most, least);
    FSL_SIMD()
    for (int i = 0; i < FSL_FRAMES; i++) {
        m[i] = (double)most[i];
        total[i] = 0;
        range[i] = (m[i] - (double)least[i]) * FSL_LOG2E;
    }
    for (ptrdiff_t c = 0; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_FRAMES; i++) {
            const double e = FSL_NAME(fsl_frame_exp)((double)tile[c * FSL_FRAMES + i] - m[i]);
            y[c * FSL_FRAMES + i] = e;
            total[i] += e;
        }
    }
    for (int i = 0; i < FSL_FRAMES; i++) sum[i] = total[i], maximum[i] = m[i];
}

/* Range of the frames whose `range` exceeds `most`, over the finite scores of some classes (of all, if `classes` is
 * NULL) and the greatest score. Returns 1 if a score of these classes is -inf. */
FSL_UNUSED static int FSL_NAME(fsl_narrow_range)(const FSL_REAL *tile, ptrdiff_t n_classes, const int64_t *classes,
                                                 ptrdiff_t n_used, double most, double *range)
{
    FSL_REAL hi[FSL_FRAMES], lo[FSL_FRAMES], lost[FSL_FRAMES] = {0};
    int over = 0;
    for (int i = 0; i < FSL_FRAMES; i++) over |= !(range[i] <= most);
    if (!over) return 0;
    FSL_NAME(fsl_frames_range)(tile, n_classes, hi, lo);
    memcpy(lo, hi, sizeof lo);
    for (ptrdiff_t k = 0; k < n_used; k++) {
        const FSL_REAL *x = tile + (classes ? (ptrdiff_t)classes[k] : k) * FSL_FRAMES;
        FSL_SIMD()
        for (int i = 0; i < FSL_FRAMES; i++) {
            const FSL_REAL finite = x[i] > -INFINITY ? x[i] : hi[i];
            lo[i] = finite < lo[i] ? finite : lo[i];
            lost[i] += x[i] > -INFINITY ? (FSL_REAL)0 : (FSL_REAL)1;
        }
    }
    over = 0;
    for (int i = 0; i < FSL_FRAMES; i++) {
        over |= lost[i] > 0;
        if (!(range[i] <= most)) range[i] = ((double)hi[i] - (double)lo[i]) * FSL_LOG2E;
    }
    return over;
}

/* Reads a tile; y = exp(x - maximum), and its sum for each frame. `tile` is scratch. Sets the distance of the least
 * y of each frame below 1 in binary orders of magnitude. */
FSL_UNUSED static void FSL_NAME(fsl_open_tile)(const FSL_REAL *x, ptrdiff_t stride, int n, ptrdiff_t n_classes,
                                               FSL_REAL *tile, double *y, double *sum, double *range)
{
    double m[FSL_FRAMES];
    FSL_NAME(fsl_frames_read)(x, stride, n, n_classes, tile);
    FSL_NAME(fsl_frames_open)(tile, n_classes, y, sum, range, m);
}

/* The same for some of at most FSL_TILE_CLASSES classes, of which the maximum is taken and returned in m; y of the
 * others is not set. The distance is that of finite scores. Returns 1 if a score of these classes is -inf. */
FSL_UNUSED static int FSL_NAME(fsl_open_classes)(const FSL_REAL *x, ptrdiff_t stride, int n, ptrdiff_t n_classes,
                                                 const int64_t *classes, ptrdiff_t n_used, FSL_REAL *tile, double *y,
                                                 double *sum, double *range, double *m)
{
    FSL_REAL used[FSL_TILE_CLASSES * FSL_FRAMES];
    double e[FSL_TILE_CLASSES * FSL_FRAMES];
    FSL_NAME(fsl_frames_read)(x, stride, n, n_classes, tile);
    for (ptrdiff_t k = 0; k < n_used; k++)
        memcpy(used + k * FSL_FRAMES, tile + classes[k] * FSL_FRAMES, FSL_FRAMES * sizeof(FSL_REAL));
    FSL_NAME(fsl_frames_open)(used, n_used, e, sum, range, m);
    for (ptrdiff_t k = 0; k < n_used; k++)
        memcpy(y + classes[k] * FSL_FRAMES, e + k * FSL_FRAMES, FSL_FRAMES * sizeof(double));
    return FSL_NAME(fsl_narrow_range)(used, n_used, NULL, n_used, FSL_MOST_RANGE, range);
}

/* Writes scale * (y / sum - post) to n frames; `tile` is scratch. */
FSL_UNUSED static void FSL_NAME(fsl_close_tile)(const double *restrict y, const double *restrict sum,
                                                const double *restrict post, double scale, ptrdiff_t stride, int n,
                                                ptrdiff_t n_classes, FSL_REAL *restrict tile, FSL_REAL *x)
{
    double factor[FSL_FRAMES];
    FSL_SIMD()
    for (int i = 0; i < FSL_FRAMES; i++) factor[i] = scale / sum[i];
    for (ptrdiff_t c = 0; c < n_classes; c++) {
        FSL_SIMD()
        for (int i = 0; i < FSL_FRAMES; i++)
            tile[c * FSL_FRAMES + i] =
                (FSL_REAL)(factor[i] * y[c * FSL_FRAMES + i] - scale * post[c * FSL_FRAMES + i]);
    }
    FSL_NAME(fsl_frames_write)(tile, stride, n, n_classes, x);
}

/* Writes -scale * post to n frames; `tile` is scratch. Zeros are not negative. */
FSL_UNUSED static void FSL_NAME(fsl_close_classes)(const double *restrict post, double scale, ptrdiff_t stride, int n,
                                                   ptrdiff_t n_classes, FSL_REAL *restrict tile, FSL_REAL *x)
{
    for (ptrdiff_t i = 0; i < n_classes * FSL_FRAMES; i += FSL_FRAMES) {
        FSL_SIMD()
        for (int k = 0; k < FSL_FRAMES; k++) tile[i + k] = (FSL_REAL)(0.0 - scale * post[i + k]);
    }
    FSL_NAME(fsl_frames_write)(tile, stride, n, n_classes, x);
}

/* ---- some of the classes of frames that are read one by one ------------------------------- */

/* The scores of some classes of a row as column `frame` of a tile. */
FSL_UNUSED static void FSL_NAME(fsl_gather_column)(const FSL_REAL *restrict x, const int64_t *restrict classes,
                                                   ptrdiff_t n_used, int frame, FSL_REAL *restrict tile)
{
    for (ptrdiff_t k = 0; k < n_used; k++) tile[k * FSL_FRAMES + frame] = x[classes[k]];
}

/* As fsl_open_classes, of a tile of n columns. */
FSL_UNUSED static int FSL_NAME(fsl_open_columns)(FSL_REAL *tile, int n, ptrdiff_t n_used, double *y, double *sum,
                                                 double *range, double *m)
{
    for (ptrdiff_t k = 0; n < FSL_FRAMES && k < n_used; k++)
        for (int i = n; i < FSL_FRAMES; i++) tile[k * FSL_FRAMES + i] = tile[k * FSL_FRAMES + n - 1];
    FSL_NAME(fsl_frames_open)(tile, n_used, y, sum, range, m);
    return FSL_NAME(fsl_narrow_range)(tile, n_used, NULL, n_used, FSL_MOST_RANGE, range);
}

/* Writes factor * y - scale * post of some classes to n frames; `tile` is scratch. Zeros are not negative. The next
 * row is prefetched, because rows have left the caches since the dense pass. */
FSL_UNUSED static void FSL_NAME(fsl_scatter_columns)(const double *restrict y, const double *restrict factor,
                                                     const double *restrict post, double scale, ptrdiff_t stride, int n,
                                                     const int64_t *restrict classes, ptrdiff_t n_used,
                                                     FSL_REAL *restrict tile, FSL_REAL *restrict x)
{
    for (ptrdiff_t k = 0; k < n_used * FSL_FRAMES; k += FSL_FRAMES) {
        FSL_SIMD()
        for (int i = 0; i < FSL_FRAMES; i++) tile[k + i] = (FSL_REAL)(factor[i] * y[k + i] - scale * post[k + i]);
    }
    for (int i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < n_used; k++) {
            FSL_PREFETCH_WRITE(x + (i + 1) * stride + classes[k]);
            x[i * stride + classes[k]] = tile[k * FSL_FRAMES + i];
        }
}
