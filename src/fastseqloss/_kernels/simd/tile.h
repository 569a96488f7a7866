/* Tiles of FSL_FRAMES frames of few classes, transposed to tile[class][frame]. The lanes of a vector are frames:
 * maxima, exponentials and sums run down the classes, without operations across lanes and without tails.
 *
 * One float64 exponential serves the softmax and the emissions of a lattice. That of float32 logits has the error
 * 4.7e-11, far below the rounding of a float32 gradient. */
#ifndef FASTSEQLOSS_TILE_H
#define FASTSEQLOSS_TILE_H

#include "simd/vectors.h"

#define FSL_FRAMES 8
#define FSL_TILE_CLASSES 64 /* most classes of a tile */
#define FSL_MOST_RANGE 0x1p1023 /* that of finite scores is less, or any number is too large */

/* exp(d) for d <= 0, to 4.7e-11; 0 below the normal numbers, where the exponent bits of 2^k are 0. NaN stays NaN. */
FSL_INLINE double fsl_frame_exp_f32(double d)
{
    d = d < -709.2 ? -709.2 : d;
    const double z = d * FSL_LOG2E + (6755399441055744.0 + 1023.0);
    const double t = d * FSL_LOG2E - (z - (6755399441055744.0 + 1023.0));
    return fsl_exp2_brief(t) * fsl_from64(fsl_bits64(z) << 52);
}

/* exp(d) for d <= 0, to the last bits; 0 below the normal numbers. NaN stays NaN. */
FSL_INLINE double fsl_frame_exp_f64(double d) { return fsl_exp_normal64(d < -709.2 ? -709.2 : d); }

#define FSL_TILE_LANES (2 * FSL_X)
#define FSL_TILE_VECTOR fsl_xf
#define FSL_TILE_OP(name) fsl_##name##_xf
#include "simd/float32.inc.h"
#include "simd/tile.inc.h"
#undef FSL_TILE_LANES
#undef FSL_TILE_VECTOR
#undef FSL_TILE_OP
#define FSL_TILE_LANES FSL_X
#define FSL_TILE_VECTOR fsl_x
#define FSL_TILE_OP(name) fsl_##name##_x
#include "simd/float64.inc.h"
#include "simd/tile.inc.h"

/* tile[class][frame] of FSL_FRAMES rows of `width` float64 numbers, a multiple of FSL_X. */
FSL_UNUSED static void fsl_transpose_frames(const double *rows, ptrdiff_t width, double *tile)
{
    for (ptrdiff_t c = 0; c < width; c += FSL_X)
        FSL_UNROLL
        for (int t = 0; t < FSL_FRAMES; t += FSL_X) {
            const double *from[FSL_X];
            fsl_x r[FSL_X];
            FSL_UNROLL
            for (int i = 0; i < FSL_X; i++) from[i] = rows + (t + i) * width + c;
            fsl_load_transposed_x(from, r);
            FSL_UNROLL
            for (int i = 0; i < FSL_X; i++) fsl_store_x(tile + (c + i) * FSL_FRAMES + t, r[i]);
        }
}

#endif
