/* Calls cut into items, which the calling thread and helpers take as they come: one team for the whole process.
 *
 * Why not OpenMP: the end of a parallel region waits for all its threads. Where another program is busy on a core, a
 * thread that has yet to be woken there, or is spinning at the barrier, holds everybody up for milliseconds. Here a
 * call waits for nobody but helpers that have begun an item; those that wake up late find the call gone. Helpers sleep
 * between calls and are shared by all callers, so that many Python threads calling at once are no more threads at
 * work than one of them asked for. After a fork the child has no helpers, and starts its own if it is told to.
 *
 * What remains on a busy machine is a helper pushed off its core in the middle of a portion, or that takes the caller's
 * own core. That may cost a short call more than helpers save it, so gains and losses are kept account of: once helpers
 * have lost time on balance, calls do without them for twenty times as long, and then try again.
 *
 * Which thread takes which item differs from run to run: results must not depend on it. */
#ifndef FASTSEQLOSS_TEAM_H
#define FASTSEQLOSS_TEAM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
#include <process.h>
typedef SRWLOCK fsl_lock_type;
typedef CONDITION_VARIABLE fsl_condition;
#define FSL_UNLOCKED SRWLOCK_INIT
#define FSL_CONDITION CONDITION_VARIABLE_INIT
#define fsl_lock(lock) AcquireSRWLockExclusive(lock)
#define fsl_unlock(lock) ReleaseSRWLockExclusive(lock)
#define fsl_wait(condition, lock) SleepConditionVariableSRW(condition, lock, INFINITE, 0)
#define fsl_wake(condition) WakeConditionVariable(condition)
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
typedef pthread_mutex_t fsl_lock_type;
typedef pthread_cond_t fsl_condition;
#define FSL_UNLOCKED PTHREAD_MUTEX_INITIALIZER
#define FSL_CONDITION PTHREAD_COND_INITIALIZER
#define fsl_lock(lock) pthread_mutex_lock(lock)
#define fsl_unlock(lock) pthread_mutex_unlock(lock)
#define fsl_wait(condition, lock) pthread_cond_wait(condition, lock)
#define fsl_wake(condition) pthread_cond_signal(condition)
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define fsl_add(counter, n) _InterlockedExchangeAdd64(counter, n)
#define fsl_read(counter) _InterlockedExchangeAdd64(counter, 0)
#else
#define fsl_add(counter, n) __atomic_fetch_add(counter, n, __ATOMIC_SEQ_CST)
#define fsl_read(counter) __atomic_load_n(counter, __ATOMIC_SEQ_CST)
#endif

#if defined(_MSC_VER)
#define fsl_pause() YieldProcessor()
#elif defined(__x86_64__) || defined(__i386__)
#define fsl_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define fsl_pause() __asm__ __volatile__("isb" ::: "memory")
#else
#define fsl_pause() ((void)0)
#endif

enum {
    FSL_PORTIONS = 64,       /* of the items, for each thread: what the last to finish can be late by */
    FSL_SPINS = 500,         /* tens of microseconds; a helper is about to finish its portion */
    FSL_STACK = 1 << 20,     /* bytes; musl's default would not do */
    FSL_MILLISECONDS = 100,  /* between looks for a signal */
    FSL_REPAID = 20,         /* a debt of 1 ns is repaid in so many without helpers */
};

/* Nanoseconds. */
#define FSL_MOST_DEBT 100000000 /* two seconds without helpers */
#define FSL_MOST_CREDIT 10000000
#define FSL_LATELY 200000000

/* Items first to last - 1 of a job. hand: from 0 on, less than the number of threads; no two at once have the same. */
typedef void (*fsl_work)(void *job, ptrdiff_t first, ptrdiff_t last, int hand);

typedef struct fsl_call {
    fsl_work work;
    void *job;
    int64_t n, portion;
    int64_t mine;            /* items that the caller did */
    volatile int64_t next;   /* the first item not taken; atomic */
    volatile int64_t active; /* helpers with a portion; written under the lock, read without */
    int most, joined;        /* threads at most, threads so far */
    int waiting;
    int64_t generation;
    fsl_condition finished;
    struct fsl_call *after;
} fsl_call;

/* All under the lock. */
static struct {
    fsl_lock_type lock;
    fsl_condition work;
    fsl_call *calls; /* open for helpers */
    int helpers, idle;
    volatile int64_t running; /* threads at work, callers among them; read without the lock, too */
    int64_t debt;       /* ns that helpers have lost, less what they have gained */
    int64_t alone, cpu; /* ns that calls without helpers took lately, and those of them that they were on a CPU */
    int patient;        /* whether debts do not matter, for tests */
    int64_t generation; /* how many forks ago the process began */
} fsl_team = {FSL_UNLOCKED, FSL_CONDITION, NULL, 0, 0, 0, 0, 0, 0, 0, 0};

