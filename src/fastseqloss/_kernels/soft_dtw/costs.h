/* Squared Euclidean distances along the diagonals of a grid, and their derivatives.
 *
 * Series are stored feature by feature, the second one in reverse, so that a diagonal reads both in the order of the
 * rows. Differences are formed directly: |x|^2 + |y|^2 - 2 x.y would cancel for close series. */
#ifndef FASTSEQLOSS_SOFT_DTW_COSTS_H
#define FASTSEQLOSS_SOFT_DTW_COSTS_H

#include "simd/math.h"

FSL_INLINE double fsl_dtw_square(const double *x, const double *y, ptrdiff_t r)
{
    return (x[r] - y[r]) * (x[r] - y[r]);
}

/* cost[r] = sum over d of (x[d][r] - y[d][r])^2, several features at a time. */
FSL_UNUSED static void fsl_dtw_costs(const double *restrict x, ptrdiff_t x_pitch, const double *restrict y,
                                     ptrdiff_t y_pitch, ptrdiff_t features, double *restrict cost, ptrdiff_t lo,
                                     ptrdiff_t hi)
{
    const ptrdiff_t first = (features - 1) % 4 + 1;
    for (ptrdiff_t d = 0; d < features; d += d ? 4 : first) {
        const double *x0 = x + d * x_pitch, *y0 = y + d * y_pitch;
        const double *x1 = x0 + x_pitch, *y1 = y0 + y_pitch, *x2 = x1 + x_pitch, *y2 = y1 + y_pitch;
        const double *x3 = x2 + x_pitch, *y3 = y2 + y_pitch;
        if (d == 0) {
            FSL_SIMD()
            for (ptrdiff_t r = lo; r < hi; r++) cost[r] = fsl_dtw_square(x0, y0, r);
            for (ptrdiff_t k = 1; k < first; k++) {
                const double *xk = x + k * x_pitch, *yk = y + k * y_pitch;
                FSL_SIMD()
                for (ptrdiff_t r = lo; r < hi; r++) cost[r] += fsl_dtw_square(xk, yk, r);
            }
            continue;
        }
        FSL_SIMD()
        for (ptrdiff_t r = lo; r < hi; r++)
            cost[r] += (fsl_dtw_square(x0, y0, r) + fsl_dtw_square(x1, y1, r)) +
                       (fsl_dtw_square(x2, y2, r) + fsl_dtw_square(x3, y3, r));
    }
}

/* grad_x[d][r] += t and grad_y[d][r] -= t with t = factor * posterior[r] * (x[d][r] - y[d][r]); either may be NULL. A
 * difference beyond float64 has posterior 0. */
FSL_UNUSED static void fsl_dtw_scatter(const double *restrict posterior, double factor, const double *restrict x,
                                       ptrdiff_t x_pitch, const double *restrict y, ptrdiff_t y_pitch,
                                       ptrdiff_t features, double *restrict grad_x, double *restrict grad_y,
                                       ptrdiff_t lo, ptrdiff_t hi)
{
    while (lo < hi && posterior[lo] == 0) lo++;
    while (lo < hi && posterior[hi - 1] == 0) hi--;
    for (ptrdiff_t d = 0; d < features; d++) {
        const double *xd = x + d * x_pitch, *yd = y + d * y_pitch;
        double *gx = grad_x ? grad_x + d * x_pitch : NULL, *gy = grad_y ? grad_y + d * y_pitch : NULL;
        if (gx) {
            FSL_SIMD()
            for (ptrdiff_t r = lo; r < hi; r++)
                gx[r] += posterior[r] > 0 ? factor * posterior[r] * (xd[r] - yd[r]) : 0.0;
        }
        if (gy) {
            FSL_SIMD()
            for (ptrdiff_t r = lo; r < hi; r++)
                gy[r] -= posterior[r] > 0 ? factor * posterior[r] * (xd[r] - yd[r]) : 0.0;
        }
    }
}

#endif
