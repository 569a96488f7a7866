/* The arithmetic under loss.pyx: rows of tags.
 *
 * Rows hold `width` float64 entries, a multiple of FSL_CRF_TAGS; entries beyond the number of tags are 0 (scores:
 * -inf). Several sequences process a frame together, so a step of the recursion is a matrix product (simd/matrix.h). */
#ifndef FASTSEQLOSS_CRF_LATTICE_H
#define FASTSEQLOSS_CRF_LATTICE_H

#include "lattice/extended_range.h"
#include "simd/matrix.h"

#define FSL_CRF_TAGS 8
/* Range of potentials below the largest of their kind, in binary orders of magnitude; lower potentials are clamped to
 * it, and the sum over paths through clamped potentials must be negligible. With one clamped transition and one clamped
 * emission per frame, a state falls by less than 2^500, and a further step by 2^480 does not underflow. */
#define FSL_CRF_RANGE 240.0
#define FSL_CRF_CLAMP (FSL_CRF_RANGE * FSL_LN2)
#define FSL_CRF_FLOOR 0x1p-500
/* Starts and ends within this bound, and their sums with an emission within it, round by less than 2^-31. */
#define FSL_CRF_SMALL 0x1p18
/* Share of clamped paths per frame that is negligible even for a million frames; and the same bound for clamped
 * transitions, in terms of the product of the sums of the rows on both sides, of which they are a share of 2^-240. */
#define FSL_CRF_CLAMPED_SHARE 0x1p-80
#define FSL_CRF_CLAMPED_SUMS 0x1p160

/* ---- rows --------------------------------------------------------------------------------- */

/* The mask tells the compiler that no element is left over. */
#define FSL_CRF_EACH(j, width) \
    FSL_SIMD()                 \
    for (ptrdiff_t j = 0; j < ((width) & -FSL_CRF_TAGS); j++)

#define FSL_CRF_ROW_LOAD(real, name)                                                                                \
    /* out = x; prefetches the row `ahead` elements further. */                                                     \
    static void fsl_crf_load_row_##name(const real *restrict x, ptrdiff_t n, ptrdiff_t ahead, double *restrict out) \
    {                                                                                                               \
        for (ptrdiff_t j = 0; j < n; j += 64 / sizeof(real)) FSL_PREFETCH(x + ahead + j);                           \
        FSL_SIMD()                                                                                                  \
        for (ptrdiff_t j = 0; j < n; j++) out[j] = x[j];                                                            \
    }                                                                                                               \
    /* out = factor * a * b */                                                                                      \
    static void fsl_crf_store_row_##name(const double *restrict a, const double *restrict b, double factor,         \
                                     ptrdiff_t n, real *restrict out)                                               \
    {                                                                                                               \
        FSL_SIMD()                                                                                                  \
        for (ptrdiff_t j = 0; j < n; j++) out[j] = (real)(a[j] * b[j] * factor);                                    \
    }

FSL_CRF_ROW_LOAD(float, f32)
FSL_CRF_ROW_LOAD(double, f64)

/* x += y */
static void fsl_crf_add_row(double *restrict x, const double *restrict y, ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) x[j] += y[j];
}

/* x *= factor */
static void fsl_crf_scale_row(double *x, ptrdiff_t width, double factor)
{
    FSL_CRF_EACH(j, width) x[j] *= factor;
}

