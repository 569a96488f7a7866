/* A row of scores of FSL_REAL: see beam.h. */

FSL_INLINE FSL_REAL FSL_NAME(fsl_beam_greater)(FSL_REAL a, FSL_REAL b) { return a > b ? a : b; }

/* Greatest of FSL_BEAM_FEW = 16 scores. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_beam_greatest_of_few)(const FSL_REAL *x)
{
    FSL_REAL a[8], b[4];
    FSL_SIMD()
    for (int i = 0; i < 8; i++) a[i] = FSL_NAME(fsl_beam_greater)(x[i], x[i + 8]);
    FSL_SIMD()
    for (int i = 0; i < 4; i++) b[i] = FSL_NAME(fsl_beam_greater)(a[i], a[i + 4]);
    b[0] = FSL_NAME(fsl_beam_greater)(b[0], b[1]), b[2] = FSL_NAME(fsl_beam_greater)(b[2], b[3]);
    return FSL_NAME(fsl_beam_greater)(b[0], b[2]);
}

/* Greatest of FSL_BEAM_BLOCK scores; sets `bad` if one is NaN or less than `least`. Lanes come first, since compilers
 * keep the variable of a reduction in memory. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_beam_greatest_of_block)(const FSL_REAL *x, FSL_REAL least, int *bad)
{
    FSL_REAL lanes[FSL_BEAM_FEW], wrong[FSL_BEAM_FEW];
    FSL_SIMD()
    for (int i = 0; i < FSL_BEAM_FEW; i++) {
        const FSL_REAL a = x[i], b = x[i + FSL_BEAM_FEW];
        const FSL_REAL c = x[i + 2 * FSL_BEAM_FEW], d = x[i + 3 * FSL_BEAM_FEW];
        wrong[i] = (a >= least) & (b >= least) & (c >= least) & (d >= least) ? 0 : 1;
        lanes[i] = FSL_NAME(fsl_beam_greater)(FSL_NAME(fsl_beam_greater)(a, b), FSL_NAME(fsl_beam_greater)(c, d));
    }
    *bad |= FSL_NAME(fsl_beam_greatest_of_few)(wrong) > 0;
    return FSL_NAME(fsl_beam_greatest_of_few)(lanes);
}

/* The same of up to FSL_BEAM_BLOCK classes, without that of `blank`; at least `least`. */
static double FSL_NAME(fsl_beam_greatest)(const FSL_REAL *x, ptrdiff_t n, ptrdiff_t blank, double least, int *bad)
{
    FSL_REAL block[FSL_BEAM_BLOCK], most = (FSL_REAL)least;
    if (n <= FSL_BEAM_FEW) {
        for (ptrdiff_t i = 0; i < n; i++) {
            *bad |= !(x[i] >= (FSL_REAL)least);
            most = i != blank && x[i] > most ? x[i] : most;
        }
        return (double)most;
    }
    for (ptrdiff_t i = 0; i < FSL_BEAM_BLOCK; i++) block[i] = most;
    memcpy(block, x, (size_t)n * sizeof *x);
    if (blank >= 0) block[blank] = most;
    return (double)FSL_NAME(fsl_beam_greatest_of_block)(block, most, bad);
}

/* Greatest score of each block of FSL_BEAM_BLOCK classes. */
static void FSL_NAME(fsl_beam_maxima)(const FSL_REAL *x, ptrdiff_t n, double least, double *maxima, int *bad)
{
    ptrdiff_t start = 0;
    for (; start + FSL_BEAM_BLOCK <= n; start += FSL_BEAM_BLOCK)
        *maxima++ = (double)FSL_NAME(fsl_beam_greatest_of_block)(x + start, (FSL_REAL)least, bad);
    if (start < n) *maxima = FSL_NAME(fsl_beam_greatest)(x + start, n - start, -1, least, bad);
}

/* First class from `c` on, other than the blank, with a score. */
static ptrdiff_t FSL_NAME(fsl_beam_class_of)(const FSL_REAL *x, ptrdiff_t c, ptrdiff_t blank, double score)
{
    while (x[c] != (FSL_REAL)score || c == blank) c++;
    return c;
}

/* Classes of a block with scores of `least` or more; returns their number. */
static int32_t FSL_NAME(fsl_beam_gather)(const FSL_REAL *x, ptrdiff_t start, ptrdiff_t stop, ptrdiff_t blank,
                                         double least, int32_t *classes)
{
    int32_t n = 0;
    for (ptrdiff_t from = start; from < stop; from += FSL_BEAM_FEW) {
        const ptrdiff_t to = stop - from < FSL_BEAM_FEW ? stop : from + FSL_BEAM_FEW;
        if (to == from + FSL_BEAM_FEW && (double)FSL_NAME(fsl_beam_greatest_of_few)(x + from) < least) continue;
        for (ptrdiff_t c = from; c < to; c++) {
            classes[n] = (int32_t)c;
            n += ((double)x[c] >= least) & (c != blank);
        }
    }
    return n;
}

/* Sum of exp(x - most). */
static double FSL_NAME(fsl_beam_sum)(const FSL_REAL *x, ptrdiff_t n, double most)
{
    double sum = 0;
    FSL_SIMD(reduction(+ : sum))
    for (ptrdiff_t i = 0; i < n; i++) sum += fsl_exp_normal64(fsl_max64((double)x[i] - most, -700.0));
    return sum;
}
