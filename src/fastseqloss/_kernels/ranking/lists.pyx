"""Losses of lists of items, loss and gradient, one list at a time.

Losses of pairs and of orders are computed in float64, in a workspace of a few numbers an item; losses with a softmax in
the type of the scores. The items that count are gathered first, so that the others are never read.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport FLOAT64
from fastseqloss._kernels.parallel.threads cimport (
    NO_MEMORY, Loop, Status, begin, check, enter, is_over, next_items, pause_item, resume,
)
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product
from fastseqloss._kernels.simd.elements cimport Array, Held, hold, let_go


cdef extern from "ranking/lists.h" nogil:
    enum:
        PAD "FSL_RANK_PAD"
    ctypedef struct Place "fsl_place":
        Py_ssize_t at
    ctypedef struct Ranking "fsl_ranking":
        Py_ssize_t n
        double *x
        double *y
        double *w
        double *g
        double *s
        double *weight
        double *e
        double *sum
        double *tree
        Place *order
        Place *room
        Py_ssize_t *level
        double loss, pairs
    void pairwise_hinge "fsl_pairwise_hinge"(Ranking *r, double margin) noexcept
    void list_mle "fsl_list_mle"(Ranking *r) noexcept

cdef extern from "ranking/pairs.h" nogil:
    bint pairs_begin "fsl_pairs_begin"(Ranking *r, const double *discounts, bint normalized) noexcept
    bint pairs_continue "fsl_pairs_continue"(Ranking *r, Py_ssize_t most) noexcept

cdef extern from "ranking/rows.h" nogil:
    void narrow "fsl_rank_narrow"(const double *x, Py_ssize_t n, float *out) noexcept
    void widen "fsl_rank_widen"(const float *x, Py_ssize_t n, double *out) noexcept
    Py_ssize_t compress_f32 "fsl_rank_compress_f32"(float *x, Py_ssize_t n, const uint8_t *mask,
                                                    Py_ssize_t target) noexcept
    Py_ssize_t compress_f64 "fsl_rank_compress_f64"(double *x, Py_ssize_t n, const uint8_t *mask,
                                                    Py_ssize_t target) noexcept
    void expand_f32 "fsl_rank_expand_f32"(float *x, Py_ssize_t left, Py_ssize_t n, const uint8_t *mask,
                                          Py_ssize_t target, double of_target) noexcept
    void expand_f64 "fsl_rank_expand_f64"(double *x, Py_ssize_t left, Py_ssize_t n, const uint8_t *mask,
                                          Py_ssize_t target, double of_target) noexcept
    double list_softmax_f32 "fsl_list_softmax_f32"(const float *x, const float *y, Py_ssize_t n, double scale,
                                                   float *out) noexcept
    double list_softmax_f64 "fsl_list_softmax_f64"(const double *x, const double *y, Py_ssize_t n, double scale,
                                                   double *out) noexcept
    double bpr_max_f32 "fsl_bpr_max_f32"(const float *x, Py_ssize_t n, float t, double penalty, double scale, float *e,
                                         float *b, double *of_target) noexcept
    double bpr_max_f64 "fsl_bpr_max_f64"(const double *x, Py_ssize_t n, double t, double penalty, double scale,
                                         double *e, double *b, double *of_target) noexcept
    double top1_max_f32 "fsl_top1_max_f32"(const float *x, Py_ssize_t n, float t, double scale, float *e, float *b,
                                           double *of_target) noexcept
    double top1_max_f64 "fsl_top1_max_f64"(const double *x, Py_ssize_t n, double t, double scale, double *e, double *b,
                                           double *of_target) noexcept


cdef enum Loss:
    HINGE
    LOGISTIC
    LIST_MLE
    LIST_SOFTMAX
    BPR_MAX
    TOP1_MAX

# Names of the losses, by their codes.
LOSSES = {HINGE: "hinge", LOGISTIC: "logistic", LIST_MLE: "list_mle", LIST_SOFTMAX: "list_softmax",
          BPR_MAX: "bpr_max", TOP1_MAX: "top1_max"}

cdef enum:
    PORTION = 1 << 22  # pairs between two looks at the clock


cdef struct Task:
    # A list in progress, and what is left to a worker.
    Ranking list
    bint is_begun
    Py_ssize_t first, last


cdef struct Job:
    Loss kind
    Py_ssize_t n, size  # items of a list; bytes of a score
    Array scores, grad, relevance, weight
    const int64_t *targets
    const int64_t *lengths
    const uint8_t *mask
    const double *scale
    const double *discounts
    bint normalized
    double option
    double *losses
    double *counts
    Workspace scratch
    Task *tasks


cdef inline const uint8_t *mask_of(const Job *job, Py_ssize_t b) noexcept nogil:
    return job.mask + b * job.n if job.mask != NULL else NULL


cdef inline const char *scores_of(const Job *job, Py_ssize_t b) noexcept nogil:
    return job.scores.data + b * job.scores.strides[0]


cdef inline char *gradient_of(const Job *job, Py_ssize_t b) noexcept nogil:
    return job.grad.data + b * job.grad.strides[0] if job.grad.data != NULL else NULL


cdef Py_ssize_t read_row(const Job *job, const Array *given, Py_ssize_t b, double *y) noexcept nogil:
    """Copy the numbers of the items that count to float64; returns how many they are."""
    cdef const char *source = given.data + b * given.strides[0]
    cdef Py_ssize_t n = job.lengths[b]
    if given.kind == FLOAT64:
        memcpy(y, source, n * sizeof(double))
    else:
        widen(<const float *> source, n, y)
    return compress_f64(y, n, mask_of(job, b), -1)


# ---- losses of pairs and orders: gradients in float64, not scaled -----------------------------------


cdef enum:
    NUMBERS = 15  # of 8 bytes for an item: ten arrays of float64, two of places, one of levels


cdef void lay_out(Ranking *r, double *block, Py_ssize_t n) noexcept nogil:
    """Set the arrays of a list of n items in a block of NUMBERS * (n + PAD) numbers."""
    cdef Py_ssize_t padded = n + PAD
    r.x, r.y, r.w, r.g = block, block + padded, block + 2 * padded, block + 3 * padded
    r.s, r.weight, r.e, r.sum = block + 4 * padded, block + 5 * padded, block + 6 * padded, block + 7 * padded
    r.tree = block + 8 * padded
    r.order, r.room = <Place *> (block + 10 * padded), <Place *> (block + 12 * padded)
    r.level = <Py_ssize_t *> (block + 14 * padded)


cdef void finish_list(const Job *job, Ranking *r, Py_ssize_t b) noexcept nogil:
    cdef char *to = gradient_of(job, b)
    job.losses[b], job.counts[b] = r.loss, r.pairs
    if to != NULL:
        expand_f64(r.g, r.n, job.lengths[b], mask_of(job, b), -1, 0)
        memcpy(to, r.g, job.lengths[b] * sizeof(double))
        memset(to + job.lengths[b] * sizeof(double), 0, (job.n - job.lengths[b]) * sizeof(double))


cdef bint run_list(const Job *job, Task *task, const Loop *loop) noexcept nogil:
    """Compute the loss of a list, or what is left of it; returns False if it is paused because the region is over."""
    cdef Py_ssize_t b = task.first
    cdef Ranking *r = &task.list
    cdef bint left = True
    if not task.is_begun:
        lay_out(r, r.x, job.n)
        r.n = read_row(job, &job.scores, b, r.x)
        read_row(job, &job.relevance, b, r.y)
        if job.weight.data != NULL:
            read_row(job, &job.weight, b, r.w)
        else:
            r.w = NULL
        r.loss = r.pairs = 0
        if job.kind == HINGE:
            pairwise_hinge(r, job.option)
            left = False
        elif job.kind == LIST_MLE:
            list_mle(r)
            left = False
        else:
            left = pairs_begin(r, job.discounts, job.normalized)
    while left and not pairs_continue(r, PORTION):
        if is_over(loop):
            task.is_begun = True
            return False
    task.is_begun = False
    finish_list(job, r, b)
    return True


# ---- losses with a softmax: gradients in the type of the scores, scaled ------------------------------


cdef const floating *read_labels(const Job *job, Py_ssize_t b, floating *row, double *scratch) noexcept nogil:
    """Products of relevance and weight of the items that count, in a row or where they are."""
    cdef Py_ssize_t left, i
    if job.relevance.kind == job.scores.kind and job.mask == NULL and job.weight.data == NULL:
        return <const floating *> (job.relevance.data + b * job.relevance.strides[0])
    left = read_row(job, &job.relevance, b, scratch)
    if job.weight.data != NULL:
        read_row(job, &job.weight, b, scratch + job.n)
        for i in range(left):
            scratch[i] *= scratch[job.n + i]
    if floating is float:
        narrow(scratch, left, row)
        return row
    else:
        return scratch


cdef void run_row(const Job *job, Py_ssize_t b, floating *row, double *scratch) noexcept nogil:
    """Loss and gradient of a list; `row` has room for two rows of scores, `scratch` for two in float64."""
    cdef const uint8_t *mask = mask_of(job, b)
    cdef char *to = gradient_of(job, b)
    cdef Py_ssize_t n = job.lengths[b], left, target = job.targets[b] if job.targets != NULL else -1
    cdef floating *x = row
    cdef floating *out = row
    cdef const floating *y
    cdef floating score = 0
    cdef double of_target = 0, scale = job.scale[b]
    if scale == 0 or n == 0:
        job.losses[b] = 0
        if to != NULL:
            memset(to, 0, job.n * job.size)
        return
    if mask == NULL and target < 0:
        x, out = <floating *> scores_of(job, b), <floating *> to
    else:
        memcpy(x, scores_of(job, b), n * sizeof(floating))
    if target >= 0:
        score = x[target]
    if floating is float:
        left = compress_f32(x, n, mask, target)
    else:
        left = compress_f64(x, n, mask, target)
    if job.kind == LIST_SOFTMAX:
        y = read_labels(job, b, row + job.n, scratch)
        if floating is float:
            job.losses[b] = list_softmax_f32(x, y, left, scale, out if to != NULL else NULL)
        else:
            job.losses[b] = list_softmax_f64(x, y, left, scale, out if to != NULL else NULL)
    else:
        out = row + job.n
        if floating is float:
            if job.kind == BPR_MAX:
                job.losses[b] = bpr_max_f32(x, left, score, job.option, scale, out, <float *> scratch, &of_target)
            else:
                job.losses[b] = top1_max_f32(x, left, score, scale, out, <float *> scratch, &of_target)
        else:
            if job.kind == BPR_MAX:
                job.losses[b] = bpr_max_f64(x, left, score, job.option, scale, out, scratch, &of_target)
            else:
                job.losses[b] = top1_max_f64(x, left, score, scale, out, scratch, &of_target)
    if to == NULL:
        return
    if <char *> out != to:
        if floating is float:
            expand_f32(out, left, n, mask, target, of_target)
        else:
            expand_f64(out, left, n, mask, target, of_target)
        memcpy(to, out, n * sizeof(floating))
    memset(to + n * job.size, 0, (job.n - n) * job.size)


# ---- all of them -------------------------------------------------------------------------------------


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Task *task = job.tasks + worker
    cdef Py_ssize_t first, last = 0
    cdef double *row = task.list.x
    cdef bint paused = task.is_begun
    if paused and not resume(loop, worker):
        return
    while paused or next_items(loop, worker, &first, &last):
        if not paused:
            task.first, task.last = first, last
        last, paused = task.last, False
        while task.first < task.last:
            if job.kind < LIST_SOFTMAX:
                if not run_list(job, task, loop):
                    pause_item(loop, worker)
                    return
            elif job.scores.kind == FLOAT64:
                run_row(job, task.first, row, row + 2 * job.n)
            else:
                run_row(job, task.first, <float *> row, row + job.n)
            task.first += 1


cdef void order_tasks(Task *tasks, int n) noexcept nogil:
    """Give paused lists to the first workers of a region."""
    cdef int k, at = 0
    cdef Task task
    for k in range(n):
        if tasks[k].is_begun:
            task = tasks[at]
            tasks[at] = tasks[k]
            tasks[k] = task
            at += 1


cdef Status run_lists(Job *job, Py_ssize_t batch, int num_threads) noexcept nogil:
    """Run all lists. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef int worker
    cdef size_t own = size_product(job.n + PAD, (4 if job.kind >= LIST_SOFTMAX else NUMBERS) * sizeof(double))
    if not allocate(&job.scratch, num_threads * sizeof(Task), own, num_threads, False):
        return NO_MEMORY
    job.tasks = <Task *> job.scratch.common
    for worker in range(num_threads):
        job.tasks[worker].is_begun = False
        job.tasks[worker].list.x = <double *> part_of(&job.scratch, worker)
    begin(&loop, batch, num_threads)
    while enter(&loop):
        order_tasks(job.tasks, num_threads)
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.scratch)
    return loop.status


