"""Best paths, one group of sequences at a time, in the (max, +) semiring and without shifts.

During the search, the score of the tagged path is added up in the same order as that of the best path, so that rounding
cannot make it exceed the best score, and the two are equal if the tagged path is the best. The scores returned are
added up again along the paths, with compensation.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t

from fastseqloss._kernels.crf.group cimport (
    EXACT, IMPOSSIBLE, NOT_A_NUMBER, Group, Problem, add_exactly, add_row, alpha_row, load_scores,
    refuse_scores, score_extent, tag_of,
)
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.simd.matrix cimport best


cdef extern from "crf/lattice.h" nogil:
    Py_ssize_t first_best "fsl_crf_first_best"(const double *a, const double *b, Py_ssize_t n) noexcept


cdef inline void best_scores(Group *g, const floating *x) noexcept nogil:
    """Set the scores of the best paths to all tags of all frames; with tags, `offset` to that of the tagged path."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, r, n = g.rows
    cdef double least, most
    cdef double *a
    for t in range(g.frames[0]):
        while g.frames[n - 1] <= t:
            n -= 1
        if t > 0:
            best(alpha_row(g, t - 1, 0), p.step, n, p.forward, p.n_tags, p.width, alpha_row(g, t, 0), p.step)
        for r in range(n):
            load_scores(g, r, t, x)
            if not score_extent(g.score, p.width, &least, &most):
                refuse_scores(g, r, t, x)
            g.above[r] += max(most, 0) + p.greatest
            a = alpha_row(g, t, r)
            if p.tags != NULL:
                if t > 0:
                    g.offset[r] += p.scores[tag_of(g, r, t - 1) * p.n_tags + tag_of(g, r, t)]
                g.offset[r] += g.score[tag_of(g, r, t)]
            if t > 0:
                add_row(a, g.score, p.width)
            else:
                copy_row(a, g.score, p.width)


cdef inline void copy_row(double *x, const double *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        x[j] = y[j]


cdef inline double trace(Group *g, Py_ssize_t r, int64_t *path) noexcept nogil:
    """Score of the best path of a sequence, and its tags; -inf and -1 without a path."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, last = g.frames[r] - 1, j
    cdef double score
    cdef const double *a = alpha_row(g, last, r)
    for j in range(p.n_tags):
        g.spare[j] = 0
    j = first_best(a, g.spare, p.n_tags)
    score = a[j]
    if g.state[r] == NOT_A_NUMBER or score == -INFINITY:
        for t in range(last + 1):
            path[t] = -1
        return NAN if g.state[r] == NOT_A_NUMBER else score
    path[last] = j
    for t in range(last, 0, -1):
        j = first_best(alpha_row(g, t - 1, r), p.scores_t + j * p.n_tags, p.n_tags)
        path[t - 1] = j
    return score


cdef inline bint is_rounded(Group *g, Py_ssize_t r, double score) noexcept nogil:
    """Return True if sums in the search may be so large that rounding could hide the best path.

    A path whose partial score falls low enough for rounding to matter cannot become the best, since the remaining terms
    add at most `above`.
    """
    cdef double most = 2.0 ** 30 + exact_from(g.frames[r])
    return g.state[r] == EXACT or g.state[r] != NOT_A_NUMBER and not (g.above[r] < most and score > -most)


cdef inline void add_path(Group *g, Py_ssize_t r, const floating *x, const int64_t *path, double sign, double *total,
                          double *rest) noexcept nogil:
    """total + rest += sign * score of a path with finite scores."""
    cdef const Problem *p = g.problem
    cdef const floating *emission = x + g.b[r] * p.x_batch
    cdef Py_ssize_t t, last = g.frames[r] - 1
    cdef double high = total[0], low = rest[0]  # local, and so in registers
    for t in range(last + 1):
        add_exactly(&high, &low, sign * emission[t * p.x_frame + path[t]])
        if t > 0:
            add_exactly(&high, &low, sign * p.scores[path[t - 1] * p.n_tags + path[t]])
        if p.cost != NULL:
            add_exactly(&high, &low, sign * p.cost[tag_of(g, r, t) * p.n_tags + path[t]])
    add_exactly(&high, &low, sign * p.start[path[0]])
    add_exactly(&high, &low, sign * p.end[path[last]])
    total[0], rest[0] = high, low


cdef inline double path_score(Group *g, Py_ssize_t r, const floating *x, const int64_t *path,
                              double score) noexcept nogil:
    """Score of the best path; `score` is its sum without compensation."""
    cdef double total = 0, rest = 0
    if g.state[r] == NOT_A_NUMBER or score == -INFINITY:
        return score
    add_path(g, r, x, path, 1, &total, &rest)
    return total + rest


cdef inline double margin(Group *g, Py_ssize_t r, const floating *x, const int64_t *path, double score) noexcept nogil:
    """Score of the best path less that of the tagged path; `score` is as in path_score."""
    cdef const Problem *p = g.problem
    cdef double total = 0, rest = 0
    if g.state[r] == NOT_A_NUMBER:
        return NAN
    if g.offset[r] == -INFINITY:
        g.state[r] = IMPOSSIBLE
        return INFINITY
    if score == g.offset[r]:
        return 0
    add_path(g, r, x, path, 1, &total, &rest)
    add_path(g, r, x, p.tags + g.b[r] * p.n_frames, -1, &total, &rest)
    return max(0, total + rest)


cdef inline void subtract_paths(Group *g, Py_ssize_t r, const int64_t *path, floating *grad, double *counts,
                                double *start, double *end) noexcept nogil:
    """Gradient of the margin: the steps of the best path less those of the tagged path."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, last = g.frames[r] - 1, n = p.n_tags
    cdef double scale = p.scale[g.b[r]]
    cdef floating *out = grad + g.b[r] * p.g_batch
    for t in range(last + 1):
        if path[t] != tag_of(g, r, t):
            out[path[t]] = <floating> scale
            out[tag_of(g, r, t)] = <floating> -scale
        if t > 0 and (path[t - 1] != tag_of(g, r, t - 1) or path[t] != tag_of(g, r, t)):
            counts[path[t - 1] * n + path[t]] += scale
            counts[tag_of(g, r, t - 1) * n + tag_of(g, r, t)] -= scale
        out += p.g_frame
    start[path[0]] += scale
    start[tag_of(g, r, 0)] -= scale
    end[path[last]] += scale
    end[tag_of(g, r, last)] -= scale
