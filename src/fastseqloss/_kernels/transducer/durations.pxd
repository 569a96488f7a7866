"""Durations of a token-and-duration transducer: logits in, gradients out, and the lattice in between."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.lattice.extended_range cimport DEAD
from fastseqloss._kernels.lattice.grid cimport Grid
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.elements cimport Array, load, store


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
    bint duration_softmax "fsl_tdt_softmax"(const double *x, Py_ssize_t nodes, Py_ssize_t n, double *m, double *e,
                                            double *scratch) noexcept
    double duration_forward "fsl_tdt_forward"(const DurationLattice *s, const Grid *grid) noexcept
    void duration_backward "fsl_tdt_backward"(const DurationLattice *s, const Grid *grid) noexcept


cdef extern from "transducer/arcs.h" nogil:
    void log_weights "fsl_log_weights"(int n, const double *z, double *w, double *e) noexcept


# Arguments of a call; n is 0 without durations.
cdef struct Durations:
    Py_ssize_t n
    const int64_t *values
    Array x, g                  # logits and gradient [B, T, U+1, n]; g.data may be NULL
    Py_ssize_t size             # bytes of a logit
    double weight, weight_e     # factor of every arc, weight * 2^weight_e


cdef inline void set_factor(Durations *d, double log_weight) noexcept nogil:
    log_weights(1, &log_weight, &d.weight, &d.weight_e)


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


cdef inline bint read_durations(const Durations *d, DurationLattice *s, Grid *grid, Py_ssize_t b) noexcept nogil:
    """Probabilities of the durations of sequence b; returns True if there is NaN or inf."""
    cdef Py_ssize_t t, u, k, at, nodes = grid.end + 1
    cdef double *x = s.scratch + 3 * nodes
    cdef double *m = x + d.n * nodes
    cdef double *e = m + d.n * nodes
    cdef const char *row
    cdef bint bad = False
    for t in range(s.frames):
        row = d.x.data + b * d.x.strides[0] + t * d.x.strides[1]
        for u in range(nodes):
            load(d.x.kind, row + u * d.x.strides[2], d.size, d.n, x + u * d.n)
        bad |= duration_softmax(x, nodes, d.n, m, e, s.scratch)
        for k in range(d.n):
            for u in range(nodes):
                at = k * s.arcs + grid.at[t + u] + u
                s.q[at], s.q_e[at] = m[k * nodes + u], e[k * nodes + u]
    for at in range(s.arcs):
        grid.stay[at] *= d.weight
        grid.stay_e[at] = max(grid.stay_e[at] + d.weight_e, DEAD)
        grid.move[at] *= d.weight
        grid.move_e[at] = max(grid.move_e[at] + d.weight_e, DEAD)
    return bad


cdef inline void put_durations(const Durations *d, const DurationLattice *s, const Grid *grid, Py_ssize_t b,
                               double scale) noexcept nogil:
    """Gradient of sequence b times scale, after the backward sweep; 0 in the padding."""
    cdef Py_ssize_t t, u, k
    cdef double *row = s.scratch + 3 * (grid.end + 1)
    cdef char *g
    clear_durations(d, b, s.frames, grid.end + 1)
    for t in range(s.frames):
        for u in range(grid.end + 1):
            for k in range(d.n):
                row[k] = scale * s.q[k * s.arcs + grid.at[t + u] + u]
            g = d.g.data + b * d.g.strides[0] + t * d.g.strides[1] + u * d.g.strides[2]
            store(d.g.kind, row, 1.0, d.n, g, d.size)


cdef inline void fill_durations(const Durations *d, Py_ssize_t b, Py_ssize_t frames, Py_ssize_t nodes,
                                double value) noexcept nogil:
    """Gradient `value` in the given frames and nodes of sequence b, 0 in the padding."""
    cdef Py_ssize_t t, u, k
    cdef char *g
    clear_durations(d, b, frames, nodes)
    for t in range(frames):
        for u in range(nodes):
            g = d.g.data + b * d.g.strides[0] + t * d.g.strides[1] + u * d.g.strides[2]
            for k in range(d.n):
                store(d.g.kind, &value, 1.0, 1, g + k * d.size, d.size)


cdef inline void clear_durations(const Durations *d, Py_ssize_t b, Py_ssize_t frames, Py_ssize_t nodes) noexcept nogil:
    """Gradient 0 of sequence b outside of the given frames and nodes."""
    cdef Py_ssize_t t, u
    for t in range(d.g.shape[1]):
        for u in range(nodes if t < frames else 0, d.g.shape[2]):
            memset(d.g.data + b * d.g.strides[0] + t * d.g.strides[1] + u * d.g.strides[2], 0, d.n * d.size)
