"""Soft minimum of the costs of all alignments of two series, with gradients, one pair of series at a time.

Costs come from an array, or from the series themselves: squared distances, computed along the diagonals of the grid. In
the second case the array of all costs and that of their posteriors are never stored.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN, isfinite, isnan
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.parallel.threads cimport (
    NO_MEMORY, Loop, Status, begin, check, enter, is_over, next_items, pause_item, resume,
)
from fastseqloss._kernels.parallel.workspace cimport (
    Workspace, allocate, part_of, release, round_up, size_product, size_sum, take,
)
from fastseqloss._kernels.soft_dtw.strips cimport (
    FINISHED, CostGrid, Series, begin_grid, first_column, last_column, lay_out, next_strip,
)


cdef enum:
    PAD = 16  # columns on both sides of a series that the last block of a diagonal may read


# Arrays of a pair of series: their values, forward and in reverse, and the gradients of the loss and of the losses of
# either series with itself, in the order in which they are summed. Those are apart, so that they cancel if x equals y.
cdef struct Pair:
    Py_ssize_t x_pitch, y_pitch
    double *x
    double *x_reversed
    double *grad_x
    double *own_x
    double *y
    double *y_reversed
    double *grad_y                          # reversed, too
    double *own_y


cdef enum Stage:
    X_WITH_Y
    X_WITH_ITSELF
    Y_WITH_ITSELF


# A pair in progress, which a worker may pause between two strips and another resume.
cdef struct Task:
    bint begun
    Py_ssize_t i, last                      # items of the loop: this one, and the end of the portion
    Py_ssize_t b
    CostGrid grid
    Pair pair                               # of series
    Stage stage
    uintptr_t rest                          # workspace of the grid
    double total, own                       # of x and y; of x with itself and of y with itself


# Arguments of a call, and its workspace. Strides are in elements, from pair to pair and from step to step.
cdef struct Batch:
    CostGrid common
    Py_ssize_t n, features
    bint divergence
    Py_ssize_t rows, columns                # of all arrays, padding included
    const int64_t *order
    const int64_t *lengths_x
    const int64_t *lengths_y
    const double *scale
    double *loss
    Py_ssize_t cost_step                    # from pair to pair
    Py_ssize_t out_step
    Py_ssize_t x_step, x_stride, y_step, y_stride
    Py_ssize_t grad_x_step, grad_x_stride, grad_y_step, grad_y_stride
    Workspace workspace
    Task *tasks                             # one for each worker
    Py_ssize_t *slots                       # the task that each worker of a region has


# ---- costs of an array ----------------------------------------------------------------------

cdef void fill_out(const CostGrid *g, floating *out, Py_ssize_t rows, Py_ssize_t columns, double value) noexcept nogil:
    """Set the posteriors of cells in the grid and in the band to a value, and all others to 0."""
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            out[i * g.out_stride + j] = 0
    if value != 0:
        for i in range(g.rows):
            for j in range(first_column(g, i), last_column(g, i) + 1):
                out[i * g.out_stride + j] = <floating> value


cdef void clear_padding(const CostGrid *g, floating *out, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(g.columns if i < g.rows else 0, columns):
            out[i * g.out_stride + j] = 0


cdef void end_grid(const CostGrid *g, floating *out, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Write the padding of the posteriors, unless `out` is NULL, or all of them if the grid has no path."""
    if out == NULL:
        return
    if g.rows > 0 and isfinite(g.total):
        clear_padding(g, out, rows, columns)
    else:
        fill_out(g, out, rows, columns, NAN if isnan(g.total) else 0)


cdef void begin_costs(const Batch *batch, Task *task, uintptr_t memory) noexcept nogil:
    cdef CostGrid *g = &task.grid
    g[0] = batch.common
    g.rows, g.columns, g.scale = batch.lengths_x[task.b], batch.lengths_y[task.b], batch.scale[task.b]
    if g.scale == 0:
        g.phase, g.total = FINISHED, 0
    else:
        lay_out(g, memory)
        begin_grid(g)


