"""The dense passes over rows of logits of LANES classes or more."""

from cython cimport floating


cdef extern from "transducer/dense.h" nogil:
    double dense_exp_f32 "fsl_dense_exp_f32"(const float *x, Py_ssize_t n, float m, float *e, const float *next_row,
                                             float *next_max, const float *later) noexcept
    double dense_exp_f64 "fsl_dense_exp_f64"(const double *x, Py_ssize_t n, double m, double *e,
                                             const double *next_row, double *next_max, const double *later) noexcept
    void dense_short_f32 "fsl_dense_short_f32"(const float **x, int n, Py_ssize_t n_classes, float *m, float **e,
                                               Py_ssize_t ahead, double *sums) noexcept
    void dense_short_f64 "fsl_dense_short_f64"(const double **x, int n, Py_ssize_t n_classes, double *m, double **e,
                                               Py_ssize_t ahead, double *sums) noexcept
    void dense_zeros "fsl_dense_zeros"(char *memory, size_t size) noexcept
    void dense_zeros_end "fsl_dense_zeros_end"() noexcept
    void dense_scale_f32 "fsl_dense_scale_f32"(float *x, Py_ssize_t n, double factor, const float *next_row) noexcept
    void dense_scale_f64 "fsl_dense_scale_f64"(double *x, Py_ssize_t n, double factor,
                                               const double *next_row) noexcept


cdef inline double dense_exp(const floating *x, Py_ssize_t n, floating m, floating *e, const floating *next_row,
                             floating *next_max, const floating *later) noexcept nogil:
    """e = exp(x - m), which may be x; returns the sum. Also sets the maximum of the next row; prefetches `later`."""
    if floating is float:
        return dense_exp_f32(x, n, m, e, next_row, next_max, later)
    else:
        return dense_exp_f64(x, n, m, e, next_row, next_max, later)


cdef inline void dense_short(const floating **x, int n, Py_ssize_t n_classes, floating *m, floating **e,
                             Py_ssize_t ahead, double *sums) noexcept nogil:
    """Maxima m of n rows of LANES to SHORT classes, e = exp(x - m), and the sums of its rows."""
    if floating is float:
        dense_short_f32(x, n, n_classes, m, e, ahead, sums)
    else:
        dense_short_f64(x, n, n_classes, m, e, ahead, sums)


cdef inline void dense_scale(floating *x, Py_ssize_t n, double factor, const floating *next_row) noexcept nogil:
    """x = factor * x; prefetches the next row."""
    if floating is float:
        dense_scale_f32(x, n, factor, next_row)
    else:
        dense_scale_f64(x, n, factor, next_row)
