/* Several rows of logits at once.
 *
 * Rows of fewer than FSL_LANES classes are transposed into tiles, tile[class][row]: the lanes of a vector are rows, so
 * that maxima and sums need no operations across lanes; sums are in float64. In longer rows, of up to FSL_SHORT
 * classes, the lanes are classes; operations across lanes follow in a second loop over independent rows. */
#ifndef FASTSEQLOSS_ROWS_H
#define FASTSEQLOSS_ROWS_H

#include "simd/probability.h"

#define FSL_SHORT 256
#define FSL_MOST_ROWS 64 /* in a block */

#include "simd/float32.inc.h"
#include "simd/rows.inc.h"
#include "simd/float64.inc.h"
#include "simd/rows.inc.h"

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
