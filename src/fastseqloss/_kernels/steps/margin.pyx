"""Multiclass hinge loss (Crammer-Singer) of rows of scores, loss and gradient."""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.calls cimport Call
from fastseqloss._kernels.simd.elements cimport FLOAT64, Held, let_go, load, store
from fastseqloss._kernels.simd.step_rows cimport StepRows, gradient_of, hold_rows, scale_of, scores_of, set_rows
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release


cdef extern from "steps/margin.h" nogil:
    double others_max_f32 "fsl_others_max_f32"(const float *x, Py_ssize_t n, Py_ssize_t t) noexcept
    double others_max_f64 "fsl_others_max_f64"(const double *x, Py_ssize_t n, Py_ssize_t t) noexcept
    Py_ssize_t find_other_f32 "fsl_find_other_f32"(const float *x, Py_ssize_t n, Py_ssize_t t, double score) noexcept
    Py_ssize_t find_other_f64 "fsl_find_other_f64"(const double *x, Py_ssize_t n, Py_ssize_t t, double score) noexcept
    void set_zero_f32 "fsl_zero_f32"(float *x, Py_ssize_t n) noexcept
    void set_zero_f64 "fsl_zero_f64"(double *x, Py_ssize_t n) noexcept


cdef struct Job:
    StepRows rows
    double margin
    Workspace scratch  # one row for each worker


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
    if job.rows.native:
        (<floating *> row)[c] = value
    else:
        store(job.rows.x.kind, &value, 1, 1, row + c * job.rows.size, job.rows.size)


cdef inline void run_row(const Job *job, Py_ssize_t n, const char *from_, char *to, double scale,
                         floating *scratch) noexcept nogil:
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t v = rows.n_classes, t = rows.targets[n], rival = t
    cdef double weight = rows.weight[t] if rows.weight != NULL and t >= 0 else 1.0, most, loss = 0, slope = 0
    cdef const floating *x = <const floating *> from_
    if t >= 0 and scale != 0 and weight:
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


cdef void run_block(const Job *job, Py_ssize_t first, Py_ssize_t last, floating *scratch) noexcept nogil:
    """Run steps first to last - 1, counted over the batch."""
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t n, b = first // rows.n_rows, r = first % rows.n_rows
    for n in range(first, last):
        run_row(job, n, scores_of(rows, b, r), gradient_of(rows, b, r), scale_of(rows, b, n), scratch)
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
    if not allocate(&job.scratch, 0, job.rows.row, num_threads, False):
        return NO_MEMORY
    begin(&loop, job.rows.n_steps, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.scratch)
    return loop.status


cdef Status run_call(Call *call) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(Job))
    set_rows(&job.rows, call)
    job.margin = call.parameter
    return run_steps(&job, call.num_threads)


entry = PyCapsule_New(<void *> run_call, NULL, NULL)


def multiclass_hinge(object scores, int kind, const int64_t[::1] targets, const double[::1] scale,
                     const double[::1] class_weight, double[::1] loss, object grad, int num_threads, double margin):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   scores [B, R, V], class axis contiguous; targets [B R], -1 where a step does not count; scale [B] or [B R].
    OUT  loss [B R], not scaled; grad [B, R, V], which may be scores.
    """
    cdef Held held
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    memset(&held, 0, sizeof(Held))
    try:
        hold_rows(&job.rows, &held, scores, kind, targets, scale, class_weight, loss, grad)
        job.margin = margin
        with nogil:
            status = run_steps(&job, num_threads)
        check(status, job.scratch.size)
    finally:
        let_go(&held)
