/* One list of items, and its items in the order of scores or relevance. */
#ifndef FASTSEQLOSS_RANKING_ORDER_H
#define FASTSEQLOSS_RANKING_ORDER_H

#include "simd/math.h"

#define FSL_RANK_LANES 4
#define FSL_RANK_PAD (2 * FSL_RANK_LANES) /* further elements of arrays, which are read and have no effect */
#define FSL_RANK_SHORT 40 /* items for each digit of the keys: shorter lists are sorted by comparing all pairs */
#define FSL_RANK_DIGIT 9 /* bits */
#define FSL_RANK_MASK 511

typedef struct { int64_t key; ptrdiff_t at; } fsl_place;

/* The sum of the logarithms of many factors: products in [1, 2), their exponents, and corrections. */
typedef struct { double product[FSL_RANK_LANES], exponent[FSL_RANK_LANES], rest[FSL_RANK_LANES]; } fsl_sums;

typedef struct fsl_ranking {
    ptrdiff_t n;                  /* items that count */
    double *x, *y, *w, *g;        /* in order of appearance: scores, relevance, weights (NULL: all 1), slopes */
    double *s, *weight, *e, *sum; /* in sorted order: scores, weights; exponentials or slopes, as a loss needs them */
    double *tree;                 /* two numbers an item */
    fsl_place *order, *room;
    ptrdiff_t *level;
    double loss, pairs;

    /* State of the pairs of a list whose loss is computed in several portions. */
    ptrdiff_t next; /* the first item whose pairs are missing */
    int is_wide, has_lambda;
    fsl_sums sums;
} fsl_ranking;

/* Functions of single numbers, once in the module instead of wherever they are called. */
static double fsl_rank_exp(double x) { return fsl_exp64(x); }
static double fsl_rank_log(double x) { return fsl_log64(x); }

/* out = exp(x - shift) for differences within the range of normal numbers. */
static void fsl_rank_exponentials(const double *restrict x, ptrdiff_t n, double shift, double *restrict out)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fsl_exp_normal64(x[i] - shift);
}

/* An integer in the order of the numbers; 0 and -0 are equal. Bits that the number does not need are 0, also those of
 * negative numbers: the magnitude of the integer is that of the number. */
FSL_INLINE int64_t fsl_rank_key(double x)
{
    const int64_t bits = (int64_t)fsl_bits64(x + 0.0);
    return bits < 0 ? -(bits & INT64_MAX) : bits;
}

/* A digit of a key, whose sign counts as its highest bit, inverted. */
FSL_INLINE ptrdiff_t fsl_rank_digit(int64_t key, int shift)
{
    return (ptrdiff_t)(((uint64_t)key ^ (uint64_t)INT64_MIN) >> shift & FSL_RANK_MASK);
}

/* Sorts few places by counting, for each one, those before it, which vectors do; equal keys stay in order. */
static void fsl_rank_sort_few(fsl_place *places, int64_t *keys, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) keys[i] = places[i].key;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int64_t key = keys[i];
        int64_t before = 0;
        FSL_SIMD(reduction(+ : before))
        for (ptrdiff_t k = 0; k < i; k++) before += keys[k] <= key;
        FSL_SIMD(reduction(+ : before))
        for (ptrdiff_t k = i + 1; k < n; k++) before += keys[k] < key;
        places[before] = (fsl_place){key, i};
    }
}

/* Sorts by digits of the keys; equal keys stay in order. Digits begin at the lowest bit in which keys differ, and those
 * that all keys have in common need no pass: float32 scores have four, small integers two. */
