"""CTC, loss and gradient, one sequence at a time.

A sequence takes two sweeps. Forward: the dense pass over the logits of each frame stores scale * softmax in the
gradient; the scores of the classes that occur in the labels are gathered as emissions; alphas advance. Backward:
betas, posteriors, and the gradient of those few classes, in float64.

Alphas are kept at checkpoints and recomputed block by block in the backward sweep; short sequences are one block.
Frames c_j and c_j+1 bound block j, which consists of the steps between them.

The fast path (striped.pxd) opens and closes frames in tiles.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastseqloss._kernels.ctc.fast cimport backward_sweep, forward_sweep
from fastseqloss._kernels.ctc.general cimport general
from fastseqloss._kernels.ctc.labels cimport set_labels
from fastseqloss._kernels.ctc.sequence cimport (
    LOGITS, Input, Sequence, fill_frames, lay_out_sequence, row,
)
from fastseqloss._kernels.ctc.striped cimport run_striped
from fastseqloss._kernels.ctc.stripes cimport Striped, lay_out_striped
from fastseqloss._kernels.lattice.extended_range cimport DEAD, log_total
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product, size_sum


cdef double lattice(Sequence *s, const floating *x, floating *g, bint *has_path) noexcept nogil:
    """Log-likelihood of the lattice and the gradient, by the fast path or else the general path."""
    cdef Py_ssize_t k, r, n = s.graph.n_labels
    cdef double b, l = 0, el = DEAD, total, norm, rest
    memset(s.blank_u, 0, s.graph.width * sizeof(int32_t))
    has_path[0] = True
    k = forward_sweep(s, x, g)
    if s.is_nan:
        return NAN
    if k < 0:
        return general(s, x, g, has_path)
    r = s.frames - 1 - (s.n_blocks - 1) * s.block
    r = r if s.with_grad else r % 2
    b = row(s, s.rows, r, 0)[n]
    if n:
        l, el = row(s, s.rows, r, 1)[n - 1], row(s, s.exponents, k, 1)[n - 1]
    if not (b > 0 or l > 0):
        has_path[0] = False
        return -INFINITY
    total = log_total(b, row(s, s.exponents, k, 0)[n], l, el)
    if s.with_grad and not backward_sweep(s, x, g, k):
        norm, rest = s.log_norm, s.log_rest
        general(s, x, g, has_path)
        s.log_norm, s.log_rest = norm, rest  # the values that match the total
    return total


cdef double run_sequence(Sequence *s, const floating *x, floating *g, const int64_t *labels, Py_ssize_t n_frames,
                         bint feasible) noexcept nogil:
    """Loss of one sequence; its gradient, including padding, is written to g."""
    cdef Striped striped
    cdef double total
    cdef bint has_path = True
    fill_frames(s, g, s.frames, n_frames, 0)
    if s.scale == 0 or not feasible:
        fill_frames(s, g, 0, s.frames, 0)
        return INFINITY if not feasible else 0
    if s.frames == 0:
        return 0
    set_labels(&s.graph, labels, s.blank)
    if s.by_state or not run_striped(&striped, s, x, g, &total):
        total = lattice(s, x, g, &has_path)
    if not has_path:
        fill_frames(s, g, 0, s.frames, 0)
        return INFINITY
    add_exactly(&s.log_norm, &s.log_rest, log64(s.norm_product))
    add_exactly(&s.log_norm, &s.log_rest, -total)
    total = s.log_norm + s.log_rest
    if isnan(total):
        fill_frames(s, g, 0, s.frames, NAN)
    elif s.input == LOGITS and total < 0:
        total = 0  # negative by rounding only
    return total


# Arguments of a call, and its workspace.
cdef struct Batch:
    Sequence common
    Py_ssize_t n, n_frames  # sequences; frames, padding included
    Py_ssize_t x_step, g_step  # elements from one sequence to the next
    const int64_t *order
    const int64_t *labels
    const int64_t *starts
    const int64_t *logit_lengths
    const int64_t *label_lengths
    const int64_t *frames_needed
    const double *scale
    double *loss
    Workspace positions, arrays


cdef void run_worker(const Batch *batch, const floating *x, floating *g, Loop *loop, int worker) noexcept nogil:
    cdef Sequence s
    cdef Py_ssize_t first, last = 0, i, b
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = batch.order[i] if batch.order != NULL else i
            s = batch.common
            s.frames, s.graph.n_labels, s.scale = batch.logit_lengths[b], batch.label_lengths[b], batch.scale[b]
            s.graph.position = <int32_t *> part_of(&batch.positions, worker)
            lay_out_sequence(&s, sizeof(floating), part_of(&batch.arrays, worker))
            batch.loss[b] = run_sequence(&s, x + b * batch.x_step, g + b * batch.g_step,
                                         batch.labels + batch.starts[b], batch.n_frames,
                                         batch.logit_lengths[b] >= batch.frames_needed[b])


cdef Status run_batch(Batch *batch, const floating *x, floating *g, int num_threads) noexcept nogil:
    """Run all sequences; x and g are the first one's. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef Striped striped
    cdef Sequence *s = &batch.common
    cdef size_t own = 0
    cdef Py_ssize_t b
    for b in range(batch.n):
        s.frames, s.graph.n_labels = batch.logit_lengths[b], batch.label_lengths[b]
        own = max(own, lay_out_sequence(s, sizeof(floating), 0))
        if not s.by_state:
            own = max(own, lay_out_striped(&striped, s, s.after_frames))
    # The array that maps classes to indices, one for each worker, must be zero.
    if not (allocate(&batch.arrays, 0, own, num_threads, False)
            and allocate(&batch.positions, 0, size_product(s.n_classes, sizeof(int32_t)), num_threads, True)):
        release(&batch.arrays)
        return NO_MEMORY
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(batch, x, g, &loop, threadid())
    release(&batch.arrays)
    release(&batch.positions)
    return loop.status


