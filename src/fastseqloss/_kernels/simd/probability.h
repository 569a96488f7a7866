/* Probabilities are from 0 to 1; values outside by rounding count as 0 or 1. NaN stays NaN. */
#ifndef FASTSEQLOSS_PROBABILITY_H
#define FASTSEQLOSS_PROBABILITY_H

#include "simd/elements.h"

#define FSL_SLACK 1e-6
#define FSL_IS_OUTSIDE(p, most) (((p) < -FSL_SLACK) | ((p) > (most) + FSL_SLACK))
FSL_INLINE double fsl_clamp_probability(double p)
{
    const double below = p > 1 ? 1 : p;
    return below <= 0 ? 0 : below; /* +0 for -0, whose reciprocal is -inf */
}

#endif
