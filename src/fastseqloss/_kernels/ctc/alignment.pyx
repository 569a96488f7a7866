"""CTC alignment (Viterbi), one sequence at a time.

The lattice runs backwards in time: q of a state at frame t is the best score over frames t to the last of all paths
through the state at t. The path is then followed forwards. The recursion reads states i and i + 1 and works in place,
without backpointers: the path continues to the state with the largest q.

For long sequences, q is kept at checkpoints. A path advances at most one label per frame, so that only a cone of labels
is computed again to follow the path from one checkpoint to the next.

Scores are relative to the best class of each frame, so q is at most 0, and the score of a path is at most the q of each
of its states. The sweep omits all states with q below an estimated floor; its result is correct if the score of the
best path is above the floor. For confident models few states remain.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport Input
from fastseqloss._kernels.ctc.exact_search cimport align_exactly
from fastseqloss._kernels.ctc.labels cimport PAD, STATES, first_alive, first_unreached
from fastseqloss._kernels.ctc.search cimport (
    Path, Place, Search, lay_out_search, path_total, read_frame, record, set_search,
)
from fastseqloss._kernels.ctc.sequence cimport fill
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport (
    Workspace, allocate, part_of, release, round_up, size_product, size_sum,
)


cdef extern from "ctc/viterbi.h" nogil:
    void viterbi_step "fsl_ctc_viterbi_step"(const double *b, const double *l, double *b_out, double *l_out,
                                             const float *skip, const int32_t *u, const double *y, Py_ssize_t lo,
                                             Py_ssize_t hi) noexcept
    bint all_below "fsl_ctc_all_below"(const double *b, const double *l, Py_ssize_t i, double least) noexcept


# ---- rows of q ------------------------------------------------------------------------------

cdef inline double *kept_row(Search *a, Py_ssize_t r, Py_ssize_t which) noexcept nogil:
    """Pointer to a kept row, indexed by label from a.origin on."""
    return a.rows + (2 * r + which) * (a.cone + STATES) - a.origin


cdef inline double *checkpoint(Search *a, Py_ssize_t j) noexcept nogil:
    """q at the last frame of block j > 0."""
    return a.checkpoints + 2 * (j - 1) * a.graph.width


cdef inline void open_cone(Search *a, const double *q, Py_ssize_t lo, Py_ssize_t r) noexcept nogil:
    """Set the origin of the kept rows to label `lo` or slightly before, and copy q to row r."""
    cdef Py_ssize_t n
    a.origin = min(lo // STATES * STATES, a.graph.size - a.cone)
    n = a.cone + STATES
    memcpy(kept_row(a, r, 0) + a.origin, q + PAD + a.origin, n * sizeof(double))
    memcpy(kept_row(a, r, 1) + a.origin, q + a.graph.width + PAD + a.origin, n * sizeof(double))


cdef inline void clear(double *b, double *l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Set the scores of these states to -inf."""
    if start < stop:
        fill(b + start, stop - start, -INFINITY)
        fill(l + start, stop - start, -INFINITY)


