"""Arguments of losses at every step: counted steps, targets, parameters, numbers to compare."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .arrays import (
    as_array,
    as_doubles,
    as_floats,
    as_lengths,
    as_mask,
    as_weights,
    filled,
    is_bfloat16,
    kernel_ready,
    read_integers,
    stored_kind,
)
from .messages import cause, indexed, shortened, wrong_dtype
from .options import as_integer, as_number
from .scores import Scores


class Steps(NamedTuple):
    """The steps of a batch that count: the first steps of each sequence, restricted by a mask."""

    shape: tuple[int, ...]  # as passed: [B, T, ...]
    first: NDArray[np.int64] | None  # [B], number of steps; None for all
    mask: NDArray[np.uint8] | None  # [B, steps]

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.shape[0] if self.shape else 1

    @property
    def rows(self) -> int:
        """Number of steps of a sequence."""
        return math.prod(self.shape[1:])

    @property
    def full(self) -> bool:
        """Return True if all steps count."""
        return self.first is None and self.mask is None

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of steps of each sequence before its padding."""
        return filled(self.batch, self.rows, np.int64) if self.first is None else self.first

    def counts(self) -> NDArray[np.float64]:
        """Return the number of steps of each sequence that count."""
        if self.mask is None:
            return filled(self.batch, self.rows) if self.first is None else self.first.astype(np.float64)
        counts: NDArray[np.float64] = self.counting().sum(axis=1, dtype=np.float64)
        return counts

    def counting(self) -> NDArray[np.bool_]:
        """Return the mask [B, steps] of the steps that count."""
        if self.first is None:
            every = (self.batch, self.rows)
            return np.ones(every, np.bool_) if self.mask is None else self.mask.view(np.bool_)
        inside: NDArray[np.bool_] = np.arange(self.rows) < self.first[:, None]
        return inside if self.mask is None else inside & self.mask.view(np.bool_)

    def position(self, flat: int) -> str:
        """Return the indices of a step as text."""
        return ", ".join(map(str, np.unravel_index(flat, self.shape))) if self.shape else "()"


def shown(name: str, read: NDArray[Any], flat: int) -> str:
    """Return the name of an element of an argument and its value."""
    where = tuple(int(i) for i in np.unravel_index(flat, read.shape))
    return f"{indexed(name, where)} is {read[where]}"


def as_steps(shape: tuple[int, ...], lengths: Any, mask: Any) -> Steps:
    """Check lengths and mask of steps of shape [B, T, ...]."""
    batch = shape[0] if shape else 1
    first = chosen = None
    if lengths is not None:
        if len(shape) < 2:
            raise ValueError(
                f"lengths needs a time axis; the steps have shape {shape}, allowed: [B, T, ...], with B = 1 for one "
                "sequence"
            )
        first = as_lengths("lengths", lengths, batch, shape[1], False) * math.prod(shape[2:])
    if mask is not None:
        inside = None if first is None else Steps(shape, first, None).counting()
        chosen = as_mask("mask", mask, shape, inside).view(np.uint8).reshape(batch, math.prod(shape[1:]))
    return Steps(shape, first, chosen)


def as_targets(
    targets: Any,
    steps: Steps,
    n_classes: int,
    ignore_index: Any,
    class_weight: NDArray[np.float64] | None,
    in_all: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Check classes, one for each step; return them, with -1 for steps that do not count, and counts [B].

    A step counts with the weight of its class. With `in_all`, there is one count for the batch.
    """
    read = read_integers("targets", targets)
    values = read.values
    if values.shape != steps.shape:
        raise ValueError(f"targets has shape {values.shape}; allowed: {steps.shape}, a class for each step")
    ignored = as_integer("ignore_index", ignore_index)
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index is {ignored}; allowed: integers of 64 bits, -2**63 to 2**63 - 1")
    if ignored == 2**63 - 1 and read.exact.dtype.kind == "u":
        values = np.where(read.exact > ignored, -1, values)  # else equal to ignore_index as int64
    flat = values.reshape(-1)
    one = in_all and steps.full  # counted as one sequence
    lengths = np.array([flat.size]) if one else steps.lengths()
    counts = np.zeros(len(lengths))
    bad = -1
    if flat.size:
        bad = arguments.count_targets(flat, lengths, steps.mask, ignored, n_classes, class_weight, counts)
    if in_all and len(counts) != 1:
        counts = counts.sum(keepdims=True)
    if bad >= 0:
        shown = read.shown(bad)
        padding = f"; if it is padding, pass lengths or mask, or ignore_index={shown}" if shown < 0 else ""
        raise ValueError(
            f"targets[{steps.position(bad)}] is {shown}; allowed: 0 to {n_classes - 1}, "
            f"or {ignored}, which is ignore_index{padding}"
        )
    return flat, counts


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


_LIGHTEST, _HEAVIEST = 1e-150, 1e150  # bounds for which sums times weights of sequences have a finite reciprocal


def as_class_weight(value: Any, n_classes: int) -> NDArray[np.float64] | None:
    """Return weights of classes [V], or None; averages divide by sums of the weights."""
    weights = as_weights("class_weight", value, n_classes)
    if weights is not None:
        bad = np.flatnonzero((weights != 0) & ((weights < _LIGHTEST) | (weights > _HEAVIEST)))
        if bad.size:
            shown = f"class_weight[{bad[0]}] is {weights[bad[0]]}"
            raise ValueError(f"{shown}; allowed: 0, or from {_LIGHTEST:g} to {_HEAVIEST:g}")
    return weights


class Parameter(NamedTuple):
    """A parameter of a loss over numbers: its name and its allowed range."""

    name: str
    least: float
    most: float
    open_ends: bool = False
    per_feature: bool = False  # may be one number for each element of the last axis


def as_parameter(parameter: Parameter, value: Any, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
    """Check a parameter of a loss over numbers of this shape."""
    name, least, most, open_ends, per_feature = parameter
    array = as_array(name, value) if per_feature and not isinstance(value, float) else None
    if array is None or array.ndim == 0:
        return as_number(name, value if array is None else array, least, most, open_ends=open_ends)
    if array.dtype.kind not in "fiu" and not is_bfloat16(array.dtype):
        raise wrong_dtype(name, array, "real numbers")
    if array.shape != shape[-1:]:
        raise ValueError(f"{name} has shape {array.shape}; allowed: a number, or {shape[-1:]}")
    numbers = as_doubles(array)
    for i, number in enumerate(numbers.tolist()):
        as_number(f"{name}[{i}]", number, least, most, open_ends=open_ends)
    return numbers


class Numbers(NamedTuple):
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
    dtype = given.dtype
    if dtype.kind == "b":
        given = given.view(np.uint8)
    elif stored_kind(dtype) is None:
        if dtype.kind not in "fiu":
            raise wrong_dtype(name, given, "real numbers")
        given = as_doubles(given)
    return as_runs(given, predictions.shape)


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
