"""Arrays of any stored type, described by address, strides and kind."""

from cython cimport floating
from libc.string cimport memset

from cpython.buffer cimport PyBUF_STRIDED, PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer

from fastseqloss._kernels.codes cimport FLOAT32, FLOAT64, Stored


cdef extern from "simd/elements.h" nogil:
    void load_f32 "fsl_load_f32"(Stored kind, const char *source, Py_ssize_t stride, Py_ssize_t n, float *to) noexcept
    void load_f64 "fsl_load_f64"(Stored kind, const char *source, Py_ssize_t stride, Py_ssize_t n, double *to) noexcept
    void store_f32 "fsl_store_f32"(Stored kind, const float *source, float scale, Py_ssize_t n, char *to,
                                   Py_ssize_t stride) noexcept
    void store_f64 "fsl_store_f64"(Stored kind, const double *source, double scale, Py_ssize_t n, char *to,
                                   Py_ssize_t stride) noexcept


cdef inline void load(Stored kind, const char *source, Py_ssize_t stride, Py_ssize_t n, floating *to) noexcept nogil:
    """Copy n elements of an array, `stride` bytes apart, into a buffer."""
    if floating is float:
        load_f32(kind, source, stride, n, to)
    else:
        load_f64(kind, source, stride, n, to)


cdef inline void store(Stored kind, const floating *source, floating scale, Py_ssize_t n, char *to,
                       Py_ssize_t stride) noexcept nogil:
    """Copy n elements of a buffer, times scale, into an array."""
    if floating is float:
        store_f32(kind, source, scale, n, to, stride)
    else:
        store_f64(kind, source, scale, n, to, stride)


cdef struct Array:
    # At most four axes; strides in bytes. data is NULL if no array is given.
    char *data
    Py_ssize_t shape[4]
    Py_ssize_t strides[4]
    Stored kind


cdef inline Array acquire(object array, int kind, Py_buffer *held, bint writable) except *:
    """View an array of at most four axes, or None. Its buffer is held until PyBuffer_Release(held)."""
    cdef Array view
    cdef int i
    view.data, view.kind = NULL, <Stored> kind
    memset(held, 0, sizeof(Py_buffer))
    if array is not None:
        PyObject_GetBuffer(array, held, PyBUF_STRIDED if writable else PyBUF_STRIDED_RO)
        assert held.ndim <= 4
        view.data = <char *> held.buf
        for i in range(held.ndim):
            view.shape[i], view.strides[i] = held.shape[i], held.strides[i]
    return view


cdef enum:
    MOST_ARRAYS = 14  # of a call


cdef inline char *row_of(const Array *array, Py_ssize_t b, Py_ssize_t t) noexcept nogil:
    """Address of row t of sequence b, or NULL without an array."""
    return array.data + b * array.strides[0] + t * array.strides[1] if array.data != NULL else NULL


cdef struct Held:
    # Buffers that a call holds; n is to be initialised with 0.
    Py_buffer buffers[MOST_ARRAYS]
    int n


cdef inline Array hold(Held *held, object array, int kind, bint writable) except *:
    """View an array of at most four axes, or None, until `let_go`."""
    held.n += 1
    return acquire(array, kind, &held.buffers[held.n - 1], writable)


cdef inline int hold_all(Held *held, tuple arrays, int kind, int n_inputs, Array *views) except -1:
    """View arrays, or None, until `let_go`; those after the first `n_inputs` are written to."""
    cdef int k
    held.n = 0
    for k in range(len(arrays)):
        views[k] = hold(held, arrays[k], kind, k >= n_inputs)
    return 0


cdef inline void let_go(Held *held) noexcept:
    cdef int i
    for i in range(held.n):
        PyBuffer_Release(&held.buffers[i])
