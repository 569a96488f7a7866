"""Short calls of losses in their usual form. Built for the baseline instruction set.

The Python functions of this module return None for all other calls, for invalid arguments, and where sums need more
care; the general way then computes the same bits or finds the error.
"""

from cpython.buffer cimport PyBuffer_IsContiguous, PyBuffer_Release
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, isnan
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastseqloss._kernels.arguments cimport add_products, add_values, count_some, open_array, scan_labels
from fastseqloss._kernels.calls cimport PART, Call, Entry
from fastseqloss._kernels.codes cimport FLOAT32, FLOAT64, INT32, INT64, LOG_PROBS, LOGITS, UINT8, Stored
from fastseqloss._kernels.parallel.threads cimport DONE

from fastseqloss._kernels.codes import INPUTS

cdef extern from "Python.h":
    long long long_long "PyLong_AsLongLongAndOverflow"(object value, int *overflow) except? -1
    void raise_pending "PyErr_Occurred"() except *  # the exception of a signal's handler that ended a call

cdef object empty, empty_like
from numpy import empty, empty_like


cdef int64_t product(const Array *array, int64_t first, int64_t last) noexcept nogil:
    """Product of the lengths of the axes from `first` to `last` - 1."""
    cdef int64_t k, n = 1
    for k in range(first, last):
        n *= array.shape[k]
    return n


cdef int64_t integer(const Array *array, Py_ssize_t i) noexcept nogil:
    return (<const int32_t *> array.data)[i] if array.kind == INT32 else (<const int64_t *> array.data)[i]


cdef void copy_integers(const Array *array, Py_ssize_t n, int64_t *out) noexcept nogil:
    """Copy the first n integers."""
    cdef Py_ssize_t i
    if array.kind == INT64:
        memcpy(out, array.data, n * sizeof(int64_t))
        return
    for i in range(n):
        out[i] = (<const int32_t *> array.data)[i]


cdef void put(const Array *result, Py_ssize_t i, double value) noexcept nogil:
    if result.kind == FLOAT64:
        (<double *> result.data)[i] = value
    else:
        (<float *> result.data)[i] = <float> value


cdef Call call_of(const ShortCall *given) noexcept nogil:
    """Scores, as one sequence of steps, and gradient."""
    cdef const Array *scores = &given.scores
    cdef Call call
    memset(&call, 0, sizeof(Call))
    call.x, call.g, call.doubles = scores.data, given.gradient.data, scores.kind == FLOAT64
    call.input, call.num_threads, call.parameter = <int> given.input, 1, given.parameter
    call.n, call.n_classes = 1, scores.shape[scores.n_axes - 1]
    call.n_frames = product(scores, 0, scores.n_axes - 1)
    return call


# ---- CTC ------------------------------------------------------------------------------------

cdef bint read_padding(const float *padding, int64_t most, int64_t *length) noexcept nogil:
    """Length of a sequence with 0 at its steps and then 1; returns False for other numbers."""
    cdef Py_ssize_t i = 0
    while i < most and padding[i] == 0:
        i += 1
    length[0] = i
    while i < most and padding[i] == 1:
        i += 1
    return i == most


cdef bint read_lengths(const Array *array, Py_ssize_t n, int64_t most, int64_t *lengths) noexcept nogil:
    """Lengths of n sequences from integers or paddings, `most` if left out. Returns False if one is invalid."""
    cdef Py_ssize_t b
    for b in range(n):
        if array.data == NULL:
            lengths[b] = most
        elif array.kind == FLOAT32:
            if not read_padding(<const float *> array.data + b * most, most, &lengths[b]):
                return False
        else:
            lengths[b] = integer(array, b)
            if not 0 <= lengths[b] <= most:
                return False
    return True


cdef bint read_table(const ShortCall *given, const Call *call, int64_t *table) noexcept nogil:
    """Fill the table of sequences and labels; returns False if a length or a label is invalid."""
    cdef const Array *labels = &given.labels
    cdef Py_ssize_t n = call.n, b, width = labels.shape[labels.n_axes - 1]
    cdef int64_t repeats
    cdef int64_t *starts = table + n
    cdef int64_t *lengths = table + 2 * n
    cdef int64_t *needed = table + 3 * n
    cdef int64_t *values = table + 4 * n
    if not (read_lengths(&given.lengths, n, call.n_frames, table)
            and read_lengths(&given.label_lengths, n, width, lengths)):
        return False
    copy_integers(labels, n * width, values)
    for b in range(n):
        starts[b], repeats = b * width, 0
        if scan_labels(values + starts[b], 0, lengths[b], call.n_classes, call.blank, &repeats) >= 0:
            return False
        needed[b] = lengths[b] + repeats
    return True


