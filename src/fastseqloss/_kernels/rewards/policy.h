/* Gradient of one row of logits, with a term for the entropy. */
#ifndef FASTSEQLOSS_POLICY_H
#define FASTSEQLOSS_POLICY_H

#include "simd/rows.h"

#define FSL_POLICY_FUNCTIONS(real, name)                                                                   \
    /* out = e (factor + slope (x - m)), 0 where e = exp(x - m) is 0, for any x; out may be x or e. */     \
    FSL_INLINE void fsl_policy_gradient_##name(const real *x, const real *e, ptrdiff_t n, real m,          \
                                               double factor, double slope, real *out)                     \
    {                                                                                                      \
        const real f = (real)factor, s = (real)slope;                                                      \
        if (fsl_is_large_##name(factor) | fsl_is_large_##name(slope)) {                                    \
            for (ptrdiff_t c = 0; c < n; c++) {                                                            \
                const double value = (double)e[c] * (factor + slope * ((double)x[c] - (double)m));         \
                out[c] = e[c] == 0 ? 0 : (real)value;                                                      \
            }                                                                                              \
            return;                                                                                        \
        }                                                                                                  \
        FSL_SIMD()                                                                                         \
        for (ptrdiff_t c = 0; c < n; c++) {                                                                \
            const real value = e[c] * (f + s * (x[c] - m));                                                \
            out[c] = e[c] == 0 ? 0 : value;                                                                \
        }                                                                                                  \
    }

FSL_POLICY_FUNCTIONS(float, f32)
FSL_POLICY_FUNCTIONS(double, f64)

#endif
