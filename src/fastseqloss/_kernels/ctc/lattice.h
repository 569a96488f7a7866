/* The CTC lattice, one frame at a time: the arithmetic under loss.pyx.
 *
 * Blank and label states are stored in two arrays, b[0..S] and l[0..S-1], so that every recursion is a contiguous,
 * branch-free vector loop. Ranges [lo, hi) are multiples of FSL_CTC_STATES and rows are padded: u[i] of a padding state
 * is the index of an emission equal to 0, so its l is 0; index -1 and index hi may be read.
 * Values are in extended range (lattice/extended_range.h). */
#ifndef FASTSEQLOSS_CTC_LATTICE_H
#define FASTSEQLOSS_CTC_LATTICE_H

#include "lattice/extended_range.h"

#define FSL_CTC_STATES 8
#define FSL_CTC_KEEP (1 << 22) /* bytes of alphas that are kept as a whole; larger ones are checkpointed */
#define FSL_CTC_LEAST_PROBABILITY 0x1p-60 /* of the fast paths */
#define FSL_CTC_NEGLIGIBLE 0x1p-120 /* paths with less than this share of the total are omitted from beta */

/* ---- emissions --------------------------------------------------------------------------- */

/* Least and greatest score; returns 1 if a score is NaN, or a probability negative. */
static int fsl_ctc_score_range(const double *restrict x, ptrdiff_t n, int probs, double *least, double *most)
{
    double lo = INFINITY, hi = -INFINITY, bad = 0.0;
    FSL_SIMD(reduction(FSL_MIN : lo) reduction(FSL_MAX : hi) reduction(+ : bad))
    for (ptrdiff_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
        bad += x[i] == x[i] ? 0.0 : 1.0;
    }
    *least = lo;
    *most = hi;
    return bad > 0 || hi == INFINITY || (probs && lo < 0);
}

/* Emissions of the first `used` scores, relative to the greatest: x / shift for probabilities, exp(x - shift)
 * for logarithms; 0 from `used` up to n, a multiple of FSL_CTC_STATES, where the scores repeat one of the first.
 * Returns the distance of the smallest emission below 1 in binary orders of magnitude (a y that is 0, or a probability
 * too small for the fast path, counts as more than FSL_RANGE_BUDGET), or NaN for invalid scores. */
static double fsl_ctc_emissions(const double *restrict x, ptrdiff_t used, ptrdiff_t n, int probs, double *restrict y,
                                double *shift)
{
    double least, most, smallest = 1.0;
    const int bad = fsl_ctc_score_range(x, n, probs, &least, &most);
    *shift = most;
    if (probs) {
        const double scale = most > 0 ? most : 1.0;
        for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] / scale;
        /* The gradient is posterior / x: paths omitted from beta must be negligible after the division, too. */
        smallest = least < FSL_CTC_LEAST_PROBABILITY || least / scale < FSL_CTC_LEAST_PROBABILITY ? 0.0 : least / scale;
    } else if (most - least <= 700.0) {
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) y[i] = fsl_exp_normal64(x[i] - most);
        smallest = fsl_exp_normal64(least - most);
    } else {
        const double m = most == -INFINITY ? 0.0 : most;
        FSL_SIMD(reduction(FSL_MIN : smallest))
        for (ptrdiff_t i = 0; i < n; i++) {
            y[i] = fsl_exp64(x[i] - m);
            smallest = y[i] < smallest ? y[i] : smallest;
        }
    }
    for (ptrdiff_t i = used; i < n; i++) y[i] = 0.0;
    return bad ? NAN : -fsl_exponent(smallest);
}

/* ---- fast path: exponents fixed for up to FSL_RANGE_WINDOW frames ------------------------ */

/* Sets a new exponent of every state, valid for `window` frames: the larger of its own exponent and of FSL_RANGE_FLOOR
 * below the largest exponent that can reach it within the window; mantissas are rescaled in place. Returns nonzero if a
 * nonzero state would come too close to underflow: possibly only paths through this state reach the end, so the
 * sequence then requires the general path. */
