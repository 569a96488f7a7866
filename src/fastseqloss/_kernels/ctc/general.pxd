"""The general path: every number has its own exponent.

An exponent is as exact as the scores that it derives from. If all paths cross very large scores, too few digits remain,
and the exact path replaces this one. If a path without such scores exists, the others are negligible.
"""

from cython cimport floating
from libc.math cimport INFINITY

from fastseqloss._kernels.ctc.exact cimport exact
from fastseqloss._kernels.ctc.labels cimport PAD
from fastseqloss._kernels.ctc.sequence cimport (
    GRADIENT, PROBS, Sequence, close_frame, close_states, collect, copy_state, emit_frame, fill, first_alphas, row,
)
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.lattice.extended_range cimport (
    DEAD, emit, log_total, product, product_exponent, split_exp, split_ratio,
)


cdef extern from "ctc/lattice.h" nogil:
    void general_forward "fsl_ctc_general_forward"(
        const double *b, const double *eb, const double *l, const double *el, const float *skip, double *b_out,
        double *eb_out, double *l_out, double *el_out, Py_ssize_t size) noexcept
    void general_backward "fsl_ctc_general_backward"(
        const double *b, const double *eb, const double *l, const double *el, const float *skip, double *b_out,
        double *eb_out, double *l_out, double *el_out, Py_ssize_t size) noexcept