cdef void end_costs(const Batch *batch, const Task *task, floating *out) noexcept nogil:
    batch.loss[task.b] = task.grid.total
    if batch.scale[task.b] == 0 and out != NULL:
        fill_out(&task.grid, out, batch.rows, batch.columns, 0)
    else:
        end_grid(&task.grid, out, batch.rows, batch.columns)


# ---- costs of series ------------------------------------------------------------------------

cdef uintptr_t lay_out_pair(Pair *p, Py_ssize_t features, Py_ssize_t n, Py_ssize_t m, bint divergence,
                            uintptr_t base) noexcept nogil:
    cdef uintptr_t cursor = base
    cdef size_t x_row, y_row
    p.x_pitch, p.y_pitch = round_up(n + 2 * PAD, 8), round_up(m + 2 * PAD, 8)
    x_row, y_row = size_product(p.x_pitch, sizeof(double)), size_product(p.y_pitch, sizeof(double))
    p.x = <double *> take(&cursor, features, x_row)
    p.x_reversed = <double *> take(&cursor, features, x_row)
    p.grad_x = <double *> take(&cursor, features, x_row)
    p.own_x = <double *> take(&cursor, features if divergence else 0, x_row)
    p.y = <double *> take(&cursor, features, y_row)
    p.y_reversed = <double *> take(&cursor, features, y_row)
    p.grad_y = <double *> take(&cursor, features, y_row)
    p.own_y = <double *> take(&cursor, features if divergence else 0, y_row)
    return cursor


cdef void read_series(const floating *series, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t features, Py_ssize_t pitch,
                      double *forward, double *reverse) noexcept nogil:
    """Set both copies of a series, feature by feature, with zeros on both sides."""
    cdef Py_ssize_t i, d
    memset(forward, 0, features * pitch * sizeof(double))
    memset(reverse, 0, features * pitch * sizeof(double))
    for i in range(n):
        for d in range(features):
            forward[d * pitch + PAD + i] = reverse[d * pitch + PAD + n - 1 - i] = series[i * stride + d]


cdef void write_gradient(const double *gradient, const double *own, Py_ssize_t pitch, Py_ssize_t n,
                         Py_ssize_t features, bint reverse, double total, floating *out, Py_ssize_t stride,
                         Py_ssize_t n_steps) noexcept nogil:
    """Write the gradient of a series of n steps, less `own` unless that is NULL, and zeros to its padding."""
    cdef Py_ssize_t i, d, at
    cdef double value
    for i in range(n_steps):
        at = PAD + (n - 1 - i if reverse else i)
        for d in range(features):
            value = 0
            if i < n and isnan(total):
                value = NAN
            elif i < n and isfinite(total):
                value = gradient[d * pitch + at] - (own[d * pitch + at] if own != NULL else 0)
            out[i * stride + d] = <floating> value


cdef double *zeros(double *x, Py_ssize_t n) noexcept nogil:
    memset(x, 0, n * sizeof(double))
    return x


cdef void begin_pair(const Batch *batch, Task *task, Stage stage, double *grad_x, double *grad_y, bint with_out,
                     uintptr_t memory) noexcept nogil:
    """Begin with the grid of x and y, or of one of them and itself; gradients unless NULL."""
    cdef CostGrid *g = &task.grid
    cdef Pair *p = &task.pair
    cdef Series *s = &g.series
    cdef Py_ssize_t n = batch.lengths_x[task.b], m = batch.lengths_y[task.b]
    cdef bint x_x = stage == X_WITH_ITSELF, y_y = stage == Y_WITH_ITSELF
    g[0] = batch.common
    g.scale, s.features = batch.scale[task.b], batch.features
    s.x, s.x_pitch = (p.y if y_y else p.x) + PAD, p.y_pitch if y_y else p.x_pitch
    s.y, s.y_pitch = (p.x_reversed if x_x else p.y_reversed) + PAD, p.x_pitch if x_x else p.y_pitch
    s.grad_x = zeros(grad_x, s.features * s.x_pitch) + PAD if grad_x != NULL else NULL
    s.grad_y = zeros(grad_y, s.features * s.y_pitch) + PAD if grad_y != NULL else NULL
    s.factor = 2 * g.scale
    g.rows, g.columns = m if y_y else n, n if x_x else m
    g.with_grad = grad_x != NULL or grad_y != NULL or with_out
    lay_out(g, memory)
    task.stage = stage
    begin_grid(g)


