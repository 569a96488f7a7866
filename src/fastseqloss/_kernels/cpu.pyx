"""CPU level and compiler. For the baseline instruction set."""

cdef extern from "cpu.h":
    int cpu_level "fsl_cpu_level"()
    const char *compiler_name "FSL_COMPILER"


def x86_64_level():
    """4, 3, 2 for the x86-64 level that CPU and operating system support, 1 for less, 0 elsewhere."""
    return cpu_level()


def compiler():
    """Compiler of this build."""
    return (<bytes> compiler_name).decode()
