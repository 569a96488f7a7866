"""Short calls of losses by XLA, computed without the GIL.

`fastseqloss.jax.short_calls` decides which calls these are, from shapes, dtypes and options. Values are checked here:
a function returns False, whatever the results contain by then, and the Python function then finds the error.
"""

from libc.math cimport INFINITY, isnan
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastseqloss._kernels.arguments cimport add_values, count_some, scan_labels
from fastseqloss._kernels.calls cimport Call, Entry
from fastseqloss._kernels.parallel.threads cimport DONE
from fastseqloss._kernels.xla.ffi cimport ARRAY, FLOAT32, FLOAT64, INT32, Buffer, Frame, Numbers

cdef enum:
    CTC  # values of `Plan.loss`
    CROSS_ENTROPY
    N_LOSSES


cdef struct Plan:
    # The attribute `plan` of a call. Positions of operands are 0 for those left out.
    int64_t loss
    int64_t labels   # position: labels, or targets
    int64_t lengths  # position: numbers of frames or of steps
    # of CTC
    int64_t label_lengths  # position
    int64_t blank, input, infeasible_is_zero
    # of cross-entropy
    int64_t mask  # position
    int64_t ignore_index, reduces, averages


cdef inline const Plan *plan_of(const Frame *frame) noexcept nogil:
    """Plan of a call, or NULL."""
    cdef const Numbers *numbers
    if frame.attributes.size != 2 or frame.attributes.types[1] != ARRAY:
        return NULL
    numbers = <const Numbers *> frame.attributes.values[1]
    return <const Plan *> numbers.data if numbers.size * sizeof(int64_t) == sizeof(Plan) else NULL


cdef inline const Buffer *operand(const Frame *frame, int64_t position) noexcept nogil:
    return frame.args.buffers[position] if position else NULL


cdef inline int64_t product(const int64_t *dims, int64_t first, int64_t last) noexcept nogil:
    cdef int64_t k, n = 1
    for k in range(first, last):
        n *= dims[k]
    return n


cdef inline int64_t integer(const Buffer *buffer, Py_ssize_t i) noexcept nogil:
    return (<const int32_t *> buffer.data)[i] if buffer.dtype == INT32 else (<const int64_t *> buffer.data)[i]


cdef inline bint read_padding(const float *padding, int64_t most, int64_t *length) noexcept nogil:
    """Length of a sequence with 0 at its steps and then 1; returns False for other numbers."""
    cdef Py_ssize_t i = 0
    while i < most and padding[i] == 0:
        i += 1
    length[0] = i
    while i < most and padding[i] == 1:
        i += 1
    return i == most


cdef inline bint read_lengths(const Buffer *buffer, Py_ssize_t n, int64_t most, int64_t *lengths) noexcept nogil:
    """Lengths of n sequences from integers or paddings; NULL stands for `most`. Returns False if one is invalid."""
    cdef Py_ssize_t b
    for b in range(n):
        if buffer == NULL:
            lengths[b] = most
        elif buffer.dtype == FLOAT32:
            if not read_padding(<const float *> buffer.data + b * most, most, &lengths[b]):
                return False
        else:
            lengths[b] = integer(buffer, b)
            if not 0 <= lengths[b] <= most:
                return False
    return True


cdef inline bint read_table(const Frame *frame, const Plan *plan, const Call *call, int64_t *table) noexcept nogil:
    """Fill the table of sequences and labels; returns False if a length or a label is invalid."""
    cdef const Buffer *labels = frame.args.buffers[plan.labels]
    cdef Py_ssize_t n = call.n, b, i, width = labels.dims[labels.rank - 1]
    cdef int64_t repeats
    cdef int64_t *starts = table + n
    cdef int64_t *lengths = table + 2 * n
    cdef int64_t *needed = table + 3 * n
    cdef int64_t *values = table + 4 * n
    if not (read_lengths(operand(frame, plan.lengths), n, call.n_frames, table)
            and read_lengths(operand(frame, plan.label_lengths), n, width, lengths)):
        return False
    for i in range(n * width):
        values[i] = integer(labels, i)
    for b in range(n):
        starts[b], repeats = b * width, 0
        if scan_labels(values + starts[b], 0, lengths[b], call.n_classes, call.blank, &repeats) >= 0:
            return False
        needed[b] = lengths[b] + repeats
    return True


cdef inline void put(const Buffer *result, Py_ssize_t i, double value) noexcept nogil:
    if result.dtype == FLOAT64:
        (<double *> result.data)[i] = value
    else:
        (<float *> result.data)[i] = <float> value


