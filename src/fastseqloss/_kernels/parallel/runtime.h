/* The OpenMP runtime: number of threads, waiting of threads, and threads in a fork. */
#ifndef FASTSEQLOSS_RUNTIME_H
#define FASTSEQLOSS_RUNTIME_H

#if defined(_OPENMP)
#include <omp.h>
#define FSL_OPENMP _OPENMP
/* Threads that a region would have according to the environment and to other libraries. */
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
#define FSL_OPENMP 0
static int fsl_max_threads(void) { return 1; }
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

/* LLVM's runtime reads the setting for waiting at first use, and keeps it for each calling thread. */
#if defined(_OPENMP) && defined(__clang__) && !defined(_MSC_VER)
extern void kmp_set_blocktime(int);
static int fsl_passive = 0;
static void fsl_wait_passively(void)
{
    if (fsl_passive) kmp_set_blocktime(0);
}
static void fsl_set_passive(int passive) { fsl_passive = passive; }
#else
static void fsl_wait_passively(void) { }
static void fsl_set_passive(int passive) { (void)passive; }
#endif

/* GNU's runtime ends the process if it cannot start a thread. In the child of a fork it waits for the threads of the
 * parent, unless they were paused before the fork. */
#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && !defined(_WIN32)

#if __GNUC__ < 9
typedef enum { omp_pause_soft = 1 } omp_pause_resource_t;
#endif
extern int omp_pause_resource_all(omp_pause_resource_t) __attribute__((weak)); /* from version 9 on */

static _Thread_local int fsl_had = 1; /* largest number of workers in a region of this thread since the last fork */
static _Thread_local int fsl_stuck = 0; /* 1 if the workers of this thread could not be paused before a fork */
static int fsl_alone = 0;               /* 1 in the child of such a fork: one worker only */

/* macOS lacks the header, and ThreadSanitizer does not support its threads. */
#if defined(__has_include) && __has_include(<threads.h>) && !defined(__SANITIZE_THREAD__)
#include <stdlib.h>
#include <threads.h>

static int fsl_pass(void *gate)
{
    mtx_lock((mtx_t *)gate);
    mtx_unlock((mtx_t *)gate);
    return 0;
}

/* Number of workers, at most `workers`, that the system can provide: starts and ends as many threads at once. */
static int fsl_startable(int workers)
{
    if (fsl_alone) return 1;
    if (workers <= fsl_had) return workers;
    mtx_t gate;
    thrd_t *const threads = (thrd_t *)malloc((size_t)(workers - 1) * sizeof(thrd_t));
    if (!threads || mtx_init(&gate, mtx_plain) != thrd_success) {
        free(threads);
        return 1;
    }
    int n = 0;
    mtx_lock(&gate);
    while (n < workers - 1 && thrd_create(&threads[n], fsl_pass, &gate) == thrd_success) n++;
    mtx_unlock(&gate);
    for (int i = 0; i < n; i++) thrd_join(threads[i], NULL);
    mtx_destroy(&gate);
    free(threads);
    if (n < workers - 1) return n > 1 ? n : 1; /* one fewer than possible, since OpenMP cannot recover */
    return fsl_had = workers;
}
#else
static int fsl_startable(int workers)
{
    if (fsl_alone) return 1;
    if (workers > fsl_had) fsl_had = workers;
    return workers;
}
#endif

/* Pauses the workers of the thread that forks, before the fork: the child would wait for them. */
static void fsl_pause(void)
{
    fsl_stuck = fsl_had > 1 && !(omp_pause_resource_all && omp_pause_resource_all(omp_pause_soft) == 0);
    if (!fsl_stuck) fsl_had = 1;
}
static void fsl_resume_in_child(void) { fsl_alone = fsl_alone || fsl_stuck; }
#else
#define fsl_startable(workers) (workers)
static void fsl_pause(void) { }
static void fsl_resume_in_child(void) { }
#endif

#endif

