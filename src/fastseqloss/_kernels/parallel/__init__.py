"""OpenMP: how many threads a loop has, how they wait, and what interrupts them.

The OpenMP runtime is loaded here, before any kernel is, with threads that wait asleep. GNU's and Microsoft's would
spin at the end of every loop, on cores that another program may have use for; they read the environment when they are
loaded. What the user has said about waiting stays as it is.

The size of the threads' stacks stays as it is, too. Kernels keep arrays in their workspace: their frames are of 16 KB
at most, and the smallest stacks, musl's, of 128 KB.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_GOVERN_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_PASSIVE = not any(name in os.environ for name in _GOVERN_WAITING)


@contextmanager
def _environment() -> Iterator[None]:
    """Set what a runtime reads, for a moment."""
    if _PASSIVE:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        if _PASSIVE:
            del os.environ["OMP_WAIT_POLICY"]


with _environment():
    from . import threads

threads.wait_passively(_PASSIVE)

__all__ = ["threads"]
