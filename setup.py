"""The extension modules: every kernel, once per instruction set level. All else is in pyproject.toml.

FASTSEQLOSS_DEBUG=1 builds with bounds checks, assertions and no optimisation to speak of. FASTSEQLOSS_OPENMP=1 fails
where there is no OpenMP, 0 builds without; otherwise it is used where it is to be had.
FASTSEQLOSS_LEVELS names the levels to build, such as x86_64_v3, or is "all", as for wheels. The default is the levels
that this machine can run.
"""

import os
import platform
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# Built for every level.
KERNELS = [
    "ctc.loss",
    "ctc.alignment",
    "ctc.decoding",
    "transducer.loss",
    "transducer.simple",
    "steps.classification",
    "steps.rows",
    "steps.pointwise",
    "crf.loss",
    "rewards.policy",
    "rewards.returns",
    "soft_dtw.loss",
    "ranking.lists",
]
BASELINE = [
    "arguments",
    "codes",
    "cpu",
    "crf.sparse",
    "crf.varying",
    "ctc.beam",
    "ctc.entropy",
    "parallel.threads",
    "short_calls",
    "xla.handler",
]
PACKAGE = "fastseqloss._kernels"
FOLDER = Path("src") / PACKAGE.replace(".", "/")
DEBUG = os.environ.get("FASTSEQLOSS_DEBUG", "0") not in ("", "0")
BUILD = Path("build/c") / ("debug" if DEBUG else "release")
OPENMP = os.environ.get("FASTSEQLOSS_OPENMP", "")
JOBS = os.cpu_count() or 1
MACOS = sys.platform == "darwin"
MSVC = sys.platform == "win32"
# What Cython needs for memory views, once instead of in every module: half of the wheel.
SHARED = f"{PACKAGE}._shared"
# Paths of Cython's own files in its tables of file names, if it lies below this folder, as in .venv.
PATHS = re.compile(r'^  "[^"\n]*/Cython/(?:Includes/([^"\n]*)|Utility/MemoryView\.pxd)"', re.MULTILINE)
# Modules without loops that -O3 makes faster; the beam search has branches, and gains 0-4 % for 6 % more bytes; losses
# over lists sort and divide.
NO_LOOPS = ("codes", "cpu", "ctc.beam", "ranking.lists", "short_calls", "xla.handler")
WITHOUT_LOOPS = {SHARED, *(f"{PACKAGE}.{name}" for name in NO_LOOPS)}
# Modules that are not built for x86-64-v4, which uses those of v3, to save bytes: divisions of numbers in AVX-512 take
# as long as in AVX2; returns are recursions; best paths are comparisons and wait for memory, as do losses of rows; the
# products of the additive joiner are those of BLAS.
UP_TO_V3 = {
    f"{PACKAGE}.{name}"
    for name in (
        "ctc.alignment",
        "ctc.decoding",
        "ranking.lists",
        "rewards.returns",
        "steps.rows",
        "transducer.simple",
    )
}
# -O2 instead of -O3 saves 30 % of a compressed module and 40 % of the compiler's time (GCC 12), and is 1-11 %
# slower at v2, where GCC vectorises as at -O3: without that, cross-entropy of many classes would be 40 % slower.
LESS = [] if MSVC or DEBUG else ["-O2"]
# -Os saves another 30 % of these at v2, for up to 50 % more time there. Others would lose more: the multiclass hinge
# loss would take four times as long.
LEAST = [] if MSVC or DEBUG else ["-Os"]
LEAST_AT_V2 = (
    "rewards.policy",
    "steps.pointwise",
    "ctc.loss",
    "ctc.alignment",
    "ctc.decoding",
    "transducer.loss",
    "transducer.simple",
    "crf.loss",
    "soft_dtw.loss",
    "ranking.lists",
)
# The same. The entropy is no slower: GCC vectorises loops that are marked so, whatever the option. The memory views
# save 23 %, and short calls take up to 2 % longer.
LEAST_OF_BASELINE = ("_shared", "crf.sparse", "crf.varying", "ctc.entropy", "short_calls")


