"""Softmax cross-entropy of rows of scores, loss and gradient, one block of rows at a time.

A row is one step. The rows of a block stay in cache during three passes: maxima and exponentials, stored in the
gradient; losses, for all rows of the block at once; the gradient.

With the weights q of the classes in a row's target, the loss is sum q (log sum exp x - x) and its gradient
softmax(x) sum q - q. q has two parts: `own`, at the target class alone, and a dense row (label smoothing, or a target
distribution), which is NULL for a target without it.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, copysign
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.calls cimport Call
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Held, hold, let_go, load, store
from fastseqloss._kernels.codes cimport LOGITS, PROBS, Input
from fastseqloss._kernels.simd.rows cimport (
    LANES, MOST_ROWS, SHORT, clamp_probability, find_outside, is_large, load_max, row_dot, row_dot_log, row_exp,
    row_gradient, row_slope, row_smooth, short_exp, short_gradient, short_max, softmax_losses, tile_dot, tile_exp,
    tile_gradient, tile_in, tile_max, tile_out,
)
from fastseqloss._kernels.simd.step_rows cimport StepRows, gradient_of, hold_rows, scale_of, scores_of, set_rows
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.signals cimport advance
from fastseqloss._kernels.simd.softmax cimport exp64, log64
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product, take


cdef extern from "steps/short_rows.h" nogil:
    enum:
        GROUPS "FSL_GROUPS"  # 1 if this build has the following function
    void entropy_rows "fsl_entropy_rows"(const float *x, Py_ssize_t x_stride, float *g, Py_ssize_t g_stride,
                                         Py_ssize_t n_rows, Py_ssize_t n_classes, const int64_t *targets,
                                         const double *weight, double z, double scale, double *loss) noexcept


cdef enum:
    BLOCK = 4096  # elements of a block, unless a single row has more


cdef struct Block:
    # Counted rows of a block.
    int n
    Py_ssize_t step[MOST_ROWS]
    int64_t target[MOST_ROWS]
    const char *x[MOST_ROWS]
    char *g[MOST_ROWS]
    double m[MOST_ROWS]
    double sum[MOST_ROWS]
    double picked[MOST_ROWS]
    double q[MOST_ROWS]
    double own[MOST_ROWS]
    double at_target[MOST_ROWS]
    double scale[MOST_ROWS]
    double loss[MOST_ROWS]
    double factor[MOST_ROWS]


cdef struct Job:
    StepRows rows
    Array y  # target distributions, or NULL
    Input input
    Py_ssize_t block  # rows in a block
    double epsilon, z, dense_sum
    double gamma  # exponent of the focal factor
    bint short  # short rows of float32 logits with integer targets, without smoothing and weights of steps
    bint smooth  # integer targets with label smoothing: one dense row shared by all steps
    Workspace workspace


cdef void collect(const Job *job, Py_ssize_t first, Py_ssize_t last, Py_ssize_t size, Block *rows) noexcept nogil:
    """List the rows that count; set loss and gradient of the others to 0."""
    cdef Py_ssize_t n, b = first // job.rows.n_rows, r = first % job.rows.n_rows, k = 0
    cdef const char *x = scores_of(&job.rows, b, r)
    cdef char *g = gradient_of(&job.rows, b, r)
    cdef double scale
    for n in range(first, last):
        scale = scale_of(&job.rows, b, n)
        if job.rows.targets[n] < 0 or scale == 0:
            job.rows.loss[n] = 0
            if g != NULL:
                memset(g, 0, job.rows.n_classes * size)
        else:
            rows.step[k], rows.target[k], rows.scale[k] = n, job.rows.targets[n], scale
            rows.x[k], rows.g[k] = x, g
            k += 1
        r, x = r + 1, x + job.rows.x.strides[1]
        g = g + job.rows.g.strides[1] if g != NULL else NULL
        if r == job.rows.n_rows and n + 1 < last:
            b, r = b + 1, 0
            x = job.rows.x.data + b * job.rows.x.strides[0]
            g = job.rows.g.data + b * job.rows.g.strides[0] if g != NULL else NULL
    rows.n = k
    for k in range(rows.n):
        rows.own[k] = 1 - job.epsilon if job.y.data == NULL else 0
        rows.q[k] = rows.own[k] + job.dense_sum
    if job.rows.weight != NULL and job.y.data == NULL:
        for k in range(rows.n):
            rows.own[k] *= job.rows.weight[rows.target[k]]
            rows.q[k] = rows.own[k] + job.dense_sum


cdef const floating *dense_row(const Job *job, Py_ssize_t n, floating *smooth, floating *buffer,
                               double *total) noexcept nogil:
    """Dense part of q of step n, or NULL."""
    cdef const char *y
    if job.y.data == NULL:
        return smooth if job.smooth else NULL
    y = job.y.data + (n // job.rows.n_rows) * job.y.strides[0] + (n % job.rows.n_rows) * job.y.strides[1]
    load(job.y.kind, y, job.y.strides[2], job.rows.n_classes, buffer)
    total[0] = row_smooth(buffer, job.rows.n_classes, job.rows.weight, job.epsilon, buffer)
    return buffer


cdef void wide_rows(const Job *job, Block *rows, Py_ssize_t size, const floating **x, floating **e,
                    floating *smooth, floating *buffer) noexcept nogil:
    """Process rows of more than SHORT classes, one by one; rows of half precision are loaded here."""
    cdef Py_ssize_t k, v = job.rows.n_classes
    cdef floating m
    cdef const floating *q
    for k in range(rows.n):
        m = load_max(job.rows.x.kind, rows.x[k], v, <floating *> x[k])
        rows.m[k] = m
        rows.picked[k] = rows.own[k] * (x[k][rows.target[k]] - rows.m[k]) if rows.own[k] else 0
        q = dense_row(job, rows.step[k], smooth, buffer, &rows.q[k])
        if q != NULL:
            rows.picked[k] += row_dot(x[k], v, m, q)
        rows.sum[k] = row_exp(x[k], v, m, e[k], rows.x[k] + job.rows.x.strides[1],
                              rows.g[k] + job.rows.g.strides[1] if rows.g[k] != NULL else NULL, size)
    finish_losses(job, rows)


cdef void short_rows(const Job *job, Block *rows, const floating **x, floating **e, floating *smooth,
                     floating *buffer) noexcept nogil:
    """Process rows of LANES to SHORT classes."""
    cdef Py_ssize_t k, v = job.rows.n_classes, ahead = (x[1] - x[0]) * job.block if rows.n > 1 else 0
    cdef floating m[MOST_ROWS]
    cdef const floating *q
    short_max(x, rows.n, v, m)
    for k in range(rows.n):
        rows.m[k] = m[k]
        rows.picked[k] = rows.own[k] * (x[k][rows.target[k]] - rows.m[k]) if rows.own[k] else 0
    if job.smooth or job.y.data != NULL:
        for k in range(rows.n):
            q = dense_row(job, rows.step[k], smooth, buffer, &rows.q[k])
            rows.picked[k] += row_dot(x[k], v, m[k], q)
    short_exp(x, rows.n, v, m, e, ahead, rows.sum)
    finish_losses(job, rows)


cdef void put_gradients(const Job *job, Block *rows, Py_ssize_t size, floating **e, floating *smooth,
                        floating *buffer) noexcept nogil:
    """Gradient of each row from its exponentials e, unless it is in place already."""
    cdef Py_ssize_t k, v = job.rows.n_classes
    cdef bint dense = job.smooth or job.y.data != NULL, native = size == sizeof(floating), scaled
    cdef const floating *q
    cdef floating value
    if native and not dense and v <= SHORT:
        short_gradient(e, rows.n, v, rows.target, rows.factor, rows.scale, rows.own)
        return
    for k in range(rows.n):
        rows.at_target[k] = e[k][rows.target[k]]
        q = dense_row(job, rows.step[k], smooth, buffer, &rows.q[k])
        value = at_target(rows, k, q)
        scaled = native or dense or is_large(e[k], rows.factor[k])
        if scaled:
            row_gradient(e[k], v, rows.factor[k], rows.scale[k], q)
        if native:
            e[k][rows.target[k]] = value if rows.own[k] else e[k][rows.target[k]]
            continue
        store(job.rows.x.kind, e[k], 1.0 if scaled else rows.factor[k], v, rows.g[k], size)
        if rows.own[k]:
            store(job.rows.x.kind, &value, 1, 1, rows.g[k] + size * rows.target[k], size)


cdef void softmax_tile(const Job *job, Block *rows, const floating **x, floating **e, floating *smooth,
                       floating *buffer) noexcept nogil:
    """Process at most LANES rows of fewer than LANES classes at once."""
    cdef Py_ssize_t k, v = job.rows.n_classes
    cdef floating *tile = buffer
    cdef floating *q_tile = buffer + v * LANES
    cdef floating *q_rows = buffer + 2 * v * LANES
    cdef const floating *q = smooth if job.smooth else NULL
    cdef const floating *q_row[LANES]
    cdef floating m[LANES]
    cdef double dot[LANES]
    cdef double factor[LANES]
    cdef double scale[LANES]
    cdef double sums[LANES]
    tile_in(x, rows.n, v, tile)
    tile_max(tile, v, m)
    if job.y.data != NULL:
        for k in range(rows.n):
            q_row[k] = dense_row(job, rows.step[k], smooth, q_rows + k * v, &rows.q[k])
        tile_in(q_row, rows.n, v, q_tile)
        q = q_tile
    if q != NULL:
        tile_dot(tile, v, m, q, job.y.data != NULL, dot)
    for k in range(rows.n):
        rows.m[k] = m[k]
        rows.picked[k] = rows.own[k] * (x[k][rows.target[k]] - rows.m[k]) if rows.own[k] else 0
        rows.picked[k] += dot[k] if q != NULL else 0
    tile_exp(tile, v, m, sums)
    for k in range(rows.n):
        rows.sum[k], rows.at_target[k] = sums[k], tile[rows.target[k] * LANES + k]
    finish_losses(job, rows)
    if job.rows.g.data == NULL:
        return
    for k in range(LANES):
        factor[k], scale[k] = (rows.factor[k], rows.scale[k]) if k < rows.n else (0.0, 0.0)
    tile_gradient(tile, v, factor, scale, q, job.y.data != NULL)
    tile_out(tile, rows.n, v, e)
    for k in range(rows.n):
        if rows.own[k]:
            e[k][rows.target[k]] = at_target(rows, k, smooth if job.smooth else <floating *> NULL)


cdef void finish_losses(const Job *job, Block *rows) noexcept nogil:
    cdef Py_ssize_t k
    softmax_losses(rows.n, rows.m, rows.sum, rows.picked, rows.q, job.z, rows.scale, rows.loss, rows.factor)
    for k in range(rows.n):
        if rows.sum[k] == 0:  # all logits are -inf: all probabilities are 0
            rows.loss[k] = INFINITY if rows.q[k] > 0 or job.z > 0 else 0
            rows.factor[k] = rows.scale[k] = 0
        elif job.gamma:
            focus(job.gamma, rows, k)


cdef void focus(double gamma, Block *rows, Py_ssize_t k) noexcept nogil:
    """Multiply the loss of row k by (1 - p)^gamma, and its slope by the factor that the gradient has in addition.

    With the cross-entropy l = -log p, d[(1 - p)^gamma l] / dl = (1 - p)^gamma (1 + gamma p l / (1 - p)), and
    l / (1 - p) is 1 where both vanish.
    """
    cdef double given = rows.loss[k] / rows.own[k] if rows.own[k] else 0, loss = 0 if given < 0 else given
    cdef double p = exp64(-loss), rest = complement(loss, p)
    cdef double focal = exp64(gamma * log64(rest))
    cdef double steep = focal * (1 + (gamma * p * (loss / rest if rest else 1) if p else 0))
    rows.loss[k] *= focal
    rows.factor[k] = min(rows.factor[k] * steep, DBL_MAX)  # finite, because some of its cofactors are 0
    rows.scale[k] = min(rows.scale[k] * steep, DBL_MAX)


cdef inline double complement(double loss, double p) noexcept nogil:
    """1 - p for p = exp(-loss), without the rounding of p near 1."""
    return loss if p == 1 else (1 - p) * (loss / -log64(p)) if p > 0.5 else 1 - p


cdef floating at_target(const Block *rows, Py_ssize_t k, const floating *q) noexcept nogil:
    # For p near 1, p - 1 needs more digits than a probability in float32 has.
    cdef double own = rows.own[k] + (q[rows.target[k]] if q != NULL else 0)
    return <floating> (rows.factor[k] * rows.at_target[k] - rows.scale[k] * own)


cdef void probability_rows(const Job *job, Block *rows, const floating **x, floating **e, floating *smooth,
                           floating *buffer) noexcept nogil:
    """Loss and gradient of rows of log-probabilities or probabilities: only elements with q > 0 contribute."""
    cdef Py_ssize_t k, v = job.rows.n_classes, t
    cdef const floating *q
    cdef double p, own
    for k in range(rows.n):  # first, because a processor waits for several rows at once if nothing is in between
        rows.picked[k] = x[k][rows.target[k]]
    for k in range(rows.n):
        t, own, p = rows.target[k], rows.own[k], rows.picked[k]
        if job.input == PROBS:
            p = clamp_probability(p)
        rows.loss[k] = 0
        if own:
            rows.loss[k] = -own * (log64(p) if job.input == PROBS else p)
        q = dense_row(job, rows.step[k], smooth, buffer, &rows.q[k])
        if q != NULL:
            rows.loss[k] -= row_dot_log(x[k], v, q) if job.input == PROBS else row_dot(x[k], v, 0, q)
        if e[k] == NULL:
            continue
        if q != NULL:
            own += q[t] if own else 0
            row_slope(x[k], v, rows.scale[k], q, job.input == PROBS, e[k])
        else:
            memset(e[k], 0, v * sizeof(floating))
        if own:
            e[k][t] = <floating> (copysign(INFINITY, -rows.scale[k]) if job.input == PROBS and p == 0 else
                                  -rows.scale[k] * own / (p if job.input == PROBS else 1.0))


cdef void run_block(const Job *job, Py_ssize_t first, Py_ssize_t last, floating *smooth, floating *scratch,
                    Block *rows) noexcept nogil:
    cdef const floating *x[MOST_ROWS]
    cdef floating *e[MOST_ROWS]
    cdef floating *buffer = scratch
    cdef Py_ssize_t k, v = job.rows.n_classes
    cdef bint native = job.rows.native
    cdef Py_ssize_t size = job.rows.size
    collect(job, first, last, size, rows)
    if rows.n == 0:
        return
    for k in range(rows.n):
        x[k], e[k] = <const floating *> rows.x[k], <floating *> rows.g[k]
        if not native:
            x[k] = buffer
            if v <= SHORT or job.input != LOGITS:
                load(job.rows.x.kind, rows.x[k], size, v, buffer)
        if not native and e[k] != NULL or e[k] == NULL and job.input == LOGITS and LANES <= v <= SHORT:
            e[k] = buffer
        buffer += v
    if job.input != LOGITS:
        probability_rows(job, rows, x, e, smooth, buffer)
    elif v < LANES:
        softmax_tile(job, rows, x, e, smooth, buffer)
    elif v <= SHORT:
        short_rows(job, rows, x, e, smooth, buffer)
    else:
        wide_rows(job, rows, size, x, e, smooth, buffer)
    for k in range(rows.n):
        job.rows.loss[rows.step[k]] = rows.loss[k]
    if job.rows.g.data == NULL:
        return
    if job.input == LOGITS and v >= LANES:
        put_gradients(job, rows, size, e, smooth, buffer)
    elif not native:
        for k in range(rows.n):
            store(job.rows.x.kind, e[k], 1, v, rows.g[k], size)


cdef void run_short(const Job *job, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Run steps first to last - 1, counted over the batch, of a `short` job."""
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t b, r, n
    while first < last:
        b, r = first // rows.n_rows, first % rows.n_rows
        n = min(last - first, rows.n_rows - r)
        entropy_rows(<const float *> scores_of(rows, b, r), rows.x.strides[1] // <Py_ssize_t> sizeof(float),
                     <float *> gradient_of(rows, b, r), rows.g.strides[1] // <Py_ssize_t> sizeof(float), n,
                     rows.n_classes, rows.targets + first, rows.weight, job.z, rows.scale[b], rows.loss + first)
        first += n


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, start, stop
    cdef uintptr_t scratch = part_of(&job.workspace, worker)
    cdef Block *rows = <Block *> take(&scratch, 1, sizeof(Block))
    while next_items(loop, worker, &first, &last):
        if job.short:
            run_short(job, first * job.block, min(job.rows.n_steps, last * job.block))
            continue
        for i in range(first, last):
            start, stop = i * job.block, min(job.rows.n_steps, (i + 1) * job.block)
            if job.rows.x.kind == FLOAT64:
                run_block(job, start, stop, <double *> job.workspace.common, <double *> scratch, rows)
            else:
                run_block(job, start, stop, <float *> job.workspace.common, <float *> scratch, rows)


