"""Pairs of predictions and targets over padded sequences, and their division into items of work.

A sequence has T steps of D features. An item is a part of up to PART elements of one sequence, or as many short
sequences as fit into SHORT elements. Arrays of float32 (or float64, if both are) are read and written in place if the
elements of a run are contiguous; others are converted in buffers that stay in the cache.
"""

from libc.stdint cimport int64_t, uint8_t

from fastseqloss._kernels.calls cimport PART
from fastseqloss._kernels.parallel.workspace cimport round_up
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Stored
from fastseqloss._kernels.simd.runs cimport is_whole


cdef extern from "steps/pointwise.h" nogil:
    enum:
        PIECE "FSL_PIECE"  # elements of a buffer
    bint fits_float32 "fsl_fits_float32"(Stored kind) noexcept

cdef enum:
    SHORT = 512


cdef struct Pairs:
    Array x, y, g  # [B, outer, inner]: predictions, targets, gradient; x and g: NULL if not given
    Py_ssize_t n_sequences, n_steps, n_features
    const int64_t *lengths
    const uint8_t *mask  # [B, T], or NULL
    bint by_step  # parts begin with whole steps
    # set by `divide`
    bint single  # compute in float32
    Py_ssize_t at_once  # elements that are read at once: those of a part, if all arrays are read in place
    Py_ssize_t group, n_parts  # sequences in an item; parts of a sequence
    Py_ssize_t n_items


cdef struct Item:
    Py_ssize_t b, n_sequences  # first sequence
    Py_ssize_t first, last  # range of elements of each sequence


cdef inline void divide(Pairs *pairs) noexcept nogil:
    """Set the division into items and the precision."""
    cdef Py_ssize_t size = pairs.n_steps * pairs.n_features
    cdef Stored kind
    pairs.single = fits_float32(pairs.y.kind) and (pairs.x.data == NULL or fits_float32(pairs.x.kind))
    kind = FLOAT32 if pairs.single else FLOAT64
    pairs.at_once = PIECE
    if is_whole(&pairs.x, kind, size) and is_whole(&pairs.y, kind, size) and is_whole(&pairs.g, kind, size):
        pairs.at_once = PART
    pairs.group = max(1, SHORT // size)
    pairs.n_parts = (size + PART - 1) // PART
    if pairs.group > 1:
        pairs.n_items = (pairs.n_sequences + pairs.group - 1) // pairs.group
    else:
        pairs.n_items = pairs.n_sequences * pairs.n_parts


cdef inline Py_ssize_t part_start(const Pairs *pairs, Py_ssize_t part) noexcept nogil:
    cdef Py_ssize_t first = part * PART
    if pairs.by_step:
        first = round_up(first, pairs.n_features)
    return min(first, pairs.n_steps * pairs.n_features)


cdef inline Item item_at(const Pairs *pairs, Py_ssize_t i) noexcept nogil:
    cdef Item item
    if pairs.group > 1:
        item.b = i * pairs.group
        item.n_sequences = min(pairs.group, pairs.n_sequences - item.b)
        item.first, item.last = 0, pairs.n_steps * pairs.n_features
    else:
        item.b, item.n_sequences = i // pairs.n_parts, 1
        item.first, item.last = part_start(pairs, i % pairs.n_parts), part_start(pairs, i % pairs.n_parts + 1)
    return item


cdef inline Py_ssize_t within(const Pairs *pairs, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Number of the n elements within the length of their sequence."""
    return max(0, min(n, pairs.lengths[b] * pairs.n_features - first))


cdef inline int64_t element(const Pairs *pairs, Py_ssize_t b, Py_ssize_t i) noexcept nogil:
    """Index of an element of a sequence over B T D."""
    return b * pairs.n_steps * pairs.n_features + i
