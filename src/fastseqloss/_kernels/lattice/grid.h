/* Lattices on a grid, for the sum over all paths from one corner to the opposite one.
 *
 * Nodes (n, u) lie in rows n = 0 to N and columns u. Every node of a row depends on the row before it alone: row n of a
 * transducer holds the nodes t + u = n, an anti-diagonal. Two arcs leave a node: the blank's leads to (n+1, u), in the
 * same column, and the label's to (n+1, u+1), in the next one. The value of a node is the sum over its incoming arcs of
 * value(origin) * weight(arc); the value of (0, 0) is 1, and the total is the value of (N, end).
 *
 * Numbers are in extended range: mantissa and exponent, each value and each weight with an exponent of its own, because
 * those of one row may differ by more than the range of float64.
 *
 * Backward by shares: when a node is formed, the weight of each incoming arc is replaced by the share of the node's
 * value that it brings, a number from 0 to 1. On the way back the share is replaced by the occupancy of the arc, its
 * posterior probability: occupancy(arc) = gamma(target) * share(arc), where gamma(node), 1 at the end, is the sum of
 * the occupancies of the outgoing arcs. This is the derivative of the forward recursion, without exponents. */
#ifndef FASTSEQLOSS_GRID_H
#define FASTSEQLOSS_GRID_H

#include "lattice/extended_range.h"

typedef struct {
    ptrdiff_t rows, end;   /* N, and the column of the end in row N */
    ptrdiff_t *first;      /* [N + 1] first and last column of each row; neither decreases from row to row */
    ptrdiff_t *last;
    ptrdiff_t *at;         /* [N + 1] position of column 0 of a row in the arrays of arcs: column u is at[n] + u */
    double *blank;         /* weights of the arcs to (n+1, u), then their shares, then their occupancies */
    double *blank_e;       /* exponents of the weights; FSL_DEAD for weights of 0 */
    double *label;         /* the same of the arcs to (n+1, u+1) */
    double *label_e;
    unsigned char *by_label; /* 1 if the label's arc is the better one into (n+1, u), at the position of (n, u); for
                              * fsl_grid_best */
    ptrdiff_t *column;     /* [N + 1] columns of the best path */
    double *values;        /* values of all nodes, and their exponents; for fsl_grid_slopes */
    double *values_e;
    double *v[2];          /* [end + 2] values of two rows */
    double *e[2];
} fsl_grid;

FSL_INLINE ptrdiff_t fsl_least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
FSL_INLINE ptrdiff_t fsl_most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* ---- rows ---------------------------------------------------------------------------------- */

/* Sets the rows of a transducer with `frames` frames and `end` labels; returns the number of arcs of a kind, or -1 if a
 * row is empty. Frame t holds the labels start[t] to start[t] + width - 1, or those from 0 on if start is NULL. Unless
 * `modified`, a label takes no frame, and row n holds the nodes with t + u = n; otherwise it takes one, and row n holds
 * those of frame n. */
FSL_UNUSED static ptrdiff_t fsl_grid_rows(fsl_grid *grid, ptrdiff_t frames, ptrdiff_t end, int modified,
                                          const int64_t *start, ptrdiff_t width)
{
    ptrdiff_t lo = 0, hi = 0, arcs = 0;
    grid->end = end;
    grid->rows = modified ? frames : frames + end;
    for (ptrdiff_t n = 0; n < grid->rows; n++) {
        if (modified) {
            const ptrdiff_t s = start ? (ptrdiff_t)start[n] : 0;
            lo = fsl_most(s, n - (frames - end));
            hi = fsl_least(fsl_least(n, end), s + width - 1);
        } else { /* the columns of an anti-diagonal are contiguous, since the first label of a frame never decreases */
            const ptrdiff_t t = n - lo, next = n - hi - 1;
            if (t >= frames || lo < (start ? start[t] : 0)) lo++;
            if (next >= 0 && next < frames && hi + 1 <= fsl_least(end, (start ? start[next] : 0) + width - 1)) hi++;
        }
        if (hi < lo) return -1;
        grid->first[n] = lo;
        grid->last[n] = hi;
        grid->at[n] = arcs - lo;
        arcs += hi - lo + 1;
    }
    grid->first[grid->rows] = grid->last[grid->rows] = end;
    grid->at[grid->rows] = arcs - end;
    return arcs;
}

