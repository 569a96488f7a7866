"""Transducer losses of JAX arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction
from .._core.types import BlankModel, Infeasible, Input, SequenceReduction, Topology
from ..transducer.loss import rnnt_loss as _rnnt_loss
from ..transducer.simple import rnnt_simple_loss as _rnnt_simple_loss
from ..transducer.tdt import tdt_loss as _tdt_loss
from .callback import HostLoss, apply, as_constant, as_options, as_per_sequence, as_scores, named, ndims
from .reduction import reduce_sequences


def _apply(
    function: Callable[..., Any],
    scores: dict[str, Any],
    axes: int,
    labels: Any,
    lengths: tuple[Any, Any],
    reduction: SequenceReduction,
    normalizer: Any,
    sample_weight: Any,
    ranges: Any = None,
    **options: Any,
) -> jax.Array:
    """Return the loss of scores, of which the first has `axes` axes beside that of the batch."""
    arrays = tuple(as_scores(name, value) for name, value in scores.items())
    first = arrays[0]
    if first.ndim not in (axes, axes + 1):
        allowed = {2: "[B, T, V], or [T, V]", 3: "[B, T, U + 1, V], or [T, U + 1, V]"}[axes]
        raise ValueError(f"{next(iter(scores))} has shape {first.shape}; allowed: {allowed} for one sequence")
    ((_, normalizer),) = as_options(normalizer=normalizer)
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    batch = first.shape[:-axes]
    y = as_constant("labels", labels)
    if y is None or y.ndim != len(batch) + 1:
        shape = None if y is None else y.shape
        raise ValueError(f"labels has shape {shape}; allowed: {'[B, U]' if batch else '[U] for one sequence'}")
    frames, counts = (as_per_sequence(*given, batch) for given in zip(_LENGTHS, lengths, strict=True))
    weight = as_per_sequence("sample_weight", sample_weight, batch)
    # The weights go with the reduction: the losses themselves are independent of each other.
    constants = {"labels": y, "logit_lengths": frames, "label_lengths": counts, "sample_weight": weight}
    if ranges is not None:
        constants["ranges"] = as_constant("ranges", ranges)
    host = HostLoss(
        loss=named(function),
        names=(*scores, *constants),
        ndims=ndims(*arrays, *constants.values()),
        n_scores=len(arrays),
        shape=batch,
        folds=True,
        shared=(),
        options=as_options(reduction="none", **options),
    )
    losses = apply(host, arrays, tuple(constants.values()))
    return reduce_sequences(losses, y.shape[-1] if counts is None else counts, reduction, normalizer, weight)


_LENGTHS = ("logit_lengths", "label_lengths")


def rnnt_loss(
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    blank_model: BlankModel = "softmax",
    topology: Topology = "regular",
    fastemit: float = 0.0,
    ranges: Any = None,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Transducer loss (RNN-T), softmax included.

    Parameters
    ----------
    logits : array [B, T, U + 1, V], or [T, U + 1, V] for one sequence; [B, T, R, V] with `ranges`
        Scores of V classes for every frame and every number of labels before it: float32, float64, float16 or
        bfloat16.
    labels : array of int [B, U], or [U]
        Classes, with any values in the padding.
    logit_lengths, label_lengths : array of int [B], optional
        Lengths of each sequence; the full ones by default.
    blank, input, blank_model, topology, fastemit, ranges, infeasible
        As of `fastseqloss.rnnt_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.rnnt_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    See Also
    --------
    fastseqloss.rnnt_loss : the same for NumPy arrays, and the equation.

    Notes
    -----
    With `fastemit`, the gradient is that of FastEmit, which is not the derivative of the loss.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import rnnt_loss
    >>> jax.grad(rnnt_loss)(jnp.zeros((1, 2, 2, 2)), jnp.array([[1]]))[0, :, 0, 1]
    Array([ 0.  , -0.25], dtype=float32)
    """
    return _apply(
        _rnnt_loss,
        {"logits": logits},
        3,
        labels,
        (logit_lengths, label_lengths),
        reduction,
        normalizer,
        sample_weight,
        ranges,
        blank=blank,
        input=input,
        blank_model=blank_model,
        topology=topology,
        fastemit=fastemit,
        infeasible=infeasible,
        num_threads=num_threads,
    )


def tdt_loss(
    logits: Any,
    duration_logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    durations: Any,
    blank: int = 0,
    sigma: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Token-and-duration transducer loss (TDT), differentiable in both scores.

    Parameters
    ----------
    logits : array [B, T, U + 1, V], or [T, U + 1, V] for one sequence
        Scores of V classes: float32, float64, float16 or bfloat16.
    duration_logits : array [B, T, U + 1, D]
        Scores of the durations, of the dtype of `logits`.
    labels, logit_lengths, label_lengths
        As of `rnnt_loss`.
    durations, blank, sigma, infeasible
        As of `fastseqloss.tdt_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.tdt_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    See Also
    --------
    fastseqloss.tdt_loss : the same for NumPy arrays, and the equation.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import tdt_loss
    >>> loss = lambda d: tdt_loss(jnp.zeros((1, 2, 2, 2)), d, jnp.array([[1]]), durations=(0, 1))
    >>> jax.grad(loss)(jnp.zeros((1, 2, 2, 2)))[0, 1, 1]
    Array([ 0.5, -0.5], dtype=float32)
    """
    return _apply(
        _tdt_loss,
        {"logits": logits, "duration_logits": duration_logits},
        3,
        labels,
        (logit_lengths, label_lengths),
        reduction,
        normalizer,
        sample_weight,
        durations=durations,
        blank=blank,
        sigma=sigma,
        infeasible=infeasible,
        num_threads=num_threads,
    )


def rnnt_simple_loss(
    am: Any,
    lm: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    topology: Topology = "regular",
    fastemit: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Transducer loss of an additive joiner, whose logits ``am[:, :, None] + lm[:, None]`` are never stored.

    Parameters
    ----------
    am : array [B, T, V], or [T, V] for one sequence
        Scores of V classes at every frame: float32, float64, float16 or bfloat16.
    lm : array [B, U + 1, V]
        Scores after every number of labels, of the dtype of `am`.
    labels, logit_lengths, label_lengths
        As of `rnnt_loss`.
    blank, topology, fastemit, infeasible
        As of `fastseqloss.rnnt_simple_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.rnnt_simple_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    See Also
    --------
    fastseqloss.rnnt_simple_loss : the same for NumPy arrays.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import rnnt_simple_loss
    >>> jax.grad(rnnt_simple_loss, argnums=1)(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), jnp.array([[1]]))[0]
    Array([[ 0.25, -0.25],
           [-0.75,  0.75]], dtype=float32)
    """
    return _apply(
        _rnnt_simple_loss,
        {"am": am, "lm": lm},
        2,
        labels,
        (logit_lengths, label_lengths),
        reduction,
        normalizer,
        sample_weight,
        blank=blank,
        topology=topology,
        fastemit=fastemit,
        infeasible=infeasible,
        num_threads=num_threads,
    )
