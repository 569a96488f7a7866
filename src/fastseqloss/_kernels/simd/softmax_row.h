/* One row of logits: its maximum, the sum of its exponentials, its softmax.
 *
 * Loops over rows use whole vectors of FSL_LANES; the last, partial vector is a copy padded with -inf, which avoids
 * scalar calls of exp.
 *
 * For float32 rows, sums of blocks of FSL_BLOCK terms are in float32 lanes, and the blocks are added in float64. The
 * maximum contributes 1, and near 1 a lane loses 6e-8 with each term, an error visible in the logarithm of a sum near
 * 1: while the sum is less than 8, blocks with a sum of 0.5 or more are added up again in float64.
 *
 * exp(x - m) is flushed to 0 below the normal numbers, with a negligible effect on losses and gradients. */
#ifndef FASTSEQLOSS_SOFTMAX_ROW_H
#define FASTSEQLOSS_SOFTMAX_ROW_H

#include "simd/math.h"
#include "simd/softmax_vectors.h"

#define FSL_LANES 16
#define FSL_BLOCK 256

#include "simd/float32.inc.h"
#define FSL_HAS_LOOPS FSL_VECTORS
#include "simd/softmax_row.inc.h"
#undef FSL_HAS_LOOPS
#include "simd/float64.inc.h"
#define FSL_HAS_LOOPS 0
#include "simd/softmax_row.inc.h"
#undef FSL_HAS_LOOPS

#endif