cdef bint put_sequences(const ShortCall *given, const Call *call) noexcept nogil:
    """Store the losses or the sum of their products with the scales; returns False if that is NaN."""
    cdef Py_ssize_t b
    cdef double total = 0, rest = 0
    for b in range(call.n):
        if given.infeasible_is_zero and call.loss[b] == INFINITY:
            call.loss[b] = 0
    if not given.reduces:
        for b in range(call.n):
            put(&given.losses, b, call.loss[b])
        return True
    add_products(call.loss, call.scale, call.n, NULL, &total, &rest)
    put(&given.losses, 0, total + rest)
    return not isnan(total + rest)


cdef bint run_ctc(const ShortCall *given, Entry entry) noexcept nogil:
    cdef const Array *scores = &given.scores
    cdef Call call = call_of(given)
    cdef Py_ssize_t b, n_integers
    cdef int64_t *table
    cdef double *scale
    cdef bint done
    call.n_frames = scores.shape[scores.n_axes - 2]
    call.n = product(scores, 0, scores.n_axes - 2)
    call.with_grad, call.blank = call.g != NULL, given.blank
    call.g_width = call.x_steps[1] = call.g_steps[1] = call.n_classes
    call.x_steps[0] = call.g_steps[0] = call.n_frames * call.n_classes
    n_integers = 4 * call.n + product(&given.labels, 0, given.labels.n_axes)
    table = <int64_t *> malloc((n_integers + 2 * call.n) * sizeof(int64_t))
    if table == NULL:
        return False
    scale = <double *> (table + n_integers)
    for b in range(call.n):
        scale[b] = 1.0 / call.n if given.averages else 1
    call.integers, call.scale, call.loss = table, scale, scale + call.n
    done = read_table(given, &call, table) and entry(&call) == DONE and not call.no_memory
    done = done and put_sequences(given, &call)
    free(table)
    return done


# ---- losses of classes ----------------------------------------------------------------------

cdef bint read_targets(const ShortCall *given, const Call *call, int64_t *targets, double *count) noexcept nogil:
    """Fill the targets, -1 where a step does not count, and add up those that count; returns False if one is invalid.
    """
    cdef const Array *classes = &given.labels
    cdef const Array *lengths = &given.lengths
    cdef const uint8_t *mask = <const uint8_t *> given.mask.data
    cdef Py_ssize_t b, n = 1, rows = call.n_frames, inner = 1
    cdef int64_t length = call.n_frames
    if lengths.data != NULL:
        n = product(lengths, 0, lengths.n_axes)
        inner = product(classes, lengths.n_axes + 1, classes.n_axes)
        rows = call.n_frames // n
    copy_integers(classes, n * rows, targets)
    for b in range(n):
        if lengths.data != NULL:
            length = integer(lengths, b)
            if not 0 <= length <= classes.shape[lengths.n_axes]:
                return False
        if count_some(targets + b * rows, rows, length * inner, mask + b * rows if mask != NULL else NULL,
                      given.ignore_index, call.n_classes, NULL, count) >= 0:
            return False
    return True


cdef bint put_sum(const ShortCall *given, const Call *call, Py_ssize_t n) noexcept nogil:
    """Store the sum of n losses times the scale; returns False for NaN, since partial sums may have overflown."""
    cdef double total = 0, rest = 0
    add_values(call.loss, n, &total, &rest)
    total = (total + rest) * call.scale[0] if call.scale[0] else 0
    put(&given.losses, 0, total)
    return not isnan(total)


cdef bint put_steps(const ShortCall *given, const Call *call) noexcept nogil:
    """Store the losses or their sum times the scale; returns False if that is NaN."""
    cdef Py_ssize_t i
    if given.reduces:
        return put_sum(given, call, call.n_frames)
    for i in range(call.n_frames):
        put(&given.losses, i, call.loss[i])
    return True


