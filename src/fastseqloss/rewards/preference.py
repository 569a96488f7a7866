"""Losses of preferences, from the log-probabilities of whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_finite, as_mask
from .._core.gradient import Gradient, as_gradient, as_gradients_of, finished
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import as_number, choice, flag
from .._core.types import (
    Loss,
    LossAndGradient,
    PreferenceKind,
    RiskReduction,
)
from .sequences import (
    SequenceSum,
    as_log_probs,
    as_sequence_sum,
    check_not_positive,
    log_complement,
    sigmoid,
    softplus,
)

Doubles = NDArray[np.float64]

_KINDS = ("sigmoid", "ipo", "hinge")
_LEAST, _MOST = 1e-30, 1e30  # of factors, whose reciprocals and products with numbers of float32 are then finite
_TINY = 2.0**-1022  # the least normal number: 1 - exp(-_TINY), and its logarithm, are accurate


class PreferenceGradient(NamedTuple):
    """Gradients of a loss of chosen and rejected sequences.

    Attributes
    ----------
    chosen, rejected : ndarray or None
        Gradient with respect to each argument, of its shape and dtype; None if it was not requested.
    """

    chosen: NDArray[Any] | Any
    rejected: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


PreferenceGradientOut = PreferenceGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
LossAndPreferenceGradient = tuple[Loss, PreferenceGradient]


@known_keywords
def dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    ref_chosen: ArrayLike | None = None,
    ref_rejected: ArrayLike | None = None,
    *,
    beta: float = 0.1,
    kind: PreferenceKind = "sigmoid",
    label_smoothing: float = 0.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: PreferenceGradientOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndPreferenceGradient:
    r"""Direct preference optimisation of chosen and rejected sequences, and its gradients.

    .. math::
        L_b = (1 - \epsilon)\, f(\Delta_b) + \epsilon\, f(-\Delta_b), \quad
        \Delta_b = \left(\ell^{+}_b - \ell^{+,ref}_b\right) - \left(\ell^{-}_b - \ell^{-,ref}_b\right)

    with the log-probabilities :math:`\ell^{+}` of the chosen and :math:`\ell^{-}` of the rejected sequences under
    the policy and under a reference policy, and

    - :math:`f(\Delta) = -\log \sigma(\beta \Delta)` for "sigmoid", the loss of DPO [1]_,
    - :math:`f(\Delta) = \left(\Delta - 1 / (2 \beta)\right)^2` for "ipo" [2]_,
    - :math:`f(\Delta) = \max(0, 1 - \beta \Delta)` for "hinge" [3]_.

    Parameters
    ----------
    chosen, rejected : array_like [B]
        Log-probabilities of the two sequences of each pair, such as those of `sequence_log_prob`; numbers for one pair.
        float16, bfloat16, float32 or float64; computed in float64.
    ref_chosen, ref_rejected : array_like [B], optional
        Log-probabilities of the same sequences under the reference policy; finite. Constants. Without them,
        :math:`\ell^{+,ref} = \ell^{-,ref}`.
    beta : float
        Factor :math:`\beta` of the differences, from 1e-30 to 1e30; a larger one keeps the policy closer
        to the reference policy.
    kind : {"sigmoid", "ipo", "hinge"}
        The function f. For "ipo", pass log-probabilities divided by the numbers of tokens.
    label_smoothing : float
        Share :math:`\epsilon` of pairs whose labels may be swapped, from 0 to 0.5.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over pairs by B; "none" gives the loss of every pair.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each pair, finite and not negative. Averages divide by the sum of the weights instead of a count.
    return_grad : bool
        If True, return the gradients as well.
    grad_out : tuple of ndarray and None, optional
        `PreferenceGradient` of arrays to write the gradients to, of the shapes and dtypes of `chosen` and `rejected`,
        which may be these arrays themselves; None for a gradient that is not needed. Implies `return_grad`.
    num_threads : int, optional
        Accepted for consistency with the other losses; the loss always uses one thread.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "none".
    grad : PreferenceGradient
        Named tuple ``(chosen, rejected)`` of the gradients of the reduced loss (of the sum of the returned losses).
        Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, numbers or options are not as above. The message names the argument, the position, the value
        and what is allowed. In that case, nothing has been written.

    See Also
    --------
    sequence_log_prob, linear_sequence_log_prob : log-probabilities of sequences, which take the gradients as `slopes`.
    simpo_loss, orpo_loss : without a reference policy.
    kto_loss : for sequences without a counterpart.

    Notes
    -----
    Log-probabilities may be -inf. Two sequences of probability 0 are equally probable. Derivatives that exceed the
    range of float64 are replaced by the largest finite number of the same sign. NaN or +inf among the log-probabilities
    of a pair makes its loss and gradients NaN.

    References
    ----------
    .. [1] R. Rafailov et al., "Direct preference optimization: your language model is secretly a reward model",
       NeurIPS 2023. E. Mitchell, "A note on DPO with noisy preferences", 2023, adds the smoothing.
    .. [2] M. Azar et al., "A general theoretical paradigm to understand learning from human preferences",
       AISTATS 2024.
    .. [3] Y. Zhao et al., "SLiC-HF: sequence likelihood calibration with human feedback", arXiv:2305.10425, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.dpo_loss([-1.0], [-3.0], [-2.0], [-2.0], beta=0.5, return_grad=True)
    >>> round(loss, 6)  # log(1 + exp(-1))
    0.313262
    >>> grad.chosen.round(4), grad.rejected.round(4)
    (array([-0.1345]), array([0.1345]))
    """
    f = _of_kind(kind, beta)
    share = as_number("label_smoothing", label_smoothing, 0.0, 0.5)
    pairs = _as_pairs(chosen, rejected, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    references = _as_references(ref_chosen, ref_rejected, pairs.shape)
    apart = _difference(pairs.chosen, pairs.rejected, references)
    with np.errstate(all="ignore"):
        loss, slope = _smoothed(f, apart, share)
        return pairs.finish(loss, slope, -slope)


@known_keywords
def simpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    beta: float = 2.0,
    margin: float = 0.5,
    label_smoothing: float = 0.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: PreferenceGradientOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndPreferenceGradient:
    r"""Preference loss of length-normalised log-probabilities with a margin (SimPO), and its gradients.

    .. math::
        L_b = -(1 - \epsilon) \log \sigma(m_b) - \epsilon \log \sigma(-m_b), \quad
        m_b = \beta \left(\ell^{+}_b - \ell^{-}_b\right) - \gamma

    with the log-probabilities :math:`\ell^{+}` of the chosen and :math:`\ell^{-}` of the rejected sequences, each
    divided by its number of tokens [1]_. The loss needs no reference policy.

    Parameters
    ----------
    chosen, rejected : array_like [B]
        Log-probabilities of the two sequences of each pair, divided by their numbers of tokens, such as those of
        `sequence_log_prob` with ``average=True``; numbers for one pair. float16, bfloat16, float32 or float64; computed
        in float64.
    beta : float
        Factor :math:`\beta` of the differences, from 1e-30 to 1e30.
    margin : float
        Margin :math:`\gamma` by which the difference times :math:`\beta` should exceed 0, from 0 to 1e30.
    label_smoothing : float
        Share :math:`\epsilon` of pairs whose labels may be swapped, from 0 to 0.5.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over pairs by B; "none" gives the loss of every pair.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each pair, finite and not negative. Averages divide by the sum of the weights instead of a count.
    return_grad : bool
        If True, return the gradients as well.
    grad_out : tuple of ndarray and None, optional
        `PreferenceGradient` of arrays to write the gradients to, of the shapes and dtypes of `chosen` and `rejected`,
        which may be these arrays themselves; None for a gradient that is not needed. Implies `return_grad`.
    num_threads : int, optional
        Accepted for consistency with the other losses; the loss always uses one thread.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "none".
    grad : PreferenceGradient
        Named tuple ``(chosen, rejected)`` of the gradients of the reduced loss (of the sum of the returned losses).
        Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, numbers or options are not as above. The message names the argument, the position, the value
        and what is allowed. In that case, nothing has been written.

    See Also
    --------
    dpo_loss : with a reference policy.

    Notes
    -----
    Log-probabilities may be -inf. Two sequences of probability 0 are equally probable. NaN or +inf among the
    log-probabilities of a pair makes its loss and gradients NaN.

    References
    ----------
    .. [1] Y. Meng, M. Xia, D. Chen, "SimPO: simple preference optimization with a reference-free reward",
       NeurIPS 2024.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.simpo_loss([-0.5], [-1.5], beta=2, margin=1, return_grad=True)
    >>> round(loss, 6)  # log(1 + exp(-1))
    0.313262
    >>> grad.chosen.round(4), grad.rejected.round(4)
    (array([-0.5379]), array([0.5379]))
    """
    factor = as_number("beta", beta, _LEAST, _MOST)
    least = as_number("margin", margin, 0.0, _MOST)
    share = as_number("label_smoothing", label_smoothing, 0.0, 0.5)
    pairs = _as_pairs(chosen, rejected, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    apart = _difference(pairs.chosen, pairs.rejected, None)

    def f(margins: Doubles) -> tuple[Doubles, Doubles]:
        return softplus(-margins), -factor * sigmoid(-margins)

    with np.errstate(all="ignore"):
        loss, slope = _smoothed(f, factor * apart - least, share)
        return pairs.finish(loss, slope, -slope)


@known_keywords
def orpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    beta: float = 0.1,
    nll_coef: float = 1.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: PreferenceGradientOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndPreferenceGradient:
    r"""Odds-ratio preference loss of chosen and rejected sequences (ORPO), and its gradients.

    .. math::
        L_b = -\alpha\, \ell^{+}_b - \beta \log \sigma\left(\omega(\ell^{+}_b) - \omega(\ell^{-}_b)\right), \quad
        \omega(\ell) = \log \frac{e^\ell}{1 - e^\ell}

    with the log-probabilities :math:`\ell^{+}` of the chosen and :math:`\ell^{-}` of the rejected sequences, each
    divided by its number of tokens [1]_. The first term is the loss of supervised fine-tuning. No reference policy is
    needed.

    Parameters
    ----------
    chosen, rejected : array_like [B]
        Log-probabilities of the two sequences of each pair, divided by their numbers of tokens, such as those of
        `sequence_log_prob` with ``average=True``; numbers for one pair. 0 or less; values up to 1e-6, from rounding,
        count as 0. float16, bfloat16, float32 or float64; computed in float64.
    beta : float
        Weight :math:`\beta` of the odds ratio, from 0 to 1e30.
    nll_coef : float
        Weight :math:`\alpha` of the negative log-likelihood of the chosen sequences, from 0 to 1e30.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over pairs by B; "none" gives the loss of every pair.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each pair, finite and not negative. Averages divide by the sum of the weights instead of a count.
    return_grad : bool
        If True, return the gradients as well.
    grad_out : tuple of ndarray and None, optional
        `PreferenceGradient` of arrays to write the gradients to, of the shapes and dtypes of `chosen` and `rejected`,
        which may be these arrays themselves; None for a gradient that is not needed. Implies `return_grad`.
    num_threads : int, optional
        Accepted for consistency with the other losses; the loss always uses one thread.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "none".
    grad : PreferenceGradient
        Named tuple ``(chosen, rejected)`` of the gradients of the reduced loss (of the sum of the returned losses).
        Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, numbers or options are not as above. The message names the argument, the position, the value
        and what is allowed. In that case, nothing has been written.

    See Also
    --------
    dpo_loss : with a reference policy.

    Notes
    -----
    Log-probabilities may be -inf. Two sequences of probability 0, or of probability 1, are equally probable. The
    derivative with respect to a rejected sequence of probability 1 is the largest number of float64. NaN or +inf
    among the log-probabilities of a pair makes its loss and gradients NaN.

    References
    ----------
    .. [1] J. Hong, N. Lee, J. Thorne, "ORPO: monolithic preference optimization without reference model",
       EMNLP 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.orpo_loss(np.log([0.5]), np.log([0.25]), beta=1, return_grad=True)
    >>> round(float(np.exp(-loss)), 6)  # 0.5 * 3 / (3 + 1), for the odds 1 and 1 / 3
    0.375
    >>> grad.chosen.round(4), grad.rejected.round(4)
    (array([-1.5]), array([0.3333]))
    """
    weight = as_number("beta", beta, 0.0, _MOST)
    likelihood = as_number("nll_coef", nll_coef, 0.0, _MOST)
    pairs = _as_pairs(chosen, rejected, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    check_not_positive("chosen", pairs.chosen, pairs.shape)
    check_not_positive("rejected", pairs.rejected, pairs.shape)
    with np.errstate(all="ignore"):
        above, below = (log_complement(np.minimum(x, -_TINY)) for x in (pairs.chosen, pairs.rejected))
        ratio = _apart(_log_odds(pairs.chosen, above), _log_odds(pairs.rejected, below))
        finite = _apart(np.minimum(pairs.chosen, -_TINY) - above, np.minimum(pairs.rejected, -_TINY) - below)
        # A derivative is a probability divided by 1 - p, both of which may underflow: a difference of logarithms.
        against = -softplus(finite)
        loss = weight * softplus(-ratio) if weight else np.where(np.isnan(ratio), ratio, 0.0)
        if likelihood:
            loss -= likelihood * pairs.chosen
        return pairs.finish(loss, -likelihood - weight * np.exp(against - above), weight * np.exp(against - below))


@known_keywords
def kto_loss(
    log_probs: ArrayLike,
    desirable: ArrayLike,
    ref_log_probs: ArrayLike | None = None,
    *,
    kl: ArrayLike = 0.0,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Kahneman-Tversky optimisation of sequences that are desirable or not (KTO), and its gradient.

    .. math::
        L_b = \lambda_b \left(1 - \sigma\left(\pm \beta \left(\ell_b - \ell^{ref}_b - z\right)\right)\right)

    with the log-probability :math:`\ell` of a sequence under the policy, that under a reference policy, and the
    divergence :math:`z` of the two policies. The sign is + and the weight :math:`\lambda_D` for desirable sequences;
    the sign is - and the weight :math:`\lambda_U` for others [1]_.

    Parameters
    ----------
    log_probs : array_like [B]
        Log-probabilities of the sequences, such as those of `sequence_log_prob`; a number for one sequence. float16,
        bfloat16, float32 or float64; computed in float64.
    desirable : array_like of bool, or of 0 and 1, [B]
        Sequences that are desirable.
    ref_log_probs : array_like [B], optional
        Log-probabilities of the sequences under the reference policy, 0 by default; finite. Constants.
    kl : float, or array_like without axes
        Estimate :math:`z` of the divergence from the reference policy, 0 or more. A constant: usually the mean over a
        batch of :math:`\ell - \ell^{ref}` for answers to other questions, or 0 if that is negative.
    beta : float
        Factor :math:`\beta` of the differences, from 1e-30 to 1e30; a larger one keeps the policy closer
        to the reference policy.
    desirable_weight, undesirable_weight : float
        Weights :math:`\lambda_D` and :math:`\lambda_U`, from 0 to 1e30.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over sequences by B; "none" gives the loss of every sequence.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. Averages divide by the sum of the weights
        instead of a count.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `log_probs` to write the gradient to; may be `log_probs` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Accepted for consistency with the other losses; the loss always uses one thread.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "none".
    grad : ndarray, shape and dtype of `log_probs`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, numbers or options are not as above. The message names the argument, the position, the value
        and what is allowed. In that case, nothing has been written.

    See Also
    --------
    dpo_loss : for pairs of sequences.

    Notes
    -----
    Log-probabilities may be -inf. NaN or +inf makes the loss and the gradient of a sequence NaN.

    References
    ----------
    .. [1] K. Ethayarajh, W. Xu, N. Muennighoff, D. Jurafsky, D. Kiela, "KTO: model alignment as prospect theoretic
       optimization", ICML 2024.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> options = {"beta": 1.0, "reduction": "none", "return_grad": True}
    >>> loss, grad = fsl.kto_loss([-1.0, -1.0], [True, False], [-2.0, -2.0], **options)
    >>> loss.round(4), grad.round(4)
    (array([0.2689, 0.7311]), array([-0.1966,  0.1966]))
    """
    factor = as_number("beta", beta, _LEAST, _MOST)
    weights = (
        as_number("undesirable_weight", undesirable_weight, 0.0, _MOST),
        as_number("desirable_weight", desirable_weight, 0.0, _MOST),
    )
    divergence = as_number("kl", kl, 0.0, np.inf)
    given = as_log_probs("log_probs", log_probs)
    wanted = as_mask("desirable", desirable, given.shape).reshape(-1)
    references = _as_reference("ref_log_probs", ref_log_probs, given.shape)
    summed = as_sequence_sum(given.shape, reduction, normalizer, sample_weight, num_threads)
    gradient = as_gradient(given, return_grad, grad_out)
    with np.errstate(all="ignore"):
        sign, weight = np.where(wanted, 1.0, -1.0), np.take(weights, wanted.view(np.uint8))
        quarters = given.values / 4 - (0.0 if references is None else references / 4) - divergence / 4
        gains = sign * (factor * quarters * 4)
        loss, slope = weight * sigmoid(-gains), -sign * weight * factor * (sigmoid(gains) * sigmoid(-gains))
        summed.write(slope, gradient)
        return summed.finish(loss) if gradient.values is None else (summed.finish(loss), gradient.finish())


