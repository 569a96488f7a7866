/* One name for float32 and float64, chosen by what an argument points to; fused code calls these. */
#ifndef FASTSEQLOSS_TYPED_H
#define FASTSEQLOSS_TYPED_H

#include "elements.h"

/* The sign makes a value of it: not all compilers look through a const. */
#define FSL_TYPED(pointer, name) _Generic(+*(pointer), float: name##_f32, double: name##_f64)
#define fsl_load(kind, from, stride, n, to) FSL_TYPED(to, fsl_load)(kind, from, stride, n, to)
#define fsl_store(kind, from, scale, n, to, stride) FSL_TYPED(from, fsl_store)(kind, from, scale, n, to, stride)

#endif