cdef inline Call call_of(const Frame *frame) noexcept nogil:
    """Scores, as one sequence of steps, and gradient."""
    cdef const Buffer *scores = frame.args.buffers[0]
    cdef Call call
    memset(&call, 0, sizeof(Call))
    call.x, call.doubles = scores.data, scores.dtype == FLOAT64
    call.g = frame.results.buffers[1].data if frame.results.size > 1 else NULL
    call.num_threads = 1
    call.n, call.n_classes = 1, scores.dims[scores.rank - 1]
    call.n_frames = product(scores.dims, 0, scores.rank - 1)
    return call


cdef inline bint run_ctc(const Frame *frame, const Plan *plan, Entry entry) noexcept nogil:
    cdef const Buffer *scores = frame.args.buffers[0]
    cdef const Buffer *labels = frame.args.buffers[plan.labels]
    cdef Call call = call_of(frame)
    cdef Py_ssize_t b, n_integers
    cdef int64_t *table
    cdef double *scale
    cdef bint done
    call.n_frames = scores.dims[scores.rank - 2]
    call.n = product(scores.dims, 0, scores.rank - 2)
    call.with_grad = call.g != NULL
    call.g_width = call.x_steps[1] = call.g_steps[1] = call.n_classes
    call.x_steps[0] = call.g_steps[0] = call.n_frames * call.n_classes
    call.input, call.blank = <int> plan.input, plan.blank
    n_integers = 4 * call.n + product(labels.dims, 0, labels.rank)
    table = <int64_t *> malloc((n_integers + 2 * call.n) * sizeof(int64_t))
    if table == NULL:
        return False
    scale = <double *> (table + n_integers)
    for b in range(call.n):
        scale[b] = 1
    call.integers, call.scale, call.loss = table, scale, scale + call.n
    done = read_table(frame, plan, &call, table) and entry(&call) == DONE and not call.no_memory
    if done:
        for b in range(call.n):
            if plan.infeasible_is_zero and call.loss[b] == INFINITY:
                call.loss[b] = 0
            put(frame.results.buffers[0], b, call.loss[b])
    free(table)
    return done


cdef inline bint read_targets(const Frame *frame, const Plan *plan, const Call *call, int64_t *targets,
                              double *count) noexcept nogil:
    """Fill the targets, -1 where a step does not count, and add up those that count; returns False if one is invalid.
    """
    cdef const Buffer *given = frame.args.buffers[plan.labels]
    cdef const Buffer *lengths = operand(frame, plan.lengths)
    cdef const Buffer *mask = operand(frame, plan.mask)
    cdef Py_ssize_t b, i, n = 1, rows = call.n_frames, inner = 1
    cdef int64_t length = call.n_frames
    if lengths != NULL:
        n = product(lengths.dims, 0, lengths.rank)
        inner = product(given.dims, lengths.rank + 1, given.rank)
        rows = call.n_frames // n
    for i in range(n * rows):
        targets[i] = integer(given, i)
    for b in range(n):
        if lengths != NULL:
            length = integer(lengths, b)
            if not 0 <= length <= given.dims[lengths.rank]:
                return False
        if count_some(targets + b * rows, rows, length * inner,
                      <const uint8_t *> mask.data + b * rows if mask != NULL else NULL,
                      plan.ignore_index, call.n_classes, NULL, count) >= 0:
            return False
    return True


cdef inline bint put_steps(const Frame *frame, const Plan *plan, const Call *call) noexcept nogil:
    """Store the losses or their sum times the scale; returns False for NaN, since partial sums may have overflown."""
    cdef Py_ssize_t i
    cdef double total = 0, rest = 0
    if not plan.reduces:
        for i in range(call.n_frames):
            put(frame.results.buffers[0], i, call.loss[i])
        return True
    add_values(call.loss, call.n_frames, &total, &rest)
    total = (total + rest) * call.scale[0] if call.scale[0] else 0
    put(frame.results.buffers[0], 0, total)
    return not isnan(total)


cdef inline bint run_cross_entropy(const Frame *frame, const Plan *plan, Entry entry) noexcept nogil:
    cdef Call call = call_of(frame)
    cdef double count = 0, scale = 1
    cdef bint done
    cdef int64_t *targets = <int64_t *> malloc(call.n_frames * sizeof(int64_t))
    if targets == NULL:
        return False
    done = read_targets(frame, plan, &call, targets, &count)
    if plan.averages:
        scale = 1 / count if count > 0 else 0
    call.integers, call.loss, call.scale = targets, <double *> targets, &scale
    done = done and entry(&call) == DONE and put_steps(frame, plan, &call)
    free(targets)
    return done


cdef inline bint run_short(const Frame *frame, const Entry *entries) noexcept nogil:
    """Compute the results of a short call; returns False for other calls, and if the call fails."""
    cdef const Plan *plan = plan_of(frame)
    if plan == NULL:
        return False
    if plan.loss == CTC:
        return run_ctc(frame, plan, entries[CTC])
    return plan.loss == CROSS_ENTROPY and run_cross_entropy(frame, plan, entries[CROSS_ENTROPY])
