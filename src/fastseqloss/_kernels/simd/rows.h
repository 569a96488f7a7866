/* Several rows of logits at once.
 *
 * Rows of fewer than FSL_LANES classes are turned into tiles, tile[class][row]: the lanes of a vector are
 * rows, and maxima and sums need nothing across lanes; those are in float64. Longer rows, of up to FSL_SHORT
 * classes, fill the lanes with those; what must go across lanes is left to a second loop over the rows, so that
 * no row waits for another. */
#ifndef FASTSEQLOSS_ROWS_H
#define FASTSEQLOSS_ROWS_H

#include "simd/dispatch.h"

#define FSL_SHORT 256
#define FSL_MOST_ROWS 64 /* at a time */

#define FSL_ROWS_FUNCTIONS(real, name, lowest)                                                \
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
        int large = 0;                                                                                     \
        for (int i = 0; i < FSL_LANES; i++) {                                                              \
            f[i] = (real)factor[i];                                                                        \
            s[i] = (real)shift[i];                                                                         \
            large |= fsl_is_large_##name(factor[i]) | fsl_is_large_##name(shift[i]);                       \
        }                                                                                                  \
        for (ptrdiff_t c = 0; large && c < n_classes; c++)                                                 \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                const double own = q ? (double)(q_is_tile ? q[c * FSL_LANES + i] : q[c]) : 0;              \
                const double e = (double)tile[c * FSL_LANES + i];                                          \
                tile[c * FSL_LANES + i] = (real)(factor[i] * e - shift[i] * own);                          \
            }                                                                                              \
        for (ptrdiff_t c = 0; !large && c < n_classes; c++) {                                              \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) {                                                          \
                real g = f[i] * tile[c * FSL_LANES + i];                                                   \
                if (q) g -= s[i] * (q_is_tile ? q[c * FSL_LANES + i] : q[c]);                              \
                tile[c * FSL_LANES + i] = g;                                                               \
            }                                                                                              \
        }                                                                                                  \
    }                                                                                                      \
    /* In halves, which compilers keep in registers. */                                                    \
    FSL_INLINE real fsl_lanes_max_##name(const real *lanes)                                                \
    {                                                                                                      \
        real a[8], b[4], most = -(real)INFINITY;                                                           \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < 8; i++) a[i] = lanes[i] > lanes[i + 8] ? lanes[i] : lanes[i + 8];              \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < 4; i++) b[i] = a[i] > a[i + 4] ? a[i] : a[i + 4];                              \
        for (int i = 0; i < 4; i++) most = b[i] > most ? b[i] : most;                                      \
        return most;                                                                                       \
    }                                                                                                      \
    /* Maxima of n rows of FSL_LANES classes or more; 0 if all are -inf. The last vector overlaps. */      \
    FSL_UNUSED static void fsl_short_max_##name(const real **rows, int n, ptrdiff_t n_classes, real *m)               \
    {                                                                                                      \
        for (int k = 0; k < n; k++) {                                                                      \
            const real *x = rows[k];                                                                       \
            real lanes[FSL_LANES], most;                                                                   \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = -(real)INFINITY;                                \
            for (ptrdiff_t start = 0; start + FSL_LANES <= n_classes; start += FSL_LANES) {        \
                FSL_SIMD()                                                                                 \
                for (int i = 0; i < FSL_LANES; i++) lanes[i] = x[start + i] > lanes[i] ? x[start + i] : lanes[i]; \
            }                                                                                              \
            const real *last = x + n_classes - FSL_LANES;                                                  \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = last[i] > lanes[i] ? last[i] : lanes[i];        \
            most = fsl_lanes_max_##name(lanes);                                                            \
            m[k] = most == -(real)INFINITY ? 0 : most;                                                     \
        }                                                                                                  \
    }                                                                                                      \
    /* Of such rows out = exp(x - m) in whole vectors, and sums of that, FSL_LANES / 2 for each row. out may be  \
     * the rows. The rows of the next block are `ahead` elements on. */                                    \
    FSL_INLINE void fsl_short_vectors_##name(const real **rows, int n, ptrdiff_t n_classes, const real *m, \
                                             real **out, ptrdiff_t ahead, real (*parts)[FSL_LANES / 2])    \
    {                                                                                                      \
        real floor = lowest;                                                                               \
        FSL_OPAQUE(floor);                                                                                 \
        for (int k = 0; k < n; k++) {                                                                      \
            const real *x = rows[k], most = m[k];                                                          \
            real lanes[FSL_LANES], *e = out[k];                                                            \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;                                              \
            for (ptrdiff_t start = 0; start + FSL_LANES <= n_classes; start += FSL_LANES) {                \
                FSL_PREFETCH(x + start + ahead);                                                           \
                FSL_PREFETCH_WRITE(e + start + ahead);                                                     \
                FSL_SIMD()                                                                                 \
                for (int i = 0; i < FSL_LANES; i++) {                                                      \
                    const real value = fsl_exp_floored_##name(x[start + i] - most, floor);                 \
                    e[start + i] = value;                                                                  \
                    lanes[i] += value;                                                                     \
                }                                                                                          \
            }                                                                                              \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES / 2; i++) parts[k][i] = lanes[i] + lanes[i + FSL_LANES / 2];     \
        }                                                                                                  \
    }                                                                                                      \
    /* exp(x - m) of the last FSL_LANES classes of such rows. */                                           \
    FSL_INLINE void fsl_short_tails_##name(const real **rows, int n, ptrdiff_t n_classes, const real *m,   \
                                           real (*tails)[FSL_LANES])                                       \
    {                                                                                                      \
        real floor = lowest;                                                                               \
        FSL_OPAQUE(floor);                                                                                 \
        for (int k = 0; k < n; k++) {                                                                      \
            const real *last = rows[k] + n_classes - FSL_LANES, most = m[k];                               \
            FSL_SIMD()                                                                                     \
            for (int i = 0; i < FSL_LANES; i++) tails[k][i] = fsl_exp_floored_##name(last[i] - most, floor); \
        }                                                                                                  \
    }                                                                                                      \
    /* Of such rows out = exp(x - m), and its sum; those under 2 in float64, as in fsl_row_exp. */         \
    FSL_UNUSED static void fsl_short_exp_##name(const real **rows, int n, ptrdiff_t n_classes, const real *m, \
                                                real **out, ptrdiff_t ahead, double *sum)                  \
    {                                                                                                      \
        real parts[FSL_MOST_ROWS][FSL_LANES / 2], tails[FSL_MOST_ROWS][FSL_LANES];                         \
        const int rest = (int)(n_classes % FSL_LANES);                                                     \
        if (rest) fsl_short_tails_##name(rows, n, n_classes, m, tails);                                    \
        fsl_short_vectors_##name(rows, n, n_classes, m, out, ahead, parts);                                \
        for (int k = 0; k < n; k++) {                                                                      \
            sum[k] = fsl_sum_##name(parts[k], FSL_LANES / 2);                                              \
            if (rest) { /* what precedes it in the tail was counted */                                     \
                sum[k] += fsl_sum_##name(tails[k] + FSL_LANES - rest, rest);                               \
                memcpy(out[k] + n_classes - FSL_LANES, tails[k], sizeof tails[k]);                         \
            }                                                                                              \
            if (sum[k] < 2) sum[k] = fsl_sum_##name(out[k], n_classes);                                    \
        }                                                                                                  \
    }                                                                                                      \
    /* The gradient of such rows where q is but `own` at the target: factor * e - scale * own. */          \
    FSL_UNUSED static void fsl_short_gradient_##name(real **rows, int n, ptrdiff_t n_classes, const int64_t *target,  \
                                          const double *factor, const double *scale, const double *own)    \
    {                                                                                                      \
        for (int k = 0; k < n; k++) {                                                                      \
            real *x = rows[k];                                                                             \
            const double at_target = factor[k] * (double)x[target[k]] - scale[k] * own[k];                 \
            fsl_row_scale_##name(x, n_classes, factor[k]);                                                 \
            x[target[k]] = (real)at_target;                                                                \
        }                                                                                                  \
    }                                                                                                      \
    /* Maximum of a row that is converted on the way, unless it is stored as it is computed. */            \
    FSL_UNUSED static real fsl_load_max_##name(fsl_stored kind, const char *from, ptrdiff_t n, real *restrict to) \
    {                                                                                                      \
        real most = -(real)INFINITY;                                                                       \
        if (kind == FSL_FLOAT16) FSL_LOAD_MAX(fsl_float16, real, fsl_from_float16)                         \
        else if (kind == FSL_BFLOAT16) FSL_LOAD_MAX(fsl_bfloat16, real, fsl_from_bfloat16)                 \
        else return fsl_row_max_##name((const real *)from, n);                                             \
        return most == -(real)INFINITY ? 0 : most;                                                         \
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
        for (ptrdiff_t c = 0; c < n; c++)                                                                  \
            total += q[c] == 0 ? 0 : (double)q[c] * fsl_log64(fsl_share((double)p[c]));                    \
        return total;                                                                                      \
    }                                                                                                      \
    /* First of n numbers below 0 or above `most` by more than rounding, or n; NaN is passed over. */     \
    FSL_UNUSED static ptrdiff_t fsl_find_outside_##name(const real *p, ptrdiff_t n, double most)           \
    {                                                                                                      \
        int bad = 0;                                                                                       \
        FSL_SIMD(reduction(| : bad))                                                                       \
        for (ptrdiff_t i = 0; i < n; i++) bad |= FSL_IS_OUTSIDE(p[i], most);                               \
        for (ptrdiff_t i = 0; bad && i < n; i++)                                                           \
            if (FSL_IS_OUTSIDE(p[i], most)) return i;                                                      \
        return n;                                                                                          \
    }                                                                                                      \
    /* x = factor * x - shift * q; q may be NULL. */                                                       \
    FSL_INLINE void fsl_row_gradient_##name(real *x, ptrdiff_t n, double factor, double shift, const real *q) \
    {                                                                                                      \
        const real f = (real)factor, s = (real)shift;                                                      \
        if (!q) {                                                                                          \
            fsl_row_scale_##name(x, n, factor);                                                            \
            return;                                                                                        \
        }                                                                                                  \
        if (fsl_is_large_##name(factor) | fsl_is_large_##name(shift)) {                                    \
            for (ptrdiff_t c = 0; c < n; c++) x[c] = (real)(factor * (double)x[c] - shift * (double)q[c]); \
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
            const double by = divide ? fsl_share((double)p[c]) : 1.0;                                      \
            const real slope = by == 0 ? -(real)INFINITY : (real)(-scale * (double)q[c] / by);             \
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
            const double value = (weight ? weight[c] : 1.0) * (own * (y[c] < 0 ? 0 : (double)y[c]) + all);  \
            q[c] = (real)value;                                                                            \
            total += value;                                                                                \
        }                                                                                                  \
        return total;                                                                                      \
    }

