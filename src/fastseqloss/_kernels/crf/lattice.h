/* The arithmetic under loss.pyx: rows of tags, and products of rows with a matrix of transitions.
 *
 * Rows hold `width` float64 entries, a multiple of FSL_TAGS, of which those beyond the number of tags are 0 (scores:
 * -inf). Several sequences go through a frame together, so a step of the recursion is a matrix product, tiled
 * to stay in registers. Each entry of a product is added up in one chain, in the order of the tags, and every
 * step of it is one multiply-add: its bits do not depend on the tile it lies in, nor on other rows. */
#ifndef FASTSEQLOSS_CRF_LATTICE_H
#define FASTSEQLOSS_CRF_LATTICE_H

#include "simd/vector.h"

#define FSL_TAGS 8
#define FSL_LN2 0.693147180559945309417
/* A potential may lie this many binary orders of magnitude under the largest of its kind; what lies lower is
 * clamped there, and what then flows through it must turn out to be negligible. With one clamped transition and one
 * clamped emission a frame no state falls by 2^500, and a step from there by another 2^480 underflows nothing. */
#define FSL_RANGE 240.0
#define FSL_CLAMP (FSL_RANGE * FSL_LN2)
#define FSL_FLOOR 0x1p-500
/* The share of clamped paths, per frame, that goes unnoticed, be there a million frames; and the same for clamped
 * transitions in terms of the product of the sums of the rows on both sides, of which their share is 2^-240. */
#define FSL_CLAMPED_SHARE 0x1p-80
#define FSL_CLAMPED_SUMS 0x1p160

/* ---- vectors of float64 ------------------------------------------------------------------ */

#if FSL_GNU
#if defined(__AVX512F__)
#define FSL_WIDTH 8
#elif defined(__AVX__)
#define FSL_WIDTH 4
#else
#define FSL_WIDTH 2
#endif
#ifdef __clang__
#define FSL_UNROLL FSL_PRAGMA(unroll)
#else
#define FSL_UNROLL FSL_PRAGMA(GCC unroll 8)
#endif
typedef double fsl_vec __attribute__((vector_size(8 * FSL_WIDTH)));
typedef double fsl_vec_at __attribute__((vector_size(8 * FSL_WIDTH), aligned(8), may_alias));
#else
#define FSL_WIDTH 1
#define FSL_UNROLL
typedef double fsl_vec;
typedef double fsl_vec_at;
#endif

#if FSL_WIDTH == 8 /* registers: 32, or 16 */
#define FSL_MOST_ROWS 8
#else
#define FSL_MOST_ROWS 4
#endif
#define FSL_PANEL 3 /* vectors of a panel of columns */

#if defined(__x86_64__) && FSL_GNU
#include <immintrin.h>
#endif

FSL_INLINE fsl_vec fsl_load(const double *p) { return *(const fsl_vec_at *)p; }
FSL_INLINE void fsl_store(double *p, fsl_vec v) { *(fsl_vec_at *)p = v; }

/* a > b ? a : b, lane by lane. */
FSL_INLINE fsl_vec fsl_greater(fsl_vec a, fsl_vec b)
{
#if FSL_WIDTH == 8
    return _mm512_max_pd(a, b);
#elif FSL_WIDTH == 4
    return _mm256_max_pd(a, b);
#elif defined(__x86_64__) && FSL_WIDTH == 2
    return _mm_max_pd(a, b);
#elif FSL_WIDTH == 2
    typedef int64_t mask __attribute__((vector_size(16)));
    const mask m = a > b;
    return (fsl_vec)((m & (mask)a) | (~m & (mask)b));
#else
    return a > b ? a : b;
#endif
}

/* ---- products ----------------------------------------------------------------------------
 * A matrix [n, width] is packed in panels of FSL_PANEL vectors of columns (the last may be narrower), each
 * panel row by row. */

