"""CTC alignment (Viterbi) and greedy decoding, one sequence at a time.

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
from libc.math cimport INFINITY, NAN, cbrt, fabs, isnan
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastseqloss._kernels.ctc.labels cimport (
    PAD, STATES, LabelGraph, first_alive, first_unreached, lay_out_labels, set_labels,
)
from fastseqloss._kernels.ctc.sequence cimport LOGITS, LOG_PROBS, PROBS, Input, fill
from fastseqloss._kernels.lattice.exact_sums cimport (
    Levels, add_digits, add_sums, balance, exact_from, note, rows_of, settle,
)
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64, softmax_row
from fastseqloss._kernels.parallel.workspace cimport (
    Workspace, allocate, part_of, release, round_up, size_product, size_sum, take,
)


cdef extern from "ctc/viterbi.h" nogil:
    bint viterbi_emissions "fsl_ctc_viterbi_emissions"(const double *score, Py_ssize_t used, Py_ssize_t n,
                                                       double *y) noexcept
    void viterbi_step "fsl_ctc_viterbi_step"(const double *b, const double *l, double *b_out, double *l_out,
                                             const float *skip, const int32_t *u, const double *y, Py_ssize_t lo,
                                             Py_ssize_t hi) noexcept
    bint all_below "fsl_ctc_all_below"(const double *b, const double *l, Py_ssize_t i, double least) noexcept
    Py_ssize_t find_f32 "fsl_ctc_find_f32"(const float *x, Py_ssize_t n, double value) noexcept
    Py_ssize_t find_f64 "fsl_ctc_find_f64"(const double *x, Py_ssize_t n, double value) noexcept
    double greatest_f32 "fsl_ctc_greatest_f32"(const float *x, Py_ssize_t n, bint probs) noexcept
    double greatest_f64 "fsl_ctc_greatest_f64"(const double *x, Py_ssize_t n, bint probs) noexcept


# Largest size of q in bytes for which all frames are kept.
cdef enum:
    KEEP = 1 << 20


cdef struct Search:
    # the problem
    Input input
    LabelGraph graph
    Py_ssize_t n_classes, blank, frames
    Py_ssize_t x_stride                    # elements between frames
    const double *class_prior              # [V] number subtracted from the score of a class, or NULL
    double star_log_prob
    # sizes
    Py_ssize_t emission_width              # classes used, padded
    Py_ssize_t block, n_blocks             # steps of a block, and blocks
    Py_ssize_t cone                        # number of labels that a path can reach within a block, in whole vectors
    # workspace
    Py_ssize_t star                        # index of the star among the classes used, or -1
    double *prior                          # [used] numbers subtracted from the scores of the classes used
    double *row_max                        # [frames] greatest of the logits,
    double *log_norm                       # [frames] and logarithm of the sum of exp(logits - row_max)
    double *score                          # [emission_width] scores of one frame
    double *y                              # [emission_width] emissions of one frame
    double *q                              # [2, width] of one frame: blank states, label states
    double *checkpoints                    # [n_blocks - 1, 2, width] q at the ends of blocks
    double *rows                           # [block + 1, 2, cone + STATES] q of the frames of a block
    Py_ssize_t origin                      # first label of the kept rows
    double floor                           # least score of the paths searched
    Py_ssize_t lo, hi                      # range of labels with a q at the current frame, in whole vectors
    Py_ssize_t opened                      # first frame that has been normalised
    bint is_nan
    bint is_rounded                        # scores are so large that sums may have lost smaller terms
    bint *no_memory                        # set if memory is exhausted for exact sums


# State of a path: label i, or the blank before it.
cdef struct Place:
    Py_ssize_t i
    bint is_label


cdef struct Path:
    int64_t *labels                        # [frames] each: class, index among the labels, log-probability
    int64_t *tokens
    double *log_probs
    double total, lost                     # sum of the log-probabilities, and its rounding error


# ---- layout ---------------------------------------------------------------------------------

cdef inline uintptr_t lay_out(Search *a, uintptr_t base) noexcept nogil:
    """Set the sizes of a search and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t most = min(a.graph.n_labels + 1, a.n_classes + 1), steps = max(a.frames - 1, 1), width, row
    lay_out_labels(&a.graph, most, &cursor)
    width = a.graph.width
    a.emission_width = round_up(most + 1, STATES)
    a.block = steps
    if size_product(steps, width * 16) > KEEP:
        # Checkpoints take T / block rows of all states, a cone takes block rows of block states.
        a.block = max(64, (<Py_ssize_t> cbrt(<double> steps * width / 8) // 32 - 1) * 32)
        while 8.0 * a.block * a.block * a.block < <double> steps * width:
            a.block += 32
        a.block = min(a.block, steps)
    a.n_blocks = (steps + a.block - 1) // a.block
    a.cone = min(a.graph.size, round_up(a.block + 2, STATES) + STATES)
    row = width * sizeof(double)
    a.row_max = <double *> take(&cursor, a.frames, sizeof(double))
    a.log_norm = <double *> take(&cursor, a.frames, sizeof(double))
    a.prior = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.score = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.y = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.q = <double *> take(&cursor, 2, row)
    a.checkpoints = <double *> take(&cursor, 2 * (a.n_blocks - 1), row)
    a.rows = <double *> take(&cursor, 2 * (a.block + 1), (a.cone + STATES) * sizeof(double))
    return cursor


cdef inline void set_search(Search *a, const int64_t *labels) noexcept nogil:
    """Number the classes that occur; the star, class V, has no score in the array."""
    cdef LabelGraph *graph = &a.graph
    cdef Py_ssize_t k
    set_labels(graph, labels, a.blank)
    a.star = -1
    for k in range(graph.used):
        if graph.classes[k] == a.n_classes:
            a.star, graph.classes[k] = k, a.blank
        a.prior[k] = a.class_prior[graph.classes[k]] if a.class_prior != NULL else 0
    if a.star >= 0:
        a.prior[a.star] = 0


# ---- frames ---------------------------------------------------------------------------------

cdef inline bint normalise(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Dense pass over a row of logits; returns True if its sum is NaN.

    A row of -inf alone, in which only a star is possible, stays unnormalised.
    """
    cdef double row_sum
    if a.input != LOGITS:
        return False
    softmax_row(x + t * a.x_stride, a.n_classes, <floating *> NULL, 1, -a.x_stride, &a.row_max[t], &row_sum)
    a.log_norm[t] = log64(row_sum) if row_sum != 0 else 0
    return isnan(row_sum)


cdef inline double log_prob_at(Search *a, const floating *x, Py_ssize_t t, Py_ssize_t k) noexcept nogil:
    """Log-probability of the k-th class used at frame t."""
    cdef double score = x[t * a.x_stride + a.graph.classes[k]]
    if k == a.star:
        return a.star_log_prob
    if a.input == LOGITS:
        return (score - a.row_max[t]) - a.log_norm[t]
    return log64(score) if a.input == PROBS else score


cdef inline bint emit(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of the classes used at frame t; returns True if one of them is NaN or +inf."""
    cdef const floating *frame = x + t * a.x_stride
    cdef Py_ssize_t k
    cdef double most = -INFINITY
    for k in range(a.graph.used):
        a.score[k] = frame[a.graph.classes[k]]
    if a.input == PROBS:
        for k in range(a.graph.used):
            a.score[k] = log64(a.score[k])
    if a.star >= 0:
        a.score[a.star] = a.star_log_prob + (a.row_max[t] + a.log_norm[t] if a.input == LOGITS else 0)
    if a.class_prior != NULL:
        for k in range(a.graph.used):
            a.score[k] -= a.prior[k]
    if a.class_prior != NULL or a.star >= 0:
        for k in range(a.graph.used):
            most = max(most, a.score[k])
        a.is_rounded |= fabs(most) > exact_from(0)
    return viterbi_emissions(a.score, a.graph.used, a.emission_width, a.y)


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


cdef inline void open_frame(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of a frame, after the dense pass on the first visit."""
    if t < a.opened:
        a.is_nan |= normalise(a, x, t)
        a.opened = t
    a.is_nan |= emit(a, x, t)


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
        open_frame(a, x, t)
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
    open_frame(a, x, stop)
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


cdef inline void put(Search *a, const floating *x, Py_ssize_t t, Place at, const int64_t *labels,
                     Path *path) noexcept nogil:
    """Record a frame of the path and add its log-probability with compensation."""
    cdef double p = log_prob_at(a, x, t, a.graph.u[PAD + at.i] if at.is_label else 0)
    path.labels[t] = labels[at.i] if at.is_label else a.blank
    path.tokens[t] = at.i if at.is_label else -1
    path.log_probs[t] = p
    add_exactly(&path.total, &path.lost, p)


cdef double trace(Search *a, const floating *x, const int64_t *labels, Path *path) noexcept nogil:
    """Follow the best path; returns its log-probability, or -inf without a path."""
    cdef Py_ssize_t j, t, start, stop
    cdef Place at
    cdef double b = kept_row(a, 0, 0)[0], l = kept_row(a, 0, 1)[0]
    at.i, at.is_label = 0, l > b
    if b == -INFINITY and l == -INFINITY:
        return -INFINITY
    put(a, x, 0, at, labels, path)
    for j in range(a.n_blocks):
        start, stop = j * a.block, min((j + 1) * a.block, a.frames - 1)
        if j > 0:
            open_cone(a, checkpoint(a, j), at.i, stop - start)
            a.lo, a.hi = a.origin, a.origin + a.cone
            run_block(a, x, start, stop, True, -INFINITY)
        for t in range(start + 1, stop + 1):
            at = follow(a, at, kept_row(a, t - start, 0), kept_row(a, t - start, 1))
            put(a, x, t, at, labels, path)
    return path_total(a, path)


cdef inline double path_total(Search *a, Path *path) noexcept nogil:
    """Log-probability of a recorded path."""
    cdef Py_ssize_t t
    if path.total == -INFINITY:
        # Out of the range of float64 although a path exists: for scores near 1e308 only.
        for t in range(a.frames):
            path.labels[t], path.tokens[t], path.log_probs[t] = -1, -1, 0
        return -INFINITY
    return path.total + path.lost


# ---- sums without rounding ------------------------------------------------------------------

cdef struct Exact:
    Levels levels
    Py_ssize_t n                           # states: blank, label, ..., blank
    double *q                              # [n, levels] each, of a frame and of the next one
    double *after
    double *em                             # [used, levels]
    double *zero                           # [levels]
    unsigned char *move                    # [frames, n] advance of the best path in states, or NOWHERE


cdef enum:
    NOWHERE = 3


cdef inline void add_score(Exact *e, double x, double sign, double *sum) noexcept nogil:
    """sum += sign * x, or, if sum is NULL, note the levels of x."""
    if sum == NULL:
        note(&e.levels, x)
    else:
        add_digits(&e.levels, x, sign, sum)


cdef inline bint split_score(Exact *e, Search *a, const floating *x, Py_ssize_t t, Py_ssize_t k,
                             double *sum) noexcept nogil:
    """Add the score of the k-th class used at frame t to `sum`, unless NULL; returns False if the score is -inf."""
    cdef double score = x[t * a.x_stride + a.graph.classes[k]]
    if k == a.star:
        score = a.star_log_prob
        if a.input == LOGITS:
            add_score(e, a.row_max[t], 1, sum)
            add_score(e, a.log_norm[t], 1, sum)
    elif a.input == PROBS:
        score = log64(score)
    add_score(e, score, 1, sum)
    add_score(e, a.prior[k], -1, sum)
    return score > -INFINITY and a.prior[k] < INFINITY


cdef inline void exact_step(Exact *e, Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """q of frame t and the moves of the best paths from there, given q of the next frame."""
    cdef Py_ssize_t i, k, u, best, levels = e.levels.n
    cdef unsigned char *move = e.move + t * e.n
    cdef unsigned char *then = move + e.n
    fill(e.em, a.graph.used * levels, 0)
    for k in range(a.graph.used):
        a.score[k] = 0 if split_score(e, a, x, t, k, e.em + k * levels) else -INFINITY
    for i in range(e.n):
        u = a.graph.u[PAD + i // 2] if i % 2 else 0
        best, move[i] = -1, NOWHERE
        if t == a.frames - 1:
            best = i if i >= e.n - 2 else -1
        else:
            for k in range(i, min(i + (3 if i % 2 and a.graph.skip[PAD + i // 2 + 1] > 0 else 2), e.n)):
                if then[k] != NOWHERE and (best < 0 or balance(
                        &e.levels, e.after + k * levels, e.zero, e.after + best * levels) > 0):
                    best = k
        if best >= 0 and a.score[u] == 0:
            move[i] = <unsigned char> (best - i)
            add_sums(&e.levels, e.after + best * levels, e.em + u * levels, e.q + i * levels)


cdef inline double follow_moves(Exact *e, Search *a, const floating *x, const int64_t *labels,
                                Path *path) noexcept nogil:
    """As trace, along the moves of the exact search."""
    cdef Py_ssize_t t, i = 0, levels = e.levels.n
    cdef Place at
    if e.n > 1 and e.move[1] != NOWHERE and (
            e.move[0] == NOWHERE or balance(&e.levels, e.after + levels, e.zero, e.after) > 0):
        i = 1
    if e.move[i] == NOWHERE:
        return -INFINITY
    cdef double *best = e.after + i * levels
    for t in range(a.frames):
        at.i, at.is_label = i // 2, i % 2
        put(a, x, t, at, labels, path)
        i += e.move[t * e.n + i]
    if a.input == LOG_PROBS and a.class_prior == NULL and path.total > -INFINITY:
        path.total, path.lost = balance(&e.levels, best, e.zero, e.zero), 0
    return path_total(a, path)


cdef double align_exactly(Search *a, const floating *x, const int64_t *labels, Path *path) noexcept nogil:
    """Best path for sequences whose paths all cross scores so low that float64 sums lose the other terms."""
    cdef Exact e
    cdef Py_ssize_t t, k
    cdef double result = -INFINITY
    cdef double *swap
    cdef double *memory
    memset(&e, 0, sizeof(Exact))
    for t in range(a.frames - 1, -1, -1):
        open_frame(a, x, t)
        for k in range(a.graph.used):
            split_score(&e, a, x, t, k, NULL)
    if a.is_nan:
        return NAN
    settle(&e.levels)
    e.n = 2 * a.graph.n_labels + 1
    memory = rows_of(e.levels.n, 2 * e.n + a.graph.used + 1)
    e.move = <unsigned char *> malloc(size_product(a.frames, e.n))
    if memory == NULL or e.move == NULL:
        a.no_memory[0] = True
    else:
        e.q, e.after = memory, memory + e.n * e.levels.n
        e.em = e.after + e.n * e.levels.n
        e.zero = e.em + a.graph.used * e.levels.n
        fill(memory, e.levels.n * (2 * e.n + a.graph.used + 1), 0)
        for t in range(a.frames - 1, -1, -1):
            exact_step(&e, a, x, t)
            swap = e.q
            e.q, e.after = e.after, swap
        result = follow_moves(&e, a, x, labels, path)
    free(memory)
    free(e.move)
    return result


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
    lay_out(&a, workspace)
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
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = batch.order[i]
            if batch.n_frames:
                path.labels = batch.out.labels + b * batch.n_frames
                path.tokens = batch.out.tokens + b * batch.n_frames
                path.log_probs = batch.out.log_probs + b * batch.n_frames
            batch.log_prob[b] = align_sequence(
                batch.common, batch.logit_lengths[b], batch.label_lengths[b],
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
            own = max(own, lay_out(&batch.common, 0))
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


def ctc_align(const floating[:, :, :] logits, const int64_t[::1] labels, const int64_t[::1] starts,
              const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[::1] frames_needed,
              const int64_t[::1] order, int input_kind, Py_ssize_t blank, const double[::1] prior,
              double star_log_prob, double[::1] log_prob, int64_t[:, ::1] path, int64_t[:, ::1] token_index,
              double[:, ::1] frame_log_probs, int num_threads):
    """Best paths of a checked batch.

    IN   logits [B, T, V], labels of sequence b from starts[b] on, with V for the star; order: sequences, longest
         first; prior [V], subtracted from the scores in the comparison of paths, or None.
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
    batch.labels, batch.starts = &labels[0] if labels.shape[0] else NULL, &starts[0]
    batch.logit_lengths, batch.label_lengths = &logit_lengths[0], &label_lengths[0]
    batch.frames_needed, batch.order, batch.log_prob = &frames_needed[0], &order[0], &log_prob[0]
    common.input = <Input> input_kind
    common.n_classes, common.blank = logits.shape[2], blank
    common.x_stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    common.class_prior = &prior[0] if prior is not None else NULL
    common.star_log_prob, common.no_memory = star_log_prob, &no_memory
    with nogil:
        status = align_batch(&batch, x, num_threads)
    check(status, size_sum(batch.arrays.size, batch.positions.size))
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")


# ---- greedy decoding ------------------------------------------------------------------------

cdef inline double best_class(const floating *x, Py_ssize_t n, Input kind, Py_ssize_t ahead,
                              Py_ssize_t *best) noexcept nogil:
    """First class with the greatest score, and its log-probability."""
    cdef double most, total = 1
    if kind == LOGITS:
        softmax_row(x, n, <floating *> NULL, 1, ahead, &most, &total)
        most = most if total != 0 else -INFINITY
    elif floating is float:
        most = greatest_f32(x, n, kind == PROBS)
    else:
        most = greatest_f64(x, n, kind == PROBS)
    if isnan(most) or isnan(total):
        best[0] = 0
        return NAN
    if floating is float:
        best[0] = find_f32(x, n, most)
    else:
        best[0] = find_f64(x, n, most)
    if kind == LOGITS:
        return -log64(total) if total > 0 else -INFINITY
    return most if kind == LOG_PROBS else log64(most)


cdef double decode_sequence(const floating *x, Py_ssize_t frames, Py_ssize_t n_classes, Py_ssize_t stride,
                            Input kind, Py_ssize_t blank, int64_t *labels, int64_t *count) noexcept nogil:
    """Labels of the best class of every frame, and the log-probability of this path; no labels if scores are NaN."""
    cdef Py_ssize_t t, best, before = blank, n = 0
    cdef double total = 0, rest = 0
    for t in range(frames):
        add_exactly(&total, &rest, best_class(x + t * stride, n_classes, kind, stride, &best))
        if best != blank and best != before:
            labels[n] = best
            n += 1
        before = best
    count[0] = 0 if isnan(total) else n
    return total + rest


cdef struct Decoding:
    Py_ssize_t x_step, stride, n, n_frames, n_classes, blank  # steps of sequences, of frames
    Input kind
    const int64_t *logit_lengths
    int64_t *labels
    int64_t *label_lengths
    double *log_prob


cdef void decode_worker(const Decoding *batch, const floating *x, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, b
    while next_items(loop, worker, &first, &last):
        for b in range(first, last):
            batch.log_prob[b] = decode_sequence(
                x + b * batch.x_step, batch.logit_lengths[b], batch.n_classes, batch.stride, batch.kind,
                batch.blank, batch.labels + b * batch.n_frames, batch.label_lengths + b)


cdef Status decode_batch(const Decoding *batch, const floating *x, int num_threads) noexcept nogil:
    """Run all sequences; x is the first one's. Does not need the GIL."""
    cdef Loop loop
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            decode_worker(batch, x, &loop, threadid())
    return loop.status


def ctc_greedy_decode(const floating[:, :, :] logits, const int64_t[::1] logit_lengths, int input_kind,
                      Py_ssize_t blank, int64_t[:, ::1] labels, int64_t[::1] label_lengths, double[::1] log_prob,
                      int num_threads):
    """Greedy decoding of a checked batch with one or more frames: labels [B, T] up to label_lengths [B]."""
    cdef Decoding batch
    cdef Status status
    cdef const floating *x = &logits[0, 0, 0]
    batch.kind, batch.blank = <Input> input_kind, blank
    batch.x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    batch.stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    batch.n, batch.n_frames, batch.n_classes = logits.shape[0], logits.shape[1], logits.shape[2]
    batch.logit_lengths, batch.labels = &logit_lengths[0], &labels[0, 0]
    batch.label_lengths, batch.log_prob = &label_lengths[0], &log_prob[0]
    with nogil:
        status = decode_batch(&batch, x, num_threads)
    check(status, 0)
