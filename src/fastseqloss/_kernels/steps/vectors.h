/* Losses of a row of scores and a row of targets, and their slopes by both: divergence of distributions; and, in
 * float64, cosine distance, sparsemax, margins between labels and other classes. */
#ifndef FASTSEQLOSS_STEPS_VECTORS_H
#define FASTSEQLOSS_STEPS_VECTORS_H

#include <stdlib.h>

#include "simd/elements.h"
#include "simd/softmax_row.h"

/* The rows of one step. A loss may overwrite x and y. */
typedef struct {
    ptrdiff_t n;
    double *x, *y; /* scores and targets */
    double *g, *h; /* slopes by both */
    double *room;  /* 2 n numbers more */
} fsl_vectors;

/* Copies n numbers of float32, float64 or uint8. */
static void fsl_vectors_widen(fsl_stored kind, const char *restrict from, ptrdiff_t n, double *restrict to)
{
    if (kind == FSL_FLOAT64) memcpy(to, from, (size_t)n * sizeof *to);
    else if (kind == FSL_FLOAT32) {
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) to[i] = ((const float *)from)[i];
    } else
        for (ptrdiff_t i = 0; i < n; i++) to[i] = ((const uint8_t *)from)[i];
}

/* Copies n numbers times scale to float32 or float64. */
static void fsl_vectors_narrow(fsl_stored kind, const double *restrict from, double scale, ptrdiff_t n,
                               char *restrict to)
{
    if (kind == FSL_FLOAT64) {
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) ((double *)to)[i] = from[i] * scale;
    } else {
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) ((float *)to)[i] = (float)(from[i] * scale);
    }
}

/* Sets all slopes; returns the value. */
static double fsl_vectors_fill(fsl_vectors *v, double value)
{
    for (ptrdiff_t i = 0; i < v->n; i++) v->g[i] = v->h[i] = value;
    return value;
}

/* The largest of n numbers, -inf of none; NaN if one of them is NaN or inf. */
static double fsl_vectors_most(const double *x, ptrdiff_t n)
{
    double most = -INFINITY, bad = 0;
    FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : bad))
    for (ptrdiff_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
        bad += x[i] < INFINITY ? 0 : 1;
    }
    return bad == 0 ? most : NAN;
}

/* ---- Kullback-Leibler divergence ------------------------------------------------------------
 * In the type of the arrays, with sums in float64; logits are multiplied by `unit`. */

enum { FSL_GIVEN_LOGITS, FSL_GIVEN_LOG_PROBS, FSL_GIVEN_PROBS }; /* as `Input` in codes.pxd */

typedef struct { int scores, targets, reverse; double unit; } fsl_divergence;

FSL_INLINE float fsl_divergence_exp_f32(float x) { return fsl_exp32(x); }
FSL_INLINE double fsl_divergence_exp_f64(double x) { return fsl_exp64(x); }
FSL_INLINE float fsl_divergence_log_f32(float x) { return fsl_log32(x); }
FSL_INLINE double fsl_divergence_log_f64(double x) { return fsl_log64(x); }

#include "simd/float32.inc.h"
#include "steps/divergence.inc.h"
#include "simd/float64.inc.h"
#include "steps/divergence.inc.h"

/* ---- cosine distance ------------------------------------------------------------------------- */

/* The norm of a row times `unit`, a power of 2 for which no square overflows or underflows. */
static double fsl_scaled_norm(const double *x, ptrdiff_t n, double *unit)
{
    double sum = 0;
    *unit = 1;
    FSL_SIMD(reduction(+ : sum))
    for (ptrdiff_t i = 0; i < n; i++) sum += x[i] * x[i];
    if (sum < 1e250 && sum > 1e-250) return sqrt(sum);
    *unit = sum < 1 ? 0x1p600 : 0x1p-600;
    sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += x[i] * *unit * (x[i] * *unit);
    return sqrt(sum);
}

/* 1 - cos = |a - b|^2 / 2 of the unit vectors a and b, which is exact for small angles, as are the slopes
 * (a - b - (1 - cos) a) / |x|. A vector of zeros has distance 1 from all others, and slope 0. */
