"""OpenMP: how many threads a loop has, their workspaces and what interrupts them.

The OpenMP runtime is loaded here, before any kernel is, with threads that wait asleep. GNU's and Microsoft's spin
otherwise, at the end of every loop, on cores that another program may have use for. What the user has said about
waiting stays as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_GOVERN_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


@contextmanager
def _passive() -> Iterator[None]:
    """Set the environment that a runtime reads when it is loaded."""
    if any(name in os.environ for name in _GOVERN_WAITING):
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]


with _passive():
    from . import threads

__all__ = ["threads"]
