/* CPU level and compiler, on every platform. */
#ifndef FASTSEQLOSS_CPU_H
#define FASTSEQLOSS_CPU_H

#define FSL_TEXT_(x) #x
#define FSL_TEXT(x) FSL_TEXT_(x)
#if defined(__clang__)
#define FSL_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define FSL_COMPILER "gcc " __VERSION__
#elif defined(_MSC_VER)
#define FSL_COMPILER "msvc " FSL_TEXT(_MSC_VER)
#else
#define FSL_COMPILER "unknown"
#endif

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
/* The builtins also check which registers the operating system saves. Every CPU with AVX2 or AVX-512 also has FMA,
 * BMI and the rest of the level; the instruction sets listed here are checked nevertheless. */
static int fsl_cpu_level(void)
{
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))) return 1;
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
          && __builtin_cpu_supports("bmi2")))
        return 2;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd")
          && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return 3;
    return 4;
}
#elif defined(_M_X64)
#include <intrin.h>
static int fsl_cpu_level(void)
{
    int r[4];
    __cpuid(r, 1);
    const int c1 = r[2];
    if (!(c1 & (1 << 20)) || !(c1 & (1 << 23))) return 1;
    if (!(c1 & (1 << 27))) return 2;
    const unsigned long long saved = _xgetbv(0);
    __cpuidex(r, 7, 0);
    const int b7 = r[1];
    if ((saved & 0x6) != 0x6 || !(c1 & (1 << 12)) || !(b7 & (1 << 3)) || !(b7 & (1 << 5)) || !(b7 & (1 << 8))) return 2;
    const int avx512 = (1 << 16) | (1 << 17) | (1 << 28) | (1 << 30) | (int)(1u << 31);
    return (saved & 0xe6) == 0xe6 && (b7 & avx512) == avx512 ? 4 : 3;
}
#else
static int fsl_cpu_level(void) { return 0; }
#endif

#endif
