"""Losses of pairs of numbers over padded sequences: loss and gradient in one pass.

A sequence has T steps of D features. The work is cut into items: parts of up to PART elements of one sequence, or as
many short sequences as fit into SHORT elements. Arrays of float32 (or float64, if both are) are read and written in
place if the elements of a run are contiguous; others are converted in buffers that stay in the cache. Losses also go
through a buffer if a mask, a parameter of each feature or the losses of single steps are requested. Sums are taken per
piece and part of a sequence, so that they depend neither on threads nor on other sequences.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Held, Stored, hold, let_go
from fastseqloss._kernels.parallel.threads cimport DONE, NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, round_up


cdef extern from "steps/pointwise.h" nogil:
    enum:
        PIECE "FSL_PIECE"
    ctypedef enum Loss "fsl_pointwise_loss":
        N_LOSSES "FSL_N_LOSSES"
    const char *const *loss_names "fsl_loss_names"
    Loss in_float32 "fsl_in_float32"(Loss loss) noexcept
    void load "fsl_load"(...) noexcept
    void store "fsl_store"(...) noexcept
    double loss_and_slope "fsl_pointwise"(...) noexcept
    void losses_and_slopes "fsl_points"(...) noexcept
    double sum_of "fsl_sum"(const double *x, int n) noexcept
    Py_ssize_t bad_target "fsl_bad_target"(...) noexcept
    ctypedef enum Allowed "fsl_allowed":
        ANYTHING "FSL_ANYTHING"
        SIGNS "FSL_SIGNS"
        SHARES "FSL_SHARES"
        PROBABILITIES "FSL_PROBABILITIES"
    bint fits_float32 "fsl_fits_float32"(Stored kind) noexcept

cdef enum:
    PART = 8192
    SHORT = 512
    LOOKED_AT = 32  # items of a block in the backward scan of the targets


# Codes of the losses, and of the values allowed for targets or predictions.
LOSSES = {loss_names[code].decode(): code for code in range(N_LOSSES)}
ALLOWED = {"numbers": ANYTHING, "signs": SIGNS, "shares": SHARES, "probabilities": PROBABILITIES}


cdef struct Job:
    Loss loss
    Array x, y, a, g  # [B, outer, inner], as in pointwise(); a, g: NULL if not given
    double parameter  # used if a is not given
    Py_ssize_t n_sequences, n_steps, n_features
    Py_ssize_t group, n_parts  # sequences in an item; parts of a sequence
    bint direct  # whole parts can be read and written in place
    const int64_t *lengths
    const uint8_t *mask  # [B, T], or NULL
    const double *scale  # of each sequence; 0 for one that does not count
    double *partial  # [B, n_parts]
    double *steps  # [B, T] or NULL
    Allowed allowed  # ANYTHING if the targets have been checked
    int64_t *bad  # of each item: first element of a target that is not allowed, or -1
    bint only_look
    bint single  # compute in float32
    Workspace workspace  # for each worker: 3 PIECE numbers in float64, then 3 PIECE in float64 or float32


cdef struct Walk:
    # A run of evenly spaced elements of an array.
    char *data
    Py_ssize_t stride
    Py_ssize_t n


cdef inline Walk walk(const Array *array, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Run of at most n evenly spaced elements from `first` on; indices beyond a sequence continue in the next one."""
    cdef Py_ssize_t inner = array.shape[2], row = first // inner if first >= inner else 0, i = first - row * inner
    cdef Walk run
    if row >= array.shape[1]:
        b, row = b + row // array.shape[1], row % array.shape[1]
    run.data = array.data + b * array.strides[0] + row * array.strides[1] + i * array.strides[2]
    run.stride = array.strides[2]
    run.n = min(n, inner - i)
    return run


cdef inline Walk walk_group(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                            Py_ssize_t n) noexcept nogil:
    """Run through n_sequences, which extends beyond the first one if all elements are evenly spaced."""
    cdef Walk run = walk(array, b, first, n)
    if n_sequences > 1 and run.n == n and (n == 1 or array.strides[0] == n * run.stride):
        run.stride = array.strides[0] // n
        run.n = n_sequences * n
    return run