cdef double smooth_row(const Job *job, floating *row) noexcept nogil:
    """Set the dense row of label smoothing; returns its sum."""
    memset(row, 0, job.rows.n_classes * sizeof(floating))
    return row_smooth(row, job.rows.n_classes, job.rows.weight, job.epsilon, row)


cdef Status run_steps(Job *job, int num_threads) noexcept nogil:
    """Run all steps. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef Py_ssize_t v = job.rows.n_classes
    cdef size_t row = job.rows.row
    cdef uintptr_t own = 0
    job.smooth = job.y.data == NULL and job.epsilon > 0
    job.short = (GROUPS and job.rows.x.kind == FLOAT32 and job.input == LOGITS and job.y.data == NULL
                 and not job.smooth and not job.gamma and not job.rows.by_step and v <= SHORT)
    job.block = min(LANES if v < LANES else MOST_ROWS, max(1, BLOCK // v))
    # For all the smoothing row; for each worker a block, rows of half precision, and a row of q or tiles.
    take(&own, 1, sizeof(Block))
    take(&own, job.block + (3 * LANES if v < LANES else 1), row)
    if not allocate(&job.workspace, row, own, num_threads, False):
        return NO_MEMORY
    if job.smooth:
        job.dense_sum = smooth_row(job, <double *> job.workspace.common) if job.rows.x.kind == FLOAT64 \
            else smooth_row(job, <float *> job.workspace.common)
    begin(&loop, (job.rows.n_steps + job.block - 1) // job.block, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.workspace)
    return loop.status


cdef Status run_call(Call *call) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(Job))
    set_rows(&job.rows, call)
    job.input, job.gamma = <Input> call.input, call.parameter
    return run_steps(&job, call.num_threads)


entry = PyCapsule_New(<void *> run_call, NULL, NULL)


def softmax_cross_entropy(object scores, int kind, const int64_t[::1] targets, const double[::1] scale,
                          const double[::1] class_weight, double[::1] loss, object grad, int num_threads,
                          object distributions, int distribution_kind, double label_smoothing, double z_loss,
                          int input_kind, double gamma=0):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   scores [B, R, V], class axis contiguous; targets [B R], -1 where a step does not count; scale [B] or [B R];
         distributions [B, R, V], class axis contiguous, or None.
    OUT  loss [B R], not scaled; grad [B, R, V], which may be scores.
    """
    cdef Held held
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    held.n = 0
    try:
        hold_rows(&job.rows, &held, scores, kind, targets, scale, class_weight, loss, grad)
        job.y = hold(&held, distributions, distribution_kind, False)
        job.input, job.epsilon, job.z, job.gamma = <Input> input_kind, label_smoothing, z_loss, gamma
        with nogil:
            status = run_steps(&job, num_threads)
        check(status, job.workspace.size)
    finally:
        let_go(&held)


