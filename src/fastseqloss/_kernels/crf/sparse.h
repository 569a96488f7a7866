/* The arithmetic under sparse.pyx: steps of a chain whose states have a few arcs each. A row of arcs has those into
 * state k at k * n_arcs; work arrays have arc p of every state together, at p * n, so that loops over states
 * vectorise. */
#ifndef FASTSEQLOSS_CRF_SPARSE_H
#define FASTSEQLOSS_CRF_SPARSE_H

#include <stdint.h>

#include "crf/varying.h"

/* Greatest score of a row, 0 if all are -inf, or +inf for a row with NaN or +inf. */
static double fsl_sparse_shift(const char *x, int doubles, ptrdiff_t n)
{
    double most = -INFINITY, bad = 0;
    FSL_SIMD(reduction(max : most) reduction(+ : bad))
    for (ptrdiff_t j = 0; j < n; j++) {
        const double value = fsl_crf_at(x, doubles, j);
        most = fsl_max64(most, value);
        bad += value < INFINITY ? 0.0 : 1.0;
    }
    return bad > 0 ? INFINITY : most == -INFINITY ? 0 : most;
}

/* x = scores of the arcs, less the shift, plus the log-alphas of the states that they come from. */
static void fsl_sparse_gather(const char *scores, int doubles, double shift, const int64_t *restrict from,
                              const double *restrict alpha, ptrdiff_t n, ptrdiff_t n_arcs, double *restrict x)
{
    for (ptrdiff_t p = 0; p < n_arcs; p++, from += n, x += n)
        for (ptrdiff_t k = 0; k < n; k++) x[k] = fsl_crf_at(scores, doubles, k * n_arcs + p) - shift + alpha[from[k]];
}

/* most = greatest x of each state. */
static void fsl_sparse_most(const double *restrict x, ptrdiff_t n, ptrdiff_t n_arcs, double *restrict most)
{
    for (ptrdiff_t k = 0; k < n; k++) most[k] = x[k];
    for (ptrdiff_t p = 1; p < n_arcs; p++) {
        FSL_SIMD()
        for (ptrdiff_t k = 0; k < n; k++) most[k] = fsl_max64(most[k], x[p * n + k]);
    }
}

/* exp(x) for x <= 0, and 0 below the normal numbers: a share of 1e-307 of a sum is nothing. Any value for NaN. */
FSL_INLINE double fsl_sparse_exp(double x)
{
    const double e = fsl_exp_normal64(x < -708.0 ? -708.0 : x);
    return x < -708.0 ? 0 : e;
}

/* x = exp(x) relative to the greatest of each state, and sums of these; 0 for a state without arcs above -inf. */
static void fsl_sparse_exponentials(double *restrict x, ptrdiff_t n, ptrdiff_t n_arcs, const double *restrict most,
                                    double *restrict sum)
{
    for (ptrdiff_t k = 0; k < n; k++) sum[k] = 0;
    for (ptrdiff_t p = 0; p < n_arcs; p++, x += n) {
        FSL_SIMD()
        for (ptrdiff_t k = 0; k < n; k++) {
            x[k] = fsl_sparse_exp(x[k] - (most[k] == -INFINITY ? 0 : most[k]));
            sum[k] += x[k];
        }
    }
}

/* most += log(sum), where the sum is not 0. */
static void fsl_sparse_log(const double *restrict sum, ptrdiff_t n, double *restrict most)
{
    FSL_SIMD()
    for (ptrdiff_t k = 0; k < n; k++) most[k] += sum[k] > 0 ? fsl_log64(sum[k]) : 0;
}

/* a -= its greatest element, which is returned; a row of -inf stays unchanged. */
static double fsl_sparse_normalize(double *a, ptrdiff_t n)
{
    double most = -INFINITY;
    FSL_SIMD(reduction(max : most))
    for (ptrdiff_t k = 0; k < n; k++) most = fsl_max64(most, a[k]);
    if (most > -INFINITY)
        for (ptrdiff_t k = 0; k < n; k++) a[k] -= most;
    return most;
}

/* Posteriors of the arcs of a step, given those of the states after it (gamma) and exponentials x with their sums;
 * before = posteriors of the states before it. */
static void fsl_sparse_spread(const double *restrict x, const double *restrict sum, const int64_t *restrict from,
                              ptrdiff_t n, ptrdiff_t n_arcs, double *restrict gamma, double *restrict before,
                              double *restrict out)
{
    FSL_SIMD()
    for (ptrdiff_t k = 0; k < n; k++) gamma[k] = sum[k] > 0 ? gamma[k] / sum[k] : 0;
    for (ptrdiff_t p = 0; p < n_arcs; p++)
        for (ptrdiff_t k = 0; k < n; k++) {
            const double posterior = x[p * n + k] * gamma[k];
            out[k * n_arcs + p] = posterior;
            before[from[p * n + k]] += posterior;
        }
}

/* stay, move = scores of the paths of labels that stay at label i, or move to it, less the shift, at i < n. A move of
 * -1 does not exist. */
static void fsl_sparse_label_arcs(const char *scores, int doubles, double shift, const double *restrict a,
                                  const int64_t *restrict stays, const int64_t *restrict moves, ptrdiff_t n,
                                  double *restrict stay, double *restrict move)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        stay[i] = a[i] + (fsl_crf_at(scores, doubles, stays[i]) - shift);
        move[i] = i > 0 && moves[i] >= 0 ? a[i - 1] + (fsl_crf_at(scores, doubles, moves[i]) - shift) : -INFINITY;
    }
}

/* stay, move = exponentials relative to the greater, which is `most`. */
static void fsl_sparse_pair(ptrdiff_t n, double *restrict stay, double *restrict move, double *restrict most)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double a = stay[i], b = move[i], greater = fsl_max64(a, b);
        const double e = fsl_sparse_exp(a > b ? b - a : a - b), possible = greater > -INFINITY ? 1.0 : 0.0;
        stay[i] = a < b ? e : possible;
        move[i] = b < a ? e : possible;
        most[i] = greater;
    }
}

/* out = scale * x */
static void fsl_sparse_store(const double *restrict x, double scale, int doubles, ptrdiff_t n, char *out)
{
    for (ptrdiff_t j = 0; j < n; j++) fsl_crf_put(scale * x[j], doubles, j, out);
}

#endif