/* ---- forward ------------------------------------------------------------------------------- */

/* Values a * wa + b * wb of a row's nodes, with exponents; the weights wa and wb become the shares of the two terms. */
FSL_INLINE void fsl_grid_join(const double *restrict a, const double *restrict ea, double *restrict wa,
                              const double *restrict xa, const double *restrict b, const double *restrict eb,
                              double *restrict wb, const double *restrict xb, double *restrict v, double *restrict e,
                              ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double first = a[i] * wa[i], second = b[i] * wb[i];
        const double unit_a = fsl_max64(ea[i] + xa[i], FSL_DEAD), unit_b = fsl_max64(eb[i] + xb[i], FSL_DEAD);
        const double apart = unit_a - unit_b, below = fsl_pow2(-fabs(apart));
        const double fa = apart >= 0 ? first : first * below, fb = apart >= 0 ? second * below : second;
        const double sum = fa + fb, per = sum > 0 ? 1.0 / sum : 0.0;
        wa[i] = fa * per;
        wb[i] = fb * per;
        v[i] = sum > 0 ? fsl_mantissa(sum) : 0.0;
        e[i] = fsl_own_exponent(sum, apart >= 0 ? unit_a : unit_b);
    }
}

/* Value a * w of a node with a single incoming arc; unless `best`, the weight becomes the share. */
FSL_INLINE void fsl_grid_pass(double a, double ea, double *w, double x, double *v, double *e, int best)
{
    fsl_normalise(a * *w, fsl_max64(ea + x, FSL_DEAD), v, e);
    if (!best) *w = *v > 0 ? 1.0 : 0.0;
}

/* Values max(a * wa, b * wb); by_label is 1 where the second is the greater one. */
FSL_INLINE void fsl_grid_choose(const double *restrict a, const double *restrict ea, const double *restrict wa,
                                const double *restrict xa, const double *restrict b, const double *restrict eb,
                                const double *restrict wb, const double *restrict xb, double *restrict v,
                                double *restrict e, unsigned char *restrict by_label, ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double first = a[i] * wa[i], second = b[i] * wb[i];
        const double unit_a = fsl_max64(ea[i] + xa[i], FSL_DEAD), unit_b = fsl_max64(eb[i] + xb[i], FSL_DEAD);
        const double apart = unit_a - unit_b, below = fsl_pow2(-fabs(apart));
        const double fa = apart >= 0 ? first : first * below, fb = apart >= 0 ? second * below : second;
        const int second_wins = fb > fa;
        const double most = second_wins ? second : first;
        by_label[i] = (unsigned char)second_wins;
        v[i] = most > 0 ? fsl_mantissa(most) : 0.0;
        e[i] = fsl_own_exponent(most, second_wins ? unit_b : unit_a);
    }
}

/* Sets the shares of the arcs from row n - 1 that lead to no node of row n to 0. */
FSL_UNUSED static void fsl_grid_close(const fsl_grid *grid, ptrdiff_t n)
{
    const ptrdiff_t from = grid->first[n - 1], to = grid->last[n - 1] + 1, lo = grid->first[n], hi = grid->last[n];
    double *blank = grid->blank + grid->at[n - 1], *label = grid->label + grid->at[n - 1];
    for (ptrdiff_t u = from; u < fsl_least(lo, to); u++) blank[u] = 0;
    for (ptrdiff_t u = fsl_most(hi + 1, from); u < to; u++) blank[u] = 0;
    for (ptrdiff_t u = from; u < fsl_least(lo - 1, to); u++) label[u] = 0;
    for (ptrdiff_t u = fsl_most(hi, from); u < to; u++) label[u] = 0;
}

