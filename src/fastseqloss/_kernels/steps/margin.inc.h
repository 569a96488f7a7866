/* Rows of scores of FSL_REAL without the score of the target: see margin.h. */

/* Maximum of n scores, and their sum, which is NaN if a score is NaN or if inf and -inf occur. */
FSL_INLINE FSL_REAL FSL_NAME(fsl_max_and_sum)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL *sum)
{
    FSL_REAL most = -(FSL_REAL)INFINITY, total = 0;
    FSL_SIMD(reduction(FSL_MAX : most) reduction(+ : total))
    for (ptrdiff_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
        total += x[i];
    }
    *sum = total;
    return most;
}

static double FSL_NAME(fsl_others_max_slow)(const FSL_REAL *x, ptrdiff_t n, ptrdiff_t t)
{
    FSL_REAL before, after;
    const FSL_REAL first = FSL_NAME(fsl_max_and_sum)(x, t, &before);
    const FSL_REAL last = FSL_NAME(fsl_max_and_sum)(x + t + 1, n - t - 1, &after);
    for (ptrdiff_t i = 0; before + after != before + after && i < n; i++)
        if (i != t && x[i] != x[i]) return NAN;
    return first > last ? first : last;
}

/* Maximum of the n - 1 scores other than t; -inf for n = 1, NaN if a score is NaN. The first pass covers the common
 * case, in which the maximum of the row is not at t. */
FSL_INLINE double FSL_NAME(fsl_others_max)(const FSL_REAL *x, ptrdiff_t n, ptrdiff_t t)
{
    FSL_REAL sum;
    const FSL_REAL most = FSL_NAME(fsl_max_and_sum)(x, n, &sum);
    return most > x[t] && sum == sum ? most : FSL_NAME(fsl_others_max_slow)(x, n, t);
}

/* Position of the first of n scores equal to `score`, or n. Rows are searched by pieces, whose positions fit an int. */
FSL_INLINE int FSL_NAME(fsl_find_in_piece)(const FSL_REAL *x, int n, FSL_REAL score)
{
    int first = n;
    FSL_SIMD(reduction(min : first))
    for (int i = 0; i < n; i++) {
        const int place = x[i] == score ? i : n;
        first = place < first ? place : first;
    }
    return first;
}

FSL_INLINE ptrdiff_t FSL_NAME(fsl_find)(const FSL_REAL *x, ptrdiff_t n, FSL_REAL score)
{
    for (ptrdiff_t i = 0; i < n; i += FSL_FIND_PIECE) {
        const int m = (int)(n - i < FSL_FIND_PIECE ? n - i : FSL_FIND_PIECE);
        const int first = FSL_NAME(fsl_find_in_piece)(x + i, m, score);
        if (first < m) return i + first;
    }
    return n;
}

/* First class other than t with this score, which occurs. */
FSL_INLINE ptrdiff_t FSL_NAME(fsl_find_other)(const FSL_REAL *x, ptrdiff_t n, ptrdiff_t t, double score)
{
    const FSL_REAL wanted = (FSL_REAL)score;
    const ptrdiff_t first = FSL_NAME(fsl_find)(x, n, wanted);
    return first == t ? t + 1 + FSL_NAME(fsl_find)(x + t + 1, n - t - 1, wanted) : first;
}

FSL_INLINE void FSL_NAME(fsl_zero)(FSL_REAL *x, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + FSL_LANES <= n; i += FSL_LANES) memset(x + i, 0, FSL_LANES * sizeof(FSL_REAL));
    for (; i < n; i++) x[i] = 0;
}
