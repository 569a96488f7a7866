/* Kullback-Leibler divergence of two distributions of FSL_REAL: see vectors.h. */

/* A distribution: the probabilities p share, and their logarithms log_p - shift. */
typedef struct {
    FSL_REAL *p, *log_p;
    double share, shift, total;
} FSL_NAME(fsl_side);

/* Sets a distribution. Returns 0 if all logits are -inf, which have none. */
static int FSL_NAME(fsl_set_side)(FSL_NAME(fsl_side) *side, const FSL_REAL *x, ptrdiff_t n, int given, double unit)
{
    FSL_REAL *restrict p = side->p, *restrict log_p = side->log_p, most = -(FSL_REAL)INFINITY, bad = 0;
    double total = 0;
    side->share = 1, side->shift = 0;
    if (given == FSL_GIVEN_PROBS) {
        FSL_SIMD(reduction(+ : total))
        for (ptrdiff_t i = 0; i < n; i++) {
            p[i] = x[i] <= 0 ? 0 : x[i];
            log_p[i] = FSL_NAME(fsl_divergence_log)(p[i]);
            total += (double)p[i];
        }
        side->total = total;
        return 1;
    }
    if (given == FSL_GIVEN_LOG_PROBS) {
        FSL_SIMD(reduction(+ : total))
        for (ptrdiff_t i = 0; i < n; i++) {
            p[i] = FSL_NAME(fsl_divergence_exp)(x[i]);
            log_p[i] = x[i];
            total += (double)p[i];
        }
        side->total = total;
        return 1;
    }
    FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : bad))
    for (ptrdiff_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
        bad += x[i] < (FSL_REAL)INFINITY ? 0 : 1;
    }
    if (bad != 0) most = (FSL_REAL)NAN;
    else if (most == -(FSL_REAL)INFINITY) return 0;
    const FSL_REAL factor = (FSL_REAL)unit;
    FSL_REAL floor = FSL_EXP_LEAST;
    FSL_OPAQUE(floor);
    FSL_SIMD(reduction(+ : total))
    for (ptrdiff_t i = 0; i < n; i++) {
        log_p[i] = (x[i] - most) * factor;
        p[i] = FSL_NAME(fsl_exp_floored)(log_p[i], floor);
        total += (double)p[i];
    }
    side->share = 1 / total, side->shift = fsl_log64(total), side->total = 1;
    return 1;
}

/* Slopes by the distribution p that the mean is taken over: with d = log p - log q, they are d + 1 by probabilities, p
 * times that by log-probabilities, and p (d - loss) by logits. */
static void FSL_NAME(fsl_first_slopes)(const FSL_NAME(fsl_side) *of_p, const FSL_REAL *restrict log_q, ptrdiff_t n,
                                       int given, FSL_REAL shift, double factor, double loss, FSL_REAL *restrict out)
{
    const FSL_REAL *restrict p = of_p->p, *restrict log_p = of_p->log_p;
    const FSL_REAL f = (FSL_REAL)factor, by_p = (FSL_REAL)(factor * of_p->share);
    const FSL_REAL more = given == FSL_GIVEN_LOGITS ? shift - (FSL_REAL)loss : shift + 1;
    const int infinite = given == FSL_GIVEN_LOGITS && loss == INFINITY;
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const FSL_REAL d = log_p[i] - log_q[i] + more, slope = p[i] * by_p * d;
        const FSL_REAL end = log_q[i] == -(FSL_REAL)INFINITY ? (FSL_REAL)INFINITY : d * f;
        if (given == FSL_GIVEN_PROBS) out[i] = p[i] == 0 ? end : d * f;
        else out[i] = p[i] == 0 || infinite ? 0 : slope;
    }
}

/* Slopes by the other distribution q: -p / q by probabilities, -p by log-probabilities, q sum p - p by logits. */
static void FSL_NAME(fsl_second_slopes)(const FSL_NAME(fsl_side) *of_p, const FSL_NAME(fsl_side) *of_q, ptrdiff_t n,
                                        int given, double factor, FSL_REAL *restrict out)
{
    const FSL_REAL *restrict p = of_p->p, *restrict q = of_q->p;
    const FSL_REAL by_p = (FSL_REAL)(factor * of_p->share);
    const FSL_REAL by_q = (FSL_REAL)(given == FSL_GIVEN_LOGITS ? factor * of_q->share * of_p->total : 0);
    if (given == FSL_GIVEN_LOG_PROBS)
        for (ptrdiff_t i = 0; i < n; i++) out[i] = -by_p * p[i];
    else {
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) {
            const FSL_REAL ratio = p[i] == 0 ? 0 : -by_p * p[i] / q[i], difference = by_q * q[i] - by_p * p[i];
            out[i] = given == FSL_GIVEN_PROBS ? ratio : difference;
        }
    }
}

/* sum p (log p - log q), of p given by the scores x and q by the targets y if reverse, else the other way round; and
 * the slopes by both times `scale`, unless NULL. `room` has 4 n numbers. */
static double FSL_NAME(fsl_divergence)(const fsl_divergence *of, const FSL_REAL *x, const FSL_REAL *y, ptrdiff_t n,
                                       double scale, FSL_REAL *room, FSL_REAL *g, FSL_REAL *h)
{
    FSL_NAME(fsl_side) of_p = {.p = room, .log_p = room + n}, of_q = {.p = room + 2 * n, .log_p = room + 3 * n};
    const int kind_p = of->reverse ? of->scores : of->targets, kind_q = of->reverse ? of->targets : of->scores;
    const int has_p = FSL_NAME(fsl_set_side)(&of_p, of->reverse ? x : y, n, kind_p, of->unit);
    const int has_q = FSL_NAME(fsl_set_side)(&of_q, of->reverse ? y : x, n, kind_q, of->unit);
    FSL_REAL *const by_p = of->reverse ? g : h, *const by_q = of->reverse ? h : g;
    if (!has_p || !has_q) {
        if (g) memset(g, 0, (size_t)n * sizeof *g);
        if (h) memset(h, 0, (size_t)n * sizeof *h);
        return !has_p || of_p.total > 0 ? INFINITY : of_p.total;
    }
    const FSL_REAL *restrict p = of_p.p, *restrict log_p = of_p.log_p, *restrict log_q = of_q.log_p;
    const FSL_REAL share = (FSL_REAL)of_p.share, shift = (FSL_REAL)(of_q.shift - of_p.shift);
    const int large = FSL_NAME(fsl_is_large)(scale);
    const double first = large ? 1 : scale;
    double loss = 0;
    FSL_SIMD(reduction(+ : loss))
    for (ptrdiff_t i = 0; i < n; i++) {
        const FSL_REAL weight = p[i] * share, term = weight * (log_p[i] - log_q[i] + shift);
        loss += weight == 0 ? 0 : (double)term;
    }
    if (kind_p == FSL_GIVEN_LOGITS && kind_q == FSL_GIVEN_LOGITS && loss < 0) loss = 0; /* rounding */
    const double factor_p = kind_p == FSL_GIVEN_LOGITS ? first * of->unit : first;
    const double factor_q = kind_q == FSL_GIVEN_LOGITS ? first * of->unit : first;
    if (by_q) FSL_NAME(fsl_second_slopes)(&of_p, &of_q, n, kind_q, factor_q, by_q);
    if (by_p) FSL_NAME(fsl_first_slopes)(&of_p, log_q, n, kind_p, shift, factor_p, loss, by_p);
    if (large && g) FSL_NAME(fsl_row_scale)(g, n, scale);
    if (large && h) FSL_NAME(fsl_row_scale)(h, n, scale);
    return loss;
}
