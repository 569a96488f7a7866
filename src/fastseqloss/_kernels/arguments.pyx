"""Scans of integer arguments, where NumPy's own calls would cost more than the work. Baseline instruction set."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t


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
