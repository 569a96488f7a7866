"""CTC, loss and gradient, one sequence at a time.

A sequence takes two sweeps. Forward: the dense pass over the logits of each frame stores scale * softmax in the
gradient; the scores of the classes that occur in the labels are gathered as emissions; alphas advance. Backward:
betas, posteriors, and the gradient of those few classes, in float64.

Alphas are kept at checkpoints and recomputed block by block in the backward sweep; short sequences are one block.
Frames c_j and c_j+1 bound block j, which consists of the steps between them.

The fast path (striped.pxd) opens and closes frames in tiles. It runs a long sequence in two halves (halves.pxd), which
two workers may share. What it refuses takes the paths of fast.pxd or general.pxd.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastseqloss._kernels.calls cimport Call
from fastseqloss._kernels.ctc.fast cimport backward_sweep, forward_sweep
from fastseqloss._kernels.ctc.general cimport general
from fastseqloss._kernels.ctc.halves cimport (
    Half, Halves, agree, backward_half, begin_halves, check_half, finish_halves, forward_half, is_long, join_halves,
    lay_out_halves, run_halves,
)
from fastseqloss._kernels.ctc.labels cimport set_labels
from fastseqloss._kernels.ctc.sequence cimport (
    GRADIENT, LOGITS, OCCUPATION, OCCUPATION_ROWS, POSTERIORS, Input, Sequence, fill_frames, fill_sequence,
    lay_out_sequence, row,
)
from fastseqloss._kernels.ctc.striped cimport run_striped
from fastseqloss._kernels.ctc.stripes cimport Striped, lay_out_striped
from fastseqloss._kernels.lattice.extended_range cimport DEAD, log_total
from fastseqloss._kernels.parallel.threads cimport DONE, NO_MEMORY, Loop, Status, begin, check, enter, next_items
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


cdef bint begin_sequence(Sequence *s, floating *g, const int64_t *labels, Py_ssize_t n_frames, bint feasible,
                         double *loss) noexcept nogil:
    """Set the labels; False if the loss, and the gradient, which are set, do not depend on the scores.

    The gradient of padding is written.
    """
    fill_frames(s, g, s.frames, n_frames, 0)
    if s.scale == 0 or not feasible:
        fill_sequence(s, g, 0)
    loss[0] = 0 if feasible else INFINITY
    if s.scale == 0 or not feasible or s.frames == 0:
        return False
    set_labels(&s.graph, labels, s.blank)
    return True


cdef double end_sequence(Sequence *s, const floating *x, floating *g, bint good, double total) noexcept nogil:
    """Loss of a sequence from the log-likelihood of its lattice; unless good, another path computes it."""
    cdef bint has_path = total > -INFINITY
    if not good:
        total = lattice(s, x, g, &has_path)
    if not has_path:
        fill_sequence(s, g, 0)
        return INFINITY
    add_exactly(&s.log_norm, &s.log_rest, log64(s.norm_product))
    add_exactly(&s.log_norm, &s.log_rest, -total)
    total = s.log_norm + s.log_rest
    if isnan(total):
        fill_sequence(s, g, NAN)
    elif s.input == LOGITS and total < 0:
        total = 0  # negative by rounding only
    return total


cdef double run_sequence(Sequence *s, const floating *x, floating *g, const int64_t *labels, Py_ssize_t n_frames,
                         bint feasible) noexcept nogil:
    """Loss of one sequence; its gradient, including padding, is written to g."""
    cdef Striped striped
    cdef Halves halves
    cdef double total = 0
    cdef bint good
    if not begin_sequence(s, g, labels, n_frames, feasible, &total):
        return total
    if is_long(s):
        good = run_halves(&halves, s, x, g, &total)
    else:
        good = run_striped(&striped, s, x, g, &total)
    return end_sequence(s, x, g, good, total)


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


cdef void lay_out(const Batch *batch, Py_ssize_t b, int worker, Py_ssize_t part, Py_ssize_t itemsize,
                  Sequence *s) noexcept nogil:
    """Lay out sequence b in a part of the workspace."""
    s[0] = batch.common
    s.frames, s.graph.n_labels, s.scale = batch.logit_lengths[b], batch.label_lengths[b], batch.scale[b]
    s.occupation += b * OCCUPATION_ROWS * s.occupation_width
    s.graph.position = <int32_t *> part_of(&batch.positions, worker)
    lay_out_sequence(s, itemsize, part_of(&batch.arrays, part))


cdef inline double run_whole(const Batch *batch, const floating *x, floating *g, Py_ssize_t b, int worker,
                             Py_ssize_t part) noexcept nogil:
    """Loss of sequence b."""
    cdef Sequence s
    lay_out(batch, b, worker, part, sizeof(floating), &s)
    return run_sequence(&s, x + b * batch.x_step, g + b * batch.g_step, batch.labels + batch.starts[b], batch.n_frames,
                        batch.logit_lengths[b] >= batch.frames_needed[b])


cdef inline Py_ssize_t sequence_of(const Batch *batch, Py_ssize_t i) noexcept nogil:
    """Sequence number i in the order."""
    return batch.order[i] if batch.order != NULL else i


cdef void run_worker(const Batch *batch, const floating *x, floating *g, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, b
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = sequence_of(batch, i)
            batch.loss[b] = run_whole(batch, x, g, b, worker, worker)


# ---- few long sequences: two workers run the halves of each --------------------------------

cdef enum Phase:
    FORWARD
    CHECK
    BACKWARD
    END


cdef struct Task:
    Sequence s
    Halves halves
    double total
    bint in_halves  # else the sequence is run as a whole, in the first phase


cdef void begin_task(const Batch *batch, Task *task, floating *g, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t b = sequence_of(batch, i)
    cdef const int64_t *labels = batch.labels + batch.starts[b]
    lay_out(batch, b, 0, i, sizeof(floating), &task.s)
    task.in_halves = is_long(&task.s)
    if task.in_halves:
        task.in_halves = begin_sequence(&task.s, g + b * batch.g_step, labels, batch.n_frames,
                                        batch.logit_lengths[b] >= batch.frames_needed[b], &batch.loss[b])
    if task.in_halves:
        begin_halves(&task.halves, &task.s, sizeof(floating))


cdef void run_half(const Batch *batch, Task *task, const floating *x, floating *g, Phase phase, Py_ssize_t item,
                   int worker) noexcept nogil:
    """Run a phase of a half; item 2 i + h is half h of sequence i in the order."""
    cdef Py_ssize_t b = sequence_of(batch, item // 2)
    cdef Half *half = &task.halves.half[item % 2]
    cdef const floating *scores = x + b * batch.x_step
    cdef floating *gradient = g + b * batch.g_step
    cdef bint good
    if not task.in_halves:
        if phase == FORWARD and item % 2 == 0:
            batch.loss[b] = run_whole(batch, x, g, b, worker, item // 2)
    elif phase == FORWARD:
        forward_half(half, scores, gradient)
    elif phase == CHECK and half.good:
        check_half(half, scores, gradient)
    elif phase == BACKWARD and half.good:
        backward_half(half, scores, gradient)
    elif phase == END and item % 2 == 0:
        good = finish_halves(&task.halves, &task.s, scores, gradient)
        batch.loss[b] = end_sequence(&task.s, scores, gradient, good, task.total)


cdef void run_phase(const Batch *batch, Task *tasks, const floating *x, floating *g, Phase phase, Loop *loop,
                    int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, item
    while next_items(loop, worker, &first, &last):
        for item in range(first, last):
            run_half(batch, &tasks[item // 2], x, g, phase, item, worker)


cdef Status run_in_halves(const Batch *batch, const floating *x, floating *g, int num_threads) noexcept nogil:
    """Run all sequences; a worker for each half of a long one."""
    cdef Loop loop
    cdef Task *tasks = <Task *> batch.arrays.common
    cdef Task *task
    cdef Py_ssize_t i, phase
    for i in range(batch.n):
        begin_task(batch, &tasks[i], g, i)
    for phase in range(FORWARD, END + 1):
        begin(&loop, 2 * batch.n, num_threads)
        while enter(&loop):
            with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
                run_phase(batch, tasks, x, g, <Phase> phase, &loop, threadid())
        if loop.status != DONE:
            break
        for i in range(batch.n):
            task = &tasks[i]
            if task.in_halves and phase == FORWARD:
                join_halves(&task.halves, &task.s, &task.total)
            elif task.in_halves and phase == CHECK:
                agree(&task.halves)
    return loop.status


cdef Status run_whole_sequences(const Batch *batch, const floating *x, floating *g, int num_threads) noexcept nogil:
    """Run all sequences, one worker for each."""
    cdef Loop loop
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(batch, x, g, &loop, threadid())
    return loop.status


cdef Status run_batch(Batch *batch, const floating *x, floating *g, int num_threads) noexcept nogil:
    """Run all sequences; x and g are the first one's. Allocates the workspace; does not need the GIL."""
    cdef Striped striped
    cdef Halves halves
    cdef Sequence *s = &batch.common
    cdef Status status
    cdef size_t own = 0
    cdef Py_ssize_t b, n_long = 0
    cdef bint in_halves
    for b in range(batch.n):
        s.frames, s.graph.n_labels = batch.logit_lengths[b], batch.label_lengths[b]
        own = max(own, lay_out_sequence(s, sizeof(floating), 0))
        if is_long(s):
            own = max(own, lay_out_halves(&halves, s, sizeof(floating), s.after_frames))
            n_long += 1
        else:
            own = max(own, lay_out_striped(&striped, s, s.frames, s.after_frames))
    # If not, every worker has its share of the sequences, or nearly so.
    in_halves = n_long > 0 and batch.n < 2 * num_threads and batch.n % num_threads > 0
    if not in_halves:
        num_threads = <int> min(<Py_ssize_t> num_threads, batch.n)
    # The array that maps classes to indices, one for each worker, must be zero.
    if not (allocate(&batch.arrays, size_product(batch.n, sizeof(Task)) if in_halves else 0, own,
                     batch.n if in_halves else num_threads, False)
            and allocate(&batch.positions, 0, size_product(s.n_classes, sizeof(int32_t)), num_threads, True)):
        release(&batch.arrays)
        return NO_MEMORY
    if in_halves:
        status = run_in_halves(batch, x, g, num_threads)
    else:
        status = run_whole_sequences(batch, x, g, num_threads)
    release(&batch.arrays)
    release(&batch.positions)
    return status


