"""Reductions: sums of losses, and scales of losses and gradients."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .arrays import filled
from .options import as_number, choice

_MOST = sys.float_info.max


SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")


STEP_REDUCTIONS = ("none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean")

# Axes of [B, T, features] over which an average adds up weights, to divide by their sum.
_AVERAGED = {"mean": (0, 1, 2), "sequence_mean": (1, 2), "step_mean": (0, 2)}


def check_reduction(reduction: object, allowed: tuple[str, ...], normalizer: Any) -> float | None:
    """Return the normalizer as a number, or None; raise ValueError for a reduction that is not allowed."""
    choice("reduction", reduction, allowed)
    if normalizer is None:
        return None
    if reduction != "sum":
        raise ValueError(f"normalizer needs reduction='sum', got reduction={reduction!r}")
    number = as_number("normalizer", normalizer, 0.0, math.inf, open_ends=True, allowed="finite and above 0")
    if math.isinf(1.0 / number):
        raise ValueError(f"normalizer is {number}; allowed: numbers whose reciprocal is finite")
    return number


def sequence_scale(
    reduction: str,
    counts: NDArray[np.float64] | NDArray[np.int64],
    normalizer: float | None,
    sample_weight: NDArray[np.float64] | None,
    batch: int,
) -> NDArray[np.float64]:
    """Return the factor of the loss of each sequence in the sum.

    `counts` [B] are the (weighted) numbers of the terms that "mean" and "sequence_mean" average over; or a single
    number, for a single scale, if the reduction is uniform.
    """
    if sample_weight is None:
        return _scale(reduction, counts, normalizer, None, batch)
    with np.errstate(all="ignore"):
        if reduction in ("mean", "sequence_mean", "batch_mean"):
            sample_weight = _balanced(sample_weight)
        return _scale(reduction, counts, normalizer, sample_weight, batch)


def _balanced(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights in the same proportions, up to underflow, whose sum has a finite value and reciprocal."""
    largest = float(weight.max(initial=0.0))
    if largest == 0 or 1e-100 < largest < 1e100:
        return weight
    return np.ldexp(weight, -math.frexp(largest)[1])


def _scale(
    reduction: str,
    counts: NDArray[np.float64] | NDArray[np.int64],
    normalizer: float | None,
    sample_weight: NDArray[np.float64] | None,
    batch: int,
) -> NDArray[np.float64]:
    divisor = 1.0
    if reduction == "mean":
        divisor = _sum(counts if sample_weight is None else counts * sample_weight)
    elif reduction in ("sequence_mean", "batch_mean"):
        divisor = batch if sample_weight is None else float(sample_weight.sum())
    elif normalizer is not None:
        divisor = normalizer
    factor = 1.0 / divisor if divisor > 0 else 0.0
    # Scales are finite, because some of their cofactors are 0.
    scale: NDArray[np.float64]
    if sample_weight is None:
        scale = filled(len(counts), min(factor, _MOST))
        if reduction != "sequence_mean":
            return scale
    else:
        scale = sample_weight * factor
    if reduction == "sequence_mean":
        scale = np.divide(scale, counts, out=np.zeros(batch), where=counts > 0)
    return np.minimum(scale, _MOST)


def averages_steps(reduction: str) -> bool:
    """Return True if a reduction divides by the number of steps that it adds up."""
    return reduction in _AVERAGED


def step_scale(
    reduction: str,
    weight: NDArray[np.float64],
    terms: NDArray[np.float64] | None,
    normalizer: float | None,
    n_steps: int,
) -> NDArray[np.float64]:
    """Return the factor of the loss of each row in the sum, given its weight [B, R], 0 for one that does not count.

    A step has R / n_steps rows, whose mean is its loss. `terms` [B, R] are the (weighted) numbers of terms that
    averages count a row for, 1 by default.
    """
    batch, rows = weight.shape
    features = rows // n_steps if n_steps else 1
    with np.errstate(all="ignore"):
        if not averages_steps(reduction):
            divisor = batch if reduction == "batch_mean" else normalizer or 1.0
            return np.minimum(weight / (divisor * max(features, 1)), _MOST)
        axes = _AVERAGED[reduction]
        by_feature = weight.reshape(batch, n_steps, features)
        # Each average divides by a sum of weights, whose value and reciprocal are finite for weights up to 1.
        largest = by_feature.max(axis=axes, keepdims=True, initial=0)
        scale = np.ldexp(by_feature, -np.frexp(largest)[1])
        total = (scale if terms is None else scale * terms.reshape(scale.shape)).sum(axis=axes, keepdims=True)
        if reduction == "sequence_mean":
            total *= batch
        np.divide(scale, total, out=scale, where=total > 0)
        scale *= total > 0
        bounded: NDArray[np.float64] = np.minimum(scale, _MOST).reshape(batch, rows)
        return bounded


