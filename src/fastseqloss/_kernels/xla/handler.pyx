"""Handler of custom calls of XLA on the CPU. Built for the baseline instruction set."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t, uint64_t

from fastseqloss._kernels.calls cimport Entry
from fastseqloss._kernels.xla.ffi cimport (
    EXECUTE, INVALID_ARGUMENT, STRING, Buffer, Buffers, Error, Frame, Span, answers_query, error_of, keep_subnormals,
    restore_mode,
)
from fastseqloss._kernels.xla.short_calls cimport N_LOSSES, run_short

cdef extern from "Python.h":
    void raise_pending "PyErr_Occurred"() except *  # the exception of a signal's handler that ended a short call

# Set by `handler_of`: the function to call, the class numpy.ndarray, and the dtypes of NumPy by the codes of XLA.
cdef object function = None
cdef object ndarray = None
cdef dict dtypes = {}
cdef Entry entries[N_LOSSES]


cdef object array_of(const Buffer *buffer, int flags):
    """Array of NumPy with the memory of a buffer."""
    cdef int64_t n = 1, k
    dtype = dtypes.get(buffer.dtype)
    if dtype is None:
        raise TypeError(f"an operand has the dtype with number {buffer.dtype} of XLA, which NumPy does not have")
    shape = tuple([buffer.dims[k] for k in range(buffer.rank)])
    for k in range(buffer.rank):
        n *= buffer.dims[k]
    if n == 0:
        return ndarray(shape, dtype)
    return ndarray(shape, dtype, PyMemoryView_FromMemory(<char *> buffer.data, n * dtype.itemsize, flags))


cdef tuple arrays_of(const Buffers *buffers, int flags):
    cdef int64_t k
    return tuple([array_of(buffers.buffers[k], flags) for k in range(buffers.size)])


cdef Error *run(const Frame *frame) noexcept with gil:
    """Call the function with the text of the first attribute, operands and results; an exception becomes an error."""
    cdef const Span *text
    try:
        raise_pending()
        if frame.attributes.size == 0 or frame.attributes.types[0] != STRING:
            raise TypeError("a custom call of fastseqloss has no text as its first attribute")
        text = <const Span *> frame.attributes.values[0]
        function(PyBytes_FromStringAndSize(text.ptr, text.len), arrays_of(&frame.args, PyBUF_READ),
                 arrays_of(&frame.results, PyBUF_WRITE))
    except BaseException as error:
        message = f"{type(error).__name__}: {error}".encode(errors="replace")
        return error_of(frame, message, INVALID_ARGUMENT)
    return NULL


cdef Error *handle(Frame *frame) noexcept nogil:
    """Entry of XLA, on any thread."""
    cdef uint64_t mode
    cdef Error *error
    if answers_query(frame) or frame.stage != EXECUTE:
        return NULL
    mode = keep_subnormals()
    error = NULL if run_short(frame, entries) else run(frame)
    restore_mode(mode)
    return error


def handler_of(called, array_class, dtypes_by_code, kernels):
    """Capsule for `jax.ffi.register_ffi_target` of the handler, which calls `called(text, operands, results)`.

    `kernels` are the entries of kernels for short calls, in the order of the values of `Plan.loss`.
    """
    global function, ndarray
    function, ndarray = called, array_class
    dtypes.update(dtypes_by_code)
    for k, kernel in enumerate(kernels):
        entries[k] = <Entry> PyCapsule_GetPointer(kernel, NULL)
    return PyCapsule_New(<void *> handle, b"xla._CUSTOM_CALL_TARGET", NULL)