def find_bad_share(object values, int kind, const int64_t[::1] targets, double most):
    """First element below 0 or above `most` of the flattened values of counted steps, or -1.

    Values outside by at most 1e-6, from rounding, are allowed.

    IN   values [B, R, V], class axis contiguous; targets [B R], -1 for steps that do not count, which are not checked.
    """
    cdef Held held
    cdef Array p
    held.n = 0
    try:
        p = hold(&held, values, kind, False)
        if kind == FLOAT64:
            return outside[double](&p, targets, most, 0.0)
        return outside[float](&p, targets, most, 0.0)
    finally:
        let_go(&held)


cdef Py_ssize_t outside(const Array *p, const int64_t[::1] targets, double most, floating tag) except -2:
    cdef Py_ssize_t n, at, done = 0, v = p.shape[2], bad = -1
    cdef bint native = p.kind == FLOAT32 or p.kind == FLOAT64
    cdef Workspace converted
    cdef floating *buffer
    cdef const char *row
    if not allocate(&converted, size_product(0 if native else v, sizeof(floating)), 0, 0, False):
        raise MemoryError(f"no memory for a workspace of {converted.size} bytes")
    buffer = <floating *> converted.common
    try:
        with nogil:
            for n in range(targets.shape[0]):
                if targets[n] < 0:
                    continue
                row = p.data + n // p.shape[1] * p.strides[0] + n % p.shape[1] * p.strides[1]
                if not native:
                    load(p.kind, row, p.strides[2], v, buffer)
                    row = <const char *> buffer
                at = find_outside(<const floating *> row, v, most)
                if at < v:
                    bad = n * v + at
                    break
                advance(&done, v)
    finally:
        release(&converted)
    return bad