static int fsl_ctc_refresh(double *restrict b, double *restrict l, const double *restrict eb, const double *restrict el,
                           double *restrict eb_new, double *restrict el_new, ptrdiff_t lo, ptrdiff_t hi, int window,
                           double *restrict scratch0, double *restrict scratch1)
{
    int bad = 0;
    for (ptrdiff_t i = lo - FSL_RANGE_WINDOW; i < lo; i++) scratch0[i] = scratch1[i] = FSL_DEAD;
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) {
        eb_new[i] = fsl_own_exponent(b[i], eb[i]);
        el_new[i] = fsl_own_exponent(l[i], el[i]);
        scratch0[i] = fsl_max64(eb_new[i], el_new[i]);
    }
    const double *restrict behind = fsl_window_max(scratch0, scratch1, lo, hi, window);
    FSL_SIMD(reduction(| : bad))
    for (ptrdiff_t i = lo; i < hi; i++) {
        const double own_b = eb_new[i], own_l = el_new[i];
        const double new_b = fsl_max64(own_b, behind[i] - FSL_RANGE_FLOOR);
        const double new_l = fsl_max64(own_l, fsl_max64(behind[i], own_b) - FSL_RANGE_FLOOR);
        bad |= fsl_underflows(b[i], eb[i], own_b, new_b) | fsl_underflows(l[i], el[i], own_l, new_l);
        b[i] = fsl_rescaled(b[i], own_b, new_b);
        l[i] = fsl_rescaled(l[i], own_l, new_l);
        eb_new[i] = new_b;
        el_new[i] = new_l;
    }
    return bad;
}

/* Sets the constant factors between neighbours: from l[i-1] to b[i], from b[i] to l[i], from l[i-1] to l[i]. A state
 * with the exponent FSL_DEAD is not reached before the next refresh. Returns nonzero if a factor is out of range, which
 * is possible because the exponents of neighbours are floors over different windows. */
static int fsl_ctc_factors(const double *restrict eb, double *restrict el, const float *restrict skip,
                           double *restrict lb, double *restrict bl, double *restrict ll, ptrdiff_t lo, ptrdiff_t hi)
{
    int bad = 0;
    el[lo - 1] = FSL_DEAD;
    FSL_SIMD(reduction(| : bad))
    for (ptrdiff_t i = lo; i < hi; i++) {
        bad |= FSL_APART(el[i - 1], eb[i]) | FSL_APART(eb[i], el[i]) | FSL_APART(el[i - 1], el[i]);
        lb[i] = fsl_pow2(el[i - 1] - eb[i]);
        bl[i] = fsl_pow2(eb[i] - el[i]);
        ll[i] = (double)skip[i] * fsl_pow2(el[i - 1] - el[i]);
    }
    lb[hi] = ll[hi] = 0.0;
    return bad;
}

/* e[i] = y[u[i]], the emission of every label state, in a separate loop to keep gathers out of the other loops. */
FSL_INLINE void fsl_ctc_spread(const int32_t *restrict u, const double *restrict y, double *restrict e, ptrdiff_t lo,
                               ptrdiff_t hi)
{
    for (ptrdiff_t i = lo; i < hi; i += 4) {
        e[i] = y[u[i]];
        e[i + 1] = y[u[i + 1]];
        e[i + 2] = y[u[i + 2]];
        e[i + 3] = y[u[i + 3]];
    }
}

/* One step forward: the alphas of the next frame. */
static void fsl_ctc_forward(const double *restrict b, const double *restrict l, double *restrict b_out,
                            double *restrict l_out, const double *restrict lb, const double *restrict bl,
                            const double *restrict ll, const double *restrict e, double blank, ptrdiff_t lo,
                            ptrdiff_t hi)
{
    const ptrdiff_t stop = lo + (hi - lo) / FSL_CTC_STATES * FSL_CTC_STATES;
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < stop; i++) {
        b_out[i] = (b[i] + lb[i] * l[i - 1]) * blank;
        l_out[i] = (l[i] + bl[i] * b[i] + ll[i] * l[i - 1]) * e[i];
    }
}

/* One step backward. Beta is kept in posterior units: its exponent is that of the total less that of alpha, so the
 * posterior is alpha * beta, at most 1, and the forward factors apply in both directions. On entry q is beta times
 * emission of the next frame, on return of this one. States with a negligible posterior are cut off: the posterior is
 * the weight of all paths through the state, and so bounds the loss at every other state. The comparison fails for NaN
 * and therefore also removes beta where alpha is exactly 0 and beta may overflow. Returns the posterior of the blanks;
 * the posteriors of the labels are stored in `post`, those of the blanks in `post_b`, unless NULL. */
