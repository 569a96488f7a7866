/* Losses of blocks of numbers, with exp and log in FSL_REAL. Included once for each type.
 *
 * x is the prediction, y the target, a the parameter of the element, p, b and c those of the call. `other` is the
 * derivative with respect to y, or to a if that has a gradient. Exponentials may overflow to inf, but finite numbers
 * never give NaN: a factor of 0 makes its term 0. */

typedef struct { double loss; FSL_REAL slope, other; } FSL_NAME(fsl_wide);
#define FSL_WIDE_LOSS(name)                                                                         \
    FSL_INLINE FSL_NAME(fsl_wide) FSL_NAME(fsl_##name)(FSL_REAL x, FSL_REAL y, FSL_REAL a, double p, \
                                                       double b, double c, FSL_REAL floor)

/* log cosh d = |d| + log(1 + exp(-2 |d|)) - log 2, whose terms cancel near 0. There, the Taylor series in d^2 is exact
 * to rounding. Three loops, like those of fsl_binary_plain. */
static void FSL_NAME(fsl_log_cosh_block)(const FSL_REAL *restrict x, const FSL_REAL *restrict y, double p, double b,
                                         double c, FSL_REAL floor, double *restrict loss, FSL_REAL *restrict slope,
                                         FSL_REAL *restrict other)
{
    (void)p, (void)b, (void)c;
    FSL_REAL e[FSL_WIDE_BLOCK], rest[FSL_WIDE_BLOCK];
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) {
        const FSL_REAL d = x[i] - y[i], below = d < 0 ? 2 * d : -2 * d;
        e[i] = FSL_NAME(fsl_exp_normal)(below < floor ? floor : below);
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++)
        rest[i] = FSL_NAME(fsl_log1p_unit)(e[i]) - (FSL_REAL)0.6931471805599453;
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) {
        const FSL_REAL d = x[i] - y[i], size = d < 0 ? -d : d, z = d * d, steep = (1 - e[i]) / (1 + e[i]);
        FSL_REAL u = (FSL_REAL)(10922.0 / 42567525), v = (FSL_REAL)(21844.0 / 6081075);
        u = u * z - (FSL_REAL)(691.0 / 935550), v = v * z - (FSL_REAL)(1382.0 / 155925);
        u = u * z + (FSL_REAL)(31.0 / 14175), v = v * z + (FSL_REAL)(62.0 / 2835);
        u = u * z - (FSL_REAL)(17.0 / 2520), v = v * z - (FSL_REAL)(17.0 / 315);
        u = u * z + (FSL_REAL)(1.0 / 45), v = v * z + (FSL_REAL)(2.0 / 15);
        u = u * z - (FSL_REAL)(1.0 / 12), v = v * z - (FSL_REAL)(1.0 / 3);
        u = u * z + (FSL_REAL)0.5, v = v * z + 1;
        const double far = fabs((double)x[i] - (double)y[i]) + (double)rest[i];
        slope[i] = size < FSL_NEAR ? d * v : d < 0 ? -steep : steep;
        loss[i] = size < FSL_NEAR ? (double)d * (double)d * (double)u : far;
        other[i] = -slope[i];
    }
}

/* x is the logarithm of the rate. */
FSL_WIDE_LOSS(poisson)
{
    (void)a, (void)p, (void)b, (void)c, (void)floor;
    const FSL_REAL rate = FSL_NAME(fsl_exp)(x);
    const FSL_REAL product = y == 0 ? 0 : y * x;
    return (FSL_NAME(fsl_wide)){rate == INFINITY ? rate : rate - product, rate - y, -x};
}

/* x is the rate. */
FSL_WIDE_LOSS(poisson_rates)
{
    (void)a, (void)p, (void)b, (void)c, (void)floor;
    const FSL_REAL log_rate = FSL_NAME(fsl_log)(x), none = x - x; /* NaN stays NaN */
    const FSL_REAL product = y == 0 ? none : y * log_rate;
    return (FSL_NAME(fsl_wide)){x - product, 1 - (y == 0 ? none : y / x), -log_rate};
}