/* Nanoseconds: of the clock, and of the CPU's work for this thread. */
#if defined(_WIN32)
static int64_t fsl_now(void)
{
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return (int64_t)((double)ticks.QuadPart / (double)second.QuadPart * 1e9);
}
static int64_t fsl_worked(void) { return fsl_now(); } /* what it has is too coarse */
#else
static int64_t fsl_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static int64_t fsl_now(void) { return fsl_clock(CLOCK_MONOTONIC); }
static int64_t fsl_worked(void) { return fsl_clock(CLOCK_THREAD_CPUTIME_ID); }
#endif

/* Take portions until there are none, or, as a helper, until other callers have come who make one thread too many.
 * interrupted, if not NULL, is asked now and then whether to stop, and nonzero
 * is returned if it says so. */
static int fsl_take(fsl_call *call, int hand, int (*interrupted)(void))
{
    int64_t looked = interrupted ? fsl_now() : 0;
    while (hand == 0 || fsl_read(&fsl_team.running) <= call->most) {
        const int64_t first = fsl_add(&call->next, call->portion), left = call->n - first;
        if (left <= 0) return 0;
        call->work(call->job, (ptrdiff_t)first, (ptrdiff_t)(first + (left < call->portion ? left : call->portion)), hand);
        if (hand == 0) call->mine += left < call->portion ? left : call->portion;
        if (interrupted && left > call->portion && fsl_now() - looked >= FSL_MILLISECONDS * (int64_t)1000000) {
            if (interrupted()) {
                fsl_add(&call->next, call->n);
                return 1;
            }
            looked = fsl_now();
        }
    }
    return 0;
}

/* A call that wants one more thread, or NULL. Under the lock. */
static fsl_call *fsl_wanting(void)
{
    for (fsl_call *call = fsl_team.calls; call; call = call->after)
        if (call->joined < call->most && fsl_read(&fsl_team.running) < call->most && fsl_read(&call->next) < call->n) return call;
    return NULL;
}

/* Unlock, and wake two helpers if there is work for them; each wakes two more, so that nobody spends his time on waking
 * many. */
static void fsl_unlock_and_rouse(void)
{
    const int wanted = !fsl_wanting() ? 0 : fsl_team.idle < 2 ? fsl_team.idle : 2;
    fsl_unlock(&fsl_team.lock);
    for (int i = 0; i < wanted; i++) fsl_wake(&fsl_team.work);
}

#if defined(_WIN32)
static unsigned __stdcall fsl_help(void *unused)
#else
static void *fsl_help(void *unused)
#endif
{
    (void)unused;
#if defined(__linux__)
    /* Batch: waking up, it takes a core that is free, but nobody's who is at work, least of all the caller's. */
    const struct sched_param ordinary = {0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &ordinary);
    pthread_setname_np(pthread_self(), "fastseqloss"); /* for top, gdb and perf */
#endif
    fsl_lock(&fsl_team.lock);
    for (;;) {
        fsl_call *call = fsl_wanting();
        if (!call) {
            fsl_team.idle++;
            fsl_wait(&fsl_team.work, &fsl_team.lock);
            fsl_team.idle--;
            continue;
        }
        const int hand = call->joined++;
        fsl_add(&call->active, 1);
        fsl_add(&fsl_team.running, 1);
        fsl_unlock_and_rouse();
        fsl_take(call, hand, NULL);
        fsl_lock(&fsl_team.lock);
        fsl_add(&fsl_team.running, -1);
        if (call->waiting && fsl_read(&call->active) == 1) fsl_wake(&call->finished);
        fsl_add(&call->active, -1);
    }
    return 0;
}

#if defined(_WIN32)
static int fsl_start_helper(void)
{
    const uintptr_t thread = _beginthreadex(NULL, FSL_STACK, fsl_help, NULL, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread) CloseHandle((HANDLE)thread);
    return thread != 0;
}
#else
static void fsl_before_fork(void) { fsl_lock(&fsl_team.lock); }
static void fsl_in_parent(void) { fsl_unlock(&fsl_team.lock); }
static void fsl_in_child(void)
{
    const int64_t generation = fsl_team.generation + 1;
    pthread_mutex_init(&fsl_team.lock, NULL);
    pthread_cond_init(&fsl_team.work, NULL);
    fsl_team.calls = NULL;
    fsl_team.helpers = fsl_team.idle = 0;
    fsl_team.running = 0;
    fsl_team.debt = fsl_team.alone = fsl_team.cpu = 0;
    fsl_team.generation = generation;
}

/* A thread that signals do not go to: they are for those that the program knows. Under the lock. */
static int fsl_start_helper(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t signals, before;
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, FSL_STACK);
    sigfillset(&signals);
    sigdelset(&signals, SIGSEGV);
    sigdelset(&signals, SIGBUS);
    sigdelset(&signals, SIGFPE);
    sigdelset(&signals, SIGILL);
    pthread_sigmask(SIG_SETMASK, &signals, &before);
    const int failed = pthread_create(&thread, &attributes, fsl_help, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}
#endif

/* Once, before all else; nonzero is returned if there is no memory for it. */
static int fsl_found_team(void)
{
#if defined(_WIN32)
    return 0;
#else
    return pthread_atfork(fsl_before_fork, fsl_in_parent, fsl_in_child);
#endif
}

