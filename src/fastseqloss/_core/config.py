"""A report of the build and the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from typing import TextIO

import numpy as np

from .._kernels import cpu
from .._kernels.parallel import threads as runtime
from . import threads
from .keywords import known_keywords
from .levels import available_levels, level


def _openmp() -> str:
    # auditwheel lists the packages of the libraries that it copied into the wheel.
    version = runtime.openmp()
    if not version:
        return "none"
    file = runtime.openmp_runtime()
    known = [os.path.basename(file)] if file else []
    if "fastseqloss.libs" in file:
        bill = importlib.metadata.distribution("fastseqloss").read_text("sboms/auditwheel.cdx.json")
        parts = json.loads(bill)["components"] if bill else []
        known += [f"{part['name']} {part['version']}" for part in parts if "omp" in part["name"]]
    elif file:
        known = [os.path.realpath(file)]
    return f"{version} ({', '.join(known)})" if known else str(version)


@known_keywords
def show_config(file: TextIO | None = None) -> None:
    """Print the version, instruction set level, compiler, OpenMP runtime and threads in use.

    The OpenMP runtime is shown by its file, and for a runtime bundled with the wheel by its original package.

    Parameters
    ----------
    file : text stream, optional
        Stream to print to; standard output by default.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.show_config()  # doctest: +ELLIPSIS
    fastseqloss ...
    """
    from .. import __version__

    lines = {
        "Python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "NumPy": np.__version__,
        "level": f"{level} (this machine can run {', '.join(available_levels())})",
        "compiler": cpu.compiler(),
        "OpenMP": _openmp(),
        "threads": f"{threads.get_num_threads()} of {threads.processors()} CPUs",
    }
    print(f"fastseqloss {__version__}", file=file)
    for name, text in lines.items():
        print(f"  {name:<9}{text}", file=file)
