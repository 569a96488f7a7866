"""The exact path, for sequences with scores so far below others that float64 does not hold both in one sum.

The logarithm of an arc's weight is a sum of scores, which is carried without rounding (lattice/exact_sums.h), and a
rest of moderate size. Each node keeps the sum of its best path, and the logarithm of the sum over all paths to it
relative to that: rounding affects the difference between two paths that meet, and never their common part. Shares
follow from it, and the way back is that of other sequences.
"""

from libc.math cimport INFINITY, fabs
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport LOGITS
from fastseqloss._kernels.lattice.exact_sums cimport (
    Levels, add_digits, add_sums, balance, log_add, note, rows_of, settle,
)
from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.lattice.grid cimport BEST_PATH, Use, close_shares, trace_back
from fastseqloss._kernels.simd.softmax cimport exp64, log64
from fastseqloss._kernels.transducer.nodes cimport Problem, Sequence, is_exact


# Logarithm of the weight of an arc: the sum of `n` scores, signs included, and a rest. -inf if no score is finite.
cdef struct Score:
    int n
    double terms[3]
    double rest


cdef struct Exact:
    Levels levels
    double *memory
    double *best                           # [U + 1, levels] scores of the best paths to a row
    double *next_best
    double *blank                          # [U + 1, levels] scores of the arcs from the row
    double *label
    double *sums                           # [2, levels] scores of the two paths into a node
    double *zero                           # [levels]
    double *a                              # [U + 1] log of the sum over all paths, relative to the best
    double *next_a
    double *blank_rest                     # [U + 1] rests of the arcs; -inf for weights of 0
    double *label_rest


# ---- arcs -----------------------------------------------------------------------------------

cdef inline double log_sigmoid(double z) noexcept nogil:
    """log(sigmoid(z)), less z if z is negative."""
    return -log64(1 + exp64(-fabs(z)))


cdef inline Score score_of(const Problem *p, const Sequence *s, Py_ssize_t at, bint label) noexcept nogil:
    """Score of an arc, before shares overwrite it."""
    cdef Score score
    cdef double blank_logit, value
    memset(&score, 0, sizeof(Score))
    if not is_exact(p, s, at):
        value = s.grid.label[at] if label else s.grid.blank[at]
        score.rest = -INFINITY
        if value > 0:
            score.n, score.rest = 1, 0
            score.terms[0] = log_extended(value, s.grid.label_e[at] if label else s.grid.blank_e[at])
        return score
    blank_logit, value = s.grid.blank[at], s.grid.label[at] if label else s.grid.blank[at]
    if value == -INFINITY:
        score.rest = -INFINITY
        return score
    if label or not p.hat:
        score.terms[0], score.terms[1], score.n = value, -s.grid.blank_e[at], 2
        score.rest = -s.grid.label_e[at]
    if p.hat:
        score.rest += log_sigmoid(blank_logit)
        if label == (blank_logit > 0):
            score.terms[score.n] = -blank_logit if label else blank_logit
            score.n += 1
    return score


cdef inline double score_of_label(const Problem *p, const Sequence *s, Py_ssize_t at) noexcept nogil:
    """Log-probability of the label of an arc."""
    cdef Score score = score_of(p, s, at, True)
    cdef double total = score.rest
    cdef int i
    for i in range(score.n - 1, -1, -1):
        total += score.terms[i]
    return total


cdef inline void note_terms(Levels *levels, const Score *score) noexcept nogil:
    cdef int i
    for i in range(score.n):
        note(levels, score.terms[i])


cdef inline void add_terms(const Levels *levels, const Score *score, double *sums) noexcept nogil:
    cdef int i
    for i in range(score.n):
        add_digits(levels, score.terms[i], 1, sums)


cdef inline void split(const Levels *levels, const Score *score, double *sums, double *rest) noexcept nogil:
    memset(sums, 0, levels.n * sizeof(double))
    add_terms(levels, score, sums)
    rest[0] = score.rest


cdef inline void read_levels(Exact *e, const Problem *p, const Sequence *s) noexcept nogil:
    """Note the scores of all arcs."""
    cdef Py_ssize_t n, u
    cdef int label
    cdef Score score
    memset(&e.levels, 0, sizeof(Levels))
    for n in range(s.grid.rows):
        for u in range(s.grid.first[n], s.grid.last[n] + 1):
            for label in range(2):
                score = score_of(p, s, s.grid.at[n] + u, label)
                note_terms(&e.levels, &score)
    settle(&e.levels)


