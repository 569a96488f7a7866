/* Extended range: the numbers of a lattice as v * 2^e, v a float64 and e an integer kept in a float64.
 *
 * A sum over paths is carried as mantissa and exponent instead of as a logarithm: additions are additions, with
 * neither exp nor log in the recursion, and the logarithm is taken once, of the total. Exponents are either those of
 * each number (the general form), or fixed for some frames at a time and refreshed in between. */
#ifndef FASTSEQLOSS_EXTENDED_RANGE_H
#define FASTSEQLOSS_EXTENDED_RANGE_H

#include "simd/math.h"

#define FSL_LN2 0.693147180559945309417
#define FSL_DEAD -1.7e308 /* the exponent of 0 */
#define FSL_ALIVE(e) ((e) > 0.5 * FSL_DEAD)

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

/* ---- one number ---------------------------------------------------------------------------- */

/* Exponent of v * 2^e after normalisation of v to [1, 2). */
FSL_INLINE double fsl_own_exponent(double v, double e) { return v > 0 ? e + fsl_exponent(v) : FSL_DEAD; }

/* sum * 2^exponent with its mantissa in [1, 2). */
FSL_INLINE void fsl_normalise(double sum, double exponent, double *v, double *e)
{
    *v = sum > 0 ? fsl_mantissa(sum) : 0.0;
    *e = fsl_own_exponent(sum, exponent);
}

/* log(v 2^e) of a positive v. */
FSL_INLINE double fsl_log_extended(double v, double e) { return fsl_log64(v) + FSL_LN2 * e; }

/* The larger exponent of two numbers, of which one may be 0. */
FSL_INLINE double fsl_larger_exponent(double a, double ea, double b, double eb)
{
    return fsl_max64(a > 0 ? ea : FSL_DEAD, b > 0 ? eb : FSL_DEAD);
}

/* log(a 2^ea + b 2^eb), of numbers not both 0. */
FSL_INLINE double fsl_log_total(double a, double ea, double b, double eb)
{
    const double unit = fsl_larger_exponent(a, ea, b, eb);
    return unit * FSL_LN2 + fsl_log64(a * fsl_pow2(ea - unit) + b * fsl_pow2(eb - unit));
}

/* ---- emissions ----------------------------------------------------------------------------- */

/* exp(z) is fsl_split_mantissa(z, k) * 2^k with k = fsl_split_exponent(z); the power of two is not computed. It is 0 if
 * k is DEAD. */
FSL_INLINE double fsl_split_exponent(double z) { return fsl_max64(rint(z * FSL_LOG2E), FSL_DEAD); }

FSL_INLINE double fsl_split_mantissa(double z, double k)
{
    /* beyond 2^27 neither this reduction nor a difference z of large scores is exact */
    double r = fsl_reduce64(z, k);
    r = r > 0.35 ? 0.35 : r;
    r = r < -0.35 ? -0.35 : r;
    return FSL_ALIVE(k) ? fsl_exp_reduced64(r) : 0.0;
}

/* exp(x - shift) as m * 2^e, whose exponent is 0 if it is 0. */
FSL_UNUSED static void fsl_split_exp(const double *restrict x, ptrdiff_t n, double shift, double *restrict m,
                                     double *restrict e)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const double z = x[i] - (shift == -INFINITY ? 0.0 : shift);
        const double k = fsl_split_exponent(z);
        m[i] = fsl_split_mantissa(z, k);
        e[i] = FSL_ALIVE(k) ? k : 0.0;
    }
}

/* y = p / shift of probabilities as m * 2^e; the quotient may be out of the range of float64. shift is
 * *shift_m * 2^(returned value). */
FSL_UNUSED static double fsl_split_ratio(const double *restrict p, ptrdiff_t n, double shift, double *restrict m,
                                         double *restrict e, double *shift_m)
{
    int k = 0, shift_k = 0;
    *shift_m = shift > 0 ? frexp(shift, &shift_k) : 1.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        m[i] = p[i] > 0 ? frexp(p[i], &k) / *shift_m : 0.0;
        e[i] = p[i] > 0 ? k - shift_k : 0.0;
    }
    return shift_k;
}

