"""Multiclass hinge loss (Crammer-Singer) of rows of scores, loss and gradient."""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from cpython.buffer cimport PyBuffer_Release

from fastseqloss._kernels.simd.elements cimport FLOAT64, Array, acquire
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product


cdef extern from "steps/margin.h" nogil:
    void load "fsl_load"(...) noexcept
    void store "fsl_store"(...) noexcept
    double others_max "fsl_others_max"(...) noexcept
    Py_ssize_t find_other "fsl_find_other"(...) noexcept
    void set_zero "fsl_zero"(...) noexcept


cdef struct Job:
    Array x, g  # scores; gradient or NULL
    Py_ssize_t size  # bytes of a score
    Py_ssize_t n_rows, n_classes
    const int64_t *targets  # -1: the step does not count
    const double *scale  # of each sequence; 0: it does not count
    const double *weight  # of each class, or NULL
    double margin
    double *loss
    Workspace scratch  # room for a row for each thread


cdef inline void put(const Job *job, char *row, Py_ssize_t c, floating value) noexcept nogil:
    if job.size == sizeof(floating):
        (<floating *> row)[c] = value
    else:
        store(job.x.kind, &value, 1, 1, row + c * job.size, job.size)


cdef inline void run_row(const Job *job, Py_ssize_t n, const char *from_, char *to, double scale,
                         floating *scratch) noexcept nogil:
    cdef Py_ssize_t v = job.n_classes, t = job.targets[n], rival = t
    cdef double weight = job.weight[t] if job.weight != NULL and t >= 0 else 1.0, most, loss = 0, slope = 0
    cdef const floating *x = <const floating *> from_
    if t >= 0 and scale != 0 and weight:
        if job.size == 2:
            load(job.x.kind, from_, job.size, v, scratch)
            x = scratch
        most = others_max(x, v, t)
        loss = job.margin + (most - x[t])
        if most == -INFINITY or loss <= 0:  # -inf: nothing can compete, not even if the target is -inf
            loss = 0
        elif loss != loss:
            slope = NAN
        else:
            slope = weight * scale
            rival = find_other(x, v, t, most) if to != NULL else t
    job.loss[n] = loss * weight
    if to == NULL:
        return
    if job.size == 2:
        memset(to, 0, v * job.size)
    else:
        set_zero(<floating *> to, v)
    if slope:
        put(job, to, rival, <floating> slope)
        put(job, to, t, <floating> -slope)


cdef void run_block(const Job *job, Py_ssize_t first, Py_ssize_t last, floating *scratch) noexcept nogil:
    """Steps first to last, counted over the batch."""
    cdef Py_ssize_t n, b = first // job.n_rows, r = first % job.n_rows
    cdef char *to = NULL
    for n in range(first, last):
        if job.g.data != NULL:
            to = job.g.data + b * job.g.strides[0] + r * job.g.strides[1]
        run_row(job, n, job.x.data + b * job.x.strides[0] + r * job.x.strides[1], to, job.scale[b], scratch)
        r += 1
        if r == job.n_rows:
            b, r = b + 1, 0


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0
    cdef uintptr_t scratch = part_of(&job.scratch, worker)
    while next_items(loop, worker, &first, &last):
        if job.x.kind == FLOAT64:
            run_block(job, first, last, <double *> scratch)
        else:
            run_block(job, first, last, <float *> scratch)


cdef Status run_steps(Job *job, Py_ssize_t n_steps, int num_threads) noexcept nogil:
    """All steps. Allocates the workspace; needs no GIL."""
    cdef Loop loop
    cdef size_t row = size_product(job.n_classes, sizeof(double) if job.x.kind == FLOAT64 else sizeof(float))
    if not allocate(&job.scratch, 0, row, num_threads, False):
        return NO_MEMORY
    begin(&loop, n_steps, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.scratch)
    return loop.status


def multiclass_hinge(object scores, int kind, const int64_t[::1] targets, const double[::1] scale,
                     const double[::1] class_weight, double margin, double[::1] loss, object grad, int num_threads):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   scores [B, R, V], class axis contiguous; targets [B R], -1 where a step does not count; scale [B].
    OUT  loss [B R], not scaled; grad [B, R, V], which may be scores.
    """
    cdef Py_buffer held[2]
    cdef Job job
    cdef Status status
    cdef Py_ssize_t n_steps = loss.shape[0]
    memset(&job, 0, sizeof(Job))
    memset(held, 0, sizeof(held))
    try:
        job.x = acquire(scores, kind, &held[0], False)
        job.g = acquire(grad, kind, &held[1], True)
        job.size = held[0].itemsize
        job.n_rows, job.n_classes, job.margin = job.x.shape[1], job.x.shape[2], margin
        job.targets, job.scale, job.loss = &targets[0], &scale[0], &loss[0]
        job.weight = &class_weight[0] if class_weight is not None else NULL
        with nogil:
            status = run_steps(&job, n_steps, num_threads)
        check(status, job.scratch.size)
    finally:
        for i in range(2):
            PyBuffer_Release(&held[i])
