"""Interruption of long loops outside of parallel regions by signals such as Control-C."""

from cpython.exc cimport PyErr_CheckSignals

# Elements between two checks for signals: about ten milliseconds of work.
cdef enum:
    STRETCH = 1 << 22


cdef inline int advance(Py_ssize_t *done, Py_ssize_t n) except -1 nogil:
    """Count n more elements as done; check for signals every STRETCH elements and raise what a handler raises."""
    done[0] += n
    if done[0] >= STRETCH:
        done[0] = 0
        with gil:
            PyErr_CheckSignals()
    return 0
