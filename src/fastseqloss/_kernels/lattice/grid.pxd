"""Diagonals of a grid: sums over its paths, and posteriors by shares."""


cdef extern from "lattice/grid.h" nogil:
    enum:
        LANES "FSL_GRID_LANES"
    const double LOG2_E "FSL_GRID_LOG2E"
    const double MOST "FSL_GRID_MOST"
    const double NEGATIVE "FSL_GRID_NEGATIVE"
    void fetch "fsl_grid_fetch"(const void *source, Py_ssize_t n) noexcept
    void fetch_to_write "fsl_grid_fetch_to_write"(void *to, Py_ssize_t n) noexcept
    void sum3 "fsl_grid_sum3"(const double *cost, double rate, const double *v1, const double *e1, const double *v2,
                              const double *e2, double *v, double *e, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void share3 "fsl_grid_share3"(const double *cost, double rate, const double *v1, const double *e1,
                                  const double *v2, const double *e2, double *v, double *e, double *diagonal,
                                  double *above, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void best3 "fsl_grid_best3"(const double *cost, double rate, const double *v1, const double *v2, double *v,
                                double *diagonal, double *above, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void posteriors3 "fsl_grid_posteriors3"(const double *left1, const double *above1, const double *corner2,
                                            const double *diagonal, const double *above, double *posterior,
                                            double *to_left, double *to_above, double *to_corner, Py_ssize_t lo,
                                            Py_ssize_t hi) noexcept
    void grid_range "fsl_grid_range"(const double *cost, Py_ssize_t lo, Py_ssize_t hi, double *least,
                                     double *most) noexcept
