"""CTC alignment (Viterbi), one sequence at a time.

The lattice runs backwards in time: q of a state at frame t is the best score over frames t to the last of all paths
through the state at t. The path is then followed forwards. The recursion reads states i and i + 1 and works in place,
without backpointers: the path continues to the state with the largest q.

For long sequences, q is kept at checkpoints. A path advances at most one label per frame, so that only a cone of labels
is computed again to follow the path from one checkpoint to the next. The scores are then read twice, so that it is
enough to have a window of them in memory.

Scores are relative to the best class of each frame, so q is at most 0, and the score of a path is at most the q of each
of its states. The sweep omits all states with q below an estimated floor; its result is correct if the score of the
best path is above the floor. For confident models few states remain.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport FLOAT64, Input
from fastseqloss._kernels.ctc.exact_search cimport align_exactly
from fastseqloss._kernels.ctc.labels cimport PAD, STATES, first_alive, first_unreached
from fastseqloss._kernels.ctc.search cimport (
    Path, Place, Search, lay_out_search, path_total, read_frame, record, set_search,
)
from fastseqloss._kernels.ctc.sequence cimport fill
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport (
    LINE, Workspace, allocate, part_of, release, round_up, size_product, size_sum,
)
from fastseqloss._kernels.simd.elements cimport Array, Held, hold_all, let_go


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
    """q at the last frame of block j; that of block 0 is kept for windows only."""
    return a.checkpoints + 2 * j * a.graph.width


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


cdef void trace(Search *a, const floating *x, const int64_t *labels, Py_ssize_t first, Py_ssize_t last, Place *at,
                Path *path) noexcept nogil:
    """Record the best path through the blocks `first` to `last` - 1 from the state `at`, and set `at` to the next one.

    The kept rows are those of block 0, except in windows.
    """
    cdef Py_ssize_t j, t, start, stop
    for j in range(first, last):
        start, stop = j * a.block, min((j + 1) * a.block, a.frames - 1)
        if j > 0 or a.in_windows:
            open_cone(a, checkpoint(a, j), at.i, stop - start)
            a.lo, a.hi = a.origin, a.origin + a.cone
            run_block(a, x, start, stop, True, -INFINITY)
        for t in range(start, stop):
            record(a, x, t, at[0], labels, path)
            at[0] = follow(a, at[0], kept_row(a, t + 1 - start, 0), kept_row(a, t + 1 - start, 1))
    if last == a.n_blocks:
        record(a, x, a.frames - 1, at[0], labels, path)


cdef inline double first_place(const double *b, const double *l, Place *at) noexcept nogil:
    """Set `at` to the first state of the best path, given q of the first frame; returns its q."""
    at.i, at.is_label = 0, l[0] > b[0]
    return max(b[0], l[0])


cdef double align_sequence(Search common, Py_ssize_t frames, Py_ssize_t n_labels, bint feasible, const floating *x,
                           const int64_t *labels, Path path, int32_t *position, uintptr_t workspace) noexcept nogil:
    """Log-probability of the best path, which is stored in `path` unless the log-probability is -inf or NaN."""
    cdef Search a = common
    cdef Place at
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
    best = first_place(kept_row(&a, 0, 0), kept_row(&a, 0, 1), &at)
    if a.is_rounded or best < -exact_from(frames) and (best > -INFINITY or floating is double):
        return align_exactly(&a, x, labels, &path)
    if best == -INFINITY:
        return -INFINITY
    trace(&a, x, labels, 0, a.n_blocks, &at, &path)
    return path_total(&a, &path)


# ---- windows --------------------------------------------------------------------------------

# An alignment of a sequence whose scores are in memory a window at a time.
cdef struct Windows:
    Search search
    Path path
    Place at                               # state of the path at the first frame that has not been recorded
    const int64_t *labels
    double star_log_prob


cdef inline void run_window(Search *a, const floating *x, Py_ssize_t stop) noexcept nogil:
    """Run the frames of a window, the last one of which is `stop` - 1, and keep the checkpoints among them."""
    cdef Py_ssize_t j, start, t = stop
    if t == a.frames:
        t -= 1
        read_frame(a, x, t)
        last_scores(a)
    while t > a.first:
        j = (t - 1) // a.block
        if t == min((j + 1) * a.block, a.frames - 1):
            memcpy(checkpoint(a, j), a.q, 2 * a.graph.width * sizeof(double))
        start = max(j * a.block, a.first)
        run_block(a, x, start, t, False, -INFINITY)
        t = start


cdef double enter_window(Windows *w, const floating *x, Py_ssize_t stop, Py_ssize_t block,
                         Py_ssize_t last) noexcept nogil:
    """Run a window, or record the path through the blocks `block` to `last` - 1, whose frames are in it.

    Returns the score of the best path, after the window of frame 0: NaN if there is none because of the scores, and 1
    if sums need to be exact. Returns the log-probability of the path after the last block, else 0.
    """
    cdef Search *a = &w.search
    cdef double best
    if block < last:
        trace(a, x, w.labels, block, last, &w.at, &w.path)
        return path_total(a, &w.path) if last == a.n_blocks else 0
    run_window(a, x, stop)
    if a.first > 0:
        return 0
    best = first_place(a.q + PAD, a.q + a.graph.width + PAD, &w.at)
    if a.is_nan:
        return NAN
    return 1 if a.is_rounded or -INFINITY < best < -exact_from(a.frames) else best


# ---- batches --------------------------------------------------------------------------------

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


# ---- calls ----------------------------------------------------------------------------------

cdef void set_options(Search *a, int input_kind, Py_ssize_t blank, const Array *prior, const Array *star_log_probs,
                      const double *star_log_prob) noexcept:
    a.input, a.blank, a.class_prior = <Input> input_kind, blank, <const double *> prior.data
    a.star_log_prob, a.star_step = star_log_prob, star_log_probs.data != NULL
    if a.star_step:
        a.star_log_prob = <const double *> star_log_probs.data


cdef int align(const Array *array, bint doubles, int input_kind, Py_ssize_t blank, double star_log_prob,
               int num_threads) except -1:
    cdef Batch batch
    cdef Search *common = &batch.common
    cdef Status status
    cdef bint no_memory = False
    cdef Py_ssize_t size = 8 if doubles else 4
    memset(&batch, 0, sizeof(Batch))
    batch.n, batch.n_frames, batch.x_step = array[0].shape[0], array[0].shape[1], array[0].strides[0] // size
    batch.logit_lengths = <const int64_t *> array[1].data
    batch.starts, batch.label_lengths = batch.logit_lengths + batch.n, batch.logit_lengths + 2 * batch.n
    batch.frames_needed, batch.labels = batch.starts + 2 * batch.n, batch.starts + 3 * batch.n
    batch.order = <const int64_t *> array[2].data
    set_options(common, input_kind, blank, &array[3], &array[4], &star_log_prob)
    batch.log_prob, batch.out.labels = <double *> array[5].data, <int64_t *> array[6].data
    batch.out.tokens, batch.out.log_probs = <int64_t *> array[7].data, <double *> array[8].data
    common.n_classes, common.x_stride, common.no_memory = array[0].shape[2], array[0].strides[1] // size, &no_memory
    with nogil:
        if doubles:
            status = align_batch(&batch, <const double *> array[0].data, num_threads)
        else:
            status = align_batch(&batch, <const float *> array[0].data, num_threads)
    check(status, size_sum(batch.arrays.size, batch.positions.size))
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
    return 0


def ctc_align(logits, bint doubles, table, order, int input_kind, Py_ssize_t blank, prior, double star_log_prob,
              star_log_probs, log_prob, path, token_index, frame_log_probs, int num_threads):
    """Best paths of a checked batch of one or more sequences.

    IN   logits [B, T, V], float64 if `doubles`, else float32; table of sequences and labels as read_sequences fills it,
         with V for the star; order: sequences, longest first, or None; prior [V], subtracted from the scores in the
         comparison of paths, or None; star_log_probs [B, T], or None, for star_log_prob at all frames.
    OUT  log_prob [B], -inf without a path; path, token_index, frame_log_probs [B, T] where a path exists, up to the
         length of the sequence.
    """
    cdef Held held
    cdef Array views[9]
    try:
        hold_all(&held, (logits, table, order, prior, star_log_probs, log_prob, path, token_index, frame_log_probs),
                 FLOAT64, 5, views)
        align(views, doubles, input_kind, blank, star_log_prob, num_threads)
    finally:
        let_go(&held)


cdef inline Windows *windows_in(const Array *memory) noexcept:
    return <Windows *> <uintptr_t> round_up(<Py_ssize_t> <uintptr_t> memory.data, LINE)


cdef Py_ssize_t open_arrays(const Array *array, Py_ssize_t frames, Py_ssize_t n_classes, int input_kind,
                            Py_ssize_t blank, double star_log_prob) noexcept:
    cdef Search a
    cdef Windows *w = windows_in(&array[6])
    cdef const int64_t *labels = <const int64_t *> array[0].data
    cdef Py_ssize_t positions = round_up(sizeof(Windows), LINE)
    cdef Py_ssize_t start = positions + round_up((n_classes + 1) * sizeof(int32_t), LINE)
    memset(&a, 0, sizeof(Search))
    a.frames, a.graph.n_labels, a.n_classes, a.in_windows = frames, array[0].shape[0], n_classes, True
    if w == NULL:
        return size_sum(lay_out_search(&a, 0), start + LINE)
    memset(w, 0, sizeof(Windows))
    w.star_log_prob, w.labels = star_log_prob, labels
    w.path.labels, w.path.tokens = <int64_t *> array[3].data, <int64_t *> array[4].data
    w.path.log_probs = <double *> array[5].data
    set_options(&a, input_kind, blank, &array[1], &array[2], &w.star_log_prob)
    a.opened, a.graph.position = frames, <int32_t *> (<uintptr_t> w + positions)
    lay_out_search(&a, <uintptr_t> w + start)
    set_search(&a, labels)
    w.search = a
    return a.block


def open_windows(Py_ssize_t frames, labels, Py_ssize_t n_classes, int input_kind, Py_ssize_t blank, prior,
                 double star_log_prob, star_log_probs, path, token_index, frame_log_probs, memory):
    """Begin an alignment in windows of a checked sequence of one or more frames; returns the frames of a block.

    With memory None, returns the number of bytes that it needs instead.

    IN   labels [S], with V for the star; prior, star_log_prob, star_log_probs as of ctc_align.
    OUT  path, token_index, frame_log_probs [T], which align_window writes; memory, of zeros. These, the labels, the
         prior and star_log_probs must outlive the alignment.
    """
    cdef Held held
    cdef Array views[7]
    try:
        hold_all(&held, (labels, prior, star_log_probs, path, token_index, frame_log_probs, memory), FLOAT64, 3, views)
        return open_arrays(views, frames, n_classes, input_kind, blank, star_log_prob)
    finally:
        let_go(&held)


def align_window(memory, logits, bint doubles, Py_ssize_t first, Py_ssize_t block, Py_ssize_t last):
    """Enter a window: the frames from `first` on, whose logits [n, V] are float64 if `doubles`, else float32.

    The windows are entered from the last to the first, with block and last 0; then, from the first on, windows that
    have the frames of the blocks `block` to `last` - 1. Returns what enter_window returns.
    """
    cdef Held held
    cdef Array views[2]
    cdef Windows *w
    cdef const Array *x = &views[0]
    cdef double result
    try:
        hold_all(&held, (logits, memory), FLOAT64, 1, views)
        w = windows_in(&views[1])
        w.search.first, w.search.x_stride = first, x.strides[0] // (8 if doubles else 4)
        with nogil:
            if doubles:
                result = enter_window(w, <const double *> x.data, first + x.shape[0], block, last)
            else:
                result = enter_window(w, <const float *> x.data, first + x.shape[0], block, last)
        return result
    finally:
        let_go(&held)
