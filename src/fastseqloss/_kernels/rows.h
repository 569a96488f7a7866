/* Several rows of logits at once.
 *
 * Rows of fewer than FSL_LANES classes are turned into tiles, tile[class][row]: the lanes of a vector are
 * rows, and maxima and sums need nothing across lanes. Longer rows fill the lanes with their classes, and up
 * to FSL_SHORT of those the sum is kept in float64 lanes, which costs less than keeping the ones apart.
 *
 * Here exp(x - m) is 0 below the normal numbers: no gradient can tell. */
#ifndef FASTSEQLOSS_ROWS_H
#define FASTSEQLOSS_ROWS_H

#include "elements.h"

#define FSL_SHORT 256
#define FSL_MOST_ROWS 64 /* at a time */

FSL_INLINE double fsl_sum_parts(const double *parts)
{
    double b[4];
    FSL_SIMD()
    for (int i = 0; i < 4; i++) b[i] = parts[i] + parts[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

#define FSL_ROWS_FUNCTIONS(real, name, exp_normal_, lowest)                                                \
    /* exp(d) for d <= 0. At `floor`, which is `lowest`, the factor 2^k has exponent bits 0: it is 0. Were \
     * the floor a constant, compilers would fold exp(floor) and make a branch, or masks, of it. */        \
    FSL_INLINE real fsl_exp_floored_##name(real d, real floor) { return exp_normal_(d < floor ? floor : d); } \
    FSL_INLINE void fsl_lanes_exp_##name(const real *x, real m, real floor, real *e)                       \
    {                                                                                                      \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_LANES; i++) e[i] = fsl_exp_floored_##name(x[i] - m, floor);                \
    }                                                                                                      \
    /* n <= FSL_LANES rows into a tile; the lanes left over repeat the last row. */                        \
    FSL_INLINE void fsl_tile_in_##name(const real **rows, int n, ptrdiff_t n_classes, real *tile)    \
    {                                                                                                      \
        for (int lane = 0; lane < FSL_LANES; lane++) {                                                     \
            const real *x = rows[lane < n ? lane : n - 1];                                                 \
            for (ptrdiff_t c = 0; c < n_classes; c++) tile[c * FSL_LANES + lane] = x[c];                   \
        }                                                                                                  \
    }                                                                                                      \
    FSL_INLINE void fsl_tile_out_##name(const real *tile, int n, ptrdiff_t n_classes, real **rows)          \
    {                                                                                                      \
        for (int lane = 0; lane < n; lane++) {                                                             \
            real *x = rows[lane];                                                                          \
            for (ptrdiff_t c = 0; c < n_classes; c++) x[c] = tile[c * FSL_LANES + lane];                   \
        }                                                                                                  \
    }                                                                                                      \
    FSL_INLINE void fsl_tile_max_##name(const real *tile, ptrdiff_t n_classes, real *m)                    \
    {                                                                                                      \
        for (int i = 0; i < FSL_LANES; i++) m[i] = -(real)INFINITY;                                        \
        for (ptrdiff_t c = 0; c < n_classes; c++) {                                                        \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                const real x = tile[c * FSL_LANES + i];                                                    \
                m[i] = x > m[i] ? x : m[i];                                                                \
            }                                                                                              \
        }                                                                                                  \
        for (int i = 0; i < FSL_LANES; i++) m[i] = m[i] == -(real)INFINITY ? 0 : m[i];                     \
    }                                                                                                      \
    /* tile = exp(tile - m), and its sums. */                                                              \
    FSL_INLINE void fsl_tile_exp_##name(real *tile, ptrdiff_t n_classes, const real *m, double *sum)       \
    {                                                                                                      \
        double total[FSL_LANES] = {0};                                                                     \
        real floor = lowest;                                                                               \
        FSL_OPAQUE(floor);                                                                                 \
        for (ptrdiff_t c = 0; c < n_classes; c++) {                                                        \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                const real e = fsl_exp_floored_##name(tile[c * FSL_LANES + i] - m[i], floor);                  \
                tile[c * FSL_LANES + i] = e;                                                               \
                total[i] += (double)e;                                                                     \
            }                                                                                              \
        }                                                                                                  \
        for (int i = 0; i < FSL_LANES; i++) sum[i] = total[i];                                             \
    }                                                                                                      \
    /* sum of q (x - m) over classes, q of each class the same for all rows or a tile as well. */          \
    FSL_INLINE void fsl_tile_dot_##name(const real *tile, ptrdiff_t n_classes, const real *m, const real *q, \
                                        int q_is_tile, double *dot)                                        \
    {                                                                                                      \
        double total[FSL_LANES] = {0};                                                                     \
        for (ptrdiff_t c = 0; c < n_classes; c++) {                                                        \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                const real weight = q_is_tile ? q[c * FSL_LANES + i] : q[c];                               \
                const double term = (double)weight * ((double)tile[c * FSL_LANES + i] - (double)m[i]);     \
                total[i] += weight == 0 ? 0 : term;                                                        \
            }                                                                                              \
        }                                                                                                  \
        for (int i = 0; i < FSL_LANES; i++) dot[i] = total[i];                                             \
    }                                                                                                      \
    /* tile = factor * tile - shift * q, the gradient. */                                                  \
    FSL_INLINE void fsl_tile_gradient_##name(real *tile, ptrdiff_t n_classes, const double *factor,        \
                                             const double *shift, const real *q, int q_is_tile)            \
    {                                                                                                      \
        real f[FSL_LANES], s[FSL_LANES];                                                                   \
        for (int i = 0; i < FSL_LANES; i++) { f[i] = (real)factor[i]; s[i] = (real)shift[i]; }             \
        for (ptrdiff_t c = 0; c < n_classes; c++) {                                                        \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                real g = f[i] * tile[c * FSL_LANES + i];                                                   \
                if (q) g -= s[i] * (q_is_tile ? q[c * FSL_LANES + i] : q[c]);                              \
                tile[c * FSL_LANES + i] = g;                                                               \
            }                                                                                              \
        }                                                                                                  \
    }                                                                                                      \
    /* Maxima of n rows of FSL_LANES classes or more; 0 if all are -inf. The last vector overlaps. */      \
    static void fsl_short_max_##name(const real **rows, int n, ptrdiff_t n_classes, real *m)               \
    {                                                                                                      \
        for (int k = 0; k < n; k++) {                                                                      \
            const real *x = rows[k];                                                                       \
            real lanes[FSL_LANES], most = -(real)INFINITY;                                                 \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = x[i];                                           \
            for (ptrdiff_t start = FSL_LANES; start + FSL_LANES <= n_classes; start += FSL_LANES) {        \
                FSL_SIMD()                                                                                 \
                for (int i = 0; i < FSL_LANES; i++) lanes[i] = x[start + i] > lanes[i] ? x[start + i] : lanes[i]; \
            }                                                                                              \
            const real *last = x + n_classes - FSL_LANES;                                                  \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = last[i] > lanes[i] ? last[i] : lanes[i];        \
            FSL_SIMD(reduction(max : most)) /* NaN that was there first is left out */                     \
            for (int i = 0; i < FSL_LANES; i++) most = lanes[i] > most ? lanes[i] : most;                  \
            m[k] = most == -(real)INFINITY ? 0 : most;                                                     \
        }                                                                                                  \
    }                                                                                                      \
    /* Sums of exp(x - m) of such rows; with `store`, out = exp(x - m). out may be the rows. */            \
    FSL_INLINE void fsl_short_exp_as_##name(const real **rows, int n, ptrdiff_t n_classes, const real *m,  \
                                            real **out, int store, int whole_rows, ptrdiff_t ahead,        \
                                            double (*parts)[FSL_LANES / 2])                                \
    {                                                                                                      \
        const ptrdiff_t whole = n_classes - n_classes % FSL_LANES;                                         \
        const int repeated = (int)(whole + FSL_LANES - n_classes);                                         \
        double counted[FSL_LANES]; /* 0 in the lanes that the tail shares with the vector before */        \
        for (int i = 0; i < FSL_LANES; i++) counted[i] = i < repeated ? 0 : 1;                             \
        real floor = lowest;                                                                               \
        FSL_OPAQUE(floor);                                                                                 \
        for (int k = 0; k < n; k++) {                                                                      \
            const real *x = rows[k], most = m[k];                                                          \
            real tail[FSL_LANES];                                                                          \
            double total[FSL_LANES];                                                                       \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) total[i] = 0;                                              \
            if (!whole_rows) {                                                                             \
                fsl_lanes_exp_##name(x + n_classes - FSL_LANES, most, floor, tail);                        \
                FSL_SIMD()                                                                                 \
                for (int i = 0; i < FSL_LANES; i++) total[i] = counted[i] * (double)tail[i];               \
            }                                                                                              \
            for (ptrdiff_t start = 0; start < whole; start += FSL_LANES) {                                 \
                FSL_PREFETCH(x + start + ahead);                                                           \
                if (store) FSL_PREFETCH_WRITE(out[k] + start + ahead);                                     \
                real e[FSL_LANES];                                                                         \
                fsl_lanes_exp_##name(x + start, most, floor, e);                                           \
                if (store) memcpy(out[k] + start, e, sizeof e);                                            \
                FSL_SIMD()                                                                                 \
                for (int i = 0; i < FSL_LANES; i++) total[i] += (double)e[i];                              \
            }                                                                                              \
            if (store && !whole_rows) memcpy(out[k] + n_classes - FSL_LANES, tail, sizeof tail);           \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES / 2; i++) parts[k][i] = total[i] + total[i + FSL_LANES / 2];     \
        }                                                                                                  \
    }                                                                                                      \
    static void fsl_short_exp_##name(const real **rows, int n, ptrdiff_t n_classes, const real *m, real **out, \
                                     int store, ptrdiff_t ahead, double *sum)                              \
    {                                                                                                      \
        double parts[FSL_MOST_ROWS][FSL_LANES / 2];                                                        \
        const int whole_rows = n_classes % FSL_LANES == 0;                                                 \
        if (store && whole_rows) fsl_short_exp_as_##name(rows, n, n_classes, m, out, 1, 1, ahead, parts); \
        else if (store) fsl_short_exp_as_##name(rows, n, n_classes, m, out, 1, 0, ahead, parts);           \
        else if (whole_rows) fsl_short_exp_as_##name(rows, n, n_classes, m, out, 0, 1, ahead, parts);      \
        else fsl_short_exp_as_##name(rows, n, n_classes, m, out, 0, 0, ahead, parts);                      \
        for (int k = 0; k < n; k++) sum[k] = fsl_sum_parts(parts[k]);                                      \
    }                                                                                                      \
    /* The gradient of such rows where q is but `own` at the target: factor * e - scale * own. */          \
    static void fsl_short_gradient_##name(real **rows, int n, ptrdiff_t n_classes, const int64_t *target,  \
                                          const double *factor, const double *scale, const double *own)    \
    {                                                                                                      \
        for (int k = 0; k < n; k++) {                                                                      \
            real *x = rows[k];                                                                             \
            const double at_target = factor[k] * (double)x[target[k]] - scale[k] * own[k];                 \
            fsl_row_scale_##name(x, n_classes, (real)factor[k]);                                           \
            x[target[k]] = (real)at_target;                                                                \
        }                                                                                                  \
    }                                                                                                      \
    /* sum of q (x - m), or of q log x; terms with q = 0 are 0. */                                         \
    FSL_INLINE double fsl_row_dot_##name(const real *x, ptrdiff_t n, real m, const real *q)                \
    {                                                                                                      \
        double total = 0;                                                                                  \
        FSL_SIMD(reduction(+ : total))                                                                     \
        for (ptrdiff_t c = 0; c < n; c++) total += q[c] == 0 ? 0 : (double)q[c] * ((double)x[c] - (double)m); \
        return total;                                                                                      \
    }                                                                                                      \
    FSL_INLINE double fsl_row_dot_log_##name(const real *p, ptrdiff_t n, const real *q)                    \
    {                                                                                                      \
        double total = 0;                                                                                  \
        FSL_SIMD(reduction(+ : total))                                                                     \
        for (ptrdiff_t c = 0; c < n; c++) total += q[c] == 0 ? 0 : (double)q[c] * fsl_log64((double)p[c]); \
        return total;                                                                                      \
    }                                                                                                      \
    /* Maximum of a row without x[t]; -inf if that is all, NaN if there is one. */                         \
    FSL_INLINE double fsl_row_other_max_##name(const real *x, ptrdiff_t n, ptrdiff_t t)                    \
    {                                                                                                      \
        real most = -(real)INFINITY, spoiled = 0;                                                          \
        for (int half = 0; half < 2; half++) {                                                             \
            const ptrdiff_t first = half ? t + 1 : 0, last = half ? n : t;                                 \
            FSL_SIMD(reduction(max : most) reduction(+ : spoiled))                                         \
            for (ptrdiff_t i = first; i < last; i++) {                                                     \
                most = x[i] > most ? x[i] : most;                                                          \
                spoiled += x[i] != x[i];                                                                   \
            }                                                                                              \
        }                                                                                                  \
        return spoiled ? NAN : most;                                                                       \
    }                                                                                                      \
    /* First class but t with that score. */                                                               \
    FSL_INLINE ptrdiff_t fsl_row_find_other_##name(const real *x, ptrdiff_t n, ptrdiff_t t, real score)    \
    {                                                                                                      \
        for (ptrdiff_t c = 0; c < n; c++)                                                                  \
            if (x[c] == score && c != t) return c;                                                         \
        return t;                                                                                          \
    }                                                                                                      \
    /* x = factor * x - shift * q; q may be NULL. */                                                       \
    FSL_INLINE void fsl_row_gradient_##name(real *x, ptrdiff_t n, double factor, double shift, const real *q) \
    {                                                                                                      \
        const real f = (real)factor, s = (real)shift;                                                      \
        if (!q) {                                                                                          \
            fsl_row_scale_##name(x, n, f);                                                                 \
            return;                                                                                        \
        }                                                                                                  \
        FSL_SIMD()                                                                                         \
        for (ptrdiff_t c = 0; c < n; c++) x[c] = f * x[c] - s * q[c];                                      \
    }                                                                                                      \
    /* out = -scale * q, or -scale * q / p, 0 where q is 0; out may be p. */                               \
    FSL_INLINE void fsl_row_slope_##name(const real *p, ptrdiff_t n, double scale, const real *q, int divide, \
                                         real *out)                                                        \
    {                                                                                                      \
        FSL_SIMD()                                                                                         \
        for (ptrdiff_t c = 0; c < n; c++) {                                                                \
            const real slope = (real)(-scale * (double)q[c] / (divide ? (double)p[c] : 1.0));              \
            out[c] = q[c] == 0 ? 0 : slope;                                                                \
        }                                                                                                  \
    }                                                                                                      \
    /* q = weight ((1 - epsilon) y + epsilon / n), weight 1 if NULL; returns its sum. */                   \
    FSL_INLINE double fsl_row_smooth_##name(const real *y, ptrdiff_t n, const double *weight, double epsilon, \
                                            real *q)                                                       \
    {                                                                                                      \
        const double all = epsilon / (double)n, own = 1.0 - epsilon;                                       \
        double total = 0;                                                                                  \
        FSL_SIMD(reduction(+ : total))                                                                     \
        for (ptrdiff_t c = 0; c < n; c++) {                                                                \
            const double value = (weight ? weight[c] : 1.0) * (own * (double)y[c] + all);                  \
            q[c] = (real)value;                                                                            \
            total += value;                                                                                \
        }                                                                                                  \
        return total;                                                                                      \
    }

