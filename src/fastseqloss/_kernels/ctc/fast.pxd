"""The fast path: exponents of states are fixed for several frames at a time."""

from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memcpy

from fastseqloss._kernels.ctc.labels cimport PAD, STATES, first_alive, first_unreached
from fastseqloss._kernels.ctc.sequence cimport (
    GRADIENT, POSTERIORS, PROBS, Sequence, close_frame, close_states, collect, copy_state, emit_frame, fill,
    first_alphas, open_frame, row,
)
from fastseqloss._kernels.lattice.extended_range cimport (
    BUDGET, DEAD, WINDOW, change_exponents, larger_exponent, pow2,
)
from fastseqloss._kernels.parallel.workspace cimport round_up


cdef extern from "ctc/lattice.h" nogil:
    int refresh "fsl_ctc_refresh"(double *b, double *l, const double *eb, const double *el, double *eb_new,
                                  double *el_new, Py_ssize_t lo, Py_ssize_t hi, int window, double *scratch0,
                                  double *scratch1) noexcept
    int factors "fsl_ctc_factors"(const double *eb, double *el, const float *skip, double *lb, double *bl, double *ll,
                                  Py_ssize_t lo, Py_ssize_t hi) noexcept
    void spread "fsl_ctc_spread"(const int32_t *u, const double *y, double *e, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void forward "fsl_ctc_forward"(const double *b, const double *l, double *b_out, double *l_out, const double *lb,
                                   const double *bl, const double *ll, const double *e, double blank,
                                   Py_ssize_t lo, Py_ssize_t hi) noexcept
    double backward "fsl_ctc_backward"(double *qb, double *ql, const double *b, const double *l, const double *lb,
                                       const double *bl, const double *ll, const double *e, double blank,
                                       double *post, double *post_b, Py_ssize_t lo, Py_ssize_t hi) noexcept


cdef inline Py_ssize_t window_from(Sequence *s, Py_ssize_t t, Py_ssize_t stop) noexcept nogil:
    """Number of steps from frame t that the emissions allow without a refresh."""
    cdef double spent = 0
    cdef Py_ssize_t steps = 0
    while steps < WINDOW and t + steps < stop:
        spent += s.cost[t + steps + 1]
        if spent > BUDGET:
            break
        steps += 1
    return steps


cdef inline Py_ssize_t forward_block(Sequence *s, Py_ssize_t start, Py_ssize_t stop, bint keep, Py_ssize_t cone_lo,
                                     Py_ssize_t cone_hi) noexcept nogil:
    """Run the steps from frame `start`, whose alphas are row 0, to frame `stop`.

    All rows are kept, or the last two only. The function computes only states that can reach the labels from `cone_lo`
    to `cone_hi` by frame `stop`. Returns the number of segments, each with its own exponents, or -1 if the sequence
    requires the general path.
    """
    cdef Py_ssize_t t = start, k = 0, r = 0, lo, hi, filled = s.graph.size, steps, _step
    cdef double *b
    cdef double *l
    cdef double *eb
    cdef double *el
    cdef double *e
    cdef double *y
    while t < stop:
        steps = window_from(s, t, stop)
        if steps == 0:
            return -1
        lo = max(first_alive(&s.graph, s.frames - 1 - t), cone_lo - (stop - t), 0) // STATES * STATES
        hi = min(round_up(first_unreached(&s.graph, t + steps) + 1, STATES), cone_hi)
        lo = min(lo, hi - STATES)
        b, l = row(s, s.rows, r, 0), row(s, s.rows, r, 1)
        eb, el = row(s, s.exponents, k, 0), row(s, s.exponents, k, 1)
        if filled < hi:
            fill(b + filled, hi - filled, 0)
            fill(l + filled, hi - filled, 0)
            fill(eb + filled, hi - filled, DEAD)
            fill(el + filled, hi - filled, DEAD)
        filled = hi
        k += 1
        if refresh(b, l, eb, el, row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), lo, hi, <int> steps,
                   s.scratch + PAD, s.scratch + s.graph.width + PAD):
            return -1
        if factors(row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), s.graph.skip + PAD, s.lb + PAD, s.bl + PAD,
                   s.ll + PAD, lo, hi):
            return -1
        for _step in range(steps):
            l[lo - 1] = 0
            r = r + 1 if keep else 1 - r
            e = s.spread + r * s.graph.width + PAD
            y = s.y + (t + 1 - start) * s.emission_width
            spread(s.graph.u + PAD, y, e, lo, hi)
            forward(b, l, row(s, s.rows, r, 0), row(s, s.rows, r, 1), s.lb + PAD, s.bl + PAD, s.ll + PAD, e, y[0],
                    lo, hi)
            b, l = row(s, s.rows, r, 0), row(s, s.rows, r, 1)
            t += 1
        s.segment[3 * k] = t
        s.segment[3 * k + 1] = lo
        s.segment[3 * k + 2] = hi
    fill(row(s, s.rows, r, 0) + filled, s.graph.size - filled, 0)
    fill(row(s, s.rows, r, 1) + filled, s.graph.size - filled, 0)
    fill(row(s, s.exponents, k, 0) + filled, s.graph.size - filled, DEAD)
    fill(row(s, s.exponents, k, 1) + filled, s.graph.size - filled, DEAD)
    return k


