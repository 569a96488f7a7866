/* Weights of the arcs of a transducer, in extended range, from the scores of blank and label at n nodes. A weight of 0
 * has exponent FSL_DEAD. */
#ifndef FASTSEQLOSS_ARCS_H
#define FASTSEQLOSS_ARCS_H

#include "lattice/extended_range.h"

/* w * 2^e = exp(z - m) / sum, a probability of a softmax with maximum m and sum of exp(x - m). */
FSL_UNUSED static void fsl_rnnt_softmax_weights(int n, const double *restrict z, const double *restrict m,
                                                const double *restrict sum, double *restrict w, double *restrict e)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double d = z[i] - m[i], k = fsl_split_exponent(d), mantissa = fsl_split_mantissa(d, k);
        w[i] = mantissa > 0 ? mantissa / sum[i] : 0.0;
        e[i] = k;
    }
}

/* w * 2^e = sigmoid(z), and weights of labels are multiplied by 1 - sigmoid(z). */
FSL_UNUSED static void fsl_rnnt_sigmoid_weights(int n, const double *restrict z, double *restrict w, double *restrict e,
                                                double *restrict label, double *restrict label_e)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double d = -fabs(z[i]), k = fsl_split_exponent(d), mantissa = fsl_split_mantissa(d, k);
        const double per = 1.0 / (1.0 + mantissa * fsl_pow2(k)), less = mantissa * per;
        w[i] = z[i] >= 0 ? per : less;
        e[i] = z[i] >= 0 ? 0.0 : k;
        const double other = z[i] >= 0 ? less : per, other_e = z[i] >= 0 ? k : 0.0;
        label[i] *= other;
        label_e[i] = fsl_max64(label_e[i] + other_e, FSL_DEAD);
    }
}

/* w * 2^e = exp(z). */
FSL_UNUSED static void fsl_rnnt_log_weights(int n, const double *restrict z, double *restrict w, double *restrict e)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double k = fsl_split_exponent(z[i]);
        w[i] = fsl_split_mantissa(z[i], k);
        e[i] = k;
    }
}

/* w * 2^e = p. */
FSL_UNUSED static void fsl_rnnt_plain_weights(int n, const double *restrict p, double *restrict w, double *restrict e)
{
    for (int i = 0; i < n; i++) {
        int k = 0;
        w[i] = p[i] > 0 ? frexp(p[i], &k) : 0.0;
        e[i] = p[i] > 0 ? (double)k : FSL_DEAD;
    }
}

#endif
