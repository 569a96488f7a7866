"""Entry points to the row primitives for tests; the losses cimport them from softmax.pxd."""

from cython cimport floating

from fastseqloss._kernels.simd.softmax cimport exp32, exp64, log32, log64, softmax_row


def exp(const floating[::1] x, floating[::1] out):
    """out = exp(x)."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            if floating is float:
                out[i] = exp32(x[i])
            else:
                out[i] = exp64(x[i])


def log(const floating[::1] x, floating[::1] out):
    """out = log(x)."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            if floating is float:
                out[i] = log32(x[i])
            else:
                out[i] = log64(x[i])


def softmax_rows(const floating[:, ::1] logits, floating[:, ::1] out, double[::1] row_max, double[::1] row_sum,
                 double scale):
    """out = scale * softmax(logits), row by row; out may be logits."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(logits.shape[0] if logits.shape[1] else 0):
            softmax_row(&logits[i, 0], logits.shape[1], &out[i, 0], scale,
                        logits.shape[1], &row_max[i], &row_sum[i])
