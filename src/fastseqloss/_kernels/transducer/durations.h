/* The lattice of the token-and-duration transducer (TDT): a grid whose arcs take d frames, d one of the durations.
 *
 * Row n of the grid holds the nodes t + u = n. An arc of the blank with duration d comes from row n - d, one of a label
 * from row n - d - 1: all from earlier rows. The weight of an arc is that of its token, grid->blank or grid->label,
 * times the probability q of its duration.
 *
 * Forward, the weights of the tokens are multiplied by the value of their node. Backward, the share of an arc in the
 * value of its target is computed again from these products: occupancy = blank * q * r(target), r = occupancy / value
 * of the target. The terms are those that were added up, so no mass is lost. At the end, grid->blank and grid->label
 * are the occupancies of the two kinds of arc of a node, and q of each duration is the gradient of its logit. */
#ifndef FASTSEQLOSS_DURATIONS_H
#define FASTSEQLOSS_DURATIONS_H

#include "lattice/grid.h"

typedef struct {
    ptrdiff_t n, frames, arcs; /* durations; frames of the sequence; arcs of a kind */
    const int64_t *durations;  /* distinct; 0 is one of labels alone */
    double *node;              /* [arcs] values of the nodes with exponents, at the positions of the grid; then r */
    double *node_e;
    double *q;                 /* [n, arcs] probabilities; then gradients */
    double *q_e;               /* exponents; then occupancies */
    double *scratch;           /* [3, end + 1] */
    double *ends;              /* [n] occupancies of the arcs to the end */
} fsl_tdt;

/* Softmax of logits x [nodes, n], as m * 2^e, arrays [n, nodes]. Returns 1 if there is NaN or inf, or else 2 if a
 * finite logit is further below others than `huge`. */
FSL_UNUSED static int fsl_tdt_softmax(const double *restrict x, ptrdiff_t nodes, ptrdiff_t n, double huge,
                                      double *restrict m, double *restrict e, double *restrict scratch)
{
    double *restrict most = scratch, *restrict sum = scratch + nodes;
    int bad = 0, far = 0;
    for (ptrdiff_t u = 0; u < nodes; u++) {
        most[u] = -INFINITY;
        sum[u] = 0;
        for (ptrdiff_t k = 0; k < n; k++) m[k * nodes + u] = x[u * n + k];
    }
    for (ptrdiff_t k = 0; k < n; k++) {
        const double *restrict xk = m + k * nodes;
        FSL_SIMD(reduction(| : bad))
        for (ptrdiff_t u = 0; u < nodes; u++) {
            bad |= !(xk[u] <= DBL_MAX);
            most[u] = fsl_max64(xk[u], most[u]);
        }
    }
    for (ptrdiff_t k = 0; k < n; k++) {
        double *restrict mk = m + k * nodes, *restrict ek = e + k * nodes;
        FSL_SIMD(reduction(| : far))
        for (ptrdiff_t u = 0; u < nodes; u++) {
            const double z = mk[u] - (most[u] == -INFINITY ? 0.0 : most[u]);
            far |= (z < -huge) & (mk[u] > -INFINITY);
            ek[u] = fsl_split_exponent(z);
            mk[u] = fsl_split_mantissa(z, ek[u]);
            sum[u] += mk[u] * fsl_pow2(ek[u]);
        }
    }
    FSL_SIMD()
    for (ptrdiff_t u = 0; u < nodes; u++) sum[u] = sum[u] == 0 ? 1.0 : 1.0 / sum[u];
    for (ptrdiff_t k = 0; k < n; k++) {
        double *restrict mk = m + k * nodes;
        FSL_SIMD()
        for (ptrdiff_t u = 0; u < nodes; u++) mk[u] *= sum[u];
    }
    return bad ? 1 : far ? 2 : 0;
}

/* ---- forward ------------------------------------------------------------------------------- */

/* Largest exponents of arcs with the weights m 2^e and q 2^qe. */
FSL_INLINE void fsl_tdt_largest(const double *restrict e, const double *restrict qe, double *restrict most,
                                ptrdiff_t lo, ptrdiff_t hi)
{
    FSL_SIMD()
    for (ptrdiff_t u = lo; u <= hi; u++) most[u] = fsl_max64(e[u] + qe[u], most[u]);
}