/* v * m with exponent e + n, which is FSL_DEAD where the product is 0. */
FSL_UNUSED static void fsl_emit(const double *restrict v, const double *restrict e, const int32_t *restrict u,
                                const double *restrict m, const double *restrict n, double *restrict v_out,
                                double *restrict e_out, ptrdiff_t size)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < size; i++) {
        const double p = v[i] * m[u[i]];
        v_out[i] = p;
        e_out[i] = p > 0 ? fsl_max64(e[i] + n[u[i]], FSL_DEAD) : FSL_DEAD;
    }
}

/* ---- rows of numbers, each with an exponent of its own ------------------------------------- */

/* Largest exponent of v * w. */
FSL_UNUSED static double fsl_product_exponent(const double *restrict v, const double *restrict ev,
                                              const double *restrict w, const double *restrict ew, ptrdiff_t size,
                                              double largest)
{
    FSL_SIMD(reduction(FSL_MAX : largest))
    for (ptrdiff_t i = 0; i < size; i++) {
        const double e = v[i] * w[i] > 0 ? ev[i] + ew[i] : FSL_DEAD;
        largest = e > largest ? e : largest;
    }
    return largest;
}

/* out = v * w * 2^(ev + ew - unit). */
FSL_UNUSED static void fsl_extended_product(const double *restrict v, const double *restrict ev,
                                            const double *restrict w, const double *restrict ew, double unit,
                                            double *restrict out, ptrdiff_t size)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < size; i++)
        out[i] = v[i] * w[i] * fsl_pow2(v[i] * w[i] > 0 ? ev[i] + ew[i] - unit : 0.0);
}

/* ---- exponents fixed for some frames ------------------------------------------------------- */

#define FSL_RANGE_WINDOW 16    /* largest number of frames between two refreshes */
#define FSL_RANGE_BUDGET 400.0 /* largest range of emissions in between, in binary orders of magnitude */
#define FSL_RANGE_FLOOR 900.0  /* largest distance of a state's exponent below those that flow into it */

/* Maximum of the `window` values before each index: w[i] = max(m[i-window'], ..., m[i-1]) with the next power of two
 * window' >= window, by doubling. m and w hold FSL_RANGE_WINDOW entries of FSL_DEAD before lo. Returns the one of the
 * two arrays that holds the result. */
FSL_INLINE double *fsl_window_max(double *m, double *w, ptrdiff_t lo, ptrdiff_t hi, int window)
{
    double *from = w, *to = m;
    for (ptrdiff_t i = lo; i < hi; i++) w[i] = m[i - 1];
    for (int width = 1; width < window; width *= 2) {
        FSL_SIMD()
        for (ptrdiff_t i = lo; i < hi; i++) to[i] = fsl_max64(from[i], from[i - width]);
        double *swap = from; from = to; to = swap;
    }
    return from;
}

/* 1 if v * 2^e, whose own exponent is given, would come too close to underflow after a change of its exponent to `to`.
 * 2^(-600 - FSL_RANGE_BUDGET) is above the smallest normal number, so that values stay normal until the next refresh;
 * 2^(old exponent - new exponent) must be a normal float64 for the backward sweep. */
FSL_INLINE int fsl_underflows(double v, double e, double own, double to)
{
    return (v > 0) & ((own - to < -600.0) | (e - to < -1022.0));
}

/* Mantissa for the exponent `to` of a number whose mantissa v and own exponent are given. */
FSL_INLINE double fsl_rescaled(double v, double own, double to)
{
    return v > 0 ? fsl_mantissa(v) * fsl_pow2(own - to) : 0.0;
}

/* 1 if 2^(from - to) is out of range though both exponents are those of numbers other than 0. */
#define FSL_APART(from, to) ((fabs((from) - (to)) > 1000.0) & FSL_ALIVE(from) & FSL_ALIVE(to))

/* Changes the exponents of q: q *= 2^(to - from). */
FSL_UNUSED static void fsl_change_exponents(double *restrict q, const double *restrict from, const double *restrict to,
                                            ptrdiff_t lo, ptrdiff_t hi)
{
    FSL_SIMD()
    for (ptrdiff_t i = lo; i < hi; i++) q[i] *= fsl_pow2(to[i] - from[i]);
}

#endif
