"""The general path, in logarithms, one sequence at a time.

The log-alphas of every frame are relative to the greatest, so that rounding affects their spread and not their sum.
"""

from cython cimport floating
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from fastseqloss._kernels.crf.group cimport Group, Problem, load_scores, score_extent, set_group, tag_of
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.simd.softmax cimport add_exactly, exp64


cdef extern from "crf/lattice.h" nogil:
    void log_product "fsl_crf_log_product"(const double *a, const double *m, Py_ssize_t n, double *best, double *sum,
                                           double *out) noexcept
    double log_dot "fsl_crf_log_dot"(const double *a, const double *b, Py_ssize_t n) noexcept
    void log_pairs "fsl_crf_log_pairs"(double own, const double *m, const double *b, Py_ssize_t n, double factor,
                                       double *out, double *pair) noexcept


cdef inline double general_forward(Group *g, const floating *x) noexcept nogil:
    """Log of the sum over all paths, relative to the shifts; log-alphas of all frames."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, j
    cdef double least, most, total = 0, rest = 0
    cdef double *a = g.alpha
    for t in range(g.frames[0]):
        load_scores(g, 0, t, x)
        score_extent(g.score, p.width, &least, &most)
        g.shift[t] = most if most > -INFINITY else 0
        if t > 0:
            log_product(a, p.scores, p.n_tags, g.spare, g.spare + p.step, a + p.step)
            a += p.step
        most = -INFINITY
        for j in range(p.n_tags):
            a[j] = (a[j] if t > 0 else 0) + (g.score[j] - g.shift[t])
            most = max(most, a[j])
        if most == -INFINITY:
            return -INFINITY
        for j in range(p.n_tags):
            a[j] -= most
        add_exactly(&total, &rest, most)
    for j in range(p.n_tags):
        g.spare[j] = 0
    return total + (rest + log_dot(a, g.spare, p.n_tags))


cdef inline void general_frame(Group *g, Py_ssize_t t, const double *a, const double *beta, double total,
                               floating *grad, double *first, double *last) noexcept nogil:
    """Gradient of a frame; adds its posteriors to the sums over first and last frames, unless NULL."""
    cdef const Problem *p = g.problem
    cdef double scale = p.scale[g.b[0]], posterior
    cdef Py_ssize_t j, y = tag_of(g, 0, t) if p.tags != NULL else -1
    cdef floating *out = grad + g.b[0] * p.g_batch + t * p.g_frame
    for j in range(p.n_tags):
        posterior = exp64(a[j] + beta[j] - total)
        out[j] = <floating> (scale * (posterior - (j == y)))
        if first != NULL:
            first[j] += scale * posterior
        if last != NULL:
            last[j] += scale * posterior


cdef inline void general_pairs(Group *g, Py_ssize_t t, const double *a, const double *weight, double total,
                               floating *pairwise, double *counts) noexcept nogil:
    """Pairwise posteriors of frames t and t + 1; `weight` belongs to frame t + 1."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t i, j
    cdef double *pair = g.spare + 4 * p.step
    cdef double *unused = g.spare + 5 * p.step
    cdef floating *out = pairwise
    if pairwise != NULL:
        out = pairwise + g.b[0] * p.p_batch + t * p.p_frame
    for i in range(p.n_tags):
        log_pairs(a[i] - total, p.scores + i * p.n_tags, weight, p.n_tags, p.scale[g.b[0]],
                  unused if counts == NULL else counts + i * p.n_tags, pair)
        if pairwise != NULL:
            for j in range(p.n_tags):
                out[i * p.n_tags + j] = <floating> pair[j]


cdef inline double general(Group *g, int64_t b, const floating *x, floating *grad, floating *pairwise, double *counts,
                           double *start, double *end) noexcept nogil:
    """Log of the sum over all paths of sequence b, relative to the shifts; gradient, and sums over frames unless NULL.

    Returns the logarithm only, without gradients, if it is below -exact_from(frames): all paths then have potentials
    that are rounded.
    """
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, j, last
    cdef double log_sum, total
    cdef const double *a
    cdef double *beta = g.spare + 2 * p.step
    cdef double *weight = g.spare + 3 * p.step
    set_group(g, &b, 1)
    log_sum = general_forward(g, x)
    if log_sum < -exact_from(g.frames[0]) or grad == NULL:
        return log_sum
    last = g.frames[0] - 1
    for j in range(p.n_tags):
        beta[j] = 0
    for t in range(last, -1, -1):
        a = g.alpha + t * p.step
        if t < last:
            log_product(weight, p.scores_t, p.n_tags, g.spare, g.spare + p.step, beta)
        total = log_dot(a, beta, p.n_tags)
        if t < last:
            general_pairs(g, t, a, weight, total, pairwise, counts)
        general_frame(g, t, a, beta, total, grad, start if t == 0 else NULL, end if t == last else NULL)
        load_scores(g, 0, t, x)
        for j in range(p.n_tags):
            weight[j] = (g.score[j] - g.shift[t]) + (beta[j] - total)
    return log_sum
