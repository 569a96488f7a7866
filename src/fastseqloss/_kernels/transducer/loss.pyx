"""Transducer loss and gradient, occupancies of the arcs, best paths.

A sequence takes three passes. The dense pass over the rows of logits stores exponentials in the gradient and the
weights of the arcs in the lattice; the lattice turns weights into occupancies; a second dense pass turns exponentials
into the gradient, which at a node is gamma * softmax, less the occupancies of the arcs at their classes.

The dense passes take nearly all the time and may take frames in any order. Small sequences are processed one by one,
as many at once as there are workers. Workers share the frames of large sequences, and of those of a small batch: the
items of their loop are pieces of the dense passes, each a few frames. The worker that finishes the last piece of the
first pass of a sequence runs its lattice, and others go on with the next sequence.
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
from fastseqloss._kernels.parallel.threads cimport (
    NO_MEMORY, Counter, Loop, Status, add, begin, check, enter, next_items, set_counter, wait_for,
)
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
    PIECE = 1 << 16           # elements of the frames that a worker takes at once
    LINE_FRAMES = 8           # frames whose nodes share cache lines: a piece has as many if these have at most
    LARGE_PIECE = 1 << 19     # elements, and if a dense pass of a sequence has at least
    FEW_PIECES = 4            # pieces for each worker
    LEAD = 2                  # pieces for each worker of the next sequence that precede the second pass of a sequence
    SHARED = 3                # sequences in progress whose frames workers share
    CACHE = 1 << 26           # bytes of a gradient that caches do not hold
    AHEAD = 512               # elements of the gradient from the row in progress to the one that is prefetched
    CROWD = 16                # least number of small sequences per worker for processing them one by one


# A sequence in progress whose frames workers share. Counters of events hold the number of the sequence, from 1.
cdef struct Shared:
    Sequence sequence
    Counter ready, solved, closed  # its arrays are laid out, its weights are occupancies, its gradient is complete
    Counter opened, written        # pieces done of the two dense passes


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
    Py_ssize_t n_shared, lead              # for sequences whose frames workers share: at once; LEAD in all
    Py_ssize_t step, pieces                # frames of a piece, pieces of a dense pass


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


# ---- pieces of sequences --------------------------------------------------------------------

cdef struct Piece:
    Py_ssize_t i         # of the sequence in order
    Py_ssize_t k         # of the pieces of a dense pass
    bint second          # of the dense passes


cdef Piece piece_at(const Batch *a, Py_ssize_t item) noexcept nogil:
    """Piece of an item: pieces of sequence i + 1, `lead` of them, come before the second pass of sequence i."""
    cdef Piece piece
    cdef Py_ssize_t rest, lead = a.lead, pieces = a.pieces
    if a.problem.g.data == NULL:
        piece.i, piece.k, piece.second = item // pieces, item % pieces, False
        return piece
    if item < lead:
        piece.i, piece.k, piece.second = 0, item, False
        return piece
    piece.i, rest = (item - lead) // (2 * pieces), (item - lead) % (2 * pieces)
    piece.k, piece.second = lead + rest, False
    if rest >= pieces - lead:
        rest -= pieces - lead
        if piece.i + 1 < a.n:
            piece.second = rest >= lead
            piece.k = rest - lead if piece.second else rest
            piece.i += 0 if piece.second else 1
        else:
            piece.k, piece.second = rest, True
    return piece


cdef Shared *share_of(const Batch *a, Py_ssize_t i) noexcept nogil:
    return <Shared *> a.arrays.common + i % a.n_shared


cdef void prepare(const Batch *a, Py_ssize_t i) noexcept nogil:
    """Lay out a sequence in the place of an earlier one, once that is complete."""
    cdef Shared *share = share_of(a, i)
    cdef uintptr_t arrays = part_of(&a.arrays, i % a.n_shared)
    if i >= a.n_shared:
        wait_for(&share.closed, i - a.n_shared + 1)
    set_up(a, &share.sequence, i, arrays)
    set_rows(&a.problem, &share.sequence)
    set_counter(&share.opened, 0)
    set_counter(&share.written, 0)
    set_counter(&share.ready, i + 1)


cdef void run_piece(const Batch *a, Piece piece, Rows *rows, floating *buffer, uintptr_t scratch) noexcept nogil:
    cdef Shared *share = share_of(a, piece.i)
    cdef Sequence *s = &share.sequence
    cdef Py_ssize_t start = piece.k * a.step
    if piece.second:
        # The last frames of the first pass may still be in the cache.
        start = (a.pieces - 1 - piece.k) * a.step
        wait_for(&share.solved, piece.i + 1)
        close_frames(&a.problem, s, a.scale[s.b], a.label_factor, start, start + a.step, buffer)
        if add(&share.written, 1) + 1 == a.pieces:
            set_counter(&share.closed, piece.i + 1)
        return
    if piece.k == 0:
        prepare(a, piece.i)
    wait_for(&share.ready, piece.i + 1)
    if s.has_path:
        open_frames(&a.problem, s, start, start + a.step, rows, buffer)
    if add(&share.opened, 1) + 1 < a.pieces:
        return
    solve(a, s, scratch)
    if a.blank_occupancy != NULL:
        put_occupancies(&a.problem, s, a.blank_occupancy, a.label_occupancy)
    set_counter(&share.solved, piece.i + 1)
    if a.problem.g.data == NULL:
        set_counter(&share.closed, piece.i + 1)


cdef void run_pieces(const Batch *a, floating tag, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, item
    cdef uintptr_t scratch = part_of(&a.rows, worker)
    cdef Rows *rows = <Rows *> take(&scratch, 1, sizeof(Rows))
    cdef floating *buffer = <floating *> lay_out_rows(&a.problem, &scratch)
    while next_items(loop, worker, &first, &last):
        for item in range(first, last):
            run_piece(a, piece_at(a, item), rows, buffer, scratch)


# ---- batches --------------------------------------------------------------------------------

cdef inline Py_ssize_t elements(const Batch *a, Py_ssize_t i) noexcept nogil:
    """Scores of the i-th sequence."""
    cdef Py_ssize_t b = a.order[i]
    return (a.problem.logit_lengths[b] * min(a.problem.width, a.problem.label_lengths[b] + 1) + 1) * a.problem.n_classes


cdef Status run_shared(const Batch *a, int num_threads) noexcept nogil:
    """Process sequences whose frames the workers share."""
    cdef Loop loop
    memset(<void *> a.arrays.common, 0, a.n_shared * sizeof(Shared))
    begin(&loop, a.n * a.pieces * (2 if a.problem.g.data != NULL else 1), num_threads)
    loop.portion = 1
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            if a.problem.x.kind == FLOAT64:
                run_pieces(a, <double> 0, &loop, threadid())
            else:
                run_pieces(a, <float> 0, &loop, threadid())
    return loop.status


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


cdef void lay_out_shares(Batch *a, int num_threads) noexcept nogil:
    cdef Py_ssize_t frame = a.problem.width * a.problem.n_classes
    a.n_shared = min(a.n, SHARED) if num_threads > 1 else 1
    a.step = min(LINE_FRAMES, LARGE_PIECE // frame, a.problem.n_frames // (FEW_PIECES * num_threads))
    a.step = max(1, PIECE // frame, a.step)
    a.pieces = (a.problem.n_frames + a.step - 1) // a.step
    a.lead = min(a.pieces, LEAD * num_threads) if num_threads > 1 else 0


cdef Status run_batch(Batch *a, int num_threads) noexcept nogil:
    """Run all sequences. Allocates the workspace; does not need the GIL."""
    cdef Sequence s
    cdef Status status = NO_MEMORY
    cdef size_t own = 0
    cdef DurationLattice lattice
    cdef uintptr_t rows = 0, end = 0
    cdef Py_ssize_t i, largest = 0
    cdef bint shared
    a.problem.block = rows_of_block(&a.problem)
    for i in range(a.n):
        largest = max(largest, elements(a, i))
        own = max(own, set_up(a, &s, i, 0))
    shared = largest > SMALL or 1 < num_threads and a.n < CROWD * num_threads
    lay_out_shares(a, num_threads)
    take(&rows, 1, sizeof(Rows))
    lay_out_rows(&a.problem, &rows)
    for i in range(a.n):
        end = max(end, lay_out_durations(&a.durations, &lattice, a.problem.logit_lengths[i],
                                         a.problem.label_lengths[i], rows))
    if (allocate(&a.arrays, a.n_shared * sizeof(Shared), own, a.n_shared if shared else num_threads, False)
            and allocate(&a.rows, 0, end, num_threads, False)):
        status = run_shared(a, num_threads) if shared else run_one_by_one(a, num_threads)
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
    held.n = 0
    p.x = hold(held, scores, kind, False)
    p.size = held.buffers[0].itemsize
    p.g = hold(held, grad, kind, True)
    p.streams = grad is not None and held.buffers[1].len > CACHE
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
