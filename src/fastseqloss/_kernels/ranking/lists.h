/* Losses of one list by sorting, in float64: the hinge loss of pairs, and the likelihood of an order. */
#ifndef FASTSEQLOSS_RANKING_LISTS_H
#define FASTSEQLOSS_RANKING_LISTS_H

#include "ranking/order.h"

/* ---- pairwise hinge --------------------------------------------------------------------------
 * Sums over items of lower levels: of a and of b. For a few levels, `sums` holds them for each level; for many, it is
 * a binary indexed tree over the levels. */

#define FSL_RANK_FEW 8

FSL_INLINE void fsl_rank_add(double *sums, ptrdiff_t n_levels, ptrdiff_t level, double a, double b, const int few)
{
    static const double above[2 * FSL_RANK_FEW] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    if (few) {
        const double *on = above + FSL_RANK_FEW - 1 - level;
        FSL_SIMD()
        for (int i = 0; i < FSL_RANK_FEW; i++) {
            sums[i] += on[i] * a;
            sums[FSL_RANK_FEW + i] += on[i] * b;
        }
    } else
        for (ptrdiff_t i = level + 1; i < n_levels; i += i & -i) {
            sums[2 * i] += a;
            sums[2 * i + 1] += b;
        }
}

FSL_INLINE void fsl_rank_below(const double *sums, ptrdiff_t level, double *a, double *b, const int few)
{
    if (few) {
        *a = sums[level];
        *b = sums[FSL_RANK_FEW + level];
        return;
    }
    *a = *b = 0;
    for (ptrdiff_t i = level; i > 0; i -= i & -i) {
        *a += sums[2 * i];
        *b += sums[2 * i + 1];
    }
}

/* Adds to each sum b the sum a of its level, times a finite number. */
FSL_INLINE void fsl_rank_move(double *sums, ptrdiff_t n_levels, double by, const int few)
{
    for (ptrdiff_t i = 0; i < (few ? FSL_RANK_FEW : n_levels); i++) {
        double *const b = few ? sums + FSL_RANK_FEW + i : sums + 2 * i + 1;
        *b += by * (few ? sums[i] : sums[2 * i]);
    }
}

/* The items are in the order of falling scores. Both sweeps compare s_j with the same rounded s_i - margin, so that
 * they agree on every pair. The sums are of s_j - origin, so that they lose no digits to a common offset. An origin far
 * above s_i - margin moves there, before scores below it are added: outliers cost the other items no digits. The
 * greatest distance doubles with each move, which limits the number of moves. */
FSL_INLINE void fsl_hinge_sweeps(fsl_ranking *r, double margin, ptrdiff_t n_levels, const int few)
{
    const ptrdiff_t n = r->n, *level = r->level;
    const double *s = r->s;
    double fixed[2 * FSL_RANK_FEW], *sums = few ? fixed : r->tree, *slope = r->e, a, b;
    const size_t size = sizeof(double) * 2 * (size_t)(few ? FSL_RANK_FEW : n_levels);
    double origin = s[0] - margin, far = fsl_max64(0x1p20 * margin, 0x1p-100);
    ptrdiff_t next = 0;
    memset(sums, 0, size);
    for (ptrdiff_t i = 0; i < n; i++) { /* as the preferred item */
        const double end = s[i] - margin, weight = r->w ? r->weight[i] : 1;
        if (origin - end > far) {
            fsl_rank_move(sums, n_levels, fsl_min64(origin - end, DBL_MAX), few);
            origin = end;
            far *= 2;
        }
        for (; next < n && s[next] > end; next++)
            fsl_rank_add(sums, n_levels, level[next], 1, fsl_min64(s[next] - origin, DBL_MAX), few);
        fsl_rank_below(sums, level[i], &a, &b, few);
        r->loss += weight * fsl_max64(a * (origin - end) + b, 0);
        slope[i] = -weight * a;
    }
    memset(sums, 0, size);
    next = n - 1;
    for (ptrdiff_t j = n - 1; j >= 0; j--) { /* as the other item: levels are counted from the highest one */
        for (; next >= 0 && s[next] - margin < s[j]; next--)
            fsl_rank_add(sums, n_levels, n_levels - 1 - level[next], r->w ? r->weight[next] : 1, 0, few);
        fsl_rank_below(sums, n_levels - 1 - level[j], &a, &b, few);
        slope[j] += a;
    }
}

/* Sets the levels in order of appearance, and counts pairs and levels, without sorting: a level is the number of
 * smaller values. Returns 0 if there are more than a few. */
