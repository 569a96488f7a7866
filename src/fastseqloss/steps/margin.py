"""Margin losses over padded sequences."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .._core.engine import as_options
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import as_number, flag
from .._core.types import (
    Loss,
    LossAndGradient,
    StepReduction,
)
from .pointwise import pointwise_loss
from .rows import prepare_rows, short_loss
from .vectors import Form, run_rows, vector_loss

_short_entry = load("steps.rows").entry  # of the multiclass hinge loss


@known_keywords
def hinge_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    margin: float = 1.0,
    squared: bool = False,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Hinge loss of binary decisions, and its gradient.

    The loss is 0 for decisions that are correct by at least the margin m [1]_.

    .. math:: L_{b,t} = \frac{1}{D} \sum_d \max(0, m - y_{b,t,d}\, s_{b,t,d})

    Parameters
    ----------
    scores : array_like [B], [B, T] or [B, T, D]
        Scores: batch, time and features; the loss of a step is the mean over its features. float32 and
        float64 are native; float16 and bfloat16 are read and written without a converted copy. Any strides.
    targets : array_like, shape of `scores`
        -1 or 1, of any real dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    margin : float
        Smallest product of target and score for which the loss is 0; 0 or more.
    squared : bool
        If True, square each term.
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
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    The derivative is 0 at the margin itself.

    Replaces ``keras.losses.Hinge`` and ``keras.losses.SquaredHinge`` and ``optax.hinge_loss``. PyTorch's
    ``hinge_embedding_loss`` is a different loss.

    References
    ----------
    .. [1] C. Cortes, V. Vapnik, "Support-vector networks", Machine Learning 20, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.hinge_loss([[0.8, -0.5, 0.3]], [[1, -1, 1]], reduction="none").round(6)
    array([[0.2, 0.5, 0.7]])
    >>> round(fsl.hinge_loss([[0.8, -0.5, 0.3]], [[1, -1, 1]]), 3)
    0.467
    """
    name = "squared_hinge" if flag("squared", squared) else "hinge"
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    return pointwise_loss(name, scores, targets, options, margin)


@known_keywords
def multiclass_hinge_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    margin: float = 1.0,
    ignore_index: int = -100,
    class_weight: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Multiclass hinge loss of Crammer and Singer, and its gradient.

    The loss is 0 if the score of the target exceeds those of all other classes by at least the margin m [1]_.

    .. math:: L_{b,t} = w_y \max(0, m + \max_{c \ne y} s_{b,t,c} - s_{b,t,y})

    Parameters
    ----------
    scores : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float32 and float64 are native; float16 and bfloat16 are read and written
        without a converted copy. Any strides; a class axis that is not contiguous is copied.
    targets : array_like of int, shape of the steps
        Classes, or `ignore_index`.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    margin : float
        Smallest difference between the target's score and all other scores for which the loss is 0;
        0 or more.
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
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    The derivative is that of the first of the highest scores other than the target's, and 0 at the margin
    itself.

    ``keras.losses.CategoricalHinge`` uses the maximum of 0 and the other scores, so the two losses are equal only if
    some other class has a score of 0 or more. Adding a class of score 0 makes them equal. PyTorch's
    ``multi_margin_loss`` is a different loss, too: it adds up the violations of all classes and divides by V.

    References
    ----------
    .. [1] K. Crammer, Y. Singer, "On the algorithmic implementation of multiclass kernel-based
       vector machines", Journal of Machine Learning Research 2, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.multiclass_hinge_loss([[2.0, 1.5, 0.0]], [0], return_grad=True)
    >>> loss
    0.5
    >>> grad
    array([[-1.,  1.,  0.]])
    """
    number = as_number("margin", margin, 0.0, math.inf)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if class_weight is None:
        found = short_loss(_short_entry, "multiclass_hinge", scores, targets, options, ignore_index, parameter=number)
        if found is not None:
            return found
    rows = prepare_rows("multiclass_hinge", scores, targets, options, ignore_index, class_weight)
    return run_rows("multiclass_hinge", rows, Form(number))


@known_keywords
def multilabel_margin_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    margin: float = 1.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Hinge loss of steps with several labels, and its gradient.

    The loss is 0 if the score of each label exceeds that of each other class by at least the margin m:

    .. math::
        L_{b,t} = \frac{1}{V} \sum_{j: y_{b,t,j} = 1} \; \sum_{i: y_{b,t,i} = 0}
        \max(0, m - (x_{b,t,j} - x_{b,t,i}))

    Parameters
    ----------
    scores : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float16, bfloat16, float32 or float64, computed in float64. Any strides; a class
        axis that is not contiguous is copied.
    targets : array_like, shape of `scores`
        1 for the labels of a step, 0 for other classes; of any real dtype, or bool.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    margin : float
        Margin, 0 or more.
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
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    multiclass_hinge_loss : one label for each step, compared with the highest-scoring other class alone.
    binary_cross_entropy : independent decisions.
    pairwise_hinge_loss : lists with several degrees of relevance.

    Notes
    -----
    A step takes O(V log V) operations, however many labels it has. A pair whose scores differ by exactly the margin has
    gradient 0.
    Without labels, or without other classes, the loss of a step is 0. A score of -inf excludes a class other than
    a label; NaN or +inf among the scores of a step makes its loss and gradient NaN.

    Replaces ``torch.nn.functional.multilabel_margin_loss``, whose targets are lists of labels: indices that end with
    -1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x, y = [[0.1, 0.2, 0.4, 0.8]], [[1, 0, 0, 1]]
    >>> loss, grad = fsl.multilabel_margin_loss(x, y, return_grad=True)
    >>> round(loss, 6)
    0.85
    >>> grad
    array([[-0.5,  0.5,  0.5, -0.5]])
    """
    number = as_number("margin", margin, 0.0, math.inf)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    return vector_loss("multilabel_margin", scores, targets, options, Form(number))
