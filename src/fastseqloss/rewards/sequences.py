"""Log-probabilities of whole sequences, sums of their losses, and the functions that these losses consist of."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_doubles, as_floats, as_weights
from .._core.gradient import Gradient
from .._core.reduction import check_reduction, finish_sequences, sequence_scale
from .._core.risk import RISK_REDUCTIONS
from .._core.threads import check_num_threads
from .._core.types import Loss

Doubles = NDArray[np.float64]

_MOST = sys.float_info.max
_ROUNDING = 1e-6  # by which a log-probability may exceed 0


@dataclass(slots=True)
class LogProbs:
    """Log-probabilities of sequences: a copy in float64 to compute with, and the array as passed."""

    values: Doubles  # [B], NaN for +inf
    given: NDArray[Any]  # [B] or []

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape as passed."""
        return self.given.shape

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return None: gradients are computed in float64, and then rounded."""
        return None

    def empty(self) -> Doubles:
        """Allocate an array for the gradient."""
        return np.empty(self.values.shape)


def as_log_probs(name: str, value: Any) -> LogProbs:
    """Check log-probabilities [B], or a number for one sequence."""
    given = as_array(name, value)
    if given.ndim > 1:
        raise ValueError(f"{name} has shape {given.shape}; allowed: [B], or a number for one sequence")
    values = as_doubles(as_floats(name, given)).reshape(-1)
    values[values == np.inf] = np.nan
    return LogProbs(values, given)


def check_not_positive(name: str, values: Doubles, shape: tuple[int, ...]) -> None:
    """Check that log-probabilities are 0 or less; those that exceed 0 by rounding are set to 0."""
    bad = np.flatnonzero(values > _ROUNDING)
    if bad.size:
        where = f"{name}[{bad[0]}]" if shape else name
        raise ValueError(f"{where} is {values[bad[0]]}; allowed: log-probabilities, 0 or less")
    np.minimum(values, 0.0, out=values)


@dataclass(slots=True)
class SequenceSum:
    """Sum of the losses of sequences."""

    shape: tuple[int, ...]  # (B,), or () for one sequence
    reduction: str
    scale: Doubles  # [B], factors of losses and gradients

    def finish(self, losses: Doubles) -> Loss:
        """Return the reduced loss."""
        return finish_sequences(self.reduction, losses, self.scale, single=not self.shape)

    def write(self, slopes: Doubles, gradient: Gradient) -> None:
        """Write the gradient, if requested, given the derivatives of each loss; its numbers are finite or NaN."""
        if gradient.values is not None:
            scaled = np.multiply(slopes, self.scale, out=np.zeros_like(slopes), where=self.scale != 0)
            np.clip(scaled, -_MOST, _MOST, out=gradient.values)


def as_sequence_sum(
    shape: tuple[int, ...], reduction: str, normalizer: float | None, sample_weight: Any, num_threads: Any
) -> SequenceSum:
    """Check the options that all losses of sequences have."""
    normalizer = check_reduction(reduction, RISK_REDUCTIONS, normalizer)
    check_num_threads(num_threads)
    batch = math.prod(shape)
    weight = as_weights("sample_weight", sample_weight, batch)
    return SequenceSum(shape, reduction, sequence_scale(reduction, np.ones(batch), normalizer, weight, batch))


def softplus(x: Doubles) -> Doubles:
    """Return log(1 + exp(x)), which is -log(sigmoid(-x))."""
    return np.logaddexp(0.0, x)


def sigmoid(x: Doubles) -> Doubles:
    """Return 1 / (1 + exp(-x)), accurate where it is close to 0, too."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, small, 1.0) / (1 + small))


def log_complement(x: Doubles) -> Doubles:
    """Return log(1 - exp(x)) for x below 0."""
    return np.where(x > -math.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