FSL_ROWS_FUNCTIONS(float, f32, fsl_exp_normal32, -88.0f)
FSL_ROWS_FUNCTIONS(double, f64, fsl_exp_normal64, -709.0)

/* One name for both types, chosen by what an argument points to; fused code calls these. */
#define FSL_TYPED(pointer, name) _Generic(*(pointer), float: name##_f32, double: name##_f64)
#define fsl_load(kind, from, stride, n, to) FSL_TYPED(to, fsl_load)(kind, from, stride, n, to)
#define fsl_store(kind, from, scale, n, to, stride) FSL_TYPED(from, fsl_store)(kind, from, scale, n, to, stride)
#define fsl_row_range(x, n, least, most) FSL_TYPED(x, fsl_row_range)(x, n, least, most)
#define fsl_exp_row(x, n, least, m, out, ahead) FSL_TYPED(x, fsl_exp_row)(x, n, least, m, out, ahead)
#define fsl_short_max(rows, n, n_classes, m) FSL_TYPED(m, fsl_short_max)(rows, n, n_classes, m)
#define fsl_short_exp(rows, n, n_classes, m, out, store, ahead, sum) \
    FSL_TYPED(m, fsl_short_exp)(rows, n, n_classes, m, out, store, ahead, sum)
#define fsl_short_gradient(rows, n, n_classes, target, factor, scale, own) \
    FSL_TYPED(*(rows), fsl_short_gradient)(rows, n, n_classes, target, factor, scale, own)
