/* The primitives of a row, over arrays: what test_simd.py calls, compiled at every level. */
#include "simd/short_rows.h"

void exp_float64(const double *x, double *out, ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fsl_exp64(x[i]);
}

#define PRIMITIVES(real, name, bits)                                                                           \
    void exp_normal_##name(const real *x, real *out, ptrdiff_t n)                                              \
    {                                                                                                          \
        FSL_SIMD()                                                                                             \
        for (ptrdiff_t i = 0; i < n; i++) out[i] = fsl_exp_normal##bits(x[i]);                                 \
    }                                                                                                          \
    void log_##name(const real *x, real *out, ptrdiff_t n)                                                     \
    {                                                                                                          \
        FSL_SIMD()                                                                                             \
        for (ptrdiff_t i = 0; i < n; i++) out[i] = fsl_log##bits(x[i]);                                        \
    }                                                                                                          \
    /* out = scale * softmax(logits), row by row; out may be logits. */                                        \
    void softmax_rows_##name(const real *logits, real *out, ptrdiff_t rows, ptrdiff_t n, double scale,         \
                             double *row_max, double *row_sum)                                                 \
    {                                                                                                          \
        for (ptrdiff_t i = 0; i < rows; i++)                                                                   \
            fsl_softmax_row_f##bits(logits + i * n, n, out + i * n, scale, n, &row_max[i], &row_sum[i]);        \
    }

PRIMITIVES(float, float32, 32)
PRIMITIVES(double, float64, 64)

/* One vector at a time; n is a multiple of 16. */
void exp_vector_float32(const float *x, float *out, ptrdiff_t n)
{
#if FSL_VECTORS
    for (ptrdiff_t i = 0; i < n; i += FSL_XF) fsl_store_xf(out + i, fsl_exp_normal_xf(fsl_load_xf(x + i)));
#else
    exp_normal_float32(x, out, n);
#endif
}

/* Two vectors at a time; n is a multiple of 16. */
void exp_pair_float32(const float *x, float *out, ptrdiff_t n)
{
#if FSL_VECTORS
    for (ptrdiff_t i = 0; i < n; i += 2 * FSL_XF) {
        fsl_xf a = fsl_load_xf(x + i), b = fsl_load_xf(x + i + FSL_XF);
        fsl_exp_normal_pair(&a, &b);
        fsl_store_xf(out + i, a);
        fsl_store_xf(out + i + FSL_XF, b);
    }
#else
    exp_normal_float32(x, out, n);
#endif
}

/* Maxima, exponentials and sums of at most FSL_MOST_ROWS rows; out may be logits. */
void short_rows_float32(const float *logits, float *out, ptrdiff_t rows, ptrdiff_t n, float *row_max, double *row_sum)
{
    const float *x[FSL_MOST_ROWS];
    float *e[FSL_MOST_ROWS];
    for (ptrdiff_t i = 0; i < rows; i++) x[i] = logits + i * n, e[i] = out + i * n;
    fsl_short_rows_max(x, (int)rows, n, row_max);
    fsl_short_rows_exp(x, (int)rows, n, row_max, e, 0, row_sum);
}