def target():
    """Architecture that is compiled for. On macOS one at a time, since only one of the two has levels."""
    named = sysconfig.get_platform()
    if MACOS:
        asked = set(re.findall(r"-arch\s+(\S+)", os.environ.get("ARCHFLAGS", "")))
        if len(asked) > 1:
            sys.exit("fastseqloss is built for one architecture at a time: ARCHFLAGS='-arch arm64', or x86_64")
        architecture = asked.pop() if asked else named.rpartition("-")[2]
        if architecture == "universal2":
            architecture = platform.machine()
        os.environ["_PYTHON_HOST_PLATFORM"] = f"{named.rpartition('-')[0]}-{architecture}"  # the wheel's tag
        return architecture
    return named.rpartition("-")[2].replace("amd64", "x86_64")


TARGET = target()
if TARGET != "x86_64":
    LEVELS = {"baseline": []}
elif MSVC:
    LEVELS = {"x86_64_v2": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}
else:
    LEVELS = {f"x86_64_v{n}": [f"-march=x86-64-v{n}"] for n in (2, 3, 4)}
    LEVELS["x86_64_v2"] += LESS  # for processors from before 2013


def levels_to_build():
    """Names of the levels to build for."""
    asked = os.environ.get("FASTSEQLOSS_LEVELS")
    if asked:
        return list(LEVELS) if asked == "all" else asked.split(",")
    try:
        flags = set(re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    except (OSError, TypeError):  # not Linux, or not x86-64
        return list(LEVELS)
    lacking = {level: needed - flags for level, needed in NEEDED.items()}
    return [level for level in LEVELS if not lacking.get(level)]


# Flags of Linux for instructions that a level adds to those below it.
NEEDED = {
    "x86_64_v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
LEVELS = {level: LEVELS[level] for level in levels_to_build()}

# Strict IEEE semantics: infinities, NaN and the order of additions keep their meaning. The loops that
# may be reordered say so themselves (omp simd reduction). MSVC has _Generic and restrict from C11 on.
if MSVC:
    FLAGS = ["/O2", "/fp:precise", "/std:c11"]
else:
    FLAGS = ["-O1", "-g"] if DEBUG else ["-O3", "-g0"]
    FLAGS += ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-Wno-unknown-pragmas"]
# Limits of GCC's for modules of many large functions: as at -O2, so that these are not inlined in several places, and
# half as much unrolling of short loops. They save 15 % of such a module's bytes and a quarter of the compiler's time,
# and cost no speed. Other modules would gain 5 % of their bytes; soft-DTW would lose 10 % of its speed, and sums of
# losses of single elements would be added in another order.
LARGE = (
    "ctc.loss",
    "ctc.alignment",
    "crf.loss",
    "transducer.loss",
    "steps.classification",
    "steps.rows",
    "rewards.policy",
)
LIMITS = [
    "--param=max-inline-insns-auto=15",
    "--param=max-inline-insns-single=70",
    "--param=max-completely-peeled-insns=100",
]
VECTORS = ["-fvect-cost-model=dynamic"]
WITHOUT_TABLES = ["-fno-asynchronous-unwind-tables"]  # of debuggers and C++ exceptions: 3 % of a wheel
IS_GCC = "#if !defined(__GNUC__) || defined(__clang__)\n#error not GCC\n#endif\nint main(void) { return 0; }\n"
USES_OPENMP = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
ARCH = ["-arch", TARGET] if MACOS else []  # takes the place of those that Python itself was built for
FLAGS += ARCH
LINK = ARCH if MSVC else [*ARCH, "-pthread"]

Options.docstrings = False  # of kernels: they are for readers of the sources, and take 1 % of a wheel

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
    """Every extension module: one C source per kernel, compiled once per level."""
    names = [*BASELINE, *KERNELS]
    generated = cythonize(
        [
            *(Extension(f"{PACKAGE}.{name}", [str(FOLDER / f"{name.replace('.', '/')}.pyx")]) for name in names),
            Extension(SHARED, [str(FOLDER / "_shared.c")]),  # written by Cython
        ],
        build_dir=str(BUILD / "cython"),
        include_path=["src"],
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=JOBS if sys.platform == "linux" else 0,  # elsewhere processes would run this file again
    )
    modules = []
    for module in generated:
        per_level = module.name.removeprefix(f"{PACKAGE}.") in KERNELS
        for level, flags in LEVELS.items() if per_level else [("", [])]:
            if level != "x86_64_v4" or "x86_64_v3" not in LEVELS or module.name not in UP_TO_V3:
                modules.append(compiled(module, level, flags))
    return modules


def compiled(module, level, flags):
    """The extension that compiles a module of Cython's for a level, under the name of both."""
    generated = Path(module.sources[0])
    # As elsewhere, where Cython writes no such paths: one installation can then use what another has compiled.
    text = PATHS.sub(lambda path: f'  "{path[1] or SHARED.replace(".", "/") + ".pxd"}"', generated.read_text())
    name = module.name
    if level:
        function = f"PyInit_{name.rpartition('.')[2]}"
        text = f"#define {function} {function}_{level}\n{text}"
        name += f"_{level}"
    source = BUILD / (level or "baseline") / module.name.replace(".", "/")
    source = source.with_suffix(".c")
    # Written only if it differs: Cython works again whenever pip brings it anew, but compilers need not.
    if not source.exists() or source.read_text() != text:
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(FOLDER)],
        depends=sorted(str(path) for path in headers(text, FOLDER)),
        extra_compile_args=FLAGS + flags + (LESS if module.name in WITHOUT_LOOPS else []),
        extra_link_args=[*LINK],
    )


