/* A loop over items, cut into portions that the workers of OpenMP regions take as they come.
 *
 * A region lasts 100 ms at most, and the item in progress. Between regions the caller looks for signals, outside of
 * which nobody may run Python code, and decides how many workers the next region has. Which worker takes which item
 * differs from run to run: results must not depend on it. */
#ifndef FASTSEQLOSS_REGION_H
#define FASTSEQLOSS_REGION_H

#include <stddef.h>
#include <stdint.h>

/* Kernels run without the GIL. Cython asks all the same before a region, and up to Python 3.11 the answer is yes once
 * a subinterpreter has been created: it would release a GIL that another thread holds. */
#if defined(Py_PYTHON_H) && PY_VERSION_HEX < 0x030C0000
#define PyGILState_Check() 0
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
typedef volatile __int64 fsl_atomic;
#define fsl_add(counter, n) _InterlockedExchangeAdd64(counter, n)
#define fsl_read(counter) _InterlockedExchangeAdd64(counter, 0)
#define fsl_write(counter, n) ((void)_InterlockedExchange64(counter, n))
static int fsl_replace(fsl_atomic *counter, int64_t *expected, int64_t n)
{
    const int64_t found = _InterlockedCompareExchange64(counter, n, *expected), same = found == *expected;
    *expected = found;
    return (int)same;
}
#else
typedef volatile int64_t fsl_atomic;
#define fsl_add(counter, n) __atomic_fetch_add(counter, n, __ATOMIC_SEQ_CST)
#define fsl_read(counter) __atomic_load_n(counter, __ATOMIC_SEQ_CST)
#define fsl_write(counter, n) __atomic_store_n(counter, n, __ATOMIC_SEQ_CST)
#define fsl_replace(counter, expected, n) \
    __atomic_compare_exchange_n(counter, expected, n, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#endif

/* Nanoseconds: of the clock, and of the CPU's work for this thread. */
#if defined(_WIN32)
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#include <windows.h>
static int64_t fsl_now(void)
{
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return (int64_t)((double)ticks.QuadPart / (double)second.QuadPart * 1e9);
}
static int64_t fsl_worked(void) { return fsl_now(); } /* the counter of the system is too coarse */
#else
#include <time.h>
static inline int64_t fsl_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline int64_t fsl_now(void) { return fsl_clock(CLOCK_MONOTONIC); }
static inline int64_t fsl_worked(void) { return fsl_clock(CLOCK_THREAD_CPUTIME_ID); }
#endif

typedef enum { FSL_DONE, FSL_NO_MEMORY, FSL_INTERRUPTED } fsl_status; /* INTERRUPTED: a Python exception is set */

typedef struct fsl_loop {
    int64_t n, portion;   /* items; of a portion */
    fsl_atomic next;      /* first item not taken */
    int most;             /* workers at most */
    int workers;          /* of the region, the caller among them; 0 before the first */
    fsl_status status;
    fsl_atomic *running;  /* workers at work in the process */
    fsl_atomic joined;    /* workers that have begun, in the region */
    int watched;          /* whether the account wants to know what it takes */
    int64_t first;        /* item that the region began with */
    int64_t began, end;   /* of the region: when it began, when workers leave it */
    int64_t mine, worked; /* the caller's items in the region, and the ns of CPU that they took */
    int64_t generation;   /* forks before the loop began */
} fsl_loop;

/* A helper begins to work if fewer are at work in the process than this call asked for. */
static inline int fsl_joins(fsl_loop *loop)
{
    int64_t running = fsl_read(loop->running);
    while (running < loop->most)
        if (fsl_replace(loop->running, &running, running + 1)) {
            fsl_add(&loop->joined, 1);
            return 1;
        }
    return 0;
}

/* It ceases to if there are more. */
static inline int fsl_gives_way(fsl_loop *loop)
{
    int64_t running = fsl_read(loop->running);
    while (running > loop->most)
        if (fsl_replace(loop->running, &running, running - 1)) return 1;
    return 0;
}

/* Items *first to *last - 1 for a worker; *last is 0 before its first ones. Returns 0 if it has to leave the region,
 * and must not ask again. The caller is worker 0. */
static inline int fsl_next_items(fsl_loop *loop, int worker, ptrdiff_t *first, ptrdiff_t *last)
{
    const int begins = *last == 0;
    if (worker && (begins ? !fsl_joins(loop) : fsl_gives_way(loop))) return 0;
    if (!worker && begins && loop->watched) loop->worked = -fsl_worked();
    if (fsl_now() < loop->end) {
        const int64_t next = fsl_add(&loop->next, loop->portion), left = loop->n - next;
        if (left > 0) {
            const int64_t taken = left < loop->portion ? left : loop->portion;
            if (!worker) loop->mine += taken;
            *first = (ptrdiff_t)next;
            *last = (ptrdiff_t)(next + taken);
            return 1;
        }
    }
    if (!worker && loop->watched) loop->worked += fsl_worked();
    fsl_add(loop->running, -1);
    return 0;
}

#endif
