"""The C compiler of the build, for tests of the kernels' headers."""

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

HEADERS = Path(__file__).parents[1] / "src" / "fastseqloss" / "_kernels"
MSVC = sys.platform == "win32"

# As in setup.py.
if MSVC:
    FLAGS = ["/O2", "/fp:precise", "/std:c11"]
    LEVELS = {"x86_64_v2": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}
    STRICT, STANDARD_C = ["/Zs", "/we4005"], ["/DFSL_STANDARD_C"]  # 4005: a macro is defined again
else:
    FLAGS = ["-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"]
    LEVELS = {f"x86_64_v{n}": [f"-march=x86-64-v{n}"] for n in (2, 3, 4)}
    STRICT = ["-fsyntax-only", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unknown-pragmas"]
    STANDARD_C = ["-std=c11", "-DFSL_STANDARD_C"]
if platform.machine() not in ("x86_64", "AMD64"):
    LEVELS = {"baseline": []}


def _compiler() -> Any:
    """The compiler of setuptools; without it, or without the headers, the test is skipped."""
    ccompiler = pytest.importorskip("setuptools._distutils.ccompiler")
    if not HEADERS.is_dir():
        pytest.skip("the headers are in the source tree, which is not here")
    compiler = ccompiler.new_compiler()
    sysconfig = pytest.importorskip("setuptools._distutils.sysconfig")
    sysconfig.customize_compiler(compiler)
    compiler.add_include_dir(str(HEADERS))
    compiler.add_include_dir(sysconfig.get_python_inc())
    if not MSVC and shutil.which(compiler.compiler_so[0]) is None:
        pytest.skip(f"no C compiler: {compiler.compiler_so[0]}")
    if MSVC:
        try:
            compiler.initialize()
        except pytest.importorskip("setuptools.errors").PlatformError as error:
            pytest.skip(f"no C compiler: {error}")
    return compiler


def compile_c(source: Path, folder: Path, level: str, flags: list[str]) -> None:
    """Compile C that includes headers of the kernels, with the flags of a level and others."""
    _compiler().compile([str(source)], output_dir=str(folder), extra_postargs=[*FLAGS, *LEVELS[level], *flags])


def shared_library(source: Path, folder: Path, level: str, exports: list[str], flags: list[str] | None = None) -> Path:
    """Compile C that includes headers of the kernels to a library that exports these functions."""
    compiler = _compiler()
    flags = [*FLAGS, *LEVELS[level], *(flags or [])]
    objects = compiler.compile([str(source)], output_dir=str(folder), extra_postargs=flags)
    library = folder / f"{source.stem}.{'dll' if MSVC else 'so'}"
    compiler.link_shared_object(objects, str(library), export_symbols=exports)
    return library