cdef inline Py_ssize_t run_block(Search *a, const floating *x, Py_ssize_t start, Py_ssize_t stop, bint keep,
                                 double floor) noexcept nogil:
    """Run from frame `stop` back to frame `start`, in place in a.q, or in kept rows, last to first.

    Kept rows cover the states of the cone only, and are valid for states at least as far below its end as the frame is
    from `stop`. Returns -1, or the frame at which all states are below the floor.
    """
    cdef Py_ssize_t t, lo, hi, least = a.origin if keep else 0
    cdef double *b = kept_row(a, stop - start, 0) if keep else a.q + PAD
    cdef double *l = kept_row(a, stop - start, 1) if keep else a.q + a.graph.width + PAD
    cdef double *b_out = b
    cdef double *l_out = l
    for t in range(stop - 1, start - 1, -1):
        read_frame(a, x, t)
        # Labels from which the end is reachable, within the range of the next frame plus one vector.
        lo = max(first_alive(&a.graph, a.frames - 1 - t) // STATES * STATES, a.lo - STATES, least)
        hi = min(round_up(first_unreached(&a.graph, t) + 1, STATES), a.hi)
        lo = min(lo, hi - STATES)
        clear(b, l, lo, a.lo)
        if keep:
            b_out, l_out = kept_row(a, t - start, 0), kept_row(a, t - start, 1)
            clear(b_out, l_out, max(lo - STATES, least), lo)
        viterbi_step(b, l, b_out, l_out, a.graph.skip + PAD, a.graph.u + PAD, a.y, lo, hi)
        while lo < hi and all_below(b_out, l_out, lo, floor):
            lo += STATES
        if lo == hi:
            return t
        while all_below(b_out, l_out, hi - STATES, floor):
            hi -= STATES
        b_out[hi] = l_out[hi] = -INFINITY
        b, l, a.lo, a.hi = b_out, l_out, lo, hi
    if not keep:
        clear(b, l, 0, a.lo)
        clear(b, l, a.hi, a.graph.size)
    return -1


cdef inline void last_scores(Search *a) noexcept nogil:
    """q of the last frame: the emissions of the last label and the last blank, -inf for all other states."""
    cdef Py_ssize_t n = a.graph.n_labels
    fill(a.q, 2 * a.graph.width, -INFINITY)
    a.q[PAD + n] = a.y[0]
    if n:
        a.q[a.graph.width + PAD + n - 1] = a.y[a.graph.u[PAD + n - 1]]
    a.lo, a.hi = max(n - 1, 0) // STATES * STATES, a.graph.size


cdef inline Py_ssize_t run_back(Search *a, const floating *x) noexcept nogil:
    """Run all frames, last to first; keeps the rows of block 0 and checkpoints at the ends of the other blocks.

    Returns -1, or the frame at which all states are below the floor.
    """
    cdef Py_ssize_t j, t, stop = a.frames - 1
    read_frame(a, x, stop)
    last_scores(a)
    for j in range(a.n_blocks - 1, 0, -1):
        memcpy(checkpoint(a, j), a.q, 2 * a.graph.width * sizeof(double))
        t = run_block(a, x, j * a.block, stop, False, a.floor)
        if t >= 0:
            return t
        stop = j * a.block
    open_cone(a, a.q, 0, stop)
    a.hi = min(a.hi, a.cone)
    return run_block(a, x, 0, stop, True, a.floor)


cdef void sweep(Search *a, const floating *x) noexcept nogil:
    """Run back, with lower and lower floors until the best path is above the floor.

    A run that fails mostly ends early; the next floor is extrapolated from the frame at which it ended.
    """
    cdef Py_ssize_t t
    cdef int attempt
    a.opened, a.is_nan = a.frames, False
    a.floor = -64 if a.graph.size > 32 else -INFINITY
    for attempt in range(4):
        t = run_back(a, x)
        if t < 0 and max(kept_row(a, 0, 0)[0], kept_row(a, 0, 1)[0]) >= a.floor:
            return
        a.floor *= max(4.0, 2.0 * a.frames / (a.frames - max(t, 0)))
        if attempt == 2:
            a.floor = -INFINITY


# ---- the path -------------------------------------------------------------------------------

cdef inline Place follow(Search *a, Place at, const double *b, const double *l) noexcept nogil:
    """Next state, given q of the next frame: the best one, and among equals the one with the smallest advance."""
    cdef double best
    cdef Place to = at
    if not at.is_label:
        to.is_label = l[at.i] > b[at.i]
        return to
    best = l[at.i]
    if b[at.i + 1] > best:
        best = b[at.i + 1]
        to.i, to.is_label = at.i + 1, False
    if a.graph.skip[PAD + at.i + 1] > 0 and l[at.i + 1] > best:
        to.i, to.is_label = at.i + 1, True
    return to


cdef double trace(Search *a, const floating *x, const int64_t *labels, Path *path) noexcept nogil:
    """Follow the best path; returns its log-probability, or -inf without a path."""
    cdef Py_ssize_t j, t, start, stop
    cdef Place at
    cdef double b = kept_row(a, 0, 0)[0], l = kept_row(a, 0, 1)[0]
    at.i, at.is_label = 0, l > b
    if b == -INFINITY and l == -INFINITY:
        return -INFINITY
    record(a, x, 0, at, labels, path)
    for j in range(a.n_blocks):
        start, stop = j * a.block, min((j + 1) * a.block, a.frames - 1)
        if j > 0:
            open_cone(a, checkpoint(a, j), at.i, stop - start)
            a.lo, a.hi = a.origin, a.origin + a.cone
            run_block(a, x, start, stop, True, -INFINITY)
        for t in range(start + 1, stop + 1):
            at = follow(a, at, kept_row(a, t - start, 0), kept_row(a, t - start, 1))
            record(a, x, t, at, labels, path)
    return path_total(a, path)


cdef double align_sequence(Search common, Py_ssize_t frames, Py_ssize_t n_labels, bint feasible, const floating *x,
                           const int64_t *labels, Path path, int32_t *position, uintptr_t workspace) noexcept nogil:
    """Log-probability of the best path, which is stored in `path` unless the log-probability is -inf or NaN."""
    cdef Search a = common
    cdef double best
    if not feasible:
        return -INFINITY
    if frames == 0:
        return 0
    a.frames, a.graph.n_labels, a.graph.position = frames, n_labels, position
    path.total = path.lost = 0
    lay_out_search(&a, workspace)
    set_search(&a, labels)
    sweep(&a, x)
    if a.is_nan:
        return NAN
    best = max(kept_row(&a, 0, 0)[0], kept_row(&a, 0, 1)[0])
    if a.is_rounded or best < -exact_from(frames) and (best > -INFINITY or floating is double):
        return align_exactly(&a, x, labels, &path)
    return trace(&a, x, labels, &path)


# Arguments of a call, and its workspace.
cdef struct Batch:
    Search common
    Path out  # of the first sequence
    Py_ssize_t n, n_frames  # sequences; frames, padding included
    Py_ssize_t x_step  # elements from one sequence to the next
    const int64_t *order
    const int64_t *labels
    const int64_t *starts
    const int64_t *logit_lengths
    const int64_t *label_lengths
    const int64_t *frames_needed
    double *log_prob
    Workspace positions, arrays


cdef void align_worker(const Batch *batch, const floating *x, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, b
    cdef Path path = batch.out
    cdef Search search = batch.common
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = batch.order[i] if batch.order != NULL else i
            if batch.n_frames:
                path.labels = batch.out.labels + b * batch.n_frames
                path.tokens = batch.out.tokens + b * batch.n_frames
                path.log_probs = batch.out.log_probs + b * batch.n_frames
            search.star_log_prob = batch.common.star_log_prob + b * batch.n_frames * search.star_step
            batch.log_prob[b] = align_sequence(
                search, batch.logit_lengths[b], batch.label_lengths[b],
                batch.logit_lengths[b] >= batch.frames_needed[b], x + b * batch.x_step,
                batch.labels + batch.starts[b], path, <int32_t *> part_of(&batch.positions, worker),
                part_of(&batch.arrays, worker))


cdef Status align_batch(Batch *batch, const floating *x, int num_threads) noexcept nogil:
    """Run all sequences; x is the first one's. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef Search *a = &batch.common
    cdef size_t own = 0
    cdef Py_ssize_t b
    for b in range(batch.n):
        a.frames, a.graph.n_labels = batch.logit_lengths[b], batch.label_lengths[b]
        if batch.logit_lengths[b] >= batch.frames_needed[b]:
            own = max(own, lay_out_search(&batch.common, 0))
    if not (allocate(&batch.arrays, 0, own, num_threads, False)
            and allocate(&batch.positions, 0, size_product(a.n_classes + 1, sizeof(int32_t)), num_threads, True)):
        release(&batch.arrays)
        return NO_MEMORY
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            align_worker(batch, x, &loop, threadid())
    release(&batch.arrays)
    release(&batch.positions)
    return loop.status


def ctc_align(const floating[:, :, :] logits, const int64_t[::1] table, const int64_t[::1] order, int input_kind,
              Py_ssize_t blank, const double[::1] prior, double star_log_prob, const double[::1] star_log_probs,
              double[::1] log_prob, int64_t[:, ::1] path, int64_t[:, ::1] token_index,
              double[:, ::1] frame_log_probs, int num_threads):
    """Best paths of a checked batch.

    IN   logits [B, T, V]; table of sequences and labels as read_sequences fills it, with V for the star; order:
         sequences, longest first, or None; prior [V], subtracted from the scores in the comparison of paths, or None;
         star_log_probs [B * T], or None, for star_log_prob at all frames.
    OUT  log_prob [B], -inf without a path; path, token_index, frame_log_probs [B, T] where a path exists, up to the
         length of the sequence.
    """
    cdef Batch batch
    cdef Search *common = &batch.common
    cdef Status status
    cdef bint no_memory = False
    cdef const floating *x = NULL
    memset(&batch, 0, sizeof(Batch))
    batch.n, batch.n_frames = logits.shape[0], logits.shape[1]
    if batch.n_frames:
        x, batch.out.labels, batch.out.tokens = &logits[0, 0, 0], &path[0, 0], &token_index[0, 0]
        batch.out.log_probs = &frame_log_probs[0, 0]
    batch.x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    batch.logit_lengths, batch.starts = &table[0], &table[0] + batch.n
    batch.label_lengths, batch.frames_needed = &table[0] + 2 * batch.n, &table[0] + 3 * batch.n
    batch.labels, batch.order = &table[0] + 4 * batch.n, &order[0] if order is not None else NULL
    batch.log_prob = &log_prob[0]
    common.input = <Input> input_kind
    common.n_classes, common.blank = logits.shape[2], blank
    common.x_stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    common.class_prior = &prior[0] if prior is not None else NULL
    common.star_log_prob, common.no_memory = &star_log_prob, &no_memory
    if star_log_probs is not None and star_log_probs.shape[0]:
        common.star_log_prob, common.star_step = &star_log_probs[0], 1
    with nogil:
        status = align_batch(&batch, x, num_threads)
    check(status, size_sum(batch.arrays.size, batch.positions.size))
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
