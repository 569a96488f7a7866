/* One row of logits of FSL_REAL: see softmax_row.h. FSL_HAS_LOOPS is 1 if the loops over vectors exist already. */

/* exp(d) for d <= 0. At `floor`, which is FSL_EXP_LEAST, the factor 2^k has exponent bits 0 and is 0. `floor` is a
 * variable, because compilers would fold exp(floor) of a constant into a branch or masks. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_exp_floored)(FSL_REAL d, FSL_REAL floor)
{
    return FSL_EXP_NORMAL(d < floor ? floor : d);
}

#if !FSL_HAS_LOOPS

/* Maximum; 0 if all are -inf. NaN is ignored. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_row_max)(const FSL_REAL *x, ptrdiff_t n)
{
    const ptrdiff_t whole = n - n % FSL_LANES;
    FSL_REAL most = -(FSL_REAL)INFINITY;
    FSL_SIMD(reduction(FSL_MAX : most))
    for (ptrdiff_t i = 0; i < whole; i++) most = x[i] > most ? x[i] : most;
    for (ptrdiff_t i = whole; i < n; i++) most = x[i] > most ? x[i] : most;
    return most == -(FSL_REAL)INFINITY ? 0 : most;
}

/* out = exp(x - m) for n elements (whole vectors), not stored if out is NULL; returns the sum. */
FSL_INLINE double FSL_NAME(fsl_block_exp)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, FSL_REAL floor, FSL_REAL *out,
                                          const char *next, char *later, ptrdiff_t size)
{
    FSL_REAL lanes[FSL_LANES];
    double sum = 0;
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;
    for (ptrdiff_t j = 0; j < n; j += FSL_LANES) {
        FSL_PREFETCH(next + j * size);
        FSL_PREFETCH_WRITE(later + j * size);
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) {
            const FSL_REAL e = FSL_NAME(fsl_exp_floored)(x[j + i] - m, floor);
            out[j + i] = e;
            lanes[i] += e;
        }
    }
    FSL_SIMD(reduction(+ : sum))
    for (int i = 0; i < FSL_LANES; i++) sum += (double)lanes[i];
    return sum;
}

#endif

FSL_INLINE double FSL_NAME(fsl_sum)(const FSL_REAL *x, ptrdiff_t n)
{
    double sum = 0;
    FSL_SIMD(reduction(+ : sum))
    for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i];
    return sum;
}

/* Sum of whole vectors in float64, lane by lane: few roundings accumulate, in every build. */
FSL_INLINE double FSL_NAME(fsl_block_sum)(const FSL_REAL *x, ptrdiff_t n)
{
    double lanes[FSL_LANES], sum = 0;
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) lanes[i] = 0;
    for (ptrdiff_t j = 0; j < n; j += FSL_LANES) {
        FSL_SIMD()
        for (int i = 0; i < FSL_LANES; i++) lanes[i] += (double)x[j + i];
    }
    FSL_SIMD(reduction(+ : sum))
    for (int i = 0; i < FSL_LANES; i++) sum += lanes[i];
    return sum;
}

/* Copies the last n % FSL_LANES entries of a row to the end of a vector that begins with -inf. */
FSL_INLINE void FSL_NAME(fsl_tail)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL *tail)
{
    const int rest = (int)(n % FSL_LANES);
    if (n < FSL_LANES) {
        for (int i = 0; i < FSL_LANES; i++) tail[i] = -(FSL_REAL)INFINITY;
        for (int i = 0; i < rest; i++) tail[FSL_LANES - rest + i] = x[i];
        return;
    }
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++)
        tail[i] = i < FSL_LANES - rest ? -(FSL_REAL)INFINITY : x[n - FSL_LANES + i];
}

FSL_INLINE void FSL_NAME(fsl_put_tail)(const FSL_REAL *tail, ptrdiff_t n, FSL_REAL *out)
{
    const int rest = (int)(n % FSL_LANES);
    if (n < FSL_LANES) {
        for (int i = 0; i < rest; i++) out[i] = tail[FSL_LANES - rest + i];
        return;
    }
    FSL_REAL *last = out + n - FSL_LANES;
    FSL_SIMD()
    for (int i = 0; i < FSL_LANES; i++) last[i] = i < FSL_LANES - rest ? last[i] : tail[i];
}

/* Sum of exp(x - m); out, unless NULL, is exp(x - m) and may be x. The function prefetches the `next` row and the row
 * to be written `later`, both of elements of `size` bytes, because the passes for maximum and scaling are too short to
 * hide the latency of memory. */
FSL_UNUSED static double FSL_NAME(fsl_row_exp)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL m, FSL_REAL *out,
                                               const char *next, char *later, ptrdiff_t size)
{
    const ptrdiff_t whole = n - n % FSL_LANES;
    FSL_REAL tail[FSL_LANES], unseen[FSL_BLOCK], floor = FSL_EXP_LEAST;
    double total = 0;
    FSL_OPAQUE(floor);
    if (whole < n) FSL_NAME(fsl_tail)(x, n, tail);
    for (ptrdiff_t start = 0; start < whole; start += FSL_BLOCK) {
        const ptrdiff_t n_block = start + FSL_BLOCK < whole ? FSL_BLOCK : whole - start;
        FSL_REAL *e = out ? out + start : unseen;
        double sum = FSL_NAME(fsl_block_exp)(x + start, n_block, m, floor, e, next + start * size,
                                             later + start * size, size);
        if (sum >= 0.5 && total + sum < 8) sum = FSL_NAME(fsl_block_sum)(e, n_block);
        total += sum;
    }
    if (whole < n) {
        FSL_NAME(fsl_block_exp)(tail, FSL_LANES, m, floor, tail, next, later, 0);
        if (out) FSL_NAME(fsl_put_tail)(tail, n, out);
        total += FSL_NAME(fsl_block_sum)(tail, FSL_LANES);
    }
    return total;
}

/* 1 if a factor may overflow float32; its product with a tiny number or 0 need not be infinite. */
FSL_INLINE int FSL_NAME(fsl_is_large)(double factor) { return fabs(factor) > FSL_LARGE; }

FSL_INLINE void FSL_NAME(fsl_row_scale)(FSL_REAL *x, ptrdiff_t n, double factor)
{
    const ptrdiff_t whole = n / FSL_LANES;
    const FSL_REAL scale = (FSL_REAL)factor;
    if (FSL_NAME(fsl_is_large)(factor)) {
        for (ptrdiff_t i = 0; i < n; i++) x[i] = (FSL_REAL)(factor * (double)x[i]);
        return;
    }
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < whole * FSL_LANES; i++) x[i] *= scale;
    for (ptrdiff_t i = whole * FSL_LANES; i < n; i++) x[i] *= scale;
}

/* The dense row pass: maximum and sum of exp(x - maximum); out, unless NULL, is scale * softmax(x). A row of -inf alone
 * has maximum 0, sum 0 and softmax 0. The next row lies `ahead` elements further. */
FSL_UNUSED static void FSL_NAME(fsl_softmax_row)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL *out, double scale,
                                                 ptrdiff_t ahead, double *row_max, double *row_sum)
{
    const FSL_REAL m = FSL_NAME(fsl_row_max)(x, n);
    *row_max = m;
    *row_sum = FSL_NAME(fsl_row_exp)(x, n, m, out, (const char *)(x + ahead), (char *)(out ? out + ahead : out),
                                     sizeof(FSL_REAL));
    if (out) FSL_NAME(fsl_row_scale)(out, n, *row_sum == 0 ? 0 : scale / *row_sum);
}
