/* A lattice on a grid: what test_grid.py calls, compiled at every level. */
#include "lattice/grid.h"

static double *part(double **cursor, ptrdiff_t n)
{
    double *start = *cursor;
    *cursor += n;
    return start;
}

static void weigh(const double *log_weight, ptrdiff_t n, double *w, double *e)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        e[i] = fsl_split_exponent(log_weight[i]);
        w[i] = fsl_split_mantissa(log_weight[i], e[i]);
    }
}

/* Positions [rows + 1] of column 0 of each row, and its first and last column; returns the number of arcs. */
ptrdiff_t rows(ptrdiff_t frames, ptrdiff_t end, int modified, const int64_t *start, ptrdiff_t width, ptrdiff_t *at,
               ptrdiff_t *first, ptrdiff_t *last)
{
    fsl_grid grid = {.first = first, .last = last, .at = at};
    return fsl_grid_rows(&grid, frames, end, modified, start, width);
}

/* Log of the total. kind 0: blank and label, log-weights of the arcs, become occupancies; 1: derivatives with respect
 * to weights; 2: column [N + 1] is that of the best path. memory holds 9 (arcs + end + 2) numbers. */
double solve(int kind, ptrdiff_t frames, ptrdiff_t end, int modified, const int64_t *start, ptrdiff_t width,
             double *blank, double *label, double *memory, ptrdiff_t *at, ptrdiff_t *first, ptrdiff_t *last,
             ptrdiff_t *column)
{
    fsl_grid grid = {.first = first, .last = last, .at = at, .column = column};
    const ptrdiff_t arcs = fsl_grid_rows(&grid, frames, end, modified, start, width);
    double v = 0, e = 0;
    grid.blank = part(&memory, arcs);
    grid.blank_e = part(&memory, arcs);
    grid.label = part(&memory, arcs);
    grid.label_e = part(&memory, arcs);
    grid.values = part(&memory, arcs + 1);
    grid.values_e = part(&memory, arcs + 1);
    grid.by_label = (unsigned char *)part(&memory, arcs);
    for (int k = 0; k < 2; k++) {
        grid.v[k] = part(&memory, end + 2);
        grid.e[k] = part(&memory, end + 2);
    }
    weigh(blank, arcs, grid.blank, grid.blank_e);
    weigh(label, arcs, grid.label, grid.label_e);
    if (kind == 0) {
        fsl_grid_forward(&grid, &v, &e);
        if (v > 0) fsl_grid_backward(&grid);
    } else if (kind == 1)
        fsl_grid_slopes(&grid, &v, &e);
    else
        fsl_grid_best(&grid, &v, &e);
    memcpy(blank, grid.blank, (size_t)arcs * sizeof(double));
    memcpy(label, grid.label, (size_t)arcs * sizeof(double));
    return fsl_log_extended(v, e);
}
