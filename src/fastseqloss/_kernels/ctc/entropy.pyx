"""Entropy of the alignments of CTC and its gradient, one sequence at a time. Built for the baseline instruction set.

Step t leads to the states of frame t, and step `frames` to the end, which counts as blank state S of one more frame.
Before frame 0 the state is blank 0. The forward sweep keeps the states before each block of steps. The backward sweep
runs the steps of a block again, keeps their arcs, and closes the frames of the block, last to first: a frame has been
read for the last time when its gradient is written, which may be in the same memory.
"""

from cython.parallel cimport parallel, threadid
from libc.math cimport NAN, sqrt
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport FLOAT64, PROBS
from fastseqloss._kernels.ctc.labels cimport (
    PAD, LabelGraph, first_alive, first_unreached, lay_out_labels, set_labels,
)
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport (
    Workspace, allocate, part_of, release, size_product, size_sum, take,
)
from fastseqloss._kernels.simd.elements cimport Array, Held, hold_all, let_go


cdef extern from "ctc/entropy.h" nogil:
    Py_ssize_t KEEP "FSL_ENTROPY_KEEP"
    const double DEAD "FSL_ENTROPY_DEAD"
    enum:
        B "FSL_ENTROPY_B"
        L "FSL_ENTROPY_L"
        B_F "FSL_ENTROPY_B_F"
        STATES "FSL_ENTROPY_STATES"
        BB "FSL_ENTROPY_BB"
        ARCS "FSL_ENTROPY_ARCS"
        B_POST "FSL_ENTROPY_B_POST"
        B_SLOPE "FSL_ENTROPY_B_SLOPE"
        L_SLOPE "FSL_ENTROPY_L_SLOPE"
        POSTS "FSL_ENTROPY_POSTS"
    bint scores_of "fsl_entropy_scores"(const char *frame, bint doubles, bint probs, const int64_t *classes,
                                        Py_ssize_t used, double *score, double *rest) noexcept
    void step_blanks "fsl_entropy_blanks"(const double *source, double *to, double *arcs, Py_ssize_t width,
                                          double score, double rest, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void step_labels "fsl_entropy_labels"(const double *source, double *to, double *arcs, Py_ssize_t width,
                                          const double *skip, const double *score, const double *rest, Py_ssize_t lo,
                                          Py_ssize_t hi) noexcept
    void step_back "fsl_entropy_backward"(const double *source, double *to, const double *arcs, Py_ssize_t width,
                                          Py_ssize_t lo, Py_ssize_t hi) noexcept
    void write_frame "fsl_entropy_close"(const char *frame, char *out, bint doubles, bint probs, const int64_t *classes,
                                         Py_ssize_t used, double *slope, double scale, Py_ssize_t n_classes) noexcept


cdef struct Sequence:
    # the problem
    LabelGraph graph
    bint doubles, probs, with_grad
    Py_ssize_t frames, n_classes
    Py_ssize_t x_step, g_step  # bytes from one frame to the next
    const char *x
    char *g
    double scale
    # sizes
    Py_ssize_t block, n_blocks  # steps of a block, and blocks
    # workspace
    double *score              # [used + 1] scores of a frame, as score + rest
    double *rest
    double *slope              # [used + 1] slopes of the classes of a frame
    double *label_score        # [2, width] scores of the label states
    double *skip               # [width] the graph's, in float64
    double *rows               # [2, STATES, width] states of the last two frames
    double *arcs               # [block, ARCS, width], of a block of steps
    double *posts              # [2, POSTS, width] posteriors and slopes of two frames
    double *checkpoints        # [n_blocks, STATES, width] states before each block, if there is a gradient
    bint is_nan


cdef uintptr_t lay_out(Sequence *s, uintptr_t base) noexcept nogil:
    """Set the sizes of a sequence and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t most = min(s.graph.n_labels + 1, s.n_classes), steps = s.frames + 1
    lay_out_labels(&s.graph, most, &cursor)
    cdef size_t row = size_product(s.graph.width, sizeof(double))
    s.block = steps
    if size_product(steps, size_product(row, ARCS)) > <size_t> KEEP:
        s.block = <Py_ssize_t> sqrt(<double> steps) + 1
    s.n_blocks = (steps - 1) // s.block + 1
    s.score = <double *> take(&cursor, most + 1, sizeof(double))
    s.rest = <double *> take(&cursor, most + 1, sizeof(double))
    s.slope = <double *> take(&cursor, most + 1, sizeof(double))
    s.label_score = <double *> take(&cursor, 2, row)
    s.skip = <double *> take(&cursor, 1, row)
    s.rows = <double *> take(&cursor, 2 * STATES, row)
    s.arcs = <double *> take(&cursor, s.block if s.with_grad else 1, size_product(row, ARCS))
    s.posts = <double *> take(&cursor, 2 * POSTS, row)
    s.checkpoints = <double *> take(&cursor, s.n_blocks, size_product(row, STATES))
    return cursor


cdef inline double *states(const Sequence *s, Py_ssize_t r) noexcept nogil:
    """States of the frames after even (r = 0) or odd steps, at index 0."""
    return s.rows + r * STATES * s.graph.width + PAD


cdef inline double *arcs_of(const Sequence *s, Py_ssize_t r) noexcept nogil:
    return s.arcs + r * ARCS * s.graph.width + PAD


cdef void fill_frames(const Sequence *s, Py_ssize_t start, Py_ssize_t stop, double value) noexcept nogil:
    cdef Py_ssize_t t, k
    if not s.with_grad:
        return
    for t in range(start, stop):
        for k in range(s.n_classes):
            if s.doubles:
                (<double *> (s.g + t * s.g_step))[k] = value
            else:
                (<float *> (s.g + t * s.g_step))[k] = <float> value


cdef inline void find_band(const Sequence *s, Py_ssize_t t, Py_ssize_t *lo, Py_ssize_t *hi) noexcept nogil:
    """Set the range of the states of frame t that are reachable and reach the end."""
    cdef Py_ssize_t n = s.graph.n_labels
    lo[0], hi[0] = n, n + 1
    if t < s.frames:
        lo[0] = first_alive(&s.graph, s.frames - 1 - t)
        hi[0] = min(first_unreached(&s.graph, t) + 1, n + 1)


cdef void run_step(Sequence *s, Py_ssize_t t, double *arcs) noexcept nogil:
    """States of frame t, and the arcs into them. A neighbour of the band is not reachable, and has no arcs."""
    cdef Py_ssize_t i, k, lo, hi, w = s.graph.width
    cdef const double *before = states(s, (t + 1) % 2)
    cdef double *after = states(s, t % 2)
    cdef double *score = s.label_score + PAD
    find_band(s, t, &lo, &hi)
    if t < s.frames:
        s.is_nan |= scores_of(s.x + t * s.x_step, s.doubles, s.probs, s.graph.classes, s.graph.used, s.score, s.rest)
        for i in range(lo, hi):
            k = s.graph.u[PAD + i]
            score[i], score[w + i] = s.score[k], s.rest[k]
    else:
        s.score[0] = s.rest[0] = 0
        score[lo], score[w + lo] = DEAD, 0
    step_blanks(before, after, arcs, w, s.score[0], s.rest[0], lo, hi)
    step_labels(before, after, arcs, w, s.skip + PAD, score, score + w, lo, hi)
    for k in range(L + 1):
        after[k * w + lo - 1] = after[k * w + hi] = DEAD
    for k in range(ARCS):
        arcs[k * w + lo - 1] = arcs[k * w + hi] = 0


cdef void run_forward(Sequence *s) noexcept nogil:
    """All steps. Keeps the states before each block if there is a gradient, and then the arcs of the last block."""
    cdef Py_ssize_t i, t, j, size = STATES * s.graph.width
    for i in range(s.graph.width):
        s.skip[i] = s.graph.skip[i]
    memset(s.rows, 0, 2 * size * sizeof(double))
    for j in range(2):
        for i in range(2 * s.graph.width):  # rows B and L
            s.rows[j * size + i] = DEAD
    states(s, 1)[B * s.graph.width] = 0
    for t in range(s.frames + 1):
        j = t // s.block
        if s.with_grad and t == j * s.block:
            memcpy(s.checkpoints + j * size, s.rows + (t + 1) % 2 * size, size * sizeof(double))
        run_step(s, t, arcs_of(s, t - j * s.block if s.with_grad else 0))
        if s.is_nan:
            return


cdef void close_frame(Sequence *s, Py_ssize_t t, const double *posts) noexcept nogil:
    """Gradient of frame t: the slopes of its states, summed by class."""
    cdef Py_ssize_t i, lo, hi, w = s.graph.width
    find_band(s, t, &lo, &hi)
    memset(s.slope, 0, (s.graph.used + 1) * sizeof(double))
    for i in range(lo, hi):
        s.slope[0] += posts[B_SLOPE * w + i]
        s.slope[s.graph.u[PAD + i]] += posts[L_SLOPE * w + i]
    write_frame(s.x + t * s.x_step, s.g + t * s.g_step, s.doubles, s.probs, s.graph.classes, s.graph.used, s.slope,
                s.scale, s.n_classes)


cdef void run_backward(Sequence *s) noexcept nogil:
    """Gradient of all frames, last to first."""
    cdef Py_ssize_t t, j, start, stop, lo, hi, w = s.graph.width, size = STATES * s.graph.width
    cdef double *posts = s.posts + PAD
    memset(s.posts, 0, 2 * POSTS * w * sizeof(double))
    posts[(s.frames % 2 * POSTS + B_POST) * w + s.graph.n_labels] = 1
    for j in range(s.n_blocks - 1, -1, -1):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames + 1)
        if j < s.n_blocks - 1:
            memcpy(s.rows + (start + 1) % 2 * size, s.checkpoints + j * size, size * sizeof(double))
            for t in range(start, stop):
                run_step(s, t, arcs_of(s, t - start))
        for t in range(stop - 1, start - 1, -1):
            if t < s.frames:
                close_frame(s, t, posts + t % 2 * POSTS * w)
            if t > 0:
                find_band(s, t - 1, &lo, &hi)
                step_back(posts + t % 2 * POSTS * w, posts + (t + 1) % 2 * POSTS * w, arcs_of(s, t - start), w, lo, hi)


cdef double run_sequence(Sequence *s, const int64_t *labels, int64_t blank, bint feasible) noexcept nogil:
    """Entropy of one sequence; the gradient of its frames is written."""
    cdef const double *end = states(s, s.frames % 2) + s.graph.n_labels
    cdef double entropy
    if s.scale == 0 or not feasible:
        fill_frames(s, 0, s.frames, 0)
        return 0
    set_labels(&s.graph, labels, blank)
    run_forward(s)
    if s.is_nan:
        fill_frames(s, 0, s.frames, NAN)
        return NAN
    if end[B * s.graph.width] < 0.1 * DEAD:  # all alignments are impossible
        fill_frames(s, 0, s.frames, 0)
        return 0
    entropy = end[B_F * s.graph.width]
    if s.with_grad:
        run_backward(s)
    return entropy


cdef struct Batch:
    Sequence common
    Py_ssize_t n, n_frames, x_step, g_step  # sequences, frames; bytes from one sequence to the next
    int64_t blank
    const int64_t *table  # lengths, starts of labels, label lengths, frames needed, labels
    const int64_t *order  # or NULL
    double *numbers       # [2, n] scale, entropy
    Workspace positions, arrays


cdef void set_sizes(const Batch *batch, Py_ssize_t b, Sequence *s) noexcept nogil:
    s[0] = batch.common
    s.frames, s.graph.n_labels = batch.table[b], batch.table[2 * batch.n + b]


cdef void run_worker(Batch *batch, Loop *loop, int worker) noexcept nogil:
    cdef Sequence s
    cdef Py_ssize_t first, last = 0, i, b
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = batch.order[i] if batch.order != NULL else i
            set_sizes(batch, b, &s)
            s.x, s.g, s.scale = s.x + b * batch.x_step, s.g + b * batch.g_step, batch.numbers[b]
            s.graph.position = <int32_t *> part_of(&batch.positions, worker)
            lay_out(&s, part_of(&batch.arrays, worker))
            fill_frames(&s, s.frames, batch.n_frames, 0)
            batch.numbers[batch.n + b] = run_sequence(
                &s, batch.table + 4 * batch.n + batch.table[batch.n + b], batch.blank,
                s.frames >= batch.table[3 * batch.n + b])


cdef Status run_batch(Batch *batch, int num_threads) noexcept nogil:
    """Run all sequences; does not need the GIL."""
    cdef Loop loop
    cdef Sequence s
    cdef Py_ssize_t b
    cdef size_t own = 0
    for b in range(batch.n):
        set_sizes(batch, b, &s)
        own = max(own, lay_out(&s, 0))
    # The array that maps classes to indices, one for each worker, must be zero.
    if not (allocate(&batch.arrays, 0, own, num_threads, False)
            and allocate(&batch.positions, 0, size_product(batch.common.n_classes, sizeof(int32_t)), num_threads,
                         True)):
        release(&batch.arrays)
        return NO_MEMORY
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(batch, &loop, threadid())
    release(&batch.arrays)
    release(&batch.positions)
    return loop.status


cdef int run(Batch *batch, const Array *logits, const Array *grad, const Array *table, const Array *order,
             const Array *numbers, int num_threads) except -1:
    cdef Sequence *s = &batch.common
    cdef Status status
    batch.n, batch.n_frames, batch.x_step, s.x_step = (
        logits.shape[0], logits.shape[1], logits.strides[0], logits.strides[1])
    s.n_classes, s.doubles, s.x, s.with_grad = logits.shape[2], logits.kind == FLOAT64, logits.data, grad.data != NULL
    if s.with_grad:
        s.g, batch.g_step, s.g_step = grad.data, grad.strides[0], grad.strides[1]
    batch.table, batch.order = <const int64_t *> table.data, <const int64_t *> order.data
    batch.numbers = <double *> numbers.data
    with nogil:
        status = run_batch(batch, num_threads)
    check(status, size_sum(batch.arrays.size, batch.positions.size))
    return 0


def ctc_entropy(logits, int kind, int input_kind, Py_ssize_t blank, table, order, numbers, grad, int num_threads):
    """Entropies of a checked batch of one or more sequences and, unless grad is None, their gradients times scale.

    IN     logits [B, T, V], whose classes are contiguous; table of sequences and labels as read_sequences fills it;
           order: sequences, longest first, or None.
    INOUT  numbers [2, B]: scale; entropy, 0 for sequences without an alignment.
    OUT    grad [B, T, V], which may be logits.
    """
    cdef Batch batch
    cdef Held held
    cdef Array views[5]
    memset(&batch, 0, sizeof(Batch))
    batch.blank, batch.common.probs = blank, input_kind == PROBS
    try:
        hold_all(&held, (logits, table, order, numbers, grad), kind, 3, views)
        run(&batch, &views[0], &views[4], &views[1], &views[2], &views[3], num_threads)
    finally:
        let_go(&held)
