/* Conversion of stored array elements (float32, float64, half precision, integers) to and from contiguous buffers of
 * float32 or float64, the types of all arithmetic. */
#ifndef FASTSEQLOSS_ELEMENTS_H
#define FASTSEQLOSS_ELEMENTS_H

#include "simd/softmax_row.h"

typedef enum fsl_stored { /* element types of arrays */
    FSL_FLOAT32, FSL_FLOAT64, FSL_FLOAT16, FSL_BFLOAT16, FSL_INT8, FSL_UINT8, FSL_INT32, FSL_INT64
} fsl_stored;

typedef struct { uint16_t bits; } fsl_float16;
typedef struct { uint16_t bits; } fsl_bfloat16;

/* Branch-free, so that loops vectorise: the exponent of a normal number is shifted, and a subnormal number is an
 * integer times 2^-24. */
FSL_INLINE float fsl_from_float16(fsl_float16 h)
{
    const uint32_t size = h.bits & 0x7FFFu, sign = (uint32_t)(h.bits & 0x8000u) << 16;
    const uint32_t normal = (size << 13) + ((127u - 15u) << 23);
    const uint32_t subnormal = fsl_bits32((float)(int32_t)size * 0x1p-24f);
    uint32_t bits = size < 0x0400u ? subnormal : normal;
    bits = size >= 0x7C00u ? (size << 13) | 0x7F800000u : bits;
    return fsl_from32(bits | sign);
}

/* Rounds to nearest, ties to even. Adding 0.5 puts a subnormal result into the low bits, rounded. Numbers out of range
 * become 2^16, whose bits are those of inf; NaN differs from inf in one more bit. Selections are written as masks,
 * since compilers turn conditions into branches. */
FSL_INLINE fsl_float16 fsl_to_float16(float x)
{
    const uint32_t given = fsl_bits32(x) & 0x7FFFFFFFu, sign = (fsl_bits32(x) >> 16) & 0x8000u;
    const uint32_t size = given < 0x47800000u ? given : 0x47800000u;
    const uint32_t normal = (size - ((127u - 15u) << 23) + 0x0FFFu + ((size >> 13) & 1u)) >> 13;
    const uint32_t subnormal = fsl_bits32(fsl_from32(size) + 0.5f) - 0x3F000000u;
    const uint32_t tiny = (uint32_t)((int32_t)(size - 0x38800000u) >> 31);
    const uint32_t nan = (0x7F800000u - given) >> 31 << 9;
    return (fsl_float16){(uint16_t)((subnormal & tiny) | (normal & ~tiny) | nan | sign)};
}

FSL_INLINE float fsl_from_bfloat16(fsl_bfloat16 h) { return fsl_from32((uint32_t)h.bits << 16); }

FSL_INLINE fsl_bfloat16 fsl_to_bfloat16(float x)
{
    const uint32_t b = fsl_bits32(x), rounded = (b + 0x7FFFu + ((b >> 16) & 1u)) >> 16;
    return (fsl_bfloat16){(uint16_t)(rounded | (x != x ? 0x7FC0u : 0u))};
}

#define FSL_AS_IS(x) (x)
#define FSL_AS_FLOAT(x) ((float)(x))
#define FSL_AS_DOUBLE(x) ((double)(x))
#define FSL_TO_FLOAT16(x) fsl_to_float16((float)(x))
#define FSL_TO_BFLOAT16(x) fsl_to_bfloat16((float)(x))

#define FSL_ELEMENT_FUNCTIONS(real, name)                                                                         \
    /* Copies n elements, `stride` bytes apart, into a buffer. */                                                 \
    FSL_UNUSED static void fsl_load_##name(fsl_stored kind, const char *from, ptrdiff_t stride, ptrdiff_t n,      \
                                           real *to)                                                              \
    {                                                                                                             \
        switch (kind) {                                                                                           \
        case FSL_FLOAT32: FSL_LOAD(float, real, FSL_AS_IS) break;                                                 \
        case FSL_FLOAT64: FSL_LOAD(double, real, FSL_AS_IS) break;                                                \
        case FSL_FLOAT16: FSL_LOAD(fsl_float16, real, fsl_from_float16) break;                                    \
        case FSL_BFLOAT16: FSL_LOAD(fsl_bfloat16, real, fsl_from_bfloat16) break;                                 \
        case FSL_INT8: FSL_LOAD(int8_t, real, FSL_AS_IS) break;                                                   \
        case FSL_UINT8: FSL_LOAD(uint8_t, real, FSL_AS_IS) break;                                                 \
        case FSL_INT32: FSL_LOAD(int32_t, real, FSL_AS_IS) break;                                                 \
        case FSL_INT64: FSL_LOAD(int64_t, real, FSL_AS_IS) break;                                                 \
        }                                                                                                         \
    }                                                                                                             \
    /* Copies n elements of a buffer, times scale; rounds once more for half precision. */                        \
    FSL_UNUSED static void fsl_store_##name(fsl_stored kind, const real *from, real scale, ptrdiff_t n, char *to, \
                                            ptrdiff_t stride)                                                     \
    {                                                                                                             \
        switch (kind) {                                                                                           \
        case FSL_FLOAT32: FSL_STORE(float, FSL_AS_FLOAT) break;                                                   \
        case FSL_FLOAT64: FSL_STORE(double, FSL_AS_DOUBLE) break;                                                 \
        case FSL_FLOAT16: FSL_STORE(fsl_float16, FSL_TO_FLOAT16) break;                                           \
        case FSL_BFLOAT16: FSL_STORE(fsl_bfloat16, FSL_TO_BFLOAT16) break;                                        \
        default: break; /* integer arrays are never written */                                                    \
        }                                                                                                         \
    }

#define FSL_LOAD(type, real, convert)                                                                    \
    {                                                                                                    \
        if (stride == (ptrdiff_t)sizeof(type)) {                                                         \
            const type *restrict x = (const type *)from;                                                 \
            FSL_SIMD()                                                                                   \
            for (ptrdiff_t i = 0; i < n; i++) to[i] = (real)convert(x[i]);                               \
        } else                                                                                           \
            for (ptrdiff_t i = 0; i < n; i++) to[i] = (real)convert(*(const type *)(from + i * stride)); \
    }

/* Conversion of n elements, and their maximum in the same pass. */
#define FSL_LOAD_MAX(type, real, convert)            \
    {                                                \
        const type *restrict x = (const type *)from; \
        FSL_SIMD(reduction(FSL_MAX : most))          \
        for (ptrdiff_t i = 0; i < n; i++) {          \
            const real value = (real)convert(x[i]);  \
            to[i] = value;                           \
            most = value > most ? value : most;      \
        }                                            \
    }

#define FSL_STORE(type, convert)                                                                     \
    {                                                                                                \
        if (stride == (ptrdiff_t)sizeof(type)) {                                                     \
            type *restrict out = (type *)to;                                                         \
            FSL_SIMD()                                                                               \
            for (ptrdiff_t i = 0; i < n; i++) out[i] = convert(scale * from[i]);                     \
        } else                                                                                       \
            for (ptrdiff_t i = 0; i < n; i++) *(type *)(to + i * stride) = convert(scale * from[i]); \
    }

FSL_ELEMENT_FUNCTIONS(float, f32)
FSL_ELEMENT_FUNCTIONS(double, f64)

#endif