/* Packs m[i * row_step + j * column_step], filled up to `width` rows and columns. */
static void fsl_pack(const double *m, ptrdiff_t row_step, ptrdiff_t column_step, ptrdiff_t n, ptrdiff_t width,
                     double filler, double *out)
{
    const ptrdiff_t panel = FSL_PANEL * FSL_WIDTH;
    for (ptrdiff_t start = 0; start < width; start += panel) {
        const ptrdiff_t stop = start + panel < width ? start + panel : width;
        for (ptrdiff_t i = 0; i < width; i++)
            for (ptrdiff_t j = start; j < stop; j++)
                *out++ = i < n && j < n ? m[i * row_step + j * column_step] : filler;
    }
}

/* out[i * n + j] = panels[i, j], for n rows and columns of `width`. */
static void fsl_unpack(const double *panels, ptrdiff_t n, ptrdiff_t width, double *restrict out)
{
    const ptrdiff_t panel = FSL_PANEL * FSL_WIDTH;
    for (ptrdiff_t start = 0; start < width; start += panel) {
        const ptrdiff_t columns = start + panel < width ? panel : width - start;
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = 0; j < columns && start + j < n; j++)
                out[i * n + start + j] = panels[start * width + i * columns + j];
    }
}

/* `rows` rows of a times one panel of `vectors` vectors, in the (+, x) or the (max, +) semiring. */
FSL_INLINE void fsl_tile(const double *restrict a, ptrdiff_t a_step, const double *restrict m, ptrdiff_t n,
                         double *restrict out, ptrdiff_t out_step, const int tropical, const int vectors,
                         const int rows)
{
    fsl_vec sum[8][FSL_PANEL], column[FSL_PANEL];
    FSL_UNROLL
    for (int r = 0; r < rows; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) sum[r][v] = (fsl_vec){0} - (tropical ? INFINITY : 0.0);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) column[v] = fsl_load(m + v * FSL_WIDTH);
        m += vectors * FSL_WIDTH;
        FSL_UNROLL
        for (int r = 0; r < rows; r++) {
            const double own = a[r * a_step + i];
            FSL_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = tropical ? fsl_greater(column[v] + own, sum[r][v]) : sum[r][v] + column[v] * own;
        }
    }
    FSL_UNROLL
    for (int r = 0; r < rows; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) fsl_store(out + r * out_step + v * FSL_WIDTH, sum[r][v]);
    }
}

FSL_INLINE void fsl_panel_rows(const double *a, ptrdiff_t a_step, ptrdiff_t rows, const double *m, ptrdiff_t n,
                               double *out, ptrdiff_t out_step, const int tropical, const int vectors)
{
    for (; rows >= FSL_MOST_ROWS; rows -= FSL_MOST_ROWS, a += FSL_MOST_ROWS * a_step, out += FSL_MOST_ROWS * out_step)
        fsl_tile(a, a_step, m, n, out, out_step, tropical, vectors, FSL_MOST_ROWS);
    for (; rows >= 4; rows -= 4, a += 4 * a_step, out += 4 * out_step)
        fsl_tile(a, a_step, m, n, out, out_step, tropical, vectors, 4);
    for (; rows >= 2; rows -= 2, a += 2 * a_step, out += 2 * out_step)
        fsl_tile(a, a_step, m, n, out, out_step, tropical, vectors, 2);
    if (rows) fsl_tile(a, a_step, m, n, out, out_step, tropical, vectors, 1);
}

#define FSL_PRODUCT(name, tropical)                                                                              \
    static void name(const double *a, ptrdiff_t a_step, ptrdiff_t rows, const double *panels, ptrdiff_t n,       \
                     ptrdiff_t width, double *out, ptrdiff_t out_step)                                           \
    {                                                                                                            \
        for (ptrdiff_t start = 0; start < width; start += FSL_PANEL * FSL_WIDTH) {                               \
            const double *m = panels + start * width;                                                            \
            const ptrdiff_t vectors = (width - start) / FSL_WIDTH;                                               \
            if (vectors >= 3)                                                                                    \
                fsl_panel_rows(a, a_step, rows, m, n, out + start, out_step, tropical, 3);                       \
            else if (vectors == 2)                                                                               \
                fsl_panel_rows(a, a_step, rows, m, n, out + start, out_step, tropical, 2);                       \
            else                                                                                                 \
                fsl_panel_rows(a, a_step, rows, m, n, out + start, out_step, tropical, 1);                       \
        }                                                                                                        \
    }

