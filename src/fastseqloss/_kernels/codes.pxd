"""Codes passed from Python to kernels: the kind of the scores and the element type of an array."""

cdef enum Input:
    LOGITS
    LOG_PROBS
    PROBS


cdef extern from "simd/elements.h" nogil:
    cdef enum Stored "fsl_stored":
        FLOAT32 "FSL_FLOAT32"
        FLOAT64 "FSL_FLOAT64"
        FLOAT16 "FSL_FLOAT16"
        BFLOAT16 "FSL_BFLOAT16"
        INT8 "FSL_INT8"
        UINT8 "FSL_UINT8"
        INT32 "FSL_INT32"
        INT64 "FSL_INT64"
