/* One name for float32 and float64, chosen by what an argument points to; fused code calls these. */
#ifndef FASTSEQLOSS_DISPATCH_H
#define FASTSEQLOSS_DISPATCH_H

#include "simd/elements.h"

/* The sign makes a value of it: not all compilers look through a const. */
#define FSL_TYPED(pointer, name) _Generic(+*(pointer), float: name##_f32, double: name##_f64)
#define fsl_load(kind, from, stride, n, to) FSL_TYPED(to, fsl_load)(kind, from, stride, n, to)
#define fsl_store(kind, from, scale, n, to, stride) FSL_TYPED(from, fsl_store)(kind, from, scale, n, to, stride)

/* Probabilities are from 0 to 1; one beyond by rounding counts as 0 or 1. NaN stays. */
#define FSL_SLACK 1e-6
#define FSL_IS_OUTSIDE(p, most) (((p) < -FSL_SLACK) | ((p) > (most) + FSL_SLACK))
#define FSL_IS_NO_SHARE(p) FSL_IS_OUTSIDE(p, 1)
FSL_INLINE double fsl_share(double p)
{
    const double below = p > 1 ? 1 : p;
    return below <= 0 ? 0 : below; /* 0 for -0, whose reciprocal has the other sign */
}

#endif
