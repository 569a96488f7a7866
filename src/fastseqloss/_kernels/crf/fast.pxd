"""The fast path: alphas and betas in the linear domain, one group of sequences at a time.

Alphas are scaled frame by frame by powers of two, whose exponents add up exactly. Betas are in units of the posterior,
beta_t(j) / sum over k of alpha_t(k) beta_t(k), so that alpha times beta is the posterior, and an underflow of beta
affects only states with a negligible posterior. Betas of unreachable states (alpha 0) are dropped, because they could
grow without bound.

Potentials far below the largest are clamped, which makes the sum over all paths too large by the paths through clamped
potentials. Their share is computed: if it is not negligible, the sequence is run again on the general path. The sums
over frames of such a group are added up only after this check.
"""

from cython cimport floating
from libc.math cimport INFINITY
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastseqloss._kernels.crf.group cimport (
    FAST, GENERAL, IMPOSSIBLE, MOST, PAIRS, Group, Problem, alpha_row, fill, load_scores,
    score_frame, tag_of, take_slots, x_row,
)
from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.simd.matrix cimport outer, product


cdef extern from "crf/lattice.h" nogil:
    const double NEGLIGIBLE "FSL_CRF_CLAMPED_SHARE"
    const double MOST_SUMS "FSL_CRF_CLAMPED_SUMS"
    double advance_row "fsl_crf_advance_row"(double *a, const double *x, Py_ssize_t width) noexcept
    void scale_row "fsl_crf_scale_row"(double *x, Py_ssize_t width, double factor) noexcept
    double sum_row "fsl_crf_sum_row"(const double *x, Py_ssize_t width) noexcept
    double dot_row "fsl_crf_dot_row"(const double *x, const double *y, Py_ssize_t width) noexcept
    void weigh_row "fsl_crf_weigh_row"(const double *a, const double *x, const double *b, double factor,
                                       Py_ssize_t width, double *w) noexcept
    double clamped_mass "fsl_crf_clamped_mass"(const double *s, double shift, const double *a, const double *b,
                                               Py_ssize_t n) noexcept
    void store_row_f32 "fsl_crf_store_row_f32"(const double *a, const double *b, double factor, Py_ssize_t n,
                                               float *out) noexcept
    void store_row_f64 "fsl_crf_store_row_f64"(const double *a, const double *b, double factor, Py_ssize_t n,
                                               double *out) noexcept