cdef inline bint reserve(Exact *e, const Sequence *s) noexcept nogil:
    cdef Py_ssize_t levels = e.levels.n, width = s.grid.end + 1
    e.memory = rows_of(4 * width + 3, levels + 1)
    if e.memory == NULL:
        return False
    e.best = e.memory
    e.next_best = e.best + width * levels
    e.blank = e.next_best + width * levels
    e.label = e.blank + width * levels
    e.sums = e.label + width * levels
    e.zero = e.sums + 2 * levels
    e.a = e.zero + levels
    e.next_a = e.a + width
    e.blank_rest = e.next_a + width
    e.label_rest = e.blank_rest + width
    memset(e.memory, 0, (4 * width + 3) * (levels + 1) * sizeof(double))
    return True


# ---- rows -----------------------------------------------------------------------------------

cdef inline void open_row(Exact *e, const Problem *p, const Sequence *s, Py_ssize_t n) noexcept nogil:
    """Scores of the arcs from row n."""
    cdef Py_ssize_t u, levels = e.levels.n
    cdef Score score
    for u in range(s.grid.first[n], s.grid.last[n] + 1):
        score = score_of(p, s, s.grid.at[n] + u, False)
        split(&e.levels, &score, e.blank + u * levels, &e.blank_rest[u])
        score = score_of(p, s, s.grid.at[n] + u, True)
        split(&e.levels, &score, e.label + u * levels, &e.label_rest[u])


cdef inline void join(Exact *e, Sequence *s, Py_ssize_t n, Py_ssize_t u, bint best) noexcept nogil:
    """Node u of row n from row n - 1: shares of its arcs, or the better one of the two."""
    cdef Py_ssize_t levels = e.levels.n, first = s.grid.first[n - 1], last = s.grid.last[n - 1]
    cdef Py_ssize_t at = s.grid.at[n - 1] + u
    cdef double blank = -INFINITY, label = -INFINITY, apart
    cdef double *by_label = e.sums + levels
    if first <= u <= last:
        blank = e.a[u] + e.blank_rest[u]
        add_sums(&e.levels, e.best + u * levels, e.blank + u * levels, e.sums)
    if first <= u - 1 <= last:
        label = e.a[u - 1] + e.label_rest[u - 1]
        add_sums(&e.levels, e.best + (u - 1) * levels, e.label + (u - 1) * levels, by_label)
    e.next_a[u] = max(blank, label)
    if e.next_a[u] > -INFINITY:
        # The difference of the scores is beyond float64 only if one of the two does not count.
        apart = INFINITY if label == -INFINITY else -INFINITY if blank == -INFINITY else \
            balance(&e.levels, e.sums, e.zero, by_label)
        memcpy(e.next_best + u * levels, e.sums if apart >= 0 else by_label, levels * sizeof(double))
        if apart >= 0:
            label -= apart
        else:
            blank += apart
        e.next_a[u] = max(blank, label) if best else log_add(blank, label)
    if best:
        if first <= u <= last:
            s.grid.by_label[at] = label > blank
        return
    if first <= u <= last:
        s.grid.blank[at] = exp64(blank - e.next_a[u]) if blank > -INFINITY else 0
    if first <= u - 1 <= last:
        s.grid.label[at - 1] = exp64(label - e.next_a[u]) if label > -INFINITY else 0


cdef inline bint solve_exactly(const Problem *p, Sequence *s, Use use, bint *has_path, double *total) noexcept nogil:
    """Logarithm of the sum over all paths, -inf without a path or beyond the range of float64; weights become shares.

    For `BEST_PATH` that of the best path, which is traced. Returns False if memory is exhausted.
    """
    cdef Exact e
    cdef Py_ssize_t n, u
    cdef double *swap
    read_levels(&e, p, s)
    if not reserve(&e, s):
        return False
    for n in range(1, s.grid.rows + 1):
        open_row(&e, p, s, n - 1)
        for u in range(s.grid.first[n], s.grid.last[n] + 1):
            join(&e, s, n, u, use == BEST_PATH)
        if use != BEST_PATH:
            close_shares(&s.grid, n)
        swap = e.best
        e.best, e.next_best = e.next_best, swap
        swap = e.a
        e.a, e.next_a = e.next_a, swap
    u = s.grid.end
    has_path[0], total[0] = e.a[u] > -INFINITY, e.a[u]
    if has_path[0]:
        total[0] += balance(&e.levels, e.best + u * e.levels.n, e.zero, e.zero)
    if use == BEST_PATH:
        trace_back(&s.grid)
    free(e.memory)
    return True