def list_losses(int kind, double option, bint normalized, arrays, kinds, int num_threads):
    """Losses and, if there is an array for them, gradients of checked lists, one or more, of one item or more.

    `kind` is one of LOSSES; `option` the margin, or the factor of the penalty; `kinds` are the element types of the
    first four of the `arrays`, float32 or float64, whose rows are contiguous. The arrays, None for those left out, are

    IN   scores [B, 1, N]; relevance [B, N]; weight [B, N];
    OUT  grad [B, 1, N]: float64 and not scaled for losses of pairs and orders, else of the type of the scores, which it
         may overwrite;
    IN   targets [B]; mask [B, N]; lengths [B]; scale [B], for losses with a softmax; discounts [N] of the ranks, for
         weights of pairs by the change of DCG, which is divided by the ideal DCG if `normalized`;
    OUT  losses [B], not scaled; counts [B], numbers of pairs.
    """
    cdef Job job
    cdef Held held
    cdef Array views[11]
    cdef Status status
    cdef int n
    memset(&job, 0, sizeof(Job))
    held.n = 0
    try:
        for n in range(11):
            views[n] = hold(&held, arrays[n], kinds[n] if n < 4 else 0, n == 3 or n > 8)
        job.kind, job.option, job.normalized = <Loss> kind, option, normalized
        job.scores, job.relevance, job.weight, job.grad = views[0], views[1], views[2], views[3]
        job.n, job.size = views[0].shape[2], held.buffers[0].itemsize
        job.targets, job.mask = <int64_t *> views[4].data, <uint8_t *> views[5].data
        job.lengths = <int64_t *> views[6].data
        job.scale, job.discounts = <double *> views[7].data, <double *> views[8].data
        job.losses, job.counts = <double *> views[9].data, <double *> views[10].data
        with nogil:
            status = run_lists(&job, views[0].shape[0], num_threads)
        check(status, job.scratch.size)
    finally:
        let_go(&held)
