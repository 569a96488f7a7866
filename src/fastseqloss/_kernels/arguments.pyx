"""Copies, scans and sums of arguments too short for NumPy's calls to be worth their cost. Baseline instruction set."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, strcmp

from numpy import ndarray

from fastseqloss._kernels.parallel.signals cimport STRETCH, advance


cdef Py_ssize_t outside(const int64_t *values, Py_ssize_t n, int64_t least, int64_t most,
                        Py_ssize_t *done) except -2 nogil:
    """Position of the first of n values outside [least, most], or -1."""
    cdef Py_ssize_t first, last, i
    last = 0
    while last < n:
        first, last = last, min(n, last + STRETCH)
        for i in range(first, last):
            if not least <= values[i] <= most:
                return i
        advance(done, last - first)
    return -1


cdef extern from "simd/math.h" nogil:
    void add_exactly "fsl_add_exactly"(double *sum, double *rest, double x) noexcept


def first_outside(const int64_t[::1] values, int64_t least, int64_t most):
    """Position of the first value outside [least, most], or -1."""
    cdef Py_ssize_t done = 0
    return outside(&values[0], values.shape[0], least, most, &done) if values.shape[0] else -1


cdef Py_ssize_t scan_labels(const int64_t *labels, Py_ssize_t first, Py_ssize_t last, Py_ssize_t n_classes,
                            Py_ssize_t blank, int64_t *repeats) noexcept nogil:
    """Position of the first of some labels out of range or equal to blank, or -1; adds up equal neighbours."""
    cdef Py_ssize_t i
    for i in range(first, last):
        if not (0 <= labels[i] < n_classes) or labels[i] == blank:
            return i
        repeats[0] += i > 0 and labels[i] == labels[i - 1]
    return -1


cdef Py_ssize_t bad_label(const int64_t *labels, Py_ssize_t n, Py_ssize_t n_classes, Py_ssize_t blank,
                          int64_t *repeats, Py_ssize_t *done) except -2 nogil:
    """Position of the first of n labels out of range or equal to blank, or -1; adds up equal neighbours in repeats."""
    cdef Py_ssize_t first, last, bad
    last = 0
    while last < n:
        first, last = last, min(n, last + STRETCH)
        bad = scan_labels(labels, first, last, n_classes, blank, repeats)
        if bad >= 0:
            return bad
        advance(done, last - first)
    advance(done, 1)
    return -1


def find_bad_label(const int64_t[::1] labels, const int64_t[::1] starts, const int64_t[::1] label_lengths,
                   Py_ssize_t n_classes, Py_ssize_t blank, int64_t[::1] frames_needed):
    """First (sequence, position) of a label out of range or equal to blank, or None.

    Sets frames_needed, unless None, to the number of labels plus one blank between each two equal neighbours.
    """
    cdef Py_ssize_t b, bad = -1, done = 0
    cdef int64_t repeats
    cdef const int64_t *values = &labels[0] if labels.shape[0] else NULL
    with nogil:
        for b in range(starts.shape[0]):
            repeats = 0
            bad = bad_label(values + starts[b], label_lengths[b], n_classes, blank, &repeats, &done)
            if bad >= 0:
                break
            if frames_needed is not None:
                frames_needed[b] = label_lengths[b] + repeats
    return None if bad < 0 else (b, bad)


cdef Py_ssize_t bad_tag(const int64_t *tags, Py_ssize_t batch, Py_ssize_t n_frames, const int64_t *lengths,
                        int64_t n_tags, Py_ssize_t *sequence) except -2:
    """Position in its sequence of the first tag out of range among the valid steps, or -1."""
    cdef Py_ssize_t b, t, done = 0
    for b in range(batch if n_frames else 0):
        t = outside(tags + b * n_frames, lengths[b], 0, n_tags - 1, &done)
        if t >= 0:
            sequence[0] = b
            return t
        advance(&done, 1)
    return -1


def find_bad_tag(const int64_t[:, ::1] tags, const int64_t[::1] lengths, Py_ssize_t n_tags):
    """First (sequence, position) of a tag out of range among the valid steps, or None."""
    cdef Py_ssize_t b, t
    if 0 in (tags.shape[0], tags.shape[1]):
        return None
    t = bad_tag(&tags[0, 0], tags.shape[0], tags.shape[1], &lengths[0], n_tags, &b)
    return None if t < 0 else (b, t)


# ---- arrays as they were passed -------------------------------------------------------------

cdef bint open_array(object array, Py_buffer *view) except -1:
    """Open an aligned array of numbers in native byte order for reading; returns False for anything else."""
    if type(array) is not ndarray:
        return False
    try:
        PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_STRIDES)
    except (BufferError, ValueError):  # a dtype that buffers cannot describe
        return False
    if view.format[0] != 0 and view.format[1] == 0 and <uintptr_t> view.buf % view.itemsize == 0:
        return True
    PyBuffer_Release(view)
    return False


cdef int integer_type(const Py_buffer *view) noexcept:
    """Bytes of an integer that int64 can hold, negative for an unsigned one; 0 for other elements."""
    if view.format[0] in b"bhilq":
        return view.itemsize
    return -view.itemsize if view.format[0] in b"BHIL" and view.itemsize < 8 else 0


cdef inline int64_t integer_at(const char *place, int type) noexcept nogil:
    if type == 8:
        return (<const int64_t *> place)[0]
    if type == 4:
        return (<const int32_t *> place)[0]
    if type == 2:
        return (<const int16_t *> place)[0]
    if type == 1:
        return (<const int8_t *> place)[0]
    if type == -1:
        return (<const uint8_t *> place)[0]
    return (<const uint16_t *> place)[0] if type == -2 else (<const uint32_t *> place)[0]


cdef bint copy_integers(const Py_buffer *view, int64_t *copy) noexcept:
    """Copy integers of one or two axes; returns False for other axes or elements."""
    cdef int type = integer_type(view)
    cdef Py_ssize_t i, j, rows = 1, columns
    cdef Py_ssize_t row_stride = 0, stride
    cdef const char *data = <const char *> view.buf
    if type == 0 or not 1 <= view.ndim <= 2:
        return False
    columns, stride = view.shape[view.ndim - 1], view.strides[view.ndim - 1]
    if view.ndim == 2:
        rows, row_stride = view.shape[0], view.strides[0]
    with nogil:
        for i in range(rows):
            for j in range(columns):
                copy[i * columns + j] = integer_at(data + i * row_stride + j * stride, type)
    return True


cdef bint copy_lengths(object value, Py_ssize_t n, int64_t most, int64_t *lengths) except -1:
    """Copy n lengths from 0 to `most`, which None stands for; returns False if `value` is something else."""
    cdef Py_buffer view
    cdef Py_ssize_t b, done = 0
    cdef bint copied
    if value is None:
        for b in range(n):
            lengths[b] = most
        return True
    if not open_array(value, &view):
        return False
    copied = view.ndim == 1 and view.shape[0] == n and copy_integers(&view, lengths)
    PyBuffer_Release(&view)
    return copied and outside(lengths, n, 0, most, &done) < 0


def read_lengths(value, int64_t most, int64_t[::1] lengths):
    """Copy lengths from 0 to `most`, which None stands for; returns False if `value` is something else."""
    return copy_lengths(value, lengths.shape[0], most, &lengths[0] if lengths.shape[0] else NULL)


cdef bint lay_out_labels(const Py_buffer *labels, object label_lengths, Py_ssize_t batch, bint single,
                         int64_t *starts, int64_t *lengths) except -1:
    """Set starts and lengths of labels: padded, concatenated, or of one sequence; returns False for other forms."""
    cdef Py_ssize_t b, width, total = 0
    cdef bint padded = labels.ndim == 2 and not single
    if not 1 <= labels.ndim <= 1 + padded or (padded and labels.shape[0] != batch):
        return False
    if not (padded or single) and label_lengths is None:
        return False
    width = labels.shape[labels.ndim - 1]
    if not copy_lengths(label_lengths, batch, width, lengths):
        return False
    for b in range(batch):
        starts[b] = b * width if padded else total
        total += lengths[b]
    return padded or single or total == width


def read_sequences(int64_t[::1] table, Py_ssize_t batch, labels, logit_lengths, label_lengths, int64_t n_frames,
                   Py_ssize_t n_classes, Py_ssize_t blank, bint single):
    """Copy frames and labels of a batch of at least one sequence, in their usual forms, into a table.

    OUT  table: frames [B], starts [B], label lengths [B], frames needed [B] as of find_bad_label, the labels.

    Returns False if an argument is in another form or out of range; the contents of the table are then undefined.
    """
    cdef Py_buffer view
    cdef Py_ssize_t b, bad = -1, done = 0
    cdef int64_t *frames = &table[0]
    cdef int64_t *starts = frames + batch
    cdef int64_t *lengths = frames + 2 * batch
    cdef int64_t *needed = frames + 3 * batch
    cdef int64_t *values = frames + 4 * batch
    cdef int64_t repeats
    if not copy_lengths(logit_lengths, batch, n_frames, frames) or not open_array(labels, &view):
        return False
    try:
        if not lay_out_labels(&view, label_lengths, batch, single, starts, lengths):
            return False
        if not copy_integers(&view, values):
            return False
    finally:
        PyBuffer_Release(&view)
    with nogil:
        for b in range(batch):
            repeats = 0
            bad = bad_label(values + starts[b], lengths[b], n_classes, blank, &repeats, &done)
            if bad >= 0:
                break
            needed[b] = lengths[b] + repeats
    return bad < 0


def read_tags(value, const int64_t[::1] lengths, Py_ssize_t n_tags, int64_t[:, ::1] tags):
    """Copy as many tags as there are in `tags` [B, T], from 0 to n_tags - 1 up to the lengths.

    Returns False if `value` is something else.
    """
    cdef Py_buffer view
    cdef Py_ssize_t batch = tags.shape[0], n_frames = tags.shape[1], b
    cdef bint copied
    if batch == 0 or n_frames == 0 or not open_array(value, &view):
        return False
    copied = view.len == batch * n_frames * view.itemsize and copy_integers(&view, &tags[0, 0])
    PyBuffer_Release(&view)
    return copied and bad_tag(&tags[0, 0], batch, n_frames, &lengths[0], n_tags, &b) < 0


cdef bint copy_numbers(const Py_buffer *view, double least, double most, const uint8_t *counts,
                       double *copy) noexcept:
    """Copy numbers of up to two axes, 0 in place of those that do not count; returns False if one is out of range."""
    cdef Py_ssize_t i, j, rows = 1, columns = 1, row_stride = 0, stride = 0
    cdef const char *place
    cdef double number
    cdef bint of_doubles = view.format[0] == b"d"
    if view.ndim:
        columns, stride = view.shape[view.ndim - 1], view.strides[view.ndim - 1]
    if view.ndim == 2:
        rows, row_stride = view.shape[0], view.strides[0]
    for i in range(rows):
        for j in range(columns):
            if counts != NULL and not counts[i * columns + j]:
                copy[i * columns + j] = 0
                continue
            place = <const char *> view.buf + i * row_stride + j * stride
            number = (<const double *> place)[0] if of_doubles else (<const float *> place)[0]
            if not least <= number <= most:
                return False
            copy[i * columns + j] = number
    return True


def read_numbers(value, numbers, double least, double most, counts=None):
    """Copy float32 or float64 from `least` to `most` to a contiguous array of float64 of the same axes, two at most.

    Numbers where `counts`, a contiguous array of bool with as many elements, is False become 0, whatever they are.
    Returns False if `value` is something else.
    """
    cdef Py_buffer view, copy, inside
    cdef bint copied = False
    if not open_array(value, &view):
        return False
    if open_array(numbers, &copy):
        if (view.format[0] in b"fd" and view.ndim == copy.ndim <= 2
                and memcmp(view.shape, copy.shape, view.ndim * sizeof(Py_ssize_t)) == 0):
            if counts is None:
                copied = copy_numbers(&view, least, most, NULL, <double *> copy.buf)
            elif open_array(counts, &inside):
                copied = (inside.len * <Py_ssize_t> sizeof(double) == copy.len
                          and copy_numbers(&view, least, most, <const uint8_t *> inside.buf, <double *> copy.buf))
                PyBuffer_Release(&inside)
        PyBuffer_Release(&copy)
    PyBuffer_Release(&view)
    return copied


def is_same(out, wanted):
    """Compare the memory of two contiguous arrays of the same shape and dtype, of which `out` can be written.

    Returns True if it is the same, False if it is apart, and None for all other arrays.
    """
    cdef Py_buffer a, b
    found = None
    if not open_array(out, &a):
        return None
    if open_array(wanted, &b):
        if (a.readonly == 0 and a.ndim == b.ndim and a.len == b.len and strcmp(a.format, b.format) == 0
                and memcmp(a.shape, b.shape, a.ndim * sizeof(Py_ssize_t)) == 0
                and PyBuffer_IsContiguous(&a, b"C") and PyBuffer_IsContiguous(&b, b"C")):
            if a.len == 0 or <char *> a.buf + a.len <= <char *> b.buf or <char *> b.buf + b.len <= <char *> a.buf:
                found = False
            elif a.buf == b.buf:
                found = True
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return found


# ---- targets and sums -----------------------------------------------------------------------

def count_targets(int64_t[::1] targets, const int64_t[::1] lengths, const uint8_t[:, ::1] mask, int64_t ignore_index,
                  int64_t n_classes, const double[::1] class_weight, double[::1] counts):
    """First counted target outside the class range, or -1. Targets of steps that do not count become -1.

    Sets counts [B] to the sums of the weights of the targets of each sequence, 1 without class_weight.
    """
    cdef Py_ssize_t n = lengths.shape[0], rows = targets.shape[0] // n if n else 0, b, bad = -1, done = 0, first, last
    with nogil:
        for b in range(n):
            counts[b] = 0
            last = 0
            while last < rows:
                first, last = last, min(rows, last + STRETCH)
                bad = count_some(&targets[0] + b * rows + first, last - first, lengths[b] - first,
                                 &mask[b, first] if mask is not None else NULL, ignore_index, n_classes,
                                 &class_weight[0] if class_weight is not None else NULL, &counts[b])
                if bad >= 0:
                    bad += b * rows + first
                    break
                advance(&done, last - first)
            if bad >= 0:
                break
            advance(&done, 1)
    return bad


cdef Py_ssize_t count_some(int64_t *targets, Py_ssize_t n, int64_t within, const uint8_t *mask, int64_t ignore_index,
                           int64_t n_classes, const double *class_weight, double *count) noexcept nogil:
    """First counted target outside the class range among n targets, or -1; steps from `within` on are padding.

    Adds the weights of the counted targets to count.
    """
    cdef Py_ssize_t i, n_bad = 0, n_ignored = 0, length = max(0, min(n, within))
    cdef double total = 0, rest = 0
    for i in range(length, n):
        targets[i] = -1
    if mask != NULL:
        for i in range(length):
            targets[i] = targets[i] if mask[i] else ignore_index
    for i in range(length):
        n_ignored += targets[i] == ignore_index
        n_bad += <uint64_t> targets[i] >= <uint64_t> n_classes and targets[i] != ignore_index
    if n_bad:
        for i in range(length):
            if <uint64_t> targets[i] >= <uint64_t> n_classes and targets[i] != ignore_index:
                return i
    if n_ignored:
        for i in range(length):
            targets[i] = -1 if targets[i] == ignore_index else targets[i]
    if class_weight == NULL:
        count[0] += length - n_ignored
    else:
        for i in range(length):
            if targets[i] >= 0:
                add_exactly(&total, &rest, class_weight[targets[i]])
        count[0] += total + rest
    return -1


cdef void add_values(const double *values, Py_ssize_t n, double *total, double *rest) noexcept nogil:
    """Add n values, in blocks, to a sum and its rounding error."""
    cdef Py_ssize_t first
    for first in range(0, n, 512):
        add_exactly(total, rest, block_sum(values + first, min(n - first, 512)))


def sequence_sums(const double[:, ::1] values, double[::1] sums):
    """sums = values.sum(axis=1), added in blocks, so that long rows keep their digits; fast for short rows too."""
    cdef Py_ssize_t b, first, last, n = values.shape[1], done = 0
    cdef double total, rest
    with nogil:
        for b in range(values.shape[0]):
            last, total, rest = 0, 0, 0
            while last < n:
                first, last = last, min(n, last + STRETCH)  # a multiple of the length of a block
                add_values(&values[b, first], last - first, &total, &rest)
                advance(&done, last - first)
            advance(&done, 1)
            sums[b] = total + rest


def weigh(const double[::1] values, const double[::1] weights, double[::1] weighted):
    """weighted = values * weights, 0 where the weight is 0 for any value; returns the sum of the products.

    `weighted` may be None.
    """
    cdef Py_ssize_t first, last = 0, n = values.shape[0], done = 0
    cdef double total = 0, rest = 0
    while last < n:
        first, last = last, min(n, last + STRETCH)
        add_products(&values[first], &weights[first], last - first, &weighted[first] if weighted is not None else NULL,
                     &total, &rest)
        advance(&done, last - first)
    return total + rest


cdef void add_products(const double *values, const double *weights, Py_ssize_t n, double *weighted, double *total,
                       double *rest) noexcept nogil:
    """Add n products, in blocks, to a sum and its rounding error; `weighted`, unless NULL, receives them."""
    cdef double block[512]
    cdef Py_ssize_t first, i, count
    for first in range(0, n, 512):
        count = min(n - first, 512)
        for i in range(count):
            block[i] = values[first + i] * weights[first + i] if weights[first + i] else 0
        if weighted != NULL:
            memcpy(weighted + first, block, count * sizeof(double))
        add_exactly(total, rest, block_sum(block, count))


cdef double block_sum(const double *x, Py_ssize_t n) noexcept nogil:
    cdef double p = 0, q = 0, r = 0, s = 0  # four independent chains of additions
    cdef Py_ssize_t i
    for i in range(0, n - 3, 4):
        p, q, r, s = p + x[i], q + x[i + 1], r + x[i + 2], s + x[i + 3]
    for i in range(n - n % 4, n):
        p += x[i]
    return (p + r) + (q + s)


def first_not_a_score(const double[::1] values):
    """Position of the first value that is NaN or inf, or -1; -inf is a score."""
    cdef Py_ssize_t first, last, i, n = values.shape[0], done = 0
    last = 0
    while last < n:
        first, last = last, min(n, last + STRETCH)
        for i in range(first, last):
            if not values[i] < INFINITY:
                return i
        advance(&done, last - first)
    return -1
