"""Operations of simd/rows.h and short_rows.h on rows of scores: single rows, several rows at once, tiles of rows."""

from cython cimport floating
from libc.stdint cimport int64_t

from fastseqloss._kernels.simd.elements cimport Stored


cdef extern from "simd/short_rows.h" nogil:
    enum:
        LANES "FSL_LANES"
        SHORT "FSL_SHORT"
        MOST_ROWS "FSL_MOST_ROWS"  # in a block
    double clamp_probability "fsl_clamp_probability"(double p) noexcept
    bint is_large_f32 "fsl_is_large_f32"(double factor) noexcept
    bint is_large_f64 "fsl_is_large_f64"(double factor) noexcept
    void softmax_losses "fsl_softmax_losses"(int n, const double *m, const double *sums, const double *picked,
                                             const double *q, double z, const double *scale, double *loss,
                                             double *factor) noexcept
    float load_max_f32 "fsl_load_max_f32"(Stored kind, const char *source, Py_ssize_t n, float *to) noexcept
    double load_max_f64 "fsl_load_max_f64"(Stored kind, const char *source, Py_ssize_t n, double *to) noexcept
    double row_exp_f32 "fsl_row_exp_f32"(const float *x, Py_ssize_t n, float m, float *out, const char *next_row,
                                         char *later, Py_ssize_t size) noexcept
    double row_exp_f64 "fsl_row_exp_f64"(const double *x, Py_ssize_t n, double m, double *out, const char *next_row,
                                         char *later, Py_ssize_t size) noexcept
    double row_dot_f32 "fsl_row_dot_f32"(const float *x, Py_ssize_t n, float m, const float *q) noexcept
    double row_dot_f64 "fsl_row_dot_f64"(const double *x, Py_ssize_t n, double m, const double *q) noexcept
    double row_dot_log_f32 "fsl_row_dot_log_f32"(const float *p, Py_ssize_t n, const float *q) noexcept
    double row_dot_log_f64 "fsl_row_dot_log_f64"(const double *p, Py_ssize_t n, const double *q) noexcept
    Py_ssize_t find_outside_f32 "fsl_find_outside_f32"(const float *p, Py_ssize_t n, double most) noexcept
    Py_ssize_t find_outside_f64 "fsl_find_outside_f64"(const double *p, Py_ssize_t n, double most) noexcept
    void row_gradient_f32 "fsl_row_gradient_f32"(float *x, Py_ssize_t n, double factor, double shift,
                                                 const float *q) noexcept
    void row_gradient_f64 "fsl_row_gradient_f64"(double *x, Py_ssize_t n, double factor, double shift,
                                                 const double *q) noexcept
    void row_slope_f32 "fsl_row_slope_f32"(const float *p, Py_ssize_t n, double scale, const float *q, bint divide,
                                           float *out) noexcept
    void row_slope_f64 "fsl_row_slope_f64"(const double *p, Py_ssize_t n, double scale, const double *q, bint divide,
                                           double *out) noexcept
    double row_smooth_f32 "fsl_row_smooth_f32"(const float *y, Py_ssize_t n, const double *weight, double epsilon,
                                               float *q) noexcept
    double row_smooth_f64 "fsl_row_smooth_f64"(const double *y, Py_ssize_t n, const double *weight, double epsilon,
                                               double *q) noexcept
    void short_max_f32 "fsl_short_rows_max"(const float **rows, int n, Py_ssize_t n_classes, float *m) noexcept
    void short_max_f64 "fsl_short_max_f64"(const double **rows, int n, Py_ssize_t n_classes, double *m) noexcept
    void short_exp_f32 "fsl_short_rows_exp"(const float **rows, int n, Py_ssize_t n_classes, const float *m,
                                            float **out, Py_ssize_t ahead, double *sums) noexcept
    void short_exp_f64 "fsl_short_exp_f64"(const double **rows, int n, Py_ssize_t n_classes, const double *m,
                                           double **out, Py_ssize_t ahead, double *sums) noexcept
    void short_gradient_f32 "fsl_short_gradient_f32"(float **rows, int n, Py_ssize_t n_classes, const int64_t *target,
                                                     const double *factor, const double *scale,
                                                     const double *own) noexcept
    void short_gradient_f64 "fsl_short_gradient_f64"(double **rows, int n, Py_ssize_t n_classes, const int64_t *target,
                                                     const double *factor, const double *scale,
                                                     const double *own) noexcept
    void tile_in_f32 "fsl_tile_in_f32"(const float **rows, int n, Py_ssize_t n_classes, float *tile) noexcept
    void tile_in_f64 "fsl_tile_in_f64"(const double **rows, int n, Py_ssize_t n_classes, double *tile) noexcept
    void tile_out_f32 "fsl_tile_out_f32"(const float *tile, int n, Py_ssize_t n_classes, float **rows) noexcept
    void tile_out_f64 "fsl_tile_out_f64"(const double *tile, int n, Py_ssize_t n_classes, double **rows) noexcept
    void tile_max_f32 "fsl_tile_max_f32"(const float *tile, Py_ssize_t n_classes, float *m) noexcept
    void tile_max_f64 "fsl_tile_max_f64"(const double *tile, Py_ssize_t n_classes, double *m) noexcept
    void tile_exp_f32 "fsl_tile_exp_f32"(float *tile, Py_ssize_t n_classes, const float *m, double *sums) noexcept
    void tile_exp_f64 "fsl_tile_exp_f64"(double *tile, Py_ssize_t n_classes, const double *m, double *sums) noexcept
    void tile_dot_f32 "fsl_tile_dot_f32"(const float *tile, Py_ssize_t n_classes, const float *m, const float *q,
                                         bint q_is_tile, double *dot) noexcept
    void tile_dot_f64 "fsl_tile_dot_f64"(const double *tile, Py_ssize_t n_classes, const double *m, const double *q,
                                         bint q_is_tile, double *dot) noexcept
    void tile_gradient_f32 "fsl_tile_gradient_f32"(float *tile, Py_ssize_t n_classes, const double *factor,
                                                   const double *shift, const float *q, bint q_is_tile) noexcept
    void tile_gradient_f64 "fsl_tile_gradient_f64"(double *tile, Py_ssize_t n_classes, const double *factor,
                                                   const double *shift, const double *q, bint q_is_tile) noexcept


