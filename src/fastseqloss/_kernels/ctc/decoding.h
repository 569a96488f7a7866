/* The best class of a frame: the arithmetic under decoding.pyx. */
#ifndef FASTSEQLOSS_CTC_DECODING_H
#define FASTSEQLOSS_CTC_DECODING_H

#include "simd/math.h"

/* Position of the first score equal to `value`, or n. */
#define FSL_CTC_SCORES(real, name)                                                            \
    static ptrdiff_t fsl_ctc_find_##name(const real *x, ptrdiff_t n, double value)            \
    {                                                                                         \
        ptrdiff_t i = 0;                                                                      \
        for (; i + 32 <= n; i += 32) {                                                        \
            int found = 0;                                                                    \
            FSL_SIMD(reduction(| : found))                                                    \
            for (int k = 0; k < 32; k++) found |= x[i + k] == (real)value;                    \
            if (found) break;                                                                 \
        }                                                                                     \
        while (i < n && x[i] != (real)value) i++;                                             \
        return i;                                                                             \
    }                                                                                         \
    /* Greatest score; NaN if a score is NaN or +inf, or a probability negative. */           \
    static double fsl_ctc_greatest_##name(const real *x, ptrdiff_t n, int probs)              \
    {                                                                                         \
        real most = -(real)INFINITY, bad = 0;                                                 \
        const real least = probs ? 0 : -(real)INFINITY;                                       \
        FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : bad))                                \
        for (ptrdiff_t i = 0; i < n; i++) {                                                   \
            most = x[i] > most ? x[i] : most;                                                 \
            bad += ((x[i] < (real)INFINITY) & (x[i] >= least)) ? 0 : 1;                       \
        }                                                                                     \
        return bad > 0 ? NAN : most;                                                          \
    }

FSL_CTC_SCORES(float, f32)
FSL_CTC_SCORES(double, f64)

#endif
