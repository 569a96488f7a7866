"""The exact path, for sequences whose paths all have potentials so large that float64 sums lose the other terms.

As in ctc/exact.pxd, the score of the best path to each tag is summed without rounding, and the sum over all paths to it
is kept relative to that score. One sequence at a time.
"""

from cython cimport floating
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastseqloss._kernels.crf.group cimport FAST, IMPOSSIBLE, Problem, State, fill
from fastseqloss._kernels.lattice.exact_sums cimport (
    Levels, add_digits, add_sums, balance, log_add, note, rows_of, settle,
)
from fastseqloss._kernels.simd.softmax cimport exp64
from fastseqloss._kernels.parallel.workspace cimport size_product


cdef struct ExactChain:
    Levels levels
    int64_t b
    Py_ssize_t frames, kept                # frames; rows of sums kept: those of all frames or of two
    double *memory
    double *best                           # [kept, n_tags, levels] scores of the best paths
    double *a                              # [kept, n_tags] log of the sum over all paths, relative to the best
    double *pairs                          # [n_tags, n_tags, levels] transitions
    double *tags                           # [n_tags, levels] scores of the tags at one frame
    double *alive                          # [n_tags] 0, or -inf where the score is -inf
    double *tagged                         # [levels] score of the tagged path
    double *zero                           # [levels]
    double *sum                            # [levels] buffer
    double *beta                           # [n_tags] each, of a frame and of the next one
    double *after_beta
    int32_t *came                          # [frames, n_tags] previous tag on the best path, or NULL


cdef inline void add_score(ExactChain *e, double x, double *sum) noexcept nogil:
    """sum += x, or, if sum is NULL, note the levels of x."""
    if sum == NULL:
        note(&e.levels, x)
    else:
        add_digits(&e.levels, x, 1, sum)


cdef inline bint split_tag(ExactChain *e, const Problem *p, const floating *x, Py_ssize_t t, Py_ssize_t j,
                           double *sum) noexcept nogil:
    """Add the score of tag j at frame t to `sum`, unless NULL; returns False if the tag is impossible."""
    cdef double score = x[e.b * p.x_batch + t * p.x_frame + j], least = score
    add_score(e, score, sum)
    if t == 0:
        add_score(e, p.start[j], sum)
        least = min(least, p.start[j])
    if t == e.frames - 1:
        add_score(e, p.end[j], sum)
        least = min(least, p.end[j])
    if p.cost != NULL:
        score = p.cost[p.tags[e.b * p.n_frames + t] * p.n_tags + j]
        add_score(e, score, sum)
        least = min(least, score)
    return least > -INFINITY


cdef inline bint open_exact(ExactChain *e, const Problem *p, int64_t b, const floating *x,
                            bint with_sums) noexcept nogil:
    """Set up levels, memory and transitions; returns False if memory is exhausted."""
    cdef Py_ssize_t t, j, n = p.n_tags, levels
    memset(e, 0, sizeof(ExactChain))
    e.b, e.frames = b, p.lengths[b]
    e.kept = e.frames if with_sums else 2
    for t in range(e.frames):
        for j in range(n):
            split_tag(e, p, x, t, j, NULL)
    for j in range(n * n):
        note(&e.levels, p.transitions[j])
    settle(&e.levels)
    levels = e.levels.n
    e.memory = rows_of(n * (e.kept + n + 1) + 3, levels + 1)
    if not with_sums:
        e.came = <int32_t *> malloc(size_product(size_product(e.frames, n), sizeof(int32_t)))
    if e.memory == NULL or (e.came == NULL and not with_sums):
        return False
    e.best = e.memory
    e.pairs = e.best + e.kept * n * levels
    e.tags = e.pairs + n * n * levels
    e.tagged = e.tags + n * levels
    e.zero = e.tagged + levels
    e.sum = e.zero + levels
    e.a = e.sum + levels
    e.alive = e.a + e.kept * n
    e.beta = e.alive + n
    e.after_beta = e.beta + n
    fill(e.pairs, (n * n + n + 3) * levels, 0)
    for j in range(n * n):
        add_digits(&e.levels, p.transitions[j], 1, e.pairs + j * levels)
    return True


cdef inline void close_exact(ExactChain *e) noexcept nogil:
    free(e.memory)
    free(e.came)


cdef inline void split_frame(ExactChain *e, const Problem *p, const floating *x, Py_ssize_t t) noexcept nogil:
    cdef Py_ssize_t j
    fill(e.tags, p.n_tags * e.levels.n, 0)
    for j in range(p.n_tags):
        e.alive[j] = 0 if split_tag(e, p, x, t, j, e.tags + j * e.levels.n) else -INFINITY


