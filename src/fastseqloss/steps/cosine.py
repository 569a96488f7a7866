"""Cosine distance of vectors at each step of padded sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .._core.engine import as_options
from .._core.keywords import known_keywords
from .._core.types import (
    Loss,
    LossAndGradient,
    RegressionGradient,
    RegressionGradientOut,
    StepReduction,
)
from .vectors import vector_loss, vector_loss_and_gradients


@known_keywords
def cosine_distance_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Cosine distance between the vectors of predictions and targets, and its gradient.

    The distance depends only on the directions of the vectors, not on their lengths. It is from 0, for the same
    direction, to 2, for opposite directions.

    .. math::
        L_{b,t} = 1 - \frac{\hat y_{b,t} \cdot y_{b,t}}{\lVert \hat y_{b,t} \rVert \, \lVert y_{b,t} \rVert}

    Parameters
    ----------
    predictions : array_like [..., D]
        Vectors of D features, with any number of axes of steps before them: batch, time and so on; [N, D] is
        N sequences of one step. float16, bfloat16, float32 or float64, computed in float64. Any strides; an axis of
        features that is not contiguous is copied.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    reduction : {"mean", "sequence_mean", "batch_mean", "sum", "per_sequence", "step_mean", "none"}
        "mean" divides the sum over steps by their number; "sequence_mean" averages each sequence over
        its steps, then the sequences; "batch_mean" divides the sum by B; "per_sequence" gives the sums
        [B], "step_mean" the averages over the sequences at each step, and "none" the loss of every step.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], or of the shape of the steps, optional
        Weight of each sequence or of each step, finite and not negative where steps count. Averages divide by the
        sum of the weights instead of a count; if they are weights of steps, averages over sequences divide by B.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `predictions` to write the gradient to; may be `predictions` itself.
        Implies `return_grad`. With `with_respect_to`, a `RegressionGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "predictions", or "targets" of a float dtype, or both. Implies
        `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `predictions`; or RegressionGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, weights or options are not as above. The message names the
        argument, the position, the value and what is allowed. In that case, nothing has been
        written.

    Notes
    -----
    A vector of zeros has no direction: its loss is 1, and the gradients with respect to both vectors are 0. The
    denominator contains no epsilon, so that vectors of any other length, including the smallest and largest numbers,
    have the loss and gradient of the equation. The distance of vectors of nearly the same direction is computed without
    a difference from 1.

    Replaces ``optax.losses.cosine_distance``, ``keras.losses.CosineSimilarity`` (1 less) and
    ``torch.nn.functional.cosine_embedding_loss`` with targets of 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.cosine_distance_loss([[[3.0, 4.0], [1.0, 1.0]]], [[[3.0, 0.0], [2.0, 2.0]]],
    ...                                       reduction="none", return_grad=True)
    >>> loss.round(6)  # 1 - 3 / 5
    array([[0.4, 0. ]])
    >>> grad.round(6)
    array([[[-0.128,  0.096],
            [ 0.   ,  0.   ]]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return vector_loss("cosine_distance", predictions, targets, options)
    return vector_loss_and_gradients(
        "cosine_distance", predictions, targets, options, with_respect_to, RegressionGradient
    )
