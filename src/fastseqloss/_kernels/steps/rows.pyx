"""Losses of rows of scores, other than cross-entropies, and their gradients, one row at a time.

The multiclass hinge loss (Crammer-Singer) visits the scores in their own type. Losses of vectors, of a row of scores
and a row of targets, are computed in buffers of a worker, in float64 but for divergences of float32.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.calls cimport Call
from fastseqloss._kernels.parallel.signals cimport advance
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product
from fastseqloss._kernels.simd.elements cimport FLOAT64, Array, Held, hold, let_go, load, row_of, store
from fastseqloss._kernels.codes cimport Stored
from fastseqloss._kernels.simd.step_rows cimport StepRows, gradient_of, hold_rows, scale_of, scores_of, set_rows


cdef extern from "steps/margin.h" nogil:
    double others_max_f32 "fsl_others_max_f32"(const float *x, Py_ssize_t n, Py_ssize_t t) noexcept
    double others_max_f64 "fsl_others_max_f64"(const double *x, Py_ssize_t n, Py_ssize_t t) noexcept
    Py_ssize_t find_other_f32 "fsl_find_other_f32"(const float *x, Py_ssize_t n, Py_ssize_t t, double score) noexcept
    Py_ssize_t find_other_f64 "fsl_find_other_f64"(const double *x, Py_ssize_t n, Py_ssize_t t, double score) noexcept
    void set_zero_f32 "fsl_zero_f32"(float *x, Py_ssize_t n) noexcept
    void set_zero_f64 "fsl_zero_f64"(double *x, Py_ssize_t n) noexcept

cdef extern from "steps/vectors.h" nogil:
    ctypedef struct Vectors "fsl_vectors":
        Py_ssize_t n
        double *x
        double *y
        double *g
        double *h
        double *room
    ctypedef struct Divergence "fsl_divergence":
        int scores, targets, reverse
        double unit
    double divergence_f32 "fsl_divergence_f32"(const Divergence *of_, const float *x, const float *y, Py_ssize_t n,
                                               double scale, float *room, float *g, float *h) noexcept
    double divergence_f64 "fsl_divergence_f64"(const Divergence *of_, const double *x, const double *y, Py_ssize_t n,
                                               double scale, double *room, double *g, double *h) noexcept
    void widen "fsl_vectors_widen"(Stored kind, const char *source, Py_ssize_t n, double *to) noexcept
    void narrow "fsl_vectors_narrow"(Stored kind, const double *source, double scale, Py_ssize_t n, char *to) noexcept
    double cosine_distance "fsl_cosine_distance"(Vectors *v) noexcept
    double sparsemax_loss "fsl_sparsemax_loss"(Vectors *v) noexcept
    double multilabel_margin "fsl_multilabel_margin"(Vectors *v, double margin) noexcept
    Py_ssize_t find_no_indicator "fsl_find_no_indicator"(const double *y, Py_ssize_t n) noexcept


cdef enum Loss:
    MULTICLASS_HINGE
    KL_DIVERGENCE
    COSINE_DISTANCE
    SPARSEMAX
    MULTILABEL_MARGIN

# Names of the losses, by their codes.
LOSSES = {MULTICLASS_HINGE: "multiclass_hinge", KL_DIVERGENCE: "kl_divergence", COSINE_DISTANCE: "cosine_distance",
          SPARSEMAX: "sparsemax", MULTILABEL_MARGIN: "multilabel_margin"}

cdef enum:
    PIECE = 512  # targets that are checked at once
    ROWS = 6  # of float64 for each worker: scores, targets, two gradients, two more; or the same and four of float32


cdef struct Job:
    StepRows rows
    Loss kind
    double margin
    # of losses of vectors
    Array y, h  # targets and gradient by them [B, R, V], or NULL
    Py_ssize_t h_size  # bytes of an element
    Divergence divergence
    bint single  # scores and targets are computed in float32, for a divergence
    Workspace scratch  # of each worker: a row, or ROWS


cdef inline double others_max(const floating *x, Py_ssize_t n, Py_ssize_t t) noexcept nogil:
    """Maximum of the scores other than t; NaN if a score is NaN."""
    if floating is float:
        return others_max_f32(x, n, t)
    else:
        return others_max_f64(x, n, t)


cdef inline Py_ssize_t find_other(const floating *x, Py_ssize_t n, Py_ssize_t t, double score) noexcept nogil:
    """First class other than t with this score."""
    if floating is float:
        return find_other_f32(x, n, t, score)
    else:
        return find_other_f64(x, n, t, score)


cdef inline void set_zero(floating *x, Py_ssize_t n) noexcept nogil:
    if floating is float:
        set_zero_f32(x, n)
    else:
        set_zero_f64(x, n)


cdef inline void put(const Job *job, char *row, Py_ssize_t c, floating value) noexcept nogil:
    if floating is double:
        (<double *> row)[c] = value
    elif job.rows.native:
        (<float *> row)[c] = value
    else:
        store(job.rows.x.kind, &value, 1, 1, row + c * job.rows.size, job.rows.size)


cdef inline void run_row(const Job *job, Py_ssize_t n, const char *from_, char *to, double scale,
                         floating *scratch) noexcept nogil:
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t v = rows.n_classes, t = rows.targets[n], rival = t
    cdef double weight = rows.weight[t] if rows.weight != NULL and t >= 0 else 1.0, most, loss = 0, slope = 0
    cdef const floating *x = <const floating *> from_
    if t >= 0 and scale != 0 and weight:
        if floating is float:
            if not rows.native:
                load(rows.x.kind, from_, rows.size, v, scratch)
                x = scratch
        most = others_max(x, v, t)
        loss = job.margin + (most - x[t])
        if most == -INFINITY or loss <= 0:  # -inf: the loss is 0, even if the target's score is -inf
            loss = 0
        elif loss != loss:
            slope = NAN
        else:
            slope = weight * scale
            rival = find_other(x, v, t, most) if to != NULL else t
    rows.loss[n] = loss * weight
    if to == NULL:
        return
    if rows.native:
        set_zero(<floating *> to, v)
    else:
        memset(to, 0, v * rows.size)
    if slope:
        put(job, to, rival, <floating> slope)
        put(job, to, t, <floating> -slope)


cdef double loss_of_vectors(const Job *job, Vectors *v) noexcept nogil:
    if job.kind == COSINE_DISTANCE:
        return cosine_distance(v)
    if job.kind == SPARSEMAX:
        return sparsemax_loss(v)
    return multilabel_margin(v, job.margin)


cdef void run_divergence(const Job *job, Py_ssize_t n, Py_ssize_t b, Py_ssize_t r, floating *scratch) noexcept nogil:
    """Loss and gradients of a divergence at step n, in place where arrays are of the type of the arithmetic."""
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t size = rows.n_classes
    cdef double scale = scale_of(rows, b, n)
    cdef floating *x = <floating *> scores_of(rows, b, r)
    cdef floating *y = <floating *> row_of(&job.y, b, r)
    cdef char *to_g = gradient_of(rows, b, r)
    cdef char *to_h = row_of(&job.h, b, r)
    cdef floating *g = <floating *> to_g
    cdef floating *h = <floating *> to_h
    cdef floating *room = scratch + 2 * size
    if floating is float:
        rows.loss[n] = divergence_f32(&job.divergence, x, y, size, scale, room, g, h)
    else:
        if rows.x.kind != FLOAT64:
            widen(rows.x.kind, <char *> x, size, scratch)
            x, g = scratch, scratch if to_g != NULL else NULL
        if job.y.kind != FLOAT64:
            widen(job.y.kind, <char *> y, size, scratch + size)
            y, h = scratch + size, scratch + size if to_h != NULL else NULL
        rows.loss[n] = divergence_f64(&job.divergence, x, y, size, scale, room, g, h)
        if to_g != NULL and rows.x.kind != FLOAT64:
            narrow(rows.x.kind, g, 1, size, to_g)
        if to_h != NULL and job.y.kind != FLOAT64:
            narrow(job.h.kind, h, 1, size, to_h)


cdef void run_vectors(const Job *job, Py_ssize_t n, Py_ssize_t b, Py_ssize_t r, double *scratch) noexcept nogil:
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t size = rows.n_classes, target = rows.targets[n]  # before the loss takes its place
    cdef double scale = scale_of(rows, b, n)
    cdef char *g = gradient_of(rows, b, r)
    cdef char *h = row_of(&job.h, b, r)
    cdef Vectors v
    if target < 0 or scale == 0:
        rows.loss[n] = 0
        if g != NULL:
            memset(g, 0, size * rows.size)
        if h != NULL:
            memset(h, 0, size * job.h_size)
        return
    if job.kind == KL_DIVERGENCE:
        if job.single:
            run_divergence(job, n, b, r, <float *> scratch)
        else:
            run_divergence(job, n, b, r, scratch)
        return
    v.n, v.x, v.y, v.g, v.h = size, scratch, scratch + size, scratch + 2 * size, scratch + 3 * size
    v.room = scratch + 4 * size
    widen(rows.x.kind, scores_of(rows, b, r), size, v.x)
    if job.y.data != NULL:
        widen(job.y.kind, row_of(&job.y, b, r), size, v.y)
    else:
        memset(v.y, 0, size * sizeof(double))
        v.y[target] = 1
    rows.loss[n] = loss_of_vectors(job, &v)
    if g != NULL:
        narrow(rows.x.kind, v.g, scale, size, g)
    if h != NULL:
        narrow(job.h.kind, v.h, scale, size, h)


cdef void run_block(const Job *job, Py_ssize_t first, Py_ssize_t last, floating *scratch) noexcept nogil:
    """Run steps first to last - 1, counted over the batch."""
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t n, b = first // rows.n_rows, r = first % rows.n_rows
    for n in range(first, last):
        if job.kind == MULTICLASS_HINGE:
            run_row(job, n, scores_of(rows, b, r), gradient_of(rows, b, r), scale_of(rows, b, n), scratch)
        else:
            run_vectors(job, n, b, r, <double *> scratch)
        r += 1
        if r == rows.n_rows:
            b, r = b + 1, 0


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0
    cdef uintptr_t scratch = part_of(&job.scratch, worker)
    while next_items(loop, worker, &first, &last):
        if job.rows.x.kind == FLOAT64:
            run_block(job, first, last, <double *> scratch)
        else:
            run_block(job, first, last, <float *> scratch)


cdef Status run_steps(Job *job, int num_threads) noexcept nogil:
    """Run all steps. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef size_t own = job.rows.row
    if job.kind != MULTICLASS_HINGE:
        own = size_product(job.rows.n_classes, ROWS * sizeof(double))
    if not allocate(&job.scratch, 0, own, num_threads, False):
        return NO_MEMORY
    begin(&loop, job.rows.n_steps, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.scratch)
    return loop.status