cdef bint run_classes(const ShortCall *given, Entry entry) noexcept nogil:
    cdef Call call = call_of(given)
    cdef double count = 0, scale = 1
    cdef bint done
    cdef int64_t *targets = <int64_t *> malloc(call.n_frames * sizeof(int64_t))
    if targets == NULL:
        return False
    done = read_targets(given, &call, targets, &count)
    if given.averages:
        scale = 1 / count if count > 0 else 0
    call.integers, call.loss, call.scale = targets, <double *> targets, &scale
    done = done and entry(&call) == DONE and put_steps(given, &call)
    free(targets)
    return done


# ---- losses of numbers ----------------------------------------------------------------------

cdef int64_t size_of(Stored kind) noexcept nogil:
    if kind == UINT8:
        return 1
    return 4 if kind == FLOAT32 or kind == INT32 else 8


cdef bint run_pointwise(const ShortCall *given, Entry entry) noexcept nogil:
    """Reduce losses of numbers [B], [B, T] or [B, T, ...]."""
    cdef const Array *x = &given.scores
    cdef Call call = call_of(given)
    cdef Py_ssize_t n_parts
    cdef double scale
    cdef bint done
    call.n_classes = product(x, 2, x.n_axes)
    call.n_frames = product(x, 0, min(x.n_axes, 2))
    n_parts = (call.n_frames * call.n_classes + PART - 1) // PART
    call.loss = <double *> calloc(2 * n_parts, sizeof(double))
    if call.loss == NULL:
        return False
    scale = 1.0 / call.n_frames if given.averages else 1
    call.scale, call.bad = &scale, <int64_t *> (call.loss + n_parts)
    call.y, call.y_kind, call.y_size = given.labels.data, given.labels.kind, size_of(given.labels.kind)
    call.which, call.allowed = given.which, given.allowed
    call.more[0], call.more[1] = given.more[0], given.more[1]
    done = entry(&call) == DONE and call.bad[0] < 0 and put_sum(given, &call, n_parts)
    free(call.loss)
    return done


# ---- calls with arrays of NumPy -------------------------------------------------------------

cdef enum:
    MOST_ARRAYS = 6

cdef tuple INPUT_NAMES = tuple(INPUTS.values())
cdef tuple REDUCTIONS = ("none", "sum", "mean")
cdef tuple INFEASIBLE = ("inf", "zero")

ctypedef bint (*Run)(const ShortCall *given, Entry entry) noexcept nogil


cdef struct Held:
    # Memory of arrays, to give back.
    Py_buffer views[MOST_ARRAYS]
    int n


cdef int code_of(const Py_buffer *view) noexcept:
    """Code of an element type of short calls, or -1."""
    if view.format[0] == c"f":
        return FLOAT32
    if view.format[0] == c"d":
        return FLOAT64
    if view.format[0] == c"?":
        return UINT8
    if view.format[0] in b"ilq":
        return INT32 if view.itemsize == sizeof(int32_t) else INT64
    return -1


cdef bint hold(Held *held, object value, Array *array) except -1:
    """Open a C-contiguous array with elements, which may be left out; returns False for anything else."""
    cdef Py_buffer *view = &held.views[held.n]
    cdef int code
    if value is None:
        return True
    if not open_array(value, view):
        return False
    held.n += 1
    code = code_of(view)
    if code < 0 or view.len == 0 or not PyBuffer_IsContiguous(view, b"C"):
        return False
    array.kind, array.data = <Stored> code, view.buf
    array.n_axes, array.shape = view.ndim, view.shape
    return True


cdef void let_go(Held *held) noexcept:
    cdef int k
    for k in range(held.n):
        PyBuffer_Release(&held.views[k])


cdef bint hold_gradient(Held *held, ShortCall *given, object value) except -1:
    """Open an array of kind and shape of the scores that can be written and shares no memory; it may be left out."""
    cdef const Array *scores = &given.scores
    cdef Array *gradient = &given.gradient
    cdef const Py_buffer *out = &held.views[held.n]
    cdef const Py_buffer *other
    cdef int k
    if value is None:
        return True
    if not (hold(held, value, gradient) and out.readonly == 0 and gradient.kind == scores.kind
            and gradient.n_axes == scores.n_axes and begins_with(gradient, scores.shape, scores.n_axes)):
        return False
    for k in range(held.n - 1):
        other = &held.views[k]
        if <char *> out.buf < <char *> other.buf + other.len and <char *> other.buf < <char *> out.buf + out.len:
            return False
    return True


