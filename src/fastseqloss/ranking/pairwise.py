"""Losses of the pairs of items of lists whose relevance differs."""

from __future__ import annotations

import math
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.options import as_number, choice
from .._core.reduction import check_reduction
from .._core.types import Loss, LossAndGradient, PairReduction
from .lists import as_item_weight, as_lists, as_numbers, as_relevance, discounts_of, run_scaled_after

_REDUCTIONS = ("per_sequence", "sum", "mean", "sequence_mean")
_MOST_GAIN = 500.0  # relevance: squares of gains 2^y - 1, times numbers of items, are finite


@known_keywords
def pairwise_hinge_loss(
    scores: ArrayLike,
    relevance: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    margin: float = 1.0,
    item_weight: ArrayLike | None = None,
    reduction: PairReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Hinge loss of all pairs of items of different relevance, and its gradient.

    .. math::
        L_b = \sum_{y_i > y_j} w_i \max(0, m - (s_i - s_j))

    with scores s, relevance y, weights w of items and the margin m. The result is exact, in :math:`O(N \log N)` time
    and :math:`O(N)` memory: items are sorted by their scores, and the sums over pairs follow from running sums for
    each level of relevance.

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
    margin : float
        Difference of scores at which the loss of a pair becomes 0; 0 or more.
    item_weight : array_like, shape of `scores`, optional
        Weights of items, finite and not negative: a pair has the weight of its more relevant item. Averages do not
        divide by them.
    reduction : {"mean", "per_sequence", "sum", "sequence_mean"}
        "mean" divides the sum over all lists by the number of their pairs, "per_sequence" gives the sum of each list,
        and "sequence_mean" is the mean over the pairs of each list, then over the lists, so that long lists do not
        dominate.
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
        The reduced loss; [B] with "per_sequence".
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, numbers or options are not as above. The message names the argument, the position,
        the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A pair whose difference is exactly the margin has gradient 0. A list without pairs has loss 0 and gradient 0, and is
    not read. NaN or an infinite score makes the loss and the gradient of its list NaN.

    References
    ----------
    .. [1] R. Herbrich, T. Graepel and K. Obermayer, "Large margin rank boundaries for ordinal regression", 2000.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> scores, relevance = [[0.5, 2.0, -1.0, 1.0]], [[2, 0, 1, 1]]
    >>> loss, grad = fsl.pairwise_hinge_loss(scores, relevance, reduction="sum", return_grad=True)
    >>> loss
    10.0
    >>> grad
    array([[-2.,  3., -1.,  0.]])
    """
    normalizer = check_reduction(reduction, _REDUCTIONS, normalizer)
    distance = as_number("margin", margin, 0.0, math.inf)
    lists = as_lists(scores, lengths, mask, sample_weight)
    graded = as_relevance(lists, relevance)
    weight = as_item_weight(lists, item_weight)
    threads = lists.threads(num_threads, 50.0)
    gradient = as_gradient(lists.scores, return_grad, grad_out)
    return run_scaled_after(
        "hinge", lists, gradient, reduction, normalizer, threads, relevance=graded, weight=weight, option=distance
    )


@known_keywords
def pairwise_logistic_loss(
    scores: ArrayLike,
    relevance: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None,
    lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: PairReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Logistic loss of all pairs of items of different relevance (RankNet, LambdaRank), and its gradient.

    .. math::
        L_b = \sum_{y_i > y_j} w_i \lambda_{ij} \log(1 + e^{-(s_i - s_j)})

    with scores s, relevance y, and weights w of items [1]_. With `lambda_weight`, a pair has the weight

    .. math::
        \lambda_{ij} = N |G_i - G_j|\, |D_i - D_j|, \quad G = 2^y - 1, \quad D = \frac{1}{\log_2(1 + \mathrm{rank})}

    of N times the change of DCG that exchanging the two items of a list of N would cause [2]_; otherwise, it has the
    weight 1. Time is proportional to the number of pairs, memory to that of items.

    Parameters
    ----------
    scores : array_like [B, N] or [N]
        Scores of the N items of each of B lists; float16, bfloat16, float32 or float64.
    relevance : array_like, shape of `scores`
        Relevance of each item, finite numbers of any dtype; only their order matters, except with
        `lambda_weight`, which requires 0 to 500.
    lengths : array_like of int [B], optional
        Number of items of each list; all by default.
    mask : array_like of bool, or of 0 and 1, shape of `scores`, optional
        Items that count, all by default. Other items are never read and have gradient 0.
    item_weight : array_like, shape of `scores`, optional
        Weights of items, finite and not negative: a pair has the weight of its more relevant item. Averages do not
        divide by them.
    lambda_weight : {"dcg", "ndcg"}, optional
        Weights of pairs by the change of DCG; for "ndcg", divided by the DCG of the best order of the list. Ranks are
        in the order of decreasing scores, ties in order of appearance. The weights are constants for the gradient.
    reduction : {"mean", "per_sequence", "sum", "sequence_mean"}
        "mean" divides the sum over all lists by the number of their pairs, "per_sequence" gives the sum of each list,
        and "sequence_mean" is the mean over the pairs of each list, then over the lists, so that long lists do not
        dominate.
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
        The reduced loss; [B] with "per_sequence".
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, numbers or options are not as above. The message names the argument, the position,
        the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A list without pairs has loss 0 and gradient 0, and is not read. NaN or an infinite score makes the loss and the
    gradient of its list NaN. "mean" divides by numbers of pairs, not by the sum of their weights.

    References
    ----------
    .. [1] C. Burges et al., "Learning to rank using gradient descent", ICML 2005.
    .. [2] C. Burges, R. Ragno and Q. Le, "Learning to rank with nonsmooth cost functions", NIPS 2006.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> scores, relevance = [[0.5, 2.0, -1.0, 1.0]], [[2, 0, 1, 1]]
    >>> loss, grad = fsl.pairwise_logistic_loss(scores, relevance, reduction="sum", return_grad=True)
    >>> round(loss, 6)
    7.238753
    >>> grad.round(4)
    array([[-1.6225,  2.5012, -0.7701, -0.1086]])
    >>> round(fsl.pairwise_logistic_loss(scores, relevance, reduction="sum", lambda_weight="ndcg"), 6)
    4.895203
    """
    normalizer = check_reduction(reduction, _REDUCTIONS, normalizer)
    if lambda_weight is not None:
        choice("lambda_weight", lambda_weight, ("dcg", "ndcg"))
    lists = as_lists(scores, lengths, mask, sample_weight)
    if lambda_weight is None:
        graded = as_relevance(lists, relevance)
    else:
        graded = as_numbers(lists, "relevance", relevance, 0.0, _MOST_GAIN, "0 to 500, with lambda_weight")
    weight = as_item_weight(lists, item_weight)
    threads = lists.threads(num_threads, 30.0 + lists.n / (4 if lambda_weight is None else 1.5))
    gradient = as_gradient(lists.scores, return_grad, grad_out)
    return run_scaled_after(
        "logistic",
        lists,
        gradient,
        reduction,
        normalizer,
        threads,
        relevance=graded,
        weight=weight,
        discounts=None if lambda_weight is None else discounts_of(lists.n),
        normalized=lambda_weight == "ndcg",
    )
