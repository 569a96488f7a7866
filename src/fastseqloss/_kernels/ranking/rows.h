/* Losses of one list by a softmax of its scores: list softmax; BPR-max and TOP1-max of a target and negatives.
 *
 * Terms are computed in the type of the scores; sums of blocks of FSL_BLOCK terms are added in float64. */
#ifndef FASTSEQLOSS_RANKING_ROWS_H
#define FASTSEQLOSS_RANKING_ROWS_H

#include "ranking/order.h"
#include "simd/softmax_row.h"

FSL_UNUSED static void fsl_rank_widen(const float *restrict x, ptrdiff_t n, double *restrict out)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) out[i] = x[i];
}

FSL_UNUSED static void fsl_rank_narrow(const double *restrict x, ptrdiff_t n, float *restrict out)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (float)x[i];
}

#include "simd/float32.inc.h"
#define FSL_RANK_SIMD FSL_SIMD
#include "ranking/rows.inc.h"
#undef FSL_RANK_SIMD
#include "simd/float64.inc.h"
#define FSL_RANK_SIMD(clauses) /* scalar loops, which have a third of the code */
#include "ranking/rows.inc.h"
#undef FSL_RANK_SIMD

#endif
