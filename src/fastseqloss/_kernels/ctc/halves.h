/* The middle of a CTC sequence of which one half runs forward and the other, reversed, backward (ctc/halves.pxd).
 *
 * Label i of S labels is label S - 1 - i of the other half, blank i is blank S - i. The arrays of the last alphas of a
 * half hold the row and, behind it, the exponents. */
#ifndef FASTSEQLOSS_CTC_HALVES_H
#define FASTSEQLOSS_CTC_HALVES_H

#include "ctc/stripes.h"

/* Sum of a 2^e over terms, as sum * 2^unit. */
typedef struct { double sum, unit; } fsl_ctc_sum;

FSL_INLINE void fsl_ctc_add_product(fsl_ctc_sum *total, double a, double ea, double b, double eb)
{
    if (!(a > 0 && b > 0)) return;
    const double e = fsl_own_exponent(a, ea) + fsl_own_exponent(b, eb), v = fsl_mantissa(a) * fsl_mantissa(b);
    if (e > total->unit) {
        total->sum *= fsl_pow2(FSL_ALIVE(total->unit) ? total->unit - e : 0.0);
        total->unit = e;
    }
    total->sum += v * fsl_pow2(e - total->unit);
}

/* Sum over all paths from the alphas of the frames on both sides, of blocks [lo, hi) each. The factors are those of the
 * last segment of `s`. */
FSL_UNUSED static void fsl_ctc_join(const fsl_ctc_stripes *s, double *row, ptrdiff_t lo, ptrdiff_t hi,
                                    const fsl_ctc_stripes *other, double *other_row, ptrdiff_t other_lo,
                                    ptrdiff_t other_hi, ptrdiff_t n_labels, double *sum, double *unit)
{
    const double *exponents = row + s->row, *other_exponents = other_row + other->row;
    const ptrdiff_t stop = hi * s->block < n_labels + 1 ? hi * s->block : n_labels + 1;
    const ptrdiff_t first = other_lo * other->block, end = other_hi * other->block;
    fsl_ctc_sum total = {0.0, FSL_DEAD};
    double before = 0.0;
    for (ptrdiff_t i = lo * s->block; i < stop; i++) {
        const double *l = fsl_ctc_stripe_label(s, row, i), at_blank = l[s->block], e = exponents[s->place[i]];
        const ptrdiff_t blank = n_labels - i, label = n_labels - 1 - i;
        if (blank >= first && blank < end)
            fsl_ctc_add_product(&total, at_blank + s->factor[s->place[i]] * before, e,
                                fsl_ctc_stripe_label(other, other_row, blank)[other->block],
                                other_exponents[other->place[blank]]);
        if (label >= first && label < end)
            fsl_ctc_add_product(&total, *l + at_blank + s->skip_factor[s->place[i]] * before, e,
                                *fsl_ctc_stripe_label(other, other_row, label),
                                other_exponents[other->place[label]]);
        before = *l;
    }
    *sum = total.sum;
    *unit = total.unit;
}

/* Beta times emission of the frame after the last one, in units of the exponents, from the alphas of that frame in the
 * other direction, of its blocks [lo, hi). */
FSL_UNUSED static void fsl_ctc_betas_from(const fsl_ctc_stripes *s, const double *exponents,
                                          const fsl_ctc_stripes *other, double *row, ptrdiff_t lo, ptrdiff_t hi,
                                          ptrdiff_t n_labels, double unit, double total)
{
    const double *other_exponents = row + other->row;
    const ptrdiff_t stop = hi * other->block < n_labels + 1 ? hi * other->block : n_labels + 1;
    for (ptrdiff_t k = lo * other->block; k < stop; k++) {
        const double *l = fsl_ctc_stripe_label(other, row, k), b = l[other->block];
        const double e = other_exponents[other->place[k]] - unit;
        const int32_t blank = s->place[n_labels - k];
        if (b > 0)
            s->q_blank[blank] = fsl_mantissa(b) * fsl_pow2(fsl_own_exponent(b, e) + exponents[blank]) / total;
        if (k == n_labels || !(*l > 0)) continue;
        const int32_t label = s->place[n_labels - 1 - k];
        s->q_label[label] = fsl_mantissa(*l) * fsl_pow2(fsl_own_exponent(*l, e) + exponents[label]) / total;
    }
}

#endif
