/* SIMD primitives shared by all kernels: bit tricks, exp, log, and the passes over one row.
 *
 * Scalar code in loops marked `omp simd`: one source for every instruction set, and the same
 * polynomials on every platform. It relies on strict IEEE semantics: build it without -ffast-math,
 * -fassociative-math or -ffinite-math-only. */
#ifndef FASTSEQLOSS_VECTOR_H
#define FASTSEQLOSS_VECTOR_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What standard C lacks. FSL_STANDARD_C leaves it out, to try here what other compilers get. */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(FSL_STANDARD_C)
#define FSL_GNU 1
#define FSL_PRAGMA(text) _Pragma(#text)
#define FSL_INLINE static inline __attribute__((always_inline))
#define FSL_SIMD(clauses) FSL_PRAGMA(omp simd clauses)
#define FSL_PREFETCH(address) __builtin_prefetch(address)
#define FSL_PREFETCH_WRITE(address) __builtin_prefetch(address, 1)
#define FSL_UNUSED __attribute__((unused)) /* not every module calls it */
#define FSL_OPAQUE(variable) __asm__("" : "+m"(variable)) /* the compiler may not assume its value */
#else
#define FSL_GNU 0
#ifdef _MSC_VER
#define FSL_INLINE static __forceinline
#else
#define FSL_INLINE static inline
#endif
#define FSL_SIMD(clauses)
#define FSL_PREFETCH(address) ((void)0)
#define FSL_PREFETCH_WRITE(address) ((void)0)
#define FSL_UNUSED
#define FSL_OPAQUE(variable) ((void)0)
#endif

/* Clang begins `max` at the least finite number, which is too much where all there is is -inf. */
#if defined(__clang__) && FSL_GNU
#define FSL_MAX fsl_max
#define FSL_MIN fsl_min
FSL_PRAGMA(omp declare reduction(fsl_max : float, double : omp_out = omp_in > omp_out ? omp_in : omp_out) \
           initializer(omp_priv = -INFINITY))
FSL_PRAGMA(omp declare reduction(fsl_min : float, double : omp_out = omp_in < omp_out ? omp_in : omp_out) \
           initializer(omp_priv = INFINITY))
#else
#define FSL_MAX max
#define FSL_MIN min
#endif

/* ---- bit tricks ------------------------------------------------------------------------- */

