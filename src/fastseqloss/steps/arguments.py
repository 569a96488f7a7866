"""Arguments of losses at every step: parameters, predictions, targets that are numbers or distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_doubles, as_floats, is_bfloat16, kernel_ready, stored_kind
from .._core.messages import cause, indexed, shortened, wrong_dtype
from .._core.options import as_integer, as_number
from .._core.scores import Scores
from .._core.steps import shown
from .registry import ALLOWED, Parameter


def raise_if_bad(bad: int, allowed: str, name: str, given: NDArray[Any]) -> None:
    """Raise ValueError for element `bad` of an argument, unless it is -1; `allowed` is a kind of numbers."""
    if bad >= 0:
        raise ValueError(f"{shown(name, given, bad)}; allowed: {ALLOWED[allowed]}")


def as_distributions(targets: NDArray[Any], scores: Scores) -> NDArray[Any]:
    """Check distributions over classes, one for each step, of any float dtype."""
    if targets.shape != scores.given.shape:
        raise ValueError(
            f"targets has shape {targets.shape} and dtype {shortened(targets.dtype)}; allowed: integers of shape "
            f"{scores.given.shape[:-1]}, or floats of shape {scores.given.shape}{cause('targets', targets)}"
        )
    return kernel_ready(as_floats("targets", targets).reshape(scores.values.shape))


def check_no_ignore_index(ignore_index: Any) -> None:
    """Raise ValueError for an index of a class together with distributions, to which `ignore_index` does not apply."""
    index = as_integer("ignore_index", ignore_index)
    if index >= 0:
        raise ValueError(
            f"ignore_index is {index}, but it does not apply to targets that are distributions; "
            "allowed: negative integers, which have no effect; pass lengths or mask instead"
        )


def as_parameter(parameter: Parameter, value: Any, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
    """Check a parameter of a loss over numbers of this shape."""
    name, least, most, open_ends, broadcasts = parameter
    array = as_array(name, value) if broadcasts and not isinstance(value, float) else None
    if array is None or array.ndim == 0:
        return as_number(name, value if array is None else array, least, most, open_ends=open_ends)
    if array.dtype.kind not in "fiu" and not is_bfloat16(array.dtype):
        raise wrong_dtype(name, array, "real numbers")
    if not _broadcasts(array.shape, shape):
        raise ValueError(
            f"{name} has shape {array.shape}; allowed: a number, {shape[-1:]}, or a shape that broadcasts to {shape}"
        )
    numbers = as_doubles(array)
    inside = (least < numbers) & (numbers < most) if open_ends else (least <= numbers) & (numbers <= most)
    bad = np.argwhere(~(inside & np.isfinite(numbers)))
    if len(bad):
        first = tuple(bad[0].tolist())
        as_number(indexed(name, first), float(numbers[first]), least, most, open_ends=open_ends)
    return numbers


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Return True if NumPy broadcasts an array of one shape to the other."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


@dataclass(slots=True)
class Numbers:
    """Numbers of B sequences of T steps of D features, in the form of a kernel."""

    values: NDArray[Any]  # [B, outer, inner] with outer inner = T D; the last axis may have any stride
    given: NDArray[Any]
    shape: tuple[int, int, int]  # B, T, D

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """View an array of the passed shape in the form of the kernel; None if the view requires a copy."""
        runs = as_runs(array, self.shape)
        return runs if not runs.size or np.may_share_memory(runs, array) else None

    def empty(self) -> NDArray[Any]:
        """Allocate an array for the gradient in the form of the kernel."""
        array = np.empty_like(self.given, dtype=self.values.dtype, subok=False)
        runs = self.fold(array)
        return as_runs(np.empty(self.given.shape, self.values.dtype), self.shape) if runs is None else runs


def as_predictions(name: str, value: Any) -> Numbers:
    """Check an array [B], [B, T] or [B, T, D...] of floats."""
    given = as_array(name, value)
    if given.ndim == 0:
        raise ValueError(f"{name} has shape (); allowed: [B], [B, T] or [B, T, D]")
    shape = (given.shape[0], given.shape[1] if given.ndim > 1 else 1, math.prod(given.shape[2:]))
    return Numbers(as_runs(as_floats(name, given), shape), given, shape)


def as_comparison(name: str, value: Any, predictions: Numbers) -> NDArray[Any]:
    """Check real numbers of the shape of the predictions; return them as runs."""
    given = as_array(name, value)
    if given.shape != predictions.given.shape:
        raise ValueError(f"{name} has shape {given.shape}; allowed: {predictions.given.shape}")
    return as_runs(as_stored(name, given), predictions.shape)


def as_stored(name: str, given: NDArray[Any]) -> NDArray[Any]:
    """Return real numbers of any dtype in one that kernels read."""
    dtype = given.dtype
    if dtype.kind == "b":
        return given.view(np.uint8)
    if stored_kind(dtype) is not None:
        return given
    if dtype.kind not in "fiu":
        raise wrong_dtype(name, given, "real numbers")
    return as_floats(name, given) if dtype.kind == "f" and dtype.itemsize <= 8 else as_doubles(given)


def as_runs(array: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """View numbers [B, T, D] as [B, outer, inner] with the longest inner axis of one stride."""
    batch, steps, features = shape
    runs = array.reshape(shape)
    if not runs.flags.aligned:
        runs = runs.copy()
    if features == 1:
        return runs[:, None, :, 0]
    if runs.strides[1] == features * runs.strides[2]:
        return runs.reshape(batch, 1, steps * features)
    return runs
