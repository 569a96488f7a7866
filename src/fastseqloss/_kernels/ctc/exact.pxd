"""The exact path, for sequences whose paths all cross scores far below the best of their frames.

Each state keeps the score of the best path to it, summed without rounding (lattice/exact_sums.h), and the logarithm of
the sum over all paths to it relative to that score: this number grows with the number of paths only. Rounding affects
the difference between two paths that meet, and never their common part. States are blank, label, ..., blank.
"""

from cython cimport floating
from libc.math cimport INFINITY
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastseqloss._kernels.ctc.labels cimport PAD
from fastseqloss._kernels.ctc.sequence cimport (
    GRADIENT, LOG_PROBS, Sequence, close_frame, close_states, collect, emit_frame, fill,
)
from fastseqloss._kernels.lattice.exact_sums cimport (
    Levels, add_digits, add_sums, balance, log_add, note, rows_of, settle,
)
from fastseqloss._kernels.simd.softmax cimport exp64


cdef struct ExactSequence:
    Levels levels
    Py_ssize_t n, width, block, n_blocks   # states; elements of a row of sums; frames of a block; blocks
    double *memory
    double *em                             # [used, levels] emissions of a frame
    double *reached                        # [used] 0, or -inf where the emission is -inf
    double *zero                           # [levels]
    double *best                           # [block, n, levels] scores of the best paths
    double *a                              # [block, n] log of the sum over all paths, relative to the best
    double *kept_best                      # [n_blocks, n, levels] of the first frame of each block
    double *kept_a                         # [n_blocks, n]
    double *after_best                     # [n, levels] of the next frame
    double *after_a                        # [n]
    double *beta                           # [n] each, of a frame and of the next one
    double *after_beta


cdef inline void read_levels(ExactSequence *e, Sequence *s, const floating *x) noexcept nogil:
    cdef Py_ssize_t t, k
    cdef double shift
    memset(&e.levels, 0, sizeof(Levels))
    for t in range(s.frames):
        emit_frame(s, x, t, s.y, &shift)
        for k in range(s.graph.used):
            note(&e.levels, s.score[k])
    settle(&e.levels)


cdef inline bint allocate_sums(ExactSequence *e, Sequence *s) noexcept nogil:
    cdef Py_ssize_t levels = e.levels.n, rows
    e.n = 2 * s.graph.n_labels + 1
    e.width = e.n * levels
    e.block = 1
    while e.block * e.block < s.frames:
        e.block += 1
    e.n_blocks = (s.frames + e.block - 1) // e.block
    rows = e.block + e.n_blocks + 1
    e.memory = rows_of(rows * (levels + 1) + 2, e.n + s.graph.used + 1)
    if e.memory == NULL:
        return False
    e.best = e.memory
    e.kept_best = e.best + e.block * e.width
    e.after_best = e.kept_best + e.n_blocks * e.width
    e.a = e.after_best + e.width
    e.kept_a = e.a + e.block * e.n
    e.after_a = e.kept_a + e.n_blocks * e.n
    e.beta = e.after_a + e.n
    e.after_beta = e.beta + e.n
    e.em = e.after_beta + e.n
    e.reached = e.em + s.graph.used * levels
    e.zero = e.reached + s.graph.used
    fill(e.zero, levels, 0)
    return True


