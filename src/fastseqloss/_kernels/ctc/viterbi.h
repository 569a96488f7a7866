/* The max-plus lattice of CTC alignment, one frame at a time: the arithmetic under alignment.pyx.
 *
 * As in lattice.h, blank and label states are stored in two arrays, b[0..S] and l[0..S-1], ranges [lo, hi) are
 * multiples of FSL_CTC_STATES, and index hi may be read. Scores are logarithms, at most 0, -inf without a path. */
#ifndef FASTSEQLOSS_CTC_VITERBI_H
#define FASTSEQLOSS_CTC_VITERBI_H

#include "simd/math.h"

/* Emissions of one frame relative to the best of them, which preserves the order of the paths and, for small integer
 * scores, the exactness of the sums; -inf from `used` to n. Returns 1 if a score is NaN or +inf. */
static int fsl_ctc_viterbi_emissions(const double *restrict score, ptrdiff_t used, ptrdiff_t n, double *restrict y)
{
    double most = -INFINITY, bad = 0.0;
    FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : bad))
    for (ptrdiff_t i = 0; i < used; i++) {
        most = score[i] > most ? score[i] : most;
        bad += score[i] < INFINITY ? 0.0 : 1.0;
    }
    const double shift = most == -INFINITY ? 0.0 : most;
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < used; i++) y[i] = score[i] - shift;
    for (ptrdiff_t i = used; i < n; i++) y[i] = -INFINITY;
    return bad > 0;
}

/* One step backward: the best score of the states that may follow, plus the own emission, y[u[i]] for a label. `skip`
 * is 1 where l[i-1] may be followed by l[i], else 0. The outputs may be the inputs: index i + 1 is read before it is
 * written, at any vector length. */
static void fsl_ctc_viterbi_step(const double *b, const double *l, double *b_out, double *l_out,
                                 const float *restrict skip, const int32_t *restrict u, const double *restrict y,
                                 ptrdiff_t lo, ptrdiff_t hi)
{
    const double blank = y[0];
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) {
        const double from_b = fsl_max64(b[i], l[i]);
        const double skipped = (double)skip[i + 1] > 0 ? l[i + 1] : -INFINITY;
        const double from_l = fsl_max64(fsl_max64(l[i], b[i + 1]), skipped);
        b_out[i] = from_b + blank;
        l_out[i] = from_l + y[u[i]];
    }
}

/* 1 if no state of the vector at i reaches `least`. */
static int fsl_ctc_all_below(const double *restrict b, const double *restrict l, ptrdiff_t i, double least)
{
    int reached = 0;
    FSL_SIMD(reduction(| : reached))
    for (ptrdiff_t k = i; k < i + 8; k++) reached |= (b[k] >= least) | (l[k] >= least);
    return !reached;
}

#endif
