/* Losses of one prediction x and one target y, with the derivative with respect to x, over arrays of float32 or
 * float64. Arithmetic is in float64 for both types: neither differences nor squares overflow. Only exp and log are in
 * the type of the predictions. a is the parameter of the loss.
 *
 * Conversions limit the speed of float32 arrays. Where the derivative takes a few values only, it is selected in
 * float32, and the binary cross-entropy without a weight is in float32 throughout.
 *
 * NaN stays NaN. Expressions avoid two selections on one condition, which compilers turn into branches instead of
 * vectors. */
#ifndef FASTSEQLOSS_POINTWISE_H
#define FASTSEQLOSS_POINTWISE_H

#include "simd/probability.h"

#define FSL_PIECE 2048 /* elements of a buffer */
#define FSL_AT_ONCE 128 /* elements of a partial sum */

/* Lists of all losses: loss NAME is the function fsl_NAME, and codes and names for Python derive from the lists. `each`
 * is a macro of a name and of the two arguments that follow. Losses of the second list compute exp or log in the type
 * of the predictions. */
#define FSL_LOSSES_IN_FLOAT64(each, loop, a) \
    each(mse, loop, a) each(mae, loop, a) each(huber, loop, a) each(quantile, loop, a) \
    each(hinge, loop, a) each(squared_hinge, loop, a)
#define FSL_LOSSES_BY_TYPE(each, loop, a) each(binary, loop, a) each(binary_probs, loop, a)
/* Losses of wide_losses.inc.h, by blocks: in one loop, and in several. */
#define FSL_SHORT_LOSSES(each, loop, a) \
    each(poisson, loop, a) each(poisson_rates, loop, a) each(tweedie, loop, a) \
    each(gaussian, loop, a) each(gaussian_log, loop, a)
#define FSL_LONG_LOSSES(each, loop, a) each(log_cosh, loop, a) each(binary_focal, loop, a)
#define FSL_WIDE_LOSSES(each, loop, a) FSL_SHORT_LOSSES(each, loop, a) FSL_LONG_LOSSES(each, loop, a)

#define FSL_CODE(name, loop, a) FSL_LOSS_##name,
#define FSL_CODE_IN_FLOAT32(name, loop, a) FSL_LOSS_##name##_32,
#define FSL_QUOTED(name, loop, a) #name,

typedef enum {
    FSL_LOSSES_IN_FLOAT64(FSL_CODE, 0, 0)
    FSL_LOSSES_BY_TYPE(FSL_CODE, 0, 0)
    FSL_WIDE_LOSSES(FSL_CODE, 0, 0)
    FSL_N_LOSSES, /* number of losses with a name in Python */
    FSL_LOSSES_BY_TYPE(FSL_CODE_IN_FLOAT32, 0, 0)
    FSL_LOSS_binary_plain, /* of float32 logits, with pos_weight = 1 */
} fsl_pointwise_loss;

static const char *const fsl_loss_names[FSL_N_LOSSES] = {
    FSL_LOSSES_IN_FLOAT64(FSL_QUOTED, 0, 0)
    FSL_LOSSES_BY_TYPE(FSL_QUOTED, 0, 0)
    FSL_WIDE_LOSSES(FSL_QUOTED, 0, 0)
};

/* Allowed targets: any number, -1 or 1, 0 to 1, finite and 0 or more; allowed predictions: probabilities, or numbers of
 * 0 or more, inf among them. */
typedef enum { FSL_ANYTHING, FSL_SIGNS, FSL_SHARES, FSL_COUNTS, FSL_PROBABILITIES, FSL_AMOUNTS } fsl_allowed;

typedef struct { double loss, slope; } fsl_point;
typedef struct { double loss; float slope; } fsl_point32;

/* `slope` with the sign of d; d where d is 0 or NaN. */
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

/* log(1 + x), with a correction for the rounding of 1 + x. */
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