/* out[r, j] = sum over i < n of a[r, i] m[i, j], for rows of a; */
FSL_PRODUCT(fsl_product, 0)
/* out[r, j] = max over i < n of a[r, i] + m[i, j]. */
FSL_PRODUCT(fsl_best, 1)

/* FSL_MOST_ROWS rows of one panel of g, plus the sum of outer products of the rows of a and b. */
FSL_INLINE void fsl_outer_tile(const double *const *a, const double *const *b, ptrdiff_t pairs, ptrdiff_t i,
                               ptrdiff_t j, double *restrict g, const int vectors)
{
    fsl_vec sum[FSL_MOST_ROWS][FSL_PANEL], column[FSL_PANEL];
    FSL_UNROLL
    for (int r = 0; r < FSL_MOST_ROWS; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) sum[r][v] = fsl_load(g + (r * vectors + v) * FSL_WIDTH);
    }
    for (ptrdiff_t k = 0; k < pairs; k++) {
        const double *restrict left = a[k] + i, *restrict right = b[k] + j;
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) column[v] = fsl_load(right + v * FSL_WIDTH);
        FSL_UNROLL
        for (int r = 0; r < FSL_MOST_ROWS; r++) {
            FSL_UNROLL
            for (int v = 0; v < vectors; v++) sum[r][v] = sum[r][v] + column[v] * left[r];
        }
    }
    FSL_UNROLL
    for (int r = 0; r < FSL_MOST_ROWS; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) fsl_store(g + (r * vectors + v) * FSL_WIDTH, sum[r][v]);
    }
}

/* g[i, j] += sum over k of a[k][i] b[k][j], g packed. */
static void fsl_outer(const double *const *a, const double *const *b, ptrdiff_t pairs, ptrdiff_t width, double *g)
{
    for (ptrdiff_t j = 0; j < width; j += FSL_PANEL * FSL_WIDTH) {
        const ptrdiff_t vectors = (width - j) / FSL_WIDTH < FSL_PANEL ? (width - j) / FSL_WIDTH : FSL_PANEL;
        for (ptrdiff_t i = 0; i < width; i += FSL_MOST_ROWS) {
            double *tile = g + j * width + i * vectors * FSL_WIDTH;
            if (vectors == 3)
                fsl_outer_tile(a, b, pairs, i, j, tile, 3);
            else if (vectors == 2)
                fsl_outer_tile(a, b, pairs, i, j, tile, 2);
            else
                fsl_outer_tile(a, b, pairs, i, j, tile, 1);
        }
    }
}

/* ---- rows --------------------------------------------------------------------------------- */

#define FSL_EACH(j, width)                                                                                       \
    for (ptrdiff_t j##_ = 0; j##_ < (width); j##_ += FSL_TAGS)                                                   \
        FSL_SIMD()                                                                                               \
        for (ptrdiff_t j = j##_; j < j##_ + FSL_TAGS; j++)

#define FSL_ROW_LOAD(real, name)                                                                                 \
    /* out = x; the row `ahead` elements on is fetched meanwhile. */                                             \
    static void fsl_load_row_##name(const real *restrict x, ptrdiff_t n, ptrdiff_t ahead, double *restrict out)  \
    {                                                                                                            \
        for (ptrdiff_t j = 0; j < n; j += 64 / sizeof(real)) FSL_PREFETCH(x + ahead + j);                        \
        FSL_SIMD()                                                                                               \
        for (ptrdiff_t j = 0; j < n; j++) out[j] = x[j];                                                         \
    }                                                                                                            \
    /* out = factor * a * b */                                                                                   \
    static void fsl_store_row_##name(const double *restrict a, const double *restrict b, double factor,          \
                                     ptrdiff_t n, real *restrict out)                                            \
    {                                                                                                            \
        FSL_SIMD()                                                                                               \
        for (ptrdiff_t j = 0; j < n; j++) out[j] = (real)(a[j] * b[j] * factor);                                 \
    }

FSL_ROW_LOAD(float, f32)
FSL_ROW_LOAD(double, f64)

/* x += y */
static void fsl_add_row(double *restrict x, const double *restrict y, ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) x[j] += y[j];
}

