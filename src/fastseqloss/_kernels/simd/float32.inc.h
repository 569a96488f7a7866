/* Templates (*.inc.h) included after this file are for float32. */
#undef FSL_REAL
#undef FSL_NAME
#undef FSL_EXP_NORMAL
#undef FSL_EXP_LEAST
#undef FSL_LARGE

#define FSL_REAL float
#define FSL_NAME(name) name##_f32
#define FSL_EXP_NORMAL fsl_exp_normal32
#define FSL_EXP_LEAST -88.0f /* its exponential is 0 or negligible */
#define FSL_LARGE 0x1p64 /* larger factors are applied in float64 */