cdef bint begins_with(const Array *array, const Py_ssize_t *shape, int64_t n) noexcept:
    """Return True if the first n axes have these lengths."""
    return array.n_axes >= n and memcmp(array.shape, shape, n * sizeof(Py_ssize_t)) == 0


cdef bint are_integers(const Array *array, const Py_ssize_t *shape, int64_t n, int64_t n_axes) noexcept:
    """Return True if integers have that many axes, and the first n these lengths; or for an array left out."""
    if array.data == NULL:
        return True
    return (array.kind == INT32 or array.kind == INT64) and array.n_axes == n_axes and begins_with(array, shape, n)


cdef int place(object value, tuple names) noexcept:
    """Position of a string among others, or -1."""
    cdef int k
    if type(value) is str:
        for k in range(len(names)):
            if <str> value == <str> names[k]:
                return k
    return -1


cdef bint as_int64(object value, int64_t *number) except -1:
    """Set the number; returns False for anything but an int of 64 bits."""
    cdef int overflow = 0
    if type(value) is not int:
        return False
    number[0] = long_long(value, &overflow)
    return overflow == 0


cdef bint read_options(ShortCall *given, object input, object reduction, object return_grad,
                       object num_threads) except -1:
    """Set the options of every loss; returns False for values other than the usual ones."""
    cdef int kind = place(input, INPUT_NAMES), chosen = place(reduction, REDUCTIONS)
    cdef int64_t threads = 1
    given.input, given.reduces, given.averages = kind, chosen > 0, chosen == 2
    return (kind >= 0 and chosen >= 0 and type(return_grad) is bool
            and (num_threads is None or as_int64(num_threads, &threads)) and threads >= 1)


cdef bint is_unweighted(object options) except -1:
    return options.sample_weight is None and options.normalizer is None


cdef bint is_within(ShortCall *given, object bounds, object parameter) except -1:
    """Set the parameter of a loss; returns False unless it is a number between its bounds."""
    cdef double least, most
    if bounds is None:
        return True
    if type(parameter) is not float:
        return False
    least, most = bounds.least, bounds.most
    given.parameter = parameter
    return least < given.parameter < most


cdef object run(Run function, Held *held, ShortCall *given, object entry, object scores, int n_own,
                bint return_grad, object grad_out):
    """Loss, or loss and gradient, of scores with `n_own` axes of each loss; or None."""
    cdef Entry kernel = <Entry> PyCapsule_GetPointer(entry, NULL)
    cdef double number
    cdef bint done
    loss = None
    grad = empty_like(scores) if return_grad and grad_out is None else grad_out
    if not hold_gradient(held, given, grad):
        return None
    given.losses.kind, given.losses.data = FLOAT64, &number
    if not given.reduces and given.scores.n_axes > n_own:
        loss = empty(scores.shape[:-n_own])
        hold(held, loss, &given.losses)
    with nogil:
        done = function(given, kernel)
    raise_pending()
    if not done:
        return None
    if loss is None:
        loss = number
    return loss if grad is None else (loss, grad)


