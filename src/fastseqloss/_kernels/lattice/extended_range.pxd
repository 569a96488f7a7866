"""Numbers of a lattice as mantissa and exponent, v * 2^e."""

from libc.stdint cimport int32_t


cdef extern from "lattice/extended_range.h" nogil:
    enum:
        WINDOW "FSL_RANGE_WINDOW"
    const double BUDGET "FSL_RANGE_BUDGET"
    const double DEAD "FSL_DEAD"
    double pow2 "fsl_pow2"(double n) noexcept
    double log_extended "fsl_log_extended"(double v, double e) noexcept
    double larger_exponent "fsl_larger_exponent"(double a, double ea, double b, double eb) noexcept
    double log_total "fsl_log_total"(double a, double ea, double b, double eb) noexcept
    void split_exp "fsl_split_exp"(const double *x, Py_ssize_t n, double shift, double *m, double *e) noexcept
    double split_ratio "fsl_split_ratio"(const double *p, Py_ssize_t n, double shift, double *m, double *e,
                                         double *shift_m) noexcept
    void emit "fsl_emit"(const double *v, const double *e, const int32_t *u, const double *m, const double *n,
                         double *v_out, double *e_out, Py_ssize_t size) noexcept
    double product_exponent "fsl_product_exponent"(const double *v, const double *ev, const double *w,
                                                   const double *ew, Py_ssize_t size, double largest) noexcept
    void product "fsl_extended_product"(const double *v, const double *ev, const double *w, const double *ew,
                                        double unit, double *out, Py_ssize_t size) noexcept
    void change_exponents "fsl_change_exponents"(double *q, const double *source, const double *to, Py_ssize_t lo,
                                                 Py_ssize_t hi) noexcept
