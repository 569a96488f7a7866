"""Transducer loss and gradient, occupancies of the arcs, best paths.

A sequence takes three passes. The dense pass over the rows of logits stores exponentials in the gradient and the
weights of the arcs in the lattice; the lattice turns weights into occupancies; a second dense pass turns exponentials
into the gradient, which at a node is gamma * softmax, less the occupancies of the arcs at their classes.

The dense passes take nearly all the time and may take frames in any order. Small sequences are processed one by one,
as many at once as there are workers. Large sequences, and those of a small batch, are processed in groups, and workers
share the frames of a group in each dense pass.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.codes cimport LOGITS, PROBS, Input
from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.lattice.grid cimport (
    BEST_PATH, OCCUPANCIES, SLOPES, Use, grid_backward, grid_best, grid_forward, grid_slopes,
)
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, DONE, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_sum, take
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Held, hold, let_go
from fastseqloss._kernels.transducer.durations cimport (
    DurationLattice, Durations, apply_sigma, duration_backward, duration_forward, fill_durations, lay_out_durations,
    put_durations, read_durations,
)
from fastseqloss._kernels.transducer.exact cimport score_of_label, solve_exactly
from fastseqloss._kernels.transducer.exact_durations cimport solve_durations_exactly
from fastseqloss._kernels.transducer.gradient cimport close_frames, put_occupancies
from fastseqloss._kernels.transducer.nodes cimport (
    Problem, Rows, Sequence, lay_out, lay_out_rows, open_frames, rows_of_block, set_rows,
)


cdef enum:
    SMALL = 1 << 22           # most elements of a sequence that is processed in one piece
    GROUP_ELEMENTS = 1 << 22  # least number of elements of a group, except for the last one
    PIECE = 1 << 16           # elements of the frames that a worker takes at once
    AHEAD = 512               # elements of the gradient from the row in progress to the one that is prefetched
    CROWD = 16                # least number of small sequences per worker for processing them one by one


cdef enum Phase:
    OPEN
    SOLVE
    CLOSE


# Arguments of a call, and its workspace.
cdef struct Batch:
    Problem problem
    Durations durations
    Py_ssize_t n
    double label_factor                    # factor of the occupancies of labels in the gradient
    bint backward
    Use use
    const int64_t *order
    const double *scale
    double *loss
    bint *no_memory                        # set if memory is exhausted on the exact path
    double *blank_occupancy                # [B, T, U+1], or NULL
    double *label_occupancy
    Py_ssize_t most_labels
    int64_t *frames                        # [B, most_labels] frame and log-probability of each label of the best path,
    double *log_probs                      # or NULL
    Workspace arrays, rows


# ---- sequences ------------------------------------------------------------------------------

cdef uintptr_t set_up(const Batch *a, Sequence *s, Py_ssize_t i, uintptr_t base) noexcept nogil:
    """Lay out the i-th sequence from `base` on; a sequence that does not count has no path."""
    cdef Py_ssize_t b = a.order[i]
    cdef uintptr_t end = lay_out(&a.problem, s, b, a.use, base)
    a.loss[b] = INFINITY
    if a.scale[b] == 0:
        s.has_path = False
        a.loss[b] = 0
    return end


cdef void trace(const Batch *a, const Sequence *s) noexcept nogil:
    """Frames and log-probabilities of the labels on the best path."""
    cdef Py_ssize_t n, u = 0, at
    for n in range(s.grid.rows):
        if s.grid.column[n + 1] > u:
            at = s.b * a.most_labels + u
            a.frames[at] = n if a.problem.modified else n - u
            a.log_probs[at] = score_of_label(&a.problem, s, s.grid.at[n] + u)
            u += 1


cdef void solve_durations(const Batch *a, Sequence *s, uintptr_t scratch) noexcept nogil:
    """Loss of a sequence with durations, and the gradient of their logits; weights of tokens become occupancies."""
    cdef DurationLattice lattice
    cdef double total = 0
    cdef bint backward = a.durations.g.data != NULL
    lay_out_durations(&a.durations, &lattice, s.frames, s.n_labels, scratch)
    if s.has_path:
        read_durations(&a.durations, &lattice, s)
    if s.is_nan:
        a.loss[s.b], s.has_path = NAN, False
    if s.has_path and s.is_huge:
        if not solve_durations_exactly(&a.durations, &lattice, &a.problem, s, backward, &total):
            a.no_memory[0], s.has_path = True, False
    elif s.has_path:
        apply_sigma(&a.durations, &lattice, &s.grid)
        total = duration_forward(&lattice, &s.grid)
        s.has_path = total > -INFINITY
        if s.has_path and backward:
            duration_backward(&lattice, &s.grid)
    if s.has_path:
        a.loss[s.b] = max(-total, 0.0)  # negative by rounding only
    if backward and s.has_path:
        put_durations(&a.durations, &lattice, &s.grid, s.b, a.scale[s.b])
    elif backward:
        fill_durations(&a.durations, s.b, s.frames, s.n_labels + 1, NAN if s.is_nan else 0)


cdef void solve(const Batch *a, Sequence *s, uintptr_t scratch) noexcept nogil:
    """Loss of a sequence from the weights of its arcs, which become occupancies; or of its best path."""
    cdef double total = 0, v = 0, e = 0
    if a.durations.n:
        solve_durations(a, s, scratch)
        return
    if not s.has_path:
        return
    if s.is_nan:
        a.loss[s.b], s.has_path = NAN, False
        return
    if s.is_huge:
        if not solve_exactly(&a.problem, s, a.use, &s.has_path, &total):
            a.no_memory[0], s.has_path = True, False
    else:
        if a.use == BEST_PATH:
            grid_best(&s.grid, &v, &e)
        elif a.use == SLOPES:
            grid_slopes(&s.grid, &v, &e)
        else:
            grid_forward(&s.grid, &v, &e)
        s.has_path = v > 0
        total = log_extended(v, e)
    if not s.has_path:
        return
    if a.frames != NULL:
        trace(a, s)
    if a.backward and a.use == OCCUPANCIES:
        grid_backward(&s.grid)
    # Positive by rounding only.
    a.loss[s.b] = 0 if a.problem.input == LOGITS and total > 0 else -total


cdef void run_sequences(const Batch *a, floating tag, Loop *loop, int worker) noexcept nogil:
    """Process sequences one by one."""
    cdef Py_ssize_t first, last = 0, i
    cdef Sequence s
    cdef uintptr_t scratch = part_of(&a.rows, worker)
    cdef Rows *rows = <Rows *> take(&scratch, 1, sizeof(Rows))
    cdef floating *buffer = <floating *> lay_out_rows(&a.problem, &scratch)
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            set_up(a, &s, i, part_of(&a.arrays, worker))
            set_rows(&a.problem, &s)
            if s.has_path:
                open_frames(&a.problem, &s, 0, s.frames, rows, buffer)
            solve(a, &s, scratch)
            if a.problem.g.data != NULL:
                close_frames(&a.problem, &s, a.scale[s.b], a.label_factor, 0, a.problem.n_frames, buffer)
            if a.blank_occupancy != NULL:
                put_occupancies(&a.problem, &s, a.blank_occupancy, a.label_occupancy)


cdef void run_phase(const Batch *a, Sequence *group, Phase phase, Py_ssize_t step, floating tag, Loop *loop,
                    int worker) noexcept nogil:
    """Process items of a phase of a group: sequences, or `step` frames of one in the dense passes."""
    cdef Py_ssize_t first, last = 0, i, start, pieces = (a.problem.n_frames + step - 1) // step
    cdef Sequence *s
    cdef uintptr_t scratch = part_of(&a.rows, worker)
    cdef Rows *rows = <Rows *> take(&scratch, 1, sizeof(Rows))
    cdef floating *buffer = <floating *> lay_out_rows(&a.problem, &scratch)
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            s, start = group + (i if phase == SOLVE else i // pieces), i % pieces * step
            if phase == CLOSE:
                start = (pieces - 1 - i % pieces) * step
            if phase == SOLVE:
                solve(a, s, scratch)
                if a.blank_occupancy != NULL:
                    put_occupancies(&a.problem, s, a.blank_occupancy, a.label_occupancy)
            elif phase == CLOSE:
                close_frames(&a.problem, s, a.scale[s.b], a.label_factor, start, start + step, buffer)
            elif s.has_path:
                open_frames(&a.problem, s, start, start + step, rows, buffer)


# ---- batches --------------------------------------------------------------------------------

cdef inline Py_ssize_t elements(const Batch *a, Py_ssize_t i) noexcept nogil:
    """Scores of the i-th sequence."""
    cdef Py_ssize_t b = a.order[i]
    return (a.problem.logit_lengths[b] * min(a.problem.width, a.problem.label_lengths[b] + 1) + 1) * a.problem.n_classes


cdef Py_ssize_t end_of_group(const Batch *a, Py_ssize_t first) noexcept nogil:
    """Index after the last sequence of the group that begins at `first`."""
    cdef Py_ssize_t i = first, total = 0
    while i < a.n and total < GROUP_ELEMENTS:
        total += elements(a, i)
        i += 1
    return i


cdef uintptr_t lay_out_group(const Batch *a, Py_ssize_t first, Py_ssize_t last, Sequence *group,
                             uintptr_t base) noexcept nogil:
    """Lay out the sequences of a group, after an array of them at `base`; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t i
    cdef Sequence unused
    take(&cursor, last - first, sizeof(Sequence))
    for i in range(first, last):
        cursor = set_up(a, &unused if group == NULL else group + (i - first), i, cursor)
    return cursor


