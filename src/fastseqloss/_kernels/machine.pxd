"""What kernels ask the machine for: threads."""

# Items first to last - 1 of a job; hand: from 0 on, below num_threads, no two at once with the same.
ctypedef void (*Work)(void *job, Py_ssize_t first, Py_ssize_t last, int hand) noexcept nogil

# All n items, in any order, on at most num_threads threads; raises what a signal's handler raises (KeyboardInterrupt).
cdef int run_items(Work work, void *job, Py_ssize_t n, int num_threads) except -1 nogil