_Function = Callable[[Doubles], tuple[Doubles, Doubles]]
"""A function of the difference of a pair, and its derivative."""


def _of_kind(kind: object, beta: Any) -> _Function:
    """Return the loss of DPO of this name."""
    name = _KINDS[choice("kind", kind, _KINDS)]
    factor = as_number("beta", beta, _LEAST, _MOST)

    def of_sigmoid(apart: Doubles) -> tuple[Doubles, Doubles]:
        return softplus(-factor * apart), -factor * sigmoid(-factor * apart)

    def of_squares(apart: Doubles) -> tuple[Doubles, Doubles]:
        beyond = apart - 0.5 / factor
        return np.square(beyond), 2 * beyond

    def of_hinge(apart: Doubles) -> tuple[Doubles, Doubles]:
        short = 1 - factor * apart
        return np.maximum(short, 0.0), np.where(short <= 0, 0.0, np.where(short > 0, -factor, short))

    return {"sigmoid": of_sigmoid, "ipo": of_squares, "hinge": of_hinge}[name]


def _smoothed(f: _Function, apart: Doubles, share: float) -> tuple[Doubles, Doubles]:
    """Return the expected loss, and its derivative, if a share of the pairs is swapped."""
    loss, slope = f(apart)
    if not share:
        return loss, slope
    swapped, back = f(-apart)
    return (1 - share) * loss + share * swapped, (1 - share) * slope - share * back


