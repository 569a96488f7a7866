"""Products of rows with a matrix of float64 in panels of columns."""


cdef extern from "simd/matrix.h" nogil:
    void pack "fsl_matrix_pack"(const double *m, Py_ssize_t row_step, Py_ssize_t column_step, Py_ssize_t n,
                                Py_ssize_t width, double filler, double *out) noexcept
    void unpack "fsl_matrix_unpack"(const double *panels, Py_ssize_t n, Py_ssize_t width, double *out) noexcept
    void product "fsl_matrix_product"(const double *a, Py_ssize_t a_step, Py_ssize_t rows, const double *m,
                                      Py_ssize_t n, Py_ssize_t width, double *out, Py_ssize_t out_step) noexcept
    void best "fsl_matrix_best"(const double *a, Py_ssize_t a_step, Py_ssize_t rows, const double *m, Py_ssize_t n,
                                Py_ssize_t width, double *out, Py_ssize_t out_step) noexcept
    void outer "fsl_matrix_outer"(const double **a, const double **b, Py_ssize_t pairs, Py_ssize_t width,
                                  double *g) noexcept