cdef inline bint is_large(const floating *row, double factor) noexcept nogil:
    """Return True if a factor is applied to a row of this type in float64."""
    return is_large_f32(factor) if floating is float else is_large_f64(factor)


cdef inline floating load_max(Stored kind, const char *source, Py_ssize_t n, floating *to) noexcept nogil:
    """Maximum of a row, 0 if all are -inf; converts a row of half precision into the buffer in the same pass."""
    if floating is float:
        return load_max_f32(kind, source, n, to)
    else:
        return load_max_f64(kind, source, n, to)


cdef inline double row_exp(const floating *x, Py_ssize_t n, floating m, floating *out, const char *next_row,
                           char *later, Py_ssize_t size) noexcept nogil:
    """Sum of exp(x - m), stored in out unless NULL; prefetches next_row and later."""
    if floating is float:
        return row_exp_f32(x, n, m, out, next_row, later, size)
    else:
        return row_exp_f64(x, n, m, out, next_row, later, size)


cdef inline double row_dot(const floating *x, Py_ssize_t n, floating m, const floating *q) noexcept nogil:
    """Sum of q (x - m); terms with q = 0 are 0."""
    if floating is float:
        return row_dot_f32(x, n, m, q)
    else:
        return row_dot_f64(x, n, m, q)


cdef inline double row_dot_log(const floating *p, Py_ssize_t n, const floating *q) noexcept nogil:
    """Sum of q log p; terms with q = 0 are 0."""
    if floating is float:
        return row_dot_log_f32(p, n, q)
    else:
        return row_dot_log_f64(p, n, q)


cdef inline Py_ssize_t find_outside(const floating *p, Py_ssize_t n, double most) noexcept nogil:
    """First of n numbers below 0 or above `most` by more than rounding, or n."""
    if floating is float:
        return find_outside_f32(p, n, most)
    else:
        return find_outside_f64(p, n, most)


cdef inline void row_gradient(floating *x, Py_ssize_t n, double factor, double shift,
                              const floating *q) noexcept nogil:
    """x = factor x - shift q, or factor x where q is NULL."""
    if floating is float:
        row_gradient_f32(x, n, factor, shift, q)
    else:
        row_gradient_f64(x, n, factor, shift, q)


