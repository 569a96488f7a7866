/* Extensions of standard C as macros, for all headers of the kernels: vector loops, prefetching, inlining.
 *
 * The kernels rely on strict IEEE semantics: build them without -ffast-math, -fassociative-math, -ffinite-math-only. */
#ifndef FASTSEQLOSS_COMPILER_H
#define FASTSEQLOSS_COMPILER_H

#include <math.h>

/* FSL_STANDARD_C disables the extensions, to test the code that other compilers see. */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(FSL_STANDARD_C)
#define FSL_GNU 1
#define FSL_PRAGMA(text) _Pragma(#text)
#define FSL_INLINE static inline __attribute__((always_inline))
#define FSL_SIMD(clauses) FSL_PRAGMA(omp simd clauses)
#define FSL_PREFETCH(address) __builtin_prefetch(address)
#define FSL_PREFETCH_WRITE(address) __builtin_prefetch(address, 1)
#ifdef __clang__
#define FSL_UNROLL FSL_PRAGMA(unroll)
#else
#define FSL_UNROLL FSL_PRAGMA(GCC unroll 8)
#endif
#define FSL_UNUSED __attribute__((unused)) /* functions that some modules do not call */
#define FSL_OPAQUE(variable) __asm__("" : "+m"(variable)) /* hides the value from the compiler */
#else
#define FSL_GNU 0
#ifdef _MSC_VER
#define FSL_INLINE static __forceinline
#else
#define FSL_INLINE static inline
#endif
#define FSL_SIMD(clauses)
#define FSL_PREFETCH(address) ((void)0)
#define FSL_PREFETCH_WRITE(address) ((void)0)
#define FSL_UNROLL
#define FSL_UNUSED
#define FSL_OPAQUE(variable) ((void)0)
#endif

/* Clang begins the reduction `max` at the least finite number, which is wrong for rows of -inf alone. */
#if defined(__clang__) && FSL_GNU
#define FSL_MAX fsl_max
#define FSL_MIN fsl_min
FSL_PRAGMA(omp declare reduction(fsl_max : float, double : omp_out = omp_in > omp_out ? omp_in : omp_out) \
           initializer(omp_priv = -INFINITY))
FSL_PRAGMA(omp declare reduction(fsl_min : float, double : omp_out = omp_in < omp_out ? omp_in : omp_out) \
           initializer(omp_priv = INFINITY))
#else
#define FSL_MAX max
#define FSL_MIN min
#endif

#endif
