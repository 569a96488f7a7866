"""Lattices on a grid: sums over paths, occupancies of arcs, best paths."""

from libc.stdint cimport int64_t, uintptr_t

from fastseqloss._kernels.parallel.workspace cimport size_product, take


cdef extern from "lattice/grid.h" nogil:
    ctypedef struct Grid "fsl_grid":
        Py_ssize_t rows, end
        Py_ssize_t *first
        Py_ssize_t *last
        Py_ssize_t *at
        double *blank
        double *blank_e
        double *label
        double *label_e
        unsigned char *by_label
        Py_ssize_t *column
        double *values
        double *values_e
        double *v[2]
        double *e[2]
    Py_ssize_t grid_rows "fsl_grid_rows"(Grid *grid, Py_ssize_t frames, Py_ssize_t end, bint modified,
                                         const int64_t *start, Py_ssize_t width) noexcept
    void close_shares "fsl_grid_close"(const Grid *grid, Py_ssize_t n) noexcept
    void trace_back "fsl_grid_trace"(const Grid *grid) noexcept
    void grid_forward "fsl_grid_forward"(Grid *grid, double *total, double *total_e) noexcept
    void grid_backward "fsl_grid_backward"(Grid *grid) noexcept
    void grid_slopes "fsl_grid_slopes"(Grid *grid, double *total, double *total_e) noexcept
    void grid_best "fsl_grid_best"(Grid *grid, double *total, double *total_e) noexcept


cdef enum Use:
    OCCUPANCIES  # grid_forward, grid_backward
    SLOPES
    BEST_PATH


cdef inline void lay_out_grid(Grid *grid, Py_ssize_t frames, Py_ssize_t end, bint modified, Py_ssize_t width,
                              Use use, uintptr_t *cursor) noexcept nogil:
    """Lay out the arrays of a grid at the cursor."""
    cdef Py_ssize_t rows = (frames if modified else frames + end) + 1, k
    cdef size_t arcs = size_product(frames, min(width, end + 1))
    grid.first = <Py_ssize_t *> take(cursor, rows, sizeof(Py_ssize_t))
    grid.last = <Py_ssize_t *> take(cursor, rows, sizeof(Py_ssize_t))
    grid.at = <Py_ssize_t *> take(cursor, rows, sizeof(Py_ssize_t))
    grid.blank = <double *> take(cursor, arcs, sizeof(double))
    grid.blank_e = <double *> take(cursor, arcs, sizeof(double))
    grid.label = <double *> take(cursor, arcs, sizeof(double))
    grid.label_e = <double *> take(cursor, arcs, sizeof(double))
    grid.by_label = <unsigned char *> take(cursor, arcs if use == BEST_PATH else 0, 1)
    grid.column = <Py_ssize_t *> take(cursor, rows if use == BEST_PATH else 0, sizeof(Py_ssize_t))
    grid.values = <double *> take(cursor, arcs + 1 if use == SLOPES else 0, sizeof(double))
    grid.values_e = <double *> take(cursor, arcs + 1 if use == SLOPES else 0, sizeof(double))
    for k in range(2):
        grid.v[k] = <double *> take(cursor, end + 2, sizeof(double))
        grid.e[k] = <double *> take(cursor, end + 2, sizeof(double))