cdef inline double split_emissions(Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of frame t as em * 2^ee, and in row 0 of y as float64.

    For probabilities, sets the coefficient to the mantissa of their divisor and returns its exponent.
    """
    cdef double shift, shift_exponent = 0
    emit_frame(s, x, t, s.y, &shift)
    if s.input == PROBS:
        shift_exponent = split_ratio(s.score, s.graph.used, shift, s.em, s.ee, &s.coefficient[t])
    else:
        split_exp(s.score, s.graph.used, shift, s.em, s.ee)
    s.em[s.graph.used] = s.ee[s.graph.used] = 0  # class of the padding states
    return shift_exponent


cdef inline void emit_states(Sequence *s, const double *v, const double *e, double *v_out,
                             double *e_out) noexcept nogil:
    """Multiply a pair of rows (blank, label; pointers to index 0) by the emissions of the frame."""
    cdef Py_ssize_t w = s.graph.width
    emit(v, e, s.blank_u + PAD, s.em, s.ee, v_out, e_out, s.graph.size)
    emit(v + w, e + w, s.graph.u + PAD, s.em, s.ee, v_out + w, e_out + w, s.graph.size)


cdef inline Py_ssize_t general_steps(Sequence *s, const floating *x, Py_ssize_t start, Py_ssize_t stop, bint keep,
                                     double *v, double *e) noexcept nogil:
    """As forward_block, but rows hold alphas before emission, each with its own exponents."""
    cdef Py_ssize_t t, r = 0, next_r, w = s.graph.width
    cdef double *v_next
    cdef double *e_next
    for t in range(start, stop):
        split_emissions(s, x, t)
        emit_states(s, row(s, s.rows, r, 0), row(s, s.exponents, r, 0), v, e)
        next_r = r + 1 if keep else 1 - r
        v_next, e_next = row(s, s.rows, next_r, 0), row(s, s.exponents, next_r, 0)
        general_forward(v, e, v + w, e + w, s.graph.skip + PAD, v_next, e_next, v_next + w, e_next + w, s.graph.size)
        r = next_r
    return r


cdef inline void general_close(Sequence *s, const floating *x, floating *g, Py_ssize_t t, Py_ssize_t r, double *beta,
                               double *e_beta, double *v, double *e) noexcept nogil:
    """Gradient at frame t from alphas in row r and betas; stores betas times emissions in v, e.

    Posteriors are normalised to sum 1. For probabilities the gradient needs posterior / y instead, which is alpha
    before emission times beta, and finite where y is 0.
    """
    cdef double *a = row(s, s.rows, r, 0)
    cdef double *ea = row(s, s.exponents, r, 0)
    cdef double unit, total = 0, blank_post = 0, shift_exponent = split_emissions(s, x, t)
    cdef Py_ssize_t i, w = s.graph.width, size = s.graph.size
    emit_states(s, beta, e_beta, v, e)
    unit = product_exponent(a + w, ea + w, v + w, e + w, size, product_exponent(a, ea, v, e, size, DEAD))
    product(a, ea, v, e, unit, s.post_b + PAD, size)
    product(a + w, ea + w, v + w, e + w, unit, s.post + PAD, size)
    blank_post = sum_of(s.post_b + PAD, size)
    total = blank_post + sum_of(s.post + PAD, size)
    if s.output != GRADIENT:
        close_states(s, g, t, total if total > 0 else 1, 0, size)
        return
    if s.input == PROBS:
        unit += shift_exponent
        product(a, ea, beta, e_beta, unit, s.post + PAD, size)
        blank_post = sum_of(s.post + PAD, size)
        product(a + w, ea + w, beta + w, e_beta + w, unit, s.post + PAD, size)
    collect(s, blank_post, 0, size)
    for i in range(s.graph.used):
        s.class_post[i] /= total if total > 0 else 1
    close_frame(s, g, t, s.y)


cdef inline double sum_of(const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += x[i]
    return total


cdef inline double general(Sequence *s, const floating *x, floating *g, bint *has_path) noexcept nogil:
    """Log-likelihood of the lattice, and the gradient, by the general or the exact path. Frames have been opened."""
    cdef Py_ssize_t j, t, r = 0, start, stop, n = s.graph.n_labels, w = s.graph.width
    cdef double *v = s.scratch + PAD                # pairs of rows: emitted betas, betas, emitted alphas
    cdef double *e = v + 2 * w
    cdef double *beta = v + 4 * w
    cdef double *e_beta = v + 6 * w
    cdef double *tv = v + 8 * w
    cdef double *te = v + 10 * w
    cdef double *checkpoint
    cdef double total
    for j in range(0, 12, 4):
        fill(s.scratch + j * w, 2 * w, 0)
        fill(s.scratch + (j + 2) * w, 2 * w, DEAD)
    first_alphas(s, 1, 1)
    for j in range(s.n_blocks):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        if j > 0:
            copy_state(s, s.rows, s.exponents, row(s, s.rows, r, 0) - PAD, row(s, s.exponents, r, 0) - PAD)
        if s.with_grad:
            checkpoint = s.checkpoints + 4 * j * w
            copy_state(s, checkpoint, checkpoint + 2 * w, s.rows, s.exponents)
        r = general_steps(s, x, start, stop, s.with_grad and j == s.n_blocks - 1, tv, te)
    split_emissions(s, x, s.frames - 1)
    emit_states(s, row(s, s.rows, r, 0), row(s, s.exponents, r, 0), v, e)
    total = -INFINITY
    if v[n] > 0 or (n > 0 and v[w + n - 1] > 0):
        total = log_total(v[n], e[n], v[w + n - 1] if n else 0, e[w + n - 1] if n else DEAD)
    # Differences of float64 scores may be out of range.
    if s.input != PROBS and total < -exact_from(s.frames) and (total > -INFINITY or floating is double):
        return exact(s, x, g, has_path)
    has_path[0] = total > -INFINITY
    if not (has_path[0] and s.with_grad):
        return total
    beta[n], e_beta[n] = 1, 0
    if n:
        beta[w + n - 1], e_beta[w + n - 1] = 1, 0
    general_close(s, x, g, s.frames - 1, r, beta, e_beta, v, e)
    for j in range(s.n_blocks - 1, -1, -1):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        if j < s.n_blocks - 1:
            checkpoint = s.checkpoints + 4 * j * w
            copy_state(s, s.rows, s.exponents, checkpoint, checkpoint + 2 * w)
            general_steps(s, x, start, stop, True, tv, te)
        for t in range(stop - 1, start - 1, -1):
            general_backward(v, e, v + w, e + w, s.graph.skip + PAD, beta, e_beta, beta + w, e_beta + w, s.graph.size)
            general_close(s, x, g, t, t - start, beta, e_beta, v, e)
    return total
