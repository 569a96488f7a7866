/* Losses of one list by a softmax of its scores, of FSL_REAL: see rows.h. */

/* Removes the items that do not count, and the target unless it is -1, from a row; returns the number of those left. */
FSL_UNUSED static ptrdiff_t FSL_NAME(fsl_rank_compress)(FSL_REAL *x, ptrdiff_t n, const uint8_t *mask, ptrdiff_t target)
{
    ptrdiff_t left = 0;
    if (!mask) {
        if (target < 0) return n;
        memmove(x + target, x + target + 1, (size_t)(n - 1 - target) * sizeof *x);
        return n - 1;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        if (mask[i] && i != target) x[left++] = x[i];
    return left;
}

/* The opposite: spreads a row of `left` items over n, with 0 for those that do not count. */
FSL_UNUSED static void FSL_NAME(fsl_rank_expand)(FSL_REAL *x, ptrdiff_t left, ptrdiff_t n, const uint8_t *mask,
                                                 ptrdiff_t target, double of_target)
{
    if (!mask && target >= 0)
        memmove(x + target + 1, x + target, (size_t)(n - 1 - target) * sizeof *x);
    for (ptrdiff_t i = n - 1; mask && i >= 0; i--) x[i] = mask[i] && i != target ? x[--left] : 0;
    if (target >= 0) x[target] = (FSL_REAL)of_target;
}

/* Cross-entropy of labels y that need not sum to 1, and unless out is NULL, its gradient times scale. */
static double FSL_NAME(fsl_list_softmax)(const FSL_REAL *x, const FSL_REAL *restrict y, ptrdiff_t n, double scale,
                                         FSL_REAL *out)
{
    const FSL_REAL m = FSL_NAME(fsl_row_max)(x, n);
    double sum = 0, dot = 0;
    for (ptrdiff_t first = 0; first < n; first += FSL_BLOCK) {
        const ptrdiff_t last = first + FSL_BLOCK < n ? first + FSL_BLOCK : n;
        FSL_REAL of_y = 0, of_product = 0;
        FSL_RANK_SIMD(reduction(+ : of_y, of_product))
        for (ptrdiff_t i = first; i < last; i++) {
            of_y += y[i];
            const FSL_REAL below = x[i] - m;
            of_product += y[i] == 0 || below == 0 ? 0 : y[i] * below;
        }
        sum += (double)of_y, dot += (double)of_product;
    }
    const double total = FSL_NAME(fsl_row_exp)(x, n, m, out, (const char *)x, (char *)out, 0);
    if (total == 0) { /* all scores are -inf, or none is left */
        for (ptrdiff_t i = 0; out && i < n; i++) out[i] = 0;
        return sum > 0 ? INFINITY : 0;
    }
    if (out) {
        const double most = sizeof *x == 4 ? FLT_MAX : DBL_MAX; /* inf times a probability of 0 would be NaN */
        const FSL_REAL factor = (FSL_REAL)fsl_min64(scale * (sum / total), most), weight = (FSL_REAL)scale;
        FSL_REAL *restrict g = out;
        FSL_RANK_SIMD()
        for (ptrdiff_t i = 0; i < n; i++) g[i] = factor * g[i] - weight * y[i];
    }
    return (total == 1 ? 0 : sum * fsl_rank_log(total)) - dot;
}

/* 1 / (1 + exp(z)), with z where its exponential is finite. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_rank_logistic)(FSL_REAL z)
{
    z = z < FSL_EXP_LEAST ? FSL_EXP_LEAST : z;
    z = z > -FSL_EXP_LEAST ? -FSL_EXP_LEAST : z;
    return 1 / (1 + FSL_EXP_NORMAL(z));
}

/* Half of x^2 - c^2. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_rank_half_square)(FSL_REAL x, FSL_REAL c)
{
    return (x - c) * ((FSL_REAL)0.5 * x + (FSL_REAL)0.5 * c);
}

/* BPR-max of n negatives x and the score t of the target. With b_j = sigmoid(x_j - t) = 1 - a_j and e_j = exp(x_j - m),
 * q_j a_j = exp(t - m) b_j / sum e. So -log A = m - t + log(sum e / sum b), which holds for any distance of t below m;
 * for a target above all negatives it is -log(1 - sum q b), without cancellation. The slope of the penalty has the
 * difference of x_j^2 and its mean, which cancels for large scores: those squares are counted from c^2. */
static double FSL_NAME(fsl_bpr_max)(const FSL_REAL *restrict x, ptrdiff_t n, FSL_REAL t, double lambda, double scale,
                                    FSL_REAL *restrict e, FSL_REAL *restrict b, double *of_target)
{
    const FSL_REAL m = FSL_NAME(fsl_row_max)(x, n);
    const double total = FSL_NAME(fsl_row_exp)(x, n, m, e, (const char *)x, (char *)e, 0);
    const int above = t > m;
    const FSL_REAL c = m > -64 && m < 64 ? 0 : m;
    double sum = 0, squares = 0, product = 0;
    *of_target = 0;
    if (total == 0) {
        for (ptrdiff_t i = 0; i < n; i++) e[i] = 0;
        return 0;
    }
    for (ptrdiff_t first = 0; first < n; first += FSL_BLOCK) {
        const ptrdiff_t last = first + FSL_BLOCK < n ? first + FSL_BLOCK : n;
        FSL_REAL of_b = 0, of_product = 0, of_square = 0;
        FSL_RANK_SIMD(reduction(+ : of_b, of_product, of_square))
        for (ptrdiff_t i = first; i < last; i++) {
            const FSL_REAL p = FSL_NAME(fsl_rank_logistic)(t - x[i]), weighted = above ? e[i] * p : p;
            b[i] = p;
            of_b += weighted;
            of_product += weighted * (above ? 1 - p : p);
            of_square += e[i] == 0 ? 0 : e[i] * FSL_NAME(fsl_rank_half_square)(x[i], c);
        }
        sum += (double)of_b, product += (double)of_product, squares += (double)of_square;
    }
    const double u = above ? sum / total : 0, v = 1 - u, k = scale / total;
    const FSL_REAL constant = (FSL_REAL)(above ? -k * u / v : k), slope = (FSL_REAL)(above ? k / v : 0);
    const FSL_REAL share = (FSL_REAL)(above ? 0 : scale / sum);
    const FSL_REAL penalty = (FSL_REAL)(2 * k * lambda), mean = (FSL_REAL)(squares / total);
    FSL_RANK_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const FSL_REAL steep = x[i] + (FSL_NAME(fsl_rank_half_square)(x[i], c) - mean);
        const FSL_REAL extra = e[i] == 0 || penalty == 0 ? 0 : e[i] * penalty * steep;
        e[i] = e[i] * (constant + slope * (b[i] * (2 - b[i]))) - share * (b[i] * (1 - b[i])) + extra;
    }
    *of_target = -scale * (above ? product / total / v : product / sum);
    const double ranked =
        above ? -(fsl_rank_log(v) + ((1 - v) - u) / v) : (double)m - (double)t + fsl_rank_log(total / sum);
    return lambda == 0 ? ranked : ranked + lambda * ((double)c * (double)c + 2 * squares / total);
}

