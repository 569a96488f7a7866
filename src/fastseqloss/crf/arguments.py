"""Checks of the arguments of the linear-chain CRF, and the gradients and the schedule made of them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import (
    FLOATS,
    as_array,
    as_doubles,
    as_floats,
    as_lengths,
    as_mask,
    as_real,
    is_bfloat16,
    kernel_ready,
    read_integers,
)
from .._core.gradient import Gradient, SharedParameter, as_gradients
from .._core.messages import brief, outline, swapped_axes, wrong_dtype
from .._core.scores import Scores, as_scores
from .._core.threads import Schedule, threads_for
from .._kernels import arguments


class CRFGradient(NamedTuple):
    """Gradients of a CRF's loss, each of the shape and dtype of the argument of its name.

    Attributes
    ----------
    emissions : ndarray [B, T, K]
    transitions : ndarray [K, K], or [B, T, K, K]
    start, end : ndarray [K], or None for an argument that was left out
    """

    emissions: NDArray[Any]
    transitions: NDArray[Any]
    start: NDArray[Any] | Any
    end: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


class MaskedScores(Scores):
    """Scores of the steps within a mask with holes, moved together; an array of all steps is never in that form."""

    __slots__ = ()

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return None: an array of the shape of `given` has other steps."""
        return None


@dataclass(slots=True)
class Potentials:
    """Scores of paths: emissions, and the parameters that all sequences share."""

    scores: Scores
    lengths: NDArray[np.int64]
    transitions: SharedParameter
    start: SharedParameter
    end: SharedParameter
    varying: NDArray[Any] | None = None  # transitions [B, T', K, K] to each step, in the dtype of the scores
    kept: NDArray[np.int64] | None = None  # [B, T'] steps within a mask with holes, then others; None without holes

    @property
    def single(self) -> bool:
        """True if there was no batch axis."""
        return self.scores.single

    @property
    def shape(self) -> tuple[int, int]:
        """B and T, steps outside the mask included."""
        return len(self.lengths), self.scores.given.shape[-2]

    def like_varying(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the shape of the passed transitions, which all steps have, in the form of the kernel."""
        return self.gather(array.reshape(*self.shape, *array.shape[-2:]))

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the steps within the mask of an array [B, T, ...], in the form of the kernel."""
        return array if self.kept is None else array[np.arange(len(array))[:, None], self.kept]

    def place(self, b: NDArray[np.intp], t: NDArray[np.intp]) -> NDArray[np.integer[Any]]:
        """Return the step, of all, that is step t within the mask of sequence b."""
        return t if self.kept is None else self.kept[b, t]

    def scatter(self, array: NDArray[Any], outside: float) -> NDArray[Any]:
        """Return an array in the form of the kernel as an array of all steps, `outside` in those outside the mask."""
        if self.kept is None:
            return array
        whole = np.full((*self.shape, *array.shape[2:]), outside, array.dtype)
        whole[np.arange(len(array))[:, None], self.kept] = array
        return whole

    @property
    def parameters(self) -> tuple[SharedParameter, SharedParameter, SharedParameter]:
        """The parameters that all sequences share."""
        return self.transitions, self.start, self.end


def as_potentials(
    emissions: ArrayLike,
    transitions: ArrayLike,
    *,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    start: ArrayLike | None,
    end: ArrayLike | None,
) -> Potentials:
    """Check the arguments that determine the score of a path."""
    array = as_array("emissions", emissions)
    if array.ndim not in (2, 3):
        raise ValueError(f"emissions has shape {array.shape}; allowed: [B, T, K], or [T, K] for one sequence")
    if array.shape[-1] == 0:
        raise ValueError(f"emissions has shape {array.shape}: no tags; allowed: 1 or more")
    scores = as_scores("emissions", array)
    batch, n_frames, n_tags = scores.values.shape
    kept = None
    if mask is None:
        counts = as_lengths("lengths", lengths, batch, n_frames, scores.single)
    elif lengths is None:
        counts, kept = _read_mask(mask, batch, n_frames, scores.single)
    else:
        raise ValueError("lengths and mask are both given; allowed: one of them")
    between, varying = _as_transitions(transitions, scores)
    potentials = Potentials(
        scores,
        counts,
        between,
        _as_parameter("start", start, (n_tags,)),
        _as_parameter("end", end, (n_tags,)),
        kept=kept,
    )
    if varying:
        if between.values.dtype != scores.values.dtype:  # float32 and float64
            with np.errstate(invalid="ignore"):  # signalling NaN
                between.values = between.values.astype(np.float64)
                scores.values = scores.values.astype(np.float64, "C")  # contiguous rows, if sequences share them
        potentials.varying = kernel_ready(potentials.like_varying(between.values))
    if kept is not None:
        potentials.scores = MaskedScores(potentials.gather(scores.values), scores.given)
    return potentials


def _as_transitions(value: Any, scores: Scores) -> tuple[SharedParameter, bool]:
    """Check transitions [K, K], or of each step [B, T, K, K]; True for the latter."""
    array = as_array("transitions", value)
    n_tags = scores.values.shape[-1]
    if array.ndim < 3:
        return _as_parameter("transitions", array, (n_tags, n_tags)), False
    allowed = (*scores.given.shape, n_tags)
    if array.shape != allowed:
        raise ValueError(
            f"transitions has shape {array.shape}; allowed: {(n_tags, n_tags)}, or {allowed} for each step"
        )
    if array.dtype.kind != "f" and not is_bfloat16(array.dtype):
        raise wrong_dtype("transitions", array, FLOATS)
    values = as_floats("transitions", array)
    values = values.astype(np.float32) if values.itemsize == 2 else values
    return SharedParameter("transitions", values, array.dtype), True


def _as_parameter(name: str, value: Any, shape: tuple[int, ...]) -> SharedParameter:
    if value is None and name != "transitions":
        return SharedParameter(name, np.zeros(shape), None)
    array = as_array(name, value)
    if array.dtype.kind != "f" and not is_bfloat16(array.dtype):
        raise wrong_dtype(name, array, FLOATS)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}")
    # A copy, so that the gradient may be written over the argument.
    values = np.empty(shape)
    if not arguments.read_numbers(array, values, -math.inf, sys.float_info.max):
        values = as_doubles(array)
        first = arguments.first_not_a_score(values.reshape(-1))
        if first >= 0:
            where = ", ".join(map(str, np.unravel_index(first, shape)))
            raise ValueError(f"{name}[{where}] is {values.flat[first]}; allowed: finite, or -inf to forbid")
    return SharedParameter(name, values, array.dtype)