/* log(1 + e) for 0 <= e <= 1, with a relative error of 3.3e-8 before rounding. */
FSL_INLINE float fsl_log1p_unit32(float e)
{
    float p = 0.00536482967f;
    p = p * e - 0.0300658140f;
    p = p * e + 0.0792045668f;
    p = p * e - 0.137538046f;
    p = p * e + 0.191536561f;
    p = p * e - 0.248571634f;
    p = p * e + 0.333213240f;
    p = p * e - 0.499996483f;
    return e * (p * e + 1.0f);
}

/* Logits: softplus(x) = max(x, 0) + log(1 + exp(-|x|)) neither overflows nor loses digits for large |x|. Only one of
 * the terms with factors y and 1 - y grows with |x|. Below `floor` exp is 0. `floor` is a variable, because compilers
 * would fold exp(floor) of a constant into masks. */
#define FSL_BINARY_FUNCTIONS(real, name, exp_normal_, log1p_unit_, log_, log1p_)                           \
    FSL_INLINE fsl_point fsl_binary_##name(real x, double y, double pos_weight, real floor)                \
    {                                                                                                      \
        const real below = x < 0 ? x : -x, e = exp_normal_(below < floor ? floor : below);                 \
        const real high = 1 / (1 + e), low = e * high;                                                     \
        const double yes = pos_weight * y, no = 1 - y, rest = (double)log1p_unit_(e);                      \
        const double grows = x < 0 ? yes : no, linear = grows == 0 ? 0 : grows * -(double)below;           \
        const real p = x < 0 ? low : high, q = x < 0 ? high : low;                                         \
        return (fsl_point){linear + (yes + no) * rest, no * (double)p - yes * (double)q};                  \
    }                                                                                                      \
    FSL_INLINE fsl_point fsl_binary_probs_##name(real given, double y, double pos_weight, real floor)      \
    {                                                                                                      \
        (void)floor;                                                                                       \
        const real p = (real)fsl_clamp_probability((double)given);                                                     \
        const double yes = pos_weight * y, no = 1 - y;                                                     \
        const double log_yes = (double)log_(p), log_no = (double)log1p_(-p);                               \
        return (fsl_point){(yes == 0 ? 0 : -yes * log_yes) - (no == 0 ? 0 : no * log_no),                  \
                           (no == 0 ? 0 : no / (1 - (double)p)) - (yes == 0 ? 0 : yes / (double)p)};       \
    }

FSL_BINARY_FUNCTIONS(float, f32, fsl_exp_normal32, fsl_log1p_unit32, fsl_log32, fsl_log1p32)
FSL_BINARY_FUNCTIONS(double, f64, fsl_exp_normal64, fsl_log1p64, fsl_log64, fsl_log1p64)

/* Binary cross-entropies of at most FSL_AT_ONCE float32 logits with pos_weight = 1, and their derivatives times
 * `factor` unless `slope` is NULL; slope may be x. Three short loops are faster than one, whose chain of dependent
 * operations is longer than processors look ahead. */
FSL_UNUSED static void fsl_binary_plain(const float *x, const float *y, int n, float factor, float *loss, float *slope)
{
    float e[FSL_AT_ONCE], floor = -88.0f;
    FSL_OPAQUE(floor);
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const float below = -fabsf(x[i]);
        e[i] = fsl_exp_normal32(below < floor ? floor : below);
    }
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const float grows = x[i] < 0 ? y[i] : 1 - y[i], linear = grows == 0 ? 0 : grows * fabsf(x[i]);
        loss[i] = linear + fsl_log1p_unit32(e[i]);
    }
    if (!slope) return;
    FSL_SIMD()
    for (int i = 0; i < n; i++) {
        const float high = 1 / (1 + e[i]), low = e[i] * high, no = 1 - y[i];
        const float p = x[i] < 0 ? low : high, q = x[i] < 0 ? high : low;
        slope[i] = factor * (no * p - y[i] * q);
    }
}

/* Sum of n <= FSL_AT_ONCE losses; g = scale times the derivatives, unless NULL. */
FSL_UNUSED static double fsl_binary_sum(const float *x, const float *y, int n, double scale, float *g)
{
    const int normal = scale > 0x1p-64 && scale < 0x1p64;
    float loss[FSL_AT_ONCE];
    fsl_binary_plain(x, y, n, normal ? (float)scale : 1.0f, loss, g);
    for (int i = 0; g && !normal && i < n; i++) g[i] = (float)(scale * (double)g[i]);
    return fsl_sum_f32(loss, n);
}

