/* Maximum of a row of scores without the score of the target, and its first position. */
#ifndef FASTSEQLOSS_MARGIN_H
#define FASTSEQLOSS_MARGIN_H

#include "simd/elements.h"

#define FSL_FIND_PIECE 65536

#include "simd/float32.inc.h"
#include "steps/margin.inc.h"
#include "simd/float64.inc.h"
#include "steps/margin.inc.h"

#endif
