"""Sums of scores without rounding, and their use in sums of exponentials."""

from libc.math cimport INFINITY
from libc.stdlib cimport malloc

from fastseqloss._kernels.simd.softmax cimport exp64, log64


cdef extern from "lattice/exact_sums.h" nogil:
    ctypedef struct Levels "fsl_levels":
        Py_ssize_t n
    double exact_from "FSL_EXACT_FROM"(Py_ssize_t frames)
    void note "fsl_note"(Levels *levels, double x) noexcept
    void settle "fsl_settle"(Levels *levels) noexcept
    void add_digits "fsl_add_digits"(const Levels *levels, double x, double sign, double *sum) noexcept
    void add_sums "fsl_add_sums"(const Levels *levels, const double *x, const double *y, double *out) noexcept
    double balance "fsl_balance"(const Levels *levels, const double *x, const double *y, const double *z) noexcept


cdef inline double *rows_of(Py_ssize_t rows, Py_ssize_t width) noexcept nogil:
    """Allocate rows x width float64 numbers; NULL if memory is exhausted."""
    if <double> rows * <double> width > 1e17:
        return NULL
    return <double *> malloc((rows * width + 1) * sizeof(double))


cdef inline double log_add(double x, double y) noexcept nogil:
    """log(exp(x) + exp(y))."""
    cdef double most = max(x, y)
    return most if most == -INFINITY else most + log64(exp64(x - most) + exp64(y - most))
