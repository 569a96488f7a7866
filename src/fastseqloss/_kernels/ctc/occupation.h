/* Sums over the frames of the posteriors of each label, of which ctc_confidences makes its results.
 *
 * The sums are rows of an array, `width` elements apart, of an element for each label. The first two rows are given. */
#ifndef FASTSEQLOSS_CTC_OCCUPATION_H
#define FASTSEQLOSS_CTC_OCCUPATION_H

#include "simd/math.h"

enum {
    FSL_CTC_SPAN_START, /* first frame of the span of the label */
    FSL_CTC_SPAN_END,   /* frame after its last */
    FSL_CTC_LARGEST,    /* largest posterior at a frame */
    FSL_CTC_MASS,       /* sum of the posteriors */
    FSL_CTC_MOMENT,     /* sum of frame times posterior */
    FSL_CTC_SPAN_MASS,  /* sum of the posteriors at the frames of the span */
    FSL_CTC_OCCUPATION_ROWS
};

/* Adds the posteriors, times `factor`, of n labels at frame t. */
FSL_UNUSED static void fsl_ctc_add_occupation(double *sums, ptrdiff_t width, const double *restrict post, double factor,
                                              double t, ptrdiff_t n)
{
    const double *restrict start = sums + FSL_CTC_SPAN_START * width, *restrict end = sums + FSL_CTC_SPAN_END * width;
    double *restrict largest = sums + FSL_CTC_LARGEST * width, *restrict mass = sums + FSL_CTC_MASS * width;
    double *restrict moment = sums + FSL_CTC_MOMENT * width, *restrict span_mass = sums + FSL_CTC_SPAN_MASS * width;
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double p = post[i] * factor, inside = start[i] <= t ? p : 0.0;
        largest[i] = fsl_max64(p, largest[i]);
        mass[i] += p;
        moment[i] += p * t;
        span_mass[i] += t < end[i] ? inside : 0.0;
    }
}

#endif
