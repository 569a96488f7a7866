/* Vectors of FSL_X float64 numbers, for loops whose data dependences compilers do not see through: shuffles between
 * lanes, and values carried from one vector to the next. GNU vectors, or a plain C twin with the same results. Vectors
 * of float32 have no twin: code that uses them has another form without. */
#ifndef FASTSEQLOSS_VECTORS_H
#define FASTSEQLOSS_VECTORS_H

#include "simd/math.h"

#define FSL_VECTORS 0
#if FSL_GNU && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
#undef FSL_VECTORS
#define FSL_VECTORS 1
#endif
#endif

#if FSL_VECTORS

#ifdef __SSE2__
#include <immintrin.h>
#endif

#ifdef __AVX__
#define FSL_X 4
#else
#define FSL_X 2
#endif

typedef double fsl_x __attribute__((vector_size(8 * FSL_X)));
typedef double fsl_x_unaligned __attribute__((vector_size(8 * FSL_X), aligned(8), may_alias));
typedef float fsl_xf __attribute__((vector_size(8 * FSL_X))); /* 2 FSL_X float32 numbers */
typedef float fsl_xf_unaligned __attribute__((vector_size(8 * FSL_X), aligned(4), may_alias));

FSL_INLINE fsl_x fsl_load_x(const double *p) { return *(const fsl_x_unaligned *)p; }
FSL_INLINE void fsl_store_x(double *p, fsl_x a) { *(fsl_x_unaligned *)p = a; }
FSL_INLINE fsl_xf fsl_load_xf(const float *p) { return *(const fsl_xf_unaligned *)p; }
FSL_INLINE void fsl_store_xf(float *p, fsl_xf a) { *(fsl_xf_unaligned *)p = a; }
FSL_INLINE fsl_x fsl_add_x(fsl_x a, fsl_x b) { return a + b; }
FSL_INLINE fsl_x fsl_mul_x(fsl_x a, fsl_x b) { return a * b; }
FSL_INLINE fsl_x fsl_mul_add_x(fsl_x a, fsl_x b, fsl_x c) { return a * b + c; }
FSL_INLINE double fsl_first_x(fsl_x a) { return a[0]; }
FSL_INLINE double fsl_last_x(fsl_x a) { return a[FSL_X - 1]; }

typedef int64_t fsl_x_bits __attribute__((vector_size(8 * FSL_X)));

/* a where b > 0, else 0, whatever a is. */
FSL_INLINE fsl_x fsl_where_positive_x(fsl_x a, fsl_x b) { return (fsl_x)((fsl_x_bits)a & (b > 0.0)); }

#define FSL_SHUFFLE __builtin_shufflevector
#define FSL_XF (2 * FSL_X) /* lanes of a float32 vector */

typedef int32_t fsl_xi __attribute__((vector_size(8 * FSL_X)));

FSL_INLINE fsl_xf fsl_all_xf(float a) { return (fsl_xf){0} + a; }

/* a > b ? a : b; b where a is NaN. */
FSL_INLINE fsl_xf fsl_max_xf(fsl_xf a, fsl_xf b)
{
#ifdef __AVX__
    return (fsl_xf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (fsl_xf)_mm_max_ps((__m128)a, (__m128)b);
#else
    const fsl_xi more = a > b;
    return (fsl_xf)(((fsl_xi)a & more) | ((fsl_xi)b & ~more));
#endif
}

#ifdef __AVX2__

/* exp(x) of each lane, -88 <= x <= 88: 2^(k / 8) 2^t, |t| <= 1/16. The three low bits of k select a power from a table
 * that fits in a register, so that a polynomial of degree 3 suffices, with a relative error of 2.7e-8. The error of the
 * result is bounded as that of fsl_exp_normal32; it is exactly 1 at 0, and 0 at -88. */
FSL_INLINE fsl_xf fsl_exp_normal_xf(fsl_xf x)
{
    /* the mantissas of 2^(k / 8), less the bits that k leaves there when it is shifted to the exponent */
    const fsl_xi table = {0, -289342, -509968, -655657, -719629, -694486, -572163, -343865};
    const float bias = 1572864.0f + 127.0f, log2e = (float)FSL_LOG2E;
    const fsl_xf z = x * log2e + bias, t = x * log2e - (z - bias);
    const fsl_xi mantissa = (fsl_xi)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)z);
    const fsl_xf power = (fsl_xf)(((fsl_xi)z << 20) + mantissa);
    fsl_xf p = 0.0554962218f * t + 0.240257636f;
    p = (p * t + 0.693147242f) * t;
    return p * power + power;
}

FSL_INLINE void fsl_exp_normal_pair(fsl_xf *first, fsl_xf *second)
{
    *first = fsl_exp_normal_xf(*first);
    *second = fsl_exp_normal_xf(*second);
}

#else

