"""Loops over items in OpenMP regions. A kernel's loop is

    begin(&loop, n_items, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers):
            work(..., &loop, threadid())
    return loop.status

and `work` takes items until there are none for it:

    cdef Py_ssize_t first, last = 0
    while next_items(loop, worker, &first, &last):
        ...
"""

cdef extern from "parallel/region.h" nogil:
    ctypedef enum Status "fsl_status":
        DONE "FSL_DONE"
        NO_MEMORY "FSL_NO_MEMORY"
        INTERRUPTED "FSL_INTERRUPTED"
    ctypedef struct Loop "fsl_loop":
        long long n, next
        int workers  # of the region that follows, the caller, worker 0, among them
        Status status
    bint next_items "fsl_next_items"(Loop *loop, int worker, Py_ssize_t *first, Py_ssize_t *last) noexcept

# A loop over n items with at most so many workers.
cdef void begin(Loop *loop, Py_ssize_t n, int most) noexcept nogil

# Whether a region follows: there are items left, and no handler of a signal has raised an exception.
cdef bint enter(Loop *loop) noexcept nogil

# Raises what a status stands for: with the GIL, in the thread that called the kernel.
cdef int check(Status status, size_t workspace) except -1