cdef inline bint in_place(const Array *array, Walk run, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Return True if the run has n contiguous floating-point numbers of this size."""
    cdef Stored kind = FLOAT32 if size == 4 else FLOAT64
    return array.kind == kind and run.n == n and run.stride == size


cdef const floating *read(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t n,
                          floating *buffer) noexcept nogil:
    """Elements first to first + n - 1 of each sequence: in place if possible, otherwise copied to the buffer."""
    cdef Walk run = walk_group(array, b, n_sequences, first, n)
    cdef Py_ssize_t i = 0, total = n_sequences * n
    if in_place(array, run, total, sizeof(floating)):
        return <const floating *> run.data
    while i < total:
        if run.n < total:
            run = walk(array, b + i // n, first + i % n, n - i % n)
        load(array.kind, run.data, run.stride, run.n, buffer + i)
        i += run.n
    return buffer


cdef void write(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t n,
                const floating *values) noexcept nogil:
    cdef Walk run = walk_group(array, b, n_sequences, first, n)
    cdef Py_ssize_t i = 0, total = n_sequences * n
    while i < total:
        if run.n < total:
            run = walk(array, b + i // n, first + i % n, n - i % n)
        store(array.kind, values + i, 1, run.n, run.data, run.stride)
        i += run.n


cdef inline Py_ssize_t within(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Number of the n elements within the length of their sequence."""
    return max(0, min(n, job.lengths[b] * job.n_features - first))


cdef inline double scale_of(const Job *job, Py_ssize_t b) noexcept nogil:
    """Factor of the slopes: above 0, since a slope may be infinite."""
    return max(job.scale[b] / job.n_features, 5e-324)


cdef int64_t run_part(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t last, floating *buffer) noexcept nogil:
    """Process elements of one sequence that counts, each piece in one loop from the arrays to the gradient.

    Returns the first bad target as b T D + element, or -1.
    """
    cdef const floating *x
    cdef const floating *y
    cdef floating *g
    cdef Walk run
    cdef Py_ssize_t n, bad = -1, part = first // PART, used = within(job, b, first, last - first)
    cdef double total = 0, scale = scale_of(job, b)
    while first < last:
        n = min(last - first, PART if job.direct else PIECE)
        g = NULL
        if job.g.data != NULL:
            run = walk(&job.g, b, first, n)
            g = <floating *> run.data if in_place(&job.g, run, n, sizeof(floating)) else buffer + 2 * PIECE
        if used > 0:
            x = read(&job.x, b, 1, first, min(n, used), buffer)
            y = read(&job.y, b, 1, first, min(n, used), buffer + PIECE)
            total += loss_and_slope(job.loss, x, y, job.parameter, min(n, used), scale, g, job.allowed, &bad)
            if bad >= 0:
                return b * job.n_steps * job.n_features + first + bad
        if g != NULL and used < n:
            memset(g + max(used, 0), 0, (n - max(used, 0)) * sizeof(floating))
        if g == buffer + 2 * PIECE:
            write(&job.g, b, 1, first, n, g)
        first, used = first + n, used - n
    job.partial[b * job.n_parts + part] = total / job.n_features
    return -1


cdef void leave_out(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, double *loss,
                    double *slope) noexcept nogil:
    """Set losses and slopes of masked steps to 0."""
    cdef Py_ssize_t i, step = first // job.n_features, feature = first % job.n_features
    for i in range(n):
        if not job.mask[b * job.n_steps + step]:
            loss[i] = slope[i] = 0
        feature += 1
        if feature == job.n_features:
            step, feature = step + 1, 0


cdef void add_steps(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, const double *loss) noexcept nogil:
    cdef Py_ssize_t i, step = first // job.n_features, feature = first % job.n_features
    cdef double *steps = job.steps + b * job.n_steps
    if job.n_features == 1:
        memcpy(steps + first, loss, n * sizeof(double))
        return
    for i in range(n):
        steps[step] += loss[i] / job.n_features
        feature += 1
        if feature == job.n_features:
            step, feature = step + 1, 0


cdef void run_piece(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t n,
                    floating *buffer, double *numbers) noexcept nogil:
    """Process elements first to first + n - 1 of each of n_sequences sequences, at most PIECE elements in all."""
    cdef double *parameters = numbers
    cdef double *loss = numbers + PIECE
    cdef double *slope = numbers + 2 * PIECE
    cdef const floating *x = read(&job.x, b, n_sequences, first, n, buffer)
    cdef const floating *y = read(&job.y, b, n_sequences, first, n, buffer + PIECE)
    cdef const double *a = parameters
    cdef Py_ssize_t s, i, j, used, total = n_sequences * n
    cdef double d = job.n_features, scale
    if job.a.data != NULL:
        a = read(&job.a, b, n_sequences, first, n, parameters)
    else:
        for i in range(total):
            parameters[i] = job.parameter
    losses_and_slopes(job.loss, x, y, a, total, loss, slope)
    for s in range(n_sequences):
        i = s * n
        used = within(job, b + s, first, n) if job.scale[b + s] else 0
        if job.mask != NULL:
            leave_out(job, b + s, first, used, loss + i, slope + i)
        if job.steps != NULL:
            add_steps(job, b + s, first, used, loss + i)
        else:
            job.partial[(b + s) * job.n_parts + first // PART] += sum_of(loss + i, used) / d
        scale = scale_of(job, b + s)
        for j in range(i, i + used):
            slope[j] *= scale
        for j in range(i + used, i + n):
            slope[j] = 0
    if job.g.data != NULL:
        write(&job.g, b, n_sequences, first, n, <const double *> slope)


cdef bint counts(const Job *job, Py_ssize_t b, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t step = i // job.n_features
    return step < job.lengths[b] and (job.mask == NULL or job.mask[b * job.n_steps + step])


cdef int64_t find_bad(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t n,
                      floating *buffer) noexcept nogil:
    """First bad target as b T D + element, or -1. Targets of steps that do not count may have any value."""
    cdef const floating *y = read(&job.y, b, n_sequences, first, n, buffer)
    cdef Py_ssize_t total = n_sequences * n, i = bad_target(y, total, job.allowed)
    if i >= 0:
        for i in range(i, total):
            if counts(job, b + i // n, first + i % n) and bad_target(y + i, 1, job.allowed) == 0:
                return (b + i // n) * job.n_steps * job.n_features + first + i % n
    return -1


cdef int64_t look(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t last,
                  floating *buffer) noexcept nogil:
    """First bad target, as find_bad, of any number of elements of one sequence, or of several short sequences."""
    cdef Py_ssize_t n
    cdef int64_t bad = -1
    if n_sequences == 1:
        last = first + within(job, b, first, last - first)
    while first < last and bad < 0:
        n = min(last - first, PART if job.direct else PIECE)
        bad = find_bad(job, b, n_sequences, first, n, buffer)
        first += n
    return bad


cdef inline Py_ssize_t part_start(const Job *job, Py_ssize_t part) noexcept nogil:
    """First element of a part of a sequence; of a whole step where losses of steps are summed, by one worker each."""
    cdef Py_ssize_t first = part * PART
    if job.steps != NULL:
        first = round_up(first, job.n_features)
    return min(first, job.n_steps * job.n_features)


cdef int64_t run_item(const Job *job, Py_ssize_t item, floating *buffer, double *numbers) noexcept nogil:
    """Process an item; returns the first bad target as b T D + element, or -1."""
    cdef Py_ssize_t size = job.n_steps * job.n_features, b, first = 0, last = size, n_sequences = 1
    cdef int64_t bad = -1
    if job.group > 1:
        b = item * job.group
        n_sequences = min(job.group, job.n_sequences - b)
    else:
        b = item // job.n_parts
        first = part_start(job, item % job.n_parts)
        last = part_start(job, item % job.n_parts + 1)
    if not job.only_look and job.group == 1 and job.scale[b] and job.mask == NULL and job.steps == NULL \
            and job.a.data == NULL:
        return run_part(job, b, first, last, buffer)
    if job.allowed != ANYTHING:
        bad = look(job, b, n_sequences, first, last, buffer)
    while first < last and bad < 0 and not job.only_look:
        run_piece(job, b, n_sequences, first, min(SHORT, last - first), buffer, numbers)
        first += SHORT
    return bad


cdef inline Py_ssize_t backwards(Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Index of an item in a scan of blocks from the last to the first: the loss begins with the data scanned last."""
    return max(0, n - (i // LOOKED_AT + 1) * LOOKED_AT) + i % LOOKED_AT


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, item, n = n_items(job)
    cdef int64_t bad
    cdef double *numbers = <double *> part_of(&job.workspace, worker)
    cdef void *buffer = numbers + 3 * PIECE
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            item = backwards(i, n) if job.only_look else i
            bad = run_item(job, item, <float *> buffer, numbers) if job.single \
                else run_item(job, item, <double *> buffer, numbers)
            if job.bad != NULL:
                job.bad[item] = bad


cdef inline Py_ssize_t n_items(const Job *job) noexcept nogil:
    return (job.n_sequences + job.group - 1) // job.group if job.group > 1 else job.n_sequences * job.n_parts


cdef bint is_whole(const Array *array, Stored kind, Py_ssize_t size) noexcept nogil:
    """Return True if the `size` elements of a sequence are contiguous, or if the array is not given."""
    return array.data == NULL or (array.kind == kind and array.shape[1] == 1 and array.shape[2] == size
                                  and array.strides[2] == (4 if kind == FLOAT32 else 8))


cdef void lay_out(Job *job) noexcept nogil:
    """Set the division into items and the precision."""
    cdef Py_ssize_t size = job.n_steps * job.n_features
    cdef Stored kind
    job.single = fits_float32(job.y.kind) and (job.x.data == NULL or fits_float32(job.x.kind))
    kind = FLOAT32 if job.single else FLOAT64
    if fits_float32(job.x.kind):
        job.loss = in_float32(job.loss)
    job.group = max(1, SHORT // size)
    job.n_parts = parts(size)
    job.direct = is_whole(&job.x, kind, size) and is_whole(&job.y, kind, size) and is_whole(&job.g, kind, size)


cdef Status run_items(Job *job, int num_threads, int64_t *bad) noexcept nogil:
    """Run all items; bad[0] = the first bad target or -1. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef Py_ssize_t i
    bad[0] = -1
    lay_out(job)
    if not allocate(&job.workspace, 0, 6 * PIECE * sizeof(double), num_threads, False):
        return NO_MEMORY
    begin(&loop, n_items(job), num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.workspace)
    if job.bad != NULL and loop.status == DONE:
        for i in range(n_items(job)):
            if job.bad[i] >= 0:
                bad[0] = job.bad[i]
                break
    return loop.status


cdef int64_t run(Job *job, shape, int num_threads) except -2:
    """Run all items without the GIL; returns the first bad target or -1, and raises errors of the status."""
    cdef int64_t bad
    cdef Status status
    job.n_sequences, job.n_steps, job.n_features = shape
    with nogil:
        status = run_items(job, num_threads, &bad)
    check(status, job.workspace.size)
    return bad


cpdef Py_ssize_t parts(Py_ssize_t n_elements) noexcept nogil:
    """Number of partial sums of a sequence of n_elements elements."""
    return (n_elements + PART - 1) // PART


def pointwise(int which, object x, int x_kind, object y, int y_kind, object a, double parameter, shape,
              const int64_t[::1] lengths, const uint8_t[:, ::1] mask, const double[::1] scale,
              double[:, ::1] partial, double[:, ::1] steps, object grad, int allowed, int64_t[::1] bad,
              int num_threads):
    """Losses and, unless grad is None, gradients times scale. Returns the first bad target, as find_bad_target.

    IN   shape: B, T, D. x, y, and a in float64 or None, each [B, outer, inner] with T D elements a sequence; or
         [more, outer, inner] with as many elements in all where B is 1.
    OUT  partial [B, parts(T D)]: sums over steps of the means over features, unless steps are given; steps [B, T]:
         those means, or None; both zeros on entry. grad like x. All outputs are void if a target is bad.
    """
    cdef Held held
    cdef Job job
    memset(&job, 0, sizeof(Job))
    memset(&held, 0, sizeof(Held))
    try:
        job.x = hold(&held, x, x_kind, False)
        job.y = hold(&held, y, y_kind, False)
        job.a = hold(&held, a, FLOAT64, False)
        job.g = hold(&held, grad, x_kind, True)
        job.loss, job.parameter, job.allowed = <Loss> which, parameter, <Allowed> allowed
        job.lengths, job.scale, job.partial = &lengths[0], &scale[0], &partial[0, 0]
        job.mask = &mask[0, 0] if mask is not None else NULL
        job.steps = &steps[0, 0] if steps is not None else NULL
        job.bad = &bad[0] if bad is not None else NULL
        return run(&job, shape, num_threads)
    finally:
        let_go(&held)


def find_bad_target(object y, int y_kind, shape, const int64_t[::1] lengths, const uint8_t[:, ::1] mask,
                    int allowed, int64_t[::1] bad, int num_threads):
    """First element, counted over B T D, that is not allowed, or -1.

    allowed: one of ALLOWED; signs are -1 or 1, shares from 0 to 1, probabilities from 0 to 1 up to rounding, or NaN.
    bad: buffer of B * parts(T D) integers, or None for 0.
    """
    cdef Held held
    cdef Job job
    memset(&job, 0, sizeof(Job))
    memset(&held, 0, sizeof(Held))
    try:
        job.y = hold(&held, y, y_kind, False)
        job.lengths, job.bad, job.allowed, job.only_look = &lengths[0], &bad[0], <Allowed> allowed, True
        job.mask = &mask[0, 0] if mask is not None else NULL
        return run(&job, shape, num_threads)
    finally:
        let_go(&held)
