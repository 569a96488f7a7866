"""Loops over items in OpenMP regions. A kernel's loop is

    begin(&loop, n_items, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers):
            work(..., &loop, threadid())
    return loop.status

and `work` takes items until none are left for its worker:

    cdef Py_ssize_t first, last = 0
    while next_items(loop, worker, &first, &last):
        ...

Where items may take longer than a region should, `work` looks at `is_over` after each part of an item, and pauses it:
it keeps what the item needs, calls `pause_item` and returns. A worker of a later region calls `resume` and continues.
"""

cdef extern from "parallel/region.h" nogil:
    ctypedef enum Status "fsl_status":
        DONE "FSL_DONE"
        NO_MEMORY "FSL_NO_MEMORY"
        INTERRUPTED "FSL_INTERRUPTED"
    ctypedef struct Loop "fsl_loop":
        long long n, next, paused
        long long portion  # items that a worker takes at once
        int workers  # of the next region, including the calling thread, which is worker 0
        Status status
    bint next_items "fsl_next_items"(Loop *loop, int worker, Py_ssize_t *first, Py_ssize_t *last) noexcept
    bint is_over "fsl_is_over"(const Loop *loop) noexcept
    bint resume "fsl_resume"(Loop *loop, int worker) noexcept
    void pause_item "fsl_pause_item"(Loop *loop, int worker) noexcept
    # Counters of items that wait for earlier ones.
    ctypedef long long Counter "fsl_atomic"
    long long add "fsl_add"(Counter *counter, long long n) noexcept  # returns the value before
    void set_counter "fsl_write"(Counter *counter, long long n) noexcept
    void wait_for "fsl_await"(Counter *counter, long long value) noexcept

# Begins a loop over n items with at most `most` workers.
cdef void begin(Loop *loop, Py_ssize_t n, int most) noexcept nogil

# Returns True if a region follows: items are left, and no signal handler has raised an exception.
cdef bint enter(Loop *loop) noexcept nogil

# Raises the exception of a status; requires the GIL and runs in the calling thread.
cdef int check(Status status, size_t workspace) except -1

# Returns memory of a workspace, which need not be zero, or NULL; return_block takes it back with the same size.
cdef void *take_block(size_t size) noexcept nogil
cdef void return_block(void *memory, size_t size) noexcept nogil