cdef Status run_call(Call *call) noexcept nogil:
    """Run a checked batch."""
    cdef Batch batch
    cdef Sequence *common = &batch.common
    cdef Py_ssize_t n = call.n
    cdef Status status
    memset(&batch, 0, sizeof(Batch))
    batch.n, batch.n_frames, batch.x_step, batch.g_step = n, call.n_frames, call.x_steps[0], call.g_steps[0]
    batch.logit_lengths, batch.starts = call.integers, call.integers + n
    batch.label_lengths, batch.frames_needed = call.integers + 2 * n, call.integers + 3 * n
    batch.labels, batch.order, batch.scale, batch.loss = call.integers + 4 * n, call.order, call.scale, call.loss
    common.input, common.blank, common.n_classes = <Input> call.input, call.blank, call.n_classes
    common.with_grad, common.in_place = call.with_grad, call.in_place
    common.output = POSTERIORS if call.by_state else GRADIENT
    if call.occupation != NULL:
        common.output, common.occupation, common.occupation_width = OCCUPATION, call.occupation, call.n_labels
    common.x_stride, common.g_stride, common.g_width = call.x_steps[1], call.g_steps[1], call.g_width
    common.norm_product, common.no_memory = 1, &call.no_memory
    if call.doubles:
        status = run_batch(&batch, <const double *> call.x, <double *> call.g, call.num_threads)
    else:
        status = run_batch(&batch, <const float *> call.x, <float *> call.g, call.num_threads)
    call.workspace = size_sum(batch.arrays.size, batch.positions.size)
    return status


