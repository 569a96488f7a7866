/* Losses of one prediction x and one target y, with the derivative with respect to x, over arrays of float32 or
 * float64. Arithmetic is float64 for both: it costs no more than the memory does, and neither differences nor
 * squares overflow. exp and log alone are of the type of the predictions. a is what the loss has as a parameter.
 *
 * NaN stays NaN. Expressions avoid two choices on one condition: compilers make branches of them, not vectors. */
#ifndef FASTSEQLOSS_POINTWISE_H
#define FASTSEQLOSS_POINTWISE_H

#include "simd/dispatch.h"

#define FSL_PIECE 2048 /* elements in a sum of their own */

typedef enum { /* the order of _pointwise.LOSSES; then those with exp and log in float32 */
    FSL_MSE, FSL_MAE, FSL_HUBER, FSL_QUANTILE, FSL_HINGE, FSL_SQUARED_HINGE, FSL_BCE_LOGITS, FSL_BCE_PROBS,
    FSL_BCE_LOGITS_32, FSL_BCE_PROBS_32
} fsl_pointwise_loss;

/* Targets: any, -1 or 1, 0 to 1; and predictions: probabilities. */
typedef enum { FSL_ANYTHING, FSL_SIGNS, FSL_SHARES, FSL_PROBABILITIES } fsl_allowed;

typedef struct { double loss, slope; } fsl_point;

/* `slope` with the sign of d; 0 or NaN where d is. */
FSL_INLINE double fsl_signed(double slope, double d) { return fabs(d) > 0 ? copysign(slope, d) : d; }

FSL_INLINE fsl_point fsl_mse(double x, double y, double a)
{
    (void)a;
    return (fsl_point){(x - y) * (x - y), 2 * (x - y)};
}

FSL_INLINE fsl_point fsl_mae(double x, double y, double a)
{
    (void)a;
    return (fsl_point){fabs(x - y), fsl_signed(1, x - y)};
}

FSL_INLINE fsl_point fsl_huber(double x, double y, double delta)
{
    const double d = x - y, size = fabs(d), near = size > delta ? delta : size;
    return (fsl_point){near * (size - 0.5 * near), copysign(near, d)};
}

FSL_INLINE fsl_point fsl_quantile(double x, double y, double q)
{
    const double d = y - x, factor = d > 0 ? q : q - 1;
    return (fsl_point){factor * d, fabs(d) > 0 ? -factor : d};
}

FSL_INLINE fsl_point fsl_hinge(double x, double y, double margin)
{
    const double h = margin - x * y, over = h <= 0 ? 0 : h;
    return (fsl_point){over, h > 0 ? -y : over};
}

FSL_INLINE fsl_point fsl_squared_hinge(double x, double y, double margin)
{
    const double h = margin - x * y, over = h <= 0 ? 0 : h;
    return (fsl_point){over * over, -2 * y * over};
}

/* log(1 + x), with the digits that 1 + x has lost. */
FSL_INLINE double fsl_log1p64(double x)
{
    const double u = 1 + x, lost = x - (u - 1);
    return fsl_log64(u) + (u == 0 ? 0 : lost / u);
}

FSL_INLINE float fsl_log1p32(float x)
{
    const float u = 1 + x, lost = x - (u - 1);
    return fsl_log32(u) + (u == 0 ? 0 : lost / u);
}

/* log(1 + e) for 0 <= e <= 1: 2 artanh(s) with s = e / (2 + e) <= 1/3 needs no range reduction. */
FSL_INLINE float fsl_log1p_unit32(float e)
{
    const float s = e / (2 + e), z = s * s;
    float p = 0.232243299f;
    p = p * z + 0.217065752f;
    p = p * z + 0.285923570f;
    p = p * z + 0.399997056f;
    p = p * z + 0.666666687f;
    return s * (2 + z * p);
}

/* Logits: softplus(x) = max(x, 0) + log(1 + exp(-|x|)) neither overflows nor loses digits at either end. Of the
 * two terms, y and 1 - y, only one grows with |x|. Below `floor` exp is 0. Were it a constant, compilers would
 * fold exp(floor) and make masks of it. */
