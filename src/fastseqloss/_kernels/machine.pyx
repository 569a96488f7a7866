"""What the CPU, the compiler and the OpenMP runtime are, and the team of threads. For the baseline instruction set."""

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept  # the error stays set

cdef extern from "machine.h":
    int cpu_level "fsl_cpu_level"()
    const char *compiler "FSL_COMPILER"
    int openmp_version "FSL_OPENMP"
    int max_threads "fsl_max_threads"()
    int n_processors "fsl_processors"()
    const char *runtime "fsl_openmp_runtime"()

cdef extern from "team.h" nogil:
    ctypedef void (*TeamWork "fsl_work")(void *job, Py_ssize_t first, Py_ssize_t last, int hand) noexcept nogil
    enum:
        FORKED "FSL_FORKED"
        INTERRUPTED "FSL_INTERRUPTED"
    int found_team "fsl_found_team"() noexcept
    int run "fsl_run"(TeamWork work, void *job, Py_ssize_t n, int threads, int (*interrupted)() noexcept) noexcept
    void set_patient "fsl_set_patient"(int patient) noexcept
    void sizes "fsl_team_size"(int *helpers, int *running) noexcept

if found_team():
    raise MemoryError("no memory for a team of threads")


cdef int interrupted() noexcept nogil:
    with gil:
        return check_signals()


cdef int run_items(Work work, void *job, Py_ssize_t n, int num_threads) except -1 nogil:
    cdef int outcome = run(work, job, n, num_threads, interrupted)
    if outcome == FORKED:
        with gil:
            raise RuntimeError("this process was forked by a signal's handler, in the middle of a call")
    return -1 if outcome == INTERRUPTED else 0


def x86_64_level():
    """4, 3, 2 for the x86-64 level that CPU and operating system support, 1 for less, 0 elsewhere."""
    return cpu_level()


def build():
    """Compiler and OpenMP version (yyyymm, 0 without) of this build."""
    return (<bytes> compiler).decode(), openmp_version


def openmp_threads():
    """Threads that a parallel region of OpenMP would have, one if this is in such a region."""
    return max_threads()


def processors():
    """CPUs that this thread may run on."""
    return n_processors()


def openmp_runtime():
    """File of the OpenMP runtime, "" if unknown."""
    return (<bytes> runtime()).decode()


def always_help(bint always):
    """Whether calls have helpers even where those have been of no use, the machine being busy. For tests."""
    set_patient(always)


def team():
    """Threads that were started to help, and how many threads are at work now, callers among them."""
    cdef int helpers, running
    sizes(&helpers, &running)
    return helpers, running
