/* Rows of the additive joiner in FSL_REAL: see simple.h. */

/* out = exp(x - max x), and the maximum, 0 if all are -inf. Returns 1 for NaN or inf. */
FSL_UNUSED static int FSL_NAME(fsl_simple_exps)(const FSL_REAL *restrict x, ptrdiff_t n, FSL_REAL *restrict out,
                                                double *most)
{
    const FSL_REAL m = FSL_NAME(fsl_row_max)(x, n);
    int bad = 0;
    *most = m;
    FSL_SIMD(reduction(| : bad))
    for (ptrdiff_t c = 0; c < n; c++) {
        bad |= !(x[c] < (FSL_REAL)INFINITY);
        out[c] = FSL_NAME(fsl_simple_exp)(x[c], m);
    }
    return bad;
}

/* One cell by itself: e = exp(z - max z) for z = am + lm, relative to the maxima of both; returns the maximum of z, 0
 * if all are -inf. */
FSL_UNUSED static double FSL_NAME(fsl_simple_cell)(const FSL_REAL *restrict am, double am_most,
                                                   const FSL_REAL *restrict lm, double lm_most, ptrdiff_t n,
                                                   double *restrict e)
{
    double m = -INFINITY;
    FSL_SIMD(reduction(FSL_MAX : m))
    for (ptrdiff_t c = 0; c < n; c++) {
        e[c] = ((double)am[c] - am_most) + ((double)lm[c] - lm_most);
        m = e[c] > m ? e[c] : m;
    }
    m = m == -INFINITY ? 0 : m;
    FSL_SIMD()
    for (ptrdiff_t c = 0; c < n; c++) e[c] = FSL_NAME(fsl_frame_exp)(e[c] - m);
    return m;
}

/* out = scale (product e + more); `more` may be NULL. */
FSL_UNUSED static void FSL_NAME(fsl_simple_gradient)(const FSL_REAL *restrict product, const FSL_REAL *restrict e,
                                                     const double *restrict more, ptrdiff_t n, double scale,
                                                     FSL_REAL *restrict out)
{
    const FSL_REAL factor = (FSL_REAL)scale;
    if (more || FSL_NAME(fsl_is_large)(scale)) {
        for (ptrdiff_t c = 0; c < n; c++)
            out[c] = (FSL_REAL)(scale * ((double)product[c] * (double)e[c] + (more ? more[c] : 0.0)));
        return;
    }
    FSL_SIMD()
    for (ptrdiff_t c = 0; c < n; c++) out[c] = factor * (product[c] * e[c]);
}
