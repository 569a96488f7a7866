/* Maximum of a row of scores without the score of the target, and its first position. */
#ifndef FASTSEQLOSS_MARGIN_H
#define FASTSEQLOSS_MARGIN_H

#include "simd/dispatch.h"

#define FSL_FIND_PIECE 65536

#include "simd/float32.inc.h"
#include "steps/margin.inc.h"
#include "simd/float64.inc.h"
#include "steps/margin.inc.h"

#define fsl_others_max(x, n, t) FSL_TYPED(x, fsl_others_max)(x, n, t)
#define fsl_find_other(x, n, t, score) FSL_TYPED(x, fsl_find_other)(x, n, t, score)
#define fsl_zero(x, n) FSL_TYPED(x, fsl_zero)(x, n)

#endif
