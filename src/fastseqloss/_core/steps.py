"""Arguments of losses at every step: counted steps, classes and their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .arrays import as_array, as_lengths, as_mask, as_weights, filled, read_integers
from .messages import indexed, swapped_axes
from .options import as_integer


@dataclass(slots=True)
class Steps:
    """The steps of a batch that count: the first steps of each sequence, restricted by a mask."""

    shape: tuple[int, ...]  # as passed: [B, T, ...]
    batch: int  # number of sequences
    rows: int  # number of steps of a sequence
    first: NDArray[np.int64] | None  # [B], number of steps; None for all
    mask: NDArray[np.uint8] | None  # [B, steps]

    @classmethod
    def of(cls, shape: tuple[int, ...], first: NDArray[np.int64] | None, mask: NDArray[np.uint8] | None) -> Steps:
        """Return the steps of this shape, the first ones of each sequence and where the mask is 1."""
        return cls(shape, shape[0] if shape else 1, math.prod(shape[1:]), first, mask)

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


def as_steps(shape: tuple[int, ...], lengths: Any, mask: Any, features: tuple[int, ...] = ()) -> Steps:
    """Check lengths and mask of steps of shape [B, T, ...].

    With `features`, each feature of a step counts by itself: the result has the shape [B, T, ..., *features], and the
    mask is one of steps or one of features.
    """
    whole = shape + features if features else shape
    batch, rows = shape[0] if shape else 1, math.prod(whole[1:])
    ends = first = chosen = None
    if lengths is not None:
        if len(shape) < 2:
            raise ValueError(
                f"lengths needs a time axis; the steps have shape {shape}, allowed: [B, T, ...], with B = 1 for one "
                "sequence"
            )
        ends = as_lengths("lengths", lengths, batch, shape[1], False)
        first = ends * math.prod(whole[2:])
    if mask is not None:
        masked = whole if features and as_array("mask", mask).shape == whole else shape
        inside = None if ends is None else Steps.of(masked, ends * math.prod(masked[2:]), None).counting()
        chosen = as_mask("mask", mask, masked, inside).view(np.uint8).reshape(batch, math.prod(masked[1:]))
        if masked != whole:
            chosen = np.repeat(chosen, math.prod(features), axis=1)
    return Steps(whole, batch, rows, first, chosen)


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
        hint = swapped_axes(values.shape, steps.shape)
        raise ValueError(f"targets has shape {values.shape}; allowed: {steps.shape}, a class for each step{hint}")
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


_LIGHTEST, _HEAVIEST = 1e-150, 1e150  # bounds for which sums times weights of sequences have a finite reciprocal


def as_class_weight(value: Any, n_classes: int, name: str = "class_weight") -> NDArray[np.float64] | None:
    """Return weights of classes [V], or None; averages divide by sums of the weights."""
    weights = as_weights(name, value, n_classes)
    if weights is not None:
        bad = np.flatnonzero((weights != 0) & ((weights < _LIGHTEST) | (weights > _HEAVIEST)))
        if bad.size:
            shown = f"{name}[{bad[0]}] is {weights[bad[0]]}"
            raise ValueError(f"{shown}; allowed: 0, or from {_LIGHTEST:g} to {_HEAVIEST:g}")
    return weights
