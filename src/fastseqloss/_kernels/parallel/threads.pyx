"""Threads of loops, and the steps between regions. Built for the baseline instruction set."""

import threading

from libc.stdint cimport SIZE_MAX

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept  # the error stays set

cdef extern from "parallel/threads.h" nogil:
    int openmp_version "FSL_OPENMP"
    int max_threads "fsl_max_threads"() noexcept
    int n_processors "fsl_processors"() noexcept
    const char *runtime "fsl_openmp_runtime"() noexcept
    int watch_forks "fsl_watch_forks"() noexcept
    unsigned long main_thread "fsl_main_thread"
    bint in_main_thread "fsl_in_main_thread"() noexcept
    void begin_loop "fsl_begin"(Loop *loop, Py_ssize_t n, int most) noexcept
    bint open_region "fsl_open"(Loop *loop) noexcept
    void close_region "fsl_close"(Loop *loop) noexcept
    void set_passive "fsl_set_passive"(bint passive) noexcept
    void set_always_help "fsl_always_help"(bint always) noexcept
    void read_workers "fsl_read_workers"(int *most, int *running) noexcept

cdef extern from "parallel/blocks.h" nogil:
    void *take_kept "fsl_take_block"(size_t size) noexcept
    void return_kept "fsl_return_block"(void *memory, size_t size) noexcept

main_thread = threading.main_thread().ident
if watch_forks():
    raise MemoryError("no memory for handlers of forks")


cdef void begin(Loop *loop, Py_ssize_t n, int most) noexcept nogil:
    begin_loop(loop, n, most)


cdef bint enter(Loop *loop) noexcept nogil:
    if loop.workers:
        close_region(loop)
        # Signal handlers run in the main thread only, and a request for the GIL may end other threads at exit.
        if in_main_thread() and (loop.next < loop.n or loop.paused) and interrupted():
            loop.status = INTERRUPTED
            return False
    return open_region(loop)


cdef bint interrupted() noexcept nogil:
    with gil:
        return check_signals() != 0


cdef int check(Status status, size_t workspace) except -1:
    if status == NO_MEMORY:
        more = " or more" if workspace == SIZE_MAX else ""
        raise MemoryError(f"no memory for a workspace of {workspace} bytes{more}")
    return -1 if status == INTERRUPTED else 0


cdef void *take_block(size_t size) noexcept nogil:
    return take_kept(size)


cdef void return_block(void *memory, size_t size) noexcept nogil:
    return_kept(memory, size)


def openmp():
    """Version of OpenMP as yyyymm; 0 without OpenMP."""
    return openmp_version


def openmp_runtime():
    """File of the OpenMP runtime, "" if unknown."""
    return (<bytes> runtime()).decode()


def openmp_threads():
    """Threads that an OpenMP region would have; 1 within such a region and without OpenMP."""
    return max_threads()


def processors():
    """CPUs that this thread may run on."""
    return n_processors()


def wait_passively(bint passive):
    """Set whether threads of LLVM's runtime wait asleep. Other runtimes read this setting from the environment."""
    set_passive(passive)


def always_help(bint always):
    """Set whether calls use further workers even if these have slowed calls down on a busy machine. For tests."""
    set_always_help(always)


def workers():
    """Largest number of workers of a region in this process so far, and number of workers at work now."""
    cdef int most, running
    read_workers(&most, &running)
    return most, running
