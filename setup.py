"""The extension modules: every kernel, once per instruction set level. All else is in pyproject.toml.

FASTSEQLOSS_DEBUG=1 builds with bounds checks, assertions and no optimisation to speak of. FASTSEQLOSS_LEVELS builds for
some of the levels only, x86_64_v3 say: less to compile, for a machine or a check that needs no other.
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# Built for every level.
KERNELS = ["softmax", "ctc", "ctc_alignment", "cross_entropy", "hinge", "pointwise", "crf", "policy"]
BASELINE = ["arguments", "machine"]
FOLDER = Path("src/fastseqloss/_kernels")
DEBUG = os.environ.get("FASTSEQLOSS_DEBUG", "0") not in ("", "0")
JOBS = os.cpu_count() or 1
MSVC = sys.platform == "win32"
X86_64 = platform.machine().lower() in ("x86_64", "amd64")

if X86_64 and not MSVC:
    LEVELS = {f"x86_64_v{n}": [f"-march=x86-64-v{n}"] for n in (2, 3, 4)}
elif X86_64:
    LEVELS = {"x86_64_v2": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}
else:
    LEVELS = {"baseline": []}
if os.environ.get("FASTSEQLOSS_LEVELS"):
    LEVELS = {level: LEVELS[level] for level in os.environ["FASTSEQLOSS_LEVELS"].split(",")}

# Strict IEEE semantics: infinities, NaN and the order of additions keep their meaning. The loops that
# may be reordered say so themselves (omp simd reduction).
if MSVC:
    FLAGS = ["/O2", "/fp:precise"]
else:
    FLAGS = ["-O1", "-g"] if DEBUG else ["-O3", "-g0"]
    FLAGS += ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-Wno-unknown-pragmas"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": False,
    "freethreading_compatible": True,
}


def extensions():
    """Every extension module; one call of cythonize per level, since the module name is in the C source."""
    modules = []
    for level, flags in {**LEVELS, "": []}.items():
        names = KERNELS if level else BASELINE
        level_extensions = [
            Extension(
                f"fastseqloss._kernels.{name}" + (f"_{level}" if level else ""),
                [str(FOLDER / f"{name}.pyx")],
                include_dirs=[str(FOLDER)],
                depends=[str(path) for path in FOLDER.glob("*.[hp]*")],
                extra_compile_args=FLAGS + flags,
            )
            for name in names
        ]
        modules += cythonize(
            level_extensions,
            build_dir=str(Path("build/cython") / (level or "baseline") / ("debug" if DEBUG else "release")),
            include_path=["src"],
            compiler_directives=DIRECTIVES,
            nthreads=JOBS if sys.platform == "linux" else 0,  # elsewhere processes would run this file again
        )
    return modules


class BuildWithOpenMP(build_ext):
    """Adds the OpenMP flags if the compiler takes them; says so if not. Compiles on all processors."""

    def finalize_options(self):
        """Set the number of compilers, unless it was given."""
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def build_extensions(self):
        """Build, with OpenMP where it is to be had."""
        compile_args, link_args = (["/openmp"], []) if MSVC else (["-fopenmp"], ["-fopenmp"])
        if self.openmp_works(compile_args, link_args):
            for extension in self.extensions:
                extension.extra_compile_args += compile_args
                extension.extra_link_args += link_args
        else:
            print("fastseqloss: this compiler has no OpenMP; building for one thread", file=sys.stderr)
        super().build_extensions()

    def openmp_works(self, compile_args, link_args):
        """Whether a program that asks for the number of threads compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "openmp.c"
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_args)
                self.compiler.link_executable(objects, str(Path(folder) / "openmp"), extra_postargs=link_args)
            except (CompileError, LinkError):
                return False
        return True


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWithOpenMP})