entry = PyCapsule_New(<void *> run_call, NULL, NULL)


def ctc_loss(const floating[:, :, :] logits, const int64_t[::1] table, const double[::1] scale,
             const int64_t[::1] order, int input_kind, Py_ssize_t blank, double[::1] loss, floating[:, :, :] grad,
             bint in_place, int num_threads, bint by_state=False, double[:, :, ::1] occupation=None):
    """Losses and, unless grad is None, gradients times scale, of a checked batch.

    IN   logits [B, T, V]; table of sequences and labels as read_sequences fills it; order: sequences, longest first,
         or None.
    OUT  loss [B], inf for sequences of fewer frames than needed; grad [B, T, V], which is logits if in_place. With
         by_state, grad [B, T, 2 S + 1] receives the posteriors of the states instead: blank, label, ..., blank.
         occupation [B, 6, S], unless None, receives sums of the posteriors of each label instead: two rows of it, the
         frames of the spans, are given, and the others are 0 (ctc/occupation.h).
    """
    cdef Call call
    cdef Status status
    memset(&call, 0, sizeof(Call))
    call.doubles, call.with_grad = floating is double, grad is not None or occupation is not None
    call.in_place, call.by_state = in_place, by_state
    call.n, call.n_frames, call.n_classes = logits.shape[0], logits.shape[1], logits.shape[2]
    call.x_steps[0] = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    call.x_steps[1] = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    if grad is not None:
        call.g_steps[0] = grad.strides[0] // <Py_ssize_t> sizeof(floating)
        call.g_steps[1] = grad.strides[1] // <Py_ssize_t> sizeof(floating)
        call.g_width = grad.shape[2]
    if occupation is not None:
        call.n_labels = occupation.shape[2]
        call.occupation = &occupation[0, 0, 0]
    if call.n_frames:
        call.x, call.g = &logits[0, 0, 0], &grad[0, 0, 0] if grad is not None else NULL
    call.integers, call.scale, call.loss = &table[0], &scale[0], &loss[0]
    call.order = &order[0] if order is not None else NULL
    call.input, call.blank, call.num_threads = input_kind, blank, num_threads
    with nogil:
        status = run_call(&call)
    check(status, call.workspace)
    if call.no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