/* fsl_exp_normal32 of each lane. */
FSL_INLINE fsl_xf fsl_exp_normal_xf(fsl_xf x)
{
    const fsl_xf z = x * (float)FSL_LOG2E + (12582912.0f + 127.0f);
    const fsl_xf t = x * (float)FSL_LOG2E - (z - (12582912.0f + 127.0f));
    fsl_xf p = 0.000153533557f * t + 0.00133988772f;
    p = p * t + 0.00961843741f;
    p = p * t + 0.0555033246f;
    p = p * t + 0.240226479f;
    p = p * t + 0.693147203f;
    return (p * t + 1.0f) * (fsl_xf)((fsl_xi)z << 23);
}

/* Keeps the order of operations on two vectors alternating: the chain of operations on one is longer than processors
 * look ahead. */
#if defined(__SSE2__)
#define FSL_IN_TURN(a, b) __asm__("" : "+x"(a), "+x"(b))
#else
#define FSL_IN_TURN(a, b) ((void)0)
#endif

/* fsl_exp_normal32 of each lane of two vectors. */
FSL_INLINE void fsl_exp_normal_pair(fsl_xf *first, fsl_xf *second)
{
    const float bias = 12582912.0f + 127.0f, log2e = (float)FSL_LOG2E;
    const fsl_xf a = *first, b = *second;
    fsl_xf y = a * log2e + bias, z = b * log2e + bias;
    fsl_xf s = y - bias, t = z - bias;
    FSL_IN_TURN(s, t);
    s = a * log2e - s, t = b * log2e - t;
    fsl_xf p = 0.000153533557f * s + 0.00133988772f, q = 0.000153533557f * t + 0.00133988772f;
    FSL_IN_TURN(p, q);
    p = p * s + 0.00961843741f, q = q * t + 0.00961843741f;
    FSL_IN_TURN(p, q);
    p = p * s + 0.0555033246f, q = q * t + 0.0555033246f;
    FSL_IN_TURN(p, q);
    p = p * s + 0.240226479f, q = q * t + 0.240226479f;
    FSL_IN_TURN(p, q);
    p = p * s + 0.693147203f, q = q * t + 0.693147203f;
    FSL_IN_TURN(p, q);
    *first = (p * s + 1.0f) * (fsl_xf)((fsl_xi)y << 23);
    *second = (q * t + 1.0f) * (fsl_xf)((fsl_xi)z << 23);
}

#endif

/* sum[i] += a[i] in float64 for all lanes. */
FSL_INLINE void fsl_add_wide_xf(fsl_xf a, fsl_x sum[2])
{
    typedef float half __attribute__((vector_size(4 * FSL_X)));
    half low, high;
    memcpy(&low, &a, sizeof low);
    memcpy(&high, (const char *)&a + sizeof low, sizeof high);
    sum[0] += __builtin_convertvector(low, fsl_x);
    sum[1] += __builtin_convertvector(high, fsl_x);
}

#if FSL_X == 4

FSL_INLINE fsl_x fsl_all_x(double a) { return (fsl_x){a, a, a, a}; }

/* a[i - 1], `carry` in the first lane; a[i + 1], `carry` in the last lane. */
FSL_INLINE fsl_x fsl_shift_up_x(fsl_x a, double carry) { return FSL_SHUFFLE(a, fsl_all_x(carry), 4, 0, 1, 2); }
FSL_INLINE fsl_x fsl_shift_down_x(fsl_x a, double carry) { return FSL_SHUFFLE(a, fsl_all_x(carry), 1, 2, 3, 4); }

typedef double fsl_half_unaligned __attribute__((vector_size(16), aligned(8), may_alias));

/* Vectors of the elements 0, 1, ... of FSL_X arrays. Halves are loaded one by one, which spares shuffles. */
FSL_INLINE void fsl_load_transposed_x(const double *const *p, fsl_x r[4])
{
    FSL_UNROLL
    for (int i = 0; i < 4; i += 2) {
        const fsl_x a = FSL_SHUFFLE(*(const fsl_half_unaligned *)(p[0] + i), *(const fsl_half_unaligned *)(p[2] + i),
                                    0, 1, 2, 3);
        const fsl_x b = FSL_SHUFFLE(*(const fsl_half_unaligned *)(p[1] + i), *(const fsl_half_unaligned *)(p[3] + i),
                                    0, 1, 2, 3);
        r[i] = FSL_SHUFFLE(a, b, 0, 4, 2, 6);
        r[i + 1] = FSL_SHUFFLE(a, b, 1, 5, 3, 7);
    }
}

