"""Policy-gradient losses of the scores of a linear layer, which are never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from .._core.engine import as_options, as_step_sum
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import brief
from .._core.options import choice
from .._core.reduction import reduce_steps
from .._core.threads import check_num_threads
from .._core.types import KLKind, Loss, StepPolicyKind, StepReduction
from ..rewards.arguments import as_entropy_mask, as_taken
from ..rewards.policy import PER_SCORE
from ..rewards.terms import as_clip, as_terms
from .chunks import even_chunks, run_chunks
from .head import LinearGradientOut, LossAndLinearGradient, as_head_gradients, as_step_head
from .rows import RowLosses

if TYPE_CHECKING:
    from .._kernels.rewards import policy as _kernel
else:
    _kernel = load("rewards.policy")

_CLIP = (0.2, 0.2)
_KINDS = ("ppo", "cispo")


@known_keywords
def linear_policy_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    actions: ArrayLike,
    advantages: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None,
    kind: StepPolicyKind = "ppo",
    dual_clip: float | None = None,
    entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None,
    kl_coef: float = 0.0,
    kl_kind: KLKind = "k3",
    max_log_ratio: float | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: LinearGradientOut | None = None,
    chunk: int | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndLinearGradient:
    r"""Policy-gradient loss of a linear layer of hidden states, and its gradient, without the array of logits.

    .. math::
        L_t = -A_t \log p_t(a_t) - \beta H(p_t) + \kappa \left(e^{r_t} - r_t - 1\right), \quad
        p_t = \mathrm{softmax}\left(C\left(s\, (W h_t + b)\right)\right), \quad
        r_t = \log q_t(a_t) - \log p_t(a_t)

    with the bias :math:`b`, the factor :math:`s`, and the soft cap :math:`C(x) = c \tanh(x / c)`, or
    :math:`C(x) = x` without one. This is the loss of `policy_gradient_loss`, which describes its terms. With
    `old_log_probs`, it is that of `clipped_policy_loss`, whose first term is

    .. math::
        -\min\left(\rho_t A_t,\ \mathrm{clip}(\rho_t, 1 - c_-, 1 + c_+)\, A_t\right), \quad
        \rho_t = p_t(a_t) / p^{old}_t(a_t).

    Logits are computed for a few hundred steps at a time, and only for steps that count: the padding of a language
    model's completions takes no time.

    Parameters
    ----------
    hidden : array_like [..., D]
        States of D features, with any number of axes of steps before them: batch, time and so on; [N, D] is
        N sequences of one step. Any strides. float16 and bfloat16 are converted a few hundred steps at a time.
    weight : array_like [V, D]
        Weights of V classes. A transposed array [D, V] is read without a copy. float16 and bfloat16 are converted to
        float32 once, which takes 4 V D bytes, and 4 V D more for the gradient. Logits and gradients are computed in
        float64 if `hidden` or `weight` is, else in float32.
    actions : array_like of int, shape of the steps
        The actions taken.
    advantages : array_like, shape of the steps or [B]
        Returns of the actions minus the expected returns, for each step or for each sequence; finite. They are treated
        as constants.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    bias : array_like [V], optional
        Added to the logits; 0 by default. -inf excludes a class, unless a `softcap` bounds its logits.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read or multiplied, and have gradient 0.
    old_log_probs : array_like, shape of the steps, optional
        Log-probabilities of the actions under the policy that chose them; finite. Constants. They clip the loss.
    clip : float or (float, float), optional
        With `old_log_probs`, distances :math:`c_-` (0 to 1) and :math:`c_+` (0 or more) from 1 at which the ratio
        is clipped, 0.2 by default; a single number sets both.
    kind : {"ppo", "cispo"}
        With `old_log_probs`: "ppo" is the equation above; "cispo" has the first term
        :math:`-\mathrm{clip}(\rho_t, 1 - c_-, 1 + c_+)\, A_t \log p_t(a_t)`, with the clipped ratio as a constant
        weight.
    dual_clip : float, optional
        Upper bound of the ratio for steps with a negative advantage, 1 or more; beyond it, their loss does not grow.
    entropy_coef : float
        Weight :math:`\beta` of the entropy bonus, 0 or more.
    entropy_mask : array_like of bool, or of 0 and 1, shape of the steps, optional
        Steps whose entropy counts in the bonus; all by default.
    ref_log_probs : array_like, shape of the steps, optional
        Log-probabilities :math:`\log q` of the actions under a reference policy; finite. Constants.
    kl_coef : float
        Weight :math:`\kappa` of the divergence from the reference policy, 0 or more.
    kl_kind : {"k1", "k2", "k3"}
        Estimate of the divergence from :math:`r_t`: :math:`-r_t` for "k1", :math:`r_t^2 / 2` for "k2", and
        :math:`e^{r_t} - r_t - 1` for "k3".
    max_log_ratio : float, optional
        Bound of the absolute values of :math:`r_t` and of the logarithms of other ratios, 0 or more. Values beyond it
        are replaced by the bound and have gradient 0.
    scale : float
        Factor of the logits, such as the reciprocal of a temperature; from 1e-30 to 1e30.
    softcap : float, optional
        Bound of the absolute values of the logits, after `scale`; from 1e-30 to 1e30.
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
        If True, return the gradients as well.
    grad_out : tuple of ndarray and None, optional
        `LinearGradient` of arrays to write the gradients to, of the shapes and dtypes of `hidden`, `weight` and `bias`,
        which may be these arrays themselves; None for a gradient that is not needed, which is then not computed.
        Implies `return_grad`.
    chunk : int, optional
        Number of steps whose logits are in memory at a time: 4 bytes for each class of each step, 8 in float64,
        and twice as many with `softcap` and gradients. By default 2^24 / V, but from 256 to 512.
    num_threads : int, optional
        Threads to use, see `set_num_threads` for the default; NumPy's BLAS, which multiplies the matrices, has its
        own.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, to be minimised; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : LinearGradient
        Named tuple ``(hidden, weight, bias)`` of the gradients of the reduced loss (of the sum of the returned losses),
        each of the shape and dtype of its argument; None for a bias that was not given, or a gradient that is not
        needed. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, actions, numbers or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    policy_gradient_loss, clipped_policy_loss : losses of logits that are in memory.
    linear_sequence_log_prob : log-probabilities of sequences, for losses of preferences.

    Notes
    -----
    The result has the same bits with any `num_threads`. It may depend by rounding on the threads of BLAS, on `chunk`
    and on the other steps, because BLAS rounds products of matrices of different sizes differently.

    NaN or +inf among the logits of a step makes its loss, the gradient of its hidden state, and the gradients of
    weight and bias NaN. The divergence is not bounded: from :math:`r_t = 89` on, derivatives by float32 logits are
    infinite, and so are gradients, or NaN if they are differences of such numbers. The notes of
    `policy_gradient_loss` show how to bound it.

    For old log-probabilities, call `linear_cross_entropy` with ``reduction="none"`` when the actions are taken:
    they are its negative.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> hidden, weight = np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.log([[0.5, 0.2], [0.5, 0.8]])
    >>> loss, grad = fsl.linear_policy_loss(hidden, weight, [[0, 1]], [2.0], return_grad=True)
    >>> round(loss, 6)  # -2 log(0.5 * 0.8) / 2
    0.916291
    >>> grad.weight.round(3)
    array([[-0.5,  0.2],
           [ 0.5, -0.2]])
    >>> old = np.log([[0.5, 0.5]])  # the second ratio is 1.6
    >>> round(fsl.linear_policy_loss(hidden, weight, [[0, 1]], [1.0], old_log_probs=old), 6)  # -(1 + 1.2) / 2
    -1.1
    """
    of_weights = choice("kind", kind, _KINDS) == 1
    if old_log_probs is None:
        for name, value in (("clip", clip), ("dual_clip", dual_clip), ("kind", kind if of_weights else None)):
            if value is not None:
                unused = "'ppo'" if name == "kind" else "None"
                raise ValueError(f"{name} is {brief(value)}, but old_log_probs is not given; allowed: {unused}")
    bounds = None if old_log_probs is None else as_clip(_CLIP if clip is None else clip)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    terms = as_terms(
        *(entropy_coef, ref_log_probs, kl_coef, kl_kind, max_log_ratio),
        *(bounds or (0.0, 0.0), dual_clip, kind, _KINDS),
    )
    head = as_step_head(hidden, weight, bias, scale, softcap, chunk)
    summed = as_step_sum(head.steps, options)
    taken = as_taken(summed.steps, head.n_classes, actions, advantages, old_log_probs, ref_log_probs)
    bonus = as_entropy_mask(entropy_mask, summed.steps)
    check_num_threads(num_threads)
    gradients = as_head_gradients(head, return_grad, grad_out)
    step = RowLosses(
        _kernel.policy_loss,
        lambda rows: (*taken.of(rows), *terms, None if bonus is None else bonus[rows], None, None),
        PER_SCORE,
        summed,
        taken.actions,
        summed.plain_scale(),
        gradients.wanted,
        num_threads,
    )
    run_chunks(head, gradients, even_chunks(head, step.rows()), step)
    return gradients.beside(reduce_steps(reduction, step.by_sequence(), step.scale, summed.steps.shape))
