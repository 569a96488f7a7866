/* A loop over items, cut into portions that the workers of OpenMP regions take in turn.
 *
 * A region lasts at most 100 ms plus the item in progress, or the part of it after which a kernel pauses it. Between
 * regions, the calling thread, which is worker 0, checks for signals and sets the number of workers of the next region;
 * Python code must not run inside a region. The assignment of items to workers differs from run to run: results must
 * not depend on it. */
#ifndef FASTSEQLOSS_REGION_H
#define FASTSEQLOSS_REGION_H

#include <stddef.h>
#include <stdint.h>

/* Kernels run without the GIL. Cython calls PyGILState_Check before a region nevertheless, and up to Python 3.11 it
 * returns 1 once a subinterpreter has been created: Cython would release a GIL that another thread holds. */
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

/* Nanoseconds: elapsed time, and CPU time of this thread. fsl_yield lets other threads run. */
#if defined(_WIN32)
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#include <windows.h>
static void fsl_yield(void) { SwitchToThread(); }
static int64_t fsl_now(void)
{
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return (int64_t)((double)ticks.QuadPart / (double)second.QuadPart * 1e9);
}
static int64_t fsl_worked(void) { return fsl_now(); } /* the system's counter of CPU time is too coarse */
#else
#include <sched.h>
#include <time.h>
static inline void fsl_yield(void) { sched_yield(); }
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
    int64_t n, portion;   /* items in all, and in a portion */
    fsl_atomic next;      /* first item not taken */
    fsl_atomic paused;    /* items that workers have begun and left unfinished at the end of a region */
    int most;             /* largest number of workers */
    int workers;          /* of the region, including worker 0; 0 before the first region */
    fsl_status status;
    fsl_atomic *running;  /* workers at work in the process */
    fsl_atomic joined;    /* workers that have begun in the region */
    int watched;          /* 1 if the account records the loop */
    int64_t first;        /* first item of the region */
    int64_t began, end;   /* start of the region, and time at which workers leave it */
    int64_t mine, worked; /* items of worker 0 in the region, and their CPU time in ns */
    int64_t generation;   /* forks before the loop began */
} fsl_loop;

/* Returns 1 and counts a worker in if fewer workers are at work in the process than this call allows. */
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

/* Returns 1 and counts a worker out if more workers are at work in the process than this call allows. */
static inline int fsl_gives_way(fsl_loop *loop)
{
    int64_t running = fsl_read(loop->running);
    while (running > loop->most)
        if (fsl_replace(loop->running, &running, running - 1)) return 1;
    return 0;
}

/* Counts a worker out. */
static inline void fsl_leave(fsl_loop *loop, int worker)
{
    if (!worker && loop->watched) loop->worked += fsl_worked();
    fsl_add(loop->running, -1);
}

/* Returns 1 if workers are to leave the region. */
static inline int fsl_is_over(const fsl_loop *loop) { return fsl_now() >= loop->end; }

/* Counts a worker in that continues a paused item before it takes others; returns 0 if it must leave the region. */
static inline int fsl_resume(fsl_loop *loop, int worker)
{
    if (worker && !fsl_joins(loop)) return 0;
    if (!worker && loop->watched) loop->worked = -fsl_worked();
    fsl_add(&loop->paused, -1);
    return 1;
}

/* Leaves the item in progress, which a worker of a later region resumes, and the region. */
static inline void fsl_pause_item(fsl_loop *loop, int worker)
{
    fsl_add(&loop->paused, 1);
    fsl_leave(loop, worker);
}

/* Waits until a counter has a value, which a worker that has taken an earlier item sets when that item is done: the
 * worker with the earliest item never waits. */
static inline void fsl_await(fsl_atomic *counter, int64_t value)
{
    for (int tries = 0; fsl_read(counter) != value; tries++)
        if (tries > 100) fsl_yield();
}

/* Assigns items *first to *last - 1 to a worker; *last is 0 before its first items. Returns 0 if the worker must leave
 * the region; the function must not be called again for it. */
static inline int fsl_next_items(fsl_loop *loop, int worker, ptrdiff_t *first, ptrdiff_t *last)
{
    const int begins = *last == 0;
    if (worker && (begins ? !fsl_joins(loop) : fsl_gives_way(loop))) return 0;
    if (!worker && begins && loop->watched) loop->worked = -fsl_worked();
    if (!fsl_is_over(loop)) {
        const int64_t next = fsl_add(&loop->next, loop->portion), left = loop->n - next;
        if (left > 0) {
            const int64_t taken = left < loop->portion ? left : loop->portion;
            if (!worker) loop->mine += taken;
            *first = (ptrdiff_t)next;
            *last = (ptrdiff_t)(next + taken);
            return 1;
        }
    }
    fsl_leave(loop, worker);
    return 0;
}

#endif
