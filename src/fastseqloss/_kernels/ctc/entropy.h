/* Entropy of the alignments of CTC, one frame at a time: the arithmetic under entropy.pyx.
 *
 * Given the labels, an alignment is a Markov chain that runs backward in time: the share of an arc is the probability
 * of the state before, given the state after. The entropy of the partial alignments that end in a state,
 *
 *     F(j) = sum over arcs i -> j of share (F(i) - log share),
 *
 * is a mean of terms that are not negative. Backward, with the posterior g(j) of a state and the derivative d(j) of the
 * entropy with respect to its score, every arc passes share d(j) + g(j) k to the state before. The slope k of an arc is
 * the sum over the other arcs o of j of share share_o (surprisal - surprisal_o), with surprisals F(i) - log share. The
 * slopes of the arcs of a state add up to 0, and so do those of a frame.
 *
 * Blank states 0 to S and label states 0 to S - 1 are in rows of `width` elements, of which index -1 and index hi may
 * be read. Only differences of logarithms matter: a logarithm is the sum of two numbers, so that the sum of the scores
 * of thousands of frames keeps the digits of each of them. */
#ifndef FASTSEQLOSS_CTC_ENTROPY_H
#define FASTSEQLOSS_CTC_ENTROPY_H

#include "simd/math.h"

#define FSL_ENTROPY_KEEP (1 << 24) /* bytes of arcs that are kept as a whole; more of them are checkpointed */
#define FSL_ENTROPY_DEAD -1e300 /* logarithm of 0, finite, so that no difference is NaN */
#define FSL_ENTROPY_FAR 708.0   /* the share of a term further below the greatest is 0 */

/* Rows of a frame, of the arcs into it, and of its posteriors. */
enum { FSL_ENTROPY_B, FSL_ENTROPY_L, FSL_ENTROPY_B_REST, FSL_ENTROPY_L_REST, FSL_ENTROPY_B_F, FSL_ENTROPY_L_F,
       FSL_ENTROPY_STATES };
enum { FSL_ENTROPY_BB, FSL_ENTROPY_LB, FSL_ENTROPY_LB_SLOPE, FSL_ENTROPY_LL, FSL_ENTROPY_BL, FSL_ENTROPY_SKIP,
       FSL_ENTROPY_LL_SLOPE, FSL_ENTROPY_BL_SLOPE, FSL_ENTROPY_SKIP_SLOPE, FSL_ENTROPY_ARCS };
enum { FSL_ENTROPY_B_POST, FSL_ENTROPY_L_POST, FSL_ENTROPY_B_SLOPE, FSL_ENTROPY_L_SLOPE, FSL_ENTROPY_POSTS };

/* Scores of the classes used at a frame as score + rest, relative to the greatest; returns 1 for NaN, +inf, and
 * negative probabilities. */
FSL_UNUSED static int fsl_entropy_scores(const char *frame, int doubles, int probs, const int64_t *classes,
                                         ptrdiff_t used, double *score, double *rest)
{
    double most = -INFINITY;
    int bad = 0;
    for (ptrdiff_t k = 0; k < used; k++) {
        double x = doubles ? ((const double *)frame)[classes[k]] : (double)((const float *)frame)[classes[k]];
        bad |= !(x < INFINITY) | (probs && x < 0.0);
        score[k] = x = probs ? fsl_log64(x) : x;
        most = x > most ? x : most;
    }
    for (ptrdiff_t k = 0; k < used; k++) {
        const double x = score[k], d = x - most, v = d - x;
        const int alive = d > FSL_ENTROPY_DEAD; /* not if d is NaN */
        score[k] = alive ? d : FSL_ENTROPY_DEAD;
        rest[k] = alive ? (x - (d - v)) - (most + v) : 0.0;
    }
    score[used] = FSL_ENTROPY_DEAD; /* of states beyond the labels */
    rest[used] = 0.0;
    return bad;
}

FSL_INLINE double fsl_entropy_share(double distance)
{
    const double e = fsl_exp_normal64(-fsl_min64(distance, FSL_ENTROPY_FAR));
    return distance < FSL_ENTROPY_FAR ? e : 0.0;
}

/* log(1 + x) for x >= 0, inverse = 1 / (1 + x); small x lose no digits. */
FSL_INLINE double fsl_entropy_log1p(double x, double inverse)
{
    const double y = 1.0 + x;
    return fsl_log64(y) + (x - (y - 1.0)) * inverse;
}