static void fsl_rank_sort(fsl_place *places, fsl_place *room, ptrdiff_t n)
{
    fsl_place *from = places, *to = room;
    uint64_t varying = 0;
    int lowest = 0, n_digits = 0;
    for (ptrdiff_t i = 0; i < n; i++) varying |= (uint64_t)(places[i].key ^ places[0].key);
    while (varying && !(varying >> lowest & 1)) lowest++;
    for (int shift = lowest; shift < 64; shift += FSL_RANK_DIGIT) n_digits += (varying >> shift & FSL_RANK_MASK) != 0;
    if (n < FSL_RANK_SHORT * n_digits) {
        fsl_rank_sort_few(places, (int64_t *)room, n);
        return;
    }
    for (int shift = lowest; shift < 64; shift += FSL_RANK_DIGIT) {
        ptrdiff_t starts[FSL_RANK_MASK + 2] = {0};
        if (!(varying >> shift & FSL_RANK_MASK)) continue;
        for (ptrdiff_t i = 0; i < n; i++) starts[fsl_rank_digit(from[i].key, shift) + 1]++;
        for (int digit = 0; digit < FSL_RANK_MASK; digit++) starts[digit + 1] += starts[digit];
        for (ptrdiff_t i = 0; i < n; i++) to[starts[fsl_rank_digit(from[i].key, shift)]++] = from[i];
        fsl_place *const other = from;
        from = to, to = other;
    }
    if (from != places) memcpy(places, from, (size_t)n * sizeof *places);
}

/* Sets the order of items by these values, the largest ones first if `falling`; ties stay in order of appearance. */
static void fsl_rank_order(fsl_ranking *r, const double *values, int falling)
{
    const int64_t flip = falling ? -1 : 0;
    for (ptrdiff_t i = 0; i < r->n; i++) r->order[i] = (fsl_place){fsl_rank_key(values[i]) ^ flip, i};
    fsl_rank_sort(r->order, r->room, r->n);
}

/* Sets s and, if there are weights, weight. */
static void fsl_rank_gather(fsl_ranking *r)
{
    for (ptrdiff_t k = 0; k < r->n; k++) r->s[k] = r->x[r->order[k].at];
    for (ptrdiff_t k = 0; r->w && k < r->n; k++) r->weight[k] = r->w[r->order[k].at];
}

/* Sets the slopes in order of appearance. */
static void fsl_rank_scatter(fsl_ranking *r, const double *slope)
{
    for (ptrdiff_t k = 0; k < r->n; k++) r->g[r->order[k].at] = slope[k];
}

/* Orders the items by rising relevance; counts the pairs of different relevance, and the levels of relevance. */
static ptrdiff_t fsl_rank_levels(fsl_ranking *r)
{
    ptrdiff_t n_levels = 0, start = 0;
    fsl_rank_order(r, r->y, 0);
    r->pairs = 0;
    for (ptrdiff_t k = 0; k < r->n; k++) {
        const int is_new = k == 0 || r->order[k].key != r->order[k - 1].key;
        start = is_new ? k : start;
        n_levels += is_new;
        r->pairs += (double)start;
    }
    return n_levels;
}

/* Smallest and largest score. Returns 0 if that is all: the loss is 0 without pairs, whatever the scores are, and NaN
 * if a score is NaN or infinite. */
static int fsl_rank_is_finite(fsl_ranking *r, double *least, double *most)
{
    int finite = 1;
    *least = INFINITY, *most = -INFINITY;
    for (ptrdiff_t i = 0; i < r->n; i++) {
        finite &= fabs(r->x[i]) <= DBL_MAX;
        *least = fsl_min64(r->x[i], *least);
        *most = fsl_max64(r->x[i], *most);
    }
    if (finite && r->pairs > 0) return 1;
    r->loss = r->pairs > 0 ? NAN : 0;
    for (ptrdiff_t i = 0; i < r->n; i++) r->g[i] = r->loss;
    return 0;
}

/* Multiplies a product, kept in [1, 2), by a positive normal number; returns the exponent that is taken out. */
FSL_INLINE double fsl_rank_multiply(double *product, double x)
{
    const uint64_t bits = fsl_bits64(*product * x);
    *product = fsl_from64((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    return fsl_from64((bits >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
}

#define FSL_RANK_LN2 0.69314718055994530942

#endif
