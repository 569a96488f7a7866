"""What the CPU, the compiler and the OpenMP runtime are. Built for the baseline instruction set."""

cdef extern from "machine.h":
    int cpu_level "fsl_cpu_level"()
    const char *compiler "FSL_COMPILER"
    int openmp_version "FSL_OPENMP"
    int max_threads "fsl_max_threads"()
    int n_processors "fsl_processors"()
    const char *runtime "fsl_openmp_runtime"()


def x86_64_level():
    """4, 3, 2 for the x86-64 level that CPU and operating system support, 1 for less, 0 elsewhere."""
    return cpu_level()


def build():
    """Compiler and OpenMP version (yyyymm, 0 without) of this build."""
    return (<bytes> compiler).decode(), openmp_version


def openmp_threads():
    """Threads OpenMP would start, never more than the CPUs this thread may use."""
    return min(max_threads(), n_processors())


def processors():
    """CPUs this thread may use."""
    return n_processors()


def openmp_runtime():
    """File of the OpenMP runtime, "" if unknown."""
    return (<bytes> runtime()).decode()
