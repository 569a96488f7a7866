/* CPUs, forks and figures for tests: functions of threads.pyx besides the account. */
#ifndef FASTSEQLOSS_THREADS_H
#define FASTSEQLOSS_THREADS_H

#include "account.h"

/* CPUs that the calling thread may run on. OpenMP's own count ignores that OpenMP may have bound this thread to a
 * single CPU, a binding that the threads it starts inherit. */
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
    return n ? n : (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); /* 0: the process spans several groups */
}
#else
#include <unistd.h>
static int fsl_processors(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
#endif

/* Python's main thread, which runs the signal handlers. In the child of a fork it is the thread that forked. */
static unsigned long fsl_main_thread = 0;
static int fsl_in_main_thread(void) { return PyThread_get_thread_ident() == fsl_main_thread; }

#if defined(_WIN32)
static int fsl_watch_forks(void) { return 0; }
#else
#include <pthread.h>

static void fsl_in_child(void)
{
    fsl_main_thread = PyThread_get_thread_ident();
    fsl_resume_in_child();
    fsl_begin_process();
}

/* Installs the handlers of forks; called once, before all else. Returns nonzero if memory is exhausted. */
static int fsl_watch_forks(void) { return pthread_atfork(fsl_pause, NULL, fsl_in_child); }
#endif

static void fsl_always_help(int always) { fsl_write(&fsl_process.always_help, always); }

static void fsl_read_workers(int *most, int *running)
{
    *most = (int)fsl_read(&fsl_process.most);
    *running = (int)fsl_read(&fsl_process.running);
}

#endif
