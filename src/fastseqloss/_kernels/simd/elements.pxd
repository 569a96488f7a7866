"""Arrays of any stored type, seen by their address, strides and kind."""

from libc.string cimport memset

from cpython.buffer cimport PyBUF_STRIDED, PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer


cdef extern from "simd/elements.h" nogil:
    ctypedef enum Stored "fsl_stored":
        FLOAT32 "FSL_FLOAT32"
        FLOAT64 "FSL_FLOAT64"
        FLOAT16 "FSL_FLOAT16"
        BFLOAT16 "FSL_BFLOAT16"


cdef struct Array:
    # Three axes; strides in bytes. data is NULL if there is none.
    char *data
    Py_ssize_t shape[3]
    Py_ssize_t strides[3]
    Stored kind


cdef inline Array acquire(object array, int kind, Py_buffer *held, bint writable) except *:
    """View an array of three axes, or None. Its buffer is held until PyBuffer_Release(held)."""
    cdef Array view
    cdef int i
    view.data, view.kind = NULL, <Stored> kind
    memset(held, 0, sizeof(Py_buffer))
    if array is not None:
        PyObject_GetBuffer(array, held, PyBUF_STRIDED if writable else PyBUF_STRIDED_RO)
        assert held.ndim == 3
        view.data = <char *> held.buf
        for i in range(3):
            view.shape[i], view.strides[i] = held.shape[i], held.strides[i]
    return view


cdef struct Held:
    # Buffers that a call holds. Zeros before the first.
    Py_buffer buffers[4]
    int n


cdef inline Array hold(Held *held, object array, int kind, bint writable) except *:
    """View an array of three axes, or None, until `let_go`."""
    held.n += 1
    return acquire(array, kind, &held.buffers[held.n - 1], writable)


cdef inline void let_go(Held *held):
    cdef int i
    for i in range(held.n):
        PyBuffer_Release(&held.buffers[i])
