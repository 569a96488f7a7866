/* Several rows of logits at once.
 *
 * Rows of fewer than FSL_LANES classes are transposed into tiles, tile[class][row]: the lanes of a vector are rows, so
 * that maxima and sums need no operations across lanes; sums are in float64. In longer rows, of up to FSL_SHORT
 * classes, the lanes are classes; operations across lanes follow in a second loop over independent rows. */
#ifndef FASTSEQLOSS_ROWS_H
#define FASTSEQLOSS_ROWS_H

#include "simd/dispatch.h"

#define FSL_SHORT 256
#define FSL_MOST_ROWS 64 /* in a block */

#include "simd/float32.inc.h"
#include "simd/rows.inc.h"
#include "simd/float64.inc.h"
#include "simd/rows.inc.h"

/* One name for both types, chosen by the type that an argument points to; called by fused code. */
#define fsl_load_max(kind, from, n, to) FSL_TYPED(to, fsl_load_max)(kind, from, n, to)
#define fsl_row_exp(x, n, m, out, next, later, size) FSL_TYPED(x, fsl_row_exp)(x, n, m, out, next, later, size)
#define fsl_short_max(rows, n, n_classes, m) FSL_TYPED(m, fsl_short_max)(rows, n, n_classes, m)
#define fsl_short_exp(rows, n, n_classes, m, out, ahead, sum) \
    FSL_TYPED(m, fsl_short_exp)(rows, n, n_classes, m, out, ahead, sum)
#define fsl_short_gradient(rows, n, n_classes, target, factor, scale, own) \
    FSL_TYPED(*(rows), fsl_short_gradient)(rows, n, n_classes, target, factor, scale, own)
#define fsl_row_dot(x, n, m, q) FSL_TYPED(x, fsl_row_dot)(x, n, m, q)
#define fsl_row_dot_log(p, n, q) FSL_TYPED(p, fsl_row_dot_log)(p, n, q)
#define fsl_find_outside(p, n, most) FSL_TYPED(p, fsl_find_outside)(p, n, most)
#define fsl_is_large(x, factor) FSL_TYPED(x, fsl_is_large)(factor)
#define fsl_row_gradient(x, n, factor, shift, q) FSL_TYPED(x, fsl_row_gradient)(x, n, factor, shift, q)
#define fsl_row_slope(p, n, scale, q, divide, out) FSL_TYPED(p, fsl_row_slope)(p, n, scale, q, divide, out)
#define fsl_row_smooth(y, n, weight, epsilon, q) FSL_TYPED(y, fsl_row_smooth)(y, n, weight, epsilon, q)
#define fsl_tile_in(rows, n, n_classes, tile) FSL_TYPED(tile, fsl_tile_in)(rows, n, n_classes, tile)
#define fsl_tile_out(tile, n, n_classes, rows) FSL_TYPED(tile, fsl_tile_out)(tile, n, n_classes, rows)
#define fsl_tile_max(tile, n_classes, m) FSL_TYPED(tile, fsl_tile_max)(tile, n_classes, m)
#define fsl_tile_exp(tile, n_classes, m, sum) FSL_TYPED(tile, fsl_tile_exp)(tile, n_classes, m, sum)
#define fsl_tile_dot(tile, n_classes, m, q, q_is_tile, dot) \
    FSL_TYPED(tile, fsl_tile_dot)(tile, n_classes, m, q, q_is_tile, dot)
#define fsl_tile_gradient(tile, n_classes, factor, shift, q, q_is_tile) \
    FSL_TYPED(tile, fsl_tile_gradient)(tile, n_classes, factor, shift, q, q_is_tile)

/* Sets losses, and the factors of exp(x - max) in the gradients, from the maxima and the sums of exp(x - max).
 * `picked` is the sum of q (x - max), and `q` the sum of q. */
FSL_UNUSED static void fsl_softmax_losses(int n, const double *m, const double *sum, const double *picked,
                                          const double *q, double z, const double *scale, double *loss, double *factor)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double log_sum = fsl_log64(sum[i]), total = m[i] + log_sum;
        loss[i] = q[i] * log_sum - picked[i] + (z == 0 ? 0 : z * total * total);
        const double f = scale[i] * (q[i] + (z == 0 ? 0 : z * (2 * total))) / sum[i];
        const double below = f > DBL_MAX ? DBL_MAX : f; /* finite, because some of its cofactors are 0 */
        factor[i] = below < -DBL_MAX ? -DBL_MAX : below;
    }
}

#endif