/* x *= factor */
static void fsl_scale_row(double *x, ptrdiff_t width, double factor)
{
    FSL_EACH(j, width) x[j] *= factor;
}

/* Eight chains of additions, whatever the vector width: the same order at every level. */
static double fsl_sum_row(const double *x, ptrdiff_t width)
{
    double sum[FSL_TAGS] = {0};
    for (ptrdiff_t i = 0; i < width; i += FSL_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_TAGS; j++) sum[j] += x[i + j];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static double fsl_dot_row(const double *restrict x, const double *restrict y, ptrdiff_t width)
{
    double sum[FSL_TAGS] = {0};
    for (ptrdiff_t i = 0; i < width; i += FSL_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_TAGS; j++) sum[j] += x[i + j] * y[i + j];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

FSL_INLINE double fsl_min64(double a, double b) { return a < b ? a : b; }

FSL_INLINE double fsl_least_of(const double *x)
{
    return fsl_min64(fsl_min64(fsl_min64(x[0], x[4]), fsl_min64(x[1], x[5])),
                     fsl_min64(fsl_min64(x[2], x[6]), fsl_min64(x[3], x[7])));
}

FSL_INLINE double fsl_greatest_of(const double *x)
{
    return fsl_max64(fsl_max64(fsl_max64(x[0], x[4]), fsl_max64(x[1], x[5])),
                     fsl_max64(fsl_max64(x[2], x[6]), fsl_max64(x[3], x[7])));
}

/* Extent of a row of scores, -inf aside; returns whether it is free of NaN and +inf. */
static int fsl_score_extent(const double *s, ptrdiff_t width, double *least, double *most)
{
    double lo[FSL_TAGS], hi[FSL_TAGS], bad[FSL_TAGS];
    for (int j = 0; j < FSL_TAGS; j++) lo[j] = INFINITY, hi[j] = -INFINITY, bad[j] = 0;
    for (ptrdiff_t i = 0; i < width; i += FSL_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_TAGS; j++) {
            const double value = s[i + j], above = value > -INFINITY ? value : INFINITY;
            lo[j] = above < lo[j] ? above : lo[j];
            hi[j] = value > hi[j] ? value : hi[j];
            bad[j] = value < INFINITY ? bad[j] : 1;
        }
    }
    *least = fsl_least_of(lo);
    *most = fsl_greatest_of(hi);
    return fsl_greatest_of(bad) == 0;
}

/* x = exp(s - shift), clamped, 0 where s is -inf. */
static void fsl_exp_row(const double *restrict s, double shift, ptrdiff_t width, double *restrict x)
{
    FSL_EACH(j, width) {
        const double d = s[j] - shift;
        const double e = fsl_exp_normal64(d < -FSL_CLAMP ? -FSL_CLAMP : d);
        x[j] = s[j] == -INFINITY ? 0.0 : e;
    }
}

/* a *= x, scaled by a power of two so that its largest entry is in [1, 2). Returns the exponent taken out, or 1e9
 * if the extent of a is beyond FSL_FLOOR. A row of zeros stays one. */
static double fsl_advance_row(double *restrict a, const double *restrict x, ptrdiff_t width)
{
    double lo[FSL_TAGS], hi[FSL_TAGS];
    for (int j = 0; j < FSL_TAGS; j++) lo[j] = INFINITY, hi[j] = 0;
    for (ptrdiff_t i = 0; i < width; i += FSL_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_TAGS; j++) {
            const double value = a[i + j] * x[i + j], above = value > 0 ? value : INFINITY;
            a[i + j] = value;
            lo[j] = above < lo[j] ? above : lo[j];
            hi[j] = value > hi[j] ? value : hi[j];
        }
    }
    const double least = fsl_least_of(lo), most = fsl_greatest_of(hi);
    if (!(most > 0)) return 0;
    const double exponent = fsl_exponent(most);
    fsl_scale_row(a, width, fsl_pow2(-exponent));
    return least < most * FSL_FLOOR ? 1e9 : exponent;
}