def _sum(values: NDArray[np.float64] | NDArray[np.int64]) -> float:
    return float(values[0] if len(values) == 1 else values.sum())


def length_scale(
    reduction: str,
    lengths: NDArray[np.int64],
    normalizer: float | None,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the scale of each sequence if "mean" averages over sequences and "sequence_mean" divides by lengths."""
    if reduction == "mean":
        reduction = "batch_mean"
    counts = np.maximum(lengths, 1) if reduction == "sequence_mean" else lengths
    return sequence_scale(reduction, counts, normalizer, sample_weight, len(lengths))


def finish_sequences(
    reduction: str, loss: NDArray[np.float64], scale: NDArray[np.float64], *, single: bool, infeasible: str = "inf"
) -> NDArray[np.float64] | float:
    """Return the reduced loss, a number for a single sequence; for infeasible="zero", losses of inf are set to 0.

    A sequence of scale 0 does not count, even if its loss is NaN or infinite.
    """
    if infeasible == "zero":
        loss[loss == np.inf] = 0.0
    if reduction == "none":
        weighted = np.empty(len(loss))
        arguments.weigh(loss, scale, weighted)
        return float(weighted[0]) if single else weighted
    total = arguments.weigh(loss, scale, None)
    return _small_sum(loss, scale) if math.isnan(total) else total


def _small_sum(values: NDArray[np.float64], weights: NDArray[np.float64] | float = 1.0) -> float:
    """Return the weighted sum of terms whose partial sums may overflow with both signs; NaN if a value is NaN."""
    with np.errstate(all="ignore"):
        small, factors = np.ldexp(values, -600), np.ldexp(weights, -600)
        terms = np.multiply(small, factors, out=np.zeros_like(values), where=np.not_equal(weights, 0))
        return float(np.ldexp(terms.sum(), 1200))


def is_uniform(reduction: str, sample_weight: NDArray[np.float64] | None) -> bool:
    """Return True if every sequence has the same scale and the sums of single sequences are not needed.

    The batch is then reduced as one sequence.
    """
    return sample_weight is None and reduction in ("none", "sum", "mean", "batch_mean")


def by_sequence(losses: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return losses [B R] in the form of `reduce_steps`."""
    if scale.ndim == 2:
        return losses.reshape(scale.shape)
    return losses.reshape(len(scale), -1) if losses.size else np.zeros((len(scale), 0))


def reduce_steps(
    reduction: str, losses: NDArray[np.float64], scale: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64] | float:
    """Return the reduced loss of steps of this shape.

    The scale is that of each sequence, for losses [B, R], or partial sums unless "none"; or that of each loss.
    """
    if scale.ndim == 2:
        return _reduce_each(reduction, losses, scale, shape)
    if reduction == "none":
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.multiply(losses, scale[:, None], out=np.zeros_like(losses), where=scale[:, None] != 0)
        return scaled.reshape(shape) if shape else float(scaled[0, 0])
    sums = np.empty(len(losses))
    weighted = np.empty(len(losses)) if reduction == "per_sequence" else None
    arguments.sequence_sums(losses, sums)
    total = arguments.weigh(sums, scale, weighted)
    if math.isnan(total):  # as it is if a sum is that counts
        for b in np.flatnonzero(np.isnan(sums)):
            sums[b] = _small_sum(losses[b])
        total = arguments.weigh(sums, scale, weighted)
    if weighted is not None:
        return weighted if shape else float(weighted[0])
    if math.isnan(total):
        total = _small_sum(sums, scale)
    return _small_sum(losses, scale[:, None]) if math.isnan(total) else total


def _reduce_each(
    reduction: str, losses: NDArray[np.float64], scale: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64] | float:
    """Return the reduced loss of steps of this shape with a scale each; a step of scale 0 does not count."""
    with np.errstate(all="ignore"):
        scaled = np.multiply(losses, scale, out=np.zeros_like(losses), where=scale != 0)
    if reduction == "none":
        return scaled.reshape(shape)
    if reduction == "step_mean":
        scaled, losses, scale = (np.ascontiguousarray(array.T) for array in (scaled, losses, scale))
    sums = np.empty(len(scaled))
    arguments.sequence_sums(scaled, sums)
    for i in np.flatnonzero(np.isnan(sums)):
        sums[i] = _small_sum(losses[i], scale[i])
    if reduction == "per_sequence":
        return sums
    if reduction == "step_mean":
        return sums.reshape(shape[1:]) if len(shape) > 1 else float(sums[0])
    total = arguments.weigh(sums, np.ones(len(sums)), None)
    return _small_sum(losses, scale) if math.isnan(total) else total
