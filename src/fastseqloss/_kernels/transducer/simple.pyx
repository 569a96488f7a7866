"""Transducer with an additive joiner, z[t, u] = am[t] + lm[u]: the steps around the matrix products, one sequence each.

With the exponentials a = exp(am - max) and l = exp(lm - max), the normalisers are N = a l^T; with the occupancies gamma of
the nodes, the gradient of am is a * ((gamma / N) l), less the occupancies of the arcs, and that of lm likewise. Where N is
too small for its digits, because am and lm disagree, a cell is computed by itself.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.lattice.extended_range cimport log_extended
from fastseqloss._kernels.lattice.grid cimport OCCUPANCIES, Grid, grid_backward, grid_forward, grid_rows, lay_out_grid
from fastseqloss._kernels.parallel.signals cimport advance
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product, take


cdef extern from "transducer/arcs.h" nogil:
    void softmax_weights "fsl_softmax_weights"(int n, const double *z, const double *m, const double *sums, double *w,
                                               double *e) noexcept


cdef extern from "transducer/simple.h" nogil:
    bint exps_f32 "fsl_simple_exps_f32"(const float *x, Py_ssize_t n, float *out, double *most) noexcept
    bint exps_f64 "fsl_simple_exps_f64"(const double *x, Py_ssize_t n, double *out, double *most) noexcept
    double cell_f32 "fsl_simple_cell_f32"(const float *am, double am_most, const float *lm, double lm_most,
                                          Py_ssize_t n, double *e, double *most) noexcept
    double cell_f64 "fsl_simple_cell_f64"(const double *am, double am_most, const double *lm, double lm_most,
                                          Py_ssize_t n, double *e, double *most) noexcept
    void gradient_f32 "fsl_simple_gradient_f32"(const float *product, const float *e, const double *more, Py_ssize_t n,
                                                double scale, float *out) noexcept
    void gradient_f64 "fsl_simple_gradient_f64"(const double *product, const double *e, const double *more,
                                                Py_ssize_t n, double scale, double *out) noexcept


# ---- exponentials -----------------------------------------------------------------------------


cdef void run_exps(const floating *x, Py_ssize_t stride, Py_ssize_t n, floating *out, double *most, Loop *loop,
                   int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, r
    cdef bint bad
    while next_items(loop, worker, &first, &last):
        for r in range(first, last):
            if floating is float:
                bad = exps_f32(x + r * stride, n, out + r * n, most + r)
            else:
                bad = exps_f64(x + r * stride, n, out + r * n, most + r)
            if bad:
                most[r] = NAN


def exponentials(const floating[:, :] scores, floating[:, ::1] out, double[::1] most, int num_threads):
    """out = exp(scores - max) by row, and the maxima.

    IN   scores [n, V], class axis contiguous, n >= 1.
    OUT  out [n, V], 0 below the normal numbers; most [n], 0 of a row of -inf, NaN of a row with NaN or inf.
    """
    cdef Loop loop
    cdef Py_ssize_t n = scores.shape[1], stride = scores.strides[0] // <Py_ssize_t> sizeof(floating)
    cdef const floating *x = &scores[0, 0]
    cdef floating *e = &out[0, 0]
    cdef double *m = &most[0]
    with nogil:
        begin(&loop, scores.shape[0], num_threads)
        while enter(&loop):
            with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
                run_exps(x, stride, n, e, m, &loop, threadid())
    check(loop.status, 0)


# ---- lattice ----------------------------------------------------------------------------------


cdef struct Joiner:
    # Arguments of a sequence; am and lm with elements between rows.
    Py_ssize_t n_frames, n_labels, n_classes, blank
    Py_ssize_t am_stride, lm_stride
    const double *am_most
    const double *lm_most
    const int64_t *labels
    double least  # normalisers below are computed by themselves
    bint modified
    # workspace
    Grid grid
    double *z_blank  # [n_labels + 1] each, of a frame
    double *z_label
    double *most
    double *sums
    double *weights  # [4, n_labels + 1]
    double *cell     # [n_classes]


cdef uintptr_t lay_out(Joiner *s, uintptr_t base) noexcept nogil:
    cdef uintptr_t cursor = base
    cdef Py_ssize_t nodes = s.n_labels + 1
    lay_out_grid(&s.grid, s.n_frames, s.n_labels, s.modified, nodes, OCCUPANCIES, &cursor)
    s.z_blank = <double *> take(&cursor, nodes, sizeof(double))
    s.z_label = <double *> take(&cursor, nodes, sizeof(double))
    s.most = <double *> take(&cursor, nodes, sizeof(double))
    s.sums = <double *> take(&cursor, nodes, sizeof(double))
    s.weights = <double *> take(&cursor, nodes, 4 * sizeof(double))
    s.cell = <double *> take(&cursor, s.n_classes, sizeof(double))
    return cursor


cdef inline double cell(const Joiner *s, const floating *am, const floating *lm, Py_ssize_t t, Py_ssize_t u,
                        double *e, double *most) noexcept nogil:
    """Normaliser of a cell by itself, relative to the sum of the maxima of am and lm plus `most`."""
    if floating is float:
        return cell_f32(am + t * s.am_stride, s.am_most[t], lm + u * s.lm_stride, s.lm_most[u], s.n_classes, e, most)
    else:
        return cell_f64(am + t * s.am_stride, s.am_most[t], lm + u * s.lm_stride, s.lm_most[u], s.n_classes, e, most)


cdef inline Py_ssize_t place(const Joiner *s, Py_ssize_t t, Py_ssize_t u) noexcept nogil:
    """Position of a node among the arcs of the grid, or -1 for one that no path crosses."""
    cdef Py_ssize_t n = t if s.modified else t + u
    return s.grid.at[n] + u if s.grid.first[n] <= u <= s.grid.last[n] else -1


cdef int weigh(Joiner *s, const floating *am, const floating *lm, const floating *norms) except -1 nogil:
    """Set the weights of the arcs."""
    cdef Py_ssize_t t, u, i, done = 0, nodes = s.n_labels + 1
    cdef const floating *a = am
    cdef double of_blank
    for t in range(s.n_frames):
        of_blank = <double> a[s.blank] - s.am_most[t]
        for u in range(nodes):
            s.z_blank[u] = of_blank + (<double> lm[u * s.lm_stride + s.blank] - s.lm_most[u])
            s.z_label[u] = -INFINITY
            s.most[u], s.sums[u] = 0, norms[t * nodes + u]
        for u in range(s.n_labels):
            s.z_label[u] = (<double> a[s.labels[u]] - s.am_most[t]) + \
                           (<double> lm[u * s.lm_stride + s.labels[u]] - s.lm_most[u])
        for u in range(nodes):
            if s.sums[u] < s.least and place(s, t, u) >= 0:
                s.sums[u] = cell(s, am, lm, t, u, s.cell, &s.most[u])
                advance(&done, s.n_classes)
        softmax_weights(<int> nodes, s.z_blank, s.most, s.sums, s.weights, s.weights + nodes)
        softmax_weights(<int> nodes, s.z_label, s.most, s.sums, s.weights + 2 * nodes, s.weights + 3 * nodes)
        for u in range(nodes):
            i = place(s, t, u)
            if i >= 0:
                s.grid.stay[i], s.grid.stay_e[i] = s.weights[u], s.weights[nodes + u]
                s.grid.move[i], s.grid.move_e[i] = s.weights[2 * nodes + u], s.weights[3 * nodes + u]
        a += s.am_stride
    return 0


cdef void put_occupancies(const Joiner *s, double emission, double *blank, double *label, floating *ratios,
                          bint found) noexcept nogil:
    """Occupancies of the arcs, those of labels times `emission`, and occupancies of the nodes over the normalisers.

    The ratio is -1 for a cell that was computed by itself.
    """
    cdef Py_ssize_t t, u, i, k = 0
    for t in range(s.n_frames):
        for u in range(s.n_labels + 1):
            i = place(s, t, u) if found else -1
            blank[k] = s.grid.stay[i] if i >= 0 else 0
            label[k] = s.grid.move[i] * emission if i >= 0 else 0
            if ratios != NULL:
                ratios[k] = <floating> ((blank[k] + label[k]) / ratios[k]) if ratios[k] >= s.least else -1
            k += 1


cdef int solve(Joiner *s, const floating *am, const floating *lm, floating *norms, double emission, double *blank,
               double *label, bint with_ratios, double *log_p) except -1 nogil:
    """Log of the total of all paths, -inf if there is none, and the occupancies, unless blank is NULL."""
    cdef double total = 0, total_e = 0
    cdef bint found = grid_rows(&s.grid, s.n_frames, s.n_labels, s.modified, NULL, s.n_labels + 1) >= 0
    if found:
        weigh(s, am, lm, norms)
        grid_forward(&s.grid, &total, &total_e)
        found = total > 0
    log_p[0] = log_extended(total, total_e) if found else -INFINITY
    if blank != NULL:
        if found:
            grid_backward(&s.grid)
        put_occupancies(s, emission, blank, label, norms if with_ratios else <floating *> NULL, found)
    return 0


def occupancies(const floating[:, :] am, const floating[:, :] lm, const double[::1] am_most,
                const double[::1] lm_most, floating[:, ::1] norms, const int64_t[::1] labels, Py_ssize_t blank,
                double least, bint modified, double emission, bint with_ratios, double[:, ::1] blank_out,
                double[:, ::1] label_out):
    """Log-probability of the labels of a sequence and, unless blank_out is None, the occupancies of the arcs.

    IN   am [T, V], lm [U + 1, V], class axes contiguous, T >= 1; their maxima by row; labels [U], or longer; normalisers
         norms [T, U + 1], relative to the maxima: those below `least` are computed again.
    OUT  blank_out, label_out [T, U + 1], of labels times `emission`; with_ratios, norms becomes their sum over the
         normalisers, and -1 where it was below `least`.
    """
    cdef Joiner s
    cdef Workspace workspace
    cdef double log_p = 0
    cdef bint wanted = blank_out is not None
    memset(&s, 0, sizeof(Joiner))
    s.n_frames, s.n_labels, s.n_classes, s.blank = am.shape[0], lm.shape[0] - 1, am.shape[1], blank
    s.am_stride = am.strides[0] // <Py_ssize_t> sizeof(floating)
    s.lm_stride = lm.strides[0] // <Py_ssize_t> sizeof(floating)
    s.am_most, s.lm_most = &am_most[0], &lm_most[0]
    s.labels = &labels[0] if labels.shape[0] else NULL
    s.least, s.modified = least, modified
    if not allocate(&workspace, lay_out(&s, 0), 0, 0, False):
        check(NO_MEMORY, workspace.size)
    lay_out(&s, workspace.common)
    try:
        with nogil:
            solve(&s, &am[0, 0], &lm[0, 0], &norms[0, 0], emission, &blank_out[0, 0] if wanted else NULL,
                  &label_out[0, 0] if wanted else NULL, with_ratios, &log_p)
    finally:
        release(&workspace)
    return log_p


# ---- cells by themselves ------------------------------------------------------------------------


cdef int add_cells(const Joiner *s, const floating *am, const floating *lm, floating *ratios, const double *blank,
                   const double *label, double *more_am, double *more_lm) except -1 nogil:
    cdef Py_ssize_t t, u, c, k = 0, done = 0, v = s.n_classes
    cdef double most, factor, p
    for t in range(s.n_frames):
        for u in range(s.n_labels + 1):
            if ratios[k] < 0:
                ratios[k] = 0
                if blank[k] + label[k] > 0:
                    factor = (blank[k] + label[k]) / cell(s, am, lm, t, u, s.cell, &most)
                    for c in range(v):
                        p = factor * s.cell[c]
                        more_am[t * v + c] += p
                        more_lm[u * v + c] += p
                    advance(&done, v)
            k += 1
    return 0


def gradients_of_cells(const floating[:, :] am, const floating[:, :] lm, const double[::1] am_most,
                       const double[::1] lm_most, floating[:, ::1] ratios, const double[:, ::1] blank,
                       const double[:, ::1] label, double[::1] cell_scratch, double[:, ::1] more_am,
                       double[:, ::1] more_lm):
    """Add occupancies times softmax of the cells whose ratio is -1 to more_am [T, V] and more_lm [U + 1, V].

    Their ratios become 0. cell_scratch [V] is overwritten.
    """
    cdef Joiner s
    memset(&s, 0, sizeof(Joiner))
    s.n_frames, s.n_labels, s.n_classes = am.shape[0], lm.shape[0] - 1, am.shape[1]
    s.am_stride = am.strides[0] // <Py_ssize_t> sizeof(floating)
    s.lm_stride = lm.strides[0] // <Py_ssize_t> sizeof(floating)
    s.am_most, s.lm_most, s.cell = &am_most[0], &lm_most[0], &cell_scratch[0]
    with nogil:
        add_cells(&s, &am[0, 0], &lm[0, 0], &ratios[0, 0], &blank[0, 0], &label[0, 0], &more_am[0, 0],
                  &more_lm[0, 0])


# ---- gradients ----------------------------------------------------------------------------------


cdef struct Rows:
    # Gradient of n rows of n_classes; elements between rows of the gradient.
    Py_ssize_t n_classes, g_stride, arc_stride, n_slots, n_labels
    const double *more      # [n, n_classes] or NULL
    const double *arcs      # occupancies of labels: entry i of a row has class classes[slot[i]]
    const int64_t *slot     # [n_slots], or NULL if row r has class classes[r] alone
    const int64_t *classes  # [n_labels]
    const double *of_blank  # [n]
    Py_ssize_t blank
    double scale
    Workspace sums          # [n_labels] occupancies by class, for each worker


cdef inline void put(const Rows *rows, const floating *product, const floating *e, const double *more,
                     Py_ssize_t c, double arcs, floating *g) noexcept nogil:
    """Gradient at a class of arcs, in float64: p - 1 needs more digits than p near 1 has."""
    g[c] = <floating> (rows.scale * (<double> product[c] * <double> e[c] + (more[c] if more != NULL else 0) - arcs))


cdef void put_row(const Rows *rows, Py_ssize_t r, const floating *product, const floating *e, floating *g,
                  double *sums) noexcept nogil:
    cdef Py_ssize_t i
    cdef const double *more = rows.more + r * rows.n_classes if rows.more != NULL else NULL
    cdef const double *arcs = rows.arcs + r * rows.arc_stride
    if floating is float:
        gradient_f32(product, e, more, rows.n_classes, rows.scale, g)
    else:
        gradient_f64(product, e, more, rows.n_classes, rows.scale, g)
    put(rows, product, e, more, rows.blank, rows.of_blank[r], g)
    if rows.slot == NULL:
        if r < rows.n_labels:
            put(rows, product, e, more, rows.classes[r], arcs[0], g)
        return
    for i in range(rows.n_labels):
        sums[i] = 0
    for i in range(rows.n_slots):
        sums[rows.slot[i]] += arcs[i]
    for i in range(rows.n_labels):
        put(rows, product, e, more, rows.classes[i], sums[i], g)


cdef void run_rows(const Rows *rows, const floating *product, const floating *e, floating *g, Loop *loop,
                   int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, r, v = rows.n_classes
    cdef double *sums = <double *> part_of(&rows.sums, worker)
    while next_items(loop, worker, &first, &last):
        for r in range(first, last):
            put_row(rows, r, product + r * v, e + r * v, g + r * rows.g_stride, sums)


cdef Status run_all_rows(Rows *rows, Py_ssize_t n, const floating *product, const floating *e, floating *g,
                         int num_threads) noexcept nogil:
    cdef Loop loop
    if not allocate(&rows.sums, 0, size_product(rows.n_labels, sizeof(double)), num_threads, False):
        return NO_MEMORY
    begin(&loop, n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_rows(rows, product, e, g, &loop, threadid())
    release(&rows.sums)
    return loop.status


def gradient(const floating[:, ::1] product, const floating[:, ::1] exps, const double[:, ::1] more,
             const double[:, ::1] arcs, const int64_t[::1] slot, const int64_t[::1] classes,
             const double[::1] of_blank, Py_ssize_t blank, double scale, floating[:, :] grad, int num_threads):
    """grad = scale * (product * exps + more - the occupancies of the arcs at their classes), by row.

    IN   product, exps [n, V]; more [n, V] or None; of_blank [n]; arcs [n, m], those of the labels. In a row, entry i has
         class classes[slot[i]]; or, if slot is None, row r has one entry, of class classes[r], and none beyond.
    OUT  grad [n, V], class axis contiguous.
    """
    cdef Rows rows
    cdef Status status
    cdef const floating *p = &product[0, 0]
    cdef const floating *e = &exps[0, 0]
    cdef floating *g = &grad[0, 0]
    cdef Py_ssize_t n = product.shape[0]
    memset(&rows, 0, sizeof(Rows))
    rows.n_classes, rows.n_labels = product.shape[1], classes.shape[0]
    rows.g_stride = grad.strides[0] // <Py_ssize_t> sizeof(floating)
    rows.more = &more[0, 0] if more is not None else NULL
    rows.arcs, rows.arc_stride = &arcs[0, 0], arcs.shape[1]
    rows.classes = &classes[0] if classes.shape[0] else NULL
    rows.of_blank, rows.blank, rows.scale = &of_blank[0], blank, scale
    if slot is not None and slot.shape[0]:
        rows.slot, rows.n_slots = &slot[0], slot.shape[0]
    with nogil:
        status = run_all_rows(&rows, n, p, e, g, num_threads)
    check(status, rows.sums.size)
