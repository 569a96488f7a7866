/* Sizes of memory in bytes. They stay at SIZE_MAX, which no allocation can have, where they would pass it: arrays
 * that share their elements (stride 0) have lengths whose products no memory could hold. */
#ifndef FASTSEQLOSS_WORKSPACE_H
#define FASTSEQLOSS_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

static inline size_t fsl_size_sum(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static inline size_t fsl_size_product(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }

/* To a multiple of `unit`. */
static inline size_t fsl_round_up_size(size_t n, size_t unit)
{
    const size_t rest = n % unit;
    return rest && n < SIZE_MAX ? fsl_size_sum(n, unit - rest) : n;
}

#endif