FSL_INLINE uint64_t fsl_bits64(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
FSL_INLINE double fsl_from64(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
FSL_INLINE uint32_t fsl_bits32(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
FSL_INLINE float fsl_from32(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }

FSL_INLINE double fsl_max64(double a, double b) { return a > b ? a : b; }

/* 2^n for an integral n. Adding 1.5 * 2^52 leaves the integer in the low mantissa bits, a conversion
 * that every instruction set has. Below -1022 the result is exactly 0. */
FSL_INLINE double fsl_pow2(double n)
{
    n = n < -1023.0 ? -1023.0 : n;
    n = n > 1023.0 ? 1023.0 : n;
    return fsl_from64(fsl_bits64(n + (6755399441055744.0 + 1023.0)) << 52);
}

/* floor(log2 x) of a positive normal x; -1023 for zero and subnormals. */
FSL_INLINE double fsl_exponent(double x)
{
    return fsl_from64((fsl_bits64(x) >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
}

/* x / 2^exponent(x), in [1, 2), of a positive normal x. */
FSL_INLINE double fsl_mantissa(double x)
{
    return fsl_from64((fsl_bits64(x) & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
}

/* ---- exp and log ------------------------------------------------------------------------
 * exp(x) = 2^k exp(r), |r| <= ln(2)/2, ln 2 split so that k * (leading parts) is exact; 2^k is applied
 * in two halves, so that results round once into the subnormals and overflow to inf. */

FSL_INLINE double fsl_exp_reduced64(double r)
{
    const double s = r * r;
    const double a = 0.5 + r * 0.16666666666666667;
    const double b = 0.041666666666666669783 + r * 0.0083333333333260831202;
    const double c = 0.0013888888888883711167 + r * 0.00019841269875002278793;
    const double d = 0.0000248015873256774619 + r * 2.7557255170000887438e-6;
    const double e = 2.7557273478718580474e-7 + r * (2.5105312729622101787e-8 + r * 2.09147553258932022e-9);
    return 1.0 + (r + s * (a + s * (b + s * (c + s * (d + s * e)))));
}

FSL_INLINE double fsl_reduce64(double x, double k)
{
    x = x - k * 0x1.62e42f8000000p-1;
    x = x - k * 0x1.be8e7b8000000p-27;
    return x - k * 0x1.35793c7673008p-53;
}

FSL_INLINE double fsl_exp64(double x)
{
    x = x < -746.0 ? -746.0 : x;
    x = x > 710.0 ? 710.0 : x;
    const double k = rint(x * 1.442695040888963407);
    const double half = rint(k * 0.5);
    return fsl_exp_reduced64(fsl_reduce64(x, k)) * fsl_pow2(half) * fsl_pow2(k - half);
}

/* exp(x) where x and the result are normal, -708 <= x <= 709: half the work. Adding 1.5 * 2^52 rounds to an
 * integer and leaves it in the low bits. */
FSL_INLINE double fsl_exp_normal64(double x)
{
    const double z = x * 1.442695040888963407 + (6755399441055744.0 + 1023.0);
    const double k = z - (6755399441055744.0 + 1023.0);
    return fsl_exp_reduced64(fsl_reduce64(x, k)) * fsl_from64(fsl_bits64(z) << 52);
}

FSL_INLINE float fsl_exp_reduced32(float x, float k)
{
    float r = x - k * 0.693145751953125f;
    r = r - k * 1.42860682e-6f;
    float p = 0.0001979030853524496f;
    p = p * r + 0.001394470495551538f;
    p = p * r + 0.008333497329347442f;
    p = p * r + 0.041666294341781f;
    p = p * r + 0.16666665867008154f;
    p = p * r + 0.5000000067847867f;
    return 1.0f + (r + r * r * p); /* this order, since without FMA plain Horner loses 1.2 ULP */
}

FSL_INLINE float fsl_exp32(float x)
{
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float k = rintf(x * 1.44269504f);
    const float half = rintf(k * 0.5f);
    const float first = fsl_from32(fsl_bits32(half + (12582912.0f + 127.0f)) << 23);
    const float second = fsl_from32(fsl_bits32(k - half + (12582912.0f + 127.0f)) << 23);
    return fsl_exp_reduced32(x, k) * first * second;
}

/* exp(x) = 2^k 2^t for -88 <= x <= 88, t = x log2(e) - k: two operations fewer. The rounding of x log2(e)
 * is an error of |x| 2^-25 relative to exp(x), so the error stays under 7e-8 for x <= 0; 1 at 0 exactly.
 * Below -87.68 k is -127 and the factor 2^k, its exponent bits 0, is 0. */
FSL_INLINE float fsl_exp_normal32(float x)
{
    const float z = x * 1.44269504f + (12582912.0f + 127.0f);
    const float t = x * 1.44269504f - (z - (12582912.0f + 127.0f));
    float p = 0.000153533557f;
    p = p * t + 0.00133988772f;
    p = p * t + 0.00961843741f;
    p = p * t + 0.0555033246f;
    p = p * t + 0.240226479f;
    p = p * t + 0.693147203f;
    return (p * t + 1.0f) * fsl_from32(fsl_bits32(z) << 23);
}

/* log x = k ln 2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)): with s = f / (2 + f),
 * log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))). */
FSL_INLINE double fsl_log64(double x)
{
    const int tiny = x < 0x1p-1022;
    const double scaled = tiny ? x * 0x1p54 : x;
    const uint64_t shifted = fsl_bits64(scaled) + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu);
    double k = fsl_from64((shifted >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    const double f = fsl_from64((shifted & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu) - 1.0;
    k = tiny ? k - 54.0 : k;
    const double s = f / (2.0 + f), z = s * s, h = 0.5 * f * f;
    double p = 0.13089445145246311412;
    p = p * z + 0.13268503312794760136;
    p = p * z + 0.15386249788196104628;
    p = p * z + 0.18181795454526501038;
    p = p * z + 0.22222222393452627488;
    p = p * z + 0.28571428570795934749;
    p = p * z + 0.40000000000000889534;
    p = p * z + 0.66666666666666666462;
    double y = k * 6.93147180369123816490e-01 - ((h - (s * (h + z * p) + k * 1.90821492927058770002e-10)) - f);
    y = x == 0.0 ? -INFINITY : y;
    y = x == INFINITY ? INFINITY : y;
    return x >= 0.0 ? y : NAN;
}

FSL_INLINE float fsl_log32(float x)
{
    const int tiny = x < 0x1p-126f;
    const float scaled = tiny ? x * 0x1p24f : x;
    const uint32_t shifted = fsl_bits32(scaled) + (0x3F800000u - 0x3F3504F3u);
    float k = (float)(int32_t)(shifted >> 23) - 127.0f;
    const float f = fsl_from32((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    k = tiny ? k - 24.0f : k;
    const float s = f / (2.0f + f), z = s * s, h = 0.5f * f * f;
    float p = 0.23332762955117523064f;
    p = p * z + 0.28550736363107811511f;
    p = p * z + 0.40000122584957254503f;
    p = p * z + 0.66666666553585081152f;
    float y = k * 6.9313812256e-01f - ((h - (s * (h + z * p) + k * 9.0580006145e-06f)) - f);
    y = x == 0.0f ? -INFINITY : y;
    y = x == INFINITY ? INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* ---- sums -------------------------------------------------------------------------------- */

/* sum += x, exactly but for the rounding of rest. */
FSL_INLINE void fsl_add_exactly(double *sum, double *rest, double x)
{
    const double total = *sum + x, part = total - *sum;
    const double error = (*sum - (total - part)) + (x - part);
    *rest += total - total == 0 ? error : 0;
    *sum = total;
}

/* ---- one row of logits ------------------------------------------------------------------
 * Rows are walked in whole vectors of FSL_LANES; the last, partial one goes through a copy filled up with
 * -inf, so that no scalar exp is left over.
 *
 * Sums are kept in float32 lanes (of float32 rows) for blocks of FSL_BLOCK terms, then added in float64. Near
 * the 1 that the maximum contributes a lane loses 6e-8 with each term, which the logarithm of a sum near 1
 * would show: until the sum has reached 2, blocks of any weight are added up again in float64.
 *
 * exp(x - m) is 0 below the normal numbers: no loss and no gradient can tell. */

#define FSL_LANES 16
#define FSL_BLOCK 256

#define FSL_ROW_FUNCTIONS(real, name, exp_normal_, lowest, large)                                          \
    /* exp(d) for d <= 0. At `floor`, which is `lowest`, the factor 2^k has exponent bits 0: it is 0. Were \
     * the floor a constant, compilers would fold exp(floor) and make a branch, or masks, of it. */        \
    FSL_INLINE real fsl_exp_floored_##name(real d, real floor) { return exp_normal_(d < floor ? floor : d); } \
                                                                                                           \
    /* Maximum; 0 if all are -inf. NaN is passed over. */                                                  \
    FSL_INLINE real fsl_row_max_##name(const real *x, ptrdiff_t n)                                         \
    {                                                                                                      \
        const ptrdiff_t whole = n - n % FSL_LANES;                                                         \
        real most = -(real)INFINITY;                                                                       \
        FSL_SIMD(reduction(FSL_MAX : most))                                                                \
        for (ptrdiff_t i = 0; i < whole; i++) most = x[i] > most ? x[i] : most;                            \
        for (ptrdiff_t i = whole; i < n; i++) most = x[i] > most ? x[i] : most;                            \
        return most == -(real)INFINITY ? 0 : most;                                                         \
    }                                                                                                      \
    /* out = exp(x - m) for n (whole vectors), unless NULL (then it is not stored); their sum. */          \
    FSL_INLINE double fsl_block_exp_##name(const real *x, ptrdiff_t n, real m, real floor, real *out,      \
                                           const char *next, char *later, ptrdiff_t size)                  \
    {                                                                                                      \
        real lanes[FSL_LANES];                                                                             \
        double sum = 0;                                                                                    \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;                                                  \
        for (ptrdiff_t j = 0; j < n; j += FSL_LANES) {                                                     \
            FSL_PREFETCH(next + j * size);                                                                 \
            FSL_PREFETCH_WRITE(later + j * size);                                                          \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                const real e = fsl_exp_floored_##name(x[j + i] - m, floor);                                \
                out[j + i] = e;                                                                            \
                lanes[i] += e;                                                                             \
            }                                                                                              \
        }                                                                                                  \
        FSL_SIMD(reduction(+ : sum))                                                                       \
        for (int i = 0; i < FSL_LANES; i++) sum += (double)lanes[i];                                       \
        return sum;                                                                                        \
    }                                                                                                      \
    FSL_INLINE double fsl_sum_##name(const real *x, ptrdiff_t n)                                           \
    {                                                                                                      \
        double sum = 0;                                                                                    \
        FSL_SIMD(reduction(+ : sum))                                                                       \
        for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i];                                             \
        return sum;                                                                                        \
    }                                                                                                      \
    /* In float64, of whole vectors: lane by lane, so that few roundings add up in every build. */         \
    FSL_INLINE double fsl_block_sum_##name(const real *x, ptrdiff_t n)                                     \
    {                                                                                                      \
        double lanes[FSL_LANES], sum = 0;                                                                  \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;                                                  \
        for (ptrdiff_t j = 0; j < n; j += FSL_LANES) {                                                     \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] += (double)x[j + i];                              \
        }                                                                                                  \
        FSL_SIMD(reduction(+ : sum))                                                                       \
        for (int i = 0; i < FSL_LANES; i++) sum += lanes[i];                                               \
        return sum;                                                                                        \
    }                                                                                                      \
    /* The last n % FSL_LANES entries of a row, at the end of a vector that begins with -inf. */           \
    FSL_INLINE void fsl_tail_##name(const real *x, ptrdiff_t n, real *tail)                                \
    {                                                                                                      \
        const int rest = (int)(n % FSL_LANES);                                                             \
        if (n < FSL_LANES) {                                                                               \
            for (int i = 0; i < FSL_LANES; i++) tail[i] = -(real)INFINITY;                                 \
            for (int i = 0; i < rest; i++) tail[FSL_LANES - rest + i] = x[i];                              \
            return;                                                                                        \
        }                                                                                                  \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_LANES; i++)                                                                \
            tail[i] = i < FSL_LANES - rest ? -(real)INFINITY : x[n - FSL_LANES + i];                       \
    }                                                                                                      \
    FSL_INLINE void fsl_put_tail_##name(const real *tail, ptrdiff_t n, real *out)                          \
    {                                                                                                      \
        const int rest = (int)(n % FSL_LANES);                                                             \
        if (n < FSL_LANES) {                                                                               \
            for (int i = 0; i < rest; i++) out[i] = tail[FSL_LANES - rest + i];                            \
            return;                                                                                        \
        }                                                                                                  \
        real *last = out + n - FSL_LANES;                                                                  \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_LANES; i++) last[i] = i < FSL_LANES - rest ? last[i] : tail[i];            \
    }                                                                                                      \
    /* Sum of exp(x - m); out, unless NULL, is exp(x - m) and may be x. Fetched meanwhile, since finding a \
     * maximum or scaling is too short a work to hide the memory behind: the row that comes `next`, and that   \
     * which will be written `later`, both of elements of that size. */                                    \
    FSL_UNUSED static double fsl_row_exp_##name(const real *x, ptrdiff_t n, real m, real *out, const char *next, \
                                                char *later, ptrdiff_t size)                               \
    {                                                                                                      \
        const ptrdiff_t whole = n - n % FSL_LANES;                                                         \
        real tail[FSL_LANES], unseen[FSL_BLOCK], floor = lowest;                                           \
        double total = 0;                                                                                  \
        FSL_OPAQUE(floor);                                                                                 \
        if (whole < n) fsl_tail_##name(x, n, tail);                                                        \
        for (ptrdiff_t start = 0; start < whole; start += FSL_BLOCK) {                                     \
            const ptrdiff_t n_block = start + FSL_BLOCK < whole ? FSL_BLOCK : whole - start;               \
            real *e = out ? out + start : unseen;                                                          \
            double sum = fsl_block_exp_##name(x + start, n_block, m, floor, e, next + start * size,        \
                                              later + start * size, size);                                 \
            if (total < 2 && sum >= 0.5) sum = fsl_block_sum_##name(e, n_block);                           \
            total += sum;                                                                                  \
        }                                                                                                  \
        if (whole < n) {                                                                                   \
            fsl_block_exp_##name(tail, FSL_LANES, m, floor, tail, next, later, 0);                         \
            if (out) fsl_put_tail_##name(tail, n, out);                                                    \
            total += fsl_block_sum_##name(tail, FSL_LANES);                                                \
        }                                                                                                  \
        return total;                                                                                      \
    }                                                                                                      \
    /* A factor that float32 may not hold: its product with what is tiny, or 0, need not be infinite. */   \
    FSL_INLINE int fsl_is_large_##name(double factor) { return fabs(factor) > large; }                     \
    FSL_INLINE void fsl_row_scale_##name(real *x, ptrdiff_t n, double factor)                              \
    {                                                                                                      \
        const ptrdiff_t whole = n / FSL_LANES;                                                             \
        const real scale = (real)factor;                                                                   \
        if (fsl_is_large_##name(factor)) {                                                                 \
            for (ptrdiff_t i = 0; i < n; i++) x[i] = (real)(factor * (double)x[i]);                        \
            return;                                                                                        \
        }                                                                                                  \
        FSL_SIMD()                                                                                         \
        for (ptrdiff_t i = 0; i < whole * FSL_LANES; i++) x[i] *= scale;                                   \
        for (ptrdiff_t i = whole * FSL_LANES; i < n; i++) x[i] *= scale;                                   \
    }                                                                                                      \
    /* The dense row pass: maximum and sum of exp(x - maximum); out, unless NULL, is scale * softmax(x). A \
     * row of -inf alone has maximum 0, sum 0 and softmax 0. The next row is `ahead` elements on. */       \
    FSL_UNUSED static void fsl_softmax_row_##name(const real *x, ptrdiff_t n, real *out, double scale,     \
                                                  ptrdiff_t ahead, double *row_max, double *row_sum)       \
    {                                                                                                      \
        const real m = fsl_row_max_##name(x, n);                                                           \
        *row_max = m;                                                                                      \
        *row_sum = fsl_row_exp_##name(x, n, m, out, (const char *)(x + ahead), (char *)out, sizeof(real));               \
        if (out) fsl_row_scale_##name(out, n, *row_sum == 0 ? 0 : scale / *row_sum);                       \
    }

FSL_ROW_FUNCTIONS(float, f32, fsl_exp_normal32, -88.0f, 0x1p64)
FSL_ROW_FUNCTIONS(double, f64, fsl_exp_normal64, -709.0, INFINITY)

#endif