def _read_mask(
    mask: Any, batch: int, n_frames: int, single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the number of steps within the mask [B], and these steps [B, T'], unless they are the first ones."""
    inside = as_mask("mask", mask, (n_frames,) if single else (batch, n_frames)).reshape(batch, n_frames)
    counts: NDArray[np.int64] = inside.sum(axis=1, dtype=np.int64)
    if not (inside[:, 1:] > inside[:, :-1]).any():
        return counts, None
    return counts, np.argsort(~inside, axis=1, kind="stable")[:, : counts.max()]


def as_tags(tags: ArrayLike, potentials: Potentials) -> NDArray[np.int64]:
    """Check tags [B, T], or [T] of one sequence, within the mask or up to the length of each."""
    batch, n_frames = potentials.shape
    n_tags = potentials.scores.values.shape[2]
    shape = (n_frames,) if potentials.single else (batch, n_frames)
    if type(tags) is np.ndarray and tags.shape == shape and potentials.kept is None:
        values = np.empty((batch, n_frames), np.int64)
        if arguments.read_tags(tags, potentials.lengths, n_tags, values):
            return values
    read = read_integers("tags", tags)
    values = read.values
    if values.shape != shape:
        raise ValueError(f"tags has shape {values.shape}; allowed: {shape}{swapped_axes(values.shape, shape)}")
    values = potentials.gather(values.reshape(batch, n_frames))
    bad = arguments.find_bad_tag(values, potentials.lengths, n_tags)
    if bad is not None:
        b, t = bad
        t = t if potentials.kept is None else int(potentials.kept[b, t])
        where = f"tags[{t}]" if potentials.single else f"tags[{b}, {t}]"
        shown = read.shown(b * n_frames + t)
        padding = "; if it is padding, pass lengths or mask" if shown < 0 else ""
        raise ValueError(f"{where} is {shown}; allowed: 0 to {n_tags - 1}{padding}")
    return values


def as_cost(cost: Any, n_tags: int) -> NDArray[np.float64]:
    """Return the cost [K, K] of taking tag y' (column) for tag y (row)."""
    if isinstance(cost, str):
        if cost != "hamming":
            raise ValueError(f"cost is {brief(cost)}; allowed: 'hamming' or an array ({n_tags}, {n_tags})")
        return 1.0 - np.eye(n_tags)
    array = as_real("cost", cost)
    if array.shape != (n_tags, n_tags):
        raise ValueError(f"cost has shape {array.shape}; allowed: ({n_tags}, {n_tags})")
    values = as_doubles(array)
    for bad, allowed in (
        (~(np.isfinite(values) & (values >= 0)), "finite, 0 or more"),
        ((values != 0) & np.eye(n_tags, dtype=bool), "0 on the diagonal, which is where the tag is right"),
    ):
        if bad.any():
            i, j = np.argwhere(bad)[0].tolist()
            raise ValueError(f"cost[{i}, {j}] is {values[i, j]}; allowed: {allowed}")
    return values


def as_crf_gradients(potentials: Potentials, return_grad: bool, grad_out: Any) -> tuple[Gradient, ...]:
    """Return where the kernel writes the gradients, in the order of `CRFGradient`."""
    return as_gradients(potentials.scores, potentials.parameters, return_grad, grad_out, CRFGradient)


def read_from(potentials: Potentials, gradient: Gradient) -> NDArray[Any]:
    """Return the emissions, apart from where their gradient goes."""
    values = potentials.scores.values
    return values.copy() if gradient.in_place else values


def finish(potentials: Potentials, gradients: tuple[Gradient, ...]) -> CRFGradient:
    """Return the gradients in the requested arrays and dtypes; None for a parameter that was left out."""
    emissions, transitions, *ends = gradients
    if emissions.values is not None:
        emissions.values = potentials.scatter(emissions.values, 0)
    start, end = (None if gradient.dtype is None else gradient.finish() for gradient in ends)
    return CRFGradient(emissions.finish(), transitions.finish(), start, end)


def schedule(
    potentials: Potentials, scale: NDArray[np.float64] | None, num_threads: int | None, sweeps: int
) -> Schedule:
    """Return the order of the sequences that have frames and a scale other than 0, longest first, and the threads.

    A `scale` of None means 1 for all; `sweeps` is the number of passes over each sequence.
    """
    lengths = potentials.lengths
    batch, n_frames, n_tags = potentials.scores.values.shape
    steps = int(lengths[0] if batch == 1 else lengths.sum())
    if scale is None and steps == batch * n_frames > 0:
        order = np.arange(batch, dtype=np.int64)
    else:
        order = np.flatnonzero(lengths if scale is None else lengths * (scale != 0))
        order = order[np.argsort(-lengths[order], kind="stable")].astype(np.int64, copy=False)
    # Nanoseconds, roughly: a multiply-add, or an exponential, for each pair of tags, and an exponential for each tag.
    pair = 0.06 if potentials.varying is None else 10.0
    work = float(steps * sweeps) * (n_tags * (n_tags * pair + 1.0) + 30.0)
    return Schedule(order, threads_for(num_threads, work, len(order)))