cdef inline Py_ssize_t class_of(Sequence *s, Py_ssize_t i) noexcept nogil:
    return s.graph.u[PAD + i // 2] if i % 2 else 0


cdef inline Py_ssize_t first_before(Sequence *s, Py_ssize_t i) noexcept nogil:
    """First of the states i - 2, i - 1 and i that may precede i in a path."""
    return i - 2 if i % 2 and s.graph.skip[PAD + i // 2] > 0 else max(i - 1, 0)


cdef inline void split_frame(ExactSequence *e, Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Set the emissions of frame t; those of logits are relative to the greatest logit, as in the loss."""
    cdef Py_ssize_t k, levels = e.levels.n
    cdef double shift
    emit_frame(s, x, t, s.y, &shift)
    fill(e.em, s.graph.used * levels, 0)
    for k in range(s.graph.used):
        e.reached[k] = 0 if s.score[k] > -INFINITY else -INFINITY
        add_digits(&e.levels, s.score[k], 1, e.em + k * levels)
        if s.input != LOG_PROBS:
            add_digits(&e.levels, shift, -1, e.em + k * levels)


cdef inline void step(ExactSequence *e, Sequence *s, const double *best, const double *a, double *best_out,
                      double *a_out) noexcept nogil:
    """Alphas of a frame from those of the frame before; the emissions of the frame have been split."""
    cdef Py_ssize_t i, k, first, at, levels = e.levels.n
    for i in range(e.n):
        a_out[i], at = -INFINITY, -1
        first = first_before(s, i)
        for k in range(i, first - 1, -1):
            if a[k] > -INFINITY and (at < 0 or balance(
                    &e.levels, best + k * levels, e.zero, best + at * levels) > 0):
                at = k
        if at < 0 or e.reached[class_of(s, i)] == -INFINITY:
            continue
        for k in range(first, i + 1):
            if a[k] > -INFINITY:
                a_out[i] = log_add(a_out[i], a[k] + balance(
                    &e.levels, best + k * levels, e.zero, best + at * levels))
        add_sums(&e.levels, best + at * levels, e.em + class_of(s, i) * levels, best_out + i * levels)


cdef inline void run_block(ExactSequence *e, Sequence *s, const floating *x, Py_ssize_t j) noexcept nogil:
    """Alphas of the frames of block j; row 0 holds the first frame."""
    cdef Py_ssize_t t, r, start = j * e.block
    for t in range(start + 1, min(start + e.block, s.frames)):
        r = t - start
        split_frame(e, s, x, t)
        step(e, s, e.best + (r - 1) * e.width, e.a + (r - 1) * e.n, e.best + r * e.width, e.a + r * e.n)


cdef inline void run_forward(ExactSequence *e, Sequence *s, const floating *x) noexcept nogil:
    """Run all alphas; keeps those of the last block and those of the first frame of every other block."""
    cdef Py_ssize_t i, j
    split_frame(e, s, x, 0)
    fill(e.a, e.n, -INFINITY)
    for i in range(min(e.n, 2)):
        e.a[i] = e.reached[class_of(s, i)]
        memcpy(e.best + i * e.levels.n, e.em + class_of(s, i) * e.levels.n, e.levels.n * sizeof(double))
    for j in range(e.n_blocks):
        if j > 0:
            split_frame(e, s, x, j * e.block)
            step(e, s, e.best + (e.block - 1) * e.width, e.a + (e.block - 1) * e.n, e.after_best, e.after_a)
            memcpy(e.best, e.after_best, e.width * sizeof(double))
            memcpy(e.a, e.after_a, e.n * sizeof(double))
        memcpy(e.kept_best + j * e.width, e.best, e.width * sizeof(double))
        memcpy(e.kept_a + j * e.n, e.a, e.n * sizeof(double))
        run_block(e, s, x, j)


cdef inline void step_back(ExactSequence *e, Sequence *s, const double *best, const double *a) noexcept nogil:
    """Betas of a frame from those of the next frame, whose emissions have been split and whose alphas are kept."""
    cdef Py_ssize_t i, k, levels = e.levels.n
    fill(e.beta, e.n, -INFINITY)
    for i in range(e.n):
        if e.after_a[i] == -INFINITY:
            continue
        for k in range(first_before(s, i), i + 1):
            if a[k] > -INFINITY:
                e.beta[k] = log_add(e.beta[k], e.after_beta[i] + balance(
                    &e.levels, best + k * levels, e.em + class_of(s, i) * levels, e.after_best + i * levels))


cdef inline void close(ExactSequence *e, Sequence *s, floating *g, Py_ssize_t t, const double *a,
                       double log_sum) noexcept nogil:
    """Gradient at frame t, whose emissions are in y, from alphas and betas; posteriors are normalised to sum 1."""
    cdef Py_ssize_t i
    cdef double total = 0, blank_post = 0, posterior
    fill(s.post, s.graph.width, 0)
    fill(s.post_b, s.graph.width, 0)
    for i in range(e.n):
        posterior = exp64(a[i] + e.beta[i] - log_sum)
        total += posterior
        if i % 2:
            s.post[PAD + i // 2] = posterior
        else:
            s.post_b[PAD + i // 2] = posterior
            blank_post += posterior
    if s.output != GRADIENT:
        close_states(s, g, t, total, 0, s.graph.size)
        return
    collect(s, blank_post, 0, s.graph.size)
    for i in range(s.graph.used):
        s.class_post[i] /= total
    close_frame(s, g, t, s.y)


cdef inline void run_backward(ExactSequence *e, Sequence *s, const floating *x, floating *g,
                              double log_sum) noexcept nogil:
    """Close all frames, last to first; the betas of the last frame have been set."""
    cdef Py_ssize_t j, t, r
    cdef double *swap
    for j in range(e.n_blocks - 1, -1, -1):
        if j < e.n_blocks - 1:
            memcpy(e.best, e.kept_best + j * e.width, e.width * sizeof(double))
            memcpy(e.a, e.kept_a + j * e.n, e.n * sizeof(double))
            run_block(e, s, x, j)
        for t in range(min((j + 1) * e.block, s.frames) - 1, j * e.block - 1, -1):
            r = t - j * e.block
            if t < s.frames - 1:
                split_frame(e, s, x, t + 1)
                step_back(e, s, e.best + r * e.width, e.a + r * e.n)
            split_frame(e, s, x, t)
            close(e, s, g, t, e.a + r * e.n, log_sum)
            memcpy(e.after_best, e.best + r * e.width, e.width * sizeof(double))
            memcpy(e.after_a, e.a + r * e.n, e.n * sizeof(double))
            swap = e.beta
            e.beta, e.after_beta = e.after_beta, swap


cdef inline double exact(Sequence *s, const floating *x, floating *g, bint *has_path) noexcept nogil:
    """As `general`, for logits or log-probabilities; -inf without a path and for sums out of the range of float64."""
    cdef ExactSequence e
    cdef Py_ssize_t i, at, last, levels
    cdef double log_sum = -INFINITY, score
    has_path[0] = False
    read_levels(&e, s, x)
    if not allocate_sums(&e, s):
        s.no_memory[0] = True
        return -INFINITY
    run_forward(&e, s, x)
    levels, last = e.levels.n, s.frames - 1 - (e.n_blocks - 1) * e.block
    cdef double *best = e.best + last * e.width
    cdef double *a = e.a + last * e.n
    at = e.n - 1
    if e.n > 1 and a[at - 1] > -INFINITY and (a[at] == -INFINITY or balance(
            &e.levels, best + (at - 1) * levels, e.zero, best + at * levels) > 0):
        at -= 1
    fill(e.beta, e.n, -INFINITY)
    for i in range(max(e.n - 2, 0), e.n):
        if a[i] > -INFINITY:
            e.beta[i] = balance(&e.levels, best + i * levels, e.zero, best + at * levels)
            log_sum = log_add(log_sum, a[i] + e.beta[i])
    score = -INFINITY
    if log_sum > -INFINITY:
        has_path[0] = True
        score = balance(&e.levels, best + at * levels, e.zero, e.zero) + log_sum
        if s.input == LOG_PROBS:  # sums of the scores themselves
            s.log_norm = s.log_rest = 0
        if s.with_grad:
            run_backward(&e, s, x, g, log_sum)
    free(e.memory)
    return score
