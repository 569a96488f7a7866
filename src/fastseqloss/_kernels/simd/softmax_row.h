/* One row of logits: its maximum, the sum of its exponentials, its softmax.
 *
 * Rows are walked in whole vectors of FSL_LANES; the last, partial one goes through a copy filled up with
 * -inf, so that no scalar exp is left over.
 *
 * Sums are kept in float32 lanes (of float32 rows) for blocks of FSL_BLOCK terms, then added in float64. Near
 * the 1 that the maximum contributes a lane loses 6e-8 with each term, which the logarithm of a sum near 1
 * would show: until the sum has reached 2, blocks of any weight are added up again in float64.
 *
 * exp(x - m) is 0 below the normal numbers: no loss and no gradient can tell. */
#ifndef FASTSEQLOSS_SOFTMAX_ROW_H
#define FASTSEQLOSS_SOFTMAX_ROW_H

#include "simd/math.h"

#define FSL_LANES 16
#define FSL_BLOCK 256

#include "simd/float32.inc.h"
#include "simd/softmax_row.inc.h"
#include "simd/float64.inc.h"
#include "simd/softmax_row.inc.h"

#endif
