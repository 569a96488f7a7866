/* A row of scores of FSL_REAL: see beam.h. */

/* Greatest score of each block of FSL_BEAM_BLOCK classes. */
static void FSL_NAME(fsl_beam_maxima)(const FSL_REAL *x, ptrdiff_t n, double *maxima)
{
    for (ptrdiff_t start = 0; start < n; start += FSL_BEAM_BLOCK) {
        const ptrdiff_t rest = n - start, n_block = rest < FSL_BEAM_BLOCK ? rest : FSL_BEAM_BLOCK;
        FSL_REAL most = -(FSL_REAL)INFINITY;
        FSL_SIMD(reduction(FSL_MAX : most))
        for (ptrdiff_t i = 0; i < n_block; i++) most = x[start + i] > most ? x[start + i] : most;
        *maxima++ = (double)most;
    }
}

/* Greatest score of n classes, without that of `blank`. */
static double FSL_NAME(fsl_beam_greatest)(const FSL_REAL *x, ptrdiff_t n, ptrdiff_t blank)
{
    FSL_REAL most = -(FSL_REAL)INFINITY;
    for (ptrdiff_t i = 0; i < n; i++) most = i != blank && x[i] > most ? x[i] : most;
    return (double)most;
}

/* Classes of a block with scores of `least` or more; returns their number. */
static int32_t FSL_NAME(fsl_beam_gather)(const FSL_REAL *x, ptrdiff_t start, ptrdiff_t stop, ptrdiff_t blank,
                                         double least, int32_t *classes)
{
    int32_t n = 0;
    for (ptrdiff_t c = start; c < stop; c++) {
        classes[n] = (int32_t)c;
        n += ((double)x[c] >= least) & (c != blank);
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
