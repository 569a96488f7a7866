"""Lists of items: the arguments of all losses of a family, checked, and the call of the kernel."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import (
    TYPE_NAMES,
    as_array,
    as_doubles,
    as_finite,
    as_lengths,
    as_mask,
    as_real,
    as_weights,
    stored_or_none,
)
from .._core.gradient import Gradient
from .._core.levels import load
from .._core.messages import indexed
from .._core.reduction import finish_sequences, sequence_scale
from .._core.scores import StepScores, as_step_vectors
from .._core.steps import Steps
from .._core.threads import threads_for
from .._core.types import Loss, LossAndGradient

_kernel = load("ranking.lists")
_CODES = {name: code for code, name in _kernel.LOSSES.items()}
_MOST = sys.float_info.max
LIST_REDUCTIONS = ("none", "sum", "mean")  # of losses whose terms are lists


@dataclass(slots=True)
class Lists:
    """Scores of lists, the items that count, and the weights of the lists."""

    scores: StepScores  # [B, 1, N]
    lengths: NDArray[np.int64]  # [B]
    counting: NDArray[np.bool_] | None  # [B, N]; None without a mask
    inside: NDArray[np.bool_] | None  # [B, N], the items that count; None if all do
    sample_weight: NDArray[np.float64] | None  # [B]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the scores as passed."""
        return self.scores.given.shape

    @property
    def batch(self) -> int:
        """Return the number of lists."""
        return len(self.lengths)

    @property
    def n(self) -> int:
        """Return the number of items of a list, padding included."""
        return int(self.scores.values.shape[2])

    def not_empty(self) -> NDArray[np.float64]:
        """Return 1 for each list with items that count, and 0 for the others."""
        found = self.lengths > 0 if self.counting is None else np.logical_or.reduce(self.counting, axis=1)
        return np.asarray(found, np.float64)

    def threads(self, num_threads: int | None, per_item: float) -> int:
        """Return the number of threads, given the nanoseconds for an item."""
        return threads_for(num_threads, self.batch * self.n * per_item, self.batch)

    def scale(self, reduction: str, counts: NDArray[np.float64], normalizer: float | None) -> NDArray[np.float64]:
        """Return the factor of the loss of each list, given the numbers of terms that averages divide by."""
        return sequence_scale(reduction, counts, normalizer, self.sample_weight, self.batch)

    def reduced(self, reduction: str, losses: NDArray[np.float64], scale: NDArray[np.float64]) -> Loss:
        """Return the reduced loss."""
        reduction = "none" if reduction == "per_sequence" else reduction
        return finish_sequences(reduction, losses, scale, single=len(self.shape) == 1)


def as_lists(scores: Any, lengths: Any, mask: Any, sample_weight: Any) -> Lists:
    """Check scores [B, N] or [N], the items that count, and the weights of lists."""
    given = as_array("scores", scores)
    if given.ndim not in (1, 2):
        raise ValueError(f"scores has shape {given.shape}; allowed: [B, N], or [N] for one list")
    checked = as_step_vectors("scores", given, "N")
    if checked.values.itemsize == 2:
        checked = StepScores(checked.values.astype(np.float32, order="C"), given)
    batch, _, n = checked.values.shape
    first = as_lengths("lengths", lengths, batch, n, given.ndim == 1)
    inside = None if lengths is None else Steps.of((batch, n), first, None).counting()
    counting = None
    if mask is not None:
        counting = as_mask("mask", mask, given.shape, inside).reshape(batch, n)
        counting = inside = counting if inside is None else counting & inside
    return Lists(checked, first, counting, inside, as_weights("sample_weight", sample_weight, batch))


def as_numbers(lists: Lists, name: str, value: Any, least: float, most: float, allowed: str) -> NDArray[Any]:
    """Return numbers [B, N], between two bounds where items count, in float32 or float64."""
    given = as_real(name, value)
    if given.shape != lists.shape:
        raise ValueError(f"{name} has shape {given.shape}; allowed: {lists.shape}, a number for each item")
    if given.dtype not in TYPE_NAMES or not (given.flags.c_contiguous and given.flags.aligned):
        array: NDArray[Any] = as_doubles(given)
    else:
        array = given
    array = array.reshape(lists.batch, lists.n)
    counted = array if lists.inside is None else array[lists.inside]
    with np.errstate(invalid="ignore"):
        good = not counted.size or least <= float(counted.min()) <= float(counted.max()) <= most
    if not good:
        wide = as_doubles(array)
        bad = ~((wide >= least) & (wide <= most))
        bad = bad if lists.inside is None else bad & lists.inside
        where = tuple(int(i) for i in np.unravel_index(np.flatnonzero(bad)[0], lists.shape))
        raise ValueError(f"{indexed(name, where)} is {given[where]}; allowed: {allowed}")
    return array