def ctc_loss(const floating[:, :, :] logits, const int64_t[::1] table, const double[::1] scale,
             const int64_t[::1] order, int input_kind, Py_ssize_t blank, double[::1] loss, floating[:, :, :] grad,
             bint in_place, int num_threads, bint by_state=False):
    """Losses and, unless grad is None, gradients times scale, of a checked batch.

    IN   logits [B, T, V]; table of sequences and labels as read_sequences fills it; order: sequences, longest first,
         or None.
    OUT  loss [B], inf for sequences of fewer frames than needed; grad [B, T, V], which is logits if in_place. With
         by_state, grad [B, T, 2 S + 1] receives the posteriors of the states instead: blank, label, ..., blank.
    """
    cdef bint with_grad = grad is not None
    cdef Batch batch
    cdef Sequence *common = &batch.common
    cdef Status status
    cdef bint no_memory = False
    cdef const floating *x = NULL
    cdef floating *g = NULL
    memset(&batch, 0, sizeof(Batch))
    batch.n, batch.n_frames = logits.shape[0], logits.shape[1]
    if batch.n_frames:
        x, g = &logits[0, 0, 0], &grad[0, 0, 0] if with_grad else NULL
    batch.x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    batch.g_step = grad.strides[0] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    batch.logit_lengths, batch.starts = &table[0], &table[0] + batch.n
    batch.label_lengths, batch.frames_needed = &table[0] + 2 * batch.n, &table[0] + 3 * batch.n
    batch.labels, batch.order = &table[0] + 4 * batch.n, &order[0] if order is not None else NULL
    batch.scale, batch.loss = &scale[0], &loss[0]
    common.input = <Input> input_kind
    common.with_grad, common.in_place = with_grad, in_place
    common.n_classes, common.blank = logits.shape[2], blank
    common.x_stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    common.g_stride = grad.strides[1] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    common.by_state, common.g_width = by_state, grad.shape[2] if with_grad else 0
    common.norm_product, common.no_memory = 1, &no_memory
    with nogil:
        status = run_batch(&batch, x, g, num_threads)
    check(status, size_sum(batch.arrays.size, batch.positions.size))
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