/* Total v * 2^e of all paths, and weights become shares; or value of the best path. */
FSL_INLINE void fsl_grid_sweep(fsl_grid *grid, double *total, double *total_e, int best)
{
    double *v = grid->v[0], *e = grid->e[0], *next = grid->v[1], *next_e = grid->e[1];
    v[0] = 1;
    e[0] = 0;
    for (ptrdiff_t n = 1; n <= grid->rows; n++) {
        const ptrdiff_t from = grid->first[n - 1], to = grid->last[n - 1], lo = grid->first[n], hi = grid->last[n];
        const ptrdiff_t at = grid->at[n - 1], both = fsl_most(lo, from + 1), count = fsl_least(to, hi) - both + 1;
        double *blank = grid->blank + at, *blank_e = grid->blank_e + at;
        double *label = grid->label + at, *label_e = grid->label_e + at;
        if (from >= lo && from <= hi)
            fsl_grid_pass(v[from], e[from], blank + from, blank_e[from], next + from, next_e + from, best);
        if (best)
            fsl_grid_choose(v + both, e + both, blank + both, blank_e + both, v + both - 1, e + both - 1,
                            label + both - 1, label_e + both - 1, next + both, next_e + both,
                            grid->by_label + at + both, count);
        else
            fsl_grid_join(v + both, e + both, blank + both, blank_e + both, v + both - 1, e + both - 1,
                          label + both - 1, label_e + both - 1, next + both, next_e + both, count);
        if (to + 1 >= lo && to + 1 <= hi)
            fsl_grid_pass(v[to], e[to], label + to, label_e[to], next + to + 1, next_e + to + 1, best);
        for (ptrdiff_t u = fsl_most(lo, to + 2); u <= hi; u++) {
            next[u] = 0;
            next_e[u] = FSL_DEAD;
        }
        if (!best) fsl_grid_close(grid, n);
        double *swap = v; v = next; next = swap;
        swap = e; e = next_e; next_e = swap;
    }
    *total = v[grid->end];
    *total_e = e[grid->end];
}

/* Total v * 2^e of all paths; weights become shares. */
FSL_UNUSED static void fsl_grid_forward(fsl_grid *grid, double *total, double *total_e)
{
    fsl_grid_sweep(grid, total, total_e, 0);
}

/* ---- backward ------------------------------------------------------------------------------ */

/* Gammas g = a * sa + b * sb of a row's nodes, from those of the next row; the shares sa and sb of the outgoing arcs
 * become their occupancies. */
FSL_INLINE void fsl_grid_spread(const double *restrict a, double *restrict sa, const double *restrict b,
                                double *restrict sb, double *restrict g, ptrdiff_t n)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double blank = a[i] * sa[i], label = b[i] * sb[i];
        sa[i] = blank;
        sb[i] = label;
        g[i] = blank + label;
    }
}

/* Shares become occupancies, after fsl_grid_forward with a total above 0. */
FSL_UNUSED static void fsl_grid_backward(fsl_grid *grid)
{
    double *g = grid->v[0], *before = grid->v[1];
    memset(g, 0, (size_t)(grid->end + 2) * sizeof(double));
    memset(before, 0, (size_t)(grid->end + 2) * sizeof(double));
    g[grid->end] = 1;
    for (ptrdiff_t n = grid->rows - 1; n >= 0; n--) {
        const ptrdiff_t lo = grid->first[n], at = grid->at[n] + lo;
        fsl_grid_spread(g + lo, grid->blank + at, g + lo + 1, grid->label + at, before + lo, grid->last[n] - lo + 1);
        double *swap = g; g = before; before = swap;
    }
}

/* ---- derivatives --------------------------------------------------------------------------- */

/* Sum v * 2^e of two numbers in extended range. */
FSL_INLINE void fsl_grid_add(double a, double ea, double b, double eb, double *v, double *e)
{
    const double unit = fsl_larger_exponent(a, ea, b, eb);
    fsl_normalise(a * fsl_pow2(ea - unit) + b * fsl_pow2(eb - unit), unit, v, e);
}

