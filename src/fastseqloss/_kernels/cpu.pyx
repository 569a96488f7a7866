"""CPU level and compiler. Built for the baseline instruction set."""

cdef extern from "cpu.h":
    int cpu_level "fsl_cpu_level"()
    const char *compiler_name "FSL_COMPILER"


def x86_64_level():
    """x86-64 level that CPU and operating system support: 4, 3 or 2; 1 for less; 0 on other architectures."""
    return cpu_level()


def compiler():
    """Compiler of this build."""
    return (<bytes> compiler_name).decode()