FSL_INLINE void fsl_transpose_x(fsl_x r[4])
{
    const fsl_x a = FSL_SHUFFLE(r[0], r[1], 0, 4, 2, 6), b = FSL_SHUFFLE(r[0], r[1], 1, 5, 3, 7);
    const fsl_x c = FSL_SHUFFLE(r[2], r[3], 0, 4, 2, 6), d = FSL_SHUFFLE(r[2], r[3], 1, 5, 3, 7);
    r[0] = FSL_SHUFFLE(a, c, 0, 1, 4, 5);
    r[1] = FSL_SHUFFLE(b, d, 0, 1, 4, 5);
    r[2] = FSL_SHUFFLE(a, c, 2, 3, 6, 7);
    r[3] = FSL_SHUFFLE(b, d, 2, 3, 6, 7);
}

FSL_INLINE void fsl_transpose_xf(fsl_xf r[8])
{
    fsl_xf a[8], b[8];
    FSL_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = FSL_SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = FSL_SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    FSL_UNROLL
    for (int i = 0; i < 8; i += 4) {
        b[i] = FSL_SHUFFLE(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 1] = FSL_SHUFFLE(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        b[i + 2] = FSL_SHUFFLE(a[i + 1], a[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 3] = FSL_SHUFFLE(a[i + 1], a[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    FSL_UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = FSL_SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = FSL_SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

#else

FSL_INLINE fsl_x fsl_all_x(double a) { return (fsl_x){a, a}; }
FSL_INLINE fsl_x fsl_shift_up_x(fsl_x a, double carry) { return FSL_SHUFFLE(a, fsl_all_x(carry), 2, 0); }
FSL_INLINE fsl_x fsl_shift_down_x(fsl_x a, double carry) { return FSL_SHUFFLE(a, fsl_all_x(carry), 1, 2); }

FSL_INLINE void fsl_transpose_x(fsl_x r[2])
{
    const fsl_x a = r[0];
    r[0] = FSL_SHUFFLE(a, r[1], 0, 2);
    r[1] = FSL_SHUFFLE(a, r[1], 1, 3);
}

FSL_INLINE void fsl_load_transposed_x(const double *const *p, fsl_x r[2])
{
    r[0] = fsl_load_x(p[0]);
    r[1] = fsl_load_x(p[1]);
    fsl_transpose_x(r);
}

FSL_INLINE void fsl_transpose_xf(fsl_xf r[4])
{
    const fsl_xf a = FSL_SHUFFLE(r[0], r[1], 0, 4, 1, 5), b = FSL_SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    const fsl_xf c = FSL_SHUFFLE(r[2], r[3], 0, 4, 1, 5), d = FSL_SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    r[0] = FSL_SHUFFLE(a, c, 0, 1, 4, 5);
    r[1] = FSL_SHUFFLE(a, c, 2, 3, 6, 7);
    r[2] = FSL_SHUFFLE(b, d, 0, 1, 4, 5);
    r[3] = FSL_SHUFFLE(b, d, 2, 3, 6, 7);
}

#endif

#else /* the plain C twin */

#define FSL_X 4
typedef struct { double lane[FSL_X]; } fsl_x;

#define FSL_LANEWISE(expression)                                          \
    fsl_x out;                                                            \
    for (int i = 0; i < FSL_X; i++) out.lane[i] = (expression);           \
    return out

FSL_INLINE fsl_x fsl_load_x(const double *p) { FSL_LANEWISE(p[i]); }
FSL_INLINE void fsl_store_x(double *p, fsl_x a) { memcpy(p, a.lane, sizeof a.lane); }
FSL_INLINE fsl_x fsl_all_x(double a) { FSL_LANEWISE(a); }
FSL_INLINE fsl_x fsl_add_x(fsl_x a, fsl_x b) { FSL_LANEWISE(a.lane[i] + b.lane[i]); }
FSL_INLINE fsl_x fsl_mul_x(fsl_x a, fsl_x b) { FSL_LANEWISE(a.lane[i] * b.lane[i]); }
FSL_INLINE fsl_x fsl_mul_add_x(fsl_x a, fsl_x b, fsl_x c) { FSL_LANEWISE(a.lane[i] * b.lane[i] + c.lane[i]); }
FSL_INLINE fsl_x fsl_where_positive_x(fsl_x a, fsl_x b) { FSL_LANEWISE(b.lane[i] > 0 ? a.lane[i] : 0.0); }
FSL_INLINE double fsl_first_x(fsl_x a) { return a.lane[0]; }
FSL_INLINE double fsl_last_x(fsl_x a) { return a.lane[FSL_X - 1]; }
FSL_INLINE fsl_x fsl_shift_up_x(fsl_x a, double carry) { FSL_LANEWISE(i ? a.lane[i - 1] : carry); }
FSL_INLINE fsl_x fsl_shift_down_x(fsl_x a, double carry) { FSL_LANEWISE(i < FSL_X - 1 ? a.lane[i + 1] : carry); }

FSL_INLINE void fsl_load_transposed_x(const double *const *p, fsl_x r[FSL_X])
{
    for (int i = 0; i < FSL_X; i++)
        for (int k = 0; k < FSL_X; k++) r[i].lane[k] = p[k][i];
}

#endif

#endif
