"""Losses of pairs of numbers over padded sequences: loss and gradient in one pass.

Losses go through a buffer if a mask, a parameter of each feature or the losses of single steps are requested. Sums are
taken per piece and part of a sequence, so that they depend neither on threads nor on other sequences.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.calls cimport PART, Call
from fastseqloss._kernels.parallel.threads cimport DONE, NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Held, Stored, hold, let_go
from fastseqloss._kernels.simd.runs cimport Run, in_place, read, run_from, run_through, write
from fastseqloss._kernels.steps.pairs cimport (
    PIECE, SHORT, Item, Pairs, divide, element, fits_float32, item_at, within,
)
from fastseqloss._kernels.steps.targets cimport (
    AMOUNTS, ANYTHING, COUNTS, PROBABILITIES, SHARES, SIGNS, Allowed, find_bad,
)


cdef extern from "steps/pointwise.h" nogil:
    ctypedef enum Loss "fsl_pointwise_loss":
        N_LOSSES "FSL_N_LOSSES"
    const char *const *loss_names "fsl_loss_names"
    Loss in_float32 "fsl_in_float32"(Loss loss, bint plain) noexcept
    double add_losses_f32 "fsl_pointwise_f32"(Loss loss, const float *x, const float *y, double a, Py_ssize_t n,
                                              double scale, float *g, Allowed allowed, Py_ssize_t *bad) noexcept
    double add_losses_f64 "fsl_pointwise_f64"(Loss loss, const double *x, const double *y, double a, Py_ssize_t n,
                                              double scale, double *g, Allowed allowed, Py_ssize_t *bad) noexcept
    void each_loss_f32 "fsl_points_f32"(Loss loss, const float *x, const float *y, const double *a, int n,
                                        double *losses, double *slopes) noexcept
    void each_loss_f64 "fsl_points_f64"(Loss loss, const double *x, const double *y, const double *a, int n,
                                        double *losses, double *slopes) noexcept
    void wide_losses_f32 "fsl_wide_points_f32"(Loss loss, const float *x, const float *y, const float *a, double p,
                                               double b, double c, int n, double *losses, float *slopes,
                                               float *others) noexcept
    void wide_losses_f64 "fsl_wide_points_f64"(Loss loss, const double *x, const double *y, const double *a, double p,
                                               double b, double c, int n, double *losses, double *slopes,
                                               double *others) noexcept
    bint is_wide "fsl_is_wide"(Loss loss) noexcept
    double sum_of "fsl_sum"(const double *x, int n) noexcept
    double sum_in_order "fsl_sum_in_order"(const double *x, int n) noexcept

cdef enum:
    LOOKED_AT = 32  # items of a block in the backward scan of the targets


# Codes of the losses, and of the values allowed for targets or predictions.
LOSSES = {loss_names[code].decode(): code for code in range(N_LOSSES)}
ALLOWED = {
    "numbers": ANYTHING, "signs": SIGNS, "shares": SHARES, "counts": COUNTS, "probabilities": PROBABILITIES,
    "amounts": AMOUNTS,
}


cdef struct Job:
    Pairs pairs
    Loss loss
    Array a  # [B, outer, inner], or NULL
    Array other  # gradient with respect to y, or to a if that has one; or NULL
    double parameter  # used if a is not given
    double b, c  # further parameters of wide losses; b is the share of smoothing for others
    bint wide
    const double *scale  # of each sequence; 0 for one that does not count
    const double *factors  # of each step, in addition; 0 for one that does not count; or NULL
    double *partial  # [B, n_parts]
    double *steps  # [B, T] or NULL
    Allowed allowed  # ANYTHING if the targets have been checked
    int64_t *bad  # of each item: first element of a target that is not allowed, or -1
    Workspace workspace  # for each worker: 3 PIECE numbers in float64, then 3 PIECE in float64 or float32


cdef inline double scale_of(const Job *job, Py_ssize_t b) noexcept nogil:
    """Factor of the slopes: above 0, since a slope may be infinite."""
    return max(job.scale[b] / job.pairs.n_features, 5e-324)


cdef inline const floating *read_targets(const Job *job, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                                         Py_ssize_t n, floating *buffer) noexcept nogil:
    """Targets of elements, smoothed if the call has a share for that."""
    cdef Py_ssize_t i
    cdef floating keep = <floating> (1 - job.b), rest = <floating> (0.5 * job.b)
    cdef const floating *y = read(&job.pairs.y, b, n_sequences, first, n, buffer)
    if not smooths(job):
        return y
    for i in range(n_sequences * n):
        buffer[i] = keep * y[i] + rest
    return buffer


cdef inline bint smooths(const Job *job) noexcept nogil:
    return job.b > 0 and not job.wide


# ---- sums of losses -------------------------------------------------------------------------

cdef inline double add_losses(const Job *job, const floating *x, const floating *y, Py_ssize_t n, double scale,
                              floating *g, Py_ssize_t *bad) noexcept nogil:
    """Sum of n losses; g = scale times the slopes, unless NULL. Stops at a target that is not allowed."""
    cdef Allowed allowed = ANYTHING if smooths(job) else job.allowed
    if floating is float:
        return add_losses_f32(job.loss, x, y, job.parameter, n, scale, g, allowed, bad)
    else:
        return add_losses_f64(job.loss, x, y, job.parameter, n, scale, g, allowed, bad)


cdef int64_t run_part(const Job *job, Item item, floating *buffer) noexcept nogil:
    """Process elements of one sequence that counts, each piece in one loop from the arrays to the gradient.

    Returns the first bad target as an index over B T D, or -1.
    """
    cdef const Pairs *pairs = &job.pairs
    cdef const floating *x
    cdef const floating *y
    cdef floating *g
    cdef Run run
    cdef Py_ssize_t n, bad = -1, b = item.b, first = item.first, used = within(pairs, b, first, item.last - first)
    cdef double total = 0, scale = scale_of(job, b)
    while first < item.last:
        n = min(item.last - first, PIECE if smooths(job) else pairs.at_once)
        g = NULL
        if pairs.g.data != NULL:
            run = run_from(&pairs.g, b, first, n)
            g = <floating *> run.data if in_place(&pairs.g, run, n, sizeof(floating)) else buffer + 2 * PIECE
        if used > 0:
            x = read(&pairs.x, b, 1, first, min(n, used), buffer)
            y = read_targets(job, b, 1, first, min(n, used), buffer + PIECE)
            total += add_losses(job, x, y, min(n, used), scale, g, &bad)
            if bad >= 0:
                return element(pairs, b, first + bad)
        if g != NULL and used < n:
            memset(g + max(used, 0), 0, (n - max(used, 0)) * sizeof(floating))
        if g == buffer + 2 * PIECE:
            write(&pairs.g, b, 1, first, n, g)
        first, used = first + n, used - n
    job.partial[b * pairs.n_parts + item.first // PART] = total / pairs.n_features
    return -1


# ---- losses of single elements --------------------------------------------------------------

cdef void leave_out(const Pairs *pairs, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, double *loss,
                    double *slope) noexcept nogil:
    """Set losses and slopes of masked steps to 0."""
    cdef Py_ssize_t i, step = first // pairs.n_features, feature = first % pairs.n_features
    for i in range(n):
        if not pairs.mask[b * pairs.n_steps + step]:
            loss[i] = slope[i] = 0
        feature += 1
        if feature == pairs.n_features:
            step, feature = step + 1, 0


cdef void weigh(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, double *loss,
                double *slope) noexcept nogil:
    """Multiply slopes by the factors of their steps; set losses and slopes of factor 0 to 0."""
    cdef Py_ssize_t i, d = job.pairs.n_features, feature = first % d
    cdef const double *factor = job.factors + b * job.pairs.n_steps + first // d
    for i in range(n):
        if factor[0]:
            slope[i] *= factor[0]
        else:
            loss[i] = slope[i] = 0
        feature += 1
        if feature == d:
            factor, feature = factor + 1, 0


cdef void add_steps(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, const double *loss) noexcept nogil:
    cdef Py_ssize_t d = job.pairs.n_features, i, step = first // d, feature = first % d
    cdef double *steps = job.steps + b * job.pairs.n_steps
    if d == 1:
        memcpy(steps + first, loss, n * sizeof(double))
        return
    for i in range(n):
        steps[step] += loss[i] / d
        feature += 1
        if feature == d:
            step, feature = step + 1, 0


cdef inline void each_loss(const Job *job, const floating *x, const floating *y, const double *a, Py_ssize_t n,
                           double *losses, double *slopes) noexcept nogil:
    """Losses and slopes of n elements, each with its own parameter."""
    if floating is float:
        each_loss_f32(job.loss, x, y, a, <int> n, losses, slopes)
    else:
        each_loss_f64(job.loss, x, y, a, <int> n, losses, slopes)


cdef void run_piece(const Job *job, Item item, floating *buffer, double *numbers) noexcept nogil:
    """Process an item of at most PIECE elements."""
    cdef const Pairs *pairs = &job.pairs
    cdef double *parameters = numbers
    cdef double *loss = numbers + PIECE
    cdef double *slope = numbers + 2 * PIECE
    cdef Py_ssize_t s, i, j, b, used, first = item.first, n = item.last - first, total = item.n_sequences * n
    cdef const floating *x = read(&pairs.x, item.b, item.n_sequences, first, n, buffer)
    cdef const floating *y = read_targets(job, item.b, item.n_sequences, first, n, buffer + PIECE)
    cdef const double *a = parameters
    cdef double d = pairs.n_features, scale
    if job.a.data != NULL:
        a = read(&job.a, item.b, item.n_sequences, first, n, parameters)
    else:
        for i in range(total):
            parameters[i] = job.parameter
    each_loss(job, x, y, a, total, loss, slope)
    for s in range(item.n_sequences):
        i, b = s * n, item.b + s
        used = within(pairs, b, first, n) if job.scale[b] else 0
        if pairs.mask != NULL:
            leave_out(pairs, b, first, used, loss + i, slope + i)
        if job.factors != NULL:
            weigh(job, b, first, used, loss + i, slope + i)
        if job.steps != NULL:
            add_steps(job, b, first, used, loss + i)
        else:
            job.partial[b * pairs.n_parts + first // PART] += sum_of(loss + i, <int> used) / d
        scale = scale_of(job, b)
        for j in range(i, i + used):
            slope[j] *= scale
        for j in range(i + used, i + n):
            slope[j] = 0
    if pairs.g.data != NULL:
        write(&pairs.g, item.b, item.n_sequences, first, n, <const double *> slope)


# ---- wide losses ------------------------------------------------------------------------------

cdef inline void wide_losses(const Job *job, const floating *x, const floating *y, const floating *a, Py_ssize_t n,
                             double *losses, floating *slopes, floating *others) noexcept nogil:
    """Losses of n elements, their slopes, and their derivatives with respect to y, or to a."""
    if floating is float:
        wide_losses_f32(job.loss, x, y, a, job.parameter, job.b, job.c, <int> n, losses, slopes, others)
    else:
        wide_losses_f64(job.loss, x, y, a, job.parameter, job.b, job.c, <int> n, losses, slopes, others)


cdef inline Py_ssize_t counted(const Job *job, Item item, Py_ssize_t b) noexcept nogil:
    """Number of elements of a sequence in an item that count, unless they are masked."""
    return within(&job.pairs, b, item.first, item.last - item.first) if job.scale[b] else 0


cdef void omit(const Job *job, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n, floating *numbers) noexcept nogil:
    """Set the losses or slopes of masked steps and of those of factor 0 to 0."""
    cdef Py_ssize_t i, step
    if job.pairs.mask == NULL and job.factors == NULL:
        return
    for i in range(n):
        step = b * job.pairs.n_steps + (first + i) // job.pairs.n_features
        if job.pairs.mask != NULL and not job.pairs.mask[step] or job.factors != NULL and not job.factors[step]:
            numbers[i] = 0


cdef void put_losses(const Job *job, Item item, double *loss) noexcept nogil:
    """Add up the losses of an item, by step or in all."""
    cdef const Pairs *pairs = &job.pairs
    cdef Py_ssize_t s, b, used, n = item.last - item.first
    cdef double d = pairs.n_features
    for s in range(item.n_sequences):
        b = item.b + s
        used = counted(job, item, b)
        omit(job, b, item.first, used, loss + s * n)
        if job.steps != NULL:
            add_steps(job, b, item.first, used, loss + s * n)
        else:
            job.partial[b * pairs.n_parts + item.first // PART] += sum_in_order(loss + s * n, <int> used) / d


cdef void put_slopes(const Job *job, const Array *gradient, Item item, floating *slope, double *scaled) noexcept nogil:
    """Write the slopes of an item, scaled, and 0 for elements that do not count; `scaled` is a buffer."""
    cdef const Pairs *pairs = &job.pairs
    cdef Py_ssize_t s, i, b, used, n = item.last - item.first, total = item.n_sequences * n, d = pairs.n_features
    cdef Run run = run_through(gradient, item.b, item.n_sequences, item.first, n)
    cdef floating *out = <floating *> run.data if in_place(gradient, run, total, sizeof(floating)) else NULL
    cdef const double *factors
    cdef double scale
    if job.factors != NULL:
        out = NULL
    for s in range(item.n_sequences):
        b = item.b + s
        used = counted(job, item, b)
        omit(job, b, item.first, used, slope + s * n)
        scale = scale_of(job, b)
        for i in range(s * n + used, (s + 1) * n):
            slope[i] = 0
        if out != NULL:
            for i in range(s * n, (s + 1) * n):
                out[i] = <floating> (slope[i] * scale)
        else:
            for i in range(s * n, (s + 1) * n):
                scaled[i] = slope[i] * scale
        if job.factors != NULL:
            factors = job.factors + b * pairs.n_steps
            for i in range(used):
                scaled[s * n + i] *= factors[(item.first + i) // d]
    if out == NULL:
        write(gradient, item.b, item.n_sequences, item.first, n, <const double *> scaled)


cdef void run_wide(const Job *job, Item item, floating *buffer, double *numbers) noexcept nogil:
    """Process an item of at most PIECE elements of a wide loss."""
    cdef const Pairs *pairs = &job.pairs
    cdef double *loss = numbers
    cdef floating *slope = <floating *> (numbers + PIECE)
    cdef floating *other = <floating *> (numbers + 2 * PIECE)
    cdef Py_ssize_t first = item.first, n = item.last - first, total = item.n_sequences * n
    cdef const floating *x = read(&pairs.x, item.b, item.n_sequences, first, n, buffer)
    cdef const floating *y = read(&pairs.y, item.b, item.n_sequences, first, n, buffer + PIECE)
    cdef const floating *a = y  # not read by losses without an array of parameters
    if job.a.data != NULL:
        a = read(&job.a, item.b, item.n_sequences, first, n, buffer + 2 * PIECE)
    wide_losses(job, x, y, a, total, loss, slope, other)
    put_losses(job, item, loss)
    if pairs.g.data != NULL:
        put_slopes(job, &pairs.g, item, slope, numbers)
    if job.other.data != NULL:
        put_slopes(job, &job.other, item, other, numbers)


# ---- items of a call ------------------------------------------------------------------------

cdef int64_t run_item(const Job *job, Item item, floating *buffer, double *numbers) noexcept nogil:
    """Process an item; returns the first bad target as an index over B T D, or -1."""
    cdef Item piece = item
    cdef bint plain = job.pairs.group == 1 and job.scale[item.b] and job.pairs.mask == NULL and job.steps == NULL \
        and job.a.data == NULL and not job.wide
    cdef int64_t bad = -1
    if job.allowed != ANYTHING and (smooths(job) or not plain):
        bad = find_bad(&job.pairs, job.allowed, item, buffer)
    if plain and bad < 0:
        return run_part(job, item, buffer)
    while piece.first < item.last and bad < 0:
        piece.last = min(piece.first + SHORT, item.last)
        if job.wide:
            run_wide(job, piece, buffer, numbers)
        else:
            run_piece(job, piece, buffer, numbers)
        piece.first = piece.last
    return bad


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i
    cdef int64_t bad
    cdef double *numbers = <double *> part_of(&job.workspace, worker)
    cdef void *buffer = numbers + 3 * PIECE
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            bad = run_item(job, item_at(&job.pairs, i), <float *> buffer, numbers) if job.pairs.single \
                else run_item(job, item_at(&job.pairs, i), <double *> buffer, numbers)
            if job.bad != NULL:
                job.bad[i] = bad


cdef inline Py_ssize_t backwards(Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Index of an item in a scan of blocks from the last to the first: the loss begins with the data scanned last."""
    return max(0, n - (i // LOOKED_AT + 1) * LOOKED_AT) + i % LOOKED_AT


cdef void search_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, item
    cdef void *buffer = <void *> part_of(&job.workspace, worker)
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            item = backwards(i, job.pairs.n_items)
            job.bad[item] = \
                find_bad(&job.pairs, job.allowed, item_at(&job.pairs, item), <float *> buffer) if job.pairs.single \
                else find_bad(&job.pairs, job.allowed, item_at(&job.pairs, item), <double *> buffer)


cdef Status run_items(Job *job, int num_threads) noexcept nogil:
    """Run all items. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    if not allocate(&job.workspace, 0, 6 * PIECE * sizeof(double), num_threads, False):
        return NO_MEMORY
    begin(&loop, job.pairs.n_items, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.workspace)
    return loop.status


cdef Status search_items(Job *job, int num_threads) noexcept nogil:
    """Search the targets of all items. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    if not allocate(&job.workspace, 0, PIECE * sizeof(double), num_threads, False):
        return NO_MEMORY
    begin(&loop, job.pairs.n_items, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            search_worker(job, &loop, threadid())
    release(&job.workspace)
    return loop.status


cdef int64_t first_bad(const Job *job) noexcept nogil:
    """First bad target of all items as an index over B T D, or -1."""
    cdef Py_ssize_t i
    if job.bad != NULL:
        for i in range(job.pairs.n_items):
            if job.bad[i] >= 0:
                return job.bad[i]
    return -1


cdef Status run_checked(Job *job, bint before, int num_threads) noexcept nogil:
    """Run all items; if `before`, nothing is written unless all targets are allowed."""
    cdef Status status
    if before and job.allowed != ANYTHING:
        status = search_items(job, num_threads)
        if status != DONE or first_bad(job) >= 0:
            return status
        job.allowed = ANYTHING
    return run_items(job, num_threads)


cdef Array row_of(const void *data, Stored kind, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Array [1, 1, n] of contiguous elements."""
    cdef Array array
    array.data, array.kind = <char *> data, kind
    array.shape[0], array.shape[1], array.shape[2] = 1, 1, n
    array.strides[0], array.strides[1], array.strides[2] = n * size, n * size, size
    return array


cdef Status run_call(Call *call) noexcept nogil:
    """Run the steps of a call as one sequence; `call.bad` tells whether a target is not allowed."""
    cdef Job job
    cdef Pairs *pairs = &job.pairs
    cdef Stored kind = FLOAT64 if call.doubles else FLOAT32
    cdef Py_ssize_t n = call.n_frames * call.n_classes
    cdef int64_t length = call.n_frames
    cdef Status status
    memset(&job, 0, sizeof(Job))
    pairs.x = row_of(call.x, kind, n, 8 if call.doubles else 4)
    pairs.y = row_of(call.y, <Stored> call.y_kind, n, call.y_size)
    pairs.g = row_of(call.g, kind, n, 8 if call.doubles else 4)
    pairs.n_sequences, pairs.n_steps, pairs.n_features, pairs.lengths = 1, call.n_frames, call.n_classes, &length
    job.parameter, job.b, job.c = call.parameter, call.more[0], call.more[1]
    job.scale, job.partial, job.bad, job.allowed = call.scale, call.loss, call.bad, <Allowed> call.allowed
    job.loss = <Loss> call.which
    job.wide = is_wide(job.loss)
    if not call.doubles:
        job.loss = in_float32(job.loss, call.parameter == 1)
    divide(pairs)
    status = run_checked(&job, call.g != NULL, call.num_threads)
    call.bad[0] = first_bad(&job)
    call.workspace = job.workspace.size
    return status


entry = PyCapsule_New(<void *> run_call, NULL, NULL)


cdef void set_pairs(Job *job, shape, const int64_t[::1] lengths, const uint8_t[:, ::1] mask, int allowed,
                    int64_t[::1] bad) except *:
    """Set the arguments of both functions; arrays and `by_step` have been set."""
    job.pairs.n_sequences, job.pairs.n_steps, job.pairs.n_features = shape
    job.pairs.lengths = &lengths[0]
    job.pairs.mask = &mask[0, 0] if mask is not None else NULL
    job.allowed = <Allowed> allowed
    job.bad = &bad[0] if bad is not None else NULL
    divide(&job.pairs)


cpdef Py_ssize_t parts(Py_ssize_t n_elements) noexcept nogil:
    """Number of partial sums of a sequence of n_elements elements."""
    return (n_elements + PART - 1) // PART


def pointwise(int which, object x, int x_kind, object y, int y_kind, object a, int a_kind, double parameter, more,
              shape, const int64_t[::1] lengths, const uint8_t[:, ::1] mask, const double[::1] scale,
              const double[:, ::1] factors, double[:, ::1] partial, double[:, ::1] steps, object grad, object other,
              int other_kind, int allowed, bint before, int64_t[::1] bad, int num_threads):
    """Losses and, unless grad is None, gradients times scale. Returns the first bad target, as find_bad_target.

    IN   more: b and c of a wide loss. shape: B, T, D. x, y, and a or None, each [B, outer, inner] with T D elements a
         sequence; or [more, outer, inner] with as many elements in all where B is 1. scale [B]; factors [B, T] of
         steps, in addition, with which `steps` are given; or None.
    OUT  partial [B, parts(T D)]: sums over steps of the means over features, unless steps are given; steps [B, T]:
         those means, or None; both zeros on entry. grad like x, other like y or a, or None. All outputs are void if a
         target is bad, but then nothing is written to grad and other if targets are checked `before`.
    """
    cdef Held held, results
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    held.n = results.n = 0
    try:
        job.pairs.x = hold(&held, x, x_kind, False)
        job.pairs.y = hold(&held, y, y_kind, False)
        job.a = hold(&held, a, a_kind, False)
        job.pairs.g = hold(&results, grad, x_kind, True)
        job.other = hold(&results, other, other_kind, True)
        job.parameter, job.scale, job.partial = parameter, &scale[0], &partial[0, 0]
        job.b, job.c = more
        job.loss = <Loss> which
        job.wide = is_wide(job.loss)
        job.steps = &steps[0, 0] if steps is not None else NULL
        job.factors = &factors[0, 0] if factors is not None else NULL
        job.pairs.by_step = job.steps != NULL
        set_pairs(&job, shape, lengths, mask, allowed, bad)
        if fits_float32(job.pairs.x.kind):
            job.loss = in_float32(job.loss, a is None and parameter == 1)
        with nogil:
            status = run_checked(&job, before, num_threads)
        check(status, job.workspace.size)
        return first_bad(&job)
    finally:
        let_go(&held)
        let_go(&results)


def find_bad_target(object y, int y_kind, shape, const int64_t[::1] lengths, const uint8_t[:, ::1] mask,
                    int allowed, int64_t[::1] bad, int num_threads):
    """First element, counted over B T D, that is not allowed, or -1.

    allowed: one of ALLOWED; signs are -1 or 1, shares from 0 to 1, probabilities from 0 to 1 up to rounding, or NaN.
    bad: buffer of B * parts(T D) integers.
    """
    cdef Held held
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    held.n = 0
    try:
        job.pairs.y = hold(&held, y, y_kind, False)
        set_pairs(&job, shape, lengths, mask, allowed, bad)
        with nogil:
            status = search_items(&job, num_threads)
        check(status, job.workspace.size)
        return first_bad(&job)
    finally:
        let_go(&held)
