"""Checks of the arguments of soft-DTW: pairs of series, costs, the band."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_floats, as_lengths, kernel_ready, native
from .._core.messages import outline
from .._core.options import as_integer, as_number
from .._core.scores import Scores, as_batch
from .._core.threads import Schedule, schedule

_LEAST_GAMMA = 1e-300  # costs of any size divided by a smaller one overflow


class SoftDTWGradient(NamedTuple):
    """Gradients of `soft_dtw_loss`, each of the shape and dtype of the argument of the same name.

    Attributes
    ----------
    x : ndarray [B, N, D], or None if `grad_out` was given without it
    y : ndarray [B, M, D], or None if `grad_out` was given without it
    """

    x: NDArray[Any] | Any
    y: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


class Series(NamedTuple):
    """Pairs of series of the same dtype."""

    x: Scores
    y: Scores

    @property
    def result_type(self) -> np.dtype[Any]:
        """The dtype of an array that depends on both series."""
        x, y = native(self.x.given.dtype), native(self.y.given.dtype)
        return x if x == y else self.x.values.dtype


class Paths(NamedTuple):
    """The paths of each grid: its size, and how far they may go from the diagonal."""

    lengths_x: NDArray[np.int64]
    lengths_y: NDArray[np.int64]
    gamma: float
    band: int

    def schedule(self, num_threads: int | None, features: int = 0, grids: int = 1) -> Schedule:
        """Return the order of the pairs, those with most work first, and the number of threads."""
        cells = self.lengths_x.astype(np.float64) * np.minimum(self.lengths_y, 2 * self.band + 1)
        return schedule(cells * ((6.0 + features) * grids), num_threads)  # nanoseconds, roughly


def as_series(x: ArrayLike, y: ArrayLike) -> Series:
    """Check series [B, N, D] and [B, M, D], or [N, D] and [M, D]; half precision is converted."""
    first, second = _as_one("x", x), _as_one("y", y)
    if first.ndim != second.ndim:
        raise ValueError(f"x has shape {first.shape} and y {second.shape}; allowed: the same number of axes")
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"y has shape {second.shape}: {second.shape[-1]} features; allowed: {first.shape[-1]}, as x; "
            "a batch of univariate series is [B, N, 1], as x[..., None]"
        )
    if first.ndim == 3 and first.shape[0] != second.shape[0]:
        raise ValueError(
            f"y has shape {second.shape}: {second.shape[0]} series; allowed: {first.shape[0]}, as x; "
            "numpy.broadcast_to repeats a series without a copy"
        )
    values = [as_floats(name, given) for name, given in (("x", first), ("y", second))]
    double = any(array.dtype == np.float64 for array in values)
    dtype = np.float64 if double else np.float32
    values = [array.astype(dtype, copy=False) for array in values]
    values = [kernel_ready(array[None] if array.ndim == 2 else array) for array in values]
    return Series(Scores(values[0], first), Scores(values[1], second))


def _as_one(name: str, value: ArrayLike) -> NDArray[Any]:
    given = as_array(name, value)
    if given.ndim not in (2, 3):
        hint = f"; a univariate series is {name}[:, None]" if given.ndim == 1 else ""
        raise ValueError(f"{name} has shape {given.shape}; allowed: [B, N, D], or [N, D] for one series{hint}")
    if given.shape[-1] == 0:
        raise ValueError(f"{name} has shape {given.shape}: no features; allowed: 1 or more")
    return given


def as_costs(costs: ArrayLike) -> Scores:
    """Check costs [B, N, M], or [N, M] of one pair; half precision is converted."""
    given = as_array("costs", costs)
    if given.ndim not in (2, 3):
        raise ValueError(f"costs has shape {given.shape}; allowed: [B, N, M], or [N, M] for one pair of series")
    return as_batch("costs", given)


def as_paths(
    shape: tuple[int, int, int],
    single: bool,
    lengths_x: ArrayLike | None,
    lengths_y: ArrayLike | None,
    gamma: float,
    band: int | None,
) -> Paths:
    """Check lengths, gamma and band for pairs of series in arrays of shape [B, N, M]."""
    batch, longest_x, longest_y = shape
    n = as_lengths("lengths_x", lengths_x, batch, longest_x, single)
    m = as_lengths("lengths_y", lengths_y, batch, longest_y, single)
    bad = np.flatnonzero((n == 0) != (m == 0))
    if len(bad):
        b = int(bad[0])
        name, other = ("lengths_x", "lengths_y") if n[b] == 0 else ("lengths_y", "lengths_x")
        raise ValueError(
            f"{name}[{b}] is 0 and {other}[{b}] is {max(n[b], m[b])}: no path aligns a series with an empty one; "
            "allowed: 1 or more, or 0 for both"
        )
    number = as_number("gamma", gamma, 0.0, np.inf)
    if 0.0 < number < _LEAST_GAMMA:
        raise ValueError(f"gamma is {number}; allowed: 0, or {_LEAST_GAMMA:g} or more")
    return Paths(n, m, number, _as_band(band, n, m))


def _as_band(band: int | None, n: NDArray[np.int64], m: NDArray[np.int64]) -> int:
    longest = int(max(n.max(initial=0), m.max(initial=0)))
    if band is None:
        return longest
    width = as_integer("band", band)
    if width < 0:
        raise ValueError(f"band is {width}; allowed: 0 or more, or None")
    apart = np.abs(n - m)
    bad = np.flatnonzero(apart > width)
    if len(bad):
        b = int(bad[0])
        raise ValueError(
            f"band is {width}, but lengths_x[{b}] is {n[b]} and lengths_y[{b}] is {m[b]}: no path stays within "
            f"the band; allowed: {int(apart.max())} or more, the largest difference of lengths"
        )
    return min(width, longest)
