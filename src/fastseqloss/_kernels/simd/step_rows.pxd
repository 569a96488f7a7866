"""Rows of scores, one for each step of a batch: the arguments of kernels of losses at every step."""

from libc.stdint cimport int64_t

from fastseqloss._kernels.calls cimport Call
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Held, hold, row_of
from fastseqloss._kernels.parallel.workspace cimport size_product


cdef struct StepRows:
    Array x, g  # scores [B, R, V]; gradient or NULL
    Py_ssize_t n_steps, n_rows, n_classes  # steps of the batch, rows of a sequence, classes of a row
    Py_ssize_t size  # bytes of a score
    bint native  # float32 or float64: scores are read and written in place
    size_t row  # bytes of a row in the type of the arithmetic: float32 for half precision
    const int64_t *targets  # -1: the step does not count
    const double *scale  # of each sequence or step; 0 for one that does not count
    bint by_step  # each step has a scale
    const double *weight  # of each class, or NULL
    double *loss  # of each step


cdef inline void hold_rows(StepRows *rows, Held *held, object scores, int kind, const int64_t[::1] targets,
                           const double[::1] scale, const double[::1] class_weight, double[::1] loss,
                           object grad) except *:
    """View the arguments of a kernel, with one step or more."""
    rows.x = hold(held, scores, kind, False)
    rows.size = held.buffers[held.n - 1].itemsize
    rows.g = hold(held, grad, kind, True)
    rows.n_steps, rows.n_rows, rows.n_classes = loss.shape[0], rows.x.shape[1], rows.x.shape[2]
    rows.native = rows.x.kind == FLOAT32 or rows.x.kind == FLOAT64
    rows.row = size_product(rows.n_classes, sizeof(double) if rows.x.kind == FLOAT64 else sizeof(float))
    rows.targets, rows.scale, rows.loss = &targets[0], &scale[0], &loss[0]
    rows.weight = &class_weight[0] if class_weight is not None else NULL
    rows.by_step = scale.shape[0] != rows.x.shape[0]


cdef inline void set_rows(StepRows *rows, const Call *call) noexcept nogil:
    """Set the arguments of a call by C code; all else is 0 on entry."""
    rows.x.data, rows.g.data = <char *> call.x, <char *> call.g
    rows.x.kind, rows.size = (FLOAT64, sizeof(double)) if call.doubles else (FLOAT32, sizeof(float))
    rows.n_steps = rows.n_rows = call.n_frames
    rows.n_classes, rows.row, rows.native = call.n_classes, call.n_classes * rows.size, True
    rows.x.strides[1] = rows.g.strides[1] = rows.row
    rows.targets, rows.scale, rows.loss = call.integers, call.scale, call.loss


cdef inline double scale_of(const StepRows *rows, Py_ssize_t b, Py_ssize_t n) noexcept nogil:
    """Scale of step n of the batch, in sequence b."""
    return rows.scale[n if rows.by_step else b]


cdef inline const char *scores_of(const StepRows *rows, Py_ssize_t b, Py_ssize_t r) noexcept nogil:
    return row_of(&rows.x, b, r)


cdef inline char *gradient_of(const StepRows *rows, Py_ssize_t b, Py_ssize_t r) noexcept nogil:
    """Address of the gradient of a row, or NULL."""
    return row_of(&rows.g, b, r)
