/* The additive joiner, z[t, u] = am[t] + lm[u]: its normalisers are products of exponentials of am and lm. */
#ifndef FASTSEQLOSS_SIMPLE_H
#define FASTSEQLOSS_SIMPLE_H

#include <float.h>

#include "lattice/extended_range.h"
#include "simd/tile.h"
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

/* Normalisers rest + exp(z_blank - most) + exp(z_label - most), and the weights of the arcs over these, as m 2^e. */
FSL_UNUSED static void fsl_simple_weights(ptrdiff_t n, const double *restrict z_blank, const double *restrict z_label,
                                          const double *restrict most, const double *restrict rest,
                                          double *restrict norms, double *restrict blank_weight,
                                          double *restrict blank_e, double *restrict label_weight,
                                          double *restrict label_e)
{
    FSL_SIMD()
    for (ptrdiff_t u = 0; u < n; u++) {
        const double blank = z_blank[u] - most[u], label = z_label[u] - most[u];
        const double k = fsl_split_exponent(blank), b = fsl_split_mantissa(blank, k);
        const double j = fsl_split_exponent(label), l = fsl_split_mantissa(label, j);
        const double sum = rest[u] + b * fsl_pow2(k) + l * fsl_pow2(j), per = sum > 0 ? 1.0 / sum : 0.0;
        norms[u] = sum;
        blank_weight[u] = b * per;
        blank_e[u] = k;
        label_weight[u] = l * per;
        label_e[u] = j;
    }
}

/* out = m 2^e, 0 if it is out of range. */
FSL_UNUSED static void fsl_simple_values(ptrdiff_t n, const double *restrict m, const double *restrict e,
                                         double *restrict out)
{
    FSL_SIMD()
    for (ptrdiff_t u = 0; u < n; u++) out[u] = m[u] * fsl_pow2(e[u]);
}

/* Adds factor * e to both rows. */
FSL_UNUSED static void fsl_simple_add(const double *restrict e, ptrdiff_t n, double factor, double *restrict a,
                                      double *restrict b)
{
    FSL_SIMD()
    for (ptrdiff_t c = 0; c < n; c++) {
        const double p = factor * e[c];
        a[c] += p;
        b[c] += p;
    }
}

#include "simd/float32.inc.h"
#include "transducer/simple.inc.h"
#include "simd/float64.inc.h"
#include "transducer/simple.inc.h"

#endif
