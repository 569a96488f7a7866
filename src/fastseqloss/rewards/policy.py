"""Reward-weighted losses: policy gradients, plain and clipped, and the expected risk of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from numpy.typing import ArrayLike, NDArray

from .._core.levels import load
from .._core.types import ClippedPolicyOptions, Loss, LossAndGradient, PolicyOptions, ScalarReduction, StepReduction
from .arguments import as_clip, policy_loss

if TYPE_CHECKING:
    from .._kernels.rewards import policy as _kernel
else:
    _kernel = load("rewards.policy")


@overload
def policy_gradient_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: ScalarReduction = ...,
    return_grad: Literal[False] = ...,
    grad_out: None = ...,
    **options: Unpack[PolicyOptions],
) -> float: ...


@overload
def policy_gradient_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: Literal[False] = ...,
    grad_out: None = ...,
    **options: Unpack[PolicyOptions],
) -> Loss: ...


@overload
def policy_gradient_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: Literal[True],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[PolicyOptions],
) -> LossAndGradient: ...


@overload
def policy_gradient_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: bool = ...,
    grad_out: NDArray[Any],
    **options: Unpack[PolicyOptions],
) -> LossAndGradient: ...


def policy_gradient_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    entropy_coef: float = 0.0,
    ref_log_probs: ArrayLike | None = None,
    kl_coef: float = 0.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Policy-gradient (REINFORCE) loss of the actions taken, and its gradient.

    .. math::
        L_t = -A_t \log p_t(a_t) - \beta H(p_t) + \kappa \left(e^{r_t} - r_t - 1\right), \quad
        r_t = \log q_t(a_t) - \log p_t(a_t)

    with the policy :math:`p` = softmax of the logits, its entropy H, and a reference policy q. The
    gradient with respect to the logits is that of the expected reward, negative, as far as the actions were
    drawn from p [1]_. The last term estimates the divergence KL(p, q) from the actions alone, never negative
    [2]_.

    Parameters
    ----------
    logits : array_like [..., A]
        Scores of A actions: batch, time and further axes of steps, as many as there are. float32 and
        float64 are native; float16 and bfloat16 are read and written as they are, a row at a time computed
        in float32. Any strides; an action axis that is not contiguous is copied.
    actions : array_like of int, shape of the steps
        The actions taken.
    advantages : array_like, shape of the steps or [B]
        How much better than expected what followed was, step by step or for each sequence as a whole; finite.
        Constants: no gradient flows through them.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Which steps count, where they are not the first ones; all by default. With `lengths` a step
        counts if both say so. What does not count is never read and has gradient 0.
    entropy_coef : float
        The weight :math:`\beta` of the entropy bonus, 0 or more.
    ref_log_probs : array_like, shape of the steps, optional
        Log-probabilities :math:`\log q` that a reference policy gives to the actions; finite, constants.
    kl_coef : float
        The weight :math:`\kappa` of the divergence from the reference policy, 0 or more.
    reduction : {"mean", "sequence_mean", "batch_mean", "sum", "per_sequence", "none"}
        "mean" divides the sum over steps by their number, "sequence_mean" is the mean over sequences
        of each one's mean over its steps, "batch_mean" divides the sum by B; "per_sequence" gives the
        sums [B], "none" every step's loss.
    normalizer : float, optional
        With ``reduction="sum"``, divides the sum.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. Averages divide by the sum of weights where
        they divided by a count.
    return_grad : bool
        Whether to return the gradient too.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, to be minimised; [B] with "per_sequence", of the shape of the steps with "none", 0 where a
        step does not count.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of what is returned) with respect to the logits. Only with
        `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, actions, numbers or options are not as above, naming the argument,
        the position, the value and what is allowed; nothing has been written then.

    See Also
    --------
    clipped_policy_loss : for several updates with the same actions.
    discounted_returns, generalized_advantages : advantages from rewards.

    Notes
    -----
    The result does not depend, not even by a bit, on the number of threads nor on the other sequences
    of the batch. A logit of -inf is an action that is masked out; taken nonetheless, its loss is inf for
    a positive advantage and -inf for a negative one, and inf in any case with `kl_coef`. A step whose logits are
    all -inf has gradient 0. NaN or +inf among the logits of a step makes its loss and gradient NaN. No step that
    counts at all gives loss 0 and gradient 0.

    Loss and gradient of the divergence are those of the expression above and grow as :math:`e^{r_t}`: nothing bounds
    them. Where the reference gives an action far more probability than the policy does, the gradient is beyond
    float32 from :math:`r_t = 89` on, and infinite there, of its sign. ``np.minimum(ref_log_probs, log_probs + 20)``
    with the policy's own `log_probs`, taken as constants, bounds both.

    References
    ----------
    .. [1] R. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
       learning", Machine Learning 8, 1992.
    .. [2] J. Schulman, "Approximating KL divergence", 2020, where it is called k3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> logits = np.log([[[0.5, 0.5], [0.2, 0.8]]])
    >>> loss, grad = fsl.policy_gradient_loss(logits, [[0, 1]], [2.0], return_grad=True)
    >>> round(loss, 6)  # -2 log(0.5 * 0.8) / 2
    0.916291
    >>> grad.round(3)
    array([[[-0.5,  0.5],
            [ 0.2, -0.2]]])
    """
    return policy_loss(
        _kernel, logits, actions, advantages, None, None, lengths, mask, entropy_coef, ref_log_probs,
        kl_coef, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads,
    )  # fmt: skip