cdef inline bint score_tagged(ExactChain *e, const Problem *p, const floating *x) noexcept nogil:
    """Score of the tagged path; returns False if the path is impossible."""
    cdef Py_ssize_t t, pair
    cdef const int64_t *tags = p.tags + e.b * p.n_frames
    cdef bint possible = True
    for t in range(e.frames):
        possible &= split_tag(e, p, x, t, tags[t], e.tagged)
        if t > 0:
            pair = tags[t - 1] * p.n_tags + tags[t]
            possible &= p.transitions[pair] > -INFINITY
            add_sums(&e.levels, e.tagged, e.pairs + pair * e.levels.n, e.tagged)
    return possible


cdef inline void step(ExactChain *e, const Problem *p, const double *best, const double *a, double *best_out,
                      double *a_out, int32_t *came) noexcept nogil:
    """Run the step to the next frame, which has been split; among equal best paths, the first tag precedes."""
    cdef Py_ssize_t i, j, at, n = p.n_tags, levels = e.levels.n
    for j in range(n):
        at, a_out[j] = -1, -INFINITY
        for i in range(n):
            if a[i] > -INFINITY and p.transitions[i * n + j] > -INFINITY and (at < 0 or balance(
                    &e.levels, best + i * levels, e.pairs + (i * n + j) * levels, e.sum) > 0):
                at = i
                add_sums(&e.levels, best + i * levels, e.pairs + (i * n + j) * levels, e.sum)
        if at < 0 or e.alive[j] == -INFINITY:
            continue
        add_sums(&e.levels, e.sum, e.tags + j * levels, best_out + j * levels)
        if came != NULL:
            came[j], a_out[j] = <int32_t> at, 0
            continue
        for i in range(n):
            if a[i] > -INFINITY and p.transitions[i * n + j] > -INFINITY:
                a_out[j] = log_add(a_out[j], a[i] + balance(
                    &e.levels, best + i * levels, e.pairs + (i * n + j) * levels, e.sum))


cdef inline Py_ssize_t run_forward(ExactChain *e, const Problem *p, const floating *x) noexcept nogil:
    """Run all frames; returns the first of the best tags of the last frame, whose row is (frames - 1) % kept, or -1."""
    cdef Py_ssize_t t, j, at = -1, n = p.n_tags, levels = e.levels.n, row, before
    cdef double *best
    for t in range(e.frames):
        split_frame(e, p, x, t)
        row, before = t % e.kept, (t - 1) % e.kept if t > 0 else 0
        if t == 0:
            for j in range(n * levels):
                e.best[j] = e.tags[j]
            for j in range(n):
                e.a[j] = e.alive[j]
        else:
            step(e, p, e.best + before * n * levels, e.a + before * n, e.best + row * n * levels, e.a + row * n,
                 e.came + t * n if e.came != NULL else NULL)
    row = (e.frames - 1) % e.kept
    best = e.best + row * n * levels
    for j in range(n):
        if e.a[row * n + j] > -INFINITY and (at < 0 or balance(
                &e.levels, best + j * levels, e.zero, best + at * levels) > 0):
            at = j
    return at


