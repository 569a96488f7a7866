# Names allowed for `input`, by their codes.
INPUTS = {LOGITS: "logits", LOG_PROBS: "log_probs", PROBS: "probs"}
# Element types that kernels read without a conversion of the array, by their codes.
STORED = {
    FLOAT32: "float32",
    FLOAT64: "float64",
    FLOAT16: "float16",
    BFLOAT16: "bfloat16",
    INT8: "int8",
    UINT8: "uint8",
    INT32: "int32",
    INT64: "int64",
}
