/* Diagonals of a grid with three arcs into a cell: from above, from the left, and from above left.
 *
 * Cells of a diagonal depend on earlier diagonals only, so that a diagonal is a loop without branches. A cell's value
 * is v * 2^e with an exponent of its own. When it is formed, each incoming arc gets the share of the value that it
 * brings, a number from 0 to 1; on the way back the posterior of a cell is divided among its incoming arcs by their
 * shares, with neither exponents nor betas. What underflows is a posterior below 1e-308.
 *
 * Arrays are indexed by the row r of the grid. v1, e1 are values of the diagonal before, v2, e2 of the one before that.
 * Loops run over blocks of FSL_DIAGONAL_LANES rows, lo and hi being multiples of it; lanes of cells that do not exist
 * have infinite cost. */
#ifndef FASTSEQLOSS_DIAGONALS_H
#define FASTSEQLOSS_DIAGONALS_H

#include "lattice/extended_range.h"

#define FSL_DIAGONAL_LANES 8
#define FSL_DIAGONAL_NONE 2.0 /* in place of a share: no path leads to the cell */

/* Fetches n bytes that will be read, or written. */
FSL_INLINE void fsl_diagonal_fetch(const void *from, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += 64) FSL_PREFETCH((const char *)from + i);
}

FSL_INLINE void fsl_diagonal_fetch_to_write(void *to, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += 64) FSL_PREFETCH_WRITE((char *)to + i);
}

/* Extends the range of costs, [*least, *most], from which +inf is left out. NaN counts as -inf. */
FSL_UNUSED static void fsl_diagonal_range(const double *restrict cost, ptrdiff_t lo, ptrdiff_t hi, double *least,
                                          double *most)
{
    double low = *least, high = *most;
    FSL_SIMD(reduction(FSL_MIN : low) reduction(FSL_MAX : high))
    for (ptrdiff_t r = lo; r < hi; r++) {
        const double c = cost[r], from = c == c ? c : -INFINITY, to = c < INFINITY ? c : 0.0;
        low = from < low ? from : low;
        high = to > high ? to : high;
    }
    *least = low;
    *most = high;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Sums over the three predecessors, times 2^(-rate * cost); cells whose exponent would be below -limit have no value.
 * Exponents and rests come from the same product: if the compiler contracts it, the rest is exact. */
FSL_INLINE void fsl_diagonal_values(const double *restrict cost, double rate, double limit, const double *restrict v1,
                                    const double *restrict e1, const double *restrict v2, const double *restrict e2,
                                    double *restrict v, double *restrict e, double *restrict corners,
                                    double *restrict ups, ptrdiff_t lo, ptrdiff_t hi, int with_shares)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_DIAGONAL_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_DIAGONAL_LANES; r++) {
            const double k = rint(cost[r] * -rate), rest = cost[r] * -rate - k;
            const double m = fsl_exp_reduced64(rest * FSL_LN2);
            const double unit = fsl_max64(fsl_max64(e1[r - 1], e1[r]), e2[r - 1]);
            const double up = v1[r - 1] * fsl_pow2_negative(e1[r - 1] - unit);
            const double left = v1[r] * fsl_pow2_negative(e1[r] - unit);
            const double corner = v2[r - 1] * fsl_pow2_negative(e2[r - 1] - unit);
            const double sum = up + left + corner;
            const double value = k >= -limit ? sum * m : 0.0;
            v[r] = value > 0 ? fsl_mantissa(value) : 0.0;
            e[r] = value > 0 ? fsl_exponent(value) + (unit + k) : FSL_DEAD;
            if (with_shares) {
                const double part = 1.0 / sum;
                corners[r] = value > 0 ? corner * part : FSL_DIAGONAL_NONE;
                ups[r] = value > 0 ? up * part : 0.0;
            }
        }
    }
}

FSL_UNUSED static void fsl_diagonal_sum(const double *cost, double rate, double limit, const double *v1,
                                        const double *e1, const double *v2, const double *e2, double *v, double *e,
                                        ptrdiff_t lo, ptrdiff_t hi)
{
    fsl_diagonal_values(cost, rate, limit, v1, e1, v2, e2, v, e, NULL, NULL, lo, hi, 0);
}

FSL_UNUSED static void fsl_diagonal_share(const double *cost, double rate, double limit, const double *v1,
                                          const double *e1, const double *v2, const double *e2, double *v, double *e,
                                          double *corners, double *ups, ptrdiff_t lo, ptrdiff_t hi)
{
    fsl_diagonal_values(cost, rate, limit, v1, e1, v2, e2, v, e, corners, ups, lo, hi, 1);
}