/* v * 2^e, rounded to 0 or infinity beyond the range of float64. */
FSL_INLINE double fsl_grid_number(double v, double e)
{
    return ldexp(v, (int)(e < -2000 ? -2000 : e > 2000 ? 2000 : e));
}

/* Values v * 2^e of all nodes, which lie where their outgoing arcs do; those of the end follow. */
FSL_INLINE void fsl_grid_values(const fsl_grid *grid, double *v, double *e)
{
    v[0] = 1;
    e[0] = 0;
    for (ptrdiff_t n = 1; n <= grid->rows; n++)
        for (ptrdiff_t u = grid->first[n]; u <= grid->last[n]; u++) {
            const ptrdiff_t from = grid->at[n - 1] + u, to = grid->at[n] + u;
            double a = 0, ea = FSL_DEAD, b = 0, eb = FSL_DEAD;
            if (u >= grid->first[n - 1] && u <= grid->last[n - 1])
                a = v[from] * grid->blank[from], ea = e[from] + grid->blank_e[from];
            if (u - 1 >= grid->first[n - 1] && u - 1 <= grid->last[n - 1])
                b = v[from - 1] * grid->label[from - 1], eb = e[from - 1] + grid->label_e[from - 1];
            fsl_grid_add(a, ea, b, eb, v + to, e + to);
        }
}

/* Total v * 2^e of all paths; weights become derivatives of its logarithm with respect to them, which shares do not
 * give where weights are 0. `values` and `exponents` hold an entry for each node and the end. */
FSL_UNUSED static void fsl_grid_slopes(fsl_grid *grid, double *total, double *total_e)
{
    double *v = grid->values, *e = grid->values_e, *beta = grid->v[0], *beta_e = grid->e[0];
    fsl_grid_values(grid, v, e);
    const ptrdiff_t end = grid->at[grid->rows] + grid->end;
    *total = v[end];
    *total_e = e[end];
    if (!(*total > 0)) return;
    for (ptrdiff_t u = 0; u < grid->end + 2; u++) beta[u] = 0, beta_e[u] = FSL_DEAD;
    beta[grid->end] = 1;
    beta_e[grid->end] = 0;
    for (ptrdiff_t n = grid->rows - 1; n >= 0; n--) {
        const ptrdiff_t lo = grid->first[n + 1], hi = grid->last[n + 1];
        for (ptrdiff_t u = grid->first[n]; u <= grid->last[n]; u++) { /* beta[u + 1] is still that of row n + 1 */
            const ptrdiff_t at = grid->at[n] + u;
            const double blank = u >= lo && u <= hi ? beta[u] : 0, label = u + 1 >= lo && u + 1 <= hi ? beta[u + 1] : 0;
            const double w = grid->blank[at], x = grid->label[at];
            grid->blank[at] = fsl_grid_number(v[at] * blank / *total, e[at] + beta_e[u] - *total_e);
            grid->label[at] = fsl_grid_number(v[at] * label / *total, e[at] + beta_e[u + 1] - *total_e);
            fsl_grid_add(blank * w, beta_e[u] + grid->blank_e[at], label * x, beta_e[u + 1] + grid->label_e[at],
                         beta + u, beta_e + u);
        }
    }
}

/* ---- best path ----------------------------------------------------------------------------- */

/* Columns of the best path, from the better arc into each node. */
FSL_UNUSED static void fsl_grid_trace(const fsl_grid *grid)
{
    ptrdiff_t u = grid->column[grid->rows] = grid->end;
    for (ptrdiff_t n = grid->rows - 1; n >= 0; n--) {
        const int inner = u > grid->first[n] && u <= grid->last[n];
        u -= inner ? grid->by_label[grid->at[n] + u] : u > grid->last[n];
        grid->column[n] = u;
    }
}

/* Value v * 2^e of the best path, and its columns. The weights are kept. Of two equal paths into a node the one by the
 * blank is taken. */
FSL_UNUSED static void fsl_grid_best(fsl_grid *grid, double *total, double *total_e)
{
    fsl_grid_sweep(grid, total, total_e, 1);
    fsl_grid_trace(grid);
}

#endif
