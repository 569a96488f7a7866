"""Workspace of a call: one part shared by all workers, and one part for each worker."""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free

from fastseqloss._kernels.parallel.threads cimport return_block, take_block


cdef extern from "parallel/workspace.h" nogil:
    # Arithmetic of sizes in bytes, which saturates at SIZE_MAX.
    size_t size_sum "fsl_size_sum"(size_t a, size_t b) noexcept
    size_t size_product "fsl_size_product"(size_t a, size_t b) noexcept
    size_t round_up_size "fsl_round_up_size"(size_t n, size_t unit) noexcept

# Alignment of every array of a workspace in bytes: a cache line.
cdef enum:
    LINE = 64


cdef struct Workspace:
    void *memory       # allocated block, or NULL
    size_t size        # bytes of the block
    bint zeroed        # 1 if the block was all zeros at first
    uintptr_t common   # shared part
    uintptr_t own      # part of the first worker
    size_t stride      # bytes from one worker's part to the next


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline void *take(uintptr_t *cursor, size_t n, size_t n_bytes) noexcept nogil:
    """Next array of a layout, n rows or elements of n_bytes each. A cursor that begins at 0 ends at the total size."""
    cdef uintptr_t start = cursor[0]
    cursor[0] = size_sum(start, round_up_size(size_product(n, n_bytes), LINE))
    return <void *> start


cdef inline uintptr_t part_of(const Workspace *workspace, Py_ssize_t worker) noexcept nogil:
    return workspace.own + worker * workspace.stride


cdef inline bint allocate(Workspace *workspace, size_t common, size_t own, Py_ssize_t n_workers,
                          bint zeroed) noexcept nogil:
    """Allocate `common` bytes for all workers and `own` bytes for each one, zeros if `zeroed`; `release` frees them.

    Returns False if memory is exhausted.
    """
    common, own = round_up_size(common, LINE), round_up_size(own, LINE)
    workspace.size = size_sum(size_sum(common, size_product(own, n_workers)), LINE)
    workspace.zeroed = zeroed
    workspace.memory = calloc(workspace.size, 1) if zeroed else take_block(workspace.size)
    workspace.common = round_up_size(<uintptr_t> workspace.memory, LINE)
    workspace.own, workspace.stride = workspace.common + common, own
    return workspace.memory != NULL


cdef inline void release(Workspace *workspace) noexcept nogil:
    if workspace.zeroed:
        free(workspace.memory)
    else:
        return_block(workspace.memory, workspace.size)
    workspace.memory = NULL
