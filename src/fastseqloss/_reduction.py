"""The reduction table: what every loss is summed to, and what its gradient is scaled by."""

from __future__ import annotations

import math
import numbers

import numpy as np
from numpy.typing import NDArray

SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")


def check_reduction(reduction: str, allowed: tuple[str, ...], normalizer: float | None) -> None:
    """Raise ValueError for a reduction that is not allowed or a normalizer that does not fit."""
    if reduction not in allowed:
        raise ValueError(f"reduction is {reduction!r}; allowed: {', '.join(map(repr, allowed))}")
    if normalizer is None:
        return
    if reduction != "sum":
        raise ValueError(f"normalizer needs reduction='sum', got reduction={reduction!r}")
    if isinstance(normalizer, bool) or not isinstance(normalizer, numbers.Real):
        raise TypeError(f"normalizer is {normalizer!r}; allowed: a number, finite and above 0")
    if not (math.isfinite(normalizer) and normalizer > 0):
        raise ValueError(f"normalizer is {normalizer}; allowed: finite and above 0")


def sequence_scale(
    reduction: str,
    lengths: NDArray[np.int64],
    normalizer: float | None,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return what each sequence's loss is multiplied by before the losses are added.

    `lengths` [B] are what "sequence_mean" divides by.
    """
    total: float = len(lengths) if sample_weight is None else float(sample_weight.sum())
    divisor = 1.0
    if reduction in ("mean", "sequence_mean"):
        divisor = total
    elif normalizer is not None:
        divisor = float(normalizer)
    factor = 1.0 / divisor if divisor > 0 else 0.0
    scale = np.empty(len(lengths))
    scale[...] = factor if sample_weight is None else sample_weight * factor
    if reduction == "sequence_mean":
        scale /= np.maximum(lengths, 1)
    return scale


def reduce_sequences(
    reduction: str, loss: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64] | float:
    """Return the reduced loss; a sequence of scale 0 does not count, whatever its loss."""
    if len(loss) == 1 and reduction != "none":
        return float(loss[0] * scale[0]) if scale[0] else 0.0
    weighted = np.multiply(loss, scale, out=np.zeros_like(loss), where=scale != 0)
    return weighted if reduction == "none" else float(weighted.sum())
