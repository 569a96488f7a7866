"""The number of threads of a call."""

from __future__ import annotations

import functools
import os

import numpy as np
from numpy.typing import NDArray

from .._kernels.parallel import threads as runtime
from .cgroup import cpu_quota
from .options import as_integer

_max_threads: int | None = None


_LEAST_WORK = 3e5  # nanoseconds, for several threads


@functools.cache
def _quota() -> int | None:
    return cpu_quota()


def processors() -> int:
    """CPUs that a call may use: those of the calling thread's affinity, no more than the quota of the control group.

    The quota is read once.
    """
    here, quota = runtime.processors(), _quota()
    return here if quota is None else min(here, quota)


def _most_threads() -> int:
    return processors() if runtime.openmp() else 1


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
    number = as_integer("num_threads", num_threads)
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
    return min(_max_threads or runtime.openmp_threads(), _most_threads())


def threads_for(num_threads: int | None, work: float, items: int) -> int:
    """Return the threads for a call: `work` in nanoseconds of one thread, in `items` pieces.

    Waking a thread costs some microseconds, many on a busy machine, so small work stays on one.
    """
    num_threads = check_num_threads(num_threads)
    if work < _LEAST_WORK or items < 2:
        return 1
    return min(num_threads or _max_threads or runtime.openmp_threads(), _most_threads(), items)


def schedule(work: NDArray[np.float64] | NDArray[np.int64], num_threads: int | None) -> tuple[int, NDArray[np.int64]]:
    """Return the threads for sequences of `work` nanoseconds, and the order to take them in.

    With several threads the longest come first.
    """
    batch = len(work)
    if batch < 2:
        return threads_for(num_threads, 0.0, batch), np.zeros(batch, np.int64)
    number = threads_for(num_threads, float(work.sum()), batch)
    return number, np.argsort(-work, kind="stable") if number > 1 else np.arange(batch)
