/* Loops over arrays of FSL_REAL around the losses of pointwise.h. */

FSL_INLINE double FSL_NAME(fsl_piece)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y, double a, int n,
                                      double scale, FSL_REAL *g, int store)
{
    double total = 0;
    FSL_FLOORS
    FSL_EACH_LOSS(kind, a, FSL_ADD_UP)
    return total;
}

/* First target that is not allowed, or -1. */
static int FSL_NAME(fsl_bad_target)(const FSL_REAL *y, int n, fsl_allowed allowed)
{
    if (allowed == FSL_ANYTHING) return -1;
    if (allowed == FSL_SIGNS) FSL_FIND_BAD(FSL_SIGN_IS_BAD)
    if (allowed == FSL_PROBABILITIES) FSL_FIND_BAD(FSL_IS_NO_PROBABILITY)
    FSL_FIND_BAD(FSL_SHARE_IS_BAD)
}

/* Sum of n losses in float64, by pieces; g = scale times the derivatives unless NULL. g may be x. Stops before the
 * first piece with a target that is not allowed, and sets *bad to the position of the target. */
static double FSL_NAME(fsl_pointwise)(fsl_pointwise_loss kind, const FSL_REAL *x, const FSL_REAL *y, double a,
                                      ptrdiff_t n, double scale, FSL_REAL *g, fsl_allowed allowed, ptrdiff_t *bad)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += FSL_PIECE) {
        const int m = (int)(n - i < FSL_PIECE ? n - i : FSL_PIECE), at = FSL_NAME(fsl_bad_target)(y + i, m, allowed);
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
    FSL_EACH_LOSS(kind, a[i], FSL_KEEP)
}
