/* Tiles of frames, and vectors: what test_tiles.py calls, compiled at every level, with and without extensions of C. */
#include "simd/tile.h"

#define TILES(real, name)                                                                                         \
    void open_tile_##name(const real *x, ptrdiff_t stride, int n, ptrdiff_t n_classes, real *scratch, double *y,  \
                          double *sum, double *range)                                                             \
    {                                                                                                             \
        fsl_open_tile_##name(x, stride, n, n_classes, scratch, y, sum, range);                                    \
    }                                                                                                             \
    void close_tile_##name(const double *y, const double *sum, const double *post, double scale,                  \
                           ptrdiff_t stride, int n, ptrdiff_t n_classes, real *scratch, real *x)                  \
    {                                                                                                             \
        fsl_close_tile_##name(y, sum, post, scale, stride, n, n_classes, scratch, x);                             \
    }                                                                                                             \
    int open_classes_##name(const real *x, ptrdiff_t stride, int n, ptrdiff_t n_classes, const int64_t *classes,  \
                            ptrdiff_t n_used, real *scratch, double *y, double *sum, double *range, double *m)    \
    {                                                                                                             \
        return fsl_open_classes_##name(x, stride, n, n_classes, classes, n_used, scratch, y, sum, range, m);      \
    }                                                                                                             \
    int narrow_range_##name(const real *tile, ptrdiff_t n_classes, const int64_t *classes, ptrdiff_t n_used,      \
                            double most, double *range)                                                           \
    {                                                                                                             \
        return fsl_narrow_range_##name(tile, n_classes, classes, n_used, most, range);                            \
    }                                                                                                             \
    void close_classes_##name(const double *post, double scale, ptrdiff_t stride, int n, ptrdiff_t n_classes,     \
                              real *scratch, real *x)                                                             \
    {                                                                                                             \
        fsl_close_classes_##name(post, scale, stride, n, n_classes, scratch, x);                                  \
    }                                                                                                             \
    void gather_column_##name(const real *x, const int64_t *classes, ptrdiff_t n_used, int frame, real *tile)     \
    {                                                                                                             \
        fsl_gather_column_##name(x, classes, n_used, frame, tile);                                                \
    }                                                                                                             \
    int open_columns_##name(real *tile, int n, ptrdiff_t n_used, double *y, double *sum, double *range,           \
                            double *m)                                                                            \
    {                                                                                                             \
        return fsl_open_columns_##name(tile, n, n_used, y, sum, range, m);                                        \
    }                                                                                                             \
    void scatter_columns_##name(const double *y, const double *factor, const double *post, double scale,          \
                                ptrdiff_t stride, int n, const int64_t *classes, ptrdiff_t n_used, real *scratch, \
                                real *x)                                                                          \
    {                                                                                                             \
        fsl_scatter_columns_##name(y, factor, post, scale, stride, n, classes, n_used, scratch, x);               \
    }

TILES(float, f32)
TILES(double, f64)

void transpose_frames(const double *rows, ptrdiff_t width, double *tile) { fsl_transpose_frames(rows, width, tile); }

/* a[i - 1] and a[i + 1] of a vector, with a carry; returns the number of lanes. */
int shift(const double *a, double carry, double *up, double *down)
{
    fsl_store_x(up, fsl_shift_up_x(fsl_load_x(a), carry));
    fsl_store_x(down, fsl_shift_down_x(fsl_load_x(a), carry));
    return FSL_X;
}

/* a where b > 0, else 0. */
void where_positive(const double *a, const double *b, double *out)
{
    fsl_store_x(out, fsl_where_positive_x(fsl_load_x(a), fsl_load_x(b)));
}

void transpose(const double *a, double *out)
{
    const double *rows[FSL_X];
    fsl_x r[FSL_X];
    for (int i = 0; i < FSL_X; i++) rows[i] = a + i * FSL_X;
    fsl_load_transposed_x(rows, r);
    for (int i = 0; i < FSL_X; i++) fsl_store_x(out + i * FSL_X, r[i]);
}
