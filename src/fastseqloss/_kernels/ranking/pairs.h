/* The logistic loss of all pairs of one list, in float64 and without an exponential a pair.
 *
 * In the order of rising relevance, item i is preferred to the items before the first one of its level. With
 * u = exp(s_j - s_i), a product of two exponentials of centred scores, the loss of a pair is log(1 + u) and its slope
 * u / (1 + u). The sum of the losses is the logarithm of a product whose exponent is counted separately; what the
 * addition 1 + u rounds off is added to first order, so that small losses keep their digits. */
#ifndef FASTSEQLOSS_RANKING_PAIRS_H
#define FASTSEQLOSS_RANKING_PAIRS_H

#include "ranking/order.h"

static const double fsl_rank_first_lanes[4 * FSL_RANK_LANES] = {1, 1, 1, 1, 1, 1, 1, 1}; /* 1 for the lanes in use */

/* Gains 2^y - 1; the power is exact for integers. */
static double fsl_rank_gain(double y)
{
    const double whole = rint(y);
    return fsl_pow2(whole) * fsl_rank_exp((y - whole) * FSL_RANK_LN2) - 1;
}

/* Sets the gains, times the factor of the list, and the discounts of the ranks, both in the order of relevance: pairs
 * are weighted by the change of DCG. `discounts` are those of the ranks; by_rank holds them for each item. */
static void fsl_rank_lambda(fsl_ranking *r, const double *discounts, const double *by_rank, int normalized)
{
    double ideal = 0, *gain = r->tree, *discount = r->tree + r->n + FSL_RANK_PAD;
    for (ptrdiff_t k = 0; k < r->n; k++) {
        gain[k] = fsl_rank_gain(r->y[r->order[k].at]);
        discount[k] = by_rank[r->order[k].at];
        ideal += gain[k] * discounts[r->n - 1 - k];
    }
    const double factor = normalized ? (ideal > 0 ? (double)r->n / ideal : 0) : (double)r->n;
    for (ptrdiff_t k = 0; k < r->n; k++) gain[k] *= factor;
}

/* Orders the items and counts the pairs. Returns 0 if the loss is known already. */
static int fsl_pairs_begin(fsl_ranking *r, const double *discounts, int normalized)
{
    double least, most;
    r->has_lambda = discounts != NULL;
    if (discounts) { /* in the place of the slopes, which are not needed before the end */
        fsl_rank_order(r, r->x, 1);
        for (ptrdiff_t k = 0; k < r->n; k++) r->g[r->order[k].at] = discounts[k];
    }
    fsl_rank_levels(r);
    if (!fsl_rank_is_finite(r, &least, &most)) return 0;
    fsl_rank_gather(r);
    if (discounts) fsl_rank_lambda(r, discounts, r->g, normalized);
    r->is_wide = !(most - least <= 340); /* products of two ratios of exponentials may overflow */
    for (ptrdiff_t k = 0; k < r->n; k++) {
        r->level[k] = k && r->order[k].key == r->order[k - 1].key ? r->level[k - 1] : k;
        r->sum[k] = 0;
    }
    if (!r->is_wide) fsl_rank_exponentials(r->s, r->n, least / 2 + most / 2, r->e);
    for (int l = 0; l < FSL_RANK_LANES; l++) r->sums.product[l] = 1, r->sums.exponent[l] = r->sums.rest[l] = 0;
    for (int l = 0; l < FSL_RANK_PAD; l++) {
        r->sum[r->n + l] = r->e[r->n + l] = 0;
        if (discounts) r->tree[r->n + l] = r->tree[2 * r->n + FSL_RANK_PAD + l] = 0;
    }
    r->next = 0;
    return 1;
}

/* Returns the logarithm of the factors, and begins again. */
FSL_INLINE double fsl_sums_take(fsl_sums *sums)
{
    double product = 1, exponent = 0, rest = 0;
    for (int l = 0; l < FSL_RANK_LANES; l++) {
        product *= sums->product[l];
        exponent += sums->exponent[l];
        rest += sums->rest[l];
        sums->product[l] = 1, sums->exponent[l] = sums->rest[l] = 0;
    }
    return fsl_rank_log(product) + exponent * FSL_RANK_LN2 + rest;
}

/* The pairs in which item i is preferred, two for each lane; lanes beyond the last pair have u = 0. Two pairs share a
 * division. */
