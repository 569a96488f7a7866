"""Scans of arguments and sums, where NumPy's own calls would cost more than the work. Baseline instruction set."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "vector.h" nogil:
    void add_exactly "fsl_add_exactly"(double *sum, double *rest, double x) noexcept


def first_outside(const int64_t[::1] values, int64_t least, int64_t most):
    """Position of the first value outside [least, most], or -1."""
    cdef Py_ssize_t i
    for i in range(values.shape[0]):
        if not least <= values[i] <= most:
            return i
    return -1


def find_bad_label(const int64_t[::1] labels, const int64_t[::1] starts, const int64_t[::1] label_lengths,
                   Py_ssize_t n_classes, Py_ssize_t blank, int64_t[::1] frames_needed):
    """First (sequence, position) of a label out of range or equal to blank, or None.

    Fills frames_needed: labels, and one blank between each two equal neighbours.
    """
    cdef Py_ssize_t b, i, bad = -1
    cdef int64_t needed
    cdef const int64_t *label
    with nogil:
        for b in range(starts.shape[0]):
            label = &labels[0] + starts[b] if label_lengths[b] else NULL
            needed = label_lengths[b]
            for i in range(label_lengths[b]):
                if not (0 <= label[i] < n_classes) or label[i] == blank:
                    bad = i
                    break
                needed += i > 0 and label[i] == label[i - 1]
            if bad >= 0:
                break
            frames_needed[b] = needed
    return None if bad < 0 else (b, bad)


def count_targets(int64_t[::1] targets, const int64_t[::1] lengths, const uint8_t[:, ::1] mask, int64_t ignore_index,
                  int64_t n_classes, const double[::1] class_weight, double[::1] counts):
    """First target of a step that counts that is no class, or -1. Targets of other steps become -1.

    Sets counts [B] to the sums of the weights of the targets of each sequence, 1 without class_weight.
    """
    cdef Py_ssize_t n = lengths.shape[0], rows = targets.shape[0] // n if n else 0, b, bad = -1
    with nogil:
        for b in range(n):
            bad = count_row(&targets[0] + b * rows, rows, lengths[b], &mask[b, 0] if mask is not None else NULL,
                            ignore_index, n_classes, &class_weight[0] if class_weight is not None else NULL, &counts[b])
            if bad >= 0:
                bad += b * rows
                break
    return bad


cdef Py_ssize_t count_row(int64_t *targets, Py_ssize_t n, Py_ssize_t length, const uint8_t *mask, int64_t ignore_index,
                          int64_t n_classes, const double *class_weight, double *count) noexcept nogil:
    cdef Py_ssize_t i, n_bad = 0, n_ignored = 0
    count[0] = 0
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
        count[0] = length - n_ignored
    else:
        for i in range(length):
            count[0] += class_weight[targets[i]] if targets[i] >= 0 else 0
    return -1


def sequence_sums(const double[:, ::1] values, double[::1] sums):
    """sums = values.sum(axis=1), in blocks, so that long rows lose no digits; quick for short rows too."""
    cdef Py_ssize_t b, first, n = values.shape[1]
    cdef double total, rest
    with nogil:
        for b in range(values.shape[0]):
            total = rest = 0
            for first in range(0, n, 512):
                add_exactly(&total, &rest, block_sum(&values[b, first], min(n - first, 512)))
            sums[b] = total + rest


def weigh(const double[::1] values, const double[::1] weights, double[::1] weighted):
    """weighted = values * weights, 0 where the weight is 0, whatever the value; returns the sum of it."""
    cdef Py_ssize_t i, n = values.shape[0]
    cdef double total = 0, rest = 0
    for i in range(n):
        weighted[i] = values[i] * weights[i] if weights[i] else 0
    for i in range(0, n, 512):
        add_exactly(&total, &rest, block_sum(&weighted[i], min(n - i, 512)))
    return total + rest


cdef double block_sum(const double *x, Py_ssize_t n) noexcept nogil:
    cdef double p = 0, q = 0, r = 0, s = 0  # additions that need not wait for each other
    cdef Py_ssize_t i
    for i in range(0, n - 3, 4):
        p, q, r, s = p + x[i], q + x[i + 1], r + x[i + 2], s + x[i + 3]
    for i in range(n - n % 4, n):
        p += x[i]
    return (p + r) + (q + s)


def find_bad_tag(const int64_t[:, ::1] tags, const int64_t[::1] lengths, Py_ssize_t n_tags):
    """First (sequence, position) of a tag out of range among those of valid steps, or None."""
    cdef Py_ssize_t b, t
    for b in range(tags.shape[0]):
        for t in range(lengths[b]):
            if not 0 <= tags[b, t] < n_tags:
                return b, t
    return None


def first_not_a_score(const double[::1] values):
    """Position of the first value that is NaN or inf, or -1; -inf is a score."""
    cdef Py_ssize_t i
    for i in range(values.shape[0]):
        if not values[i] < INFINITY:
            return i
    return -1