/* Losses of float32 numbers with the scaled derivative, which is `less` where x is below y and `more` where it is
 * above. A difference in float32 has the sign of the exact one. */
FSL_INLINE fsl_point32 fsl_mae32(float x, float y, float less, float more)
{
    const float d = x - y, slope = d < 0 ? less : more;
    return (fsl_point32){fabs((double)x - (double)y), fabsf(d) > 0 ? slope : d};
}

FSL_INLINE fsl_point32 fsl_quantile32(float x, float y, double q, float less, float more)
{
    const double d = (double)y - (double)x, over = q * d, under = (q - 1) * d;
    const float e = x - y, slope = e < 0 ? less : more;
    return (fsl_point32){over > under ? over : under, fabsf(e) > 0 ? slope : e};
}

/* y is 1 or -1, so that the product is exact; `margin32` is the least float32 from `margin` on. */
FSL_INLINE fsl_point32 fsl_hinge32(float x, float y, double margin, float margin32, float scale)
{
    const float product = x * y, slope = product < margin32 ? -scale * y : 0.0f;
    const double h = margin - (double)product;
    return (fsl_point32){h <= 0 ? 0 : h, product == product ? slope : product};
}

FSL_INLINE float fsl_round_up32(double x)
{
    const float nearest = (float)x;
    return (double)nearest < x ? nextafterf(nearest, INFINITY) : nearest;
}

/* `loop` over the loss of element i with parameter `a`. */
#define FSL_CASE(name, loop, a)                                                                            \
    case FSL_LOSS_##name: loop(fsl_##name(x[i], y[i], a)) break;