FSL_INLINE double fsl_pairs_row(const double *restrict e, double *restrict slopes, ptrdiff_t n, double rate,
                                double weight, fsl_sums *sums)
{
    double slope[FSL_RANK_LANES] = {0}, total = 0;
    for (ptrdiff_t j = 0; j < n; j += 2 * FSL_RANK_LANES) {
        const ptrdiff_t idle = n - j < 2 * FSL_RANK_LANES ? 2 * FSL_RANK_LANES - (n - j) : 0;
        const double *on = fsl_rank_first_lanes + idle;
        FSL_SIMD()
        for (int l = 0; l < FSL_RANK_LANES; l++) {
            const double u = rate * e[j + l] * on[l], t = rate * e[j + FSL_RANK_LANES + l] * on[FSL_RANK_LANES + l];
            const double v = 1 + u, w = 1 + t, both = v * w, inverse = 1 / both;
            const double p = u * (w * inverse), q = t * (v * inverse);
            slope[l] += p + q;
            slopes[j + l] += weight * p;
            slopes[j + FSL_RANK_LANES + l] += weight * q;
            sums->rest[l] += (u - (v - 1)) * (w * inverse) + (t - (w - 1)) * (v * inverse);
            sums->exponent[l] += fsl_rank_multiply(&sums->product[l], both);
        }
    }
    for (int l = 0; l < FSL_RANK_LANES; l++) total += slope[l];
    return weight * total;
}

/* The same with weights of pairs: each of them takes a logarithm. */
FSL_INLINE double fsl_lambda_row(const fsl_ranking *r, ptrdiff_t i, double *restrict slopes, double rate, double weight,
                                 fsl_sums *sums)
{
    const double *restrict e = r->e, *restrict gain = r->tree, *restrict discount = r->tree + r->n + FSL_RANK_PAD;
    const double gain_i = gain[i], discount_i = discount[i];
    const ptrdiff_t n = r->level[i];
    double slope[FSL_RANK_LANES] = {0}, total = 0;
    for (ptrdiff_t j = 0; j < n; j += FSL_RANK_LANES) {
        const ptrdiff_t idle = n - j < FSL_RANK_LANES ? FSL_RANK_LANES - (n - j) : 0;
        const double *on = fsl_rank_first_lanes + FSL_RANK_LANES + idle;
        FSL_SIMD()
        for (int l = 0; l < FSL_RANK_LANES; l++) {
            const double u = rate * e[j + l] * on[l], v = 1 + u, q = u / v;
            const double lambda = (gain_i - gain[j + l]) * fabs(discount_i - discount[j + l]);
            slope[l] += lambda * q;
            slopes[j + l] += weight * (lambda * q);
            sums->rest[l] += lambda * (fsl_log64(v) + (u - (v - 1)) * (1 - q));
        }
    }
    for (int l = 0; l < FSL_RANK_LANES; l++) total += slope[l];
    return weight * total;
}

/* The same for scores that are far apart: with an exponential a pair. */
static void fsl_pairs_row_apart(fsl_ranking *r, ptrdiff_t i)
{
    const double *gain = r->tree, *discount = r->tree + r->n + FSL_RANK_PAD, weight = r->w ? r->weight[i] : 1;
    for (ptrdiff_t j = 0; j < r->level[i]; j++) {
        const double d = r->s[j] - r->s[i], u = fsl_rank_exp(-fabs(d)), v = 1 + u, q = (d > 0 ? 1 : u) / v;
        const double lambda = r->has_lambda ? (gain[i] - gain[j]) * fabs(discount[i] - discount[j]) : 1;
        r->sum[j] += weight * (lambda * q);
        r->sum[i] -= weight * (lambda * q);
        r->loss += weight * (lambda * (fsl_max64(d, 0) + fsl_rank_log(v) + (u - (v - 1)) / v));
    }
}

/* Continues with the next items, about `most` pairs; returns 1 at the end of the list. */
static int fsl_pairs_continue(fsl_ranking *r, ptrdiff_t most)
{
    const double *e = r->e;
    fsl_sums sums = r->sums;
    for (; r->next < r->n && most > 0; r->next++) {
        const ptrdiff_t i = r->next;
        const double weight = r->w ? r->weight[i] : 1;
        most -= r->level[i];
        if (!r->level[i]) continue;
        if (r->is_wide)
            fsl_pairs_row_apart(r, i);
        else if (r->has_lambda)
            r->sum[i] -= fsl_lambda_row(r, i, r->sum, 1 / e[i], weight, &sums);
        else
            r->sum[i] -= fsl_pairs_row(e, r->sum, r->level[i], 1 / e[i], weight, &sums);
        if (r->w) r->loss += weight * fsl_sums_take(&sums);
    }
    r->sums = sums;
    if (r->next < r->n) return 0;
    r->loss += fsl_sums_take(&r->sums);
    fsl_rank_scatter(r, r->sum);
    return 1;
}

#endif