/* Let helpers in. Where no thread can be had the caller does all of it. Returns 0 if they are not to be called in now. */
static int fsl_open(fsl_call *call)
{
    fsl_lock(&fsl_team.lock);
    if (fsl_team.debt > 0 && !fsl_team.patient) {
        fsl_unlock(&fsl_team.lock);
        return 0;
    }
    call->generation = fsl_team.generation;
    call->after = fsl_team.calls;
    fsl_team.calls = call;
    fsl_add(&fsl_team.running, 1);
    while (fsl_team.helpers < call->most - 1 && fsl_start_helper()) fsl_team.helpers++;
    fsl_unlock_and_rouse();
    return 1;
}

/* Wait for those who have a portion. Returns nonzero if they are gone, with a fork by a signal's handler. */
static int fsl_close(fsl_call *call)
{
    for (int i = 0; i < FSL_SPINS && fsl_read(&call->active); i++) fsl_pause();
    fsl_lock(&fsl_team.lock);
    if (call->generation != fsl_team.generation) {
        fsl_unlock(&fsl_team.lock);
        return 1;
    }
    for (fsl_call **at = &fsl_team.calls; *at; at = &(*at)->after)
        if (*at == call) {
            *at = call->after;
            break;
        }
    call->waiting = 1;
    while (fsl_read(&call->active)) fsl_wait(&call->finished, &fsl_team.lock);
    fsl_add(&fsl_team.running, -1);
    fsl_unlock_and_rouse();
    return 0;
}

/* A call without helpers, of so many ns on the clock and on the CPU: repays debts, and shows what is usual here. */
static void fsl_enter_alone(int64_t elapsed, int64_t worked)
{
    fsl_lock(&fsl_team.lock);
    fsl_team.debt -= elapsed / FSL_REPAID;
    fsl_team.alone += elapsed;
    fsl_team.cpu += worked;
    if (fsl_team.cpu > FSL_LATELY) {
        fsl_team.alone /= 2;
        fsl_team.cpu /= 2;
    }
    fsl_unlock(&fsl_team.lock);
}

/* A call with helpers, which had taken so many ns of CPU without them. What is usual is slowly forgotten: the machine
 * may be less busy by now, and then helpers must not seem better than they are. */
static void fsl_enter_helped(int64_t elapsed, double alone)
{
    fsl_lock(&fsl_team.lock);
    const double usual = fsl_team.alone > fsl_team.cpu && fsl_team.cpu > 0 ? (double)fsl_team.alone / (double)fsl_team.cpu : 1;
    const double debt = (double)fsl_team.debt + (double)elapsed - alone * usual;
    fsl_team.debt = (int64_t)(debt > FSL_MOST_DEBT ? FSL_MOST_DEBT : debt < -FSL_MOST_CREDIT ? -FSL_MOST_CREDIT : debt);
    if (fsl_team.alone > fsl_team.cpu) fsl_team.alone -= (fsl_team.alone - fsl_team.cpu) / FSL_REPAID;
    fsl_unlock(&fsl_team.lock);
}

enum { FSL_DONE, FSL_INTERRUPTED, FSL_FORKED };

/* All n items of a job, on at most so many threads. */
static int fsl_run(fsl_work work, void *job, ptrdiff_t n, int threads, int (*interrupted)(void))
{
    fsl_call call = {work, job, n, 1, 0, 0, 0, threads, 1, 0, 0, FSL_CONDITION, NULL};
    call.most = n < threads ? (int)n : threads;
    if (n > (int64_t)FSL_PORTIONS * threads) call.portion = n / ((int64_t)FSL_PORTIONS * threads);
    if (call.most <= 1) return fsl_take(&call, 0, interrupted) ? FSL_INTERRUPTED : FSL_DONE;
    const int64_t began = fsl_now(), idle = fsl_worked();
    const int helped = fsl_open(&call), stopped = fsl_take(&call, 0, interrupted);
    const int64_t worked = fsl_worked() - idle;
    const int lost = helped ? fsl_close(&call) : 0;
    const int64_t elapsed = fsl_now() - began;
    if (stopped) return FSL_INTERRUPTED;
    if (lost) return FSL_FORKED;
    /* The helpers' items would have taken the caller as long, each, as his own; if he got to none there is no telling. */
    if (!helped)
        fsl_enter_alone(elapsed, worked);
    else if (call.mine)
        fsl_enter_helped(elapsed, (double)worked / (double)call.mine * (double)n);
    return FSL_DONE;
}

/* Whether calls have helpers even where those have been no good. */
static void fsl_set_patient(int patient)
{
    fsl_lock(&fsl_team.lock);
    fsl_team.patient = patient;
    fsl_unlock(&fsl_team.lock);
}

/* Threads of the team that exist, and those that are at work. */
static void fsl_team_size(int *helpers, int *running)
{
    fsl_lock(&fsl_team.lock);
    *helpers = fsl_team.helpers;
    *running = (int)fsl_read(&fsl_team.running);
    fsl_unlock(&fsl_team.lock);
}

#endif
