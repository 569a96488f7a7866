"""Diagonals of a grid with three arcs into a cell: sums over paths, and posteriors by shares."""


cdef extern from "lattice/diagonals.h" nogil:
    enum:
        LANES "FSL_DIAGONAL_LANES"
    const double LOG2E "FSL_LOG2E"
    void fetch "fsl_diagonal_fetch"(const void *source, Py_ssize_t n) noexcept
    void fetch_to_write "fsl_diagonal_fetch_to_write"(void *to, Py_ssize_t n) noexcept
    void cost_range "fsl_diagonal_range"(const double *cost, Py_ssize_t lo, Py_ssize_t hi, double *least,
                                         double *most) noexcept
    void diagonal_sum "fsl_diagonal_sum"(const double *cost, double rate, double limit, const double *v1,
                                         const double *e1, const double *v2, const double *e2, double *v, double *e,
                                         Py_ssize_t lo, Py_ssize_t hi) noexcept
    void diagonal_share "fsl_diagonal_share"(const double *cost, double rate, double limit, const double *v1,
                                             const double *e1, const double *v2, const double *e2, double *v,
                                             double *e, double *corners, double *ups, Py_ssize_t lo,
                                             Py_ssize_t hi) noexcept
    void diagonal_share_wide "fsl_diagonal_share_wide"(const double *cost, double rate, double limit, const double *v1,
                                                       const double *e1, const double *f1, const double *v2,
                                                       const double *e2, const double *f2, double *v, double *e,
                                                       double *f, double *corners, double *ups, Py_ssize_t lo,
                                                       Py_ssize_t hi) noexcept
    void diagonal_best "fsl_diagonal_best"(const double *cost, double rate, const double *v1, const double *v2,
                                           double *v, double *corners, double *ups, Py_ssize_t lo,
                                           Py_ssize_t hi) noexcept
    void diagonal_posteriors "fsl_diagonal_posteriors"(const double *left1, const double *up1, const double *corner2,
                                                       const double *corners, const double *ups, double *posterior,
                                                       double *to_left, double *to_up, double *to_corner,
                                                       Py_ssize_t lo, Py_ssize_t hi) noexcept
