from libc.stdint cimport int64_t


cdef Py_ssize_t list_paths(const double *alpha, Py_ssize_t stride, Py_ssize_t n_frames, Py_ssize_t n_tags,
                           const double *into, Py_ssize_t between, Py_ssize_t n_best, Py_ssize_t path_size,
                           int64_t *paths) noexcept nogil
