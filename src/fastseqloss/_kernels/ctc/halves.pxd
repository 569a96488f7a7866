"""A long sequence in two halves: alphas from the start and, reversed, from the end, which meet in the middle.

The alphas of a half, where they meet, are the betas of the other. The halves are independent but for this exchange: two
workers may run them, and one worker runs them in turn, with the same result.
"""

from cython cimport floating
from libc.math cimport isnan
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

from fastseqloss._kernels.codes cimport PROBS
from fastseqloss._kernels.ctc.labels cimport lay_out_labels, set_labels
from fastseqloss._kernels.ctc.sequence cimport Sequence
from fastseqloss._kernels.ctc.striped cimport (
    again, backward_sweep, check_bound, checks_first, exponents_of, forward_sweep, last_row,
)
from fastseqloss._kernels.ctc.stripes cimport Striped, Stripes, lay_out_striped, set_stripes
from fastseqloss._kernels.ctc.tiles cimport FRAMES, MOST_CLASSES, add_logs
from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly


cdef extern from "ctc/stripes.h" nogil:
    void join "fsl_ctc_stripe_join"(const Stripes *s, double *row, Py_ssize_t lo, Py_ssize_t hi, const Stripes *other,
                                    double *other_row, Py_ssize_t other_lo, Py_ssize_t other_hi, Py_ssize_t n_labels,
                                    double *sum, double *unit) noexcept

cdef enum:
    LONG = 1 << 22       # bytes of alphas from which a sequence is run in halves
    LEAST_FRAMES = 64    # of such a sequence


cdef struct Half:
    Sequence s
    Striped z
    Py_ssize_t k         # segments of the last block, or -1
    Py_ssize_t start     # first frame, counted from the start of the sequence
    bint good


cdef struct Halves:
    Half half[2]
    int64_t *reversed    # labels, last to first


cdef inline bint is_long(const Sequence *s) noexcept nogil:
    """Return True if a sequence is run in halves."""
    cdef size_t row = 2 * (s.graph.n_labels + 1) * sizeof(double)
    return (s.frames >= LEAST_FRAMES and s.n_classes <= MOST_CLASSES and s.input != PROBS and not s.by_state
            and size_product(s.frames, row) > <size_t> LONG)


cdef inline uintptr_t lay_out_halves(Halves *halves, const Sequence *s, uintptr_t base) noexcept nogil:
    """Lay out the arrays of both halves from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Half *front = &halves.half[0]
    cdef Half *back = &halves.half[1]
    cdef Py_ssize_t middle = s.frames // 2 // FRAMES * FRAMES
    front.s, back.s = s[0], s[0]
    halves.reversed = <int64_t *> take(&cursor, s.graph.n_labels, sizeof(int64_t))
    lay_out_labels(&back.s.graph, min(s.graph.n_labels + 1, s.n_classes), &cursor)
    front.start, back.start = 0, s.frames - 1
    cursor = lay_out_striped(&front.z, &front.s, middle, cursor)
    return lay_out_striped(&back.z, &back.s, s.frames - middle, cursor)


cdef inline void begin_halves(Halves *halves, Sequence *s, const int64_t *labels) noexcept nogil:
    """Set up both halves of a sequence whose labels have been set."""
    cdef Py_ssize_t i, n = s.graph.n_labels
    cdef Sequence *back = &halves.half[1].s
    lay_out_halves(halves, s, s.after_frames)
    for i in range(n):
        halves.reversed[i] = labels[n - 1 - i]
    set_labels(&back.graph, halves.reversed, s.blank)
    back.x_stride, back.g_stride = -s.x_stride, -s.g_stride
    halves.half[0].z.other, halves.half[1].z.other = &halves.half[1].z, &halves.half[0].z


cdef inline floating *gradient_of(const Half *half, floating *g) noexcept nogil:
    return g + half.start * (-half.s.g_stride) if half.start and half.s.with_grad else g


cdef inline const floating *scores_of(const Half *half, const floating *x) noexcept nogil:
    return x + half.start * (-half.s.x_stride) if half.start else x


cdef inline void forward_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Run the alphas of a half."""
    cdef Striped *z = &half.z
    cdef Py_ssize_t row = z.stripes.row, size = z.stripes.size
    set_stripes(z, &half.s)
    half.k = forward_sweep(z, &half.s, scores_of(half, x), gradient_of(half, g))
    half.good = half.k >= 0
    if half.good:
        add_logs(&z.tiles)
        half.good = not isnan(z.tiles.log_norm)
        memcpy(z.last_alphas, last_row(z, z.n_blocks - 1), row * sizeof(double))
        memcpy(z.last_alphas + row, exponents_of(z, half.k), size * sizeof(double))
        z.last_lo, z.last_hi = z.segment[half.k].lo, z.segment[half.k].hi


cdef inline void agree(Halves *halves) noexcept nogil:
    """Both halves are good, or none."""
    halves.half[0].good = halves.half[1].good = halves.half[0].good and halves.half[1].good


cdef inline void join_halves(Halves *halves, const Sequence *s, double *total) noexcept nogil:
    """Log-likelihood of the lattice, after the alphas of both halves."""
    cdef Striped *front = &halves.half[0].z
    cdef Striped *back = &halves.half[1].z
    agree(halves)
    if halves.half[0].good:
        join(&front.stripes, front.last_alphas, front.last_lo, front.last_hi, &back.stripes, back.last_alphas,
             back.last_lo, back.last_hi, s.graph.n_labels, &front.total, &front.unit)
        back.total, back.unit = front.total, front.unit
        total[0] = log_extended(front.total, front.unit)
        halves.half[0].good = halves.half[1].good = front.total > 0


cdef inline void check_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Check that beta is bounded, if nothing may be written before."""
    if checks_first(&half.z, &half.s):
        half.good = check_bound(&half.z, &half.s, scores_of(half, x), gradient_of(half, g), half.k, half.z.total)
        half.k = again(&half.z, half.k)


cdef inline void backward_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Write the gradient of a half."""
    if half.s.with_grad:
        half.good = backward_sweep(&half.z, &half.s, scores_of(half, x), gradient_of(half, g), half.k, half.z.total,
                                   True)


cdef inline bint finish_halves(Halves *halves, Sequence *s) noexcept nogil:
    """Add the logs of the divisors; False if another path must compute the sequence."""
    cdef Py_ssize_t i
    agree(halves)
    if not halves.half[0].good:
        return False
    for i in range(2):
        add_exactly(&s.log_norm, &s.log_rest, halves.half[i].z.tiles.log_norm)
        add_exactly(&s.log_norm, &s.log_rest, halves.half[i].z.tiles.log_rest)
    return True


cdef inline bint run_halves(Halves *halves, Sequence *s, const floating *x, floating *g, const int64_t *labels,
                            double *total) noexcept nogil:
    """Log-likelihood of the lattice, and the gradient; False if another path must compute them."""
    begin_halves(halves, s, labels)
    forward_half(&halves.half[0], x, g)
    forward_half(&halves.half[1], x, g)
    join_halves(halves, s, total)
    if halves.half[0].good:
        check_half(&halves.half[1], x, g)
        check_half(&halves.half[0], x, g)
        agree(halves)
    if halves.half[0].good:
        backward_half(&halves.half[1], x, g)
        backward_half(&halves.half[0], x, g)
    return finish_halves(halves, s)
