/* Memory of workspaces. One block is kept from call to call: allocators return large blocks to the system, and the
 * page faults of the next call, which all workers take at once, may cost more than its arithmetic. */
#ifndef FASTSEQLOSS_BLOCKS_H
#define FASTSEQLOSS_BLOCKS_H

#include <stdlib.h>

#include "workspace.h"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define fsl_exchange(pointer, value) _InterlockedExchangePointer(pointer, value)
#else
#define fsl_exchange(pointer, value) __atomic_exchange_n(pointer, value, __ATOMIC_ACQ_REL)
#endif

/* Sizes in bytes of the blocks that may be kept. Allocators reuse smaller ones. AddressSanitizer knows the bounds of
 * blocks that are not kept. */
#define FSL_LEAST_KEPT ((size_t)1 << 20)
#if defined(__SANITIZE_ADDRESS__)
#define FSL_MOST_KEPT ((size_t)0)
#else
#define FSL_MOST_KEPT ((size_t)1 << 27)
#endif

/* The size of a block, in front of its memory; a cache line, which keeps the alignment. */
typedef union fsl_block {
    size_t size;
    char line[64];
} fsl_block;

static void *volatile fsl_kept = NULL;

/* Returns memory of `size` bytes, or NULL; fsl_return_block takes it back with the same size. */
static void *fsl_take_block(size_t size)
{
    if (size < FSL_LEAST_KEPT) return malloc(size);
    fsl_block *block = (fsl_block *)fsl_exchange(&fsl_kept, NULL);
    if (!block || block->size < size) {
        free(block);
        block = (fsl_block *)malloc(fsl_size_sum(size, sizeof(fsl_block)));
        if (!block) return NULL;
        block->size = size;
    }
    return block + 1;
}

static void fsl_return_block(void *memory, size_t size)
{
    if (!memory || size < FSL_LEAST_KEPT) {
        free(memory);
        return;
    }
    fsl_block *const block = (fsl_block *)memory - 1;
    free(block->size > FSL_MOST_KEPT ? (void *)block : fsl_exchange(&fsl_kept, block));
}

#endif
