"""Losses that compare two distributions over classes at each step of padded sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from .._core.engine import as_options
from .._core.keywords import known_keywords
from .._core.options import InputKind, as_input_kind, as_number, choice
from .._core.types import (
    CrossEntropyGradient,
    CrossEntropyGradientOut,
    Input,
    Loss,
    LossAndGradient,
    StepReduction,
)
from .vectors import Form, vector_loss, vector_loss_and_gradients


@known_keywords
def kl_divergence(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Input = "logits",
    target_input: Input = "probs",
    direction: Literal["forward", "reverse"] = "forward",
    temperature: float = 1.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | CrossEntropyGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, CrossEntropyGradient]:
    r"""Kullback-Leibler divergence between the distributions of a model and of targets, and its gradient.

    .. math::
        L_{b,t} = \sum_c q_{b,t,c} \log \frac{q_{b,t,c}}{p_{b,t,c}} \text{ (forward)}, \quad
        L_{b,t} = \sum_c p_{b,t,c} \log \frac{p_{b,t,c}}{q_{b,t,c}} \text{ (reverse)}

    with the distribution p of `logits` and q of `targets`. The forward divergence is small only if all classes that are
    likely under q are likely under p, the reverse one only if all classes that are unlikely under q are unlikely under
    p [1]_.

    Parameters
    ----------
    logits : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float32 and float64 are native; float16 and bfloat16 are computed in float32;
        with targets of float64, everything is in float64. Any strides; a class axis that is not contiguous is copied.
    targets : array_like, shape of `logits`
        The other distributions, of any of these dtypes: those of a teacher, or a prior.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    input : {"logits", "log_probs", "probs"}
        Kind of the numbers in `logits`. A softmax is applied to logits only. Log-probabilities and probabilities are
        used unchanged, normalised or not, and the gradient is the derivative with respect to them. Probabilities are
        from 0 to 1; a value outside this range by at most 1e-6, from rounding, counts as 0 or 1.
    target_input : {"probs", "log_probs", "logits"}
        Kind of the numbers in `targets`. Probabilities are finite, 0 or more.
    direction : {"forward", "reverse"}
        "forward" takes the mean of the log-ratio over the targets, "reverse" over the model.
    temperature : float
        Divisor of logits, of the model and of the targets, from 1e-30 to 1e30. It does not apply to probabilities and
        their logarithms. For gradients that do not depend on it, multiply the loss by its square [2]_.
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
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`. With `with_respect_to`, a `CrossEntropyGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "logits" or "targets" or both. Implies
        `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `logits`; or CrossEntropyGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, probabilities, weights or options are not as above. The message names the argument,
        the position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : the forward divergence without the entropy of the targets, and classes as targets.

    Notes
    -----
    The loss is a mean over one of the distributions, q for "forward" and p for "reverse". A class of probability 0 in
    that distribution adds 0 to the mean. A class that is possible in that distribution and impossible in the other one
    makes the loss inf; the gradient with respect to the logits of that distribution is then 0. A step whose logits are
    all -inf has loss inf and gradient 0. The derivative with respect to a probability of 0 is infinite where the
    equation contains its logarithm.

    Replaces ``torch.nn.functional.kl_div(x, y, reduction="batchmean")`` of log-probabilities x [N, V]
    (``log_target=True`` is ``target_input="log_probs"``), ``optax.losses.kl_divergence`` and
    ``keras.losses.KLDivergence``.

    References
    ----------
    .. [1] Y. Gu, L. Dong, F. Wei, M. Huang, "MiniLLM: knowledge distillation of large language models", ICLR 2024.
    .. [2] G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> student, teacher = np.log([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.75, 0.0]])
    >>> loss, grad = fsl.kl_divergence(student, teacher, return_grad=True)
    >>> round(loss, 6)  # 0.25 log(0.25 / 0.5) + 0.75 log(0.75 / 0.25)
    0.650672
    >>> grad
    array([[ 0.25, -0.5 ,  0.25]])
    >>> fsl.kl_divergence(student, teacher, direction="reverse")
    inf
    """
    given, wanted = as_input_kind(input), as_input_kind(target_input, "target_input")
    reverse = choice("direction", direction, ("forward", "reverse")) == 1
    heat = as_number("temperature", temperature, 1e-30, 1e30)
    if heat != 1 and InputKind.LOGITS not in (given, wanted):
        raise ValueError(
            f"temperature is {temperature}, but it does not apply to {input!r} and {target_input!r}; allowed: 1, or "
            "logits on one side"
        )
    form = Form(1.0 / heat, given, wanted, reverse)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return vector_loss("kl_divergence", logits, targets, options, form)
    return vector_loss_and_gradients(
        "kl_divergence", logits, targets, options, with_respect_to, CrossEntropyGradient, form
    )


@known_keywords
def sparsemax_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | CrossEntropyGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, CrossEntropyGradient]:
    r"""Sparsemax loss, the counterpart of the cross-entropy for sparse probabilities, and its gradient.

    Sparsemax is the distribution p nearest to the scores x; classes whose scores are far below the largest score have
    probability 0 and do not affect the loss and its gradient if they are not targets [1]_:

    .. math::
        p = \arg\min_{p'} \lVert p' - x \rVert^2, \quad
        L_{b,t} = \sum_c \left[(p_c - q_c)\, x_c - \frac{p_c^2}{2} + \frac{q_c^2}{2}\right], \quad
        \frac{\partial L}{\partial x} = p - q

    with the target q, which is a distribution, or 1 at the target class and 0 elsewhere. The loss is 0 if p equals q.
    For a target class, this holds if its score exceeds all other scores by 1 or more.

    Parameters
    ----------
    logits : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float16, bfloat16, float32 or float64, computed in float64. Any strides; a class
        axis that is not contiguous is copied.
    targets : array_like of int, shape of the steps; or of float, shape of `logits`
        Classes, or distributions over classes: finite numbers of 0 or more.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    ignore_index : int
        Steps with this target do not count. It does not apply to distributions, for which it must be
        negative, as by default.
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
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`. With `with_respect_to`, a `CrossEntropyGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "logits", or "targets" that are distributions, or both.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `logits`; or CrossEntropyGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : the counterpart with a softmax, which gives every class a probability.

    Notes
    -----
    The threshold of the scores is exact to rounding. A logit of -inf excludes a class: the loss is inf if the target
    gives this class a probability above 0. A step whose logits are all -inf has loss inf and gradient 0. NaN or +inf
    among the logits of a step makes its loss and gradient NaN.

    Replaces ``entmax.sparsemax_loss``, ``optax.losses.multiclass_sparsemax_loss`` and
    ``jaxopt.loss.multiclass_sparsemax_loss``. The probabilities p are the gradient plus the target.

    References
    ----------
    .. [1] A. F. T. Martins, R. F. Astudillo, "From softmax to sparsemax: a sparse model of attention and multi-label
       classification", ICML 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.sparsemax_loss([[0.5, 0.25, -1.0]], [0], return_grad=True)
    >>> loss
    0.140625
    >>> grad + [1, 0, 0]
    array([[0.625, 0.375, 0.   ]])
    >>> fsl.sparsemax_loss([[2.0, 1.0, -1.0]], [0])
    0.0
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return vector_loss("sparsemax", logits, targets, options, ignore_index=ignore_index)
    return vector_loss_and_gradients(
        "sparsemax", logits, targets, options, with_respect_to, CrossEntropyGradient, ignore_index=ignore_index
    )