FSL_INLINE double fsl_ctc_backward_to(double *restrict qb, double *restrict ql, const double *restrict b,
                                      const double *restrict l, const double *restrict lb, const double *restrict bl,
                                      const double *restrict ll, const double *restrict e, double blank,
                                      double *restrict post, double *restrict post_b, ptrdiff_t lo, ptrdiff_t hi)
{
    const ptrdiff_t stop = lo + (hi - lo) / FSL_CTC_STATES * FSL_CTC_STATES;
    double total = 0.0;
    /* q[i + 1] is read before it is written, at any vector length. */
    FSL_SIMD(reduction(+ : total))
    for (ptrdiff_t i = lo; i < stop; i++) {
        const double nb = qb[i] + bl[i] * ql[i];
        const double nl = ql[i] + lb[i + 1] * qb[i + 1] + ll[i + 1] * ql[i + 1];
        const double pb = b[i] * nb, pl = l[i] * nl;
        const double kept_b = pb > FSL_CTC_NEGLIGIBLE ? nb : 0.0, kept_l = pl > FSL_CTC_NEGLIGIBLE ? nl : 0.0;
        total += pb > FSL_CTC_NEGLIGIBLE ? pb : 0.0;
        post[i] = pl > FSL_CTC_NEGLIGIBLE ? pl : 0.0;
        if (post_b) post_b[i] = pb > FSL_CTC_NEGLIGIBLE ? pb : 0.0;
        qb[i] = kept_b * blank;
        ql[i] = kept_l * e[i];
    }
    return total;
}

static double fsl_ctc_backward(double *qb, double *ql, const double *b, const double *l, const double *lb,
                               const double *bl, const double *ll, const double *e, double blank, double *post,
                               double *post_b, ptrdiff_t lo, ptrdiff_t hi)
{
    return post_b ? fsl_ctc_backward_to(qb, ql, b, l, lb, bl, ll, e, blank, post, post_b, lo, hi)
                  : fsl_ctc_backward_to(qb, ql, b, l, lb, bl, ll, e, blank, post, NULL, lo, hi);
}

/* ---- general path: every number with its own exponent -------------------------------------
 * Correct for all emissions, except for the loss of terms under 2^-1022 of the sum they are added to. */

/* Alphas before emission of the next frame from the emitted alphas of a frame. */
FSL_UNUSED static void fsl_ctc_general_forward(
    const double *restrict b, const double *restrict eb, const double *restrict l, const double *restrict el,
    const float *restrict skip, double *restrict b_out, double *restrict eb_out, double *restrict l_out,
    double *restrict el_out, ptrdiff_t size)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < size; i++) {
        const double may_skip = (double)skip[i], before = may_skip > 0 ? el[i - 1] : FSL_DEAD;
        const double mb = fsl_max64(eb[i], el[i - 1]);
        const double ml = fsl_max64(fsl_max64(el[i], eb[i]), before);
        const double sb = b[i] * fsl_pow2(eb[i] - mb) + l[i - 1] * fsl_pow2(el[i - 1] - mb);
        const double sl = l[i] * fsl_pow2(el[i] - ml) + b[i] * fsl_pow2(eb[i] - ml)
                          + may_skip * l[i - 1] * fsl_pow2(before - ml);
        fsl_normalise(sb, mb, &b_out[i], &eb_out[i]);
        fsl_normalise(sl, ml, &l_out[i], &el_out[i]);
    }
}

/* Betas (own emission excluded) of the previous frame from the emitted betas of a frame. */
FSL_UNUSED static void fsl_ctc_general_backward(
    const double *restrict b, const double *restrict eb, const double *restrict l, const double *restrict el,
    const float *restrict skip, double *restrict b_out, double *restrict eb_out, double *restrict l_out,
    double *restrict el_out, ptrdiff_t size)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < size; i++) {
        const double may_skip = (double)skip[i + 1], after = may_skip > 0 ? el[i + 1] : FSL_DEAD;
        const double mb = fsl_max64(eb[i], el[i]);
        const double ml = fsl_max64(fsl_max64(el[i], eb[i + 1]), after);
        const double sb = b[i] * fsl_pow2(eb[i] - mb) + l[i] * fsl_pow2(el[i] - mb);
        const double sl = l[i] * fsl_pow2(el[i] - ml) + b[i + 1] * fsl_pow2(eb[i + 1] - ml)
                          + may_skip * l[i + 1] * fsl_pow2(after - ml);
        fsl_normalise(sb, mb, &b_out[i], &eb_out[i]);
        fsl_normalise(sl, ml, &l_out[i], &el_out[i]);
    }
}

#endif
