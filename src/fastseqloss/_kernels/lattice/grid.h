/* Diagonals of a grid: sums over its paths by extended range, and posteriors by shares.
 *
 * Cells of a diagonal depend on earlier diagonals only, so that a diagonal is a loop without branches. A cell's value is
 * v * 2^e with an exponent of its own. When it is formed, each incoming arc gets the share of the value that it brings,
 * a number from 0 to 1; on the way back the posterior of a cell is divided among its incoming arcs by their shares, with
 * neither exponents nor betas. What underflows is a posterior below 1e-308.
 *
 * Rows of numbers are indexed by the row r of the grid. Loops run over blocks of FSL_GRID_LANES rows, lo and hi being
 * multiples of it; lanes of cells that do not exist have infinite cost. */
#ifndef FASTSEQLOSS_GRID_H
#define FASTSEQLOSS_GRID_H

#include "lattice/extended_range.h"

#define FSL_GRID_LANES 8
#define FSL_GRID_LOG2E 1.442695040888963407
#define FSL_GRID_NONE 2.0         /* in place of a share: no path leads to the cell */
#define FSL_GRID_MOST 0x1p960     /* costs in binary orders of magnitude that may be summed along any path */
#define FSL_GRID_NEGATIVE 0x1p910 /* sums of costs above minus this one stay below FSL_GRID_MOST / 2 */

/* 2^n for an integral n <= 0. */
FSL_INLINE double fsl_grid_factor(double n)
{
    n = n < -1023.0 ? -1023.0 : n;
    return fsl_from64(fsl_bits64(n + (6755399441055744.0 + 1023.0)) << 52);
}

/* Fetches n bytes that will be read, or written. */
FSL_INLINE void fsl_grid_fetch(const void *from, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += 64) FSL_PREFETCH((const char *)from + i);
}

FSL_INLINE void fsl_grid_fetch_to_write(void *to, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += 64) FSL_PREFETCH_WRITE((char *)to + i);
}

/* ---- three arcs into a cell: from above, from the left, and from above left ------------------- */

/* Values of a diagonal: the sum over the three predecessors, times 2^(-rate * cost). v1, e1 are those of the diagonal
 * before, v2, e2 of the one before that. The exponent and the rest of the cost are taken from one product: if the
 * compiler contracts it, the rest is exact, however large the product. */
FSL_INLINE void fsl_grid_values3(const double *restrict cost, double rate, const double *restrict v1,
                                 const double *restrict e1, const double *restrict v2, const double *restrict e2,
                                 double *restrict v, double *restrict e, double *restrict diagonal,
                                 double *restrict above, ptrdiff_t lo, ptrdiff_t hi, int with_shares)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_GRID_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_GRID_LANES; r++) {
            const double k = rint(cost[r] * -rate), rest = cost[r] * -rate - k;
            const double m = fsl_exp_reduced64(rest * FSL_LN2);
            const double unit = fsl_max64(fsl_max64(e1[r - 1], e1[r]), e2[r - 1]);
            const double up = v1[r - 1] * fsl_grid_factor(e1[r - 1] - unit);
            const double left = v1[r] * fsl_grid_factor(e1[r] - unit);
            const double corner = v2[r - 1] * fsl_grid_factor(e2[r - 1] - unit);
            const double sum = up + left + corner;
            const double value = k >= -FSL_GRID_MOST ? sum * m : 0.0;
            v[r] = value > 0 ? fsl_mantissa(value) : 0.0;
            e[r] = value > 0 ? fsl_exponent(value) + (unit + k) : FSL_DEAD;
            if (with_shares) {
                const double part = 1.0 / sum;
                diagonal[r] = value > 0 ? corner * part : FSL_GRID_NONE;
                above[r] = value > 0 ? up * part : 0.0;
            }
        }
    }
}

FSL_UNUSED static void fsl_grid_sum3(const double *cost, double rate, const double *v1, const double *e1,
                                     const double *v2, const double *e2, double *v, double *e, ptrdiff_t lo,
                                     ptrdiff_t hi)
{
    fsl_grid_values3(cost, rate, v1, e1, v2, e2, v, e, NULL, NULL, lo, hi, 0);
}

FSL_UNUSED static void fsl_grid_share3(const double *cost, double rate, const double *v1, const double *e1,
                                       const double *v2, const double *e2, double *v, double *e, double *diagonal,
                                       double *above, ptrdiff_t lo, ptrdiff_t hi)
{
    fsl_grid_values3(cost, rate, v1, e1, v2, e2, v, e, diagonal, above, lo, hi, 1);
}

/* The same for the best path: v is the least sum of rate * cost, INFINITY without a path; shares are 0 and 1. Of equal
 * predecessors the corner comes first, then the one above. */
FSL_UNUSED static void fsl_grid_best3(const double *restrict cost, double rate, const double *restrict v1,
                                      const double *restrict v2, double *restrict v, double *restrict diagonal,
                                      double *restrict above, ptrdiff_t lo, ptrdiff_t hi)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_GRID_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_GRID_LANES; r++) {
            const double least = fsl_min64(fsl_min64(v1[r - 1], v1[r]), v2[r - 1]);
            const double sum = least + cost[r] * rate, corner = v2[r - 1] == least ? 1.0 : 0.0;
            v[r] = sum;
            diagonal[r] = sum < INFINITY ? corner : FSL_GRID_NONE;
            above[r] = v1[r - 1] == least ? 1.0 - corner : 0.0;
        }
    }
}

/* Posteriors of a diagonal, and of the arcs into its cells. left1, above1 are arcs into the next diagonal, corner2 arcs
 * into the one after that. The arc from the left gets the rest, so that no mass is lost. */
FSL_UNUSED static void fsl_grid_posteriors3(const double *restrict left1, const double *restrict above1,
                                            const double *restrict corner2, const double *restrict diagonal,
                                            const double *restrict above, double *restrict posterior,
                                            double *restrict to_left, double *restrict to_above,
                                            double *restrict to_corner, ptrdiff_t lo, ptrdiff_t hi)
{
    for (ptrdiff_t b = lo; b < hi; b += FSL_GRID_LANES) {
        FSL_SIMD()
        for (ptrdiff_t r = b; r < b + FSL_GRID_LANES; r++) {
            const double sum = left1[r] + above1[r + 1] + corner2[r + 1];
            const double p = diagonal[r] < FSL_GRID_NONE ? sum : 0.0;
            const double up = p * above[r], corner = p * diagonal[r];
            posterior[r] = p;
            to_above[r] = up;
            to_corner[r] = corner;
            to_left[r] = fsl_max64(p - up - corner, 0.0);
        }
    }
}

/* Extends the range of costs, [*least, *most], of which +inf is left out. NaN counts as -inf. */
FSL_UNUSED static void fsl_grid_range(const double *restrict cost, ptrdiff_t lo, ptrdiff_t hi, double *least,
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

#endif
