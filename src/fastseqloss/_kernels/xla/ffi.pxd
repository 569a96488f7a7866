"""The part of XLA's foreign function interface that the handler needs."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "xla/ffi.h" nogil:
    int ARRAY "FSL_FFI_ARRAY"
    int STRING "FSL_FFI_STRING"
    int EXECUTE "FSL_FFI_EXECUTE"
    int INVALID_ARGUMENT "FSL_FFI_INVALID_ARGUMENT"
    int PRED "FSL_FFI_PRED"
    int S32 "FSL_FFI_S32"
    int F32 "FSL_FFI_F32"
    int F64 "FSL_FFI_F64"
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
    ctypedef struct Numbers "fsl_ffi_array":
        size_t size
        void *data
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
