"""Losses that compare one number with another, over padded sequences: loss and gradient in one pass.

A sequence is T steps of D features. The work is cut into parts: up to PART elements of one sequence, or as
many whole sequences as one piece holds where they are short. A part is gone through in pieces of PIECE
elements, converted to float64 buffers that stay in the first cache. Sums are taken per piece and part
of a sequence, so that they depend neither on threads nor on the other sequences.
"""

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from cpython.buffer cimport PyBuffer_Release

from fastseqloss._kernels.elements cimport Array, Stored, acquire


cdef extern from "pointwise.h" nogil:
    ctypedef int Loss "fsl_pointwise_loss"
    void load "fsl_load_f64"(Stored kind, const char *x, Py_ssize_t stride, Py_ssize_t n, double *to) noexcept
    void store "fsl_store_f64"(Stored kind, const double *x, double scale, Py_ssize_t n, char *to,
                               Py_ssize_t stride) noexcept
    void pointwise_run "fsl_pointwise"(Loss loss, const double *x, const double *y, const double *a, int n,
                                       double *losses, double *slopes) noexcept
    double sum_of "fsl_sum"(const double *x, int n) noexcept
    int bad_target "fsl_bad_target"(const double *y, int n, bint signs) noexcept

cdef enum:
    PIECE = 512
    PART = 8192


cdef struct Job:
    Loss loss
    Array x, y, a, g  # a, g: NULL if not given; [B, outer, inner], whatever has T D elements a sequence
    double parameter  # where a is not given
    Py_ssize_t n_sequences, n_steps, n_features
    Py_ssize_t group, part, n_parts  # sequences in a piece; elements in a part; parts of a sequence
    const int64_t *lengths
    const uint8_t *mask  # [B, T], or NULL
    const double *scale  # of each sequence; 0: it does not count
    double *partial  # [B, n_parts]
    double *steps  # [B, T] or NULL
    int64_t *bad  # of each item, first element of a target that is not allowed; or NULL
    bint signs


cdef struct Walk:
    # A run of elements within one sequence of an array.
    char *data
    Py_ssize_t stride
    Py_ssize_t n