/* sum 2^most += the weights of these arcs. */
FSL_INLINE void fsl_tdt_add(const double *restrict m, const double *restrict e, const double *restrict q,
                            const double *restrict qe, const double *restrict most, double *restrict sum, ptrdiff_t lo,
                            ptrdiff_t hi)
{
    FSL_SIMD()
    for (ptrdiff_t u = lo; u <= hi; u++) sum[u] += m[u] * q[u] * fsl_pow2(e[u] + qe[u] - most[u]);
}

/* Values of row n, as sum 2^most. */
FSL_INLINE void fsl_tdt_arrive(const fsl_tdt *s, const fsl_grid *grid, ptrdiff_t n, double *most, double *sum)
{
    for (ptrdiff_t u = grid->first[n]; u <= grid->last[n]; u++) most[u] = FSL_DEAD, sum[u] = 0;
    for (int pass = 0; pass < 2; pass++)
        for (ptrdiff_t k = 0; k < s->n; k++)
            for (int label = s->durations[k] == 0; label < 2; label++) {
                if (s->durations[k] > n - label) continue;
                const ptrdiff_t from = n - (ptrdiff_t)s->durations[k] - label, at = grid->at[from] - label;
                const ptrdiff_t lo = fsl_most(grid->first[n], grid->first[from] + label);
                const ptrdiff_t hi = fsl_least(grid->last[n], grid->last[from] + label);
                const double *m = (label ? grid->label : grid->blank) + at;
                const double *e = (label ? grid->label_e : grid->blank_e) + at;
                if (pass) fsl_tdt_add(m, e, s->q + k * s->arcs + at, s->q_e + k * s->arcs + at, most, sum, lo, hi);
                else fsl_tdt_largest(e, s->q_e + k * s->arcs + at, most, lo, hi);
            }
}

/* w * v, of numbers in extended range. */
FSL_INLINE void fsl_tdt_times(double *w, double *e, double v, double ev)
{
    *w *= v;
    *e = *w > 0 ? fsl_max64(*e + ev, FSL_DEAD) : FSL_DEAD;
}

/* Values of the nodes of row n, by which the weights of their tokens are multiplied. */
FSL_INLINE void fsl_tdt_leave(const fsl_tdt *s, const fsl_grid *grid, ptrdiff_t n, const double *restrict most,
                              const double *restrict sum)
{
    const ptrdiff_t at = grid->at[n];
    double *restrict v = s->node + at, *restrict e = s->node_e + at;
    double *restrict blank = grid->blank + at, *restrict blank_e = grid->blank_e + at;
    double *restrict label = grid->label + at, *restrict label_e = grid->label_e + at;
    FSL_SIMD()
    for (ptrdiff_t u = grid->first[n]; u <= grid->last[n]; u++) {
        fsl_normalise(sum[u], most[u], v + u, e + u);
        fsl_tdt_times(blank + u, blank_e + u, v[u], e[u]);
        fsl_tdt_times(label + u, label_e + u, v[u], e[u]);
    }
}

/* Weight of the arc of duration k to the end, as mantissa and the returned exponent; 0 if there is none. */
FSL_INLINE double fsl_tdt_last_arc(const fsl_tdt *s, const fsl_grid *grid, ptrdiff_t k, double *m)
{
    const int64_t d = s->durations[k];
    *m = 0;
    if (d == 0 || d > s->frames) return FSL_DEAD;
    const ptrdiff_t at = grid->at[s->frames - (ptrdiff_t)d + grid->end] + grid->end;
    *m = grid->blank[at] * s->q[k * s->arcs + at];
    return fsl_max64(grid->blank_e[at] + s->q_e[k * s->arcs + at], FSL_DEAD);
}

/* Log of the total of all paths, -inf if there is none; sets the occupancies of the arcs to the end. */
FSL_UNUSED static double fsl_tdt_forward(const fsl_tdt *s, const fsl_grid *grid)
{
    double *most = s->scratch, *sum = most + grid->end + 1, largest = FSL_DEAD, total = 0, m;
    for (ptrdiff_t n = 0; n < grid->rows; n++) {
        fsl_tdt_arrive(s, grid, n, most, sum);
        if (n == 0) most[0] = 0, sum[0] = 1;
        fsl_tdt_leave(s, grid, n, most, sum);
    }
    for (ptrdiff_t k = 0; k < s->n; k++) largest = fsl_max64(fsl_tdt_last_arc(s, grid, k, &m), largest);
    for (ptrdiff_t k = 0; k < s->n; k++) {
        const double e = fsl_tdt_last_arc(s, grid, k, &m);
        total += s->ends[k] = m * fsl_pow2(e - largest);
    }
    for (ptrdiff_t k = 0; k < s->n; k++) s->ends[k] /= total > 0 ? total : 1.0;
    return total > 0 ? fsl_log_extended(total, largest) : -INFINITY;
}

