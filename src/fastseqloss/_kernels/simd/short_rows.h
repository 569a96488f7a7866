/* Rows of FSL_LEAST to FSL_SHORT float32 logits, in groups of as many rows as a vector has lanes: a transposition turns
 * the maxima and the sums of a group into one vector, so that no row has operations across lanes. The last vector of a
 * row overlaps the one before. Without vectors, the loops of rows.inc.h take their place. */
#ifndef FASTSEQLOSS_SHORT_ROWS_H
#define FASTSEQLOSS_SHORT_ROWS_H

#include "simd/rows.h"
#include "simd/vectors.h"

#define FSL_LEAST 8

#if FSL_VECTORS

/* Maxima of n <= FSL_XF rows; lanes from n on repeat the last row. */
FSL_INLINE void fsl_group_max(const float **rows, int n, ptrdiff_t n_classes, float *m)
{
    fsl_xf v[FSL_XF], most = fsl_all_xf(-INFINITY);
    FSL_UNROLL
    for (int k = 0; k < FSL_XF; k++) {
        const float *x = rows[k < n ? k : n - 1];
        fsl_xf a = fsl_max_xf(fsl_load_xf(x), most), b = fsl_max_xf(fsl_load_xf(x + n_classes - FSL_XF), most);
        ptrdiff_t c = FSL_XF;
        for (; c + 2 * FSL_XF <= n_classes; c += 2 * FSL_XF) {
            a = fsl_max_xf(fsl_load_xf(x + c), a);
            b = fsl_max_xf(fsl_load_xf(x + c + FSL_XF), b);
        }
        if (c + FSL_XF <= n_classes) a = fsl_max_xf(fsl_load_xf(x + c), a);
        v[k] = fsl_max_xf(a, b);
    }
    fsl_transpose_xf(v);
    FSL_UNROLL
    for (int k = 0; k < FSL_XF; k++) most = fsl_max_xf(v[k], most);
    for (int k = 0; k < n; k++) m[k] = most[k] == -INFINITY ? 0 : most[k];
}

/* out = exp(x - m) of a row, which may be out; returns partial sums. The last vector overlaps the one before, and
 * `fresh` selects the lanes that no other vector has. */
FSL_INLINE fsl_xf fsl_vectors_exp(const float *x, ptrdiff_t n_classes, float m, fsl_xf floor, fsl_xi fresh, float *out,
                                  ptrdiff_t ahead)
{
    const fsl_xf last = fsl_load_xf(x + n_classes - FSL_XF);
    fsl_xf sum = fsl_all_xf(0);
    for (ptrdiff_t i = ahead; i < ahead + n_classes; i += 16) FSL_PREFETCH(x + i);
    ptrdiff_t c = 0;
    for (; c + 2 * FSL_XF <= n_classes; c += 2 * FSL_XF) {
        fsl_xf a = fsl_max_xf(floor, fsl_load_xf(x + c) - m), b = fsl_max_xf(floor, fsl_load_xf(x + c + FSL_XF) - m);
        fsl_exp_normal_pair(&a, &b);
        fsl_store_xf(out + c, a);
        fsl_store_xf(out + c + FSL_XF, b);
        sum += a + b;
    }
    if (c + FSL_XF <= n_classes) {
        const fsl_xf e = fsl_exp_normal_xf(fsl_max_xf(floor, fsl_load_xf(x + c) - m));
        fsl_store_xf(out + c, e);
        sum += e;
    }
    if (n_classes % FSL_XF) {
        const fsl_xf e = fsl_exp_normal_xf(fsl_max_xf(floor, last - m));
        fsl_store_xf(out + n_classes - FSL_XF, e);
        sum += (fsl_xf)((fsl_xi)e & fresh);
    }
    return sum;
}

/* out = exp(x - m) of n <= FSL_XF rows, and the sums of its rows, for all lanes. */
FSL_INLINE void fsl_group_exp(const float **rows, int n, ptrdiff_t n_classes, const float *m, float floor, float **out,
                              ptrdiff_t ahead, double *sum)
{
    static const int32_t some[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
    const fsl_xf least = fsl_all_xf(floor);
    fsl_xf v[FSL_XF];
    fsl_xi fresh;
    memcpy(&fresh, some + 8 - FSL_XF + n_classes % FSL_XF, sizeof fresh); /* the last n_classes % FSL_XF lanes */
    for (int k = 0; k < n; k++) v[k] = fsl_vectors_exp(rows[k], n_classes, m[k], least, fresh, out[k], ahead);
    for (int k = n; k < FSL_XF; k++) v[k] = v[n - 1];
    fsl_transpose_xf(v);
    FSL_UNROLL
    for (int k = 0; k < FSL_XF; k += 2) v[k / 2] = v[k] + v[k + 1];
    fsl_x total[2] = {{0}, {0}};
    FSL_UNROLL
    for (int k = 0; k < FSL_XF / 2; k++) fsl_add_wide_xf(v[k], total);
    fsl_store_x(sum, total[0]);
    fsl_store_x(sum + FSL_X, total[1]);
    for (int k = 0; k < n; k++)
        if (sum[k] < 2) sum[k] = fsl_sum_f32(out[k], n_classes);
}

FSL_UNUSED static void fsl_short_rows_max(const float **rows, int n, ptrdiff_t n_classes, float *m)
{
    for (int k = 0; k < n; k += FSL_XF) fsl_group_max(rows + k, n - k < FSL_XF ? n - k : FSL_XF, n_classes, m + k);
}

FSL_UNUSED static void fsl_short_rows_exp(const float **rows, int n, ptrdiff_t n_classes, const float *m, float **out,
                                          ptrdiff_t ahead, double *sum)
{
    float floor = -88.0f;
    FSL_OPAQUE(floor);
    for (int k = 0; k < n; k += FSL_XF) {
        double sums[FSL_XF];
        const int some = n - k < FSL_XF ? n - k : FSL_XF;
        fsl_group_exp(rows + k, some, n_classes, m + k, floor, out + k, ahead, sums);
        memcpy(sum + k, sums, (size_t)some * sizeof *sums);
    }
}

#else
#define fsl_short_rows_max fsl_short_max_f32
#define fsl_short_rows_exp fsl_short_exp_f32
#endif

#endif
