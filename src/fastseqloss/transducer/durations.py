"""Durations of a token-and-duration transducer, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import read_integers


def as_durations(value: Any) -> NDArray[np.int64]:
    """Return durations [D], increasing and not negative, of which one is positive."""
    read = read_integers("durations", value)
    durations = read.values
    if durations.ndim != 1:
        raise ValueError(f"durations has shape {durations.shape}; allowed: one dimension")
    if not durations.any():
        shown = "[0]" if len(durations) == 1 else f"of {len(durations)} numbers, none above 0"
        raise ValueError(f"durations is {shown}; allowed: at least one above 0, because a path has to reach the end")
    least = np.concatenate([[0], durations[:-1] + 1])
    bad = np.flatnonzero(durations < least)
    if bad.size:
        k = int(bad[0])
        allowed = f"more than durations[{k - 1}], which is {read.shown(k - 1)}" if k else "0 or more"
        raise ValueError(f"durations[{k}] is {read.shown(k)}; allowed: {allowed}")
    return durations