/* ---- backward ------------------------------------------------------------------------------ */

/* Occupancies of arcs with the weights m 2^e and q 2^qe to nodes r 2^re, added to `kind` and `own`. */
FSL_INLINE void fsl_tdt_occupy(const double *restrict m, const double *restrict e, const double *restrict q,
                               const double *restrict qe, const double *restrict r, const double *restrict re,
                               double *restrict kind, double *restrict own, ptrdiff_t lo, ptrdiff_t hi)
{
    FSL_SIMD()
    for (ptrdiff_t u = lo; u <= hi; u++) {
        const double x = m[u] * q[u] * r[u] * fsl_pow2(e[u] + qe[u] + re[u]);
        kind[u] += x;
        own[u] += x;
    }
}

/* Occupancies of the arcs of duration k that leave row n, added to those of the two kinds of arc; q and q_e become the
 * probabilities and the occupancies of the duration. */
FSL_INLINE void fsl_tdt_depart(const fsl_tdt *s, const fsl_grid *grid, ptrdiff_t n, ptrdiff_t k, double *blank,
                               double *label, double *own)
{
    const ptrdiff_t first = grid->first[n], last = grid->last[n], at = grid->at[n];
    const int64_t d = s->durations[k];
    double *restrict q = s->q + k * s->arcs + at, *restrict qe = s->q_e + k * s->arcs + at;
    for (ptrdiff_t u = first; u <= last; u++) own[u] = 0;
    for (int kind = d == 0; kind < 2; kind++) {
        if (d > grid->rows - 1 - n - kind) continue;
        const ptrdiff_t to = n + (ptrdiff_t)d + kind, there = grid->at[to] + kind;
        const double *m = (kind ? grid->label : grid->blank) + at, *e = (kind ? grid->label_e : grid->blank_e) + at;
        fsl_tdt_occupy(m, e, q, qe, s->node + there, s->node_e + there, kind ? label : blank, own,
                       fsl_most(first, grid->first[to] - kind), fsl_least(last, grid->last[to] - kind));
    }
    if (last == grid->end && d == s->frames - (n - last)) {
        blank[last] += s->ends[k];
        own[last] += s->ends[k];
    }
    FSL_SIMD()
    for (ptrdiff_t u = first; u <= last; u++) {
        q[u] *= fsl_pow2(qe[u]);
        qe[u] = own[u];
    }
}

/* Occupancies and gradients of all nodes, after the forward sweep with a path. */
FSL_UNUSED static void fsl_tdt_backward(const fsl_tdt *s, const fsl_grid *grid)
{
    double *restrict blank = s->scratch, *restrict label = blank + grid->end + 1, *own = label + grid->end + 1;
    for (ptrdiff_t n = grid->rows - 1; n >= 0; n--) {
        const ptrdiff_t first = grid->first[n], last = grid->last[n], at = grid->at[n];
        double *restrict r = s->node + at, *restrict re = s->node_e + at;
        for (ptrdiff_t u = first; u <= last; u++) blank[u] = label[u] = 0;
        for (ptrdiff_t k = 0; k < s->n; k++) fsl_tdt_depart(s, grid, n, k, blank, label, own);
        for (ptrdiff_t k = 0; k < s->n; k++) {
            double *restrict q = s->q + k * s->arcs + at;
            const double *restrict of_duration = s->q_e + k * s->arcs + at;
            FSL_SIMD()
            for (ptrdiff_t u = first; u <= last; u++) q[u] = (blank[u] + label[u]) * q[u] - of_duration[u];
        }
        FSL_SIMD()
        for (ptrdiff_t u = first; u <= last; u++) {
            const int alive = r[u] > 0;
            r[u] = alive ? (blank[u] + label[u]) / r[u] : 0.0;
            re[u] = alive ? -re[u] : 0.0;
        }
        memcpy(grid->blank + at + first, blank + first, (size_t)(last - first + 1) * sizeof(double));
        memcpy(grid->label + at + first, label + first, (size_t)(last - first + 1) * sizeof(double));
    }
}

#endif
