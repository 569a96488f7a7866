"""Checks and sums of arguments, for C code. Those without the GIL do not look for signals."""

from libc.stdint cimport int64_t, uint8_t

# Opens an aligned array of numbers in native byte order for reading; returns False for anything else.
cdef bint open_array(object array, Py_buffer *view) except -1

# Position of the first of n labels out of range or equal to blank, or -1; adds up equal neighbours in repeats.
cdef Py_ssize_t scan_labels(const int64_t *labels, Py_ssize_t first, Py_ssize_t last, Py_ssize_t n_classes,
                            Py_ssize_t blank, int64_t *repeats) noexcept nogil

cdef Py_ssize_t count_some(int64_t *targets, Py_ssize_t n, int64_t within, const uint8_t *mask, int64_t ignore_index,
                           int64_t n_classes, const double *class_weight, double *count) noexcept nogil

# Adds n values in blocks to a sum and its rounding error.
cdef void add_values(const double *values, Py_ssize_t n, double *total, double *rest) noexcept nogil

# Adds n products in blocks, 0 where the weight is 0 for any value, to a sum and its rounding error.
cdef void add_products(const double *values, const double *weights, Py_ssize_t n, double *weighted, double *total,
                       double *rest) noexcept nogil