cdef inline Py_ssize_t forward_sweep(Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Open every frame and run the alphas to the last frame.

    Returns the number of segments of the last block, whose rows are kept, or -1 for the general path.
    """
    cdef Py_ssize_t j, t, start, stop, k = 0, r = 0
    cdef bint keep
    cdef double *e0
    open_frame(s, x, g, 0, s.y)
    first_alphas(s, s.y[0], s.y[s.graph.u[PAD]])
    if s.cost[0] > BUDGET:
        k = -1
    for j in range(s.n_blocks):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        keep = s.with_grad and j == s.n_blocks - 1
        if j > 0:
            memcpy(s.y, s.y + s.block * s.emission_width, s.emission_width * sizeof(double))
        for t in range(start + 1, stop + 1):
            open_frame(s, x, g, t, s.y + (t - start) * s.emission_width)
        if k < 0 or s.is_nan:
            continue
        if j > 0:
            copy_state(s, s.rows, s.exponents, row(s, s.rows, r, 0) - PAD, row(s, s.exponents, k, 0) - PAD)
        if s.with_grad:
            e0 = s.checkpoints + 4 * j * s.graph.width
            copy_state(s, e0, e0 + 2 * s.graph.width, s.rows, s.exponents)
        k = forward_block(s, start, stop, keep, 0, s.graph.size)
        r = stop - start if keep else (stop - start) % 2
    return k


cdef struct Band:
    Py_ssize_t lo, hi


cdef inline bint is_zero(const double *qb, const double *ql, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t k
    cdef double total = 0
    for k in range(i, i + STATES):
        total += qb[k] + ql[k]
    return total == 0


cdef inline void trim(Sequence *s, Band *band) noexcept nogil:
    """Shrink the band by whole vectors of states whose betas have been cut off."""
    while band.lo < band.hi and is_zero(s.qb + PAD, s.ql + PAD, band.lo):
        band.lo += STATES
    while band.lo < band.hi and is_zero(s.qb + PAD, s.ql + PAD, band.hi - STATES):
        band.hi -= STATES


cdef inline void close_fast(Sequence *s, floating *g, Py_ssize_t t, double blank_post, Band band,
                            const double *y) noexcept nogil:
    cdef Py_ssize_t k
    if s.output != GRADIENT:
        close_states(s, g, t, 1, band.lo, band.hi)
        return
    collect(s, blank_post, band.lo, band.hi)
    if s.input == PROBS:
        for k in range(s.graph.used):
            s.class_post[k] /= y[k]
    close_frame(s, g, t, y)


cdef inline Band last_betas(Sequence *s, floating *g, Py_ssize_t r, Py_ssize_t k, const double *y) noexcept nogil:
    """Posteriors of the last frame, which are nonzero at the last label and the last blank only."""
    cdef Py_ssize_t n = s.graph.n_labels, last = s.graph.n_labels - 1
    cdef double b = row(s, s.rows, r, 0)[n], eb = row(s, s.exponents, k, 0)[n], l = 0, el = DEAD, unit, total
    cdef Band band
    if n:
        l, el = row(s, s.rows, r, 1)[last], row(s, s.exponents, k, 1)[last]
    unit = larger_exponent(b, eb, l, el)
    total = b * pow2(eb - unit) + l * pow2(el - unit)
    fill(s.qb, s.graph.width, 0)
    fill(s.ql, s.graph.width, 0)
    band.lo, band.hi = max(last, 0) // STATES * STATES, round_up(n + 1, STATES)
    fill(s.post + PAD + band.lo, band.hi - band.lo, 0)
    fill(s.post_b + PAD + band.lo, band.hi - band.lo, 0)
    if n and l > 0:
        s.ql[PAD + last] = pow2(el - unit) / total
        s.post[PAD + last] = l * s.ql[PAD + last]
        s.ql[PAD + last] *= y[s.graph.u[PAD + last]]
    if b > 0:
        s.qb[PAD + n] = pow2(eb - unit) / total
        b *= s.qb[PAD + n]
        s.post_b[PAD + n] = b
        s.qb[PAD + n] *= y[0]
    close_fast(s, g, s.frames - 1, b, band, y)
    return band


cdef inline Band backward_block(Sequence *s, floating *g, Py_ssize_t start, Py_ssize_t k, Band band) noexcept nogil:
    """Close the frames of a block, last to first, from its rows and `k` segments."""
    cdef Py_ssize_t t = s.segment[3 * k], first, seg_lo, seg_hi
    cdef double *y
    cdef double *e
    cdef double blank_post
    while k > 0:
        first = start if k == 1 else s.segment[3 * k - 3]
        seg_lo, seg_hi = s.segment[3 * k + 1], s.segment[3 * k + 2]
        factors(row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), s.graph.skip + PAD, s.lb + PAD, s.bl + PAD,
                s.ll + PAD, seg_lo, seg_hi)
        while t > first:
            t -= 1
            y = s.y + (t - start) * s.emission_width
            if band.lo > seg_lo and s.qb[PAD + band.lo] + s.ql[PAD + band.lo] != 0:
                band.lo -= STATES
            e = s.spread + (t - start) * s.graph.width + PAD
            if t == start:
                spread(s.graph.u + PAD, y, e, band.lo, band.hi)
            blank_post = backward(s.qb + PAD, s.ql + PAD, row(s, s.rows, t - start, 0), row(s, s.rows, t - start, 1),
                                  s.lb + PAD, s.bl + PAD, s.ll + PAD, e, y[0], s.post + PAD,
                                  s.post_b + PAD if s.output == POSTERIORS else NULL, band.lo, band.hi)
            trim(s, &band)
            close_fast(s, g, t, blank_post, band, y)
        convert_band(s, k, k - 1, band)
        k -= 1
    return band


cdef inline void convert_band(Sequence *s, Py_ssize_t source, Py_ssize_t to, Band band) noexcept nogil:
    change_exponents(s.qb + PAD, row(s, s.exponents, source, 0), row(s, s.exponents, to, 0), band.lo, band.hi)
    change_exponents(s.ql + PAD, row(s, s.exponents, source, 1), row(s, s.exponents, to, 1), band.lo, band.hi)


cdef inline bint backward_sweep(Sequence *s, const floating *x, floating *g, Py_ssize_t k) noexcept nogil:
    """Close all frames; k is the result of forward_sweep. Returns False for the general path."""
    cdef Py_ssize_t j, t, start = (s.n_blocks - 1) * s.block, stop
    cdef double *checkpoint
    cdef double shift
    cdef Band band = last_betas(s, g, s.frames - 1 - start, k, s.y + (s.frames - 1 - start) * s.emission_width)
    if s.frames == 1:
        return True
    band = backward_block(s, g, start, k, band)
    for j in range(s.n_blocks - 2, -1, -1):
        start, stop = j * s.block, (j + 1) * s.block
        for t in range(start, stop + 1):
            emit_frame(s, x, t, s.y + (t - start) * s.emission_width, &shift)
        checkpoint = s.checkpoints + 4 * j * s.graph.width
        copy_state(s, s.rows, s.exponents, checkpoint, checkpoint + 2 * s.graph.width)
        k = forward_block(s, start, stop, True, band.lo, band.hi)
        if k < 0:
            return False
        checkpoint = s.checkpoints + 4 * (j + 1) * s.graph.width
        change_exponents(s.qb + PAD, checkpoint + 2 * s.graph.width + PAD, row(s, s.exponents, k, 0), band.lo, band.hi)
        change_exponents(s.ql + PAD, checkpoint + 3 * s.graph.width + PAD, row(s, s.exponents, k, 1), band.lo, band.hi)
        band = backward_block(s, g, start, k, band)
    return True
