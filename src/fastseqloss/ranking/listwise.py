"""Losses of whole lists: softmax cross-entropy of the relevance, likelihood of the order."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .._core.arrays import shares_memory
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.reduction import check_reduction
from .._core.types import ListReduction, Loss, LossAndGradient
from .lists import (
    LIST_REDUCTIONS,
    as_item_weight,
    as_lists,
    as_numbers,
    as_relevance,
    run_scaled,
    run_scaled_after,
)


@known_keywords
def list_softmax_loss(
    scores: ArrayLike,
    relevance: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None,
    reduction: ListReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Softmax cross-entropy of the relevance of each list (ListNet), and its gradient.

    .. math::
        L_b = -\sum_i w_i y_i \log \frac{e^{s_i}}{\sum_j e^{s_j}}

    with scores s, relevance y and weights w of items [1]_. The relevance of a list need not sum to 1.

    Parameters
    ----------
    scores : array_like [B, N] or [N]
        Scores of the N items of each of B lists; float16, bfloat16, float32 or float64.
    relevance : array_like, shape of `scores`
        Relevance of each item, finite numbers of any dtype, 0 or more.
    lengths : array_like of int [B], optional
        Number of items of each list; all by default.
    mask : array_like of bool, or of 0 and 1, shape of `scores`, optional
        Items that count, all by default. Other items are never read and have gradient 0.
    item_weight : array_like, shape of `scores`, optional
        Weights of items, finite and not negative: factors of the relevance. Averages do not divide by them.
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
    An item with a score of -inf has probability 0: the loss of its list is inf if its relevance is not 0. NaN or +inf
    makes the loss and the gradient of its list NaN.

    References
    ----------
    .. [1] Z. Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> scores, relevance = [[0.5, 2.0, -1.0, 1.0]], [[2, 0, 1, 1]]
    >>> loss, grad = fsl.list_softmax_loss(scores, relevance, return_grad=True)
    >>> round(loss, 6)
    8.980728
    >>> grad.round(4)
    array([[-1.456 ,  2.4378, -0.8786, -0.1032]])
    """
    normalizer = check_reduction(reduction, LIST_REDUCTIONS, normalizer)
    lists = as_lists(scores, lengths, mask, sample_weight)
    graded = as_numbers(lists, "relevance", relevance, 0.0, sys.float_info.max, "finite, 0 or more")
    weight = as_item_weight(lists, item_weight)
    threads = lists.threads(num_threads, 2.0)
    gradient = as_gradient(lists.scores, return_grad, grad_out)
    if gradient.values is not None and shares_memory(gradient.values, graded):
        graded = graded.copy()
    return run_scaled("list_softmax", lists, gradient, reduction, normalizer, threads, relevance=graded, weight=weight)


@known_keywords
def list_mle_loss(
    scores: ArrayLike,
    relevance: ArrayLike,
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
    r"""Negative log-likelihood of the order of decreasing relevance (ListMLE, Plackett-Luce), and its gradient.

    .. math::
        L_b = \sum_i \left( \log \sum_{j \ge i} e^{s_j} - s_i \right)

    with the scores s in the order of decreasing relevance, ties in order of appearance [1]_.

    Parameters
    ----------
    scores : array_like [B, N] or [N]
        Scores of the N items of each of B lists; float16, bfloat16, float32 or float64.
    relevance : array_like, shape of `scores`
        Relevance of each item, finite numbers of any dtype; only their order matters.
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
    An empty list has loss 0. NaN or an infinite score makes the loss and the gradient of its list NaN.

    References
    ----------
    .. [1] F. Xia et al., "Listwise approach to learning to rank: theory and algorithm", ICML 2008.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> scores, relevance = [[0.5, 2.0, -1.0, 1.0]], [[2, 0, 1, 1]]
    >>> loss, grad = fsl.list_mle_loss(scores, relevance, return_grad=True)
    >>> round(loss, 6)
    6.657456
    >>> grad.round(4)
    array([[-0.864 ,  2.0459, -0.9345, -0.2474]])
    """
    normalizer = check_reduction(reduction, LIST_REDUCTIONS, normalizer)
    lists = as_lists(scores, lengths, mask, sample_weight)
    graded = as_relevance(lists, relevance)
    threads = lists.threads(num_threads, 20.0)
    gradient = as_gradient(lists.scores, return_grad, grad_out)
    return run_scaled_after(
        "list_mle", lists, gradient, reduction, normalizer, threads, counts=lists.not_empty(), relevance=graded
    )
