"""OpenMP: number of threads of a loop, waiting and interruption of threads.

This module loads the OpenMP runtime before any kernel and sets its threads to wait asleep. By default, the runtimes of
GNU and Microsoft spin at the end of every loop, on cores that another program could use; they read the environment when
they are loaded. Settings of the user for waiting take precedence.

The stack size of the threads is left unchanged. Kernels keep arrays in their workspace: their frames take at most
16 KB, and the smallest default stacks, those of musl, have 128 KB.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_GOVERN_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_PASSIVE = not any(name in os.environ for name in _GOVERN_WAITING)


@contextmanager
def _environment() -> Iterator[None]:
    """Set the environment variable that a runtime reads at load time, for the duration of the context."""
    if _PASSIVE:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        if _PASSIVE:
            del os.environ["OMP_WAIT_POLICY"]


with _environment():
    try:
        from . import threads
    except ImportError:
        if find_spec(f"{__name__}.threads"):
            raise
        folder, python = Path(__file__).parents[2], ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"{folder} has no extension modules for Python {python}; run `python -m pip install .` in the copy of the "
            "source, or remove its folder src from the module path"
        ) from None

threads.wait_passively(_PASSIVE)

__all__ = ["threads"]
