/* Sums of scores of any size without rounding: the arithmetic of paths through very large scores.
 *
 * A number is split into signed digits of FSL_DIGIT bits, and digits of the same level are added up in a float64,
 * which is exact for 2^27 terms. Only levels that occur are kept: six for masks of the largest float32 numbers. Bits
 * below 2^FSL_LOWEST are rounded away. */
#ifndef FASTSEQLOSS_EXACT_SUMS_H
#define FASTSEQLOSS_EXACT_SUMS_H

#include "simd/math.h"

#define FSL_DIGIT 24
#define FSL_LOWEST -72
#define FSL_LEVELS 46 /* up to the largest float64 */

/* Sums of float64 logarithms up to this size, which grows with the number of frames, keep relative differences to
 * 2^-31. */
#define FSL_EXACT_FROM(frames) (0x1p22 + 64.0 * (double)(frames))

typedef struct {
    ptrdiff_t n;               /* levels kept, largest first: elements of a sum */
    uint64_t used;             /* bit l: level l occurs */
    double unit[FSL_LEVELS];   /* [n] value of a digit 1 of a level */
    int place[FSL_LEVELS];     /* index of a level in a sum */
} fsl_levels;

/* Sets the levels and digits of a finite x; returns their number. */
static int fsl_digits(double x, int level[4], double digit[4])
{
    int exponent, n = 0;
    if (x == 0 || x - x != 0) return 0;
    frexp(x, &exponent);
    for (int l = exponent > FSL_LOWEST ? (exponent - 1 - FSL_LOWEST) / FSL_DIGIT : 0; l >= 0 && x != 0; l--) {
        const double unit = fsl_pow2(FSL_DIGIT * l + FSL_LOWEST), d = l ? trunc(x / unit) : rint(x / unit);
        x = l ? x - d * unit : 0;
        if (d != 0) level[n] = l, digit[n] = d, n++;
    }
    return n;
}

/* Marks the levels of x as used. */
static void fsl_note(fsl_levels *levels, double x)
{
    int level[4];
    double digit[4];
    for (int k = fsl_digits(x, level, digit) - 1; k >= 0; k--) levels->used |= (uint64_t)1 << level[k];
}

/* Sets the level of each element of a sum, after all numbers have been noted. */
static void fsl_settle(fsl_levels *levels)
{
    levels->n = 0;
    for (int l = FSL_LEVELS - 1; l >= 0; l--)
        if (levels->used >> l & 1) {
            levels->unit[levels->n] = fsl_pow2(FSL_DIGIT * l + FSL_LOWEST);
            levels->place[l] = (int)levels->n++;
        }
}

/* sum += sign * x */
static void fsl_add_digits(const fsl_levels *levels, double x, double sign, double *sum)
{
    int level[4];
    double digit[4];
    for (int k = fsl_digits(x, level, digit) - 1; k >= 0; k--) sum[levels->place[level[k]]] += sign * digit[k];
}

/* out = x + y; out may be x. */
FSL_INLINE void fsl_add_sums(const fsl_levels *levels, const double *x, const double *y, double *out)
{
    for (ptrdiff_t i = 0; i < levels->n; i++) out[i] = x[i] + y[i];
}

/* x + y - z, rounded; terms are added largest first, so that later terms cannot cancel a rounded sum. */
FSL_INLINE double fsl_balance(const fsl_levels *levels, const double *x, const double *y, const double *z)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < levels->n; i++) total += (x[i] + y[i] - z[i]) * levels->unit[i];
    return total;
}

#endif
