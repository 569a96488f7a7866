/* The additive joiner, z[t, u] = am[t] + lm[u]: its normalisers are products of exponentials of am and lm. */
#ifndef FASTSEQLOSS_SIMPLE_H
#define FASTSEQLOSS_SIMPLE_H

#include <float.h>

#include "lattice/extended_range.h"
#include "simd/softmax_row.h"

/* exp(x - m) for x <= m, with an error relative to the result; 0 below the normal numbers, which slow products down.
 * The rounding error of x - m would be an error of 2^-24 |x - m| in float32. */
FSL_INLINE float fsl_simple_exp_f32(float x, float m)
{
    const float d = x - m, part = d - x, rest = (x - (d - part)) - (m + part);
    const float e = fsl_exp32(d), exact = e + e * (d < -104.0f ? 0.0f : rest);
    return exact < FLT_MIN ? 0.0f : exact;
}

FSL_INLINE double fsl_simple_exp_f64(double x, double m)
{
    const double e = fsl_exp64(x - m);
    return e < DBL_MIN ? 0.0 : e;
}

#include "simd/float32.inc.h"
#include "transducer/simple.inc.h"
#include "simd/float64.inc.h"
#include "transducer/simple.inc.h"

#endif