/* exp of a float64: its rounding to float32 would be an error of the result of 2^-24 |t|. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_exp_of)(double t)
{
    const FSL_REAL near = (FSL_REAL)t, rest = (FSL_REAL)(t - (double)near);
    return FSL_NAME(fsl_exp)(near) * (1 + (rest - rest == 0 ? rest : 0));
}

/* x is the logarithm of the mean, p the power between 1 and 2. Both terms of the loss are 0 or more. */
FSL_WIDE_LOSS(tweedie)
{
    (void)a, (void)b, (void)c, (void)floor;
    const FSL_REAL low = FSL_NAME(fsl_exp_of)((1 - p) * (double)x), high = FSL_NAME(fsl_exp_of)((2 - p) * (double)x);
    const FSL_REAL product = y == 0 ? 0 : y * low;
    return (FSL_NAME(fsl_wide)){(double)product / (p - 1) + (double)high / (2 - p), high - product,
                                (FSL_REAL)((double)low / (p - 1))};
}

/* a is the variance, b its least value, c a constant of the loss. The derivative with respect to a smaller variance is
 * the one at b. The quotient by the variance comes first, because the square of a difference may overflow. */
FSL_WIDE_LOSS(gaussian)
{
    (void)p, (void)floor;
    const FSL_REAL least = (FSL_REAL)b < FSL_TINY ? FSL_TINY : (FSL_REAL)b;
    const FSL_REAL d = x - y, variance = a < least ? least : a, slope = d / variance;
    const double square = (double)slope * (double)d;
    return (FSL_NAME(fsl_wide)){0.5 * ((double)FSL_NAME(fsl_log)(variance) + square) + c, slope,
                                (FSL_REAL)0.5 * (FSL_REAL)(1 - square) / variance};
}

/* The same for the logarithms of a and b. */
FSL_WIDE_LOSS(gaussian_log)
{
    (void)p, (void)floor;
    const FSL_REAL least = (FSL_REAL)b < FSL_LOG_TINY ? FSL_LOG_TINY : (FSL_REAL)b;
    const FSL_REAL d = x - y, log_variance = a < least ? least : a, precision = FSL_NAME(fsl_exp)(-log_variance);
    const FSL_REAL slope = precision == 0 ? 0 : d * precision;
    const double square = slope == 0 ? 0 : (double)slope * (double)d;
    return (FSL_NAME(fsl_wide)){0.5 * ((double)log_variance + square) + c, slope, (FSL_REAL)(0.5 * (1 - square))};
}

/* Binary cross-entropy l of a logit, times m^p: m is 1 less the probability of the target. b and c weight the parts y
 * and 1 - y of the target. With e = exp(-|x|), m = (w + e (1 - w)) / (1 + e) for the part w of the target on the wrong
 * side of 0; log m is exact where m itself underflows. The derivative of m is (1 - 2 y) h (1 - h) for the probability
 * h, and h (1 - h) / m, which is finite, takes the place of a negative power of m. */