def _apart(a: Doubles, b: Doubles) -> Doubles:
    """Return a - b, 0 for two equal numbers, infinite ones too."""
    return np.where(a == b, 0.0, a - b)


def _difference(chosen: Doubles, rejected: Doubles, references: tuple[Doubles, Doubles] | None) -> Doubles:
    """Return the difference of the log-probabilities of pairs minus that under the reference policy."""
    with np.errstate(all="ignore"):
        # Quarters, which are exact, because sums of four finite numbers may overflow with both signs.
        quarters = _apart(chosen / 4, rejected / 4)
        if references is not None:
            quarters -= references[0] / 4 - references[1] / 4
        return quarters * 4


def _log_odds(x: Doubles, rest: Doubles) -> Doubles:
    """Return the logarithm of p / (1 - p), given those of p and of 1 - p, which is finite where p is 1."""
    return np.where(x == 0, np.inf, x - rest)


def _as_reference(name: str, value: Any, shape: tuple[int, ...]) -> Doubles | None:
    """Return log-probabilities [B] under the reference policy, or None."""
    return None if value is None else as_finite(name, value, shape).reshape(-1)


def _as_references(ref_chosen: Any, ref_rejected: Any, shape: tuple[int, ...]) -> tuple[Doubles, Doubles] | None:
    """Return the log-probabilities of pairs under the reference policy, or None."""
    chosen = _as_reference("ref_chosen", ref_chosen, shape)
    rejected = _as_reference("ref_rejected", ref_rejected, shape)
    if chosen is not None and rejected is not None:
        return chosen, rejected
    if chosen is rejected:
        return None
    missing, given = ("ref_chosen", "ref_rejected")[:: 1 if chosen is None else -1]
    raise ValueError(f"{missing} is None, but {given} is given; allowed: both or neither")


