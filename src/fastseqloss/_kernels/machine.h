/* CPU level, compiler and OpenMP of a build, wherever it runs. */
#ifndef FASTSEQLOSS_MACHINE_H
#define FASTSEQLOSS_MACHINE_H

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

/* OpenMP starts no threads here; it is asked how many it would, which is what environment and other libraries set. */
#ifdef _OPENMP
#include <omp.h>
#define FSL_OPENMP _OPENMP
static int fsl_max_threads(void)
{
    const int n = omp_in_parallel() ? 1 : omp_get_max_threads();
#if _OPENMP >= 200805
    const int limit = omp_get_thread_limit();
    return n < limit ? n : limit;
#else
    return n;
#endif
}
#else
#include <limits.h>
#include <stdlib.h>
#define FSL_OPENMP 0
static int fsl_max_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    const long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n < INT_MAX ? (int)n : INT_MAX;
}
#endif

#if defined(_OPENMP) && (defined(__unix__) || defined(__APPLE__))
#include <dlfcn.h>
static const char *fsl_openmp_runtime(void)
{
    Dl_info info;
    return dladdr((void *)omp_get_max_threads, &info) && info.dli_fname ? info.dli_fname : "";
}
#else
static const char *fsl_openmp_runtime(void) { return ""; }
#endif

/* CPUs that the calling thread may run on. OpenMP would leave out that it has bound this very thread to one of them,
 * which the threads it starts inherit. */
#if defined(__linux__)
#include <sched.h>
static int fsl_processors(void)
{
    for (int most = 1024; most <= 1 << 20; most *= 2) {
        cpu_set_t *set = CPU_ALLOC(most);
        if (!set) return 1;
        const int failed = sched_getaffinity(0, CPU_ALLOC_SIZE(most), set);
        const int n = failed ? 0 : CPU_COUNT_S(CPU_ALLOC_SIZE(most), set);
        CPU_FREE(set);
        if (n > 0) return n;
    }
    return 1;
}
#elif defined(_WIN32)
#include <windows.h>
static int fsl_processors(void)
{
    DWORD_PTR process, machine;
    int n = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &process, &machine))
        for (; process; process &= process - 1) n++;
    return n ? n : (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); /* 0: in several groups */
}
#else
#include <unistd.h>
static int fsl_processors(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
#endif

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
/* The builtins also ask the operating system which registers it saves. FMA, BMI and the rest of a level
 * came with AVX2 and AVX-512 on every CPU that has them; the ones named here are checked all the same. */
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