static void FSL_NAME(fsl_binary_focal_block)(const FSL_REAL *restrict x, const FSL_REAL *restrict y, double p, double b,
                                             double c, FSL_REAL floor, double *restrict loss, FSL_REAL *restrict slope,
                                             FSL_REAL *restrict other)
{
    FSL_REAL e[FSL_WIDE_BLOCK], rest[FSL_WIDE_BLOCK], log_m[FSL_WIDE_BLOCK];
    const FSL_REAL gamma = (FSL_REAL)p, yes = (FSL_REAL)b, of_no = (FSL_REAL)c;
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) {
        const FSL_REAL below = x[i] < 0 ? x[i] : -x[i];
        e[i] = FSL_NAME(fsl_exp_normal)(below < floor ? floor : below);
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) rest[i] = FSL_NAME(fsl_log1p_unit)(e[i]);
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) {
        const FSL_REAL wrong = x[i] < 0 ? y[i] : 1 - y[i], below = x[i] < 0 ? x[i] : -x[i];
        const FSL_REAL mixed = FSL_NAME(fsl_log)(wrong + e[i] * (1 - wrong));
        log_m[i] = (wrong == 0 ? below : mixed) - rest[i];
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_WIDE_BLOCK; i++) {
        const FSL_REAL size = x[i] < 0 ? -x[i] : x[i], high = 1 / (1 + e[i]), low = e[i] * high, no = 1 - y[i];
        const FSL_REAL wrong = x[i] < 0 ? y[i] : no, mixed = wrong + e[i] * (1 - wrong), m = mixed * high;
        const FSL_REAL entropy = (wrong == 0 ? 0 : wrong * size) + rest[i], ratio = wrong == 0 ? high : low / mixed;
        const FSL_REAL power = gamma == 0 ? 1 : FSL_NAME(fsl_exp)(gamma * log_m[i]);
        const FSL_REAL h = x[i] < 0 ? low : high, g = x[i] < 0 ? high : low, weight = yes * y[i] + of_no * no;
        const FSL_REAL scaled = weight * power, steep = gamma * (g - h) * (m > 0 ? entropy / m : 1);
        loss[i] = scaled * entropy;
        slope[i] = scaled * (no * h - y[i] * g + gamma * (no - y[i]) * ratio * entropy);
        other[i] = (yes - of_no) * power * entropy + (scaled == 0 ? 0 : scaled * (steep - x[i]));
    }
}

/* Losses and derivatives of FSL_WIDE_BLOCK elements: loops of a constant length have half the code. */
FSL_UNUSED static void FSL_NAME(fsl_wide_block)(fsl_pointwise_loss kind, const FSL_REAL *restrict x,
                                                const FSL_REAL *restrict y, const FSL_REAL *restrict a, double p,
                                                double b, double c, double *restrict loss, FSL_REAL *restrict slope,
                                                FSL_REAL *restrict other)
{
    FSL_REAL floor = sizeof *x == 4 ? -87 : -708;
    FSL_OPAQUE(floor);
    switch (kind) {
        FSL_SHORT_LOSSES(FSL_SHORT_CASE, 0, 0)
        FSL_LONG_LOSSES(FSL_LONG_CASE, 0, 0)
    default: break;
    }
}

/* Losses and derivatives of n elements. The results have room for whole blocks. */
FSL_UNUSED static void FSL_NAME(fsl_wide_points)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y,
                                                 const FSL_REAL *a, double p, double b, double c, int n, double *loss,
                                                 FSL_REAL *slope, FSL_REAL *other)
{
    FSL_REAL padded[3][FSL_WIDE_BLOCK] = {{0}};
    const FSL_REAL *const given[3] = {x, y, a};
    const int whole = n - n % FSL_WIDE_BLOCK;
    for (int i = 0; i < whole; i += FSL_WIDE_BLOCK)
        FSL_NAME(fsl_wide_block)(kind, x + i, y + i, a + i, p, b, c, loss + i, slope + i, other + i);
    if (whole < n) {
        for (int k = 0; k < 3; k++) memcpy(padded[k], given[k] + whole, (size_t)(n - whole) * sizeof *x);
        FSL_NAME(fsl_wide_block)(kind, padded[0], padded[1], padded[2], p, b, c, loss + whole, slope + whole,
                                 other + whole);
    }
    for (int i = 0; (kind == FSL_LOSS_poisson || kind == FSL_LOSS_poisson_rates) && b > 0 && i < n; i++) {
        if (!(y[i] > 1)) continue;
        const fsl_point point = fsl_stirling((double)y[i]);
        loss[i] += fsl_min64(point.loss, DBL_MAX); /* no inf, because the loss may be -inf */
        other[i] += (FSL_REAL)point.slope;
    }
}

#undef FSL_WIDE_LOSS