/* TOP1-max of the same; the slopes of the terms are kept in b. */
static double FSL_NAME(fsl_top1_max)(const FSL_REAL *restrict x, ptrdiff_t n, FSL_REAL t, double scale,
                                     FSL_REAL *restrict e, FSL_REAL *restrict b, double *of_target)
{
    const FSL_REAL m = FSL_NAME(fsl_row_max)(x, n);
    const double total = FSL_NAME(fsl_row_exp)(x, n, m, e, (const char *)x, (char *)e, 0);
    double sum = 0, slope = 0;
    *of_target = 0;
    if (total == 0) {
        for (ptrdiff_t i = 0; i < n; i++) e[i] = 0;
        return 0;
    }
    for (ptrdiff_t first = 0; first < n; first += FSL_BLOCK) {
        const ptrdiff_t last = first + FSL_BLOCK < n ? first + FSL_BLOCK : n;
        FSL_REAL of_h = 0, of_d = 0;
        FSL_RANK_SIMD(reduction(+ : of_h, of_d))
        for (ptrdiff_t i = first; i < last; i++) {
            const FSL_REAL y = e[i] == 0 ? 0 : x[i];
            const FSL_REAL c = FSL_NAME(fsl_rank_logistic)(t - x[i]), p = FSL_NAME(fsl_rank_logistic)(-y * y);
            const FSL_REAL h = c + p, d = c * (1 - c);
            of_h += e[i] * h;
            of_d += e[i] * d;
            b[i] = h + d + 2 * (y * (p * (1 - p)));
        }
        sum += (double)of_h, slope += (double)of_d;
    }
    const double loss = sum / total;
    const FSL_REAL factor = (FSL_REAL)(scale / total), mean = (FSL_REAL)loss;
    FSL_RANK_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) e[i] = factor * e[i] * (b[i] - mean);
    *of_target = -scale * (slope / total);
    return loss;
}
