"""Control-C in the middle of a long loop outside of parallel regions."""

from cpython.exc cimport PyErr_CheckSignals

# Elements between looks for a signal: some ten milliseconds of work.
cdef enum:
    STRETCH = 1 << 22


cdef inline int advance(Py_ssize_t *done, Py_ssize_t n) except -1 nogil:
    """Count n more elements as done. Now and then look for a signal, and raise what its handler raises."""
    done[0] += n
    if done[0] >= STRETCH:
        done[0] = 0
        with gil:
            PyErr_CheckSignals()
    return 0
