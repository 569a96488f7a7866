"""Names of the codes, in the order of their values."""

# Names allowed for `input`.
INPUTS = tuple(kind.name.lower() for kind in Input)
# Element types that kernels read without a conversion of the array.
STORED = tuple(kind.name.lower() for kind in Stored)