/* (hi + lo) + (score + rest) + log_sum. */
FSL_INLINE void fsl_entropy_emit(double hi, double lo, double score, double rest, double log_sum, double *hi_out,
                                 double *lo_out)
{
    const double s = hi + score, v = s - hi, s_rest = (hi - (s - v)) + (score - v);
    const double t = s + log_sum, w = t - s, t_rest = (s - (t - w)) + (log_sum - w);
    const double low = lo + rest + s_rest + t_rest, sum = t + low;
    *hi_out = fsl_max64(sum, FSL_ENTROPY_DEAD);
    *lo_out = low - (sum - t);
}

/* Blank states [lo, hi) of a frame, and the arcs into them, from the states of the frame before. */
FSL_INLINE void fsl_entropy_blanks(const double *restrict from, double *restrict to, double *restrict arcs,
                                   ptrdiff_t width, double score, double rest, ptrdiff_t lo, ptrdiff_t hi)
{
    const double *b = from + FSL_ENTROPY_B * width, *l = from + FSL_ENTROPY_L * width;
    const double *b_rest = from + FSL_ENTROPY_B_REST * width, *l_rest = from + FSL_ENTROPY_L_REST * width;
    const double *b_f = from + FSL_ENTROPY_B_F * width, *l_f = from + FSL_ENTROPY_L_F * width;
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) {
        const double d = (b[i] - l[i - 1]) + (b_rest[i] - l_rest[i - 1]);
        const int stays = d >= 0.0; /* b[i] is the greater term */
        const double distance = fabs(d), less = fsl_entropy_share(distance), inverse = 1.0 / (1.0 + less);
        const double log_sum = fsl_entropy_log1p(less, inverse);
        const double below = log_sum + fsl_min64(distance, FSL_ENTROPY_FAR);
        const double bb = stays ? inverse : less * inverse, lb = stays ? less * inverse : inverse;
        const double of_b = b_f[i] + (stays ? log_sum : below), of_l = l_f[i - 1] + (stays ? below : log_sum);
        arcs[FSL_ENTROPY_BB * width + i] = bb;
        arcs[FSL_ENTROPY_LB * width + i] = lb;
        arcs[FSL_ENTROPY_LB_SLOPE * width + i] = bb * lb * (of_l - of_b);
        to[FSL_ENTROPY_B_F * width + i] = bb * of_b + lb * of_l;
        fsl_entropy_emit(stays ? b[i] : l[i - 1], stays ? b_rest[i] : l_rest[i - 1], score, rest, log_sum,
                         &to[FSL_ENTROPY_B * width + i], &to[FSL_ENTROPY_B_REST * width + i]);
    }
}

/* The same for label states, with their scores. */
FSL_INLINE void fsl_entropy_labels(const double *restrict from, double *restrict to, double *restrict arcs,
                                   ptrdiff_t width, const double *restrict skip, const double *restrict score,
                                   const double *restrict rest, ptrdiff_t lo, ptrdiff_t hi)
{
    const double *b = from + FSL_ENTROPY_B * width, *l = from + FSL_ENTROPY_L * width;
    const double *b_rest = from + FSL_ENTROPY_B_REST * width, *l_rest = from + FSL_ENTROPY_L_REST * width;
    const double *b_f = from + FSL_ENTROPY_B_F * width, *l_f = from + FSL_ENTROPY_L_F * width;
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) {
        const double hi_l = l[i], hi_b = b[i], hi_s = l[i - 1];
        const double lo_l = l_rest[i], lo_b = b_rest[i], lo_s = l_rest[i - 1];
        const double before = skip[i] > 0.0 ? hi_s : FSL_ENTROPY_DEAD;
        const double d = (hi_l - hi_b) + (lo_l - lo_b);
        const int stays = d >= 0.0; /* l[i] is greater than b[i] */
        const double best = stays ? hi_l : hi_b, best_rest = stays ? lo_l : lo_b;
        const double c = (best - before) + (best_rest - lo_s);
        const int near = c >= 0.0; /* the greater one of these is the greatest of the three */
        const double e = fsl_entropy_share(fabs(d)), f = fsl_entropy_share(fabs(c));
        const double of_best = near ? 1.0 : f, of_less = of_best * e, of_before = near ? f : 1.0;
        const double more = (near ? f : of_best) + of_less, inverse = 1.0 / (1.0 + more);
        const double log_sum = fsl_entropy_log1p(more, inverse);
        const double down_d = fsl_min64(fabs(d), FSL_ENTROPY_FAR), down_c = fsl_min64(fabs(c), FSL_ENTROPY_FAR);
        const double below_best = log_sum + (near ? 0.0 : down_c), below_less = below_best + down_d;
        const double ll = (stays ? of_best : of_less) * inverse, bl = (stays ? of_less : of_best) * inverse;
        const double ss = of_before * inverse;
        const double of_l = l_f[i] + (stays ? below_best : below_less);
        const double of_b = b_f[i] + (stays ? below_less : below_best);
        const double of_s = l_f[i - 1] + log_sum + (near ? down_c : 0.0);
        const double l_b = ll * bl * (of_l - of_b), l_s = ll * ss * (of_l - of_s), b_s = bl * ss * (of_b - of_s);
        arcs[FSL_ENTROPY_LL * width + i] = ll;
        arcs[FSL_ENTROPY_BL * width + i] = bl;
        arcs[FSL_ENTROPY_SKIP * width + i] = ss;
        arcs[FSL_ENTROPY_LL_SLOPE * width + i] = l_b + l_s;
        arcs[FSL_ENTROPY_BL_SLOPE * width + i] = b_s - l_b;
        arcs[FSL_ENTROPY_SKIP_SLOPE * width + i] = -(l_s + b_s);
        to[FSL_ENTROPY_L_F * width + i] = ll * of_l + bl * of_b + ss * of_s;
        fsl_entropy_emit(near ? best : before, near ? best_rest : lo_s, score[i], rest[i], log_sum,
                         &to[FSL_ENTROPY_L * width + i], &to[FSL_ENTROPY_L_REST * width + i]);
    }
}

