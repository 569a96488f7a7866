/* The dense passes of a transducer over rows of logits, which take nearly all of its time. Both passes stream through
 * memory: each row prefetches those that follow, and its exponentials, whose arithmetic leaves the loads idle, run
 * beside the maximum of the next row.
 *
 * Sums of float32 rows are added up in blocks as in softmax_row.h; sums under 2 are added up again in float64. */
#ifndef FASTSEQLOSS_DENSE_H
#define FASTSEQLOSS_DENSE_H

#include <string.h>

#include "simd/rows.h"

#if FSL_GNU && defined(__SSE2__)
#define FSL_PAST_CACHES 1
#include <emmintrin.h>
#else
#define FSL_PAST_CACHES 0
#endif

#define FSL_DENSE_BLOCK 512 /* terms of a float32 sum, in FSL_LANES lanes */

#include "simd/float32.inc.h"
#include "transducer/dense.inc.h"
#include "simd/float64.inc.h"
#include "transducer/dense.inc.h"

/* Sets memory to zeros past the caches, without reading it first: half of the traffic. fsl_dense_zeros_end must follow
 * before other threads read it. */
FSL_UNUSED static void fsl_dense_zeros(char *memory, size_t size)
{
#if FSL_PAST_CACHES
    const size_t before = (64 - (size_t)memory % 64) % 64;
    if (size >= 128) {
        memset(memory, 0, before);
        for (memory += before, size -= before; size >= 64; memory += 64, size -= 64)
            for (int i = 0; i < 64; i += 16) _mm_stream_si128((__m128i *)(memory + i), _mm_setzero_si128());
    }
#endif
    memset(memory, 0, size);
}

FSL_UNUSED static void fsl_dense_zeros_end(void)
{
#if FSL_PAST_CACHES
    _mm_sfence();
#endif
}

#endif
