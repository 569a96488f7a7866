"""Search for numbers that a loss does not allow, among those of the steps that count."""

from cython cimport floating
from libc.stdint cimport int64_t

from fastseqloss._kernels.simd.runs cimport read
from fastseqloss._kernels.steps.pairs cimport Item, Pairs, element, within


cdef extern from "steps/pointwise.h" nogil:
    ctypedef enum Allowed "fsl_allowed":
        ANYTHING "FSL_ANYTHING"
        SIGNS "FSL_SIGNS"
        SHARES "FSL_SHARES"
        COUNTS "FSL_COUNTS"
        PROBABILITIES "FSL_PROBABILITIES"
        AMOUNTS "FSL_AMOUNTS"
    int bad_target_f32 "fsl_bad_target_f32"(const float *y, int n, Allowed allowed) noexcept
    int bad_target_f64 "fsl_bad_target_f64"(const double *y, int n, Allowed allowed) noexcept


cdef inline int bad_target(const floating *y, Py_ssize_t n, Allowed allowed) noexcept nogil:
    """First of n numbers that is not allowed, or -1."""
    if floating is float:
        return bad_target_f32(y, <int> n, allowed)
    else:
        return bad_target_f64(y, <int> n, allowed)


cdef inline bint counts(const Pairs *pairs, Py_ssize_t b, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t step = i // pairs.n_features
    return step < pairs.lengths[b] and (pairs.mask == NULL or pairs.mask[b * pairs.n_steps + step])


cdef inline int64_t find_bad(const Pairs *pairs, Allowed allowed, Item item, floating *buffer) noexcept nogil:
    """First target of an item that is not allowed, as an index over B T D, or -1."""
    cdef const floating *y
    cdef Py_ssize_t first = item.first, last = item.last, n, i, total
    if item.n_sequences == 1:
        last = first + within(pairs, item.b, first, last - first)
    while first < last:
        n = min(last - first, pairs.at_once)
        total = item.n_sequences * n
        y = read(&pairs.y, item.b, item.n_sequences, first, n, buffer)
        i = bad_target(y, total, allowed)
        if i >= 0:
            for i in range(i, total):
                if counts(pairs, item.b + i // n, first + i % n) and bad_target(y + i, 1, allowed) == 0:
                    return element(pairs, item.b + i // n, first + i % n)
        first += n
    return -1
