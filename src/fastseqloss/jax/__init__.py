"""Losses of JAX arrays on the CPU, for use with `jax.jit`, `jax.grad` and `jax.vmap`. Needs JAX.

The losses of this package as custom calls in JAX programs, with gradients by `jax.custom_vjp`. `ctc_loss` has the
arguments of `optax.losses.ctc_loss`, so a training script needs only a different import:

>>> from fastseqloss.jax import ctc_loss  # instead of: from optax.losses import ctc_loss

One call computes loss and gradient. It reads the scores and writes the gradient in JAX's memory, without a copy, and it
never blocks. Mapped axes are merged into the batch if the losses of the sequences are independent. Scores of a wrong
shape or dtype raise an error during tracing; a wrong value, such as a length out of range, raises an error when the
program runs, a `jax.errors.JaxRuntimeError` or ValueError depending on the version of JAX, which ends with the message
of this package. Only first derivatives in reverse mode are available; other derivatives, and those with respect to
weights and paddings, raise an error. Half precision gives losses in float32, and gradients that are rounded after
scaling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import jax
except ModuleNotFoundError as error:
    needs = f"fastseqloss.jax needs {error.name}, of the extra `jax`: python -m pip install jax"
    raise ModuleNotFoundError(needs, name=error.name) from error
from .._adapters.functions import name_of
from .._core.options import as_index
from ..ctc.loss import ctc_loss as _ctc_loss
from . import losses
from .callback import HostLoss, apply, as_constant, as_options, as_scores, ndims
from .losses import *  # noqa: F403

__all__ = ["ctc_loss"]
__all__ += losses.__all__


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
    given = {"logit_paddings": logit_paddings, "labels": labels, "label_paddings": label_paddings}
    for name, value in given.items():
        if value is None:
            raise TypeError(f"{name} is None; allowed: an array")
    constants = tuple(map(as_constant, given, given.values()))
    host = HostLoss(
        loss=name_of(_padded_ctc),
        names=("logits", *given),
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