cdef inline void row_slope(const floating *p, Py_ssize_t n, double scale, const floating *q, bint divide,
                           floating *out) noexcept nogil:
    """out = -scale q, over p if `divide`; 0 where q is 0."""
    if floating is float:
        row_slope_f32(p, n, scale, q, divide, out)
    else:
        row_slope_f64(p, n, scale, q, divide, out)


cdef inline double row_smooth(const floating *y, Py_ssize_t n, const double *weight, double epsilon,
                              floating *q) noexcept nogil:
    """q = weight ((1 - epsilon) y + epsilon / n), and its sum."""
    if floating is float:
        return row_smooth_f32(y, n, weight, epsilon, q)
    else:
        return row_smooth_f64(y, n, weight, epsilon, q)


cdef inline void short_max(const floating **rows, int n, Py_ssize_t n_classes, floating *m) noexcept nogil:
    """Maxima of n rows of LANES to SHORT classes."""
    if floating is float:
        short_max_f32(rows, n, n_classes, m)
    else:
        short_max_f64(rows, n, n_classes, m)


cdef inline void short_exp(const floating **rows, int n, Py_ssize_t n_classes, const floating *m, floating **out,
                           Py_ssize_t ahead, double *sums) noexcept nogil:
    """out = exp(x - m) of n rows of LANES to SHORT classes, and the sums of its rows."""
    if floating is float:
        short_exp_f32(rows, n, n_classes, m, out, ahead, sums)
    else:
        short_exp_f64(rows, n, n_classes, m, out, ahead, sums)


cdef inline void short_gradient(floating **rows, int n, Py_ssize_t n_classes, const int64_t *target,
                                const double *factor, const double *scale, const double *own) noexcept nogil:
    """Set rows e to the gradient factor e - scale own, where own is 0 except at the target."""
    if floating is float:
        short_gradient_f32(rows, n, n_classes, target, factor, scale, own)
    else:
        short_gradient_f64(rows, n, n_classes, target, factor, scale, own)


cdef inline void tile_in(const floating **rows, int n, Py_ssize_t n_classes, floating *tile) noexcept nogil:
    """Copy at most LANES rows into a tile."""
    if floating is float:
        tile_in_f32(rows, n, n_classes, tile)
    else:
        tile_in_f64(rows, n, n_classes, tile)


cdef inline void tile_out(const floating *tile, int n, Py_ssize_t n_classes, floating **rows) noexcept nogil:
    """Copy n rows out of a tile."""
    if floating is float:
        tile_out_f32(tile, n, n_classes, rows)
    else:
        tile_out_f64(tile, n, n_classes, rows)


cdef inline void tile_max(const floating *tile, Py_ssize_t n_classes, floating *m) noexcept nogil:
    """Maxima of the rows of a tile."""
    if floating is float:
        tile_max_f32(tile, n_classes, m)
    else:
        tile_max_f64(tile, n_classes, m)


cdef inline void tile_exp(floating *tile, Py_ssize_t n_classes, const floating *m, double *sums) noexcept nogil:
    """tile = exp(tile - m), and the sums of its rows."""
    if floating is float:
        tile_exp_f32(tile, n_classes, m, sums)
    else:
        tile_exp_f64(tile, n_classes, m, sums)


cdef inline void tile_dot(const floating *tile, Py_ssize_t n_classes, const floating *m, const floating *q,
                          bint q_is_tile, double *dot) noexcept nogil:
    """Sums of q (x - m) of the rows of a tile."""
    if floating is float:
        tile_dot_f32(tile, n_classes, m, q, q_is_tile, dot)
    else:
        tile_dot_f64(tile, n_classes, m, q, q_is_tile, dot)


cdef inline void tile_gradient(floating *tile, Py_ssize_t n_classes, const double *factor, const double *shift,
                               const floating *q, bint q_is_tile) noexcept nogil:
    """tile = factor tile - shift q, or factor tile where q is NULL."""
    if floating is float:
        tile_gradient_f32(tile, n_classes, factor, shift, q, q_is_tile)
    else:
        tile_gradient_f64(tile, n_classes, factor, shift, q, q_is_tile)
