/* Templates (*.inc.h) included after this file are for float64. */
#undef FSL_REAL
#undef FSL_NAME
#undef FSL_EXP_NORMAL
#undef FSL_EXP_LEAST
#undef FSL_LARGE

#define FSL_REAL double
#define FSL_NAME(name) name##_f64
#define FSL_EXP_NORMAL fsl_exp_normal64
#define FSL_EXP_LEAST -709.0 /* its exponential is 0 or negligible */
#define FSL_LARGE INFINITY /* larger factors are applied in float64 */
