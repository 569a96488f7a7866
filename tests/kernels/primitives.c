/* The primitives of a row, over arrays: what test_simd.py calls, compiled at every level. */
#include "simd/softmax_row.h"

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
