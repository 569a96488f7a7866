/* Arithmetic of sizes in bytes, which saturates at SIZE_MAX, a size that no allocation can have: the product of the
 * lengths of an array with shared elements (stride 0) may exceed any memory. */
#ifndef FASTSEQLOSS_WORKSPACE_H
#define FASTSEQLOSS_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

static inline size_t fsl_size_sum(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static inline size_t fsl_size_product(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }

/* Round up to a multiple of `unit`. */
static inline size_t fsl_round_up_size(size_t n, size_t unit)
{
    const size_t rest = n % unit;
    return rest && n < SIZE_MAX ? fsl_size_sum(n, unit - rest) : n;
}

#endif
