"""The dense row pass, shared by all losses with a softmax."""

from cython cimport floating


cdef extern from "simd/softmax_row.h" nogil:
    double exp64 "fsl_exp64"(double x) noexcept
    void add_exactly "fsl_add_exactly"(double *sum, double *rest, double x) noexcept
    double log64 "fsl_log64"(double x) noexcept
    void softmax_row_f32 "fsl_softmax_row_f32"(const float *x, Py_ssize_t n, float *out, double scale,
                                               Py_ssize_t ahead, double *row_max, double *row_sum) noexcept
    void softmax_row_f64 "fsl_softmax_row_f64"(const double *x, Py_ssize_t n, double *out, double scale,
                                               Py_ssize_t ahead, double *row_max, double *row_sum) noexcept


cdef inline void softmax_row(const floating *x, Py_ssize_t n, floating *out, double scale, Py_ssize_t ahead,
                             double *row_max, double *row_sum) noexcept nogil:
    """Maximum of x and sum of exp(x - maximum); out = scale * softmax(x), unless out is NULL.

    `ahead` is the distance to the next row, in elements, for prefetching.
    """
    if floating is float:
        softmax_row_f32(x, n, out, scale, ahead, row_max, row_sum)
    else:
        softmax_row_f64(x, n, out, scale, ahead, row_max, row_sum)
