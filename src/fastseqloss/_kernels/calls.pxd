"""Calls of kernels by C code without the GIL.

A kernel that can be called so has an object `entry`, a capsule with the address of an `Entry`.
"""

from libc.stdint cimport int64_t

from fastseqloss._kernels.parallel.threads cimport Status


cdef enum:
    PART = 8192  # numbers whose losses are added to one partial sum


cdef struct Call:
    # Checked arguments. Losses of steps have one sequence, whose frames are the steps, and arrays without gaps.
    const void *x             # scores [B, T, V]
    void *g                   # gradient, or NULL
    bint doubles              # float64, else float32
    int input
    Py_ssize_t n, n_frames, n_classes
    const int64_t *integers   # table of sequences and labels; targets [T]
    const double *scale       # [B]
    double *loss              # [B], or [T]; may be the memory of targets; or, of numbers, zeros for partial sums
    int num_threads
    double parameter          # of a loss of steps: its margin, or gamma, or what its kernel makes of it
    # lattices
    bint with_grad, in_place, by_state
    Py_ssize_t blank
    Py_ssize_t x_steps[2]     # elements from one sequence, or frame, to the next
    Py_ssize_t g_steps[2]
    Py_ssize_t g_width        # elements of a frame of the gradient
    const int64_t *order      # of the sequences, or NULL
    double *occupation        # of CTC: sums of the posteriors of each label [B, 6, n_labels] are returned, or NULL
    Py_ssize_t n_labels
    # losses of numbers
    const void *y             # targets, of `y_size` bytes each
    int y_kind
    Py_ssize_t y_size
    int which, allowed        # codes of the loss and of the targets allowed
    double more[2]
    int64_t *bad              # room for each part of the numbers; the first becomes -1 if all targets are allowed
    # output
    size_t workspace          # bytes
    bint no_memory            # for the exact sums of a sequence


ctypedef Status (*Entry)(Call *call) noexcept nogil