#define FSL_CASE_BY_TYPE(name, loop, a)                                                                    \
    case FSL_LOSS_##name##_32: loop(fsl_##name##_f32((float)x[i], y[i], a, floor32)) break;                \
    case FSL_LOSS_##name:                                                                                  \
        if (sizeof *x == 8) loop(fsl_##name##_f64(x[i], y[i], a, floor64)) break;
#define FSL_EACH_LOSS(kind, a, loop)                                                                       \
    switch (kind) {                                                                                        \
        FSL_LOSSES_IN_FLOAT64(FSL_CASE, loop, a)                                                           \
        FSL_LOSSES_BY_TYPE(FSL_CASE_BY_TYPE, loop, a)                                                      \
    default: break;                                                                                        \
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

/* The same for scaled derivatives in float32. */
#define FSL_ADD_UP32(point_i)                                                                              \
    {                                                                                                      \
        FSL_SIMD(reduction(+ : total))                                                                     \
        for (int i = 0; i < n; i++) {                                                                      \
            const fsl_point32 point = point_i;                                                             \
            total += point.loss;                                                                           \
            if (store) g[i] = point.slope;                                                                 \
        }                                                                                                  \
        return total;                                                                                      \
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
#define FSL_IS_BEYOND(y) (((y) < least) | ((y) > most) | (strict & ((y) != (y))))
#define FSL_FIND_BAD(is_bad)                                                                               \
    {                                                                                                      \
        int bad = 0;                                                                                       \
        FSL_SIMD(reduction(+ : bad))                                                                       \
        for (int i = 0; i < n; i++) bad += is_bad(y[i]);                                                   \
        for (int i = 0; bad && i < n; i++)                                                                 \
            if (is_bad(y[i])) return i;                                                                    \
        return -1;                                                                                         \
    }

#define FSL_WIDE_BLOCK 64 /* elements of a loop */
#define FSL_SHORT_CASE(name, loop, parameter)                                                              \
    case FSL_LOSS_##name:                                                                                  \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < FSL_WIDE_BLOCK; i++) {                                                         \
            const FSL_NAME(fsl_wide) point = FSL_NAME(fsl_##name)(x[i], y[i], a[i], p, b, c, floor);       \
            loss[i] = point.loss;                                                                          \
            slope[i] = point.slope;                                                                        \
            other[i] = point.other;                                                                        \
        }                                                                                                  \
        break;
#define FSL_LONG_CASE(name, loop, parameter)                                                               \
    case FSL_LOSS_##name: FSL_NAME(fsl_##name##_block)(x, y, p, b, c, floor, loss, slope, other); break;

/* The functions of each type under one name, for wide_losses.inc.h. */
FSL_INLINE float fsl_exp_f32(float x) { return fsl_exp32(x); }
FSL_INLINE double fsl_exp_f64(double x) { return fsl_exp64(x); }
FSL_INLINE float fsl_exp_normal_f32(float x) { return fsl_exp_normal32(x); }
FSL_INLINE double fsl_exp_normal_f64(double x) { return fsl_exp_normal64(x); }
FSL_INLINE float fsl_log_f32(float x) { return fsl_log32(x); }
FSL_INLINE double fsl_log_f64(double x) { return fsl_log64(x); }
FSL_INLINE float fsl_log1p_unit_f32(float e) { return fsl_log1p_unit32(e); }
FSL_INLINE double fsl_log1p_unit_f64(double e) { return fsl_log1p64(e); }

/* Stirling's approximation of log y!, as PyTorch has it, and its derivative. */
FSL_UNUSED static fsl_point fsl_stirling(double y)
{
    const double log_y = fsl_log64(y);
    return (fsl_point){y * log_y - y + 0.5 * (1.8378770664093453 + log_y), log_y + 0.5 / y};
}

/* Ends of ranges: of the Taylor series of log cosh, whose first term left out is 9e-8 or 3e-16 of the sum there, and of
 * normal numbers and their logarithms. */
#define FSL_NEAR (sizeof(FSL_REAL) == 4 ? (FSL_REAL)0.5 : (FSL_REAL)0.125)
#define FSL_GREATEST (sizeof(FSL_REAL) == 4 ? (FSL_REAL)FLT_MAX : (FSL_REAL)DBL_MAX)
#define FSL_TINY (sizeof(FSL_REAL) == 4 ? (FSL_REAL)FLT_MIN : (FSL_REAL)DBL_MIN)
#define FSL_LOG_TINY (sizeof(FSL_REAL) == 4 ? (FSL_REAL)-87 : (FSL_REAL)-708)

#include "simd/float32.inc.h"
#include "steps/pointwise.inc.h"
#include "steps/wide_losses.inc.h"
#include "simd/float64.inc.h"
#include "steps/pointwise.inc.h"
#include "steps/wide_losses.inc.h"

/* Code of the loss with exp and log in float32, or of the loss itself if it uses neither. `plain`: the
 * losses have no weight. */
#define FSL_TO_FLOAT32(name, loop, a) case FSL_LOSS_##name: return FSL_LOSS_##name##_32;
FSL_INLINE fsl_pointwise_loss fsl_in_float32(fsl_pointwise_loss loss, int plain)
{
    if (plain && loss == FSL_LOSS_binary) return FSL_LOSS_binary_plain;
    switch (loss) {
        FSL_LOSSES_BY_TYPE(FSL_TO_FLOAT32, 0, 0)
    default: return loss;
    }
}

/* 1 for a loss of wide_losses.inc.h. */
FSL_INLINE int fsl_is_wide(fsl_pointwise_loss loss) { return loss >= FSL_LOSS_poisson && loss < FSL_N_LOSSES; }

/* 1 if float32 represents every number of a stored type. */
FSL_INLINE int fsl_fits_float32(fsl_stored kind)
{
    return kind == FSL_FLOAT32 || kind == FSL_FLOAT16 || kind == FSL_BFLOAT16 || kind == FSL_INT8 || kind == FSL_UINT8;
}

FSL_INLINE double fsl_sum(const double *x, int n)
{
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (int i = 0; i < n; i++) total += x[i];
    return total;
}

/* The same in an order that depends on neither compilers nor the alignment of x. */
FSL_UNUSED static double fsl_sum_in_order(const double *x, int n)
{
    double sums[8] = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += x[i + k];
    for (int k = 0; i < n; i++, k++) sums[k] += x[i];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

#endif