cdef inline Walk walk(const Array *array, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The elements from `first` on that are evenly spaced, n at most."""
    cdef Py_ssize_t inner = array.shape[2], row = first // inner, i = first - row * inner
    cdef Walk run
    run.data = array.data + b * array.strides[0] + row * array.strides[1] + i * array.strides[2]
    run.stride = array.strides[2]
    run.n = min(n, inner - i)
    return run


cdef void load_piece(const Array *array, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, double *to) noexcept nogil:
    cdef Walk run
    while n:
        run = walk(array, b, first, n)
        load(array.kind, run.data, run.stride, run.n, to)
        first, n, to = first + run.n, n - run.n, to + run.n


cdef void store_piece(const Array *array, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, const double *values,
                      double scale) noexcept nogil:
    cdef Walk run
    while n:
        run = walk(array, b, first, n)
        store(array.kind, values, scale, run.n, run.data, run.stride)
        first, n, values = first + run.n, n - run.n, values + run.n


cdef inline Py_ssize_t counted(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """How many of n elements lie within the length of their sequence."""
    if job.scale[b] == 0:
        return 0
    return max(0, min(n, job.lengths[b] * job.n_features - first))


cdef void leave_out(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, double *values) noexcept nogil:
    """Set to 0 what the mask leaves out."""
    cdef Py_ssize_t i, step = first // job.n_features, feature = first % job.n_features
    for i in range(n):
        if not job.mask[b * job.n_steps + step]:
            values[i] = 0
        feature += 1
        if feature == job.n_features:
            step, feature = step + 1, 0


cdef void add_steps(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, const double *loss) noexcept nogil:
    cdef Py_ssize_t i, step = first // job.n_features, feature = first % job.n_features
    cdef double *steps = job.steps + b * job.n_steps
    for i in range(n):
        steps[step] += loss[i] / job.n_features
        feature += 1
        if feature == job.n_features:
            step, feature = step + 1, 0


cdef void run_piece(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                    Py_ssize_t n) noexcept nogil:
    """Elements first to first + n of each of n_sequences sequences, PIECE elements at most in all."""
    cdef double x[PIECE]
    cdef double y[PIECE]
    cdef double a[PIECE]
    cdef double loss[PIECE]
    cdef double slope[PIECE]
    cdef Py_ssize_t s, i, used, total = n_sequences * n
    cdef double d = job.n_features
    for s in range(n_sequences):
        load_piece(&job.x, b + s, first, n, x + s * n)
        load_piece(&job.y, b + s, first, n, y + s * n)
        if job.a.data != NULL:
            load_piece(&job.a, b + s, first, n, a + s * n)
    if job.a.data == NULL:
        for i in range(total):
            a[i] = job.parameter
    pointwise_run(job.loss, x, y, a, total, loss, slope)
    for s in range(n_sequences):
        i = s * n
        used = counted(job, b + s, first, n)
        if used < n:
            memset(loss + i + used, 0, (n - used) * sizeof(double))
            memset(slope + i + used, 0, (n - used) * sizeof(double))
        if job.mask != NULL:
            leave_out(job, b + s, first, used, loss + i)
            leave_out(job, b + s, first, used, slope + i)
        job.partial[(b + s) * job.n_parts + first // job.part] += sum_of(loss + i, used) / d
        if job.steps != NULL:
            add_steps(job, b + s, first, used, loss + i)
        if job.g.data != NULL:
            store_piece(&job.g, b + s, first, n, slope + i, job.scale[b + s] / d)


cdef int64_t check_piece(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                         Py_ssize_t n) noexcept nogil:
    """First bad target as b T D + element, or -1."""
    cdef double y[PIECE]
    cdef Py_ssize_t s, i, used, bad, step
    for s in range(n_sequences):
        used = counted(job, b + s, first, n)
        load_piece(&job.y, b + s, first, used, y)
        bad = bad_target(y, used, job.signs)
        if bad >= 0 and job.mask != NULL:
            for i in range(used):  # what is masked may be anything
                step = (b + s) * job.n_steps + (first + i) // job.n_features
                if job.mask[step] == 0:
                    y[i] = 1
            bad = bad_target(y, used, job.signs)
        if bad >= 0:
            return (b + s) * job.n_steps * job.n_features + first + bad
    return -1


cdef void run_item(const Job *job, Py_ssize_t item) noexcept nogil:
    cdef Py_ssize_t size = job.n_steps * job.n_features, b, first, last, n, n_sequences = 1
    if job.group > 1:
        b = item * job.group
        n_sequences = min(job.group, job.n_sequences - b)
        first, last = 0, size
    else:
        b = item // job.n_parts
        first = item % job.n_parts * job.part
        last = min(size, first + job.part)
    if job.bad != NULL:
        job.bad[item] = -1
    while first < last:
        n = min(PIECE, last - first)
        if job.bad == NULL:
            run_piece(job, b, n_sequences, first, n)
        else:
            job.bad[item] = check_piece(job, b, n_sequences, first, n)
            if job.bad[item] >= 0:
                return
        first += n


cdef void run(const Job *job, int num_threads) noexcept nogil:
    cdef Py_ssize_t i, n = n_items(job)
    if num_threads == 1:
        for i in range(n):
            run_item(job, i)
    else:
        for i in prange(n, schedule="static", num_threads=num_threads):
            run_item(job, i)


cdef inline Py_ssize_t n_items(const Job *job) noexcept nogil:
    return (job.n_sequences + job.group - 1) // job.group if job.group > 1 else job.n_sequences * job.n_parts


cdef void lay_out(Job *job, Py_ssize_t n_sequences, Py_ssize_t n_steps, Py_ssize_t n_features) noexcept nogil:
    cdef Py_ssize_t size = n_steps * n_features
    job.n_sequences, job.n_steps, job.n_features = n_sequences, n_steps, n_features
    job.group = max(1, PIECE // size)
    job.part = PART
    job.n_parts = (size + PART - 1) // PART


def parts(Py_ssize_t n_elements):
    """Partial sums that a sequence of so many elements has."""
    return (n_elements + PART - 1) // PART


def pointwise(int which, object x, int x_kind, object y, int y_kind, object a, double parameter, shape,
              const int64_t[::1] lengths, const uint8_t[:, ::1] mask, const double[::1] scale,
              double[:, ::1] partial, double[:, ::1] steps, object grad, int num_threads):
    """Losses and, unless grad is None, gradients times scale.

    IN   shape: B, T, D. x, y, and a in float64 or None, each [B, outer, inner] with T D elements a sequence.
    OUT  partial [B, parts(T D)]: sums over steps of the means over features; steps [B, T]: those means, or
         None; both zeros before. grad like x.
    """
    cdef Py_buffer held[4]
    cdef Job job
    memset(&job, 0, sizeof(Job))
    memset(held, 0, sizeof(held))
    try:
        job.x = acquire(x, x_kind, &held[0], False)
        job.y = acquire(y, y_kind, &held[1], False)
        job.a = acquire(a, 1, &held[2], False)
        job.g = acquire(grad, x_kind, &held[3], True)
        job.loss, job.parameter = <Loss> which, parameter
        lay_out(&job, shape[0], shape[1], shape[2])
        job.lengths, job.scale, job.partial = &lengths[0], &scale[0], &partial[0, 0]
        job.mask = &mask[0, 0] if mask is not None else NULL
        job.steps = &steps[0, 0] if steps is not None else NULL
        with nogil:
            run(&job, num_threads)
    finally:
        for i in range(4):
            PyBuffer_Release(&held[i])


def find_bad_target(object y, int y_kind, shape, const int64_t[::1] lengths, const uint8_t[:, ::1] mask,
                    const double[::1] scale, bint signs, int64_t[::1] bad, int num_threads):
    """First element, counted over B T D, that is not -1 or 1 (signs) or not from 0 to 1; -1 if there is none.

    bad: room for B * parts(T D).
    """
    cdef Py_buffer held[1]
    cdef Job job
    cdef Py_ssize_t i
    memset(&job, 0, sizeof(Job))
    memset(held, 0, sizeof(held))
    try:
        job.y = acquire(y, y_kind, &held[0], False)
        lay_out(&job, shape[0], shape[1], shape[2])
        job.lengths, job.scale, job.bad, job.signs = &lengths[0], &scale[0], &bad[0], signs
        job.mask = &mask[0, 0] if mask is not None else NULL
        with nogil:
            run(&job, num_threads)
        for i in range(n_items(&job)):
            if bad[i] >= 0:
                return bad[i]
        return -1
    finally:
        PyBuffer_Release(&held[0])
