/* How many workers the regions of a process have: shared by calls at once, and none but the caller where others have
 * been no gain.
 *
 * The end of a region waits for all its workers. On a busy machine one of them may have been pushed off its core, which
 * may cost a short call more than it saves. So gains and losses are kept account of: after a loss on balance, calls do
 * without helpers for a while, longer after each loss that follows, and then try again. */
#ifndef FASTSEQLOSS_ACCOUNT_H
#define FASTSEQLOSS_ACCOUNT_H

#include "region.h"
#include "runtime.h"

enum {
    FSL_PORTIONS = 64, /* of the items, for each worker: what the last to finish can be late by */
    FSL_PORTION = 1024, /* items at most: those of kernels that have so many take some microseconds */
    FSL_REST = 20,     /* a loss of 1 ns is followed by so many without helpers, at least, */
    FSL_LONG_REST = 640, /* and at most */
    FSL_CALLS = 8,     /* gains count up to what so many calls take */
};

/* Nanoseconds. */
#define FSL_REGION 100000000
#define FSL_MOST_REST 2000000000
#define FSL_MOST_CREDIT 10000000
#define FSL_LATELY 200000000

static struct {
    fsl_atomic running;     /* workers at work, callers among them */
    fsl_atomic most;        /* workers that a region has had, at most */
    fsl_atomic rest;        /* ns that calls do without helpers from now on */
    fsl_atomic always_help; /* for tests */
    fsl_atomic generation;  /* forks since the first process */
    fsl_atomic lock;        /* of what follows; who does not get it keeps no account */
    int64_t credit;         /* ns that helpers have gained, less what they have lost */
    int64_t factor;         /* FSL_REST to FSL_LONG_REST */
    int64_t alone, cpu;     /* ns that calls without helpers took lately, and those of them that they were on a CPU */
} fsl_process = {0, 0, 0, 0, 0, 0, 0, FSL_REST, 0, 0};

/* Nothing of the parent's threads is left in the child of a fork. */
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

/* A region without helpers, of so many ns on the clock and on the CPU, shows what is usual. */
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

/* A region with helpers, which had taken so many ns of CPU without them. What is usual is slowly forgotten: the
 * machine may be less busy by now, and then helpers must not seem better than they are. */
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

/* Number of workers for the next region: the caller, which works in any case, and as many helpers as may join. */
static int fsl_workers(const fsl_loop *loop)
{
    const int64_t others = fsl_add(&fsl_process.running, 1), spare = loop->most - others, left = loop->n - loop->next;
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

/* Before a region: who works in it, and when it ends. Returns 0 if there is nothing left to do. */
static int fsl_open(fsl_loop *loop)
{
    if (loop->next >= loop->n) return 0;
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

/* After it. A region may have had fewer workers than it was given. */
static void fsl_close(fsl_loop *loop)
{
    const int64_t elapsed = fsl_now() - loop->began, done = (loop->next < loop->n ? loop->next : loop->n) - loop->first;
    int64_t most = fsl_read(&fsl_process.most);
    while (loop->joined > most && !fsl_replace(&fsl_process.most, &most, loop->joined)) continue;
    if (!loop->watched || loop->mine == 0) return;
    if (fsl_add(&fsl_process.lock, 1) == 0) {
        if (loop->workers == 1)
            fsl_enter_alone(elapsed, loop->worked);
        else /* the others' items would have taken the caller as long, each, as its own */
            fsl_enter_helped(elapsed, (double)loop->worked / (double)loop->mine * (double)done);
    }
    fsl_add(&fsl_process.lock, -1);
}

#endif
