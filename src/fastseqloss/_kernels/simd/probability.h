/* One name for float32 and float64, chosen by the type that an argument points to; called by fused code. */
#ifndef FASTSEQLOSS_DISPATCH_H
#define FASTSEQLOSS_DISPATCH_H

#include "simd/elements.h"

/* The unary plus makes an rvalue: some compilers do not drop the const of an lvalue. */
#define FSL_TYPED(pointer, name) _Generic(+*(pointer), float: name##_f32, double: name##_f64)
#define fsl_load(kind, from, stride, n, to) FSL_TYPED(to, fsl_load)(kind, from, stride, n, to)
#define fsl_store(kind, from, scale, n, to, stride) FSL_TYPED(from, fsl_store)(kind, from, scale, n, to, stride)

/* Probabilities are from 0 to 1; values outside by rounding count as 0 or 1. NaN stays NaN. */
#define FSL_SLACK 1e-6
#define FSL_IS_OUTSIDE(p, most) (((p) < -FSL_SLACK) | ((p) > (most) + FSL_SLACK))
#define FSL_IS_NO_SHARE(p) FSL_IS_OUTSIDE(p, 1)
FSL_INLINE double fsl_share(double p)
{
    const double below = p > 1 ? 1 : p;
    return below <= 0 ? 0 : below; /* +0 for -0, whose reciprocal is -inf */
}

#endif
