"""Losses of JAX arrays on the CPU, for use with `jax.jit`, `jax.grad` and `jax.vmap`. Needs JAX.

The losses of this package as custom calls in JAX programs, with gradients by `jax.custom_vjp`. `ctc_loss` has the
arguments of `optax.losses.ctc_loss`, so a training script needs one changed import:

>>> from fastseqloss.jax import ctc_loss  # instead of: from optax.losses import ctc_loss

One call computes loss and gradient. It reads the scores and writes the gradient in JAX's memory, without a copy, and it
never blocks. Mapped axes are merged into the batch if the losses of the sequences are independent. Scores of a wrong
shape or dtype raise an error during tracing; a wrong value, such as a length out of range, raises an error when the
program runs, a `jax.errors.JaxRuntimeError` or ValueError depending on the version of JAX, which ends with the message
of this package. Only first derivatives in reverse mode are available; other derivatives, and those by weights and
paddings, raise an error. Half precision gives losses in float32, and gradients that are rounded after scaling.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

try:
    import jax
    import jax.numpy as jnp
except ModuleNotFoundError as error:
    needs = f"fastseqloss.jax needs {error.name}, of the extra `jax`: python -m pip install jax"
    raise ModuleNotFoundError(needs, name=error.name) from error
from .._core.options import as_index, choice
from .._core.reduction import SEQUENCE_REDUCTIONS, STEP_REDUCTIONS
from .._core.types import Input, SequenceReduction, StepReduction
from ..crf.loss import crf_loss as _crf_loss
from ..ctc.loss import ctc_loss as _ctc_loss
from ..steps.classification import softmax_cross_entropy as _softmax_cross_entropy
from .callback import HostLoss, apply, as_constant, as_operand, as_options, as_per_sequence, as_scores, named, ndims
from .reduction import reduce_sequences
from .soft_dtw import soft_dtw_loss
from .transducer import rnnt_loss, rnnt_simple_loss, tdt_loss

__all__ = [
    "crf_loss",
    "ctc_loss",
    "ctc_loss_with_lengths",
    "rnnt_loss",
    "rnnt_simple_loss",
    "soft_dtw_loss",
    "softmax_cross_entropy",
    "tdt_loss",
]


def ctc_loss(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: int = 0,
    *,
    num_threads: int | None = None,
) -> jax.Array:
    """Connectionist temporal classification losses of logits, with the arguments of ``optax.losses.ctc_loss``.

    Parameters
    ----------
    logits : array [B, T, V]
        Scores of V classes: float32, float64, float16 or bfloat16.
    logit_paddings : array [B, T]
        1 for padding, 0 for steps that count; padding is on the right.
    labels : array of int [B, S]
        Classes, with any values in the padding.
    label_paddings : array [B, S]
        1 for padding, 0 for labels; padding is on the right.
    blank_id : int
        Class of the blank; negative counts from the end.
    num_threads : int, optional
        Threads to use; see `fastseqloss.set_num_threads` for the default.

    Returns
    -------
    jax.Array [B]
        The loss of each sequence, in nats.

    Raises
    ------
    ValueError, TypeError
        If shape or dtype of the scores are not as above.
    jax.errors.JaxRuntimeError or ValueError
        When the program runs, if other arguments are not as above, with the message of `fastseqloss.ctc_loss`; or if
        paddings are other than 0 and 1, or come before steps or labels that are not padding.

    See Also
    --------
    ctc_loss_with_lengths : takes lengths instead of paddings, log-probabilities, and a reduction.

    Notes
    -----
    A sequence too short for its labels has loss inf and gradient 0. In optax it has a finite loss of about 1e5,
    controlled by the parameter ``log_epsilon``, which is not needed here. Logits of -inf are allowed.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import ctc_loss
    >>> logits, labels = jnp.zeros((1, 3, 2)), jnp.array([[1, 0]])
    >>> loss = lambda x: ctc_loss(x, jnp.zeros((1, 3)), labels, jnp.array([[0.0, 1.0]])).mean()
    >>> value, grad = jax.jit(jax.value_and_grad(loss))(logits)
    >>> round(float(jnp.exp(value)), 4), round(float(grad[0, 1, 1]), 4)
    (1.3333, -0.1667)
    """
    scores = as_scores("logits", logits)
    if scores.ndim != 3:
        raise ValueError(f"logits has shape {scores.shape}; allowed: [B, T, V]")
    (blank_id,) = (value for _, value in as_options(blank_id=blank_id))
    blank = as_index("blank_id", blank_id, scores.shape[2])
    names = ("logit_paddings", "labels", "label_paddings")
    constants = tuple(map(as_constant, names, (logit_paddings, labels, label_paddings)))
    host = HostLoss(
        loss=named(_padded_ctc),
        names=("logits", *names),
        ndims=ndims(scores, *constants),
        n_scores=1,
        shape=scores.shape[:1],
        folds=True,
        shared=(),
        options=as_options(blank=blank, num_threads=num_threads),
    )
    return apply(host, (scores,), constants)


def _padded_ctc(
    logits: NDArray[Any],
    logit_paddings: NDArray[Any],
    labels: NDArray[Any],
    label_paddings: NDArray[Any],
    **options: Any,
) -> Any:
    frames = _lengths("logit_paddings", logit_paddings, logits.shape[:2])
    label_lengths = _lengths("label_paddings", label_paddings, labels.shape)
    return _ctc_loss(logits, labels, frames, label_lengths, reduction="none", **options)


def _lengths(name: str, paddings: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the lengths of sequences with paddings [B, N] on the right."""
    if paddings.shape != shape:
        raise ValueError(f"{name} has shape {paddings.shape}; allowed: {shape}")
    for bad, allowed in (
        ((paddings != 0) & (paddings != 1), "0 and 1"),
        ((paddings[:, 1:] == 0) & (paddings[:, :-1] != 0), "1, after padding"),
    ):
        if bad.any():
            b, t = np.argwhere(bad)[0].tolist()
            t += allowed != "0 and 1"
            raise ValueError(f"{name}[{b}, {t}] is {paddings[b, t]}; allowed: {allowed}")
    lengths: NDArray[np.int64] = (paddings == 0).sum(axis=1)
    return lengths


