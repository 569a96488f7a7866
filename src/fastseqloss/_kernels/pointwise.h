/* Losses of one prediction x and one target y, with the derivative with respect to x, over buffers of
 * float64: memory is slower than that arithmetic. a is what the loss has as a parameter. NaN stays NaN: it
 * is why comparisons come in pairs. */
#ifndef FASTSEQLOSS_POINTWISE_H
#define FASTSEQLOSS_POINTWISE_H

#include "elements.h"

typedef enum { /* the order of _pointwise.LOSSES */
    FSL_MSE, FSL_MAE, FSL_HUBER, FSL_QUANTILE, FSL_HINGE, FSL_SQUARED_HINGE, FSL_BCE_LOGITS, FSL_BCE_PROBS
} fsl_pointwise_loss;

typedef struct { double loss, slope; } fsl_point;

FSL_INLINE double fsl_signed(double d, double below, double above) { return d < 0 ? below : d > 0 ? above : d; }

FSL_INLINE fsl_point fsl_mse(double x, double y, double a)
{
    (void)a;
    return (fsl_point){(x - y) * (x - y), 2 * (x - y)};
}

FSL_INLINE fsl_point fsl_mae(double x, double y, double a)
{
    (void)a;
    return (fsl_point){fabs(x - y), fsl_signed(x - y, -1, 1)};
}

FSL_INLINE fsl_point fsl_huber(double x, double y, double delta)
{
    const double d = x - y, size = fabs(d);
    return (fsl_point){size <= delta ? 0.5 * d * d : delta * (size - 0.5 * delta),
                       size <= delta ? d : fsl_signed(d, -delta, delta)};
}

FSL_INLINE fsl_point fsl_quantile(double x, double y, double q)
{
    const double d = y - x;
    return (fsl_point){d > 0 ? q * d : (q - 1) * d, fsl_signed(d, 1 - q, -q)};
}

FSL_INLINE fsl_point fsl_hinge(double x, double y, double margin)
{
    const double h = margin - x * y;
    return (fsl_point){h <= 0 ? 0 : h, h <= 0 ? 0 : h > 0 ? -y : h};
}

FSL_INLINE fsl_point fsl_squared_hinge(double x, double y, double margin)
{
    const double h = margin - x * y, over = h <= 0 ? 0 : h;
    return (fsl_point){over * over, -2 * y * over};
}

/* log(1 + e), with the digits that 1 + e has lost. */
FSL_INLINE double fsl_log1p64(double e)
{
    const double u = 1 + e, lost = e - (u - 1);
    return fsl_log64(u) + (u == 0 ? 0 : lost / u);
}

/* softplus(x) = max(x, 0) + log(1 + exp(-|x|)): no overflow, and no digits lost at either end. */
FSL_INLINE fsl_point fsl_bce_logits(double x, double y, double pos_weight)
{
    const double e = fsl_exp64(-fabs(x)), rest = fsl_log1p64(e), high = 1 / (1 + e), low = e * high;
    const double yes = pos_weight * y, no = 1 - y;
    const double if_yes = (x < 0 ? -x : 0) + rest, if_no = (x > 0 ? x : 0) + rest;
    return (fsl_point){(yes == 0 ? 0 : yes * if_yes) + (no == 0 ? 0 : no * if_no),
                       no * (x < 0 ? low : high) - yes * (x < 0 ? high : low)};
}

FSL_INLINE fsl_point fsl_bce_probs(double p, double y, double pos_weight)
{
    const double yes = pos_weight * y, no = 1 - y;
    return (fsl_point){(yes == 0 ? 0 : -yes * fsl_log64(p)) - (no == 0 ? 0 : no * fsl_log1p64(-p)),
                       (no == 0 ? 0 : no / (1 - p)) - (yes == 0 ? 0 : yes / p)};
}

#define FSL_RUN(function)                                                                                  \
    {                                                                                                      \
        FSL_SIMD()                                                                                         \
        for (int i = 0; i < n; i++) {                                                                      \
            const fsl_point point = function(x[i], y[i], a[i]);                                            \
            loss[i] = point.loss;                                                                          \
            slope[i] = point.slope;                                                                        \
        }                                                                                                  \
        break;                                                                                             \
    }

static void fsl_pointwise(fsl_pointwise_loss kind, const double *restrict x, const double *restrict y,
                          const double *restrict a, int n, double *restrict loss, double *restrict slope)
{
    switch (kind) {
    case FSL_MSE: FSL_RUN(fsl_mse)
    case FSL_MAE: FSL_RUN(fsl_mae)
    case FSL_HUBER: FSL_RUN(fsl_huber)
    case FSL_QUANTILE: FSL_RUN(fsl_quantile)
    case FSL_HINGE: FSL_RUN(fsl_hinge)
    case FSL_SQUARED_HINGE: FSL_RUN(fsl_squared_hinge)
    case FSL_BCE_LOGITS: FSL_RUN(fsl_bce_logits)
    case FSL_BCE_PROBS: FSL_RUN(fsl_bce_probs)
    }
}

FSL_INLINE double fsl_sum(const double *x, int n)
{
    double total = 0;
    FSL_SIMD(reduction(+ : total))
    for (int i = 0; i < n; i++) total += x[i];
    return total;
}

/* First target that the loss does not allow, or -1: hinge losses want -1 or 1, binary ones 0 to 1. */
FSL_INLINE int fsl_bad_target(const double *y, int n, int signs)
{
    int bad = 0;
    FSL_SIMD(reduction(+ : bad))
    for (int i = 0; i < n; i++) bad += signs ? fabs(y[i]) != 1 : !(y[i] >= 0 && y[i] <= 1);
    if (!bad) return -1;
    for (int i = 0; i < n; i++)
        if (signs ? fabs(y[i]) != 1 : !(y[i] >= 0 && y[i] <= 1)) return i;
    return -1;
}

#endif