static double fsl_cosine_distance(fsl_vectors *v)
{
    double unit_x, unit_y, distance = 0;
    double *restrict a = v->x, *restrict b = v->y, *restrict g = v->g, *restrict h = v->h;
    const double norm_x = fsl_scaled_norm(a, v->n, &unit_x), norm_y = fsl_scaled_norm(b, v->n, &unit_y);
    if (norm_x == 0 || norm_y == 0) return 1 + fsl_vectors_fill(v, 0 * (norm_x + norm_y));
    const double by_x = 1 / norm_x, by_y = 1 / norm_y;
    FSL_SIMD(reduction(+ : distance))
    for (ptrdiff_t i = 0; i < v->n; i++) {
        a[i] = a[i] * unit_x * by_x;
        b[i] = b[i] * unit_y * by_y;
        distance += (a[i] - b[i]) * (a[i] - b[i]);
    }
    distance *= 0.5;
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < v->n; i++) {
        g[i] = (a[i] - b[i] - distance * a[i]) * by_x * unit_x;
        h[i] = (b[i] - a[i] - distance * b[i]) * by_y * unit_y;
    }
    return distance;
}

/* ---- sparsemax ------------------------------------------------------------------------------- */

/* The threshold for which the positive parts of x - most - threshold add up to 1. Only differences above -1 exceed it;
 * those that do not exceed the threshold of the numbers left are dropped, until none is. */
static double fsl_sparsemax_threshold(const double *x, ptrdiff_t n, double most, double *left)
{
    ptrdiff_t n_left = 0, kept;
    double threshold;
    for (ptrdiff_t i = 0; i < n; i++) {
        left[n_left] = x[i] - most;
        n_left += left[n_left] > -1;
    }
    for (;; n_left = kept) {
        double sum = -1;
        FSL_SIMD(reduction(+ : sum))
        for (ptrdiff_t i = 0; i < n_left; i++) sum += left[i];
        threshold = sum / (double)n_left;
        kept = 0;
        for (ptrdiff_t i = 0; i < n_left; i++) {
            left[kept] = left[i];
            kept += left[kept] > threshold;
        }
        if (kept == n_left) return threshold;
    }
}

/* With p = max(r, 0), r = x - most - threshold, the loss is sum (p - y)^2 / 2 + y (p - r), whose terms are not
 * negative, and (most + threshold) (1 - sum y) for y that do not add up to 1. */
static double fsl_sparsemax_loss(fsl_vectors *v)
{
    const double most = fsl_vectors_most(v->x, v->n);
    const double *restrict x = v->x, *restrict y = v->y;
    double *restrict g = v->g, *restrict h = v->h;
    double loss = 0, rest = 1;
    if (most == -INFINITY) {
        for (ptrdiff_t i = 0; i < v->n; i++) rest -= y[i];
        fsl_vectors_fill(v, 0);
        return rest < 1 ? INFINITY : 0;
    }
    if (most != most) return fsl_vectors_fill(v, NAN);
    const double threshold = fsl_sparsemax_threshold(x, v->n, most, v->room);
    FSL_SIMD(reduction(+ : loss) reduction(- : rest))
    for (ptrdiff_t i = 0; i < v->n; i++) {
        const double r = x[i] - most - threshold, p = r > 0 ? r : 0, share = y[i] > 0 ? y[i] : 0;
        loss += 0.5 * (p - share) * (p - share) + (share == 0 ? 0 : share * (p - r));
        rest -= share;
        g[i] = p - share;
        h[i] = share - x[i];
    }
    return rest == 0 ? loss : loss + rest * (most + threshold);
}

/* ---- margins between labels and other classes -------------------------------------------------- */

/* The first of n numbers that is neither 0 nor 1, or n. */
static ptrdiff_t fsl_find_no_indicator(const double *y, ptrdiff_t n)
{
    double bad = 0;
    FSL_SIMD(reduction(+ : bad))
    for (ptrdiff_t i = 0; i < n; i++) bad += y[i] == 0 ? 0 : y[i] == 1 ? 0 : 1;
    for (ptrdiff_t i = 0; bad != 0 && i < n; i++)
        if (y[i] != 0 && y[i] != 1) return i;
    return n;
}

#define FSL_MARGIN_FEW 64 /* more are sorted */