def ctc_loss_with_lengths(
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: SequenceReduction = "mean",
    num_threads: int | None = None,
) -> jax.Array:
    """Connectionist temporal classification loss, with the arguments of `fastseqloss.ctc_loss`.

    Parameters
    ----------
    logits : array [B, T, V], or [T, V] for one sequence
        Scores of V classes: float32, float64, float16 or bfloat16.
    labels : array of int [B, S], or [S]
        Classes, with any values in the padding.
    logit_lengths, label_lengths, blank, input, infeasible, reduction, num_threads
        As of `fastseqloss.ctc_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import ctc_loss_with_lengths
    >>> x = jnp.zeros((2, 3, 2))
    >>> jax.grad(ctc_loss_with_lengths)(x, jnp.array([[1], [1]]), jnp.array([3, 1]))[1, :, 1]
    Array([-0.25,  0.  ,  0.  ], dtype=float32)

    A function of one sequence, mapped over a batch, is computed as one batch:

    >>> jax.vmap(lambda x, y: ctc_loss_with_lengths(x, y))(x, jnp.array([[1], [1]])).round(4)
    Array([0.2877, 0.2877], dtype=float32)
    """
    scores = as_scores("logits", logits)
    if scores.ndim not in (2, 3):
        raise ValueError(f"logits has shape {scores.shape}; allowed: [B, T, V], or [T, V] for one sequence")
    choice("reduction", reduction, SEQUENCE_REDUCTIONS)
    batch = scores.shape[:-2]
    constants = (
        as_constant("labels", labels),
        as_per_sequence("logit_lengths", logit_lengths, batch),
        as_per_sequence("label_lengths", label_lengths, batch),
    )
    if constants[0] is None or constants[0].ndim != scores.ndim - 1:
        shape = None if constants[0] is None else constants[0].shape
        raise ValueError(f"labels has shape {shape}; allowed: [B, S] as logits [B, T, V], [S] as logits [T, V]")
    host = HostLoss(
        loss=named(_ctc_loss),
        names=("logits", "labels", "logit_lengths", "label_lengths"),
        ndims=ndims(scores, *constants),
        n_scores=1,
        shape=batch,
        folds=True,
        shared=(),
        options=as_options(blank=blank, input=input, infeasible=infeasible, reduction="none", num_threads=num_threads),
    )
    losses = apply(host, (scores,), constants)
    return reduce_sequences(losses, constants[0].shape[-1] if constants[2] is None else constants[2], reduction)