#define FSL_BINARY_FUNCTIONS(real, name, exp_normal_, log1p_unit_, log_, log1p_)                           \
    FSL_INLINE fsl_point fsl_bce_logits_##name(real x, double y, double pos_weight, real floor)            \
    {                                                                                                      \
        const real below = x < 0 ? x : -x, e = exp_normal_(below < floor ? floor : below);                 \
        const real high = 1 / (1 + e), low = e * high;                                                     \
        const double yes = pos_weight * y, no = 1 - y, rest = (double)log1p_unit_(e);                      \
        const double grows = x < 0 ? yes : no, linear = grows == 0 ? 0 : grows * -(double)below;           \
        const real p = x < 0 ? low : high, q = x < 0 ? high : low;                                         \
        return (fsl_point){linear + (yes + no) * rest, no * (double)p - yes * (double)q};                  \
    }                                                                                                      \
    FSL_INLINE fsl_point fsl_bce_probs_##name(real given, double y, double pos_weight)                     \
    {                                                                                                      \
        const real p = (real)fsl_share((double)given);                                                     \
        const double yes = pos_weight * y, no = 1 - y;                                                     \
        const double log_yes = (double)log_(p), log_no = (double)log1p_(-p);                               \
        return (fsl_point){(yes == 0 ? 0 : -yes * log_yes) - (no == 0 ? 0 : no * log_no),                  \
                           (no == 0 ? 0 : no / (1 - (double)p)) - (yes == 0 ? 0 : yes / (double)p)};       \
    }

FSL_BINARY_FUNCTIONS(float, f32, fsl_exp_normal32, fsl_log1p_unit32, fsl_log32, fsl_log1p32)
FSL_BINARY_FUNCTIONS(double, f64, fsl_exp_normal64, fsl_log1p64, fsl_log64, fsl_log1p64)

/* `loop` around the loss of element i, whose parameter is `a`. */
#define FSL_EACH_LOSS(kind, a, loop)                                                                       \
    switch (kind) {                                                                                        \
    case FSL_MSE: loop(fsl_mse(x[i], y[i], a)) break;                                                      \
    case FSL_MAE: loop(fsl_mae(x[i], y[i], a)) break;                                                      \
    case FSL_HUBER: loop(fsl_huber(x[i], y[i], a)) break;                                                  \
    case FSL_QUANTILE: loop(fsl_quantile(x[i], y[i], a)) break;                                            \
    case FSL_HINGE: loop(fsl_hinge(x[i], y[i], a)) break;                                                  \
    case FSL_SQUARED_HINGE: loop(fsl_squared_hinge(x[i], y[i], a)) break;                                  \
    case FSL_BCE_LOGITS_32: loop(fsl_bce_logits_f32((float)x[i], y[i], a, floor32)) break;                 \
    case FSL_BCE_PROBS_32: loop(fsl_bce_probs_f32((float)x[i], y[i], a)) break;                            \
    case FSL_BCE_LOGITS:                                                                                   \
        if (sizeof *x == 8) loop(fsl_bce_logits_f64(x[i], y[i], a, floor64)) break;                        \
    case FSL_BCE_PROBS:                                                                                    \
        if (sizeof *x == 8) loop(fsl_bce_probs_f64(x[i], y[i], a)) break;                                  \
    }

#define FSL_FLOORS                                                                                         \
    float floor32 = -88.0f;                                                                                \
    double floor64 = -709.0;                                                                               \
    FSL_OPAQUE(floor32);                                                                                   \
    FSL_OPAQUE(floor64);

#define FSL_ADD_UP(point_i)                                                                                \
    {                                                                                                      \
        FSL_SIMD(reduction(+ : total))                                                                     \
        for (int i = 0; i < n; i++) {                                                                      \
            const fsl_point point = point_i;                                                               \
            total += point.loss;                                                                           \
            if (store) g[i] = scale * point.slope;                                                         \
        }                                                                                                  \
    }

#define FSL_KEEP(point_i)                                                                                  \
    {                                                                                                      \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < n; i++) {                                                                      \
            const fsl_point point = point_i;                                                               \
            loss[i] = point.loss;                                                                          \
            slope[i] = point.slope;                                                                        \
        }                                                                                                  \
    }