static int fsl_falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Pairs (a, b) whose sum is positive: adds up the sums, and counts the pairs of each number. All pairs are visited. */
static double fsl_pairs_of_few(const double *few, ptrdiff_t n_few, const double *restrict many, ptrdiff_t n_many,
                               double *of_few, double *restrict of_many)
{
    double loss = 0;
    memset(of_many, 0, (size_t)n_many * sizeof *of_many);
    for (ptrdiff_t k = 0; k < n_few; k++) {
        const double a = few[k];
        double count = 0;
        FSL_SIMD(reduction(+ : loss) reduction(+ : count))
        for (ptrdiff_t i = 0; i < n_many; i++) {
            const double sum = many[i] + a, on = sum > 0 ? 1 : 0;
            loss += sum > 0 ? sum : 0;
            of_many[i] += on;
            count += on;
        }
        of_few[k] = count;
    }
    return loss;
}

/* Of n falling numbers, those above a bound. */
static ptrdiff_t fsl_count_above(const double *falling, ptrdiff_t n, double bound)
{
    ptrdiff_t first = 0;
    while (n > 0) {
        const ptrdiff_t half = n / 2;
        const int above = falling[first + half] > bound;
        first = above ? first + half + 1 : first;
        n = above ? n - half - 1 : half;
    }
    return first;
}

/* The same by sorting the few numbers: b makes pairs with those above -b. `room` has 2 n_few numbers. */
static double fsl_pairs_by_order(const double *few, ptrdiff_t n_few, const double *many, ptrdiff_t n_many,
                                 double *of_few, double *of_many, double *room)
{
    double *const sorted = room, *const sums = room + n_few;
    double loss = 0, sum = 0;
    memcpy(sorted, few, (size_t)n_few * sizeof *few);
    qsort(sorted, (size_t)n_few, sizeof *sorted, fsl_falling);
    for (ptrdiff_t k = 0; k < n_few; k++) sums[k] = sum += sorted[k];
    for (ptrdiff_t i = 0; i < n_many; i++) {
        const ptrdiff_t n = fsl_count_above(sorted, n_few, -many[i]);
        of_many[i] = (double)n;
        if (n > 0) loss += (double)n * many[i] + sums[n - 1];
    }
    memset(sums, 0, (size_t)n_few * sizeof *sums); /* from here on: how many numbers make pairs with each one */
    for (ptrdiff_t i = 0; i < n_many; i++)
        if (of_many[i] > 0) sums[(ptrdiff_t)of_many[i] - 1] += 1;
    for (ptrdiff_t k = n_few - 1; k > 0; k--) sums[k - 1] += sums[k];
    for (ptrdiff_t k = 0; k < n_few; k++) of_few[k] = sums[fsl_count_above(sorted, n_few, few[k])];
    return loss;
}

/* sum of max(0, margin - x_j + x_i) over labels j, where y is not 0, and other classes i, divided by n. The scores of
 * labels are negated, and those of the others increased by the margin, so that a pair counts if its sum is positive. */
static double fsl_multilabel_margin(fsl_vectors *v, double margin)
{
    const ptrdiff_t n = v->n;
    const double most = fsl_vectors_most(v->x, n);
    double *const few = v->room, *const many = v->x, *const of_many = v->h, origin = 0, loss;
    ptrdiff_t n_labels = 0, n_few = 0, n_many = 0;
    if (most != most) return fsl_vectors_fill(v, NAN);
    for (ptrdiff_t i = 0; i < n; i++) n_labels += v->y[i] != 0;
    const int few_labels = 2 * n_labels <= n;
    if (most > -INFINITY) origin = most; /* an offset that all scores have in common costs no digits */
    for (ptrdiff_t i = 0; i < n; i++) {
        const int is_label = v->y[i] != 0;
        const double distance = v->x[i] - origin, term = is_label ? -distance : distance + margin;
        if (is_label == few_labels) few[n_few++] = term;
        else many[n_many++] = term;
    }
    double *const of_few = few + n_few;
    loss = n_few <= FSL_MARGIN_FEW ? fsl_pairs_of_few(few, n_few, many, n_many, of_few, of_many)
                                   : fsl_pairs_by_order(few, n_few, many, n_many, of_few, of_many, of_few + n_few);
    n_few = n_many = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int is_label = v->y[i] != 0;
        const double count = is_label == few_labels ? of_few[n_few++] : of_many[n_many++];
        v->g[i] = (is_label ? 0 - count : count) / (double)n;
    }
    return loss / (double)n;
}

#endif
