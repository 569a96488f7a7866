"""A long sequence in two halves: alphas from the start and, reversed, from the end, which meet in the middle.

The alphas of a half, where they meet, are the betas of the other. The halves are independent but for this exchange: two
workers may run them, and one worker runs them in turn, with the same result.
"""

from cython cimport floating
from libc.math cimport INFINITY, isnan
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

from fastseqloss._kernels.ctc.labels cimport lay_out_labels, reverse_labels
from fastseqloss._kernels.ctc.sequence cimport OCCUPATION, POSTERIORS, Sequence, open_frame
from fastseqloss._kernels.ctc.striped cimport (
    again, backward_sweep, check_bound, checks_first, exponents_of, forward_sweep, last_row, return_occupation,
)
from fastseqloss._kernels.ctc.stripes cimport Striped, Stripes, lay_out_striped, set_stripes
from fastseqloss._kernels.ctc.tiles cimport FRAMES, MOST_CLASSES, add_logs
from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.parallel.workspace cimport size_product, size_sum, take
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64


cdef extern from "ctc/halves.h" nogil:
    void join "fsl_ctc_join"(const Stripes *s, double *row, Py_ssize_t lo, Py_ssize_t hi, const Stripes *other,
                             double *other_row, Py_ssize_t other_lo, Py_ssize_t other_hi, Py_ssize_t n_labels,
                             double *sum, double *unit) noexcept

cdef enum:
    LONG = 1 << 22       # bytes of alphas, and of scores of many classes, from which a sequence is run in halves
    LEAST_FRAMES = 64    # of such a sequence


cdef struct Half:
    Sequence s
    Striped z
    Py_ssize_t k         # segments of the last block, or -1
    Py_ssize_t start     # first frame, counted from the start of the sequence
    bint good


cdef struct Halves:
    Half half[2]


cdef inline bint is_long(const Sequence *s) noexcept nogil:
    """Return True if a sequence is run in halves."""
    cdef size_t row = 2 * (s.graph.n_labels + 1) * sizeof(double)
    if s.n_classes > MOST_CLASSES:
        row = size_sum(row, size_product(s.n_classes, sizeof(float)))
    return s.frames >= LEAST_FRAMES and s.output != POSTERIORS and size_product(s.frames, row) > <size_t> LONG


cdef inline uintptr_t lay_out_halves(Halves *halves, const Sequence *s, Py_ssize_t itemsize,
                                     uintptr_t base) noexcept nogil:
    """Lay out the arrays of both halves from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Half *front = &halves.half[0]
    cdef Half *back = &halves.half[1]
    cdef Py_ssize_t middle = s.frames // 2 // FRAMES * FRAMES, frames = s.frames - middle
    cdef Py_ssize_t most = min(s.graph.n_labels + 1, s.n_classes)
    front.s, back.s = s[0], s[0]
    front.start, back.start = 0, s.frames - 1
    lay_out_labels(&back.s.graph, most, &cursor)
    back.s.coefficient = <double *> take(&cursor, frames, sizeof(double))
    back.s.cost = <double *> take(&cursor, frames, sizeof(double))
    back.s.stash = take(&cursor, frames if s.in_place else 0, most * itemsize)
    back.s.score = <double *> take(&cursor, s.emission_width, sizeof(double))
    cursor = lay_out_striped(&front.z, &front.s, middle, cursor)
    return lay_out_striped(&back.z, &back.s, frames, cursor)


cdef inline void begin_halves(Halves *halves, const Sequence *s, Py_ssize_t itemsize) noexcept nogil:
    """Set up both halves of a sequence whose labels have been set."""
    cdef Sequence *back = &halves.half[1].s
    lay_out_halves(halves, s, itemsize, s.after_frames)
    reverse_labels(&back.graph, &s.graph)
    back.x_stride, back.g_stride = -s.x_stride, -s.g_stride
    halves.half[0].z.other, halves.half[1].z.other = &halves.half[1].z, &halves.half[0].z
    halves.half[1].z.reversed = True


cdef inline floating *gradient_of(const Half *half, floating *g) noexcept nogil:
    return g - half.start * half.s.g_stride if half.start and half.s.with_grad else g


cdef inline const floating *scores_of(const Half *half, const floating *x) noexcept nogil:
    return x - half.start * half.s.x_stride if half.start else x


cdef inline void forward_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Run the alphas of a half."""
    cdef Striped *z = &half.z
    cdef Py_ssize_t row = z.stripes.row, size = z.stripes.size
    set_stripes(z, &half.s)
    half.k = forward_sweep(z, &half.s, scores_of(half, x), gradient_of(half, g))
    half.good = half.k >= 0
    if half.good:
        add_logs(&z.tiles)
        half.good = not (half.s.is_nan or isnan(z.tiles.log_norm))
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
        total[0] = log_extended(front.total, front.unit) if front.total > 0 else -INFINITY


cdef inline void check_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Check that beta is bounded, if nothing may be written before."""
    if half.z.total > 0 and checks_first(&half.z, &half.s):
        half.good = check_bound(&half.z, &half.s, scores_of(half, x), gradient_of(half, g), half.k, half.z.total)
        half.k = again(&half.z, half.k)


cdef inline void backward_half(Half *half, const floating *x, floating *g) noexcept nogil:
    """Write the gradient of a half, unless no path connects the halves."""
    if half.s.with_grad and half.z.total > 0:
        half.good = backward_sweep(&half.z, &half.s, scores_of(half, x), gradient_of(half, g), half.k, half.z.total)


cdef inline void open_rest(Half *half, Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Open the frames that are left of a refused half, and copy what the frames have set to the sequence."""
    cdef Py_ssize_t t, at, used = s.graph.used
    cdef floating *kept = <floating *> s.stash
    cdef const floating *stash = <floating *> half.s.stash
    for t in range(half.s.opened, half.z.tiles.frames):
        open_frame(&half.s, scores_of(half, x), gradient_of(half, g), t, <double *> half.z.tiles.scratch)
    if half.start:  # else the arrays are those of the sequence
        for t in range(half.z.tiles.frames):
            at = half.start - t
            s.coefficient[at], s.cost[at] = half.s.coefficient[t], half.s.cost[t]
            if s.in_place:
                memcpy(kept + at * used, stash + t * used, used * sizeof(floating))


cdef inline bint finish_halves(Halves *halves, Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Add the logs of the divisors; False if another path must compute the sequence."""
    cdef Half *half
    cdef Py_ssize_t i
    cdef bint gathered = halves.half[0].z.tiles.gathered
    agree(halves)
    for i in range(2):
        half = &halves.half[i]
        if gathered and not half.good:
            open_rest(half, s, x, g)
            s.opened = s.frames
        if gathered or half.good:
            s.is_nan |= half.s.is_nan
            add_exactly(&s.log_norm, &s.log_rest, half.s.log_norm)
            add_exactly(&s.log_norm, &s.log_rest, half.s.log_rest)
            add_exactly(&s.log_norm, &s.log_rest, log64(half.s.norm_product))
            add_exactly(&s.log_norm, &s.log_rest, half.z.tiles.log_norm)
            add_exactly(&s.log_norm, &s.log_rest, half.z.tiles.log_rest)
        if s.output == OCCUPATION and half.good:
            return_occupation(&half.z, s)
    return halves.half[0].good


cdef inline bint run_halves(Halves *halves, Sequence *s, const floating *x, floating *g,
                            double *total) noexcept nogil:
    """Log-likelihood of the lattice, and the gradient; False if another path must compute them."""
    begin_halves(halves, s, sizeof(floating))
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
    return finish_halves(halves, s, x, g)