@overload
def clipped_policy_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: ScalarReduction = ...,
    return_grad: Literal[False] = ...,
    grad_out: None = ...,
    **options: Unpack[ClippedPolicyOptions],
) -> float: ...


@overload
def clipped_policy_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: Literal[False] = ...,
    grad_out: None = ...,
    **options: Unpack[ClippedPolicyOptions],
) -> Loss: ...


@overload
def clipped_policy_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: Literal[True],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[ClippedPolicyOptions],
) -> LossAndGradient: ...


@overload
def clipped_policy_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = ...,
    *,
    reduction: StepReduction = ...,
    return_grad: bool = ...,
    grad_out: NDArray[Any],
    **options: Unpack[ClippedPolicyOptions],
) -> LossAndGradient: ...


def clipped_policy_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    clip: float | tuple[float, float] = (0.2, 0.2),
    entropy_coef: float = 0.0,
    ref_log_probs: ArrayLike | None = None,
    kl_coef: float = 0.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Clipped surrogate loss of proximal policy optimisation, and its gradient.

    .. math::
        L_t = -\min\left(\rho_t A_t,\ \mathrm{clip}(\rho_t, 1 - c_-, 1 + c_+)\, A_t\right)
        - \beta H(p_t) + \kappa \left(e^{r_t} - r_t - 1\right)

    with the ratio :math:`\rho_t = p_t(a_t) / p^{old}_t(a_t)`, the policy p = softmax of the logits, its entropy
    H, and :math:`r_t = \log q_t(a_t) - \log p_t(a_t)` for a reference policy q [1]_ [2]_.

    Parameters
    ----------
    logits : array_like [..., A]
        Scores of A actions: batch, time and further axes of steps, as many as there are. float32 and
        float64 are native; float16 and bfloat16 are read and written as they are, a row at a time computed
        in float32. Any strides; an action axis that is not contiguous is copied.
    actions : array_like of int, shape of the steps
        The actions taken.
    old_log_probs : array_like, shape of the steps
        Log-probabilities of the actions when they were taken; finite. Constants, as the advantages are.
    advantages : array_like, shape of the steps or [B]
        How much better than expected what followed was, step by step or for each sequence as a whole; finite.
        Constants: no gradient flows through them.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Which steps count, where they are not the first ones; all by default. With `lengths` a step
        counts if both say so. What does not count is never read and has gradient 0.
    clip : float or (float, float)
        How far the ratio may fall below 1 (0 to 1) and rise above it (0 or more) before there is no more to
        gain; a single number serves for both.
    entropy_coef : float
        The weight :math:`\beta` of the entropy bonus, 0 or more.
    ref_log_probs : array_like, shape of the steps, optional
        Log-probabilities :math:`\log q` that a reference policy gives to the actions; finite, constants.
    kl_coef : float
        The weight :math:`\kappa` of the divergence from the reference policy, 0 or more.
    reduction : {"mean", "sequence_mean", "batch_mean", "sum", "per_sequence", "none"}
        "mean" divides the sum over steps by their number, "sequence_mean" is the mean over sequences
        of each one's mean over its steps, "batch_mean" divides the sum by B; "per_sequence" gives the
        sums [B], "none" every step's loss.
    normalizer : float, optional
        With ``reduction="sum"``, divides the sum.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. Averages divide by the sum of weights where
        they divided by a count.
    return_grad : bool
        Whether to return the gradient too.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, to be minimised; [B] with "per_sequence", of the shape of the steps with "none", 0 where a
        step does not count.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of what is returned) with respect to the logits. Only with
        `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, actions, numbers or options are not as above, naming the argument,
        the position, the value and what is allowed; nothing has been written then.

    See Also
    --------
    policy_gradient_loss : without ratios; the gradient is the same where the policy has not moved yet.
    generalized_advantages : advantages from rewards and a critic.

    Notes
    -----
    A step has no gradient but that of entropy and divergence where the ratio is over ``1 + clip[1]``
    with a positive advantage, or below ``1 - clip[0]`` with a negative one. At these bounds themselves it has
    the gradient of the ratio.

    The result does not depend, not even by a bit, on the number of threads nor on the other sequences
    of the batch. A logit of -inf is an action that is masked out; taken nonetheless, its ratio is 0, and its
    loss inf with `kl_coef`. A step whose logits are all -inf has gradient 0. NaN or +inf among the logits of a
    step makes its loss and gradient NaN. No step that counts at all gives loss 0 and gradient 0.

    The divergence is not bounded; `policy_gradient_loss` says what that means, and what to do.

    References
    ----------
    .. [1] J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal policy optimization
       algorithms", arXiv:1707.06347, 2017.
    .. [2] Z. Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in open language models",
       arXiv:2402.03300, 2024: groups as the baseline, and the divergence in the loss.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> logits = np.log([[[0.5, 0.5], [0.2, 0.8]]])
    >>> old = np.log([[0.5, 0.5]])  # the second ratio is 1.6
    >>> loss, grad = fsl.clipped_policy_loss(logits, [[0, 1]], old, [1.0], return_grad=True)
    >>> round(loss, 6)  # -(1 + 1.2) / 2
    -1.1
    >>> grad.round(3) + 0  # no -0
    array([[[-0.25,  0.25],
            [ 0.  ,  0.  ]]])
    """
    bounds = as_clip(clip)
    if old_log_probs is None:
        raise TypeError("old_log_probs is None; allowed: an array of the shape of the steps")
    return policy_loss(
        _kernel, logits, actions, advantages, old_log_probs, bounds, lengths, mask, entropy_coef, ref_log_probs,
        kl_coef, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads,
    )  # fmt: skip
