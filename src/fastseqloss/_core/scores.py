"""Arrays of scores in the form that kernels take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import TYPE_NAMES, as_array, as_floats, is_kernel_ready, kernel_ready


@dataclass(slots=True)
class Scores:
    """Scores [B, T, V], or [B, T, U+1, V], in the form that kernels take: class axis contiguous, native byte order."""

    values: NDArray[Any]
    given: NDArray[Any]  # the scores as they were passed

    @property
    def type_name(self) -> str:
        """Name of the kernels' specialisation for the dtype."""
        return TYPE_NAMES[self.values.dtype]

    @property
    def single(self) -> bool:
        """True if there was no batch axis."""
        return self.given.ndim < self.values.ndim

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return a view, in the shape of `values`, of an array of the shape of `given`; None if it needs a copy."""
        if array.shape == self.values.shape:
            return array if is_kernel_ready(array) else None
        folded = array.reshape(self.values.shape)
        shared = folded.size == 0 or np.may_share_memory(folded, array)
        return folded if shared and is_kernel_ready(folded) else None

    def empty(self) -> NDArray[Any]:
        """Allocate an array for the gradient, as the kernel sees it."""
        values = self.values
        if values.flags.c_contiguous:
            return np.empty(values.shape, values.dtype)
        # Keeps the order of the axes in memory, time-major say, where the class axis comes last.
        array = np.empty_like(values, subok=False)
        return array if is_kernel_ready(array) else np.empty(values.shape, values.dtype)


class StepScores(Scores):
    """Scores of steps that are independent, so that a kernel may write the gradient of a row over its scores."""

    __slots__ = ()

    def empty(self) -> NDArray[Any]:
        """Return the copy of the scores if they were copied, else allocate an array."""
        copied = self.values.size and not np.may_share_memory(self.values, self.given)
        return self.values if copied else super().empty()


def as_scores(name: str, value: Any, steps: str = "T") -> Scores:
    """Check an array of scores [B, T, V], or [T, V] of a single sequence; half precision is converted.

    `steps` is the name of the axis T in messages.
    """
    given = as_array(name, value)
    if given.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {given.shape}; allowed: [B, {steps}, V], or [{steps}, V] for one sequence")
    if given.shape[-1] == 0:
        raise _no_classes(name, given)
    return as_batch(name, given)


def as_batch(name: str, given: NDArray[Any]) -> Scores:
    """Return scores in float32 or float64, with a batch axis, for an array of two axes, or of three with its own."""
    values = as_floats(name, given)
    if values.itemsize == 2:
        values = values.astype(np.float32)
    return Scores(kernel_ready(values[None] if given.ndim == 2 else values), given)


def as_grid_scores(name: str, value: Any, nodes: str = "U+1", classes: str = "V") -> Scores:
    """Check an array of scores [B, T, U+1, V], or [T, U+1, V] of a single sequence; half precision stays as it is.

    `nodes` and `classes` are the names of the last two axes in messages.
    """
    given = as_array(name, value)
    if given.ndim not in (3, 4):
        allowed = f"[B, T, {nodes}, {classes}], or [T, {nodes}, {classes}] for one sequence"
        raise ValueError(f"{name} has shape {given.shape}; allowed: {allowed}")
    if given.shape[-1] == 0:
        raise _no_classes(name, given)
    values = as_floats(name, given)
    return Scores(kernel_ready(values[None] if given.ndim == 3 else values), given)


def as_step_scores(name: str, value: Any) -> StepScores:
    """Check an array of scores [..., V] with any number of axes of steps."""
    scores = as_step_vectors(name, value, "V")
    if scores.given.shape[-1] == 0:
        raise _no_classes(name, scores.given)
    return scores


def as_step_vectors(name: str, value: Any, numbers: str) -> StepScores:
    """Check an array of floats with any number of axes of steps; `numbers` is the name of the last axis in messages."""
    given = as_array(name, value)
    if given.ndim == 0:
        raise ValueError(f"{name} has shape (); allowed: [..., {numbers}]")
    batch = given.shape[0] if given.ndim > 1 else 1
    values = as_floats(name, given)
    rows = math.prod(given.shape[1:-1])
    return StepScores(kernel_ready(values.reshape(batch, rows, given.shape[-1])), given)


def _no_classes(name: str, given: NDArray[Any]) -> ValueError:
    return ValueError(f"{name} has shape {given.shape}: no classes; allowed: 1 or more")
