"""Durations of a token-and-duration transducer: logits in, gradients out, and the lattice in between."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.lattice.extended_range cimport DEAD
from fastseqloss._kernels.lattice.grid cimport Grid
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.elements cimport Array, load, store
from fastseqloss._kernels.transducer.nodes cimport HUGE, Sequence, log_weights


cdef extern from "transducer/durations.h" nogil:
    ctypedef struct DurationLattice "fsl_tdt":
        Py_ssize_t n, frames, arcs
        const int64_t *durations
        double *node
        double *node_e
        double *q
        double *q_e
        double *scratch
        double *ends
    int duration_softmax "fsl_tdt_softmax"(const double *x, Py_ssize_t nodes, Py_ssize_t n, double huge, double *m,
                                           double *e, double *scratch) noexcept
    double duration_forward "fsl_tdt_forward"(const DurationLattice *s, const Grid *grid) noexcept
    void duration_backward "fsl_tdt_backward"(const DurationLattice *s, const Grid *grid) noexcept


# Arguments of a call; n is 0 without durations.
cdef struct Durations:
    Py_ssize_t n
    const int64_t *values
    Array x, g                  # logits and gradient [B, T, U+1, n]; g.data may be NULL
    Py_ssize_t size             # bytes of a logit
    double sigma                # minus the logarithm of a factor of every arc


cdef inline uintptr_t lay_out_durations(const Durations *d, DurationLattice *s, Py_ssize_t frames, Py_ssize_t n_labels,
                                        uintptr_t base) noexcept nogil:
    """Lay out the arrays of a sequence from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef size_t arcs = size_product(frames, n_labels + 1)
    memset(s, 0, sizeof(DurationLattice))
    s.n, s.frames, s.arcs, s.durations = d.n, frames, <Py_ssize_t> arcs, d.values
    if d.n == 0:
        return cursor
    s.node = <double *> take(&cursor, arcs, sizeof(double))
    s.node_e = <double *> take(&cursor, arcs, sizeof(double))
    s.q = <double *> take(&cursor, arcs, size_product(d.n, sizeof(double)))
    s.q_e = <double *> take(&cursor, arcs, size_product(d.n, sizeof(double)))
    s.scratch = <double *> take(&cursor, n_labels + 1, size_product(3 + 3 * d.n, sizeof(double)))
    s.ends = <double *> take(&cursor, d.n, sizeof(double))
    return cursor


cdef inline double *logits_of(const DurationLattice *s, const Grid *grid) noexcept nogil:
    """Buffer of three times the logits of a frame, behind the scratch of the lattice."""
    return s.scratch + 3 * (grid.end + 1)


cdef inline char *node_of(const Array *x, Py_ssize_t b, Py_ssize_t t, Py_ssize_t u) noexcept nogil:
    return x.data + b * x.strides[0] + t * x.strides[1] + u * x.strides[2]


cdef inline void read_durations(const Durations *d, DurationLattice *s, Sequence *sequence) noexcept nogil:
    """Probabilities of the durations of a sequence; notes NaN or inf, and huge logits."""
    cdef Py_ssize_t t, u, k, at, nodes = sequence.grid.end + 1
    cdef bint together = d.x.strides[2] == d.n * d.size
    cdef double *x = logits_of(s, &sequence.grid)
    cdef double *m = x + d.n * nodes
    cdef double *e = m + d.n * nodes
    cdef int state
    for t in range(s.frames):
        for u in range(1 if together else nodes):
            load(d.x.kind, node_of(&d.x, sequence.b, t, u), d.size, d.n * nodes if together else d.n, x + u * d.n)
        state = duration_softmax(x, nodes, d.n, HUGE, m, e, s.scratch)
        sequence.is_nan |= state == 1
        sequence.is_huge |= state == 2
        for u in range(nodes):
            at = sequence.grid.at[t + u] + u
            for k in range(d.n):
                s.q[k * s.arcs + at], s.q_e[k * s.arcs + at] = m[k * nodes + u], e[k * nodes + u]
    sequence.is_huge |= d.sigma > HUGE


cdef inline void apply_sigma(const Durations *d, const DurationLattice *s, Grid *grid) noexcept nogil:
    """Multiply the weights of all arcs by exp(-sigma)."""
    cdef double z = -d.sigma, weight, weight_e
    cdef Py_ssize_t at
    log_weights(1, &z, &weight, &weight_e)
    for at in range(s.arcs if z else 0):
        grid.blank[at] *= weight
        grid.blank_e[at] = max(grid.blank_e[at] + weight_e, DEAD)
        grid.label[at] *= weight
        grid.label_e[at] = max(grid.label_e[at] + weight_e, DEAD)


cdef inline void put_durations(const Durations *d, const DurationLattice *s, const Grid *grid, Py_ssize_t b,
                               double scale) noexcept nogil:
    """Gradient of sequence b times scale, after the backward sweep; 0 in the padding."""
    cdef Py_ssize_t t, u, k, at, nodes = grid.end + 1
    cdef bint together = d.g.strides[2] == d.n * d.size
    cdef double *x = logits_of(s, grid)
    clear_durations(d, b, s.frames, nodes)
    for t in range(s.frames):
        for u in range(nodes):
            at = grid.at[t + u] + u
            for k in range(d.n):
                x[u * d.n + k] = scale * s.q[k * s.arcs + at]
        for u in range(1 if together else nodes):
            store(d.g.kind, x + u * d.n, 1.0, d.n * nodes if together else d.n, node_of(&d.g, b, t, u), d.size)


cdef inline void fill_durations(const Durations *d, Py_ssize_t b, Py_ssize_t frames, Py_ssize_t nodes,
                                double value) noexcept nogil:
    """Gradient `value` in the given frames and nodes of sequence b, 0 in the padding."""
    cdef Py_ssize_t t, u, k
    clear_durations(d, b, frames, nodes)
    for t in range(frames):
        for u in range(nodes):
            for k in range(d.n):
                store(d.g.kind, &value, 1.0, 1, node_of(&d.g, b, t, u) + k * d.size, d.size)


cdef inline void clear_durations(const Durations *d, Py_ssize_t b, Py_ssize_t frames, Py_ssize_t nodes) noexcept nogil:
    """Gradient 0 of sequence b outside of the given frames and nodes."""
    cdef Py_ssize_t t, u
    for t in range(d.g.shape[1]):
        for u in range(nodes if t < frames else 0, d.g.shape[2]):
            memset(node_of(&d.g, b, t, u), 0, d.n * d.size)
