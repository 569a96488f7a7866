"""Names of the codes, in the order of their values."""

# What may be asked for as `input`.
INPUTS = tuple(kind.name.lower() for kind in Input)
# Types of which kernels read arrays as they are stored.
STORED = tuple(kind.name.lower() for kind in Stored)
