"""Multiclass hinge loss (Crammer-Singer) of rows of scores, loss and gradient."""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from cpython.buffer cimport PyBuffer_Release

from fastseqloss._kernels.elements cimport FLOAT32, FLOAT64, Array, acquire


cdef extern from "rows.h" nogil:
    void load "fsl_load"(...) noexcept
    void store "fsl_store"(...) noexcept
    double other_max "fsl_row_other_max"(...) noexcept
    Py_ssize_t find_other "fsl_row_find_other"(...) noexcept


cdef struct Job:
    Array x, g  # scores; gradient or NULL
    Py_ssize_t n_rows, n_classes
    const int64_t *targets  # -1: the step does not count
    const double *scale  # of each sequence; 0: it does not count
    const double *weight  # of each class, or NULL
    double margin
    double *loss


cdef void run_row(const Job *job, Py_ssize_t n, floating *scratch) noexcept nogil:
    cdef bint native = job.x.kind == FLOAT32 or job.x.kind == FLOAT64
    cdef Py_ssize_t b = n // job.n_rows, r = n % job.n_rows, v = job.n_classes, t = job.targets[n], rival
    cdef Py_ssize_t size = sizeof(floating) if native else 2
    cdef const char *from_ = job.x.data + b * job.x.strides[0] + r * job.x.strides[1]
    cdef char *to = job.g.data + b * job.g.strides[0] + r * job.g.strides[1] if job.g.data != NULL else NULL
    cdef const floating *x = <const floating *> from_
    cdef double most, weight, slope = 0
    if t < 0 or job.scale[b] == 0:
        job.loss[n] = 0
        if to != NULL:
            memset(to, 0, v * size)
        return
    if not native:
        load(job.x.kind, from_, size, v, scratch)
        x = scratch
    weight = job.weight[t] if job.weight != NULL else 1.0
    most = other_max(x, v, t)
    job.loss[n] = job.margin + (most - x[t])
    if most == -INFINITY:
        job.loss[n] = 0  # nothing can compete, not even if the target is -inf
    elif job.loss[n] > 0 or job.loss[n] != job.loss[n]:
        slope = weight * job.scale[b]
    else:
        job.loss[n] = 0
    job.loss[n] = job.loss[n] * weight if weight else 0
    if to == NULL:
        return
    rival = find_other(x, v, t, most) if slope else -1
    memset(to, 0, v * size)
    if job.loss[n] != job.loss[n]:
        slope = NAN
        rival = t
    if slope:
        put(job, to, rival, slope, <floating> 0)
        put(job, to, t, -slope, <floating> 0)


cdef void put(const Job *job, char *row, Py_ssize_t c, double value, floating tag) noexcept nogil:
    cdef Py_ssize_t size = sizeof(floating) if job.x.kind == FLOAT32 or job.x.kind == FLOAT64 else 2
    cdef floating rounded = <floating> value
    store(job.x.kind, &rounded, 1, 1, row + c * size, size)


cdef int run(Job *job, Py_ssize_t n_steps, int num_threads, floating tag) except -1:
    cdef Py_ssize_t n, v = job.n_classes
    cdef floating *scratch = <floating *> malloc(num_threads * v * sizeof(floating))
    if scratch == NULL:
        raise MemoryError("no memory for a workspace")
    with nogil:
        if num_threads == 1:
            for n in range(n_steps):
                run_row(job, n, scratch)
        else:
            for n in prange(n_steps, schedule="static", num_threads=num_threads):
                run_row(job, n, scratch + threadid() * v)
    free(scratch)
    return 0


def multiclass_hinge(object scores, int kind, const int64_t[::1] targets, const double[::1] scale,
                     const double[::1] class_weight, double margin, double[::1] loss, object grad, int num_threads):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   scores [B, R, V], class axis contiguous; targets [B R], -1 where a step does not count; scale [B].
    OUT  loss [B R], not scaled; grad [B, R, V], which may be scores.
    """
    cdef Py_buffer held[2]
    cdef Job job
    memset(&job, 0, sizeof(Job))
    memset(held, 0, sizeof(held))
    try:
        job.x = acquire(scores, kind, &held[0], False)
        job.g = acquire(grad, kind, &held[1], True)
        job.n_rows, job.n_classes, job.margin = job.x.shape[1], job.x.shape[2], margin
        job.targets, job.scale, job.loss = &targets[0], &scale[0], &loss[0]
        job.weight = &class_weight[0] if class_weight is not None else NULL
        if job.x.kind == FLOAT64:
            run[double](&job, loss.shape[0], num_threads, 0.0)
        else:
            run[float](&job, loss.shape[0], num_threads, 0.0)
    finally:
        for i in range(2):
            PyBuffer_Release(&held[i])
