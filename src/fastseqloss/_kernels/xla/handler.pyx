"""Handler of custom calls of XLA on the CPU. Built for the baseline instruction set."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint64_t

cdef extern from "xla/ffi.h" nogil:
    int STRING "FSL_FFI_STRING"
    int EXECUTE "FSL_FFI_EXECUTE"
    int INVALID_ARGUMENT "FSL_FFI_INVALID_ARGUMENT"
    ctypedef struct Error "fsl_ffi_error":
        pass
    ctypedef struct Buffer "fsl_ffi_buffer":
        int dtype
        void *data
        int64_t rank
        int64_t *dims
    ctypedef struct Buffers "fsl_ffi_buffers":
        int64_t size
        Buffer **buffers
    ctypedef struct Span "fsl_ffi_span":
        const char *ptr
        size_t len
    ctypedef struct Attributes "fsl_ffi_attributes":
        int64_t size
        int *types
        void **values
    ctypedef struct Frame "fsl_ffi_frame":
        int stage
        Buffers args, results
        Attributes attributes
    bint answers_query "fsl_ffi_answers_query"(Frame *frame) noexcept
    Error *error_of "fsl_ffi_error_of"(const Frame *frame, const char *message, int code) noexcept
    uint64_t keep_subnormals "fsl_keep_subnormals"() noexcept
    void restore_mode "fsl_restore_mode"(uint64_t mode) noexcept

# Set by `handler_of`: the function to call, the class numpy.ndarray, and the dtypes of NumPy by the codes of XLA.
cdef object function = None
cdef object ndarray = None
cdef dict dtypes = {}


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
    """Call the function with the text of the only attribute, operands and results; an exception becomes an error."""
    cdef const Span *text
    try:
        if frame.attributes.size != 1 or frame.attributes.types[0] != STRING:
            raise TypeError(f"a custom call of fastseqloss has {frame.attributes.size} attributes; allowed: a text")
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
    error = run(frame)
    restore_mode(mode)
    return error


def handler_of(called, array_class, dtypes_by_code):
    """Capsule for `jax.ffi.register_ffi_target` of the handler, which calls `called(text, operands, results)`."""
    global function, ndarray
    function, ndarray = called, array_class
    dtypes.update(dtypes_by_code)
    return PyCapsule_New(<void *> handle, b"xla._CUSTOM_CALL_TARGET", NULL)
