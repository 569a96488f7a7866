"""Checks of what CTC alone takes: feasibility, stars, priors, alignments. See `_arguments`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arguments import Labels, as_doubles, as_integer, as_real, read_integers
from ._kernels import arguments
from ._messages import listed


def require_feasible(frames: NDArray[np.int64], targets: Labels) -> None:
    """Raise ValueError if sequences are too short for their labels, naming them."""
    bad = np.flatnonzero(frames < targets.frames_needed)
    if bad.size:
        first = bad[0]
        raise ValueError(
            f"logit_lengths[{first}] is {frames[first]}; allowed: {targets.frames_needed[first]} "
            f"or more for its labels; infeasible sequences: {listed(bad)}"
        )


def as_star(star: Any, n_classes: int) -> int | None:
    """Return the label that stands for anything, which no class may have, or None."""
    if star is None:
        return None
    value = as_integer("star", star)
    largest = 2**63 - 2  # labels beyond int64 are taken for the one after it
    if 0 <= value < n_classes or not -(2**63) <= value <= largest:
        raise ValueError(f"star is {value}; allowed: -2**63 to 2**63 - 2, except 0 to {n_classes - 1}, the classes")
    return value


def as_log_prior(name: str, value: Any, n_classes: int, scale: float) -> NDArray[np.float64] | None:
    """Return logarithms of priors [V] times `scale`, both finite, or None."""
    if value is None:
        return None
    prior = as_doubles(as_real(name, value))
    if prior.shape != (n_classes,):
        raise ValueError(f"{name} has shape {prior.shape}; allowed: ({n_classes},)")
    bad = np.flatnonzero(~np.isfinite(prior))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {prior[bad[0]]}; allowed: finite numbers")
    with np.errstate(over="ignore", under="ignore"):
        scaled = scale * prior
    bad = np.flatnonzero(~np.isfinite(scaled))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {prior[bad[0]]}; allowed: numbers finite when scaled by {scale:g}")
    return scaled


def as_classes(name: str, value: Any, n_classes: int) -> NDArray[np.int64]:
    """Return classes [T], one for each frame."""
    read = read_integers(name, value)
    classes = read.values
    if classes.ndim != 1:
        raise ValueError(f"{name} has shape {classes.shape}; allowed: one dimension")
    first = arguments.first_outside(classes, 0, n_classes - 1)
    if first >= 0:
        raise ValueError(f"{name}[{first}] is {read.shown(first)}; allowed: 0 to {n_classes - 1}")
    return classes
