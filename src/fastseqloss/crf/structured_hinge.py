"""Structured hinge loss of a linear chain."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from .._core.arrays import as_weights
from .._core.keywords import known_keywords
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import Loss, SequenceReduction
from .arguments import (
    as_cost,
    as_crf_gradients,
    as_potentials,
    as_tags,
    finish,
    read_from,
)
from .kernels import margins
from .loss import GradOut, LossAndGradients


@known_keywords
def structured_hinge_loss(
    emissions: ArrayLike,
    tags: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GradOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradients:
    r"""Hinge loss between the true path of tags and all others, and its subgradient.

    .. math:: L_b = \max_{y'} \left[ s_b(y') + \sum_t c_{y_{b,t}, y'_t} \right] - s_b(y_b)

    with the scores s of `crf_loss` and a cost c of wrong tags, by a Viterbi search with the cost
    added to the emissions [1]_ [2]_. The margin of a path grows with the number of its wrong tags.
    The loss is never negative, and exactly 0 if the score of the true path exceeds that of every
    other path by at least its cost.

    Parameters
    ----------
    emissions, tags, transitions, lengths, mask, start, end
        As for `crf_loss`.
    cost : "hamming" or array_like [K, K]
        ``cost[y, k]`` is the cost of predicting tag k instead of tag y: finite, not negative, 0 on
        the diagonal. "hamming" is 1 for every wrong tag.
    reduction, normalizer, sample_weight, return_grad, grad_out, num_threads
        As for `crf_loss`.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss, in the units of the scores; inf for tags on a forbidden path.
    grad : CRFGradient
        A subgradient, in the form of the gradient of `crf_loss`: the indicators of the best path
        minus those of the true path; 0 if the loss is 0 or inf.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`, and if the cost is not as above.

    Notes
    -----
    The notes of `crf_loss` on threads, on other sequences of the batch and on NaN apply. Among best
    paths with equal scores, the loss takes the one that `crf_decode` returns. Path scores beyond
    1e308, which overflow float64, may make the loss NaN.

    References
    ----------
    .. [1] B. Taskar, C. Guestrin, D. Koller, "Max-margin Markov networks", NIPS 2003.
    .. [2] I. Tsochantaridis, T. Joachims, T. Hofmann, Y. Altun, "Large margin methods for
       structured and interdependent output variables", JMLR 6, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> emissions = np.array([[1.0, 0.5], [0.0, 2.0]])
    >>> loss, grad = fsl.structured_hinge_loss(emissions, [0, 1], np.zeros((2, 2)), return_grad=True)
    >>> loss
    0.5
    >>> grad.emissions
    array([[-1.,  1.],
           [ 0.,  0.]])
    >>> fsl.structured_hinge_loss(2 * emissions, [0, 1], np.zeros((2, 2)))
    0.0
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    checked_tags = as_tags(tags, potentials)
    costs = as_cost(cost, potentials.scores.values.shape[2])
    weight = as_weights("sample_weight", sample_weight, len(potentials.lengths))
    gradients = as_crf_gradients(potentials, return_grad, grad_out)
    scale = length_scale(reduction, potentials.lengths, normalizer, weight)
    grad, *grad_parameters = [gradient.values for gradient in gradients]
    loss = margins(
        potentials,
        emissions=read_from(potentials, gradients[0]),
        tags=checked_tags,
        cost=costs,
        scale=scale,
        weighted=weight is not None,
        grad=grad,
        parameters=(grad_parameters[0], grad_parameters[1], grad_parameters[2]),
        num_threads=num_threads,
    )
    reduced = finish_sequences(reduction, loss, scale, single=potentials.single)
    if gradients[0].values is None:
        return reduced
    return reduced, finish(potentials, gradients)
