"""The exact search, for sequences whose paths all cross scores so low that float64 sums lose the other terms.

As in alignment.pyx, q of a state is the best score over its frame and the later ones, but summed without rounding
(lattice/exact_sums.h). The moves of the best paths are kept for all frames.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastseqloss._kernels.codes cimport LOGITS, LOG_PROBS, PROBS
from fastseqloss._kernels.ctc.labels cimport PAD
from fastseqloss._kernels.ctc.search cimport Path, Place, Search, frame_at, path_total, read_frame, record
from fastseqloss._kernels.ctc.sequence cimport fill
from fastseqloss._kernels.lattice.exact_sums cimport (
    Levels, add_digits, add_sums, balance, note, rows_of, settle,
)
from fastseqloss._kernels.parallel.workspace cimport size_product
from fastseqloss._kernels.simd.softmax cimport log64


cdef struct ExactSearch:
    Levels levels
    Py_ssize_t n                           # states: blank, label, ..., blank
    double *q                              # [n, levels] each, of a frame and of the next one
    double *after
    double *em                             # [used, levels]
    double *zero                           # [levels]
    unsigned char *move                    # [frames, n] advance of the best path in states, or NOWHERE


cdef enum:
    NOWHERE = 3


cdef inline void add_score(ExactSearch *e, double x, double sign, double *sum) noexcept nogil:
    """sum += sign * x, or, if sum is NULL, note the levels of x."""
    if sum == NULL:
        note(&e.levels, x)
    else:
        add_digits(&e.levels, x, sign, sum)


cdef inline bint split_score(ExactSearch *e, Search *a, const floating *x, Py_ssize_t t, Py_ssize_t k,
                             double *sum) noexcept nogil:
    """Add the score of the k-th class used at frame t to `sum`, unless NULL; returns False if the score is -inf."""
    cdef double score = frame_at(a, x, t)[a.graph.classes[k]]
    if k == a.star:
        score = a.star_log_prob[t * a.star_step]
        if a.input == LOGITS:
            add_score(e, a.row_max[t], 1, sum)
            add_score(e, a.log_norm[t], 1, sum)
    elif a.input == PROBS:
        score = log64(score)
    add_score(e, score, 1, sum)
    add_score(e, a.prior[k], -1, sum)
    return score > -INFINITY and a.prior[k] < INFINITY


cdef inline void exact_step(ExactSearch *e, Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
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


cdef inline double follow_moves(ExactSearch *e, Search *a, const floating *x, const int64_t *labels,
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
        record(a, x, t, at, labels, path)
        i += e.move[t * e.n + i]
    if a.input == LOG_PROBS and a.class_prior == NULL and path.total > -INFINITY:
        path.total, path.lost = balance(&e.levels, best, e.zero, e.zero), 0
    return path_total(a, path)


cdef inline double align_exactly(Search *a, const floating *x, const int64_t *labels, Path *path) noexcept nogil:
    """Best path for sequences whose paths all cross scores so low that float64 sums lose the other terms."""
    cdef ExactSearch e
    cdef Py_ssize_t t, k
    cdef double result = -INFINITY
    cdef double *swap
    cdef double *memory
    memset(&e, 0, sizeof(ExactSearch))
    for t in range(a.frames - 1, -1, -1):
        read_frame(a, x, t)
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
