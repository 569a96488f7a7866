"""Scans and sums of arguments too short for NumPy's calls to be worth their cost. Baseline instruction set."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint64_t

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


cdef Py_ssize_t bad_label(const int64_t *labels, Py_ssize_t n, Py_ssize_t n_classes, Py_ssize_t blank,
                          int64_t *repeats, Py_ssize_t *done) except -2 nogil:
    """Position of the first of n labels out of range or equal to blank, or -1; adds up equal neighbours in repeats."""
    cdef Py_ssize_t first, last, i
    last = 0
    while last < n:
        first, last = last, min(n, last + STRETCH)
        for i in range(first, last):
            if not (0 <= labels[i] < n_classes) or labels[i] == blank:
                return i
            repeats[0] += i > 0 and labels[i] == labels[i - 1]
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


def sequence_sums(const double[:, ::1] values, double[::1] sums):
    """sums = values.sum(axis=1), added in blocks, so that long rows keep their digits; fast for short rows too."""
    cdef Py_ssize_t b, first, n = values.shape[1], done = 0
    cdef double total, rest
    with nogil:
        for b in range(values.shape[0]):
            total = rest = 0
            for first in range(0, n, 512):
                add_exactly(&total, &rest, block_sum(&values[b, first], min(n - first, 512)))
                advance(&done, 512)
            sums[b] = total + rest


def weigh(const double[::1] values, const double[::1] weights, double[::1] weighted):
    """weighted = values * weights, 0 where the weight is 0 for any value; returns the sum of the products."""
    cdef Py_ssize_t first, i, n = values.shape[0], done = 0
    cdef double total = 0, rest = 0
    for first in range(0, n, 512):
        for i in range(first, min(n, first + 512)):
            weighted[i] = values[i] * weights[i] if weights[i] else 0
        add_exactly(&total, &rest, block_sum(&weighted[first], min(n - first, 512)))
        advance(&done, 512)
    return total + rest


cdef double block_sum(const double *x, Py_ssize_t n) noexcept nogil:
    cdef double p = 0, q = 0, r = 0, s = 0  # four independent chains of additions
    cdef Py_ssize_t i
    for i in range(0, n - 3, 4):
        p, q, r, s = p + x[i], q + x[i + 1], r + x[i + 2], s + x[i + 3]
    for i in range(n - n % 4, n):
        p += x[i]
    return (p + r) + (q + s)


def find_bad_tag(const int64_t[:, ::1] tags, const int64_t[::1] lengths, Py_ssize_t n_tags):
    """First (sequence, position) of a tag out of range among the valid steps, or None."""
    cdef Py_ssize_t b, t, done = 0
    for b in range(tags.shape[0] if tags.shape[1] else 0):
        t = outside(&tags[b, 0], lengths[b], 0, n_tags - 1, &done)
        if t >= 0:
            return b, t
        advance(&done, 1)
    return None


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