cdef inline double weigh(ExactChain *e, const Problem *p, Py_ssize_t t, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """Log-weight of the step from i at frame t to j at frame t + 1, which has been split; -inf if impossible."""
    cdef Py_ssize_t n = p.n_tags, levels = e.levels.n
    cdef const double *best = e.best + t * n * levels
    if e.a[t * n + i] == -INFINITY or e.a[(t + 1) * n + j] == -INFINITY or p.transitions[i * n + j] == -INFINITY:
        return -INFINITY
    add_sums(&e.levels, e.pairs + (i * n + j) * levels, e.tags + j * levels, e.sum)
    return balance(&e.levels, best + i * levels, e.sum, best + (n + j) * levels)


cdef inline double log_dot(const double *a, const double *b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef double total = -INFINITY
    for j in range(n):
        total = log_add(total, a[j] + b[j])
    return total


cdef inline void step_back(ExactChain *e, const Problem *p, const floating *x, Py_ssize_t t, floating *pairwise,
                           double *counts) noexcept nogil:
    """Betas of frame t from those of the next frame, and the pairwise posteriors between the two frames."""
    cdef Py_ssize_t i, j, n = p.n_tags
    cdef const double *a = e.a + t * n
    cdef double total, posterior
    split_frame(e, p, x, t + 1)
    fill(e.beta, n, -INFINITY)
    for i in range(n):
        for j in range(n):
            e.beta[i] = log_add(e.beta[i], weigh(e, p, t, i, j) + e.after_beta[j])
    if pairwise == NULL and counts == NULL:
        return
    total = log_dot(a, e.beta, n)
    for i in range(n):
        for j in range(n):
            posterior = exp64(a[i] + weigh(e, p, t, i, j) + e.after_beta[j] - total)
            if pairwise != NULL:
                pairwise[e.b * p.p_batch + t * p.p_frame + i * n + j] = <floating> posterior
            if counts != NULL:
                counts[i * n + j] += p.scale[e.b] * posterior


cdef inline void close_frame(ExactChain *e, const Problem *p, Py_ssize_t t, floating *grad, double *start,
                             double *end) noexcept nogil:
    """Gradient of a frame; its posteriors are added to the sums over first and last frames."""
    cdef Py_ssize_t j, n = p.n_tags, y = p.tags[e.b * p.n_frames + t] if p.tags != NULL else -1
    cdef const double *a = e.a + t * n
    cdef floating *out = grad + e.b * p.g_batch + t * p.g_frame
    cdef double total = log_dot(a, e.beta, n), posterior
    for j in range(n):
        posterior = exp64(a[j] + e.beta[j] - total)
        out[j] = <floating> (p.scale[e.b] * (posterior - (j == y)))
        if start != NULL and t == 0:
            start[j] += p.scale[e.b] * posterior
        if end != NULL and t == e.frames - 1:
            end[j] += p.scale[e.b] * posterior


cdef inline double exact_sum(const Problem *p, int64_t b, const floating *x, floating *grad, floating *pairwise,
                             double *counts, double *start, double *end, State *state,
                             bint *no_memory) noexcept nogil:
    """Loss of sequence b, and gradients as in `general`; the state is IMPOSSIBLE without a path."""
    cdef ExactChain e
    cdef Py_ssize_t t, j, at, last, n = p.n_tags, levels
    cdef double log_sum = -INFINITY, loss = 0
    cdef const double *best
    cdef double *swap
    state[0] = IMPOSSIBLE
    if not open_exact(&e, p, b, x, True):
        no_memory[0] = True
        close_exact(&e)
        return 0
    at, last, levels = -1, e.frames - 1, e.levels.n
    if p.tags == NULL or score_tagged(&e, p, x):
        at = run_forward(&e, p, x)
    if at >= 0:
        state[0] = FAST
        best = e.best + last * n * levels
        for j in range(n):
            e.beta[j] = -INFINITY
            if e.a[last * n + j] > -INFINITY:
                e.beta[j] = balance(&e.levels, best + j * levels, e.zero, best + at * levels)
        log_sum = log_dot(e.a + last * n, e.beta, n)
        loss = balance(&e.levels, best + at * levels, e.zero, e.tagged) + log_sum
    if at >= 0 and grad != NULL:
        for t in range(last, -1, -1):
            if t < last:
                step_back(&e, p, x, t, pairwise, counts)
            close_frame(&e, p, t, grad, start, end)
            swap = e.beta
            e.beta, e.after_beta = e.after_beta, swap
    close_exact(&e)
    return loss


cdef inline double exact_best(const Problem *p, int64_t b, const floating *x, int64_t *path, State *state,
                              bint *no_memory) noexcept nogil:
    """Score of the best path of sequence b, or with tags its margin over the tagged path; sets its tags, or -1."""
    cdef ExactChain e
    cdef Py_ssize_t t, at, last, levels
    cdef double score = -INFINITY
    if not open_exact(&e, p, b, x, False):
        no_memory[0] = True
        close_exact(&e)
        return score
    state[0] = FAST
    last, levels = e.frames - 1, e.levels.n
    at = run_forward(&e, p, x)
    if at >= 0 and p.tags != NULL and not score_tagged(&e, p, x):
        state[0], score = IMPOSSIBLE, INFINITY
    elif at >= 0:
        score = balance(&e.levels, e.best + (last % e.kept * p.n_tags + at) * levels, e.zero, e.tagged)
    elif p.tags != NULL:
        state[0], score = IMPOSSIBLE, INFINITY
    for t in range(last, -1, -1):
        path[t] = at
        at = e.came[t * p.n_tags + at] if at >= 0 and t > 0 else at
    close_exact(&e)
    return score