cdef inline void forward(Group *g, const floating *x) noexcept nogil:
    """Set the alphas of all frames, and the offsets, exponents and states of all sequences."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, r, n = g.rows
    cdef double exponent
    cdef double *a
    for t in range(g.frames[0]):
        while g.frames[n - 1] <= t:
            n -= 1
        if t > 0:
            product(alpha_row(g, t - 1, 0), p.step, n, p.forward, p.n_tags, p.width, alpha_row(g, t, 0), p.step)
        for r in range(n):
            a = alpha_row(g, t, r)
            if t == 0:
                fill(a, p.width, 1)
            score_frame(g, r, t, x)
            exponent = advance_row(a, x_row(g, t, r), p.width)
            if exponent >= 1e9:
                fill(a, p.width, 0)
                if g.state[r] == FAST:
                    g.state[r] = GENERAL
            else:
                g.exponent[r] += exponent


cdef inline double log_total(Group *g, Py_ssize_t r) noexcept nogil:
    """Log of the sum over all paths, relative to the shifts; sets the final state of the sequence."""
    cdef double total = sum_row(alpha_row(g, g.frames[r] - 1, r), g.problem.width)
    if g.state[r] in (FAST, GENERAL) and g.problem.tags != NULL and g.offset[r] == INFINITY:
        g.state[r] = IMPOSSIBLE
    if g.state[r] != FAST:
        return 0
    if total == 0:
        g.state[r] = IMPOSSIBLE
        return -INFINITY
    return log_extended(total, g.exponent[r])


cdef inline bint is_clamped(Group *g) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(g.rows):
        if g.state[r] == FAST and (g.clamped[r] or g.problem.clamped and g.frames[r] > 1):
            return True
    return False


cdef inline void flush(Group *g) noexcept nogil:
    """Add the pending outer products of sequences on the fast path to `packed`."""
    cdef const double *left[PAIRS]
    cdef const double *right[PAIRS]
    cdef Py_ssize_t k, n = 0
    for k in range(g.n_pairs):
        if g.state[g.owner[k]] == FAST:
            left[n], right[n] = g.left[k], g.right[k]
            n += 1
        if n == PAIRS:
            outer(left, right, n, g.problem.width, g.packed)
            n = 0
    if n:
        outer(left, right, n, g.problem.width, g.packed)
    g.n_pairs = 0


cdef inline void close_step(Group *g, Py_ssize_t r, Py_ssize_t t, double to_posterior, double *w, floating *pairwise,
                            bint with_sums) noexcept nogil:
    """Outer products between frames t and t + 1: sets the weights w of frame t + 1, in posterior units times the scale.

    `to_posterior` is the factor from alphas times betas to posteriors of frame t.
    """
    cdef const Problem *p = g.problem
    cdef double *a = alpha_row(g, t, r)
    cdef Py_ssize_t i, j
    cdef floating *out
    cdef double scale = p.scale[g.b[r]]
    if p.clamped or pairwise != NULL:
        scale_row(w, p.width, to_posterior)
        to_posterior = 1
    if p.clamped and not sum_row(a, p.width) * sum_row(w, p.width) < MOST_SUMS:
        g.state[r] = GENERAL
        return
    if pairwise != NULL:
        out = pairwise + g.b[r] * p.p_batch + t * p.p_frame
        for i in range(p.n_tags):
            for j in range(p.n_tags):
                out[i * p.n_tags + j] = <floating> (a[i] * p.factors[i * p.n_tags + j] * w[j])
    if with_sums:
        scale_row(w, p.width, to_posterior * scale)
        g.left[g.n_pairs], g.right[g.n_pairs], g.owner[g.n_pairs] = a, w, r
        g.n_pairs += 1


cdef inline void close_frame(Group *g, Py_ssize_t r, Py_ssize_t t, double to_posterior, const floating *x,
                             floating *grad, double *w) noexcept nogil:
    """Gradient of a frame from alphas and betas, and the weights w for the betas of the previous frame."""
    cdef const Problem *p = g.problem
    cdef const double *a = alpha_row(g, t, r)
    cdef const double *beta = g.beta + r * p.step
    cdef double scale = p.scale[g.b[r]], shift = g.shift[t * g.capacity + r]
    cdef Py_ssize_t y
    cdef floating *out
    if g.clamped[r]:
        load_scores(g, r, t, x)
        if clamped_mass(g.score, shift, a, beta, p.n_tags) * to_posterior > NEGLIGIBLE:
            g.state[r] = GENERAL
            return
    if grad != NULL:
        out = grad + g.b[r] * p.g_batch + t * p.g_frame
        if floating is float:
            store_row_f32(a, beta, scale * to_posterior, p.n_tags, out)
        else:
            store_row_f64(a, beta, scale * to_posterior, p.n_tags, out)
        if p.tags != NULL:
            y = tag_of(g, r, t)
            out[y] = <floating> (scale * (a[y] * beta[y] * to_posterior - 1))
    weigh_row(a, x_row(g, t, r), beta, to_posterior, p.width, w)


cdef inline void backward(Group *g, const floating *x, floating *grad, floating *pairwise,
                          bint with_sums) noexcept nogil:
    """Run the gradients of all frames; outer products are added up whenever the slots are full."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t t, r, n = 0, before, slot = 1, block = g.capacity * p.step
    cdef double to_posterior
    cdef double *w
    g.n_pairs = 0
    for t in range(g.frames[0] - 1, -1, -1):
        if slot > g.n_slots:
            flush(g)
            memcpy(g.weight, g.weight + g.n_slots * block, block * sizeof(double))
            slot = 1
        w = g.weight + slot * block
        before = n
        while n < g.rows and g.frames[n] > t:
            fill(g.beta + n * p.step, p.width, 1)
            n += 1
        if before:
            product(w - block, p.step, before, p.backward, p.n_tags, p.width, g.beta, p.step)
        for r in range(n):
            if g.state[r] == FAST:
                to_posterior = 1 / dot_row(alpha_row(g, t, r), g.beta + r * p.step, p.width)
                if r < before:
                    close_step(g, r, t, to_posterior, w - block + r * p.step, pairwise, with_sums)
            if g.state[r] == FAST:
                close_frame(g, r, t, to_posterior, x, grad, w + r * p.step)
            if g.state[r] != FAST:
                memset(w + r * p.step, 0, p.width * sizeof(double))
        slot += 1


cdef inline void finish(Group *g, double *start, double *end) noexcept nogil:
    """Add the remaining sums over frames after the backward sweep, and those of the first and the last frame."""
    cdef const Problem *p = g.problem
    cdef Py_ssize_t r, j
    cdef double first, last
    cdef const double *a
    cdef const double *z
    cdef const double *beta
    flush(g)
    for r in range(g.rows):
        if g.state[r] == FAST:
            a, z, beta = alpha_row(g, 0, r), alpha_row(g, g.frames[r] - 1, r), g.beta + r * p.step
            first = p.scale[g.b[r]] / dot_row(a, beta, p.width)
            last = p.scale[g.b[r]] / sum_row(z, p.width)
            for j in range(p.n_tags):
                start[j] += a[j] * beta[j] * first
                end[j] += z[j] * last


cdef inline void sweep_back(Group *g, const floating *x, floating *grad, floating *pairwise, double *start,
                            double *end) noexcept nogil:
    """Backward sweep of a group; if potentials were clamped, sums over frames are added after its end."""
    cdef Group later
    cdef uintptr_t cursor = 0
    cdef void *memory = NULL
    cdef Py_ssize_t r
    cdef bint with_sums = start != NULL
    if not is_clamped(g):
        backward(g, x, grad, pairwise, with_sums)
        if with_sums:
            finish(g, start, end)
        return
    later = g[0]
    if with_sums:
        take_slots(&later, g.frames[0], &cursor)
        memory = malloc(cursor + 64)
        if memory == NULL:  # the general path does not need this memory
            for r in range(g.rows):
                if g.state[r] == FAST:
                    g.state[r] = GENERAL
            return
        cursor = (<uintptr_t> memory + 63) // 64 * 64
        take_slots(&later, g.frames[0], &cursor)
    backward(&later, x, grad, pairwise, with_sums)
    if with_sums:
        finish(&later, start, end)
    for r in range(MOST):
        g.state[r] = later.state[r]
    free(memory)