#define fsl_row_dot(x, n, m, q) FSL_TYPED(x, fsl_row_dot)(x, n, m, q)
#define fsl_row_dot_log(p, n, q) FSL_TYPED(p, fsl_row_dot_log)(p, n, q)
#define fsl_row_other_max(x, n, t) FSL_TYPED(x, fsl_row_other_max)(x, n, t)
#define fsl_row_find_other(x, n, t, score) FSL_TYPED(x, fsl_row_find_other)(x, n, t, score)
#define fsl_row_gradient(x, n, factor, shift, q) FSL_TYPED(x, fsl_row_gradient)(x, n, factor, shift, q)
#define fsl_row_slope(p, n, scale, q, divide, out) FSL_TYPED(p, fsl_row_slope)(p, n, scale, q, divide, out)
#define fsl_row_smooth(y, n, weight, epsilon, q) FSL_TYPED(y, fsl_row_smooth)(y, n, weight, epsilon, q)
#define fsl_tile_in(rows, n, n_classes, tile) FSL_TYPED(tile, fsl_tile_in)(rows, n, n_classes, tile)
#define fsl_tile_out(tile, n, n_classes, rows) FSL_TYPED(tile, fsl_tile_out)(tile, n, n_classes, rows)
#define fsl_tile_max(tile, n_classes, m) FSL_TYPED(tile, fsl_tile_max)(tile, n_classes, m)
#define fsl_tile_exp(tile, n_classes, m, sum) FSL_TYPED(tile, fsl_tile_exp)(tile, n_classes, m, sum)
#define fsl_tile_dot(tile, n_classes, m, q, q_is_tile, dot) \
    FSL_TYPED(tile, fsl_tile_dot)(tile, n_classes, m, q, q_is_tile, dot)
#define fsl_tile_gradient(tile, n_classes, factor, shift, q, q_is_tile) \
    FSL_TYPED(tile, fsl_tile_gradient)(tile, n_classes, factor, shift, q, q_is_tile)

/* From maxima and sums of exp(x - max) to losses and to the factor between exp(x - max) and softmax
 * times (what stands before it in the derivative). `picked` is the sum of q (x - max), `q` that of q. */
static void fsl_softmax_losses(int n, const double *m, const double *sum, const double *picked, const double *q,
                               double z, const double *scale, double *loss, double *factor)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double log_sum = fsl_log64(sum[i]), total = m[i] + log_sum;
        loss[i] = q[i] * log_sum - picked[i] + (z == 0 ? 0 : z * total * total);
        factor[i] = scale[i] * (q[i] + (z == 0 ? 0 : 2 * z * total)) / sum[i];
    }
}

#endif