#define FSL_SIGN_IS_BAD(y) (((y) != 1) & ((y) != -1))
#define FSL_SHARE_IS_BAD(y) (!((y) >= 0) | !((y) <= 1))
#define FSL_FIND_BAD(is_bad)                                                                               \
    {                                                                                                      \
        int bad = 0;                                                                                       \
        FSL_SIMD(reduction(+ : bad))                                                                       \
        for (int i = 0; i < n; i++) bad += is_bad(y[i]);                                                   \
        for (int i = 0; bad && i < n; i++)                                                                 \
            if (is_bad(y[i])) return i;                                                                    \
        return -1;                                                                                         \
    }

#define FSL_POINTWISE_FUNCTIONS(real, name)                                                                \
    FSL_INLINE double fsl_piece_##name(fsl_pointwise_loss kind, const real *x, const real *y, double a, int n, \
                                       double scale, real *g, int store)                                   \
    {                                                                                                      \
        double total = 0;                                                                                  \
        FSL_FLOORS                                                                                         \
        FSL_EACH_LOSS(kind, a, FSL_ADD_UP)                                                                 \
        return total;                                                                                      \
    }                                                                                                      \
    /* First target that is not allowed, or -1. */                                                         \
    static int fsl_bad_target_##name(const real *y, int n, fsl_allowed allowed)                            \
    {                                                                                                      \
        if (allowed == FSL_ANYTHING) return -1;                                                            \
        if (allowed == FSL_SIGNS) FSL_FIND_BAD(FSL_SIGN_IS_BAD)                                            \
        if (allowed == FSL_PROBABILITIES) FSL_FIND_BAD(FSL_IS_NO_SHARE)                                    \
        FSL_FIND_BAD(FSL_SHARE_IS_BAD)                                                                     \
    }                                                                                                      \
    /* Sum of n losses, in float64 and by pieces; g = scale times the derivatives unless NULL. g may be x. Ends \
     * before the first piece with a target that is not allowed, and sets *bad to its place. */            \
    static double fsl_pointwise_##name(fsl_pointwise_loss kind, const real *x, const real *y, double a,    \
                                       ptrdiff_t n, double scale, real *g, fsl_allowed allowed, ptrdiff_t *bad) \
    {                                                                                                      \
        double total = 0;                                                                                  \
        for (ptrdiff_t i = 0; i < n; i += FSL_PIECE) {                                                     \
            const int m = (int)(n - i < FSL_PIECE ? n - i : FSL_PIECE), at = fsl_bad_target_##name(y + i, m, allowed); \
            if (at >= 0) {                                                                                 \
                *bad = i + at;                                                                             \
                break;                                                                                     \
            }                                                                                              \
            total += g ? fsl_piece_##name(kind, x + i, y + i, a, m, scale, g + i, 1)                       \
                       : fsl_piece_##name(kind, x + i, y + i, a, m, scale, NULL, 0);                       \
        }                                                                                                  \
        return total;                                                                                      \
    }                                                                                                      \
    /* Each loss and derivative of its own, each with its own parameter. */                                \
    static void fsl_points_##name(fsl_pointwise_loss kind, const real *x, const real *y, const double *a, int n, \
                                  double *loss, double *slope)                                             \
    {                                                                                                      \
        FSL_FLOORS                                                                                         \
        FSL_EACH_LOSS(kind, a[i], FSL_KEEP)                                                                \
    }

FSL_POINTWISE_FUNCTIONS(float, f32)
FSL_POINTWISE_FUNCTIONS(double, f64)

/* Whether float32 holds every number of a stored type. */
FSL_INLINE int fsl_fits_float32(fsl_stored kind)
{
    return kind == FSL_FLOAT32 || kind == FSL_FLOAT16 || kind == FSL_BFLOAT16 || kind == FSL_INT8 || kind == FSL_UINT8;
}

#define fsl_pointwise(kind, x, y, a, n, scale, g, allowed, bad) \
    FSL_TYPED(x, fsl_pointwise)(kind, x, y, a, n, scale, g, allowed, bad)
#define fsl_points(kind, x, y, a, n, loss, slope) FSL_TYPED(x, fsl_points)(kind, x, y, a, n, loss, slope)
#define fsl_bad_target(y, n, allowed) FSL_TYPED(y, fsl_bad_target)(y, n, allowed)

FSL_INLINE double fsl_sum(const double *x, int n)
{
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (int i = 0; i < n; i++) total += x[i];
    return total;
}

#endif
