"""Losses of a target and negatives, for recommendation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import read_integers
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.options import as_number
from .._core.reduction import check_reduction
from .._core.types import ListReduction, Loss, LossAndGradient
from .._kernels.arguments import first_outside
from .lists import LIST_REDUCTIONS, Lists, as_lists, run_scaled


@known_keywords
def bpr_max_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    regularization: float = 0.0,
    reduction: ListReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""BPR-max loss of a target and sampled negatives (GRU4Rec), and its gradient.

    .. math::
        L_b = -\log \sum_{j \ne t} q_j\, \sigma(s_t - s_j) + \lambda \sum_{j \ne t} q_j s_j^2, \quad
        q_j = \frac{e^{s_j}}{\sum_{k \ne t} e^{s_k}}

    with the score :math:`s_t` of the target and the softmax q of the negatives, all other items of the list [1]_. The
    loss is computed in logarithms, so it is exact even for targets far below the negatives.

    Parameters
    ----------
    scores : array_like [B, N] or [N]
        Scores of the N items of each of B lists, the target and the negatives; float16, bfloat16, float32 or float64.
    targets : array_like of int [B], or an int for one list
        Index of the target in its list. The target must be an item that counts.
    lengths : array_like of int [B], optional
        Number of items of each list; all by default.
    mask : array_like of bool, or of 0 and 1, shape of `scores`, optional
        Items that count, all by default. Other items are never read and have gradient 0.
    regularization : float
        Factor :math:`\lambda` of the penalty for large scores of negatives, 0 or more.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over lists by the number of lists with an item that counts; "none" gives the loss of
        every list.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each list, finite and not negative. Averages divide by weighted counts.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself. Implies `return_grad`.
    num_threads : int, optional
        Number of threads; by default that of `set_num_threads`.

    Returns
    -------
    loss : float, or ndarray of float64
        The reduced loss; [B] with "none".
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, numbers or options are not as above. The message names the argument, the position,
        the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A list without negatives has loss 0 and gradient 0; a negative with a score of -inf does not count. NaN, or +inf
    among the negatives, makes the loss and the gradient of its list NaN.

    References
    ----------
    .. [1] B. Hidasi and A. Karatzoglou, "Recurrent neural networks with top-k gains for session-based
           recommendations", CIKM 2018.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.bpr_max_loss([[0.5, 2.0, -1.0, 1.0]], [0], return_grad=True)
    >>> round(loss, 6)
    1.365069
    >>> grad.round(4)
    array([[-0.6713,  0.6135, -0.0568,  0.1147]])
    """
    return _target_loss(
        "bpr_max",
        scores,
        targets,
        (lengths, mask, sample_weight),
        as_number("regularization", regularization, 0.0, math.inf),
        (reduction, normalizer, return_grad, grad_out, num_threads),
    )


@known_keywords
def top1_max_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reduction: ListReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""TOP1-max loss of a target and sampled negatives (GRU4Rec), and its gradient.

    .. math::
        L_b = \sum_{j \ne t} q_j \left( \sigma(s_j - s_t) + \sigma(s_j^2) \right), \quad
        q_j = \frac{e^{s_j}}{\sum_{k \ne t} e^{s_k}}

    with the score :math:`s_t` of the target and the softmax q of the negatives, all other items of the list [1]_.

    Parameters
    ----------
    scores : array_like [B, N] or [N]
        Scores of the N items of each of B lists, the target and the negatives; float16, bfloat16, float32 or float64.
    targets : array_like of int [B], or an int for one list
        Index of the target in its list. The target must be an item that counts.
    lengths : array_like of int [B], optional
        Number of items of each list; all by default.
    mask : array_like of bool, or of 0 and 1, shape of `scores`, optional
        Items that count, all by default. Other items are never read and have gradient 0.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over lists by the number of lists with an item that counts; "none" gives the loss of
        every list.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each list, finite and not negative. Averages divide by weighted counts.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself. Implies `return_grad`.
    num_threads : int, optional
        Number of threads; by default that of `set_num_threads`.

    Returns
    -------
    loss : float, or ndarray of float64
        The reduced loss; [B] with "none".
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, numbers or options are not as above. The message names the argument, the position,
        the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A list without negatives has loss 0 and gradient 0; a negative with a score of -inf does not count. NaN, or +inf
    among the negatives, makes the loss and the gradient of its list NaN.

    References
    ----------
    .. [1] B. Hidasi and A. Karatzoglou, "Recurrent neural networks with top-k gains for session-based
           recommendations", CIKM 2018.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.top1_max_loss([[0.5, 2.0, -1.0, 1.0]], [0], return_grad=True)
    >>> round(loss, 6)
    1.652715
    >>> grad.round(4)
    array([[-0.1714,  0.2586, -0.0345,  0.0854]])
    """
    return _target_loss(
        "top1_max",
        scores,
        targets,
        (lengths, mask, sample_weight),
        0.0,
        (reduction, normalizer, return_grad, grad_out, num_threads),
    )


def _target_loss(
    name: str, scores: Any, targets: Any, of_lists: tuple[Any, Any, Any], option: float, rest: tuple[Any, ...]
) -> Loss | LossAndGradient:
    reduction, normalizer, return_grad, grad_out, num_threads = rest
    normalizer = check_reduction(reduction, LIST_REDUCTIONS, normalizer)
    lists = as_lists(scores, *of_lists)
    chosen = _as_targets(lists, targets)
    threads = lists.threads(num_threads, 3.0)
    gradient = as_gradient(lists.scores, return_grad, grad_out)
    return run_scaled(name, lists, gradient, reduction, normalizer, threads, targets=chosen, option=option)


def _as_targets(lists: Lists, value: Any) -> NDArray[np.int64]:
    """Return the index of the target of each list, 0 for a list without items."""
    read = read_integers("targets", value)
    targets = read.values
    single = len(lists.shape) == 1
    if targets.ndim == 0 and lists.batch == 1:
        targets = targets.reshape(1)
    if targets.shape != (lists.batch,):
        allowed = "an integer" if single else f"({lists.batch},), an item of each list"
        raise ValueError(f"targets has shape {targets.shape}; allowed: {allowed}")
    targets = np.where(lists.not_empty() > 0, targets, 0)
    bad = first_outside(targets, 0, max(lists.n - 1, 0))
    if bad < 0 and lists.inside is not None and lists.n:
        left_out = (lists.not_empty() > 0) & ~lists.inside[np.arange(lists.batch), targets]
        bad = int(np.argmax(left_out)) if left_out.any() else -1
    if bad >= 0:
        where = f"targets[{bad}]" if read.exact.ndim else "targets"
        raise ValueError(f"{where} is {read.shown(bad)}; allowed: 0 to {lists.n - 1}, an item that counts")
    return targets