static ptrdiff_t fsl_rank_few_levels(fsl_ranking *r, ptrdiff_t *found)
{
    double known[FSL_RANK_FEW], equal[FSL_RANK_FEW] = {0}, above[FSL_RANK_FEW] = {0};
    ptrdiff_t n_levels = 0;
    for (int k = 0; k < FSL_RANK_FEW; k++) known[k] = INFINITY;
    for (ptrdiff_t i = 0; i < r->n; i++) {
        const double y = r->y[i];
        double is_known = 0;
        FSL_SIMD(reduction(+ : is_known))
        for (int k = 0; k < FSL_RANK_FEW; k++) is_known += known[k] == y ? 1 : 0;
        if (is_known == 0) {
            if (n_levels == FSL_RANK_FEW) return 0;
            known[n_levels++] = y;
        }
    }
    for (ptrdiff_t i = 0; i < r->n; i++) {
        const double y = r->y[i];
        double level = 0;
        FSL_SIMD(reduction(+ : level))
        for (int k = 0; k < FSL_RANK_FEW; k++) {
            level += known[k] < y ? 1 : 0;
            above[k] += known[k] < y ? 1 : 0;
            equal[k] += known[k] == y ? 1 : 0;
        }
        found[i] = (ptrdiff_t)level;
    }
    r->pairs = 0;
    for (int k = 0; k < FSL_RANK_FEW; k++) r->pairs += equal[k] * above[k];
    return n_levels;
}

static void fsl_pairwise_hinge(fsl_ranking *r, double margin)
{
    ptrdiff_t *const found = (ptrdiff_t *)r->sum, level = -1; /* levels in order of appearance */
    ptrdiff_t n_levels = fsl_rank_few_levels(r, found);
    const int sorted = n_levels == 0;
    double least, most;
    if (sorted) n_levels = fsl_rank_levels(r);
    if (!fsl_rank_is_finite(r, &least, &most)) return;
    for (ptrdiff_t k = 0; sorted && k < r->n; k++) {
        level += k == 0 || r->order[k].key != r->order[k - 1].key;
        found[r->order[k].at] = level;
    }
    fsl_rank_order(r, r->x, 1);
    fsl_rank_gather(r);
    for (ptrdiff_t k = 0; k < r->n; k++) r->level[k] = found[r->order[k].at];
    if (n_levels <= FSL_RANK_FEW)
        fsl_hinge_sweeps(r, margin, n_levels, 1);
    else
        fsl_hinge_sweeps(r, margin, n_levels, 0);
    fsl_rank_scatter(r, r->e);
}

/* ---- Plackett-Luce ------------------------------------------------------------------------------
 * With the items in order, c_i = sum over j >= i of exp(s_j), the loss is sum over i of log c_i - s_i and the slope of
 * item j is exp(s_j) times the sum over i <= j of 1 / c_i, minus 1. */

static double fsl_log_add(double a, double b)
{
    const double most = fsl_max64(a, b);
    return most + fsl_rank_log(1 + fsl_rank_exp(fsl_min64(a, b) - most));
}

/* For scores that are far apart: by logarithms. */
static void fsl_order_by_logarithms(fsl_ranking *r)
{
    double log_sum = -INFINITY;
    for (ptrdiff_t k = r->n - 1; k >= 0; k--) {
        r->sum[k] = log_sum = fsl_log_add(log_sum, r->s[k]);
        r->loss += log_sum - r->s[k];
    }
    log_sum = -INFINITY;
    for (ptrdiff_t k = 0; k < r->n; k++) {
        log_sum = fsl_log_add(log_sum, -r->sum[k]);
        r->e[k] = fsl_rank_exp(r->s[k] + log_sum) - 1;
    }
}

static void fsl_list_mle(fsl_ranking *r)
{
    double least, most, sum = 0, product = 1, exponent = 0, below = 0;
    r->pairs = 1; /* an item alone is read, too */
    if (!fsl_rank_is_finite(r, &least, &most)) return;
    fsl_rank_order(r, r->y, 1);
    fsl_rank_gather(r);
    if (!(most - least <= 600)) /* sums of exponentials and of their reciprocals may overflow */
        fsl_order_by_logarithms(r);
    else {
        const ptrdiff_t n = r->n;
        double *restrict e = r->e, *restrict sums = r->sum;
        const double *restrict s = r->s;
        fsl_rank_exponentials(s, n, most, e);
        for (ptrdiff_t k = n - 1; k >= 0; k--) {
            sums[k] = sum += e[k];
            exponent += fsl_rank_multiply(&product, sum);
            below += most - s[k];
        }
        r->loss = fsl_rank_log(product) + exponent * FSL_RANK_LN2 + below;
        FSL_SIMD()
        for (ptrdiff_t k = 0; k < n; k++) sums[k] = 1 / sums[k];
        sum = 0;
        for (ptrdiff_t k = 0; k < n; k++) {
            sum += sums[k];
            e[k] = e[k] * sum - 1;
        }
    }
    r->loss = r->n > 1 ? fsl_max64(r->loss, 0) : 0;
    fsl_rank_scatter(r, r->e);
}

#endif
