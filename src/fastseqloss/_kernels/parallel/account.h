/* Number of workers of the regions of a process: concurrent calls share them, and calls use one worker if further
 * workers have slowed recent calls down.
 *
 * The end of a region waits for all its workers. On a busy machine a worker may have lost its core to another program,
 * which may cost a short call more time than the worker saves. The account adds up gains and losses: after a net loss,
 * calls use one worker for some time, which doubles with each further loss, and then use several again. */
#ifndef FASTSEQLOSS_ACCOUNT_H
#define FASTSEQLOSS_ACCOUNT_H

#include "region.h"
#include "runtime.h"

enum {
    FSL_PORTIONS = 64, /* of the items for each worker: bounds the delay by the last one to finish */
    FSL_PORTION = 1024, /* largest number of items: items of kernels with that many take some microseconds in all */
    FSL_REST = 20,     /* least number of ns with one worker after a loss of 1 ns, */
    FSL_LONG_REST = 640, /* and largest number */
    FSL_CALLS = 8,     /* gains are limited to the time of this number of calls */
};

/* Nanoseconds. */
#define FSL_REGION 100000000
#define FSL_MOST_REST 2000000000
#define FSL_MOST_CREDIT 10000000
#define FSL_LATELY 200000000

static struct {
    fsl_atomic running;     /* workers at work, including calling threads */
    fsl_atomic most;        /* largest number of workers of a region so far */
    fsl_atomic rest;        /* remaining ns during which calls use one worker */
    fsl_atomic always_help; /* 1: ignore `rest`; for tests */
    fsl_atomic generation;  /* forks since the first process */
    fsl_atomic lock;        /* of the fields below; calls that do not acquire it are not recorded */
    int64_t credit;         /* ns gained by further workers, less ns lost */
    int64_t factor;         /* FSL_REST to FSL_LONG_REST */
    int64_t alone, cpu;     /* elapsed ns of recent calls with one worker, and their CPU time */
} fsl_process = {0, 0, 0, 0, 0, 0, 0, FSL_REST, 0, 0};

/* Resets the account in the child of a fork, which has none of the parent's threads. */
static void fsl_begin_process(void)
{
    fsl_write(&fsl_process.running, 0);
    fsl_write(&fsl_process.most, 0);
    fsl_write(&fsl_process.rest, 0);
    fsl_write(&fsl_process.lock, 0);
    fsl_add(&fsl_process.generation, 1);
    fsl_process.credit = fsl_process.alone = fsl_process.cpu = 0;
    fsl_process.factor = FSL_REST;
}

/* Records a region with one worker: its elapsed time and its CPU time in ns measure the load of the machine. */
static void fsl_enter_alone(int64_t elapsed, int64_t worked)
{
    if (fsl_read(&fsl_process.rest) > 0) fsl_add(&fsl_process.rest, -elapsed);
    fsl_process.alone += elapsed;
    fsl_process.cpu += worked;
    if (fsl_process.cpu > FSL_LATELY) {
        fsl_process.alone /= 2;
        fsl_process.cpu /= 2;
    }
}

/* Records a region with several workers, which would have taken `alone` ns of CPU time with one. The measured load
 * decays slowly: the machine may be less busy by now, and the gain must not be overestimated. */
static void fsl_enter_helped(int64_t elapsed, double alone)
{
    const double slowed = fsl_process.cpu > 0 ? (double)fsl_process.alone / (double)fsl_process.cpu : 1;
    const double gain = alone * (slowed > 1 ? slowed : 1) - (double)elapsed, limit = alone * FSL_CALLS;
    const double most = limit < FSL_MOST_CREDIT ? limit : FSL_MOST_CREDIT, credit = (double)fsl_process.credit + gain;
    fsl_process.credit = credit < 0 ? 0 : (int64_t)(credit < most ? credit : most);
    if (fsl_process.alone > fsl_process.cpu) fsl_process.alone -= (fsl_process.alone - fsl_process.cpu) / FSL_REST;
    if (gain >= 0) {
        fsl_process.factor -= (fsl_process.factor - FSL_REST + 7) / 8;
    } else if (credit < 0) {
        const double rest = -credit * (double)fsl_process.factor;
        fsl_write(&fsl_process.rest, rest < FSL_MOST_REST ? (int64_t)rest : FSL_MOST_REST);
        if (fsl_process.factor < FSL_LONG_REST) fsl_process.factor *= 2;
    }
}

/* Number of workers for the next region: worker 0, which always works, and the further workers that may join. */
static int fsl_workers(const fsl_loop *loop)
{
    const int64_t others = fsl_add(&fsl_process.running, 1), spare = loop->most - others;
    const int64_t left = (loop->next < loop->n ? loop->n - loop->next : 0) + loop->paused;
    const int64_t wanted = left < spare ? left : spare;
    if (wanted <= 1 || (fsl_read(&fsl_process.rest) > 0 && !fsl_read(&fsl_process.always_help))) return 1;
    return fsl_startable((int)wanted);
}

static void fsl_begin(fsl_loop *loop, ptrdiff_t n, int most)
{
    *loop = (fsl_loop){0};
    loop->n = n;
    loop->most = most;
    loop->portion = n > (int64_t)FSL_PORTIONS * most ? n / ((int64_t)FSL_PORTIONS * most) : 1;
    if (loop->portion > FSL_PORTION) loop->portion = FSL_PORTION;
    loop->running = &fsl_process.running;
    loop->generation = fsl_read(&fsl_process.generation);
}

/* Sets the workers and the end of the next region. Returns 0 if no items are left. */
static int fsl_open(fsl_loop *loop)
{
    if (loop->next >= loop->n && loop->paused == 0) return 0;
    if (loop->generation != fsl_read(&fsl_process.generation)) loop->most = 1; /* a signal's handler has forked */
    loop->workers = fsl_workers(loop);
    loop->first = loop->next;
    loop->joined = 1;
    loop->mine = loop->worked = 0;
    loop->watched = loop->most > 1;
    if (loop->workers > 1) fsl_wait_passively();
    loop->began = fsl_now();
    loop->end = loop->began + FSL_REGION;
    return 1;
}

/* Records a region after its end. A region may have had fewer workers than it was given. */
static void fsl_close(fsl_loop *loop)
{
    const int64_t elapsed = fsl_now() - loop->began, done = (loop->next < loop->n ? loop->next : loop->n) - loop->first;
    int64_t most = fsl_read(&fsl_process.most);
    while (loop->joined > most && !fsl_replace(&fsl_process.most, &most, loop->joined)) continue;
    if (!loop->watched || loop->mine == 0) return;
    if (fsl_add(&fsl_process.lock, 1) == 0) {
        if (loop->workers == 1)
            fsl_enter_alone(elapsed, loop->worked);
        else /* assumes equal times for the items of all workers */
            fsl_enter_helped(elapsed, (double)loop->worked / (double)loop->mine * (double)done);
    }
    fsl_add(&fsl_process.lock, -1);
}

#endif
