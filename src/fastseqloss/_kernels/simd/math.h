/* Bit operations, exp, log and exact sums of single numbers.
 *
 * The functions are scalar code for loops marked FSL_SIMD, which compilers vectorise: one source for all instruction
 * sets, and the same polynomials on all platforms. */
#ifndef FASTSEQLOSS_MATH_H
#define FASTSEQLOSS_MATH_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/compiler.h"

#define FSL_LOG2E 1.442695040888963407

/* ---- bit operations ----------------------------------------------------------------------- */

FSL_INLINE uint64_t fsl_bits64(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
FSL_INLINE double fsl_from64(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
FSL_INLINE uint32_t fsl_bits32(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
FSL_INLINE float fsl_from32(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }

FSL_INLINE double fsl_max64(double a, double b) { return a > b ? a : b; }
FSL_INLINE double fsl_min64(double a, double b) { return a < b ? a : b; }

/* 2^n for an integral n. Adding 1.5 * 2^52 leaves the integer in the low mantissa bits, a conversion available in
 * every instruction set. Below -1022 the result is exactly 0. */
FSL_INLINE double fsl_pow2(double n)
{
    n = n < -1023.0 ? -1023.0 : n;
    n = n > 1023.0 ? 1023.0 : n;
    return fsl_from64(fsl_bits64(n + (6755399441055744.0 + 1023.0)) << 52);
}

/* The same for n <= 0. */
FSL_INLINE double fsl_pow2_negative(double n)
{
    n = n < -1023.0 ? -1023.0 : n;
    return fsl_from64(fsl_bits64(n + (6755399441055744.0 + 1023.0)) << 52);
}

/* ---- exp and log ------------------------------------------------------------------------
 * exp(x) = 2^k exp(r), |r| <= ln(2)/2, with ln 2 split so that k * (leading parts) is exact; 2^k is applied in two
 * halves, so that results round once into the subnormals and overflow to inf. */

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
    const double k = rint(x * FSL_LOG2E);
    const double half = rint(k * 0.5);
    return fsl_exp_reduced64(fsl_reduce64(x, k)) * fsl_pow2(half) * fsl_pow2(k - half);
}

/* exp(x) where x and the result are normal, -708 <= x <= 709, at half the cost. Adding 1.5 * 2^52 rounds to an integer
 * and leaves it in the low bits. */
FSL_INLINE double fsl_exp_normal64(double x)
{
    const double z = x * FSL_LOG2E + (6755399441055744.0 + 1023.0);
    const double k = z - (6755399441055744.0 + 1023.0);
    return fsl_exp_reduced64(fsl_reduce64(x, k)) * fsl_from64(fsl_bits64(z) << 52);
}

/* 2^t for |t| <= 1/2, to 4.7e-11: enough for weights and probabilities of float32 logits. */
FSL_INLINE double fsl_exp2_brief(double t)
{
    double p = 1.5196157307555667e-05;
    p = p * t + 1.5466756306214968e-4;
    p = p * t + 0.0013333935052160309;
    p = p * t + 0.0096180381321009298;
    p = p * t + 0.05550410365995892;
    p = p * t + 0.24022651066560749;
    p = p * t + 0.69314718070453107;
    return p * t + 1.0;
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
    return 1.0f + (r + r * r * p); /* in this order, because Horner's scheme without FMA loses 1.2 ULP */
}

FSL_INLINE float fsl_exp32(float x)
{
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float k = rintf(x * (float)FSL_LOG2E);
    const float half = rintf(k * 0.5f);
    const float first = fsl_from32(fsl_bits32(half + (12582912.0f + 127.0f)) << 23);
    const float second = fsl_from32(fsl_bits32(k - half + (12582912.0f + 127.0f)) << 23);
    return fsl_exp_reduced32(x, k) * first * second;
}

/* exp(x) = 2^k 2^t for -88 <= x <= 88, t = x log2(e) - k, with two operations fewer. Relative to exp(x), the error is
 * at most 1.25 |x| 2^-24, from the rounding of log2(e) and of its product with x, plus 2^-23; it stays under 8e-8 for
 * x <= 0, and the result at 0 is exactly 1. Below -87.68, k is -127, and the factor 2^k has exponent
 * bits 0 and is 0. */
FSL_INLINE float fsl_exp_normal32(float x)
{
    const float z = x * (float)FSL_LOG2E + (12582912.0f + 127.0f);
    const float t = x * (float)FSL_LOG2E - (z - (12582912.0f + 127.0f));
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

/* sum += x with the rounding error added to rest; only the addition to rest is rounded. */
FSL_INLINE void fsl_add_exactly(double *sum, double *rest, double x)
{
    const double total = *sum + x, part = total - *sum;
    const double error = (*sum - (total - part)) + (x - part);
    *rest += total - total == 0 ? error : 0;
    *sum = total;
}

#endif