/* Sum of a row in eight chains of additions for any vector width: the same order on every CPU level. */
static double fsl_crf_sum_row(const double *x, ptrdiff_t width)
{
    double sum[FSL_CRF_TAGS] = {0};
    for (ptrdiff_t i = 0; i < width; i += FSL_CRF_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_CRF_TAGS; j++) sum[j] += x[i + j];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static double fsl_crf_dot_row(const double *restrict x, const double *restrict y, ptrdiff_t width)
{
    double sum[FSL_CRF_TAGS] = {0};
    for (ptrdiff_t i = 0; i < width; i += FSL_CRF_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_CRF_TAGS; j++) sum[j] += x[i + j] * y[i + j];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

FSL_INLINE double fsl_crf_least_of(const double *x)
{
    return fsl_min64(fsl_min64(fsl_min64(x[0], x[4]), fsl_min64(x[1], x[5])),
                     fsl_min64(fsl_min64(x[2], x[6]), fsl_min64(x[3], x[7])));
}

FSL_INLINE double fsl_crf_greatest_of(const double *x)
{
    return fsl_max64(fsl_max64(fsl_max64(x[0], x[4]), fsl_max64(x[1], x[5])),
                     fsl_max64(fsl_max64(x[2], x[6]), fsl_max64(x[3], x[7])));
}

/* Least and greatest finite score of a row; returns 1 if the row contains neither NaN nor +inf. */
static int fsl_crf_score_extent(const double *s, ptrdiff_t width, double *least, double *most)
{
    double lo[FSL_CRF_TAGS], hi[FSL_CRF_TAGS], bad[FSL_CRF_TAGS];
    for (int j = 0; j < FSL_CRF_TAGS; j++) lo[j] = INFINITY, hi[j] = -INFINITY, bad[j] = 0;
    for (ptrdiff_t i = 0; i < width; i += FSL_CRF_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_CRF_TAGS; j++) {
            const double value = s[i + j], above = value > -INFINITY ? value : INFINITY;
            lo[j] = above < lo[j] ? above : lo[j];
            hi[j] = value > hi[j] ? value : hi[j];
            bad[j] = value < INFINITY ? bad[j] : 1;
        }
    }
    *least = fsl_crf_least_of(lo);
    *most = fsl_crf_greatest_of(hi);
    return fsl_crf_greatest_of(bad) == 0;
}

/* x = exp(s - shift), clamped; 0 where s is -inf. */
static void fsl_crf_exp_row(const double *restrict s, double shift, ptrdiff_t width, double *restrict x)
{
    FSL_CRF_EACH(j, width) {
        const double d = s[j] - shift;
        const double e = fsl_exp_normal64(d < -FSL_CRF_CLAMP ? -FSL_CRF_CLAMP : d);
        x[j] = s[j] == -INFINITY ? 0.0 : e;
    }
}

/* factors = exp(s); clamped = the same with finite s raised to -FSL_CRF_CLAMP. Returns 1 if one was raised. */
static int fsl_crf_factor_row(const double *restrict s, ptrdiff_t n, double *restrict factors, double *restrict clamped)
{
    const double bound = fsl_exp64(-FSL_CRF_CLAMP);
    double raised = 0;
    FSL_SIMD(reduction(+ : raised))
    for (ptrdiff_t i = 0; i < n; i++) {
        const double e = fsl_exp64(s[i]), below = s[i] < -FSL_CRF_CLAMP ? 1.0 : 0.0;
        const double low = s[i] > -INFINITY ? below : 0.0;
        factors[i] = e;
        clamped[i] = low > 0 ? bound : e;
        raised += low;
    }
    return raised > 0;
}

/* a *= x, scaled by a power of two so that the largest entry is in [1, 2). Returns the exponent removed, or 1e9 if the
 * range of a exceeds FSL_CRF_FLOOR. A row of zeros stays unchanged. */
static double fsl_crf_advance_row(double *restrict a, const double *restrict x, ptrdiff_t width)
{
    double lo[FSL_CRF_TAGS], hi[FSL_CRF_TAGS];
    for (int j = 0; j < FSL_CRF_TAGS; j++) lo[j] = INFINITY, hi[j] = 0;
    for (ptrdiff_t i = 0; i < width; i += FSL_CRF_TAGS) {
        FSL_SIMD()
        for (int j = 0; j < FSL_CRF_TAGS; j++) {
            const double value = a[i + j] * x[i + j], above = value > 0 ? value : INFINITY;
            a[i + j] = value;
            lo[j] = above < lo[j] ? above : lo[j];
            hi[j] = value > hi[j] ? value : hi[j];
        }
    }
    const double least = fsl_crf_least_of(lo), most = fsl_crf_greatest_of(hi);
    if (!(most > 0)) return 0;
    const double exponent = fsl_exponent(most);
    fsl_crf_scale_row(a, width, fsl_pow2(-exponent));
    return least < most * FSL_CRF_FLOOR ? 1e9 : exponent;
}

/* w = x * b * factor for reachable states, which have a > 0, else 0. */
static void fsl_crf_weigh_row(const double *restrict a, const double *restrict x, const double *restrict b,
                              double factor, ptrdiff_t width, double *restrict w)
{
    FSL_CRF_EACH(j, width) w[j] = a[j] > 0 ? x[j] * (b[j] * factor) : 0.0;
}

/* Sum of a * b where the score was clamped. */
static double fsl_crf_clamped_mass(const double *s, double shift, const double *a, const double *b, ptrdiff_t n)
{
    double mass = 0;
    for (ptrdiff_t j = 0; j < n; j++)
        if (s[j] - shift < -FSL_CRF_CLAMP && s[j] > -INFINITY) mass += a[j] * b[j];
    return mass;
}

/* ---- log space ----------------------------------------------------------------------------- */

/* out[j] = log sum over i < n of exp(a[i] + m[i * n + j]); best and sum are buffers of one row. */
static void fsl_crf_log_product(const double *restrict a, const double *restrict m, ptrdiff_t n, double *restrict best,
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
static double fsl_crf_log_dot(const double *restrict a, const double *restrict b, ptrdiff_t n)
{
    double best = -INFINITY, sum = 0;
    for (ptrdiff_t j = 0; j < n; j++) best = a[j] + b[j] > best ? a[j] + b[j] : best;
    if (best == -INFINITY) return best;
    for (ptrdiff_t j = 0; j < n; j++) sum += fsl_exp64(a[j] + b[j] - best);
    return best + fsl_log64(sum);
}

/* out[j] += factor * exp(own + m[j] + b[j]); the exponentials are also stored in `pair`. */
static void fsl_crf_log_pairs(double own, const double *restrict m, const double *restrict b, ptrdiff_t n,
                              double factor, double *restrict out, double *restrict pair)
{
    FSL_SIMD()
    for (ptrdiff_t j = 0; j < n; j++) {
        pair[j] = fsl_exp64(own + m[j] + b[j]);
        out[j] += factor * pair[j];
    }
}

/* ---- best paths ------------------------------------------------------------------------------ */

/* First i < n with the greatest a[i] + b[i], from eight lanes, each with its own first maximum. */
static ptrdiff_t fsl_crf_first_best(const double *restrict a, const double *restrict b, ptrdiff_t n)
{
    const ptrdiff_t whole = n - n % FSL_CRF_TAGS;
    double best[FSL_CRF_TAGS], at[FSL_CRF_TAGS];
    double most = -INFINITY, first = 0;
    for (int j = 0; j < FSL_CRF_TAGS; j++) best[j] = -INFINITY, at[j] = 0;
    for (ptrdiff_t i = 0; i < whole; i += FSL_CRF_TAGS) {
        const double block = (double)i;
        FSL_SIMD()
        for (int j = 0; j < FSL_CRF_TAGS; j++) {
            const double sum = a[i + j] + b[i + j];
            at[j] = sum > best[j] ? block : at[j];
            best[j] = sum > best[j] ? sum : best[j];
        }
    }
    for (int j = 0; j < FSL_CRF_TAGS; j++)
        if (best[j] > most || (best[j] == most && at[j] + j < first)) most = best[j], first = at[j] + j;
    for (ptrdiff_t i = whole; i < n; i++)
        if (a[i] + b[i] > most) most = a[i] + b[i], first = (double)i;
    return (ptrdiff_t)first;
}

#endif
