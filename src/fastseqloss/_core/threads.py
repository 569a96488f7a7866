"""The number of threads of a call."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._kernels.parallel import threads as runtime
from .cgroup import cpu_quota
from .keywords import known_keywords
from .options import as_integer

_max_threads: int | None = None

LEAST_WORK = 3e5  # nanoseconds, for several threads


@functools.cache
def _quota() -> int | None:
    return cpu_quota()


def processors() -> int:
    """Return the number of CPUs that a call may use: those of the thread's affinity, capped by the quota.

    The quota of the control group is read once.
    """
    here, quota = runtime.processors(), _quota()
    return here if quota is None else min(here, quota)


def _most_threads() -> int:
    return processors() if runtime.openmp() else 1


def _after_fork_in_child() -> None:
    # Most forked processes are workers of a pool, for which one thread each is enough.
    global _max_threads
    _max_threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def check_num_threads(num_threads: int | None) -> int | None:
    """Return `num_threads` as an int of at least 1, or None."""
    if num_threads is None:
        return None
    number = as_integer("num_threads", num_threads)
    if number < 1:
        raise ValueError(f"num_threads is {number}; allowed: 1 or more")
    return number


@known_keywords
def set_num_threads(num_threads: int | None) -> None:
    """Set the number of threads of calls without `num_threads`.

    Parameters
    ----------
    num_threads : int or None
        1 or more; the number of CPUs that this process may use is an upper limit. None restores
        OpenMP's own setting (``OMP_NUM_THREADS``, ``threadpoolctl.threadpool_limits``), also in the
        child of a fork, where the default is 1.

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
    """Return the largest number of threads of a call without `num_threads`.

    Returns
    -------
    int
        The number set by `set_num_threads`, or else OpenMP's own setting. It is at most the number
        of CPUs that this process may use, by affinity and by the quota of its control group. It is
        1 in the child of a fork until `set_num_threads` is called there, and always 1 in a build
        without OpenMP.
    """
    return min(requested_threads(), _most_threads())


def requested_threads() -> int:
    """Return the number of threads that `set_num_threads` or OpenMP's setting ask for, which calls cap."""
    return _max_threads or runtime.openmp_threads()


def is_short(work: float) -> bool:
    """Return True if `work` nanoseconds of one thread are too few for several, since waking one costs microseconds."""
    return work < LEAST_WORK


def threads_for(num_threads: int | None, work: float, items: int) -> int:
    """Return the number of threads for `work` nanoseconds of one thread, in `items` pieces."""
    if num_threads is not None:
        num_threads = check_num_threads(num_threads)
    if is_short(work) or items < 2:
        return 1
    return min(num_threads or requested_threads(), _most_threads(), items)


class Schedule(NamedTuple):
    """Sequences in the order in which workers take them, and the number of threads."""

    order: NDArray[np.int64]
    threads: int


def schedule(
    work: NDArray[np.float64] | NDArray[np.int64], num_threads: int | None, items: int | None = None
) -> Schedule:
    """Return the order of sequences of `work` nanoseconds, and the number of threads.

    Workers share `items`, the sequences themselves by default.

    With several threads the longest sequences come first.
    """
    batch = len(work)
    items = batch if items is None else items
    if items < 2:
        return Schedule(np.arange(batch), threads_for(num_threads, 0.0, items))
    threads = threads_for(num_threads, float(work.sum()), items)
    return Schedule(np.argsort(-work, kind="stable") if threads > 1 else np.arange(batch), threads)
