/* The arithmetic under varying.pyx: rows of tags, of float32 or float64. */
#ifndef FASTSEQLOSS_CRF_VARYING_H
#define FASTSEQLOSS_CRF_VARYING_H

#include "crf/lattice.h"

/* Element j of a row. */
FSL_INLINE double fsl_crf_at(const char *x, int doubles, ptrdiff_t j)
{
    return doubles ? ((const double *)x)[j] : ((const float *)x)[j];
}

FSL_INLINE void fsl_crf_put(double value, int doubles, ptrdiff_t j, char *out)
{
    if (doubles)
        ((double *)out)[j] = value;
    else
        ((float *)out)[j] = (float)value;
}

#define FSL_CRF_HUGE 1e30 /* stands for all greater scores in sums that are to stay finite */

/* out[j * stride] = x[j]. Returns 0 if all scores are below the bound, else the greatest, or +inf for NaN or +inf. */
static double fsl_crf_load_scores(const char *x, int doubles, ptrdiff_t n, double bound, double *out, ptrdiff_t stride)
{
    int below = 1;
    double most = 0;
    for (ptrdiff_t j = 0; j < n; j++) {
        out[j * stride] = fsl_crf_at(x, doubles, j);
        below &= out[j * stride] < bound;
    }
    for (ptrdiff_t j = 0; !below && j < n; j++)
        if (!(out[j * stride] <= most))
            most = out[j * stride] < INFINITY ? fsl_min64(out[j * stride], FSL_CRF_HUGE) : INFINITY;
    return most;
}

static double fsl_crf_greatest_sum(const double *restrict a, const double *restrict b, ptrdiff_t n)
{
    double best = -INFINITY;
    for (ptrdiff_t j = 0; j < n; j++) best = fsl_max64(best, a[j] + b[j]);
    return best;
}

/* Log sum over j < n of exp(a[j] + b[j]): e[j] is the exponential over that of the greatest term, `sum` their sum. */
static double fsl_crf_log_row(const double *restrict a, const double *restrict b, ptrdiff_t n, double *restrict e,
                              double *sum)
{
    const double best = fsl_crf_greatest_sum(a, b, n), shift = best == -INFINITY ? 0 : best;
    double total = 0;
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) e[j] = fsl_exp64(a[j] + b[j] - shift);
    for (ptrdiff_t j = 0; j < n; j++) total += e[j];
    *sum = total;
    return best == -INFINITY ? best : best + fsl_log64(total);
}

#endif
