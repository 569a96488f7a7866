/* The dense passes of a transducer over rows of logits, which take nearly all of its time. Both passes stream through
 * memory: each row prefetches those that follow, and its exponentials, whose arithmetic leaves the loads idle, run
 * beside the maximum of the next row.
 *
 * Sums of float32 rows are added up in blocks as in softmax_row.h; sums under 2 are added up again in float64. */
#ifndef FASTSEQLOSS_DENSE_H
#define FASTSEQLOSS_DENSE_H

#include "simd/rows.h"

#define FSL_DENSE_BLOCK 512 /* terms of a float32 sum, in FSL_LANES lanes */

#include "simd/float32.inc.h"
#include "transducer/dense.inc.h"
#include "simd/float64.inc.h"
#include "transducer/dense.inc.h"

#endif
