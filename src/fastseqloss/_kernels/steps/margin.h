/* A row of scores without that of the target: its maximum, and where it is first. */
#ifndef FASTSEQLOSS_HINGE_H
#define FASTSEQLOSS_HINGE_H

#include "simd/dispatch.h"

#define FSL_FIND_PIECE 65536

#define FSL_HINGE_FUNCTIONS(real, name)                                                                    \
    /* Maximum of n scores and their sum, which is NaN if one of them is, or if there are inf and -inf. */ \
    FSL_INLINE real fsl_max_and_sum_##name(const real *x, ptrdiff_t n, real *sum)                          \
    {                                                                                                      \
        real most = -(real)INFINITY, total = 0;                                                            \
        FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : total))                                           \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                \
            most = x[i] > most ? x[i] : most;                                                              \
            total += x[i];                                                                                 \
        }                                                                                                  \
        *sum = total;                                                                                      \
        return most;                                                                                       \
    }                                                                                                      \
    static double fsl_others_max_slow_##name(const real *x, ptrdiff_t n, ptrdiff_t t)                      \
    {                                                                                                      \
        real before, after;                                                                                \
        const real first = fsl_max_and_sum_##name(x, t, &before);                                          \
        const real last = fsl_max_and_sum_##name(x + t + 1, n - t - 1, &after);                            \
        for (ptrdiff_t i = 0; before + after != before + after && i < n; i++)                              \
            if (i != t && x[i] != x[i]) return NAN;                                                        \
        return first > last ? first : last;                                                                \
    }                                                                                                      \
    /* Maximum of the n - 1 others; -inf if there are none, NaN if one is. Mostly it is that of the row. */ \
    FSL_INLINE double fsl_others_max_##name(const real *x, ptrdiff_t n, ptrdiff_t t)                       \
    {                                                                                                      \
        real sum;                                                                                          \
        const real most = fsl_max_and_sum_##name(x, n, &sum);                                              \
        return most > x[t] && sum == sum ? most : fsl_others_max_slow_##name(x, n, t);                     \
    }                                                                                                      \
    /* First of n scores that is `score`; n if none is. By pieces, whose places an int can tell. */         \
    FSL_INLINE int fsl_find_in_piece_##name(const real *x, int n, real score)                              \
    {                                                                                                      \
        int first = n;                                                                                     \
        FSL_SIMD(reduction(min : first))                                                                   \
        for (int i = 0; i < n; i++) {                                                                      \
            const int place = x[i] == score ? i : n;                                                       \
            first = place < first ? place : first;                                                         \
        }                                                                                                  \
        return first;                                                                                      \
    }                                                                                                      \
    FSL_INLINE ptrdiff_t fsl_find_##name(const real *x, ptrdiff_t n, real score)                           \
    {                                                                                                      \
        for (ptrdiff_t i = 0; i < n; i += FSL_FIND_PIECE) {                                                \
            const int m = (int)(n - i < FSL_FIND_PIECE ? n - i : FSL_FIND_PIECE);                          \
            const int first = fsl_find_in_piece_##name(x + i, m, score);                                   \
            if (first < m) return i + first;                                                               \
        }                                                                                                  \
        return n;                                                                                          \
    }                                                                                                      \
    /* First class but t with that score, which there is. */                                               \
    FSL_INLINE ptrdiff_t fsl_find_other_##name(const real *x, ptrdiff_t n, ptrdiff_t t, double score)      \
    {                                                                                                      \
        const real wanted = (real)score;                                                                   \
        const ptrdiff_t first = fsl_find_##name(x, n, wanted);                                             \
        return first == t ? t + 1 + fsl_find_##name(x + t + 1, n - t - 1, wanted) : first;                 \
    }                                                                                                      \
    FSL_INLINE void fsl_zero_##name(real *x, ptrdiff_t n)                                                  \
    {                                                                                                      \
        ptrdiff_t i = 0;                                                                                   \
        for (; i + FSL_LANES <= n; i += FSL_LANES) memset(x + i, 0, FSL_LANES * sizeof(real));             \
        for (; i < n; i++) x[i] = 0;                                                                       \
    }

FSL_HINGE_FUNCTIONS(float, f32)
FSL_HINGE_FUNCTIONS(double, f64)

#define fsl_others_max(x, n, t) FSL_TYPED(x, fsl_others_max)(x, n, t)
#define fsl_find_other(x, n, t, score) FSL_TYPED(x, fsl_find_other)(x, n, t, score)
#define fsl_zero(x, n) FSL_TYPED(x, fsl_zero)(x, n)

#endif
