/* Weights of the arcs of a transducer, in extended range, from the scores of blank and label at n nodes. A weight of 0
 * has exponent FSL_DEAD. */
#ifndef FASTSEQLOSS_ARCS_H
#define FASTSEQLOSS_ARCS_H

#include "lattice/extended_range.h"

/* exp(d) is the mantissa times 2^k, as in fsl_split_mantissa; to 4.7e-11 if `brief`. The reduction of the argument is
 * exact enough for differences d of float32 logits: its error is below 2^-53 |d|. */
FSL_INLINE double fsl_rnnt_mantissa(double d, double k, int brief)
{
    if (!brief) return fsl_split_mantissa(d, k);
    double t = d * FSL_LOG2E - k;
    t = t > 0.5 ? 0.5 : t;
    t = t < -0.5 ? -0.5 : t;
    return FSL_ALIVE(k) ? fsl_exp2_brief(t) : 0.0;
}

enum { FSL_RNNT_LARGE = 1, FSL_RNNT_NAN = 2 };

#define FSL_RNNT_MOST 67108864.0 /* 2^26: arcs with larger logarithms need the exact path */

/* Weights w * 2^e = exp(z - m) / sum of blank and label, for the maximum m and the sum of exp(x - m) of each row.
 * Returns FSL_RNNT_LARGE if a finite score is further than FSL_RNNT_MOST below its maximum, FSL_RNNT_NAN if a sum is
 * NaN. */
FSL_INLINE int fsl_rnnt_arcs(int n, const double *restrict blank, const double *restrict label,
                             const double *restrict m, const double *restrict sum, double *restrict blank_w,
                             double *restrict blank_e, double *restrict label_w, double *restrict label_e, int brief)
{
    int large = 0, nan = 0;
    FSL_SIMD(reduction(| : large, nan))
    for (int i = 0; i < n; i++) {
        const double b = blank[i] - m[i], l = label[i] - m[i], per = 1.0 / sum[i];
        const double b_k = fsl_split_exponent(b), l_k = fsl_split_exponent(l);
        const double b_mantissa = fsl_rnnt_mantissa(b, b_k, brief), l_mantissa = fsl_rnnt_mantissa(l, l_k, brief);
        blank_w[i] = b_mantissa > 0 ? b_mantissa * per : 0.0;
        label_w[i] = l_mantissa > 0 ? l_mantissa * per : 0.0;
        blank_e[i] = b_k;
        label_e[i] = l_k;
        large |= ((b < -FSL_RNNT_MOST) & (blank[i] > -INFINITY)) | ((l < -FSL_RNNT_MOST) & (label[i] > -INFINITY));
        nan |= sum[i] != sum[i];
    }
    return (large ? FSL_RNNT_LARGE : 0) | (nan ? FSL_RNNT_NAN : 0);
}

FSL_UNUSED static int fsl_rnnt_arcs_f32(int n, const double *blank, const double *label, const double *m,
                                        const double *sum, double *blank_w, double *blank_e, double *label_w,
                                        double *label_e)
{
    return fsl_rnnt_arcs(n, blank, label, m, sum, blank_w, blank_e, label_w, label_e, 1);
}

FSL_UNUSED static int fsl_rnnt_arcs_f64(int n, const double *blank, const double *label, const double *m,
                                        const double *sum, double *blank_w, double *blank_e, double *label_w,
                                        double *label_e)
{
    return fsl_rnnt_arcs(n, blank, label, m, sum, blank_w, blank_e, label_w, label_e, 0);
}

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
