"""What the machine offers: instruction set level, threads, behaviour after a fork."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from types import ModuleType
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from . import _arguments, _cgroup
from ._kernels import cpu
from ._kernels.parallel import threads

_max_threads: int | None = None
_LEAST_WORK = 3e5  # nanoseconds, for several threads


def available_levels() -> list[str]:
    """Instruction set levels that this build has and this machine can run, best first."""
    level = cpu.x86_64_level()
    if level == 0:
        return ["baseline"]
    return [f"x86_64_v{n}" for n in (4, 3, 2) if n <= level]


def _choose_level() -> str:
    levels = available_levels()
    if not levels:
        raise ImportError("fastseqloss needs an x86-64-v2 CPU (SSE4.2 and POPCNT)")
    wanted = os.environ.get("FASTSEQLOSS_ISA", "")
    if wanted and wanted not in levels:
        raise ImportError(f"FASTSEQLOSS_ISA is {wanted!r}; this machine can run: {', '.join(levels)}")
    return wanted or levels[0]


level = _choose_level()


def load(name: str, isa: str | None = None) -> ModuleType:
    """Compiled kernels of one module, at the level in use or another."""
    return importlib.import_module(f"fastseqloss._kernels.{name}_{isa or level}")


@functools.cache
def _quota() -> int | None:
    return _cgroup.cpu_quota()


def processors() -> int:
    """CPUs that a call may use: those of the calling thread's affinity, no more than the quota of the control group.

    The quota is read once.
    """
    here, quota = threads.processors(), _quota()
    return here if quota is None else min(here, quota)


def _most_threads() -> int:
    return processors() if threads.openmp() else 1


def _after_fork_in_child() -> None:
    # Processes are forked to be the workers of a pool more often than not: a thread each is enough.
    global _max_threads
    _max_threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def check_num_threads(num_threads: int | None) -> int | None:
    """Return `num_threads` as an int of at least 1, or None."""
    if num_threads is None:
        return None
    number = _arguments.as_integer("num_threads", num_threads)
    if number < 1:
        raise ValueError(f"num_threads is {number}; allowed: 1 or more")
    return number


def set_num_threads(num_threads: int | None) -> None:
    """Set how many threads calls use that do not say it themselves.

    Parameters
    ----------
    num_threads : int or None
        1 or more; more than the CPUs this process may use count as that many. None goes back
        to what OpenMP says (``OMP_NUM_THREADS``, ``threadpoolctl.threadpool_limits``), in the
        child of a fork too, where it is 1 otherwise.

    Raises
    ------
    TypeError, ValueError
        If `num_threads` is not an integer of at least 1.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.set_num_threads(1)
    >>> fsl.get_num_threads()
    1
    >>> fsl.set_num_threads(None)
    """
    global _max_threads
    _max_threads = check_num_threads(num_threads)


def get_num_threads() -> int:
    """Return how many threads a call uses at most if it does not say so itself.

    Returns
    -------
    int
        What `set_num_threads` set, else what OpenMP says; never more than the CPUs this process
        may use, by affinity and by the quota of its control group. In the child of a fork 1,
        until `set_num_threads` is called there. Always 1 in a build without OpenMP.
    """
    return min(_max_threads or threads.openmp_threads(), _most_threads())


def threads_for(num_threads: int | None, work: float, items: int) -> int:
    """Return the threads for a call: `work` in nanoseconds of one thread, in `items` pieces.

    Waking a thread costs some microseconds, many on a busy machine, so small work stays on one.
    """
    num_threads = check_num_threads(num_threads)
    if work < _LEAST_WORK or items < 2:
        return 1
    return min(num_threads or _max_threads or threads.openmp_threads(), _most_threads(), items)


def schedule(work: NDArray[np.float64] | NDArray[np.int64], num_threads: int | None) -> tuple[int, NDArray[np.int64]]:
    """Return the threads for sequences of `work` nanoseconds, and the order to take them in.

    With several threads the longest come first.
    """
    batch = len(work)
    if batch < 2:
        return threads_for(num_threads, 0.0, batch), np.zeros(batch, np.int64)
    number = threads_for(num_threads, float(work.sum()), batch)
    return number, np.argsort(-work, kind="stable") if number > 1 else np.arange(batch)


def _openmp() -> str:
    # auditwheel lists the packages that the libraries beside the extension modules came from.
    version = threads.openmp()
    if not version:
        return "none"
    runtime = threads.openmp_runtime()
    known = [os.path.basename(runtime)] if runtime else []
    if "fastseqloss.libs" in runtime:
        bill = importlib.metadata.distribution("fastseqloss").read_text("sboms/auditwheel.cdx.json")
        parts = json.loads(bill)["components"] if bill else []
        known += [f"{part['name']} {part['version']}" for part in parts if "omp" in part["name"]]
    elif runtime:
        known = [os.path.realpath(runtime)]
    return f"{version} ({', '.join(known)})" if known else str(version)


def show_config(file: TextIO | None = None) -> None:
    """Print the version, instruction set level, compiler, OpenMP runtime and threads in use.

    The OpenMP runtime is shown by its file, one that came with the wheel also by the package that it was taken from.

    Parameters
    ----------
    file : text stream, optional
        Where to print to; standard output by default.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.show_config()  # doctest: +ELLIPSIS
    fastseqloss ...
    """
    from . import __version__

    lines = {
        "Python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "NumPy": np.__version__,
        "level": f"{level} (this machine can run {', '.join(available_levels())})",
        "compiler": cpu.compiler(),
        "OpenMP": _openmp(),
        "threads": f"{get_num_threads()} of {processors()} CPUs",
    }
    print(f"fastseqloss {__version__}", file=file)
    for name, text in lines.items():
        print(f"  {name:<9}{text}", file=file)