cdef void begin_series(const Batch *batch, Task *task, const floating *x, const floating *y, bint with_x, bint with_y,
                       bint with_out, uintptr_t memory) noexcept nogil:
    cdef Pair *p = &task.pair
    cdef Py_ssize_t n = batch.lengths_x[task.b], m = batch.lengths_y[task.b], features = batch.features
    cdef CostGrid *g = &task.grid
    task.rest = lay_out_pair(p, features, n, m, batch.divergence, memory)
    task.total = task.own = 0
    p.grad_x, p.own_x = p.grad_x if with_x else NULL, p.own_x if with_x else NULL
    p.grad_y, p.own_y = p.grad_y if with_y else NULL, p.own_y if with_y else NULL
    if batch.scale[task.b] == 0:
        g[0] = batch.common
        g.phase, task.stage = FINISHED, X_WITH_Y
        return
    read_series(x + task.b * batch.x_step, batch.x_stride, n, features, p.x_pitch, p.x, p.x_reversed)
    read_series(y + task.b * batch.y_step, batch.y_stride, m, features, p.y_pitch, p.y, p.y_reversed)
    begin_pair(batch, task, X_WITH_Y, p.grad_x, p.grad_y, with_out, task.rest)


cdef bint end_stage(const Batch *batch, Task *task, floating *out) noexcept nogil:
    """Take the result of a grid; returns True, and begins with the next one, if another follows."""
    cdef CostGrid *g = &task.grid
    if batch.scale[task.b] == 0:
        return False
    if task.stage == X_WITH_Y:
        end_grid(g, out, batch.rows, batch.columns)
        task.total = g.total
        if not batch.divergence or not isfinite(g.total):
            return False
        # The derivative with respect to both arguments is twice that with respect to one.
        begin_pair(batch, task, X_WITH_ITSELF, task.pair.own_x, NULL, False, task.rest)
        return True
    task.own += g.total
    if task.stage == Y_WITH_ITSELF:
        return False
    begin_pair(batch, task, Y_WITH_ITSELF, NULL, task.pair.own_y, False, task.rest)
    return True


cdef void end_series(const Batch *batch, const Task *task, floating *grad_x, floating *grad_y) noexcept nogil:
    """Loss of one pair of series; its gradients, including padding, are written last: they may overwrite the series."""
    cdef const Pair *p = &task.pair
    cdef Py_ssize_t b = task.b, n = batch.lengths_x[b], m = batch.lengths_y[b], features = batch.features
    cdef double total = task.total
    if batch.divergence and isfinite(total):
        total -= 0.5 * task.own
    batch.loss[b] = total
    if batch.scale[b] == 0:
        total = INFINITY  # which has gradient 0
    if grad_x != NULL:
        write_gradient(p.grad_x, p.own_x if batch.divergence else NULL, p.x_pitch, n, features, False, total,
                       grad_x + b * batch.grad_x_step, batch.grad_x_stride, batch.rows)
    if grad_y != NULL:
        write_gradient(p.grad_y, p.own_y if batch.divergence else NULL, p.y_pitch, m, features, True, total,
                       grad_y + b * batch.grad_y_step, batch.grad_y_stride, batch.columns)


# ---- batches --------------------------------------------------------------------------------