/* Posteriors and derivatives of the states [lo, hi) of a frame from those of the next one and the arcs between. */
FSL_UNUSED static void fsl_entropy_backward(const double *restrict from, double *restrict to,
                                            const double *restrict arcs, ptrdiff_t width, ptrdiff_t lo, ptrdiff_t hi)
{
    const double *b = from + FSL_ENTROPY_B_POST * width, *l = from + FSL_ENTROPY_L_POST * width;
    const double *b_slope = from + FSL_ENTROPY_B_SLOPE * width, *l_slope = from + FSL_ENTROPY_L_SLOPE * width;
    const double *bb = arcs + FSL_ENTROPY_BB * width, *lb = arcs + FSL_ENTROPY_LB * width;
    const double *ll = arcs + FSL_ENTROPY_LL * width, *bl = arcs + FSL_ENTROPY_BL * width;
    const double *ss = arcs + FSL_ENTROPY_SKIP * width, *lb_k = arcs + FSL_ENTROPY_LB_SLOPE * width;
    const double *ll_k = arcs + FSL_ENTROPY_LL_SLOPE * width, *bl_k = arcs + FSL_ENTROPY_BL_SLOPE * width;
    const double *ss_k = arcs + FSL_ENTROPY_SKIP_SLOPE * width;
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) {
        to[FSL_ENTROPY_B_POST * width + i] = bb[i] * b[i] + bl[i] * l[i];
        to[FSL_ENTROPY_L_POST * width + i] = ll[i] * l[i] + lb[i + 1] * b[i + 1] + ss[i + 1] * l[i + 1];
        to[FSL_ENTROPY_B_SLOPE * width + i] = bb[i] * b_slope[i] - lb_k[i] * b[i] + bl[i] * l_slope[i] + bl_k[i] * l[i];
        to[FSL_ENTROPY_L_SLOPE * width + i] = ll[i] * l_slope[i] + ll_k[i] * l[i]
                                              + lb[i + 1] * b_slope[i + 1] + lb_k[i + 1] * b[i + 1]
                                              + ss[i + 1] * l_slope[i + 1] + ss_k[i + 1] * l[i + 1];
    }
}

/* Gradient of a frame: slopes of the classes used times scale, 0 for others. The scores of probabilities are read
 * first, as they may be in the same memory; where a probability is 0, so is the gradient. */
FSL_UNUSED static void fsl_entropy_close(const char *frame, char *out, int doubles, int probs, const int64_t *classes,
                                         ptrdiff_t used, double *slope, double scale, ptrdiff_t n_classes)
{
    for (ptrdiff_t k = 0; k < used; k++) {
        slope[k] *= scale;
        if (probs) {
            const double x = doubles ? ((const double *)frame)[classes[k]] : (double)((const float *)frame)[classes[k]];
            slope[k] = x > 0.0 ? slope[k] / x : 0.0;
        }
    }
    memset(out, 0, (size_t)n_classes * (doubles ? sizeof(double) : sizeof(float)));
    for (ptrdiff_t k = 0; k < used; k++) {
        if (doubles)
            ((double *)out)[classes[k]] = slope[k];
        else
            ((float *)out)[classes[k]] = (float)slope[k];
    }
}

#endif
