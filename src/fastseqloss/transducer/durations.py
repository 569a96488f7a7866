"""Durations of a token-and-duration transducer, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import read_integers


def as_durations(value: Any) -> NDArray[np.int64]:
    """Return durations [D], distinct and not negative, of which one is positive."""
    read = read_integers("durations", value)
    durations = read.values
    if durations.ndim != 1:
        raise ValueError(f"durations has shape {durations.shape}; allowed: one dimension")
    bad = np.flatnonzero(durations < 0)
    if bad.size:
        raise ValueError(f"durations[{bad[0]}] is {read.shown(int(bad[0]))}; allowed: 0 or more")
    _, first = np.unique(durations, return_index=True)
    twice = np.setdiff1d(np.arange(len(durations)), first)
    if twice.size:
        raise ValueError(f"durations[{twice[0]}] is {read.shown(int(twice[0]))} again; allowed: distinct numbers")
    if not durations.any():
        raise ValueError(f"durations is {durations.tolist()}; allowed: at least one above 0, to reach the end")
    return durations