/* w = x * b * factor where the state is alive, that is a > 0, else 0. */
static void fsl_weigh_row(const double *restrict a, const double *restrict x, const double *restrict b,
                          double factor, ptrdiff_t width, double *restrict w)
{
    FSL_EACH(j, width) w[j] = a[j] > 0 ? x[j] * (b[j] * factor) : 0.0;
}

/* Sum of a * b where the score was clamped. */
static double fsl_clamped_mass(const double *s, double shift, const double *a, const double *b, ptrdiff_t n)
{
    double mass = 0;
    for (ptrdiff_t j = 0; j < n; j++)
        if (s[j] - shift < -FSL_CLAMP && s[j] > -INFINITY) mass += a[j] * b[j];
    return mass;
}

/* ---- log space ----------------------------------------------------------------------------- */

/* out[j] = log sum over i < n of exp(a[i] + m[i * n + j]); best and sum are rows to work in. */
static void fsl_log_product(const double *restrict a, const double *restrict m, ptrdiff_t n, double *restrict best,
                            double *restrict sum, double *restrict out)
{
    for (ptrdiff_t j = 0; j < n; j++) best[j] = -INFINITY, sum[j] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double own = a[i], *restrict row = m + i * n;
        if (own == -INFINITY) continue;
        FSL_SIMD()
        for (ptrdiff_t j = 0; j < n; j++) best[j] = own + row[j] > best[j] ? own + row[j] : best[j];
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const double own = a[i], *restrict row = m + i * n;
        if (own == -INFINITY) continue;
        FSL_SIMD()
        for (ptrdiff_t j = 0; j < n; j++)
            sum[j] += best[j] == -INFINITY ? 0.0 : fsl_exp64(own + row[j] - best[j]);
    }
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) out[j] = best[j] == -INFINITY ? -INFINITY : best[j] + fsl_log64(sum[j]);
}

/* log sum over j < n of exp(a[j] + b[j]). */
static double fsl_log_dot(const double *restrict a, const double *restrict b, ptrdiff_t n)
{
    double best = -INFINITY, sum = 0;
    for (ptrdiff_t j = 0; j < n; j++) best = a[j] + b[j] > best ? a[j] + b[j] : best;
    if (best == -INFINITY) return best;
    for (ptrdiff_t j = 0; j < n; j++) sum += fsl_exp64(a[j] + b[j] - best);
    return best + fsl_log64(sum);
}

/* out[j] += factor * exp(own + m[j] + b[j]), and without the factor to `pair`. */
static void fsl_log_pairs(double own, const double *restrict m, const double *restrict b, ptrdiff_t n, double factor,
                          double *restrict out, double *restrict pair)
{
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) {
        pair[j] = fsl_exp64(own + m[j] + b[j]);
        out[j] += factor * pair[j];
    }
}

/* ---- best paths ------------------------------------------------------------------------------ */

/* The first i < n where a[i] + b[i] is greatest: eight lanes, each with the first of its own. */
static ptrdiff_t fsl_first_best(const double *restrict a, const double *restrict b, ptrdiff_t n)
{
    const ptrdiff_t whole = n - n % FSL_TAGS;
    double best[FSL_TAGS], at[FSL_TAGS];
    double most = -INFINITY, first = 0;
    for (int j = 0; j < FSL_TAGS; j++) best[j] = -INFINITY, at[j] = 0;
    for (ptrdiff_t i = 0; i < whole; i += FSL_TAGS) {
        const double block = (double)i;
        FSL_SIMD()
        for (int j = 0; j < FSL_TAGS; j++) {
            const double sum = a[i + j] + b[i + j];
            at[j] = sum > best[j] ? block : at[j];
            best[j] = sum > best[j] ? sum : best[j];
        }
    }
    for (int j = 0; j < FSL_TAGS; j++)
        if (best[j] > most || (best[j] == most && at[j] + j < first)) most = best[j], first = at[j] + j;
    for (ptrdiff_t i = whole; i < n; i++)
        if (a[i] + b[i] > most) most = a[i] + b[i], first = (double)i;
    return (ptrdiff_t)first;
}

#endif
