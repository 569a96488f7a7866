"""Focal losses over padded sequences: cross-entropies with less weight on well classified steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from .._core.engine import as_options
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import InputKind, as_number
from .._core.types import (
    CrossEntropyGradient,
    CrossEntropyGradientOut,
    Loss,
    LossAndGradient,
    StepReduction,
)
from .pointwise import pointwise_loss
from .rows import balance, prepare_rows, short_loss
from .targets import as_request, gradients_of_pairs

if TYPE_CHECKING:
    from .._kernels.steps import classification as _kernel
else:
    _kernel = load("steps.classification")


@known_keywords
def softmax_focal_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    class_weight: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Focal loss of a choice among several classes, and its gradient.

    The softmax cross-entropy, multiplied by a power of the probability of all other classes, so that easy steps have
    less weight [1]_.

    .. math:: L_{b,t} = -w_y (1 - p_{b,t,y})^\gamma \log p_{b,t,y}, \quad p = \mathrm{softmax}(x)

    Parameters
    ----------
    logits : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float32 and float64 are native; float16 and bfloat16 are read and written
        without a converted copy, and computed in float32. Any strides; a class axis that is not contiguous
        is copied.
    targets : array_like of int, shape of the steps
        Classes.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    gamma : float
        Power of the factor, 0 or more; 0 is the softmax cross-entropy.
    ignore_index : int
        Steps with this target do not count.
    class_weight : array_like [V], optional
        Weight of each class, 0 or from 1e-150 to 1e150. A step has the weight of its target, and averages
        divide by the sum of these weights.
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
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : the loss without the factor.
    binary_focal_loss : the same for independent decisions.

    Notes
    -----
    For probabilities near 1, the loss of a step and its gradient are finite and go to 0 with any `gamma`, with the
    absolute error of the softmax cross-entropy, about 1e-16 for float64. A target whose logit is -inf has loss inf,
    and a step whose logits are all -inf has gradient 0.

    Replaces ``keras.losses.CategoricalFocalCrossentropy`` of logits (whose factor ``alpha``, by default 0.25,
    corresponds to `class_weight`, except in averages).

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar, "Focal loss for dense object detection",
       ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x = np.log([[0.9, 0.05, 0.05], [0.5, 0.25, 0.25]])
    >>> fsl.softmax_focal_loss(x, [0, 0], reduction="none").round(4)
    array([0.0011, 0.1733])
    >>> fsl.softmax_cross_entropy(x, [0, 0], reduction="none").round(4)
    array([0.1054, 0.6931])
    """
    power = as_number("gamma", gamma, 0.0, math.inf)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if class_weight is None:
        found = short_loss(_kernel.entry, "softmax_focal", logits, targets, options, ignore_index, parameter=power)
        if found is not None:
            return found
    rows = prepare_rows("softmax_focal", logits, targets, options, ignore_index, class_weight)
    balance(rows, 0.0)
    return rows.run(_kernel.softmax_cross_entropy, None, 0, 0.0, 0.0, InputKind.LOGITS, power)


@known_keywords
def binary_focal_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | CrossEntropyGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, CrossEntropyGradient]:
    r"""Focal loss of binary decisions, and its gradient.

    The binary cross-entropy, multiplied by a power of the probability of the wrong decision, so that easy decisions
    have less weight [1]_.

    .. math::
        L_{b,t} = -\frac{1}{D} \sum_d \left[\alpha y + (1 - \alpha)(1 - y)\right]
        \left[y (1 - p) + (1 - y) p\right]^\gamma \left[y \log p + (1 - y) \log(1 - p)\right], \quad
        p = \frac{1}{1 + e^{-x}}

    where the indices b, t and d of the target y and the logit x are omitted. Without `alpha`, the factor in the first
    brackets is 1.

    Parameters
    ----------
    logits : array_like [B], [B, T] or [B, T, D]
        Scores: batch, time and features (labels of a multi-label step); the loss of a step is the mean over
        its features. float32 and float64 are native; float16 and bfloat16 are read and written without a
        converted copy. Any strides.
    targets : array_like, shape of `logits`
        Numbers from 0 to 1, of any real dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    gamma : float
        Power of the factor, 0 or more; 0 is the binary cross-entropy.
    alpha : float, optional
        Weight of positive targets, from 0 to 1; negative targets have the weight 1 - `alpha`.
    reduction : {"mean", "sequence_mean", "batch_mean", "sum", "per_sequence", "step_mean", "none"}
        "mean" divides the sum over steps by their number; "sequence_mean" averages each sequence over
        its steps, then the sequences; "batch_mean" divides the sum by B; "per_sequence" gives the sums
        [B], "step_mean" the averages over the sequences at each step, and "none" the loss of every step.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], [B, T] or [B, T, D], optional
        Weight of each sequence, step or feature, finite and not negative where steps count. Averages divide by the
        sum of the weights instead of a count; unless they are weights of sequences, averages over sequences
        divide by B.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`. With `with_respect_to`, a `CrossEntropyGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "logits", or "targets" of a float dtype,
        or both. Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `logits`; or CrossEntropyGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    binary_cross_entropy : the loss without the factor.
    softmax_focal_loss : the same for a choice among several classes.

    Notes
    -----
    The factor is exact to rounding for logits of any size, and the gradient is finite for any `gamma`.

    Replaces ``torchvision.ops.sigmoid_focal_loss`` (where `alpha` is 0.25 by default) and
    ``optax.sigmoid_focal_loss``, with the same values, and ``keras.losses.BinaryFocalCrossentropy`` of logits.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar, "Focal loss for dense object detection",
       ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.binary_focal_loss([[0.0, 3.0]], [[1, 1]], reduction="none", return_grad=True)
    >>> loss.round(6)
    array([[1.73287e-01, 1.09000e-04]])
    >>> grad.round(6)
    array([[-0.298287, -0.000315]])
    """
    more = (1.0, 1.0)
    if alpha is not None:
        positive = as_number("alpha", alpha, 0.0, 1.0)
        more = (positive, 1.0 - positive)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("binary_focal", logits, targets, options, gamma, more)
    request = as_request(CrossEntropyGradient, logits, targets, with_respect_to, grad_out)
    return gradients_of_pairs("binary_focal", CrossEntropyGradient, request, options, gamma, more)