cdef Status run_call(Call *call) noexcept nogil:
    """The multiclass hinge loss, called by C code."""
    cdef Job job
    memset(&job, 0, sizeof(Job))
    set_rows(&job.rows, call)
    job.kind, job.margin = MULTICLASS_HINGE, call.parameter
    return run_steps(&job, call.num_threads)


entry = PyCapsule_New(<void *> run_call, NULL, NULL)


def row_losses(object scores, int kind, const int64_t[::1] targets, const double[::1] scale,
               const double[::1] class_weight, double[::1] loss, object grad, int num_threads,
               object vectors, int vectors_kind, object grad_vectors, int grad_vectors_kind,
               int code, double option, int scores_given, int targets_given, bint reverse):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   scores [B, R, V], class axis contiguous; targets [B R], -1 where a step does not count; scale [B] or [B R];
         vectors [B, R, V], class axis contiguous, targets of each step, or None for classes; both of float32 or
         float64, vectors of uint8 too, but for the hinge loss, which reads scores of any float; `code`, one of LOSSES;
         `option`, the margin or the reciprocal of the temperature; `scores_given` and `targets_given`, the kinds of
         both inputs of a divergence, whose first argument is that of the scores if `reverse`.
    OUT  loss [B R], not scaled; grad [B, R, V], which may be scores; grad_vectors [B, R, V], or None: gradient by the
         vectors times scale, which may be vectors.
    """
    cdef Held held
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    held.n = 0
    try:
        hold_rows(&job.rows, &held, scores, kind, targets, scale, class_weight, loss, grad)
        job.y = hold(&held, vectors, vectors_kind, False)
        job.h = hold(&held, grad_vectors, grad_vectors_kind, True)
        job.h_size = held.buffers[held.n - 1].itemsize
        job.kind, job.margin, job.single = <Loss> code, option, job.rows.x.kind != FLOAT64 and job.y.kind != FLOAT64
        job.divergence.scores, job.divergence.targets = scores_given, targets_given
        job.divergence.reverse, job.divergence.unit = reverse, option
        with nogil:
            status = run_steps(&job, num_threads)
        check(status, job.scratch.size)
    finally:
        let_go(&held)


def find_bad_indicator(object values, int kind, const int64_t[::1] targets):
    """First of the flattened values of counted steps that is neither 0 nor 1, or -1.

    IN   values [B, R, V], class axis contiguous; targets [B R], -1 for steps that do not count, which are not checked.
    """
    cdef Held held
    cdef Array y
    cdef double piece[PIECE]
    cdef Py_ssize_t n, first, at, count, size, done = 0, bad = -1
    held.n = 0
    try:
        y = hold(&held, values, kind, False)
        size = held.buffers[0].itemsize
        with nogil:
            for n in range(targets.shape[0]):
                first = 0 if targets[n] >= 0 else y.shape[2]
                while bad < 0 and first < y.shape[2]:
                    count = min(PIECE, y.shape[2] - first)
                    widen(y.kind, row_of(&y, n // y.shape[1], n % y.shape[1]) + first * size, count, piece)
                    at = find_no_indicator(piece, count)
                    bad = n * y.shape[2] + first + at if at < count else -1
                    first += count
                    advance(&done, count)
                if bad >= 0:
                    break
    finally:
        let_go(&held)
    return bad
