/* Softmax cross-entropy of short rows of float32 logits with a class as the target: from logits to loss and gradient
 * for as many rows as a vector has lanes, while they are in the first cache. */
#ifndef FASTSEQLOSS_ENTROPY_SHORT_ROWS_H
#define FASTSEQLOSS_ENTROPY_SHORT_ROWS_H

#include "simd/short_rows.h"

#if FSL_VECTORS

#define FSL_GROUPS 1
#define FSL_GROUP (FSL_XF > FSL_LANES ? FSL_XF : FSL_LANES) /* most rows of a group */

typedef struct {
    int n; /* rows that count */
    const float *x[FSL_GROUP];
    float *g[FSL_GROUP]; /* gradients, or buffers */
    double *loss[FSL_GROUP];
    int64_t target[FSL_GROUP];
    double own[FSL_GROUP]; /* weight of the target */
} fsl_entropy_group;

/* log x for normal x and NaN, with a relative error of 1e-9: see fsl_log64. */
FSL_INLINE double fsl_log_of_sum(double x)
{
    const uint64_t shifted = fsl_bits64(x) + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu);
    const double k = fsl_from64((shifted >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    const double f = fsl_from64((shifted & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu) - 1.0;
    const double s = f / (2.0 + f), z = s * s;
    double p = 2.0 / 9;
    p = p * z + 2.0 / 7;
    p = p * z + 2.0 / 5;
    p = p * z + 2.0 / 3;
    return k * 0.693147180559945309 + (s * (2.0 + z * p) + (x - x));
}

/* Losses and factors of a group: see fsl_softmax_losses. */
FSL_INLINE void fsl_entropy_losses(int lanes, const double *m, const double *sum, const double *picked,
                                   const double *q, double z, double scale, double *loss, double *factor)
{
    FSL_OPAQUE(lanes); /* compilers would unroll the loop into scalar code */
    FSL_SIMD()
    for (int k = 0; k < lanes; k++) {
        const double log_sum = fsl_log_of_sum(sum[k]);
        const double total = m[k] + log_sum, f = scale * (q[k] + z * (2 * total)) / sum[k];
        const double below = f > DBL_MAX ? DBL_MAX : f;
        loss[k] = q[k] * log_sum - picked[k] + z * total * total;
        factor[k] = below < -DBL_MAX ? -DBL_MAX : below;
    }
}

/* x = factor x; less `shift` at the target, in float64. */
FSL_INLINE void fsl_entropy_gradient(float *x, ptrdiff_t n_classes, int64_t target, double factor, double shift)
{
    const double at_target = factor * (double)x[target] - shift;
    const float f = (float)factor;
    const fsl_xf last = fsl_load_xf(x + n_classes - FSL_XF);
    if (fsl_is_large_f32(factor))
        fsl_row_scale_f32(x, n_classes, factor);
    else {
        for (ptrdiff_t c = 0; c + FSL_XF <= n_classes; c += FSL_XF) fsl_store_xf(x + c, fsl_load_xf(x + c) * f);
        if (n_classes % FSL_XF) fsl_store_xf(x + n_classes - FSL_XF, last * f);
    }
    x[target] = (float)at_target;
}

/* picked = own (x - m) at the target of each row, and 0 for lanes without a row. */
FSL_INLINE void fsl_entropy_picked(const fsl_entropy_group *rows, int lanes, const float *most, double *m,
                                   double *picked)
{
    for (int k = 0; k < lanes; k++) {
        const int row = k < rows->n ? k : rows->n - 1;
        const double own = rows->own[k], x = (double)rows->x[row][rows->target[row]];
        m[k] = (double)most[row];
        picked[k] = own == 0 ? 0 : own * (x - m[k]);
    }
}

/* Loss of a row; returns 1 if all of its logits are -inf: then all probabilities are 0. */
FSL_INLINE int fsl_entropy_loss(const fsl_entropy_group *rows, int k, double sum, double z, double loss)
{
    *rows->loss[k] = sum != 0 ? loss : rows->own[k] > 0 || z > 0 ? INFINITY : 0;
    return sum == 0;
}

/* Losses and, with `store`, gradients of a group; the next one is `ahead` elements further. */
FSL_INLINE void fsl_entropy_group_run(const fsl_entropy_group *rows, ptrdiff_t n_classes, float floor, ptrdiff_t ahead,
                                      double z, double scale, int store)
{
    float most[FSL_XF];
    double m[FSL_XF], sum[FSL_XF], picked[FSL_XF], loss[FSL_XF], factor[FSL_XF];
    const int n = rows->n;
    fsl_group_max((const float **)rows->x, n, n_classes, most);
    fsl_entropy_picked(rows, FSL_XF, most, m, picked);
    fsl_group_exp((const float **)rows->x, n, n_classes, most, floor, (float **)rows->g, ahead, sum);
    fsl_entropy_losses(FSL_XF, m, sum, picked, rows->own, z, scale, loss, factor);
    for (int k = 0; k < n; k++) {
        const int none = fsl_entropy_loss(rows, k, sum[k], z, loss[k]);
        if (!store) continue;
        if (none)
            memset(rows->g[k], 0, (size_t)n_classes * sizeof *rows->g[k]);
        else
            fsl_entropy_gradient(rows->g[k], n_classes, rows->target[k], factor[k], scale * rows->own[k]);
    }
}

/* The same for rows of fewer than FSL_LEAST classes, in a tile. */
FSL_INLINE void fsl_entropy_tile_run(const fsl_entropy_group *rows, ptrdiff_t n_classes, double z, double scale,
                                     int store)
{
    float tile[FSL_LEAST * FSL_LANES], most[FSL_LANES];
    double m[FSL_LANES], sum[FSL_LANES], picked[FSL_LANES], loss[FSL_LANES], factor[FSL_LANES], at_target[FSL_LANES];
    const int n = rows->n;
    fsl_tile_in_f32((const float **)rows->x, n, n_classes, tile);
    fsl_tile_max_f32(tile, n_classes, most);
    fsl_entropy_picked(rows, FSL_LANES, most, m, picked);
    fsl_tile_exp_f32(tile, n_classes, most, sum);
    fsl_entropy_losses(FSL_LANES, m, sum, picked, rows->own, z, scale, loss, factor);
    for (int k = 0; k < n; k++) {
        if (fsl_entropy_loss(rows, k, sum[k], z, loss[k])) factor[k] = 0;
        at_target[k] = (double)tile[rows->target[k] * FSL_LANES + k];
    }
    if (!store) return;
    fsl_tile_gradient_f32(tile, n_classes, factor, factor, NULL, 0);
    fsl_tile_out_f32(tile, n, n_classes, (float **)rows->g);
    for (int k = 0; k < n; k++)
        if (sum[k] != 0)
            rows->g[k][rows->target[k]] = (float)(factor[k] * at_target[k] - scale * rows->own[k]);
}

/* Losses of rows of one sequence, and their gradients unless g is NULL, which may be x. Strides are in elements. */
FSL_UNUSED static void fsl_entropy_rows(const float *x, ptrdiff_t x_stride, float *g, ptrdiff_t g_stride,
                                        ptrdiff_t n_rows, ptrdiff_t n_classes, const int64_t *targets,
                                        const double *weight, double z, double scale, double *loss)
{
    float unseen[FSL_XF * FSL_SHORT], floor = -88.0f;
    fsl_entropy_group rows;
    const int most = n_classes < FSL_LEAST ? FSL_LANES : FSL_XF;
    ptrdiff_t r = 0;
    FSL_OPAQUE(floor);
    while (r < n_rows) {
        for (rows.n = 0; r < n_rows && rows.n < most; r++) {
            const int64_t target = scale == 0 ? -1 : targets[r];
            if (target < 0) {
                loss[r] = 0;
                if (g) memset(g + r * g_stride, 0, (size_t)n_classes * sizeof *g);
                continue;
            }
            rows.x[rows.n] = x + r * x_stride;
            rows.g[rows.n] = g ? g + r * g_stride : unseen + rows.n * n_classes;
            rows.loss[rows.n] = loss + r;
            rows.target[rows.n] = target;
            rows.own[rows.n++] = weight ? weight[target] : 1.0;
        }
        for (int k = rows.n; k < most; k++) rows.own[k] = 0;
        if (rows.n == 0) return;
        if (n_classes == 5)
            fsl_entropy_tile_run(&rows, 5, z, scale, g != NULL);
        else if (n_classes < FSL_LEAST)
            fsl_entropy_tile_run(&rows, n_classes, z, scale, g != NULL);
        else if (n_classes == 32)
            fsl_entropy_group_run(&rows, 32, floor, FSL_XF * x_stride, z, scale, g != NULL);
        else if (n_classes == 64)
            fsl_entropy_group_run(&rows, 64, floor, FSL_XF * x_stride, z, scale, g != NULL);
        else
            fsl_entropy_group_run(&rows, n_classes, floor, FSL_XF * x_stride, z, scale, g != NULL);
    }
}

#else
#define FSL_GROUPS 0
FSL_UNUSED static void fsl_entropy_rows(const float *x, ptrdiff_t x_stride, float *g, ptrdiff_t g_stride,
                                        ptrdiff_t n_rows, ptrdiff_t n_classes, const int64_t *targets,
                                        const double *weight, double z, double scale, double *loss)
{
    (void)x, (void)x_stride, (void)g, (void)g_stride, (void)n_rows, (void)n_classes;
    (void)targets, (void)weight, (void)z, (void)scale, (void)loss;
}
#endif

#endif
