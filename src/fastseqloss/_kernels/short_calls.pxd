"""Short calls of losses in their usual form, computed without the GIL.

A function returns False for invalid values, whatever the results contain by then; the Python function finds the error.
"""

from libc.stdint cimport int64_t

from fastseqloss._kernels.calls cimport Entry
from fastseqloss._kernels.codes cimport Stored


cdef struct Array:
    # C-contiguous and with elements; `data` is NULL for an array that was left out.
    Stored kind
    void *data
    int64_t n_axes
    const Py_ssize_t *shape


cdef struct ShortCall:
    Array scores    # [..., T, V], or [..., V]
    Array labels    # [..., S]; targets [...], one for each score of losses of numbers
    Array lengths   # [...]: numbers of frames or of steps; paddings [..., T] in float32
    # results
    Array losses    # [...], or a number if the call reduces
    Array gradient
    # options
    int64_t input, reduces, averages
    # of CTC
    Array label_lengths
    int64_t blank, infeasible_is_zero
    # of losses of steps
    Array mask      # uint8
    int64_t ignore_index
    double parameter
    # of losses of numbers: codes of the loss and of the targets allowed, and further parameters
    int which, allowed
    double more[2]


cdef bint run_ctc(const ShortCall *given, Entry entry) noexcept nogil
cdef bint run_classes(const ShortCall *given, Entry entry) noexcept nogil