cdef Status run_in_phases(const Batch *a, Py_ssize_t first, Py_ssize_t last, int num_threads) noexcept nogil:
    """Process a group of sequences, whose frames the workers share."""
    cdef Loop loop
    cdef Sequence *group = <Sequence *> a.arrays.common
    cdef Py_ssize_t step = max(1, PIECE // (a.problem.width * a.problem.n_classes)), i
    cdef Py_ssize_t pieces = (a.problem.n_frames + step - 1) // step
    cdef int phase
    lay_out_group(a, first, last, group, a.arrays.common)
    for i in range(last - first):
        set_rows(&a.problem, group + i)
    for phase in range(OPEN, CLOSE + (1 if a.problem.g.data != NULL else 0)):
        begin(&loop, last - first if phase == SOLVE else (last - first) * pieces, num_threads)
        while enter(&loop):
            with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
                if a.problem.x.kind == FLOAT64:
                    run_phase(a, group, <Phase> phase, step, <double> 0, &loop, threadid())
                else:
                    run_phase(a, group, <Phase> phase, step, <float> 0, &loop, threadid())
        if loop.status != DONE:
            return loop.status
    return DONE


cdef Status run_one_by_one(const Batch *a, int num_threads) noexcept nogil:
    cdef Loop loop
    begin(&loop, a.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            if a.problem.x.kind == FLOAT64:
                run_sequences(a, <double> 0, &loop, threadid())
            else:
                run_sequences(a, <float> 0, &loop, threadid())
    return loop.status


cdef Status run_batch(Batch *a, int num_threads) noexcept nogil:
    """Run all sequences. Allocates the workspace; does not need the GIL."""
    cdef Sequence s
    cdef Status status = DONE
    cdef size_t common = 0, own = 0
    cdef DurationLattice lattice
    cdef uintptr_t rows = 0, end = 0
    cdef Py_ssize_t i, last, largest = 0
    cdef bint in_phases
    a.problem.block = rows_of_block(&a.problem)
    for i in range(a.n):
        largest = max(largest, elements(a, i))
        own = max(own, set_up(a, &s, i, 0))
    in_phases = largest > SMALL or 1 < num_threads and a.n < CROWD * num_threads
    i = 0
    while in_phases and i < a.n:
        last = end_of_group(a, i)
        common, i = max(common, lay_out_group(a, i, last, NULL, 0)), last
    take(&rows, 1, sizeof(Rows))
    lay_out_rows(&a.problem, &rows)
    for i in range(a.n):
        end = max(end, lay_out_durations(&a.durations, &lattice, a.problem.logit_lengths[i],
                                         a.problem.label_lengths[i], rows))
    if not (allocate(&a.arrays, common, 0 if in_phases else own, num_threads, False)
            and allocate(&a.rows, 0, end, num_threads, False)):
        status = NO_MEMORY
    elif not in_phases:
        status = run_one_by_one(a, num_threads)
    i = 0
    while in_phases and status == DONE and i < a.n:
        last = end_of_group(a, i)
        status, i = run_in_phases(a, i, last, num_threads), last
    release(&a.arrays)
    release(&a.rows)
    return status


# ---- calls ----------------------------------------------------------------------------------

cdef void open_batch(Batch *batch, Held *held, object scores, int kind, object grad, const int64_t[::1] labels,
                     const int64_t[::1] starts, const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths,
                     const int64_t[:, ::1] ranges, const int64_t[::1] order, const double[::1] scale, int input_kind,
                     Py_ssize_t blank, double[::1] loss) except *:
    """Set the arguments that all functions have; `held` is to be let go, even after an error."""
    cdef Problem *p = &batch.problem
    memset(batch, 0, sizeof(Batch))
    memset(held, 0, sizeof(Held))
    p.x = hold(held, scores, kind, False)
    p.size = held.buffers[0].itemsize
    p.g = hold(held, grad, kind, True)
    p.input, p.blank = <Input> input_kind, blank
    p.native = kind == FLOAT32 or kind == FLOAT64
    p.real = sizeof(double) if kind == FLOAT64 else sizeof(float)
    p.keep = p.native and grad is not None
    p.n_frames, p.width, p.n_classes = p.x.shape[1], p.x.shape[2], p.x.shape[3]
    p.ahead = p.g.strides[2] * max(1, AHEAD // p.n_classes) if grad is not None else 0
    p.labels, p.starts = &labels[0] if labels.shape[0] else NULL, &starts[0]
    p.logit_lengths, p.label_lengths = &logit_lengths[0], &label_lengths[0]
    p.ranges = &ranges[0, 0] if ranges is not None else NULL
    batch.n, batch.loss, batch.order, batch.scale = loss.shape[0], &loss[0], &order[0], &scale[0]


cdef int run(Batch *batch, int num_threads) except -1:
    """Run all sequences without the GIL; raise MemoryError if memory is exhausted."""
    cdef Status status
    cdef bint no_memory = False
    batch.no_memory = &no_memory
    with nogil:
        status = run_batch(batch, num_threads)
    check(status, size_sum(batch.arrays.size, batch.rows.size))
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
    return 0


def rnnt_loss(object scores, int kind, const int64_t[::1] labels, const int64_t[::1] starts,
              const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[:, ::1] ranges,
              const int64_t[::1] order, const double[::1] scale, int input_kind, Py_ssize_t blank, bint hat,
              bint modified, double fastemit, double[::1] loss, object grad, double[:, :, ::1] blank_occupancy,
              double[:, :, ::1] label_occupancy, int num_threads):
    """Losses and, unless grad is None, gradients times scale, of a checked batch with one frame or more.

    IN   scores [B, T, U+1, V], class axis contiguous; labels of sequence b from starts[b] on; ranges [B, T], the first
         column of each frame, or None; order: sequences, longest first.
    OUT  loss [B], inf without a path; grad [B, T, U+1, V], which may be scores; blank_occupancy and
         label_occupancy [B, T, U+1], or None, where a path exists.
    """
    cdef Held held
    cdef Batch batch
    try:
        open_batch(&batch, &held, scores, kind, grad, labels, starts, logit_lengths, label_lengths, ranges, order,
                   scale, input_kind, blank, loss)
        batch.problem.hat, batch.problem.modified = hat, modified
        batch.label_factor, batch.backward = 1 + fastemit, grad is not None or blank_occupancy is not None
        batch.use = SLOPES if input_kind == PROBS and grad is not None else OCCUPANCIES
        if blank_occupancy is not None:
            batch.blank_occupancy, batch.label_occupancy = &blank_occupancy[0, 0, 0], &label_occupancy[0, 0, 0]
        run(&batch, num_threads)
    finally:
        let_go(&held)


def rnnt_align(object scores, int kind, const int64_t[::1] labels, const int64_t[::1] starts,
               const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[:, ::1] ranges,
               const int64_t[::1] order, const double[::1] scale, int input_kind, Py_ssize_t blank, bint hat,
               bint modified, double[::1] loss, int64_t[:, ::1] frames, double[:, ::1] log_probs, int num_threads):
    """Best paths of a checked batch with one frame or more; arguments as of rnnt_loss.

    OUT  loss [B], minus the log-probability of the path, inf without a path; frames and log_probs [B, U] of the labels,
         where a path exists.
    """
    cdef Held held
    cdef Batch batch
    try:
        open_batch(&batch, &held, scores, kind, None, labels, starts, logit_lengths, label_lengths, ranges, order,
                   scale, input_kind, blank, loss)
        batch.problem.hat, batch.problem.modified = hat, modified
        batch.use, batch.most_labels = BEST_PATH, frames.shape[1]
        if frames.shape[1]:
            batch.frames, batch.log_probs = &frames[0, 0], &log_probs[0, 0]
        run(&batch, num_threads)
    finally:
        let_go(&held)


def tdt_loss(object scores, int kind, const int64_t[::1] labels, const int64_t[::1] starts,
             const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[::1] order,
             const double[::1] scale, Py_ssize_t blank, object duration_scores, int duration_kind,
             const int64_t[::1] durations, double sigma, double[::1] loss, object grad, object duration_grad,
             int num_threads):
    """Losses with durations and, unless grad is None, gradients times scale; arguments as of rnnt_loss.

    IN   scores [B, T, U+1, V] and duration_scores [B, T, U+1, D], logits; durations [D]; sigma >= 0, taken from the
         log-probability of every arc.
    OUT  loss [B]; grad and duration_grad, both or neither None, of the shapes of the scores, and may be these.
    """
    cdef Held held
    cdef Batch batch
    try:
        open_batch(&batch, &held, scores, kind, grad, labels, starts, logit_lengths, label_lengths, None, order,
                   scale, LOGITS, blank, loss)
        batch.label_factor, batch.use = 1, OCCUPANCIES
        batch.durations.x = hold(&held, duration_scores, duration_kind, False)
        batch.durations.size = held.buffers[2].itemsize
        batch.durations.g = hold(&held, duration_grad, duration_kind, True)
        batch.durations.n, batch.durations.values = durations.shape[0], &durations[0]
        batch.durations.sigma = sigma
        run(&batch, num_threads)
    finally:
        let_go(&held)
