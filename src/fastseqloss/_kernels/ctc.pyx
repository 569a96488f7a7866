"""CTC, loss and gradient, one sequence at a time.

A sequence goes through two sweeps. Forward: each frame's row of logits takes the dense pass, which leaves
scale * softmax in the gradient; the scores of the classes that occur in the labels are gathered and become
emissions; alphas advance. Backward: betas, posteriors, and the gradient of those few classes, in float64.

Alphas are kept at checkpoints and recomputed block by block on the way back; short sequences are one block.
Frames c_j to c_j+1 bound block j, and block j owns the steps between them.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastseqloss._kernels.ctc_fast cimport backward_sweep, forward_sweep
from fastseqloss._kernels.ctc_general cimport general
from fastseqloss._kernels.ctc_sequence cimport (
    DEAD, LOGITS, Sequence, fill_frames, lay_out, log_total, round_up, row, set_labels, Input,
)
from fastseqloss._kernels.softmax cimport log64


cdef double lattice(Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Log-likelihood of the lattice and the gradient: fast path, else general path."""
    cdef Py_ssize_t k = forward_sweep(s, x, g), r, n = s.n_labels
    cdef double b, l = 0, el = DEAD, total
    if s.is_nan:
        return NAN
    if k < 0:
        return general(s, x, g)
    r = s.frames - 1 - (s.n_blocks - 1) * s.block
    r = r if s.with_grad else r % 2
    b = row(s, s.rows, r, 0)[n]
    if n:
        l, el = row(s, s.rows, r, 1)[n - 1], row(s, s.exponents, k, 1)[n - 1]
    if not (b > 0 or l > 0):
        return -INFINITY
    total = log_total(b, row(s, s.exponents, k, 0)[n], l, el)
    if s.with_grad and not backward_sweep(s, x, g, k):
        general(s, x, g)
    return total


cdef double run_sequence(Sequence *s, const floating *x, floating *g, const int64_t *labels, Py_ssize_t n_frames,
                         bint feasible) noexcept nogil:
    """Loss of one sequence; its gradient, padding included, goes to g."""
    cdef double total
    fill_frames(s, g, s.frames, n_frames, 0)
    if s.scale == 0 or not feasible:
        fill_frames(s, g, 0, s.frames, 0)
        return INFINITY if not feasible else 0
    if s.frames == 0:
        return 0
    set_labels(s, labels)
    total = lattice(s, x, g)
    total = s.log_norm + log64(s.norm_product) - total
    if isnan(total) or total == INFINITY:
        fill_frames(s, g, 0, s.frames, 0 if total == INFINITY else NAN)
    elif s.input == LOGITS and total < 0:
        total = 0  # by rounding alone
    return total


def ctc_loss(const floating[:, :, :] logits, const int64_t[::1] labels, const int64_t[::1] starts,
             const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[::1] frames_needed,
             const double[::1] scale, const int64_t[::1] order, int input_kind, Py_ssize_t blank,
             double[::1] loss, floating[:, :, :] grad, bint in_place, int num_threads, bint by_state=False):
    """Losses and, unless grad is None, gradients times scale, of a checked batch.

    IN   logits [B, T, V], labels of sequence b from starts[b] on, order: sequences, longest first.
    OUT  loss [B], inf where logit_lengths < frames_needed; grad [B, T, V], which is logits if in_place. With by_state
         grad [B, T, 2 S + 1] is given the posteriors of the states instead, blank, label, ..., blank.
    """
    cdef Py_ssize_t n = logits.shape[0], n_frames = logits.shape[1], n_classes = logits.shape[2], i, b, used
    cdef bint with_grad = grad is not None, empty = n_frames == 0
    cdef const floating *x = NULL if empty else &logits[0, 0, 0]
    cdef floating *g = NULL if empty or not with_grad else &grad[0, 0, 0]
    cdef Py_ssize_t x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    cdef Py_ssize_t g_step = grad.strides[0] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    cdef const int64_t *label = &labels[0] if labels.shape[0] else NULL
    cdef Sequence common
    cdef Py_ssize_t room = 0
    memset(&common, 0, sizeof(Sequence))
    common.input = <Input> input_kind
    common.with_grad, common.in_place = with_grad, in_place
    common.n_classes, common.blank = n_classes, blank
    common.x_stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    common.g_stride = grad.strides[1] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    common.by_state, common.g_width = by_state, grad.shape[2] if with_grad else 0
    common.norm_product = 1
    for b in range(n):
        common.frames, common.n_labels = logit_lengths[b], label_lengths[b]
        room = max(room, <Py_ssize_t> lay_out(&common, sizeof(floating), 0))
    # Classes are looked up in an array of zeros per thread, before the workspace.
    used = round_up(n_classes * sizeof(int32_t), 64)
    cdef char *workspace = <char *> calloc(num_threads, used)
    cdef char *arrays = <char *> malloc(num_threads * room + 64)
    if workspace == NULL or arrays == NULL:
        free(workspace)
        free(arrays)
        raise MemoryError(f"no memory for a workspace of {num_threads * (room + used)} bytes")
    cdef uintptr_t base = (<uintptr_t> arrays + 63) // 64 * 64
    with nogil:
        if num_threads == 1:
            for i in range(n):
                b = order[i]
                loss[b] = start_sequence(common, b, x + b * x_step, g + b * g_step, label, &starts[0],
                                         &logit_lengths[0], &label_lengths[0], &frames_needed[0], scale[b],
                                         n_frames, <int32_t *> workspace, base, sizeof(floating))
        else:
            for i in prange(n, schedule="dynamic", chunksize=1, num_threads=num_threads):
                b = order[i]
                loss[b] = start_sequence(common, b, x + b * x_step, g + b * g_step, label, &starts[0],
                                         &logit_lengths[0], &label_lengths[0], &frames_needed[0], scale[b],
                                         n_frames, <int32_t *> (workspace + threadid() * used),
                                         base + threadid() * room, sizeof(floating))
    free(workspace)
    free(arrays)


cdef double start_sequence(Sequence common, Py_ssize_t b, const floating *x, floating *g, const int64_t *labels,
                           const int64_t *starts, const int64_t *logit_lengths, const int64_t *label_lengths,
                           const int64_t *frames_needed, double scale, Py_ssize_t n_frames, int32_t *position,
                           uintptr_t workspace, Py_ssize_t itemsize) noexcept nogil:
    cdef Sequence s = common
    s.frames, s.n_labels, s.scale, s.position = logit_lengths[b], label_lengths[b], scale, position
    lay_out(&s, itemsize, workspace)
    return run_sequence(&s, x, g, labels + starts[b], n_frames, logit_lengths[b] >= frames_needed[b])
