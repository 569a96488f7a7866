"""Expected risk of candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_doubles, as_finite, as_lengths, as_mask, as_weights
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.options import as_number
from .._core.reduction import check_reduction, finish_sequences, sequence_scale
from .._core.risk import RISK_REDUCTIONS, expected_risk
from .._core.scores import as_step_scores
from .._core.steps import Steps
from .._core.threads import check_num_threads
from .._core.types import Loss, LossAndGradient, RiskReduction


@known_keywords
def expected_risk_loss(
    log_probs: ArrayLike,
    risks: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    sharpness: float = 1.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Expected risk over the candidates of each sequence (minimum risk training), and its gradient.

    .. math::
        L_b = \sum_n Q_{b,n} R_{b,n}, \quad
        Q_{b,n} = \frac{p_{b,n}^\alpha}{\sum_k p_{b,k}^\alpha}

    with the probabilities p of the candidates, renormalised over them [1]_. The gradient with respect to
    :math:`\log p_{b,n}` is :math:`\alpha\, Q_{b,n} (R_{b,n} - L_b)`, to be propagated into the model that computed
    the log-probabilities of whole candidates.

    Parameters
    ----------
    log_probs : array_like [B, N] or [N]
        Log-probabilities of N candidates (samples, a beam) of each of B sequences; float16, bfloat16, float32 or
        float64.
    risks : array_like, shape of `log_probs`
        Cost of each candidate, such as an edit distance or 1 - BLEU; finite. Constants.
    lengths : array_like of int [B], optional
        Number of candidates of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, shape of `log_probs`, optional
        Candidates that count, all by default. Other candidates are never read and have gradient 0.
    sharpness : float
        Exponent :math:`\alpha`, above 0; with a small exponent, the weights of the candidates differ less.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over sequences by B; "none" gives the risk of every sequence.
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
        The expected risk; [B] with "none".
    grad : ndarray, shape and dtype of `log_probs`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, numbers or options are not as above. The message names the argument, the position,
        the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A sequence without candidates, or whose candidates all have probability 0, has loss 0 and gradient 0. NaN or
    +inf among the log-probabilities of a sequence makes its loss and gradient NaN.

    References
    ----------
    .. [1] S. Shen et al., "Minimum risk training for neural machine translation", ACL 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.expected_risk_loss(np.log([[0.3, 0.1]]), [[0, 1]], return_grad=True)
    >>> round(loss, 6)
    0.25
    >>> grad.round(4)
    array([[-0.1875,  0.1875]])
    """
    normalizer = check_reduction(reduction, RISK_REDUCTIONS, normalizer)
    check_num_threads(num_threads)
    alpha = as_number("sharpness", sharpness, 0.0, np.inf, open_ends=True)
    given = as_array("log_probs", log_probs)
    if given.ndim not in (1, 2):
        raise ValueError(f"log_probs has shape {given.shape}; allowed: [B, N], or [N] for one sequence")
    checked = as_step_scores("log_probs", given)
    batch, _, n = checked.values.shape if given.ndim == 2 else (1, 1, given.shape[0])
    first = as_lengths("lengths", lengths, batch, n, given.ndim == 1)
    steps = Steps.of((batch, n), first, None)
    if mask is not None:
        chosen = as_mask("mask", mask, given.shape, steps.counting())
        steps = Steps.of((batch, n), first, chosen.view(np.uint8).reshape(batch, n))
    counts = steps.counting()
    costs = as_finite("risks", risks, given.shape, counts).reshape(batch, n)
    weight = as_weights("sample_weight", sample_weight, batch)
    scale = sequence_scale(reduction, np.ones(batch), normalizer, weight, batch)
    gradient = as_gradient(checked, return_grad, grad_out)
    x = np.where(counts, as_doubles(checked.values).reshape(batch, n), -np.inf)
    expected = expected_risk(x, costs, alpha)
    loss = finish_sequences(reduction, expected.risk, scale, single=given.ndim == 1)
    if gradient.values is None:
        return loss
    share = expected.share
    with np.errstate(all="ignore"):
        derivatives = np.where(share == 0, share, alpha * share * expected.half_excess * 2)
        scaled = np.multiply(derivatives, scale[:, None], out=np.zeros_like(derivatives), where=scale[:, None] != 0)
        np.copyto(gradient.values.reshape(batch, n), np.where(counts, scaled, 0), casting="same_kind")
    return loss, gradient.finish()
