/* The part of XLA's foreign function interface that a handler on the CPU needs, version 0.x.
 *
 * XLA declares it in xla/ffi/api/c_api.h, which comes with jaxlib. It keeps the fields that exist, and adds new ones at
 * the end of a structure: a test compares the offsets of these declarations with those of the installed jaxlib. */
#ifndef FASTSEQLOSS_FFI_H
#define FASTSEQLOSS_FFI_H

#include <stddef.h>
#include <stdint.h>

typedef struct fsl_ffi_error fsl_ffi_error;

enum { FSL_FFI_MAJOR = 0, FSL_FFI_METADATA = 1, FSL_FFI_EXECUTE = 3, FSL_FFI_BUFFER = 1 };
enum { FSL_FFI_ARRAY = 1, FSL_FFI_STRING = 4 }; /* kinds of attributes */
enum { FSL_FFI_PRED = 1, FSL_FFI_S32 = 4, FSL_FFI_F32 = 11, FSL_FFI_F64 = 12 };
enum { FSL_FFI_INVALID_ARGUMENT = 3 };

typedef struct fsl_ffi_extension {
    size_t struct_size;
    int type;
    struct fsl_ffi_extension *next;
} fsl_ffi_extension;

typedef struct fsl_ffi_version {
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    int major_version, minor_version;
} fsl_ffi_version;

typedef struct fsl_ffi_metadata {
    size_t struct_size;
    fsl_ffi_version api_version;
    uint32_t traits;
} fsl_ffi_metadata;

typedef struct fsl_ffi_metadata_extension {
    fsl_ffi_extension extension_base;
    fsl_ffi_metadata *metadata;
} fsl_ffi_metadata_extension;

typedef struct fsl_ffi_error_create_args {
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    const char *message;
    int errc;
} fsl_ffi_error_create_args;

typedef struct fsl_ffi_api {
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    fsl_ffi_version api_version;
    const void *internal_api;
    fsl_ffi_error *(*error_create)(fsl_ffi_error_create_args *);
} fsl_ffi_api;

typedef struct fsl_ffi_buffer {
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    int dtype;
    void *data;
    int64_t rank;
    int64_t *dims;
} fsl_ffi_buffer;

typedef struct fsl_ffi_span {
    const char *ptr;
    size_t len;
} fsl_ffi_span;

typedef struct fsl_ffi_array { /* an attribute */
    int dtype;
    size_t size;
    void *data;
} fsl_ffi_array;

typedef struct fsl_ffi_buffers { /* the arguments, or the results */
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    int64_t size;
    int *types;
    fsl_ffi_buffer **buffers;
} fsl_ffi_buffers;

typedef struct fsl_ffi_attributes { /* sorted by name */
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    int64_t size;
    int *types;
    fsl_ffi_span **names;
    void **values;
} fsl_ffi_attributes;

typedef struct fsl_ffi_frame {
    size_t struct_size;
    fsl_ffi_extension *extension_start;
    const fsl_ffi_api *api;
    void *context;
    int stage;
    fsl_ffi_buffers args, results;
    fsl_ffi_attributes attributes;
} fsl_ffi_frame;

/* Answers a query for the version of the interface if the call is one; returns 0 otherwise. XLA refuses the handler if
 * its major version is not ours. */
static inline int fsl_ffi_answers_query(fsl_ffi_frame *frame)
{
    if (!frame->extension_start || frame->extension_start->type != FSL_FFI_METADATA) return 0;
    fsl_ffi_metadata *const metadata = ((fsl_ffi_metadata_extension *)frame->extension_start)->metadata;
    metadata->api_version.struct_size = sizeof(fsl_ffi_version);
    metadata->api_version.extension_start = NULL;
    metadata->api_version.major_version = FSL_FFI_MAJOR;
    metadata->api_version.minor_version = frame->api ? frame->api->api_version.minor_version : 1;
    metadata->traits = 0;
    return 1;
}

static inline fsl_ffi_error *fsl_ffi_error_of(const fsl_ffi_frame *frame, const char *message, int code)
{
    fsl_ffi_error_create_args args = {sizeof args, NULL, message, code};
    return frame->api->error_create(&args);
}

/* Mode of the floating-point unit. XLA's threads flush subnormal numbers to zero; results must be those of NumPy. The
 * threads of OpenMP regions inherit the mode of the thread that starts them. */
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
static inline uint64_t fsl_keep_subnormals(void)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode & ~0x8040u); /* flush to zero, denormals are zeros */
    return mode;
}
static inline void fsl_restore_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }
#elif defined(__aarch64__) && defined(__GNUC__)
static inline uint64_t fsl_keep_subnormals(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode & ~((uint64_t)1 << 24)));
    return mode;
}
static inline void fsl_restore_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
static inline uint64_t fsl_keep_subnormals(void) { return 0; }
static inline void fsl_restore_mode(uint64_t mode) { (void)mode; }
#endif

#endif
