"""Soft-DTW of JAX arrays."""

from __future__ import annotations

from typing import Any

import jax

from .._core.options import choice
from .._core.reduction import SEQUENCE_REDUCTIONS
from .._core.types import SequenceReduction
from ..soft_dtw.loss import soft_dtw_loss as _soft_dtw_loss
from .callback import HostLoss, apply, as_options, as_per_sequence, as_scores, named, ndims


def soft_dtw_loss(
    x: Any,
    y: Any,
    lengths_x: Any = None,
    lengths_y: Any = None,
    *,
    gamma: float = 1.0,
    divergence: bool = False,
    band: int | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Soft dynamic time warping of two series, differentiable in both.

    Parameters
    ----------
    x : array [B, N, D], or [N, D] for one pair
        Series of vectors: float32, float64, float16 or bfloat16.
    y : array [B, M, D], or [M, D]
        Series to compare with; the dtype may differ.
    lengths_x, lengths_y, gamma, divergence, band
        As of `fastseqloss.soft_dtw_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.soft_dtw_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"`` (scalar for one pair), else scalar
        The loss.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    See Also
    --------
    fastseqloss.soft_dtw_loss : the same for NumPy arrays, and the equation.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import soft_dtw_loss
    >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [1.0], [1.0]])
    >>> jax.grad(lambda x: soft_dtw_loss(x, y, gamma=0.0))(x).ravel()
    Array([0., 0.], dtype=float32)
    """
    scores = as_scores("x", x), as_scores("y", y)
    if scores[0].ndim not in (2, 3):
        raise ValueError(f"x has shape {scores[0].shape}; allowed: [B, N, D], or [N, D] for one pair")
    choice("reduction", reduction, SEQUENCE_REDUCTIONS)
    batch = scores[0].shape[:-2]
    constants = (
        as_per_sequence("lengths_x", lengths_x, batch),
        as_per_sequence("lengths_y", lengths_y, batch),
        as_per_sequence("sample_weight", sample_weight, batch),
    )
    host = HostLoss(
        loss=named(_soft_dtw_loss),
        names=("x", "y", "lengths_x", "lengths_y", "sample_weight"),
        ndims=ndims(*scores, *constants),
        n_scores=2,
        shape=batch if reduction == "none" else (),
        folds=reduction == "none",
        shared=(),
        options=as_options(
            gamma=gamma,
            divergence=divergence,
            band=band,
            reduction=reduction,
            normalizer=normalizer,
            num_threads=num_threads,
        ),
    )
    return apply(host, scores, constants)