@dataclass(slots=True)
class _Pairs:
    """Log-probabilities of the sequences of pairs, the sum of their losses, and their gradients."""

    chosen: Doubles  # [B]
    rejected: Doubles  # [B]
    shape: tuple[int, ...]  # as passed: (B,), or () for one pair
    summed: SequenceSum
    gradients: tuple[Gradient, ...]
    wanted: bool  # return the gradients

    def finish(self, losses: Doubles, by_chosen: Doubles, by_rejected: Doubles) -> Loss | LossAndPreferenceGradient:
        """Return the reduced loss, and the gradients if requested, given the derivatives of each loss."""
        loss = self.summed.finish(losses)
        if not self.wanted:
            return loss
        for gradient, slopes in zip(self.gradients, (by_chosen, by_rejected), strict=True):
            self.summed.write(slopes, gradient)
        return loss, PreferenceGradient(*finished(self.gradients))


def _as_pairs(
    chosen: Any,
    rejected: Any,
    reduction: str,
    normalizer: float | None,
    sample_weight: Any,
    return_grad: bool,
    grad_out: Any,
    num_threads: int | None,
) -> _Pairs:
    """Check the log-probabilities of pairs, and the options of every loss."""
    first = as_log_probs("chosen", chosen)
    second = as_log_probs("rejected", rejected)
    if second.shape != first.shape:
        raise ValueError(f"rejected has shape {second.shape}; allowed: {first.shape}, that of chosen")
    summed = as_sequence_sum(first.shape, reduction, normalizer, sample_weight, num_threads)
    given = {"chosen": first, "rejected": second}
    gradients = as_gradients_of({**given}, return_grad, grad_out, PreferenceGradient)
    wanted = grad_out is not None or flag("return_grad", return_grad)
    return _Pairs(first.values, second.values, first.shape, summed, gradients, wanted)
