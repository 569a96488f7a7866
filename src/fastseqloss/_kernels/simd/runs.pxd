"""Runs of evenly spaced elements of arrays [B, outer, inner]: read in place or through a buffer, and written."""

from cython cimport floating

from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, Stored, load, store


cdef struct Run:
    # Evenly spaced elements of an array.
    char *data
    Py_ssize_t stride
    Py_ssize_t n


cdef inline Run run_from(const Array *array, Py_ssize_t b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Run of at most n elements from `first` on; indices beyond a sequence continue in the next one."""
    cdef Py_ssize_t inner = array.shape[2], row = first // inner if first >= inner else 0, i = first - row * inner
    cdef Run run
    if row >= array.shape[1]:
        b, row = b + row // array.shape[1], row % array.shape[1]
    run.data = array.data + b * array.strides[0] + row * array.strides[1] + i * array.strides[2]
    run.stride = array.strides[2]
    run.n = min(n, inner - i)
    return run


cdef inline Run run_through(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                            Py_ssize_t n) noexcept nogil:
    """Run through n_sequences, which extends beyond the first one if all elements are evenly spaced."""
    cdef Run run = run_from(array, b, first, n)
    if n_sequences > 1 and run.n == n and (n == 1 or array.strides[0] == n * run.stride):
        run.stride = array.strides[0] // n
        run.n = n_sequences * n
    return run


cdef inline bint in_place(const Array *array, Run run, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Return True if the run has n contiguous floating-point numbers of this size."""
    cdef Stored kind = FLOAT32 if size == 4 else FLOAT64
    return array.kind == kind and run.n == n and run.stride == size


cdef inline bint is_whole(const Array *array, Stored kind, Py_ssize_t size) noexcept nogil:
    """Return True if the `size` elements of a sequence are contiguous, or if the array is not given."""
    return array.data == NULL or (array.kind == kind and array.shape[1] == 1 and array.shape[2] == size
                                  and array.strides[2] == (4 if kind == FLOAT32 else 8))


cdef inline const floating *read(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first,
                                 Py_ssize_t n, floating *buffer) noexcept nogil:
    """Elements first to first + n - 1 of each sequence: in place if possible, otherwise copied to the buffer."""
    cdef Run run = run_through(array, b, n_sequences, first, n)
    cdef Py_ssize_t i = 0, total = n_sequences * n
    if in_place(array, run, total, sizeof(floating)):
        return <const floating *> run.data
    while i < total:
        if run.n < total:
            run = run_from(array, b + i // n, first + i % n, n - i % n)
        load(array.kind, run.data, run.stride, run.n, buffer + i)
        i += run.n
    return buffer


cdef inline void write(const Array *array, Py_ssize_t b, Py_ssize_t n_sequences, Py_ssize_t first, Py_ssize_t n,
                       const floating *values) noexcept nogil:
    """Copy values to elements first to first + n - 1 of each sequence."""
    cdef Run run = run_through(array, b, n_sequences, first, n)
    cdef Py_ssize_t i = 0, total = n_sequences * n
    while i < total:
        if run.n < total:
            run = run_from(array, b + i // n, first + i % n, n - i % n)
        store(array.kind, values + i, 1, run.n, run.data, run.stride)
        i += run.n
