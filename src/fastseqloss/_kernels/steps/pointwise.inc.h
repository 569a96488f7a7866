/* Loops over arrays of FSL_REAL around the losses of pointwise.h. */

/* Binary cross-entropies without a weight and their derivatives, n <= FSL_AT_ONCE: logits are float32 in any type. A
 * target that float32 does not represent is not rounded. */
FSL_UNUSED static void FSL_NAME(fsl_plain_points)(const FSL_REAL *x, const FSL_REAL *y, int n, double *loss,
                                                  double *slope)
{
    float logits[FSL_AT_ONCE] = {0}, targets[FSL_AT_ONCE] = {0}, losses[FSL_AT_ONCE], slopes[FSL_AT_ONCE];
    for (int i = 0; i < n; i++) logits[i] = (float)x[i], targets[i] = (float)y[i];
    fsl_binary_plain(logits, targets, n, 1, losses, slopes);
    for (int i = 0; i < n; i++) {
        const int exact = (FSL_REAL)targets[i] == y[i] || y[i] != y[i];
        const fsl_point point = exact ? (fsl_point){(double)losses[i], (double)slopes[i]}
                                      : fsl_binary_f32(logits[i], (double)y[i], 1, -88.0f);
        loss[i] = point.loss;
        slope[i] = point.slope;
    }
}

/* Their sum; g = scale times the derivatives unless NULL. */
FSL_INLINE double FSL_NAME(fsl_plain_piece)(const FSL_REAL *x, const FSL_REAL *y, int n, double scale, FSL_REAL *g)
{
    double loss[FSL_AT_ONCE], slope[FSL_AT_ONCE];
    if (sizeof *x == 4) return fsl_binary_sum((const float *)x, (const float *)y, n, scale, (float *)g);
    FSL_NAME(fsl_plain_points)(x, y, n, loss, slope);
    for (int i = 0; g && i < n; i++) g[i] = (FSL_REAL)(scale * slope[i]);
    return fsl_sum_f64(loss, n);
}

FSL_INLINE double FSL_NAME(fsl_piece)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y, double a, int n,
                                      double scale, FSL_REAL *g, int store)
{
    double total = 0;
    FSL_FLOORS
    if (sizeof *x == 4) {
        const float more = (float)scale, less = -more, up = (float)(scale * -a), down = (float)(scale * (1 - a));
        if (kind == FSL_LOSS_mae) FSL_ADD_UP32(fsl_mae32((float)x[i], (float)y[i], less, more))
        if (kind == FSL_LOSS_quantile) FSL_ADD_UP32(fsl_quantile32((float)x[i], (float)y[i], a, up, down))
        if (kind == FSL_LOSS_hinge) {
            const float margin = fsl_round_up32(a);
            FSL_ADD_UP32(fsl_hinge32((float)x[i], (float)y[i], a, margin, more))
        }
    }
    if (kind == FSL_LOSS_binary_plain) return FSL_NAME(fsl_plain_piece)(x, y, n, scale, store ? g : NULL);
    FSL_EACH_LOSS(kind, a, FSL_ADD_UP)
    return total;
}

/* First number that is not allowed, or -1: in all but one case, a number outside a range. */
static int FSL_NAME(fsl_bad_target)(const FSL_REAL *y, int n, fsl_allowed allowed)
{
    const int strict = allowed == FSL_SHARES || allowed == FSL_COUNTS; /* NaN is not allowed */
    const FSL_REAL slack = allowed == FSL_PROBABILITIES ? (FSL_REAL)FSL_SLACK : 0, least = -slack;
    const FSL_REAL most = allowed == FSL_AMOUNTS ? INFINITY : allowed == FSL_COUNTS ? FSL_GREATEST : 1 + slack;
    if (allowed == FSL_ANYTHING) return -1;
    if (allowed == FSL_SIGNS) FSL_FIND_BAD(FSL_SIGN_IS_BAD)
    FSL_FIND_BAD(FSL_IS_BEYOND)
}

/* Sum of n losses in float64, by pieces; g = scale times the derivatives unless NULL. g may be x. Stops before the
 * first piece with a target that is not allowed, and sets *bad to the position of the target. Each piece is prefetched
 * during the one before, because processors do not look far enough ahead past the arithmetic. */
static double FSL_NAME(fsl_pointwise)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y, double a,
                                      ptrdiff_t n, double scale, FSL_REAL *g, fsl_allowed allowed, ptrdiff_t *bad)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += FSL_AT_ONCE) {
        const int m = (int)(n - i < FSL_AT_ONCE ? n - i : FSL_AT_ONCE);
        for (int next = FSL_AT_ONCE; next < 2 * FSL_AT_ONCE; next += (int)(64 / sizeof *x)) {
            FSL_PREFETCH(x + i + next);
            FSL_PREFETCH(y + i + next);
        }
        const int at = FSL_NAME(fsl_bad_target)(y + i, m, allowed);
        if (at >= 0) {
            *bad = i + at;
            break;
        }
        total += g ? FSL_NAME(fsl_piece)(kind, x + i, y + i, a, m, scale, g + i, 1)
                   : FSL_NAME(fsl_piece)(kind, x + i, y + i, a, m, scale, NULL, 0);
    }
    return total;
}

/* Losses and derivatives of single elements, each with its own parameter. */
static void FSL_NAME(fsl_points)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y, const double *a, int n,
                                 double *loss, double *slope)
{
    FSL_FLOORS
    for (int from = 0; kind == FSL_LOSS_binary_plain && from < n; from += FSL_AT_ONCE)
        FSL_NAME(fsl_plain_points)(x + from, y + from, n - from < FSL_AT_ONCE ? n - from : FSL_AT_ONCE, loss + from,
                                   slope + from);
    FSL_EACH_LOSS(kind, a[i], FSL_KEEP)
}
