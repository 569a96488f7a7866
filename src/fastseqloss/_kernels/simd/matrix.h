/* Products of rows with a matrix of float64, packed in panels of columns.
 *
 * A product takes several rows at once, in tiles that stay in registers; a matrix and its rows are `width` entries
 * wide, a multiple of 8. Each entry of a product is the sum of one chain of multiply-adds in the order of the columns
 * of a: its bits do not depend on its tile or on other rows. */
#ifndef FASTSEQLOSS_MATRIX_H
#define FASTSEQLOSS_MATRIX_H

#include "simd/math.h"

/* ---- vectors of float64 ------------------------------------------------------------------ */

#if FSL_GNU
#if defined(__AVX512F__)
#define FSL_WIDTH 8
#elif defined(__AVX__)
#define FSL_WIDTH 4
#else
#define FSL_WIDTH 2
#endif
typedef double fsl_vec __attribute__((vector_size(8 * FSL_WIDTH)));
typedef double fsl_vec_at __attribute__((vector_size(8 * FSL_WIDTH), aligned(8), may_alias));
#else
#define FSL_WIDTH 1
typedef double fsl_vec;
typedef double fsl_vec_at;
#endif

#if FSL_WIDTH == 8 /* 32 registers; 16 otherwise */
#define FSL_TILE_ROWS 8
#else
#define FSL_TILE_ROWS 4
#endif
#define FSL_PANEL 3 /* vectors of a panel of columns */

#if defined(__x86_64__) && FSL_GNU
#include <immintrin.h>
#endif

FSL_INLINE fsl_vec fsl_vec_load(const double *p) { return *(const fsl_vec_at *)p; }
FSL_INLINE void fsl_vec_store(double *p, fsl_vec v) { *(fsl_vec_at *)p = v; }

/* a > b ? a : b, lane by lane. */
FSL_INLINE fsl_vec fsl_vec_max(fsl_vec a, fsl_vec b)
{
#if FSL_WIDTH == 8
    return _mm512_max_pd(a, b);
#elif FSL_WIDTH == 4
    return _mm256_max_pd(a, b);
#elif defined(__x86_64__) && FSL_WIDTH == 2
    return _mm_max_pd(a, b);
#elif FSL_WIDTH == 2
    typedef int64_t mask __attribute__((vector_size(16)));
    const mask m = a > b;
    return (fsl_vec)((m & (mask)a) | (~m & (mask)b));
#else
    return a > b ? a : b;
#endif
}

/* ---- products ----------------------------------------------------------------------------
 * A matrix [n, width] is packed in panels of FSL_PANEL vectors of columns (the last may be narrower), each
 * panel row by row. */

/* Packs m[i * row_step + j * column_step], padded to `width` rows and columns. */
FSL_UNUSED static void fsl_matrix_pack(const double *m, ptrdiff_t row_step, ptrdiff_t column_step, ptrdiff_t n,
                                       ptrdiff_t width, double filler, double *out)
{
    const ptrdiff_t panel = FSL_PANEL * FSL_WIDTH;
    for (ptrdiff_t start = 0; start < width; start += panel) {
        const ptrdiff_t stop = start + panel < width ? start + panel : width;
        for (ptrdiff_t i = 0; i < width; i++)
            for (ptrdiff_t j = start; j < stop; j++)
                *out++ = i < n && j < n ? m[i * row_step + j * column_step] : filler;
    }
}

/* out[i * n + j] = panels[i, j], for n rows and columns of `width`. */
FSL_UNUSED static void fsl_matrix_unpack(const double *panels, ptrdiff_t n, ptrdiff_t width, double *restrict out)
{
    const ptrdiff_t panel = FSL_PANEL * FSL_WIDTH;
    for (ptrdiff_t start = 0; start < width; start += panel) {
        const ptrdiff_t columns = start + panel < width ? panel : width - start;
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = 0; j < columns && start + j < n; j++)
                out[i * n + start + j] = panels[start * width + i * columns + j];
    }
}

/* `rows` rows of a times one panel of `vectors` vectors, in the (+, x) or the (max, +) semiring. */
FSL_INLINE void fsl_matrix_tile(const double *restrict a, ptrdiff_t a_step, const double *restrict m, ptrdiff_t n,
                                double *restrict out, ptrdiff_t out_step, const int tropical, const int vectors,
                                const int rows)
{
    fsl_vec sum[8][FSL_PANEL], column[FSL_PANEL];
    FSL_UNROLL
    for (int r = 0; r < rows; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) sum[r][v] = (fsl_vec){0} - (tropical ? INFINITY : 0.0);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) column[v] = fsl_vec_load(m + v * FSL_WIDTH);
        m += vectors * FSL_WIDTH;
        FSL_UNROLL
        for (int r = 0; r < rows; r++) {
            const double own = a[r * a_step + i];
            FSL_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = tropical ? fsl_vec_max(column[v] + own, sum[r][v]) : sum[r][v] + column[v] * own;
        }
    }
    FSL_UNROLL
    for (int r = 0; r < rows; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) fsl_vec_store(out + r * out_step + v * FSL_WIDTH, sum[r][v]);
    }
}

