"""Scans of integer arguments, where NumPy's own calls would cost more than the work. Baseline instruction set."""

from libc.stdint cimport int64_t, uint8_t


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

    Adds to counts [B] the weights of the targets of each sequence, 1 without class_weight.
    """
    cdef Py_ssize_t n = lengths.shape[0], rows = targets.shape[0] // n if n else 0, b, r, i = 0, bad = -1
    cdef int64_t target
    cdef double count
    with nogil:
        for b in range(n):
            count = 0
            for r in range(rows):
                target = targets[i]
                if r >= lengths[b] or target == ignore_index or (mask is not None and not mask[b, r]):
                    targets[i] = -1
                elif 0 <= target < n_classes:
                    count += class_weight[target] if class_weight is not None else 1
                else:
                    bad = i
                    break
                i += 1
            if bad >= 0:
                break
            counts[b] += count
    return bad


def sequence_sums(const double[:, ::1] values, double[::1] sums):
    """sums = values.sum(axis=1), in blocks, so that long rows lose no digits; quick for short rows too."""
    cdef Py_ssize_t b, first, i, n = values.shape[1]
    cdef double total, block
    with nogil:
        for b in range(values.shape[0]):
            total = 0
            for first in range(0, n, 512):
                block = 0
                for i in range(first, min(n, first + 512)):
                    block += values[b, i]
                total += block
            sums[b] = total