def ctc_loss(entry, tuple costs, double most, scores, labels, lengths, label_lengths, blank, input, infeasible,
             reduction, return_grad, grad_out, num_threads, /):
    """Result of `fastseqloss.ctc_loss`, or None.

    IN   entry of the kernel; costs: nanoseconds of a class, a frame, and a label at a frame; most: those of all.
    """
    cdef Held held
    cdef ShortCall given
    cdef Array *x = &given.scores
    cdef int zero = place(infeasible, INFEASIBLE)
    cdef Py_ssize_t n, n_frames, n_classes, n_labels
    cdef double per_class, per_frame, per_label
    memset(&given, 0, sizeof(ShortCall))
    held.n = 0
    try:
        if not (zero >= 0 and as_int64(blank, &given.blank)
                and read_options(&given, input, reduction, return_grad, num_threads)
                and hold(&held, scores, x) and 2 <= x.n_axes <= 3 and x.kind in (FLOAT32, FLOAT64)
                and hold(&held, labels, &given.labels) and hold(&held, lengths, &given.lengths)
                and hold(&held, label_lengths, &given.label_lengths)):
            return None
        n, n_frames, n_classes = product(x, 0, x.n_axes - 2), x.shape[x.n_axes - 2], x.shape[x.n_axes - 1]
        n_labels = product(&given.labels, 0, given.labels.n_axes)
        if not (given.labels.data != NULL and are_integers(&given.labels, x.shape, x.n_axes - 2, x.n_axes - 1)
                and are_integers(&given.lengths, &n, 1, 1) and are_integers(&given.label_lengths, &n, 1, 1)
                and 0 <= given.blank < n_classes):
            return None
        per_class, per_frame, per_label = costs
        if n_frames * (n * (per_frame + n_classes * per_class) + n_labels * per_label) >= most:
            return None
        given.infeasible_is_zero = zero
        return run(run_ctc, &held, &given, entry, scores, 2, return_grad, grad_out)
    finally:
        let_go(&held)


def classes(entry, tuple costs, double most, scores, targets, input, double parameter, ignore_index, options, /):
    """Result of a loss of classes, of logits or log-probabilities, or None.

    IN   entry of the kernel; costs: nanoseconds of a score and a step; most: those of all.
    """
    cdef Held held
    cdef ShortCall given
    cdef Array *x = &given.scores
    cdef double per_score, per_step
    memset(&given, 0, sizeof(ShortCall))
    held.n = 0
    given.parameter = parameter
    per_score, per_step = costs
    return_grad, mask = options.return_grad, options.mask
    try:
        if not (as_int64(ignore_index, &given.ignore_index) and is_unweighted(options)
                and read_options(&given, input, options.reduction, return_grad, options.num_threads)
                and given.input in (LOGITS, LOG_PROBS)
                and hold(&held, scores, x) and x.n_axes >= 1 and x.kind in (FLOAT32, FLOAT64)
                and hold(&held, targets, &given.labels) and hold(&held, options.lengths, &given.lengths)
                and hold(&held, mask, &given.mask)):
            return None
        if not (given.labels.data != NULL and are_integers(&given.labels, x.shape, x.n_axes - 1, x.n_axes - 1)
                and are_integers(&given.lengths, x.shape, 1, 1 if x.n_axes > 2 else -1)
                and (mask is None or (given.mask.kind == UINT8 and given.mask.n_axes == x.n_axes - 1
                                      and begins_with(&given.mask, x.shape, x.n_axes - 1)))
                and product(x, 0, x.n_axes) * per_score + product(x, 0, x.n_axes - 1) * per_step < most):
            return None
        return run(run_classes, &held, &given, entry, scores, 1, return_grad, options.grad_out)
    finally:
        let_go(&held)


def pointwise(entry, int which, int allowed, double cost, double most, scores, targets, bounds, parameter, tuple more,
              options, /):
    """Result of a loss of numbers, or None.

    IN   entry of the kernel; codes of the loss and of the targets allowed; cost: nanoseconds of a number; most: those
         of all; bounds of the parameter, a `Parameter`, or None.
    """
    cdef Held held
    cdef ShortCall given
    cdef Array *x = &given.scores
    memset(&given, 0, sizeof(ShortCall))
    held.n = 0
    given.which, given.allowed = which, allowed
    given.more[0], given.more[1] = more
    return_grad = options.return_grad
    try:
        if not (options.lengths is None and options.mask is None and is_unweighted(options)
                and is_within(&given, bounds, parameter)
                and read_options(&given, INPUT_NAMES[0], options.reduction, return_grad, options.num_threads)
                and given.reduces and hold(&held, scores, x) and x.n_axes >= 1 and x.kind in (FLOAT32, FLOAT64)
                and hold(&held, targets, &given.labels) and given.labels.n_axes == x.n_axes
                and begins_with(&given.labels, x.shape, x.n_axes) and product(x, 0, x.n_axes) * cost < most):
            return None
        return run(run_pointwise, &held, &given, entry, scores, 0, return_grad, options.grad_out)
    finally:
        let_go(&held)
