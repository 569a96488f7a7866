/* The loops of softmax_row.inc.h over float32 logits, with several vectors in flight: compilers leave the chain of
 * operations of one vector after that of another. Vectors of 256 bits are faster than the compiler's loops of 512 bits,
 * too. */
#ifndef FASTSEQLOSS_SOFTMAX_VECTORS_H
#define FASTSEQLOSS_SOFTMAX_VECTORS_H

#include "simd/vectors.h"

#if FSL_VECTORS

/* Maximum; 0 if all are -inf. NaN is ignored. */
FSL_INLINE float fsl_row_max_f32(const float *x, ptrdiff_t n)
{
    fsl_xf v[4];
    float most = -INFINITY;
    ptrdiff_t i = 0;
    FSL_UNROLL
    for (int k = 0; k < 4; k++) v[k] = fsl_all_xf(-INFINITY);
    for (; i + 4 * FSL_XF <= n; i += 4 * FSL_XF) {
        FSL_UNROLL
        for (int k = 0; k < 4; k++) v[k] = fsl_max_xf(fsl_load_xf(x + i + k * FSL_XF), v[k]);
    }
    for (; i + FSL_XF <= n; i += FSL_XF) v[0] = fsl_max_xf(fsl_load_xf(x + i), v[0]);
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    v[0] = fsl_max_xf(fsl_max_xf(v[0], v[1]), fsl_max_xf(v[2], v[3]));
    for (int k = 0; k < FSL_XF; k++) most = v[0][k] > most ? v[0][k] : most;
    return most == -INFINITY ? 0 : most;
}

/* out = exp(x - m) for n elements, whole FSL_LANES of them; returns the sum. */
FSL_INLINE double fsl_block_exp_f32(const float *x, ptrdiff_t n, float m, float floor, float *out, const char *next,
                                    char *later, ptrdiff_t size)
{
    const fsl_xf least = fsl_all_xf(floor);
    fsl_xf lanes[2] = {fsl_all_xf(0), fsl_all_xf(0)};
    fsl_x total[2] = {{0}, {0}};
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i += 2 * FSL_XF) {
        fsl_xf a = fsl_max_xf(least, fsl_load_xf(x + i) - m), b = fsl_max_xf(least, fsl_load_xf(x + i + FSL_XF) - m);
        FSL_PREFETCH(next + i * size);
        FSL_PREFETCH_WRITE(later + i * size);
        fsl_exp_normal_pair(&a, &b);
        fsl_store_xf(out + i, a);
        fsl_store_xf(out + i + FSL_XF, b);
        lanes[0] += a;
        lanes[1] += b;
    }
    fsl_add_wide_xf(lanes[0], total);
    fsl_add_wide_xf(lanes[1], total);
    total[0] += total[1];
    for (int k = 0; k < FSL_X; k++) sum += total[0][k];
    return sum;
}

#endif

#endif