FSL_INLINE void fsl_matrix_panel(const double *a, ptrdiff_t a_step, ptrdiff_t rows, const double *m, ptrdiff_t n,
                                 double *out, ptrdiff_t out_step, const int tropical, const int vectors)
{
    for (; rows >= FSL_TILE_ROWS; rows -= FSL_TILE_ROWS, a += FSL_TILE_ROWS * a_step, out += FSL_TILE_ROWS * out_step)
        fsl_matrix_tile(a, a_step, m, n, out, out_step, tropical, vectors, FSL_TILE_ROWS);
    for (; rows >= 4; rows -= 4, a += 4 * a_step, out += 4 * out_step)
        fsl_matrix_tile(a, a_step, m, n, out, out_step, tropical, vectors, 4);
    for (; rows >= 2; rows -= 2, a += 2 * a_step, out += 2 * out_step)
        fsl_matrix_tile(a, a_step, m, n, out, out_step, tropical, vectors, 2);
    if (rows) fsl_matrix_tile(a, a_step, m, n, out, out_step, tropical, vectors, 1);
}

#define FSL_MATRIX_PRODUCT(name, tropical)                                                                            \
    FSL_UNUSED static void name(const double *a, ptrdiff_t a_step, ptrdiff_t rows, const double *panels, ptrdiff_t n, \
                     ptrdiff_t width, double *out, ptrdiff_t out_step)                                                \
    {                                                                                                                 \
        for (ptrdiff_t start = 0; start < width; start += FSL_PANEL * FSL_WIDTH) {                                    \
            const double *m = panels + start * width;                                                                 \
            const ptrdiff_t vectors = (width - start) / FSL_WIDTH;                                                    \
            if (vectors >= 3)                                                                                         \
                fsl_matrix_panel(a, a_step, rows, m, n, out + start, out_step, tropical, 3);                          \
            else if (vectors == 2)                                                                                    \
                fsl_matrix_panel(a, a_step, rows, m, n, out + start, out_step, tropical, 2);                          \
            else                                                                                                      \
                fsl_matrix_panel(a, a_step, rows, m, n, out + start, out_step, tropical, 1);                          \
        }                                                                                                             \
    }

/* out[r, j] = sum over i < n of a[r, i] m[i, j], for rows of a; */
FSL_MATRIX_PRODUCT(fsl_matrix_product, 0)
/* out[r, j] = max over i < n of a[r, i] + m[i, j]. */
FSL_MATRIX_PRODUCT(fsl_matrix_best, 1)

/* Adds the outer products of the rows of a and b to FSL_TILE_ROWS rows of one panel of g. */
FSL_INLINE void fsl_matrix_outer_tile(const double *const *a, const double *const *b, ptrdiff_t pairs, ptrdiff_t i,
                                      ptrdiff_t j, double *restrict g, const int vectors)
{
    fsl_vec sum[FSL_TILE_ROWS][FSL_PANEL], column[FSL_PANEL];
    FSL_UNROLL
    for (int r = 0; r < FSL_TILE_ROWS; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) sum[r][v] = fsl_vec_load(g + (r * vectors + v) * FSL_WIDTH);
    }
    for (ptrdiff_t k = 0; k < pairs; k++) {
        const double *restrict left = a[k] + i, *restrict right = b[k] + j;
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) column[v] = fsl_vec_load(right + v * FSL_WIDTH);
        FSL_UNROLL
        for (int r = 0; r < FSL_TILE_ROWS; r++) {
            FSL_UNROLL
            for (int v = 0; v < vectors; v++) sum[r][v] = sum[r][v] + column[v] * left[r];
        }
    }
    FSL_UNROLL
    for (int r = 0; r < FSL_TILE_ROWS; r++) {
        FSL_UNROLL
        for (int v = 0; v < vectors; v++) fsl_vec_store(g + (r * vectors + v) * FSL_WIDTH, sum[r][v]);
    }
}

/* g[i, j] += sum over k of a[k][i] b[k][j], g packed. */
FSL_UNUSED static void fsl_matrix_outer(const double *const *a, const double *const *b, ptrdiff_t pairs,
                                        ptrdiff_t width, double *g)
{
    for (ptrdiff_t j = 0; j < width; j += FSL_PANEL * FSL_WIDTH) {
        const ptrdiff_t vectors = (width - j) / FSL_WIDTH < FSL_PANEL ? (width - j) / FSL_WIDTH : FSL_PANEL;
        for (ptrdiff_t i = 0; i < width; i += FSL_TILE_ROWS) {
            double *tile = g + j * width + i * vectors * FSL_WIDTH;
            if (vectors == 3)
                fsl_matrix_outer_tile(a, b, pairs, i, j, tile, 3);
            else if (vectors == 2)
                fsl_matrix_outer_tile(a, b, pairs, i, j, tile, 2);
            else
                fsl_matrix_outer_tile(a, b, pairs, i, j, tile, 1);
        }
    }
}

#endif
