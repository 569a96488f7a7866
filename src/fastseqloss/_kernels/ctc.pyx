"""CTC, loss and gradient, one sequence at a time.

A sequence goes through two sweeps. Forward: each frame's row of logits takes the dense pass, which leaves
scale * softmax in the gradient; the scores of the classes that occur in the labels are gathered and become
emissions; alphas advance. Backward: betas, posteriors, and the gradient of those few classes, in float64.

Alphas are kept at checkpoints and recomputed block by block on the way back; short sequences are one block.
Frames c_j to c_j+1 bound block j, and block j owns the steps between them.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastseqloss._kernels.ctc_fast cimport backward_sweep, forward_sweep
from fastseqloss._kernels.ctc_general cimport general
from fastseqloss._kernels.ctc_sequence cimport (
    DEAD, LOGITS, Sequence, fill_frames, lay_out, log_total, row, set_labels, Input,
)
from fastseqloss._kernels.machine cimport run_items
from fastseqloss._kernels.softmax cimport log64
from fastseqloss._kernels.workspace cimport Workspace, allocate, part_of, release, size_product


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


# What a call asks for, and the memory it works in.
cdef struct Batch:
    Sequence common
    const void *x
    void *g
    Py_ssize_t x_step, g_step, n_frames  # elements from one sequence to the next; frames, padding included
    const int64_t *order
    const int64_t *labels
    const int64_t *starts
    const int64_t *logit_lengths
    const int64_t *label_lengths
    const int64_t *frames_needed
    const double *scale
    double *loss
    Workspace positions, arrays


cdef inline void run_sequences(const Batch *work, Py_ssize_t first, Py_ssize_t last, int hand,
                               floating tag) noexcept nogil:
    cdef Sequence s
    cdef Py_ssize_t i, b
    for i in range(first, last):
        b = work.order[i]
        s = work.common
        s.frames, s.n_labels, s.scale = work.logit_lengths[b], work.label_lengths[b], work.scale[b]
        s.position = <int32_t *> part_of(&work.positions, hand)
        lay_out(&s, sizeof(floating), part_of(&work.arrays, hand))
        work.loss[b] = run_sequence(&s, <const floating *> work.x + b * work.x_step,
                                    <floating *> work.g + b * work.g_step, work.labels + work.starts[b],
                                    work.n_frames, work.logit_lengths[b] >= work.frames_needed[b])


cdef void run_float(void *work, Py_ssize_t first, Py_ssize_t last, int hand) noexcept nogil:
    run_sequences(<const Batch *> work, first, last, hand, <float> 0)


cdef void run_double(void *work, Py_ssize_t first, Py_ssize_t last, int hand) noexcept nogil:
    run_sequences(<const Batch *> work, first, last, hand, <double> 0)


def ctc_loss(const floating[:, :, :] logits, const int64_t[::1] labels, const int64_t[::1] starts,
             const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[::1] frames_needed,
             const double[::1] scale, const int64_t[::1] order, int input_kind, Py_ssize_t blank,
             double[::1] loss, floating[:, :, :] grad, bint in_place, int num_threads, bint by_state=False):
    """Losses and, unless grad is None, gradients times scale, of a checked batch.

    IN   logits [B, T, V], labels of sequence b from starts[b] on, order: sequences, longest first.
    OUT  loss [B], inf where logit_lengths < frames_needed; grad [B, T, V], which is logits if in_place. With by_state
         grad [B, T, 2 S + 1] is given the posteriors of the states instead, blank, label, ..., blank.
    """
    cdef Py_ssize_t n = logits.shape[0], n_frames = logits.shape[1], n_classes = logits.shape[2], b
    cdef bint with_grad = grad is not None
    cdef size_t room = 0
    cdef Batch work
    cdef Sequence common
    memset(&work, 0, sizeof(Batch))
    if n_frames:
        work.x, work.g = &logits[0, 0, 0], &grad[0, 0, 0] if with_grad else NULL
    work.x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    work.g_step = grad.strides[0] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    work.labels, work.starts = &labels[0] if labels.shape[0] else NULL, &starts[0]
    work.logit_lengths, work.label_lengths, work.frames_needed = &logit_lengths[0], &label_lengths[0], &frames_needed[0]
    work.order, work.scale, work.loss, work.n_frames = &order[0], &scale[0], &loss[0], n_frames
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
        room = max(room, lay_out(&common, sizeof(floating), 0))
    work.common = common
    try:
        # Classes are looked up in an array of zeros per thread.
        allocate(&work.positions, 0, size_product(n_classes, sizeof(int32_t)), num_threads, True)
        allocate(&work.arrays, 0, room, num_threads, False)
        with nogil:
            run_items(run_float if floating is float else run_double, &work, n, num_threads)
    finally:
        release(&work.positions)
        release(&work.arrays)
