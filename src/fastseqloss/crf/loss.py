"""Linear-chain conditional random fields: loss, log-partition, marginals, decoding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, check_output
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import flag
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import Loss, SequenceReduction
from .arguments import (
    CRFGradient,
    Potentials,
    as_crf_gradients,
    as_potentials,
    as_tags,
    finish,
    read_from,
)
from .kernels import sums_over_paths

GradOut = NDArray[Any] | CRFGradient
LossAndGradients = tuple[Loss, CRFGradient]


class CRFMarginals(NamedTuple):
    """Posterior probabilities of a CRF.

    Attributes
    ----------
    unary : ndarray [B, T, K]
        Probability of each tag at each step.
    pairwise : ndarray [B, T - 1, K, K]
        Probability of tag i at step t and tag j at step t + 1, at [b, t, i, j]; with a mask, at the next
        step within it.
    """

    unary: NDArray[Any]
    pairwise: NDArray[Any]

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def crf_loss(
    emissions: ArrayLike,
    tags: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GradOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradients:
    r"""Negative log-likelihood of a linear-chain conditional random field, and its gradient.

    The score of a path of tags is the sum of the emissions of its tags and of the transitions
    between them; a softmax over all K^T paths gives its probability [1]_. The loss is in nats and
    never negative:

    .. math::
        L_b = \log \sum_{y'} e^{s_b(y')} - s_b(y_b), \quad
        s_b(y) = a_{y_1} + \sum_{t=1}^{T_b} x_{b,t,y_t} + \sum_{t=2}^{T_b} A_{y_{t-1},y_t} + z_{y_{T_b}}

    with emissions x, transitions A, starts a and ends z.

    Parameters
    ----------
    emissions : array_like [B, T, K], or [T, K] for one sequence
        Scores of K tags at T steps. float32 and float64 are native, float16 and bfloat16 are
        computed in float32. Any strides; a tag axis that is not contiguous is copied. Padding
        (steps from a sequence's length on) is never read. -inf forbids a tag.
    tags : array_like of int [B, T], or [T] for one sequence
        The true tags, 0 to K - 1, with any values in the padding.
    transitions : array_like [K, K], or [B, T, K, K]
        ``transitions[i, j]`` is the score of the transition from tag i to tag j; -inf forbids it. Any float dtype.
        ``transitions[b, t, i, j]`` is the score of the transition from tag i at step t - 1 to tag j at step t; those of
        the first step, t = 0, and of the padding are not read. For one sequence [T, K, K].
    lengths : array_like of int [B], optional
        Steps of each sequence; T by default. An int for one sequence. An empty sequence has loss 0.
    mask : array_like of bool, or of 0 and 1, [B, T], optional
        Steps that count; replaces `lengths`. Steps outside the mask, at the end or between others, are skipped, so the
        steps before and after them become neighbours. Their emissions and tags, often -100, are not read.
    start, end : array_like [K], optional
        Scores of the first and the last tag of a path; none by default.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by the length
        of its sequence (at least 1) first; "none" gives [B]. With `sample_weight`, averages
        divide by the sum of the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. A sequence of weight 0 is ignored.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray or CRFGradient, optional
        Array to write the gradient of the emissions to, of their shape and dtype; may be the emissions themselves.
        Alternatively, a `CRFGradient` of arrays for the gradients, with None for those to allocate. Implies
        `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats; inf for tags of probability 0.
    grad : CRFGradient
        Named tuple of the gradients ``(emissions, transitions, start, end)`` of the reduced loss (of
        the sum of the losses, with "none"), each of the shape and dtype of its argument; None for
        `start` or `end` if it was not given. Exactly 0 in the padding, outside the mask and for
        forbidden transitions. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, mask, tags, weights or options are not as above, or if transitions [K, K], start or
        end are NaN or +inf. The message names the argument, the position, the value and what is allowed. In that case,
        nothing has been written.

    See Also
    --------
    crf_decode : the best path.
    crf_marginals : posterior probabilities.
    structured_hinge_loss : a margin between the true path and all others.

    Notes
    -----
    The loss of a sequence and the gradient of its emissions have the same bits with any number of
    threads and in any batch. The gradients of the parameters, which are sums over the batch, do not
    depend on the number of threads.

    Tags of probability 0 give loss inf and gradient 0 of that sequence. NaN or +inf among the
    emissions, or transitions, of a valid step makes the loss and gradient of that sequence NaN, as
    well as the gradients of the parameters. The same holds for an emission that overflows float64
    when start or end is added.

    Replaces ``-torchcrf.CRF(K)(emissions, tags, mask, reduction)``, whose ``token_mean`` is
    ``reduction="sum"`` with ``normalizer=lengths.sum()``.

    References
    ----------
    .. [1] J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models
       for segmenting and labeling sequence data", ICML 2001.

    Examples
    --------
    With two tags, two steps and scores of 0, each of the four paths has probability 1/4:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.crf_loss(np.zeros((2, 2)), [0, 1], np.zeros((2, 2)), return_grad=True)
    >>> round(float(np.exp(-loss)), 6)
    0.25
    >>> grad.emissions
    array([[-0.5,  0.5],
           [ 0.5, -0.5]])
    >>> grad.transitions
    array([[ 0.25, -0.75],
           [ 0.25,  0.25]])

    Three paths remain if the transition from tag 1 to tag 0 is forbidden:

    >>> loss = fsl.crf_loss(np.zeros((2, 2)), [0, 1], np.array([[0, 0], [-np.inf, 0]]))
    >>> round(float(np.exp(-loss)), 6)
    0.333333
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    checked_tags = as_tags(tags, potentials)
    weight = as_weights("sample_weight", sample_weight, len(potentials.lengths))
    gradients = as_crf_gradients(potentials, return_grad, grad_out)
    scale = length_scale(reduction, potentials.lengths, normalizer, weight)
    grad, *grad_parameters = [gradient.values for gradient in gradients]
    loss = sums_over_paths(
        potentials,
        emissions=read_from(potentials, gradients[0]),
        tags=checked_tags,
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


@known_keywords
def crf_log_partition(
    emissions: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    num_threads: int | None = None,
) -> Loss:
    r"""Logarithm of the sum of the exponentiated scores of all paths.

    .. math:: \log Z_b = \log \sum_y e^{s_b(y)}

    with the scores s of `crf_loss`. Its derivatives are the marginals.

    Parameters
    ----------
    emissions, transitions, lengths, mask, start, end, num_threads
        As for `crf_loss`.

    Returns
    -------
    ndarray of float64 [B], or float for one sequence
        In nats; 0 for an empty sequence, -inf if every path is forbidden, NaN if a valid step has
        NaN or +inf.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> round(float(np.exp(fsl.crf_log_partition(np.zeros((3, 2)), np.zeros((2, 2))))), 6)
    8.0
    """
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    values = sums_over_paths(potentials, emissions=potentials.scores.values, num_threads=num_threads)
    return float(values[0]) if potentials.single else values


@known_keywords
def crf_marginals(
    emissions: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    pairwise: bool = False,
    num_threads: int | None = None,
) -> NDArray[Any] | CRFMarginals:
    r"""Posterior probabilities of the tags at each step.

    .. math:: p_{b,t,k} = \sum_{y: y_t = k} e^{s_b(y)} / Z_b

    with the scores s of `crf_loss`, by the forward-backward algorithm.

    Parameters
    ----------
    emissions, transitions, lengths, mask, start, end, num_threads
        As for `crf_loss`.
    pairwise : bool
        If True, return the probabilities of pairs of neighbouring tags as well: B (T - 1) K^2
        numbers.

    Returns
    -------
    ndarray [B, T, K], dtype of `emissions`, or CRFMarginals
        The probabilities; with `pairwise`, a named tuple of them, ``unary``, and ``pairwise``
        [B, T - 1, K, K]. Without B for one sequence. The probabilities of a step add up to 1, except
        for 0 in the padding, outside the mask and in a sequence whose paths are all forbidden. NaN in a sequence with
        NaN or +inf in a valid step.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> transitions = np.log(np.array([[3.0, 1.0], [1.0, 3.0]]))
    >>> emissions = np.array([[1.0, 0.0], [0.0, 0.0]])
    >>> unary, pairwise = fsl.crf_marginals(emissions, transitions, pairwise=True)
    >>> unary.round(3)
    array([[0.731, 0.269],
           [0.616, 0.384]])
    >>> pairwise.round(3)
    array([[[0.548, 0.183],
            [0.067, 0.202]]])
    """
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    pairwise = flag("pairwise", pairwise)
    values = potentials.scores.values
    batch, n_frames, n_tags = values.shape
    n_steps = potentials.shape[1]
    if pairwise:
        check_output("the pairwise marginals", (batch, max(n_steps - 1, 0), n_tags, n_tags), values.itemsize)
    unary = np.empty(values.shape, values.dtype)
    pairs = np.empty((batch, max(n_frames - 1, 0), n_tags, n_tags), values.dtype) if pairwise else None
    sums_over_paths(potentials, emissions=values, grad=unary, pairwise=pairs, num_threads=num_threads)
    unary = potentials.scatter(unary, 0)
    if pairs is not None and potentials.kept is not None:
        pairs = _scatter_pairs(potentials, pairs)
    dtype = potentials.scores.given.dtype
    first = 0 if potentials.single else slice(None)
    with np.errstate(under="ignore"):
        unary = unary[first].astype(dtype, copy=False)
        return unary if pairs is None else CRFMarginals(unary, pairs[first].astype(dtype, copy=False))


def _scatter_pairs(potentials: Potentials, pairs: NDArray[Any]) -> NDArray[Any]:
    """Return pairwise marginals at the earlier step of each pair, 0 at the other steps."""
    batch, n_steps = potentials.shape
    assert potentials.kept is not None
    whole = np.zeros((batch, n_steps - 1, *pairs.shape[2:]), pairs.dtype)
    b, t = np.nonzero(np.arange(pairs.shape[1]) < potentials.lengths[:, None] - 1)
    whole[b, potentials.kept[b, t]] = pairs[b, t]
    return whole