/* a * b = p + *rest exactly, for products from 2^-900 to 2^900. */
FSL_INLINE double fsl_exact_product(double a, double b, double *rest)
{
    const double p = a * b, sa = a * 134217729.0, sb = b * 134217729.0;
    const double a0 = sa - (sa - a), a1 = a - a0, b0 = sb - (sb - b), b1 = b - b0;
    *rest = a1 * b1 - (((p - a0 * b0) - a1 * b0) - a0 * b1);
    return p;
}

/* The same with exponents e + f of twice as many bits, for costs of which float64 does not hold the sums. */
FSL_UNUSED static void fsl_diagonal_share_wide(const double *restrict cost, double rate, double limit,
                                               const double *restrict v1, const double *restrict e1,
                                               const double *restrict f1, const double *restrict v2,
                                               const double *restrict e2, const double *restrict f2, double *restrict v,
                                               double *restrict e, double *restrict f, double *restrict corners,
                                               double *restrict ups, ptrdiff_t lo, ptrdiff_t hi)
{
    for (ptrdiff_t r = lo; r < hi; r++) {
        const int alive = cost[r] * rate <= limit;
        double z_rest = 0, unit = e1[r], unit_f = f1[r];
        const double z = alive ? fsl_exact_product(cost[r], -rate, &z_rest) : 0.0;
        const double k = rint(z), k_rest = rint((z - k) + z_rest), rest = ((z - k) - k_rest) + z_rest;
        const int above = (e1[r - 1] - unit) + (f1[r - 1] - unit_f) > 0;
        unit = above ? e1[r - 1] : unit;
        unit_f = above ? f1[r - 1] : unit_f;
        const int beside = (e2[r - 1] - unit) + (f2[r - 1] - unit_f) > 0;
        unit = beside ? e2[r - 1] : unit;
        unit_f = beside ? f2[r - 1] : unit_f;
        const double up = v1[r - 1] * fsl_pow2_negative((e1[r - 1] - unit) + (f1[r - 1] - unit_f));
        const double left = v1[r] * fsl_pow2_negative((e1[r] - unit) + (f1[r] - unit_f));
        const double corner = v2[r - 1] * fsl_pow2_negative((e2[r - 1] - unit) + (f2[r - 1] - unit_f));
        const double sum = up + left + corner;
        const double value = alive ? sum * fsl_exp_reduced64(rest * FSL_LN2) : 0.0;
        double low = unit_f + k_rest + fsl_exponent(value);
        v[r] = value > 0 ? fsl_mantissa(value) : 0.0;
        fsl_add_exactly(&unit, &low, k);
        e[r] = value > 0 ? unit + low : FSL_DEAD;
        f[r] = value > 0 ? low - (e[r] - unit) : 0.0;
        corners[r] = value > 0 ? corner / sum : FSL_DIAGONAL_NONE;
        ups[r] = value > 0 ? up / sum : 0.0;
    }
}

/* The same for the best path: v is the least sum of rate * cost, INFINITY without a path; shares are 0 and 1. Of equal
 * predecessors the corner comes first, then the one above. */
FSL_UNUSED static void fsl_diagonal_best(const double *restrict cost, double rate, const double *restrict v1,
                                         const double *restrict v2, double *restrict v, double *restrict corners,
                                         double *restrict ups, ptrdiff_t lo, ptrdiff_t hi)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_DIAGONAL_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_DIAGONAL_LANES; r++) {
            const double least = fsl_min64(fsl_min64(v1[r - 1], v1[r]), v2[r - 1]);
            const double sum = least + cost[r] * rate, corner = v2[r - 1] == least ? 1.0 : 0.0;
            v[r] = sum;
            corners[r] = sum < INFINITY ? corner : FSL_DIAGONAL_NONE;
            ups[r] = v1[r - 1] == least ? 1.0 - corner : 0.0;
        }
    }
}

/* ---- posteriors ------------------------------------------------------------------------------ */

/* Posteriors of a diagonal, and of the arcs into its cells. left1, up1 are arcs into the next diagonal, corner2 arcs
 * into the one after that. The arc from the left gets the rest, so that no mass is lost. */
FSL_UNUSED static void fsl_diagonal_posteriors(const double *restrict left1, const double *restrict up1,
                                               const double *restrict corner2, const double *restrict corners,
                                               const double *restrict ups, double *restrict posterior,
                                               double *restrict to_left, double *restrict to_up,
                                               double *restrict to_corner, ptrdiff_t lo, ptrdiff_t hi)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_DIAGONAL_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_DIAGONAL_LANES; r++) {
            const double sum = left1[r] + up1[r + 1] + corner2[r + 1];
            const double p = corners[r] < FSL_DIAGONAL_NONE ? sum : 0.0;
            const double up = p * ups[r], corner = p * corners[r];
            posterior[r] = p;
            to_up[r] = up;
            to_corner[r] = corner;
            to_left[r] = fsl_max64(p - up - corner, 0.0);
        }
    }
}

#endif
