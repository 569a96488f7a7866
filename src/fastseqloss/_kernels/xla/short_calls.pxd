"""Short calls of losses by XLA, computed without the GIL.

`fastseqloss.jax.short_calls` decides which calls these are, from shapes, dtypes and options.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastseqloss._kernels.calls cimport Entry
from fastseqloss._kernels.codes cimport FLOAT32, FLOAT64, INT32, INT64, UINT8
from fastseqloss._kernels.short_calls cimport Array, ShortCall, run_classes, run_ctc
from fastseqloss._kernels.xla.ffi cimport ARRAY, F32, F64, PRED, S32, Buffer, Frame, Numbers

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


cdef inline Array array_of(const Buffer *buffer) noexcept nogil:
    """Array of one of the element types that plans allow."""
    cdef Array array
    if buffer.dtype == F32:
        array.kind = FLOAT32
    elif buffer.dtype == F64:
        array.kind = FLOAT64
    elif buffer.dtype == PRED:
        array.kind = UINT8
    else:
        array.kind = INT32 if buffer.dtype == S32 else INT64
    array.data, array.n_axes, array.shape = buffer.data, buffer.rank, <const Py_ssize_t *> buffer.dims  # of 64 bits
    return array


cdef inline Array operand(const Frame *frame, int64_t position) noexcept nogil:
    """Operand at a position, or an array left out."""
    cdef Array none
    memset(&none, 0, sizeof(Array))
    return array_of(frame.args.buffers[position]) if position else none


cdef inline bint run_short(const Frame *frame, const Entry *entries) noexcept nogil:
    """Compute the results of a short call; returns False for other calls, and if the call fails."""
    cdef const Plan *plan = plan_of(frame)
    cdef ShortCall call
    if plan == NULL or not 0 <= plan.loss < N_LOSSES:
        return False
    memset(&call, 0, sizeof(ShortCall))
    call.scores, call.labels = array_of(frame.args.buffers[0]), operand(frame, plan.labels)
    call.lengths, call.label_lengths = operand(frame, plan.lengths), operand(frame, plan.label_lengths)
    call.mask, call.losses = operand(frame, plan.mask), array_of(frame.results.buffers[0])
    if frame.results.size > 1:
        call.gradient = array_of(frame.results.buffers[1])
    call.input, call.blank, call.infeasible_is_zero = plan.input, plan.blank, plan.infeasible_is_zero
    call.ignore_index, call.reduces, call.averages = plan.ignore_index, plan.reduces, plan.averages
    if plan.loss == CTC:
        return run_ctc(&call, entries[CTC])
    return run_classes(&call, entries[CROSS_ENTROPY])
