"""Calls of kernels by C code without the GIL, with arrays that have no gaps.

A kernel that can be called so has an object `entry`, a capsule with the address of an `Entry`.
"""

from libc.stdint cimport int64_t

from fastseqloss._kernels.parallel.threads cimport Status


cdef struct Call:
    # Checked arguments. Losses of steps have one sequence, whose frames are the steps.
    const void *x             # scores [B, T, V]
    void *g                   # gradient, or NULL
    bint doubles              # float64, else float32
    int input
    Py_ssize_t n, n_frames, n_classes
    const int64_t *integers   # table of sequences and labels; targets [T]
    Py_ssize_t blank
    const double *scale       # [B]
    double *loss              # [B], or [T]; may be the memory of targets
    int num_threads


ctypedef Status (*Entry)(const Call *call) noexcept nogil
