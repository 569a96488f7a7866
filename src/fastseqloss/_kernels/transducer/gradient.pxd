"""Gradient of a transducer's scores from the exponentials and the occupancies of the arcs."""

from cython cimport floating
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, NAN, fabs
from libc.string cimport memset

from fastseqloss._kernels.codes cimport LOGITS
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, load, store
from fastseqloss._kernels.simd.rows cimport load_max, row_exp
from fastseqloss._kernels.simd.softmax cimport exp64
from fastseqloss._kernels.transducer.dense cimport dense_scale, dense_zeros, dense_zeros_end
from fastseqloss._kernels.transducer.nodes cimport (
    Problem, Sequence, first_lattice_column, first_scored_column, last_lattice_column, position,
)


# ---- rows -----------------------------------------------------------------------------------

cdef inline void put_zeros(const Problem *p, char *g) noexcept nogil:
    if p.streams:
        dense_zeros(g, p.n_classes * p.size)
    else:
        memset(g, 0, p.n_classes * p.size)


cdef inline void put_arcs(const Problem *p, char *g, double blank_slope, Py_ssize_t label, double label_slope,
                          floating tag) noexcept nogil:
    """Row of the gradient with respect to log-probabilities or probabilities: only the arcs' classes count."""
    cdef floating at_blank = <floating> blank_slope, at_label = <floating> label_slope
    memset(g, 0, p.n_classes * p.size)
    store(p.x.kind, &at_blank, 1, 1, g + p.blank * p.size, p.size)
    if label >= 0:
        store(p.x.kind, &at_label, 1, 1, g + label * p.size, p.size)


cdef inline double exponentials_again(const Problem *p, const char *x, floating *row,
                                      double *blank_logit) noexcept nogil:
    """Row of exponentials of half precision, whose storage has no room for them; returns their sum."""
    cdef floating m
    load(p.x.kind, x, p.size, p.n_classes, row)
    blank_logit[0] = row[p.blank]
    if p.hat:
        row[p.blank] = -INFINITY
    m = load_max(FLOAT32 if floating is float else FLOAT64, <const char *> row, p.n_classes, row)
    return row_exp(<const floating *> row, p.n_classes, m, row, x + p.x.strides[2], NULL, p.size)


cdef inline double finite(double x) noexcept nogil:
    return min(x, DBL_MAX)


cdef inline void differentiate(const Problem *p, floating *e, double sums, double blank_logit, Py_ssize_t label,
                               double b, double l, const floating *next_row) noexcept nogil:
    """Turn a row of exponentials into the gradient, for the scaled occupancies b and l of its arcs.

    Only a HAT takes the logit of the blank. The next row is prefetched.
    """
    cdef double factor = 0, at_blank, at_label = 0, below
    if sums > 0:
        factor = finite((l if p.hat else b + l) / sums)
    at_blank = factor * e[p.blank] - b
    if label >= 0:
        at_label = factor * e[label] - l
    if p.hat:
        below = exp64(-fabs(blank_logit))
        at_blank = (l - b * below if blank_logit >= 0 else l * below - b) / (1 + below)
    dense_scale(e, p.n_classes, factor, next_row)
    e[p.blank] = <floating> at_blank
    if label >= 0:
        e[label] = <floating> at_label


cdef inline void close_row(const Problem *p, const Sequence *s, double scale, double label_factor, Py_ssize_t at,
                           Py_ssize_t label, const char *x, char *g, floating *buffer) noexcept nogil:
    """Gradient of the row of a node whose arcs are at position `at`; label is -1 in the last column."""
    cdef double b = s.grid.blank[at], l = label_factor * s.grid.label[at], sums, blank_logit = 0
    cdef floating *row = <floating *> g
    if p.input != LOGITS:
        put_arcs(p, g, -scale * b, label, -scale * l, <floating> 0)
    elif b + l < 2.0 ** -120:  # negligible beside other rows
        put_zeros(p, g)
    elif p.native:
        sums = 1 + fabs((<floating *> s.rest)[at])
        differentiate(p, row, sums, row[p.blank], label, finite(scale * b), finite(scale * l),
                      <const floating *> (g + p.ahead))
    else:
        sums = exponentials_again(p, x, buffer, &blank_logit)
        differentiate(p, buffer, sums, blank_logit, label, finite(scale * b), finite(scale * l), buffer)
        store(p.x.kind, buffer, 1, p.n_classes, g, p.size)


cdef inline void put_nan(const Problem *p, char *g, floating *buffer) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(p.n_classes):
        buffer[c] = <floating> NAN
    store(p.x.kind, buffer, 1, p.n_classes, g, p.size)


# ---- sequences ------------------------------------------------------------------------------

cdef inline void close_frames(const Problem *p, const Sequence *s, double scale, double label_factor, Py_ssize_t start,
                              Py_ssize_t stop, floating *buffer) noexcept nogil:
    """Gradient of frames `start` to `stop` - 1 times scale, padding included.

    `label_factor` multiplies the occupancies of labels.
    """
    cdef Py_ssize_t t, u, shift, lo, hi, label, x_step = p.x.strides[2], g_step = p.g.strides[2]
    cdef const char *x
    cdef char *g
    for t in range(start, min(stop, p.n_frames)):
        lo, hi, shift = 0, -1, 0
        if t < s.frames and (s.has_path or s.is_nan):
            lo, hi, shift = first_lattice_column(p, s, t), last_lattice_column(p, s, t), first_scored_column(s, t)
        x = p.x.data + s.b * p.x.strides[0] + t * p.x.strides[1]
        g = p.g.data + s.b * p.g.strides[0] + t * p.g.strides[1]
        for u in range(shift, shift + p.width):
            if not lo <= u <= hi:
                put_zeros(p, g)
            elif s.is_nan:
                put_nan(p, g, buffer)
            else:
                label = s.labels[u] if u < s.n_labels else -1
                close_row(p, s, scale, label_factor, position(p, s, t, u), label, x, g, buffer)
            x, g = x + x_step, g + g_step
    if p.streams:
        dense_zeros_end()


cdef inline void put_occupancies(const Problem *p, const Sequence *s, double *blank, double *label) noexcept nogil:
    """Occupancies of a sequence; those of other columns and frames are 0 already."""
    cdef Py_ssize_t t, u, at, to
    for t in range(s.frames if s.has_path or s.is_nan else 0):
        for u in range(first_lattice_column(p, s, t), last_lattice_column(p, s, t) + 1):
            at, to = position(p, s, t, u), (s.b * p.n_frames + t) * p.width + u - first_scored_column(s, t)
            blank[to], label[to] = s.grid.blank[at], s.grid.label[at]
            if s.is_nan:
                blank[to] = label[to] = NAN
