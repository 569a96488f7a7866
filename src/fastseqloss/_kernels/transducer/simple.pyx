"""Transducer with an additive joiner, z[t, u] = am[t] + lm[u]: the steps around the matrix products, one sequence each.

With the exponentials a = exp(am - max) and l = exp(lm - max), the normalisers are N = a l^T; with the occupancies gamma
of the nodes, the gradient of am is a * ((gamma / N) l), less the occupancies of the arcs, and that of lm likewise.
Where N is too small for its digits, because am and lm disagree, a cell is computed by itself.

The two classes of the arcs of a node are left out of the products, by zeros in l, and added in float64: where one of
them has a probability near 1, the others keep their digits, and gamma * p - occupancy is a difference of float64
numbers.
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


cdef extern from "transducer/simple.h" nogil:
    double sum_of "fsl_sum_f64"(const double *x, Py_ssize_t n) noexcept
    void add_to_both "fsl_simple_add"(const double *e, Py_ssize_t n, double factor, double *a, double *b) noexcept
    void arc_weights "fsl_simple_weights"(Py_ssize_t n, const double *z_blank, const double *z_label,
                                          const double *most, const double *rest, double *norms, double *blank_weight,
                                          double *blank_e, double *label_weight, double *label_e) noexcept
    void extended_values "fsl_simple_values"(Py_ssize_t n, const double *m, const double *e, double *out) noexcept
    bint exps_f32 "fsl_simple_exps_f32"(const float *x, Py_ssize_t n, float *out, double *most) noexcept
    bint exps_f64 "fsl_simple_exps_f64"(const double *x, Py_ssize_t n, double *out, double *most) noexcept
    double cell_f32 "fsl_simple_cell_f32"(const float *am, double am_most, const float *lm, double lm_most,
                                          Py_ssize_t n, double *e) noexcept
    double cell_f64 "fsl_simple_cell_f64"(const double *am, double am_most, const double *lm, double lm_most,
                                          Py_ssize_t n, double *e) noexcept
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
    double least  # cells with smaller normalisers are computed by themselves
    bint modified
    # workspace
    Grid grid
    double *lm_blank  # [n_labels + 1] each: scores of the arcs' classes in lm, relative to the maxima
    double *lm_label
    double *z_blank   # scores of the arcs of a frame
    double *z_label
    double *most
    double *rest
    double *sums
    double *blank_weight
    double *blank_e
    double *label_weight
    double *label_e
    double *cell      # [n_classes]


cdef uintptr_t lay_out(Joiner *s, bint with_grid, uintptr_t base) noexcept nogil:
    cdef uintptr_t cursor = base
    cdef Py_ssize_t nodes = s.n_labels + 1
    if with_grid:
        lay_out_grid(&s.grid, s.n_frames, s.n_labels, s.modified, nodes, OCCUPANCIES, &cursor)
    s.lm_blank = <double *> take(&cursor, nodes, sizeof(double))
    s.lm_label = <double *> take(&cursor, nodes, sizeof(double))
    s.z_blank = <double *> take(&cursor, nodes, sizeof(double))
    s.z_label = <double *> take(&cursor, nodes, sizeof(double))
    s.most = <double *> take(&cursor, nodes, sizeof(double))
    s.rest = <double *> take(&cursor, nodes, sizeof(double))
    s.sums = <double *> take(&cursor, nodes, sizeof(double))
    s.blank_weight = <double *> take(&cursor, nodes, sizeof(double))
    s.blank_e = <double *> take(&cursor, nodes, sizeof(double))
    s.label_weight = <double *> take(&cursor, nodes, sizeof(double))
    s.label_e = <double *> take(&cursor, nodes, sizeof(double))
    s.cell = <double *> take(&cursor, s.n_classes, sizeof(double))
    return cursor


cdef int set_up(Joiner *s, const floating[:, :] am, const floating[:, :] lm, const double[::1] am_most,
                const double[::1] lm_most, const int64_t[::1] labels, Py_ssize_t blank, bint with_grid,
                Workspace *workspace) except -1:
    """Set the arguments of a sequence, and allocate its workspace."""
    cdef Py_ssize_t u
    s.n_frames, s.n_labels, s.n_classes, s.blank = am.shape[0], lm.shape[0] - 1, am.shape[1], blank
    s.am_stride = am.strides[0] // <Py_ssize_t> sizeof(floating)
    s.lm_stride = lm.strides[0] // <Py_ssize_t> sizeof(floating)
    s.am_most, s.lm_most = &am_most[0], &lm_most[0]
    s.labels = &labels[0] if labels.shape[0] else NULL
    if not allocate(workspace, lay_out(s, with_grid, 0), 0, 0, False):
        check(NO_MEMORY, workspace.size)
    lay_out(s, with_grid, workspace.common)
    for u in range(s.n_labels + 1):
        s.lm_blank[u] = <double> lm[u, blank] - lm_most[u]
        s.lm_label[u] = <double> lm[u, labels[u]] - lm_most[u] if u < s.n_labels else -INFINITY
    return 0


cdef inline double cell(const Joiner *s, const floating *am, const floating *lm, Py_ssize_t t,
                        Py_ssize_t u) noexcept nogil:
    """exp(z - maximum) of a cell by itself, 0 for the classes of the arcs; returns the maximum.

    It is relative to the sum of the maxima of am and lm.
    """
    cdef double most
    if floating is float:
        most = cell_f32(am + t * s.am_stride, s.am_most[t], lm + u * s.lm_stride, s.lm_most[u], s.n_classes, s.cell)
    else:
        most = cell_f64(am + t * s.am_stride, s.am_most[t], lm + u * s.lm_stride, s.lm_most[u], s.n_classes, s.cell)
    s.cell[s.blank] = 0
    if u < s.n_labels:
        s.cell[s.labels[u]] = 0
    return most


cdef inline Py_ssize_t place(const Joiner *s, Py_ssize_t t, Py_ssize_t u) noexcept nogil:
    """Position of a node among the arcs of the grid, or -1 for one that no path crosses."""
    cdef Py_ssize_t n = t if s.modified else t + u
    return s.grid.at[n] + u if s.grid.first[n] <= u <= s.grid.last[n] else -1


cdef inline void weigh_frame(Joiner *s, const floating *am, Py_ssize_t t, Py_ssize_t u, Py_ssize_t n) noexcept nogil:
    """Normalisers and weights of the arcs of n nodes of frame t from node u on, from `most` and `rest`."""
    cdef Py_ssize_t i
    cdef const floating *row = am + t * s.am_stride
    cdef double most = s.am_most[t], am_blank = <double> row[s.blank] - most
    for i in range(u, u + n):
        s.z_blank[i] = am_blank + s.lm_blank[i]
        s.z_label[i] = s.lm_label[i] + (<double> row[s.labels[i]] - most if i < s.n_labels else 0)
    arc_weights(n, s.z_blank + u, s.z_label + u, s.most + u, s.rest + u, s.sums + u, s.blank_weight + u, s.blank_e + u,
                s.label_weight + u, s.label_e + u)


cdef inline void weigh_cell(Joiner *s, const floating *am, const floating *lm, Py_ssize_t t,
                            Py_ssize_t u) noexcept nogil:
    """Normaliser of a cell by itself, and the weights of its arcs."""
    s.most[u] = cell(s, am, lm, t, u)
    s.rest[u] = sum_of(s.cell, s.n_classes)
    weigh_frame(s, am, t, u, 1)


cdef int weigh(Joiner *s, const floating *am, const floating *lm, floating *norms, floating *rest, double *blank,
               double *label) except -1 nogil:
    """Set the weights of the arcs, which are also written to `blank` and `label` unless these are NULL.

    `rest` is then the probability of the other classes, and normalisers become complete, or -1 for a cell that is
    computed by itself.
    """
    cdef Py_ssize_t t, u, i, k = 0, done = 0, nodes = s.n_labels + 1
    cdef bint alone
    for t in range(s.n_frames):
        for u in range(nodes):
            s.most[u], s.rest[u] = 0, norms[k + u]
        weigh_frame(s, am, t, 0, nodes)
        for u in range(nodes):
            i = place(s, t, u)
            alone = s.sums[u] < s.least and i >= 0
            if alone:
                weigh_cell(s, am, lm, t, u)
                advance(&done, s.n_classes)
            if i >= 0:
                s.grid.blank[i], s.grid.blank_e[i] = s.blank_weight[u], s.blank_e[u]
                s.grid.label[i], s.grid.label_e[i] = s.label_weight[u], s.label_e[u]
            if rest != NULL:
                norms[k + u] = -1 if alone else <floating> s.sums[u]
                rest[k + u] = <floating> (s.rest[u] / s.sums[u]) if s.sums[u] > 0 else 0
        if rest != NULL:
            extended_values(nodes, s.blank_weight, s.blank_e, blank + k)
            extended_values(nodes, s.label_weight, s.label_e, label + k)
        k += nodes
    return 0


cdef void put_occupancies(const Joiner *s, double *blank, double *label) noexcept nogil:
    cdef Py_ssize_t t, u, i, k = 0
    for t in range(s.n_frames):
        for u in range(s.n_labels + 1):
            i = place(s, t, u)
            blank[k] = s.grid.blank[i] if i >= 0 else 0
            label[k] = s.grid.label[i] if i >= 0 else 0
            k += 1


cdef void put_slopes(const Joiner *s, double label_factor, floating *norms, const floating *rest, double *blank,
                     double *label) noexcept nogil:
    """Slopes of the scores of the arcs, in the place of their probabilities, and gamma over the normalisers.

    The slope of the blank, gamma p - b, is l p - b (1 - p), without cancellation near p = 1. The ratio of a cell that
    is computed by itself is -gamma.
    """
    cdef Py_ssize_t t, u, i, k = 0
    cdef double b, l, p, y
    for t in range(s.n_frames):
        for u in range(s.n_labels + 1):
            i = place(s, t, u)
            if i >= 0:
                b, l, p, y = s.grid.blank[i], s.grid.label[i] * label_factor, blank[k], label[k]
                blank[k] = l * p - b * (rest[k] + y)
                label[k] = b * y - l * (rest[k] + p)
                norms[k] = <floating> ((b + l) / norms[k])
            else:  # on no path, and its normaliser may be 0
                blank[k] = label[k] = norms[k] = 0
            k += 1


cdef int solve(Joiner *s, const floating *am, const floating *lm, floating *norms, floating *rest, double label_factor,
               double *blank, double *label, double *log_p) except -1 nogil:
    """Log of the total of all paths, -inf if there is none.

    Unless blank is NULL, sets the slopes of the arcs, or the occupancies if rest is NULL.
    """
    cdef bint slopes = rest != NULL
    cdef double total = 0, total_e = 0
    log_p[0] = -INFINITY
    if grid_rows(&s.grid, s.n_frames, s.n_labels, s.modified, NULL, s.n_labels + 1) < 0:
        return 0
    weigh(s, am, lm, norms, rest, blank, label)
    grid_forward(&s.grid, &total, &total_e)
    if not total > 0:
        return 0
    log_p[0] = log_extended(total, total_e)
    if blank != NULL:
        grid_backward(&s.grid)
        if slopes:
            put_slopes(s, label_factor, norms, rest, blank, label)
        else:
            put_occupancies(s, blank, label)
    return 0


def lattice(const floating[:, :] am, const floating[:, :] lm, const double[::1] am_most, const double[::1] lm_most,
            floating[:, ::1] norms, floating[:, ::1] rest, const int64_t[::1] labels, Py_ssize_t blank, double least,
            bint modified, double label_factor, double[:, ::1] blank_out, double[:, ::1] label_out):
    """Log-probability of the labels of a sequence, -inf without a path; with one, the outputs are set.

    IN   am [T, V], lm [U + 1, V], class axes contiguous, T >= 1; their maxima by row; labels [U]; norms [T, U + 1],
         sums relative to the maxima, of all classes but those of the arcs; `least`, for complete normalisers: cells
         with smaller ones are computed by themselves; label_factor, of the occupancies of labels, for the slopes.
    OUT  blank_out, label_out [T, U + 1], or None: occupancies of the arcs or, if rest [T, U + 1] is not None, their
         slopes, derivatives with respect to their scores. In that case, norms becomes the occupancy of a node over its
         normaliser, or minus the occupancy of a cell that was computed by itself; rest is overwritten.
    """
    cdef Joiner s
    cdef Workspace workspace
    cdef double log_p = 0
    cdef bint wanted = blank_out is not None
    memset(&s, 0, sizeof(Joiner))
    s.least, s.modified = least, modified
    set_up(&s, am, lm, am_most, lm_most, labels, blank, True, &workspace)
    try:
        with nogil:
            solve(&s, &am[0, 0], &lm[0, 0], &norms[0, 0], &rest[0, 0] if rest is not None else NULL, label_factor,
                  &blank_out[0, 0] if wanted else NULL, &label_out[0, 0] if wanted else NULL, &log_p)
    finally:
        release(&workspace)
    return log_p


# ---- cells by themselves ------------------------------------------------------------------------


cdef int add_cells(Joiner *s, const floating *am, const floating *lm, floating *ratios, double *more_am,
                   double *more_lm) except -1 nogil:
    cdef Py_ssize_t t, u, k = 0, done = 0, v = s.n_classes
    for t in range(s.n_frames):
        for u in range(s.n_labels + 1):
            if ratios[k] < 0:
                weigh_cell(s, am, lm, t, u)
                add_to_both(s.cell, v, -ratios[k] / s.sums[u], more_am + t * v, more_lm + u * v)
                ratios[k] = 0
                advance(&done, v)
            k += 1
    return 0


def cell_gradients(const floating[:, :] am, const floating[:, :] lm, const double[::1] am_most,
                   const double[::1] lm_most, const int64_t[::1] labels, Py_ssize_t blank, floating[:, ::1] ratios,
                   double[:, ::1] more_am, double[:, ::1] more_lm):
    """Add gamma * softmax of the cells with a ratio of -gamma to more_am [T, V] and more_lm [U + 1, V].

    The classes of the arcs are left out. The ratios become 0.
    """
    cdef Joiner s
    cdef Workspace workspace
    memset(&s, 0, sizeof(Joiner))
    set_up(&s, am, lm, am_most, lm_most, labels, blank, False, &workspace)
    try:
        with nogil:
            add_cells(&s, &am[0, 0], &lm[0, 0], &ratios[0, 0], &more_am[0, 0], &more_lm[0, 0])
    finally:
        release(&workspace)


# ---- gradients ----------------------------------------------------------------------------------


cdef struct Rows:
    # Gradient of n rows of n_classes; elements between rows of the gradient.
    Py_ssize_t n_classes, g_stride, slope_stride, n_slots, n_labels
    const double *more          # [n, n_classes] or NULL
    const double *label_slopes  # entry i of a row has class classes[slot[i]]
    const int64_t *slot         # [n_slots], or NULL if row r has class classes[r] alone
    const int64_t *classes      # [n_labels]
    const double *blank_slopes  # [n]
    Py_ssize_t blank
    double scale
    Workspace sums              # [n_labels] slopes by class, for each worker


cdef inline void put(const Rows *rows, const floating *product, const floating *e, const double *more,
                     Py_ssize_t c, double slope, floating *g) noexcept nogil:
    """Gradient at a class of arcs, in float64."""
    g[c] = <floating> (rows.scale * (<double> product[c] * <double> e[c] + (more[c] if more != NULL else 0) + slope))


cdef void put_row(const Rows *rows, Py_ssize_t r, const floating *product, const floating *e, floating *g,
                  double *sums) noexcept nogil:
    cdef Py_ssize_t i
    cdef const double *more = rows.more + r * rows.n_classes if rows.more != NULL else NULL
    cdef const double *slopes = rows.label_slopes + r * rows.slope_stride
    if floating is float:
        gradient_f32(product, e, more, rows.n_classes, rows.scale, g)
    else:
        gradient_f64(product, e, more, rows.n_classes, rows.scale, g)
    put(rows, product, e, more, rows.blank, rows.blank_slopes[r], g)
    if rows.slot == NULL:
        if r < rows.n_labels:
            put(rows, product, e, more, rows.classes[r], slopes[0], g)
        return
    for i in range(rows.n_labels):
        sums[i] = 0
    for i in range(rows.n_slots):
        sums[rows.slot[i]] += slopes[i]
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
             const double[:, ::1] label_slopes, const int64_t[::1] slot, const int64_t[::1] classes,
             const double[::1] blank_slopes, Py_ssize_t blank, double scale, floating[:, :] grad, int num_threads):
    """grad = scale * (product * exps + more + the slopes of the arcs at their classes), by row.

    IN   product, exps [n, V]; more [n, V] or None; blank_slopes [n]; label_slopes [n, m]. Entry i of a row has class
         classes[slot[i]]; or, if slot is None, row r has one entry, of class classes[r], and none beyond.
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
    rows.label_slopes, rows.slope_stride = &label_slopes[0, 0], label_slopes.shape[1]
    rows.classes = &classes[0] if classes.shape[0] else NULL
    rows.blank_slopes, rows.blank, rows.scale = &blank_slopes[0], blank, scale
    if slot is not None and slot.shape[0]:
        rows.slot, rows.n_slots = &slot[0], slot.shape[0]
    with nogil:
        status = run_all_rows(&rows, n, p, e, g, num_threads)
    check(status, rows.sums.size)
