"""Reductions of the losses of sequences, by JAX: mapped axes are then merged into one batch of independent losses."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .._core.types import SequenceReduction


def reduce_sequences(
    losses: Any,
    label_lengths: Any,
    reduction: SequenceReduction,
    normalizer: float | None = None,
    sample_weight: Any = None,
) -> Any:
    """Return the reduction of losses [B] that have been multiplied by `sample_weight`, if given."""
    if reduction == "none":
        return losses
    if reduction == "sequence_mean":
        losses = losses / jnp.maximum(label_lengths, 1).astype(losses.dtype)
    total = losses.sum()
    if reduction == "sum":
        return total if normalizer is None else total / normalizer
    if sample_weight is None:
        return total / max(losses.size, 1)
    weight = sample_weight.sum().astype(losses.dtype)
    return total / jnp.where(weight > 0, weight, 1)  # without any weight the total is 0