def softmax_cross_entropy(
    logits: Any,
    targets: Any,
    lengths: Any = None,
    *,
    mask: Any = None,
    input: Input = "logits",
    ignore_index: int = -100,
    class_weight: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Softmax cross-entropy of steps of padded sequences.

    Parameters
    ----------
    logits : array [..., V]
        Scores of V classes: float32, float64, float16 or bfloat16.
    targets : array of int, shape of the steps; or of float, shape of `logits`
        Classes, or distributions over classes. The loss is differentiable in distributions.
    lengths, mask, input, ignore_index, class_weight, label_smoothing, z_loss
        As of `fastseqloss.softmax_cross_entropy`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.softmax_cross_entropy`.

    Returns
    -------
    jax.Array
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import softmax_cross_entropy
    >>> jax.grad(softmax_cross_entropy)(jnp.zeros((2, 2)), jnp.array([0, -100]))
    Array([[-0.5,  0.5],
           [ 0. ,  0. ]], dtype=float32)
    """
    scores = as_scores("logits", logits)
    if scores.ndim == 0:
        raise ValueError("logits has shape (); allowed: [..., V]")
    choice("reduction", reduction, STEP_REDUCTIONS)
    batch = scores.shape[:-1][:1]
    targets, distributions = _as_targets(targets, scores.shape, ignore_index)
    constants = (
        *(() if distributions else (targets,)),
        as_per_sequence("lengths", lengths, batch),
        as_constant("mask", mask),
        as_constant("class_weight", class_weight),
        as_per_sequence("sample_weight", sample_weight, batch),
    )
    options = as_options(
        input=input,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        reduction=reduction,
        normalizer=normalizer,
        num_threads=num_threads,
    )
    shapes = {"none": scores.shape[:-1], "per_sequence": batch}
    differentiable = (scores, targets) if distributions else (scores,)
    host = HostLoss(
        loss=named(_softmax_cross_entropy),
        names=("logits", "targets", "lengths", "mask", "class_weight", "sample_weight"),
        ndims=ndims(*differentiable, *constants),
        n_scores=len(differentiable),
        shape=shapes.get(reduction, ()),
        folds=reduction in shapes,
        shared=("class_weight",),
        options=options,
        by_targets=named(_gradient_of_targets) if distributions else None,
    )
    return apply(host, differentiable, constants)


def _as_targets(targets: Any, shape: tuple[int, ...], ignore_index: Any) -> tuple[Any, bool]:
    """Return the targets, and True for distributions, which have the shape of the logits."""
    array = as_operand("targets", targets)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return as_constant("targets", targets), False
    if array.shape != shape:
        allowed = f"integers of shape {shape[:-1]}, or floats of shape {shape}"
        raise ValueError(f"targets has shape {array.shape} and dtype {array.dtype}; allowed: {allowed}")
    if isinstance(ignore_index, (int, np.integer)) and ignore_index >= 0:
        raise ValueError(f"ignore_index is {ignore_index}; allowed with distributions: below 0, which ignores nothing")
    return as_scores("targets", array), True


def _gradient_of_targets(
    logits: NDArray[Any],
    targets: NDArray[Any],
    *,
    input: Input,
    label_smoothing: float,
    z_loss: float,
    **options: Any,
) -> NDArray[np.float64]:
    """Return the gradient by the targets if they are distributions; the loss is linear in them."""
    ones = np.ones(logits.shape)
    # With targets of 1, the gradient by log-probabilities is the negative weight of each class of each step.
    weight = -_softmax_cross_entropy(np.zeros(logits.shape), ones, input="log_probs", return_grad=True, **options)[1]
    losses = _negative_log_probs(logits.astype(np.float64), input)
    return np.multiply((1.0 - label_smoothing) * weight, losses, out=np.zeros(logits.shape), where=weight != 0)


def _negative_log_probs(scores: NDArray[np.float64], input: Input) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        if input != "logits":
            return -scores if input == "log_probs" else -np.log(scores)
        top = scores.max(axis=-1, keepdims=True)
        losses: NDArray[np.float64] = np.log(np.exp(scores - top).sum(axis=-1, keepdims=True)) - (scores - top)
    return np.where(top == -np.inf, 0.0, losses)  # a step whose scores are all -inf has gradient 0


def crf_loss(
    emissions: Any,
    tags: Any,
    transitions: Any,
    lengths: Any = None,
    *,
    mask: Any = None,
    start: Any = None,
    end: Any = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    num_threads: int | None = None,
) -> jax.Array:
    """Negative log-likelihood of a linear-chain CRF, differentiable in emissions, transitions, start and end.

    Parameters
    ----------
    emissions : array [B, T, K], or [T, K] for one sequence
        Scores of K tags: float32, float64, float16 or bfloat16.
    tags : array of int [B, T]
        The true tags.
    transitions : array [K, K]
        ``transitions[i, j]`` is the score of going from tag i to tag j; -inf forbids it, exactly.
    lengths, mask, start, end, reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.crf_loss`.

    Returns
    -------
    jax.Array [B] with ``reduction="none"``, else scalar
        The loss in nats.

    Raises
    ------
    ValueError, TypeError, jax.errors.JaxRuntimeError
        As `ctc_loss`.

    Notes
    -----
    With ``reduction="none"`` the gradient is computed in the backward pass, because the gradients of the shared
    parameters depend on the incoming gradient of each sequence's loss.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastseqloss.jax import crf_loss
    >>> jax.grad(crf_loss, argnums=2)(jnp.zeros((1, 2, 2)), jnp.array([[0, 1]]), jnp.zeros((2, 2)))
    Array([[ 0.25, -0.75],
           [ 0.25,  0.25]], dtype=float32)
    """
    x = as_scores("emissions", emissions)
    if x.ndim not in (2, 3):
        raise ValueError(f"emissions has shape {x.shape}; allowed: [B, T, K], or [T, K] for one sequence")
    choice("reduction", reduction, SEQUENCE_REDUCTIONS)
    parameters = {"transitions": transitions, "start": start, "end": end}
    scores = (x, *(None if value is None else as_scores(name, value) for name, value in parameters.items()))
    batch = x.shape[:-2]
    constants = (
        as_constant("tags", tags),
        as_per_sequence("lengths", lengths, batch),
        as_constant("mask", mask),
        as_per_sequence("sample_weight", sample_weight, batch),
    )
    host = HostLoss(
        loss=named(_crf_loss),
        names=("emissions", *parameters, "tags", "lengths", "mask", "sample_weight"),
        ndims=ndims(*scores, *constants),
        n_scores=4,
        shape=batch if reduction == "none" else (),
        folds=False,
        shared=tuple(parameters),
        options=as_options(reduction=reduction, normalizer=normalizer, num_threads=num_threads),
    )
    return apply(host, scores, constants)