def headers(text, folder):
    """Our headers that a C source in a folder includes, and those that they include."""
    found = set()
    for included in re.findall(r'^\s*#\s*include\s+"(.+)"', text, re.MULTILINE):
        for path in (folder / included, FOLDER / included):
            if path.exists():
                found |= {path} | headers(path.read_text(), path.parent)
                break
    return found


def openmp_flags():
    """Ways to ask for OpenMP, the usual one first: flags for compiling, flags for linking."""
    if MSVC:
        return [(["/openmp"], [])]
    ways = [(["-fopenmp"], ["-fopenmp"])]
    if MACOS:  # Apple's compiler knows the directives, but the runtime comes from elsewhere: Homebrew, or CPATH
        ways.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
        for prefix in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"):
            ways.append(([*ways[1][0], f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"]))
    return ways


class Build(build_ext):
    """Adds the flags of GCC and OpenMP if the compiler takes them; says so if not OpenMP's. Uses all processors."""

    def finalize_options(self):
        """Set the number of compilers, unless it was given."""
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def run(self):
        """Build. Setuptools builds editable installations in a new folder: everything, each time. Use the usual one."""
        if not self.editable_mode:
            super().run()
            return
        usual = self.distribution.get_command_class("build")(self.distribution)
        usual.ensure_finalized()
        temporary, self.build_lib, self.build_temp = Path(self.build_lib), usual.build_lib, usual.build_temp
        super().run()
        self.build_lib = str(temporary)
        for extension in self.extensions:
            name = Path(self.get_ext_filename(self.get_ext_fullname(extension.name)))
            self.mkpath(str(temporary / name.parent))
            self.copy_file(str(Path(usual.build_lib) / name), str(temporary / name))

    def build_extensions(self):
        """Build, with OpenMP where it is to be had."""
        least = {f"{PACKAGE}.{name}_x86_64_v2" for name in LEAST_AT_V2}
        least |= {f"{PACKAGE}.{name}" for name in LEAST_OF_BASELINE}
        if not (MSVC or MACOS or DEBUG) and self.builds(IS_GCC, LIMITS + VECTORS + WITHOUT_TABLES, []):
            for extension in self.extensions:
                extension.extra_compile_args += WITHOUT_TABLES
                if extension.name.startswith(tuple(f"{PACKAGE}.{name}_" for name in LARGE)):
                    extension.extra_compile_args += LIMITS
                if extension.name.endswith("_x86_64_v2"):
                    extension.extra_compile_args += VECTORS
                if extension.name in least:
                    extension.extra_compile_args += LEAST
        ways = [] if OPENMP == "0" else openmp_flags()
        way = next((flags for flags in ways if self.builds(USES_OPENMP, *flags)), None)
        if way:
            for extension in self.extensions:
                extension.extra_compile_args += way[0]
                extension.extra_link_args += way[1]
        elif OPENMP == "1":
            raise CompileError("FASTSEQLOSS_OPENMP is 1, but this compiler has no OpenMP")
        else:
            print("fastseqloss: built without OpenMP", file=sys.stderr)
        super().build_extensions()

    def builds(self, text, compile_args, link_args):
        """Whether a program compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "program.c"
            source.write_text(text)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=ARCH + compile_args)
                self.compiler.link_executable(objects, str(Path(folder) / "program"), extra_postargs=ARCH + link_args)
            except (CompileError, LinkError):
                return False
        return True


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