def as_item_weight(lists: Lists, value: Any) -> NDArray[np.float64] | None:
    """Return weights of items [B, N], or None."""
    if value is None:
        return None
    weights = as_finite("item_weight", value, lists.shape, lists.inside, signed=False)
    return weights.reshape(lists.batch, lists.n)


def as_relevance(lists: Lists, value: Any) -> NDArray[Any]:
    """Return relevance [B, N] of which the order alone matters: ranks of integers that float64 would round."""
    given = as_real("relevance", value)
    rounded = given.dtype in (np.int64, np.uint64) and given.size > 0
    if rounded and max(int(given.max()), -int(given.min())) > 2**53:
        given = np.unique(given, return_inverse=True)[1].reshape(given.shape)
    return as_numbers(lists, "relevance", given, -_MOST, _MOST, "finite")


def run(
    loss: str,
    lists: Lists,
    scale: NDArray[np.float64] | None,
    gradient: NDArray[Any] | None,
    threads: int,
    *,
    relevance: NDArray[Any] | None = None,
    targets: NDArray[np.int64] | None = None,
    weight: NDArray[np.float64] | None = None,
    option: float = 0.0,
    discounts: NDArray[np.float64] | None = None,
    normalized: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Call the kernel; return the losses and the numbers of pairs of the lists, and write the gradient [B, 1, N]."""
    losses, counts = np.zeros(lists.batch), np.zeros(lists.batch)
    if lists.batch and lists.n:
        mask = None if lists.counting is None else lists.counting.view(np.uint8)
        described = (lists.scores.values, relevance, weight, gradient)
        others = (targets, mask, lists.lengths, scale, discounts, losses, counts)
        kinds = tuple([stored_or_none(array)[1] for array in described])
        _kernel.list_losses(_CODES[loss], option, normalized, (*described, *others), kinds, threads)
    return losses, counts


def run_scaled(
    loss: str,
    lists: Lists,
    gradient: Gradient,
    reduction: str,
    normalizer: float | None,
    threads: int,
    **given: Any,
) -> Loss | LossAndGradient:
    """Return loss and gradient if averages divide by the number of lists, so that the kernel scales gradients."""
    scale = lists.scale(reduction, lists.not_empty(), normalizer)
    losses, _ = run(loss, lists, scale, gradient.values, threads, **given)
    result = lists.reduced(reduction, losses, scale)
    return result if gradient.values is None else (result, gradient.finish())


def run_scaled_after(
    loss: str,
    lists: Lists,
    gradient: Gradient,
    reduction: str,
    normalizer: float | None,
    threads: int,
    counts: NDArray[np.float64] | None = None,
    **given: Any,
) -> Loss | LossAndGradient:
    """Return loss and gradient if the kernel computes gradients in float64.

    Averages divide by `counts` [B], or by the numbers of pairs, which the kernel finds.
    """
    values = gradient.values
    slopes = values if values is None or values.dtype == np.float64 else np.empty(values.shape)
    losses, pairs = run(loss, lists, None, slopes, threads, **given)
    scale = lists.scale(reduction, pairs if counts is None else counts, normalizer)
    result = lists.reduced(reduction, losses, scale)
    if slopes is None or values is None:
        return result
    with np.errstate(all="ignore"):
        if not scale.all():  # such lists do not count, even if their gradient is NaN
            slopes[scale == 0] = 0
        slopes *= scale[:, None, None]
        if slopes is not values:
            np.copyto(values, slopes, casting="same_kind")
    return result, gradient.finish()


def discounts_of(n: int) -> NDArray[np.float64]:
    """Return the discounts of DCG for ranks 1 to n."""
    return 1 / np.log2(np.arange(2, n + 2, dtype=np.float64))