FSL_ROWS_FUNCTIONS(float, f32, -88.0f)
FSL_ROWS_FUNCTIONS(double, f64, -709.0)

/* One name for both types, chosen by what an argument points to; fused code calls these. */
#define fsl_load_max(kind, from, n, to) FSL_TYPED(to, fsl_load_max)(kind, from, n, to)
#define fsl_row_exp(x, n, m, out, next, later, size) FSL_TYPED(x, fsl_row_exp)(x, n, m, out, next, later, size)
#define fsl_short_max(rows, n, n_classes, m) FSL_TYPED(m, fsl_short_max)(rows, n, n_classes, m)
#define fsl_short_exp(rows, n, n_classes, m, out, ahead, sum) \
    FSL_TYPED(m, fsl_short_exp)(rows, n, n_classes, m, out, ahead, sum)
#define fsl_short_gradient(rows, n, n_classes, target, factor, scale, own) \
    FSL_TYPED(*(rows), fsl_short_gradient)(rows, n, n_classes, target, factor, scale, own)
#define fsl_row_dot(x, n, m, q) FSL_TYPED(x, fsl_row_dot)(x, n, m, q)
#define fsl_row_dot_log(p, n, q) FSL_TYPED(p, fsl_row_dot_log)(p, n, q)
#define fsl_find_outside(p, n, most) FSL_TYPED(p, fsl_find_outside)(p, n, most)
#define fsl_is_large(x, factor) FSL_TYPED(x, fsl_is_large)(factor)
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
FSL_UNUSED static void fsl_softmax_losses(int n, const double *m, const double *sum, const double *picked, const double *q,
                               double z, const double *scale, double *loss, double *factor)
{
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const double log_sum = fsl_log64(sum[i]), total = m[i] + log_sum;
        loss[i] = q[i] * log_sum - picked[i] + (z == 0 ? 0 : z * total * total);
        const double f = scale[i] * (q[i] + (z == 0 ? 0 : z * (2 * total))) / sum[i];
        const double below = f > DBL_MAX ? DBL_MAX : f; /* finite: some of what it multiplies is 0 */
        factor[i] = below < -DBL_MAX ? -DBL_MAX : below;
    }
}

#endif