cdef size_t grid_size(const Batch *batch, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef CostGrid g = batch.common
    g.rows, g.columns = rows, columns
    return lay_out(&g, 0)


cdef size_t own_size(const Batch *batch) noexcept nogil:
    """Bytes of the workspace of a worker: the most that a pair needs.

    A grid may need less than a smaller one, which keeps the shares of more strips.
    """
    cdef Pair p
    cdef Py_ssize_t b, n, m
    cdef size_t most = 0, size
    for b in range(batch.n):
        n, m = batch.lengths_x[b], batch.lengths_y[b]
        size = grid_size(batch, n, m)
        if batch.divergence:
            size = max(size, max(grid_size(batch, n, n), grid_size(batch, m, m)))
        most = max(most, size_sum(size, lay_out_pair(&p, batch.features, n, m, batch.divergence, 0)))
    return most


cdef bint run_task(const Batch *batch, Task *task, const floating *costs, const floating *x, const floating *y,
                   floating *out, floating *grad_x, floating *grad_y, const Loop *loop,
                   uintptr_t memory) noexcept nogil:
    """Process a pair, or what is left of it; returns False if it is paused because the region is over."""
    cdef Py_ssize_t b = task.b
    cdef const floating *own_costs = NULL
    cdef floating *own_out = out + b * batch.out_step if out != NULL else NULL
    if not batch.features:
        own_costs = costs + b * batch.cost_step
    if not task.begun and batch.features:
        begin_series(batch, task, x, y, grad_x != NULL, grad_y != NULL, out != NULL, memory)
    elif not task.begun:
        begin_costs(batch, task, memory)
    task.begun = True
    while True:
        while task.grid.phase != FINISHED:
            next_strip(&task.grid, own_costs, own_out)
            if is_over(loop):
                return False
        if not batch.features or not end_stage(batch, task, own_out):
            break
    if batch.features:
        end_series(batch, task, grad_x, grad_y)
    else:
        end_costs(batch, task, own_out)
    task.begun = False
    return True


cdef void run_worker(const Batch *batch, const floating *costs, const floating *x, const floating *y, floating *out,
                     floating *grad_x, floating *grad_y, Loop *loop, int worker) noexcept nogil:
    cdef Task *task = batch.tasks + batch.slots[worker]
    cdef uintptr_t memory = part_of(&batch.workspace, batch.slots[worker])
    cdef Py_ssize_t first, last = 0
    cdef bint paused = task.begun
    if paused and not resume(loop, worker):
        return
    while paused or next_items(loop, worker, &first, &last):
        if not paused:
            task.i, task.last = first, last
        last, paused = task.last, False
        while task.i < task.last:
            task.b = batch.order[task.i]
            if not run_task(batch, task, costs, x, y, out, grad_x, grad_y, loop, memory):
                pause_item(loop, worker)
                return
            task.i += 1


cdef void order_slots(Batch *batch, Py_ssize_t n) noexcept nogil:
    """Give the first workers of a region the parts of the workspace that hold paused pairs."""
    cdef Py_ssize_t k, at = 0, free_at = n
    for k in range(n):
        if batch.tasks[k].begun:
            batch.slots[at] = k
            at += 1
        else:
            free_at -= 1
            batch.slots[free_at] = k


cdef Status run_batch(Batch *batch, const floating *costs, const floating *x, const floating *y, floating *out,
                      floating *grad_x, floating *grad_y, int num_threads) noexcept nogil:
    cdef Loop loop
    cdef uintptr_t common = 0
    take(&common, num_threads, sizeof(Task))
    take(&common, num_threads, sizeof(Py_ssize_t))
    if not allocate(&batch.workspace, common, own_size(batch), num_threads, False):
        return NO_MEMORY
    common = batch.workspace.common
    batch.tasks = <Task *> take(&common, num_threads, sizeof(Task))
    batch.slots = <Py_ssize_t *> take(&common, num_threads, sizeof(Py_ssize_t))
    memset(batch.tasks, 0, num_threads * sizeof(Task))
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        order_slots(batch, num_threads)
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(batch, costs, x, y, out, grad_x, grad_y, &loop, threadid())
    release(&batch.workspace)
    return loop.status


cdef void set_batch(Batch *batch, const int64_t[::1] lengths_x, const int64_t[::1] lengths_y, const double[::1] scale,
                    const int64_t[::1] order, double gamma, Py_ssize_t band, double[::1] loss) noexcept:
    memset(batch, 0, sizeof(Batch))
    batch.n = lengths_x.shape[0]
    batch.lengths_x, batch.lengths_y, batch.order = &lengths_x[0], &lengths_y[0], &order[0]
    batch.scale, batch.loss = &scale[0], &loss[0]
    batch.common.gamma, batch.common.band = gamma, band


def soft_minimum(const floating[:, :, :] costs, const int64_t[::1] lengths_x, const int64_t[::1] lengths_y,
                 const double[::1] scale, const int64_t[::1] order, double gamma, Py_ssize_t band, double[::1] loss,
                 floating[:, :, :] grad, int num_threads):
    """Soft minima of the costs of all paths and, unless grad is None, their gradients times scale, of a checked batch.

    IN   costs [B, N, M], B > 0; lengths of 0 in pairs only; order: pairs, those with most work first.
    OUT  loss [B], inf without a path; grad [B, N, M], which may be costs.
    """
    cdef Batch batch
    cdef Status status
    cdef const floating *c = NULL
    cdef floating *g = NULL
    set_batch(&batch, lengths_x, lengths_y, scale, order, gamma, band, loss)
    batch.rows, batch.columns = costs.shape[1], costs.shape[2]
    batch.common.with_grad = grad is not None
    batch.cost_step = costs.strides[0] // <Py_ssize_t> sizeof(floating)
    batch.common.cost_stride = costs.strides[1] // <Py_ssize_t> sizeof(floating)
    if batch.rows and batch.columns:
        c = &costs[0, 0, 0]
        if grad is not None:
            g = &grad[0, 0, 0]
            batch.out_step = grad.strides[0] // <Py_ssize_t> sizeof(floating)
            batch.common.out_stride = grad.strides[1] // <Py_ssize_t> sizeof(floating)
    with nogil:
        status = run_batch(&batch, c, <const floating *> NULL, <const floating *> NULL, g, <floating *> NULL,
                           <floating *> NULL, num_threads)
    check(status, batch.workspace.size)


def soft_dtw(const floating[:, :, :] x, const floating[:, :, :] y, const int64_t[::1] lengths_x,
             const int64_t[::1] lengths_y, const double[::1] scale, const int64_t[::1] order, double gamma,
             Py_ssize_t band, bint divergence, double[::1] loss, floating[:, :, :] grad_x, floating[:, :, :] grad_y,
             floating[:, :, :] posteriors, int num_threads):
    """Soft-DTW of pairs of series, and what else is wanted, of a checked batch.

    IN   x [B, N, D], y [B, M, D], B > 0, D > 0; lengths of 0 in pairs only; order: pairs, those with most work first.
    OUT  loss [B]; grad_x, grad_y, of the shapes of x and y, and posteriors [B, N, M], all times scale, or None.
    """
    cdef Batch batch
    cdef Status status
    cdef Py_ssize_t size = sizeof(floating)
    cdef const floating *first = NULL
    cdef const floating *second = NULL
    cdef floating *out = NULL
    cdef floating *gx = NULL
    cdef floating *gy = NULL
    set_batch(&batch, lengths_x, lengths_y, scale, order, gamma, band, loss)
    batch.rows, batch.columns, batch.features, batch.divergence = x.shape[1], y.shape[1], x.shape[2], divergence
    batch.x_step, batch.x_stride = x.strides[0] // size, x.strides[1] // size
    batch.y_step, batch.y_stride = y.strides[0] // size, y.strides[1] // size
    batch.common.with_grad = grad_x is not None or grad_y is not None or posteriors is not None
    if batch.rows:
        first = &x[0, 0, 0]
        if grad_x is not None:
            gx = &grad_x[0, 0, 0]
            batch.grad_x_step, batch.grad_x_stride = grad_x.strides[0] // size, grad_x.strides[1] // size
    if batch.columns:
        second = &y[0, 0, 0]
        if grad_y is not None:
            gy = &grad_y[0, 0, 0]
            batch.grad_y_step, batch.grad_y_stride = grad_y.strides[0] // size, grad_y.strides[1] // size
    if batch.rows and batch.columns and posteriors is not None:
        out = &posteriors[0, 0, 0]
        batch.out_step, batch.common.out_stride = posteriors.strides[0] // size, posteriors.strides[1] // size
    with nogil:
        status = run_batch(&batch, <const floating *> NULL, first, second, out, gx, gy, num_threads)
    check(status, batch.workspace.size)
