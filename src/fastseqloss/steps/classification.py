"""Cross-entropy of classes and of binary decisions, over padded sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_doubles
from .._core.engine import Options, as_options
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import InputKind, as_input_kind, as_number, choice
from .._core.types import (
    CrossEntropyGradient,
    CrossEntropyGradientOut,
    Input,
    Loss,
    LossAndGradient,
    StepReduction,
)
from .pointwise import pointwise_loss
from .rows import balance, prepare_rows, short_loss
from .targets import as_request, cross_entropy_and_gradients, gradient_of

if TYPE_CHECKING:
    from .._kernels.steps import classification as _kernel
else:
    _kernel = load("steps.classification")


@known_keywords
def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Input = "logits",
    ignore_index: int = -100,
    class_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | CrossEntropyGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, CrossEntropyGradient]:
    r"""Softmax cross-entropy of steps of padded sequences, and its gradient.

    .. math::
        L_{b,t} = \sum_c q_{b,t,c} (\log Z_{b,t} - x_{b,t,c}) + \zeta \log^2 Z_{b,t}, \quad
        Z_{b,t} = \sum_c e^{x_{b,t,c}}, \quad
        q_{b,t,c} = w_c \left((1 - \epsilon)\, y_{b,t,c} + \frac{\epsilon}{V}\right)

    with class weights :math:`w`, smoothing :math:`\epsilon` [1]_ and the weight :math:`\zeta` of the z-loss
    [2]_; for an integer target, :math:`y` is 1 at its class and 0 elsewhere.

    Parameters
    ----------
    logits : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float32 and float64 are native; float16 and bfloat16 are read and written
        without a converted copy, and computed in float32. Any strides; a class axis that is not contiguous
        is copied.
    targets : array_like of int, shape of the steps; or of float, shape of `logits`
        Classes, or distributions over classes: finite numbers of 0 or more, which need not add up to one.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    input : {"logits", "log_probs", "probs"}
        Kind of the numbers in `logits`. A softmax is applied to logits only. Log-probabilities and probabilities are
        used unchanged, normalised or not, and the gradient is the derivative with respect to them. Probabilities are
        from 0 to 1; a value outside this range by at most 1e-6, from rounding, counts as 0 or 1.
    ignore_index : int
        Steps with this target do not count. It does not apply to distributions, for which it must be
        negative, as by default.
    class_weight : array_like [V], optional
        Weight of each class, 0 or from 1e-150 to 1e150. For integer targets, averages divide by the sum of
        the targets' weights; for distributions, the weights do not change the divisor.
    label_smoothing : float
        From 0 to 1: this share of each target is divided equally among all classes.
    z_loss : float
        Weight of the square of the log normaliser, which limits the drift of logits; for logits only.
        Class weights do not apply to it.
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
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
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
    nll_loss : loss of log-probabilities.
    binary_cross_entropy : loss of independent decisions.

    Notes
    -----
    The result has the same bits with any number of threads and in any batch. A term with :math:`q` = 0 is 0 for any
    score. A logit of -inf excludes a class: the loss of a target of this class is inf. A step whose logits are all -inf
    has loss inf and gradient 0. NaN or +inf among the logits of a step makes its loss and gradient NaN. If no step
    counts, loss and gradient are 0.

    Perplexity is ``np.exp`` of the mean.

    Replaces ``torch.nn.functional.cross_entropy`` (which has the classes on axis 1; here they are on the last axis),
    ``optax.softmax_cross_entropy_with_integer_labels``, ``optax.softmax_cross_entropy``,
    ``keras.losses.SparseCategoricalCrossentropy`` and ``keras.losses.CategoricalCrossentropy``. Options have the
    meaning of those in PyTorch, with two differences: if all steps are ignored, the mean is 0 instead of NaN, and
    "mean" never counts padding.

    References
    ----------
    .. [1] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, "Rethinking the Inception
       architecture for computer vision", CVPR 2016.
    .. [2] A. Chowdhery et al., "PaLM: scaling language modeling with Pathways", Journal of Machine
       Learning Research 24, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x = np.log([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]])
    >>> loss, grad = fsl.softmax_cross_entropy(x, [[0, 1]], return_grad=True)
    >>> round(loss, 6)  # -log(0.5 * 0.8) / 2
    0.458145
    >>> grad.round(3)
    array([[[-0.25 ,  0.125,  0.125],
            [ 0.05 , -0.1  ,  0.05 ]]])

    Perplexity, over the steps that count:

    >>> round(float(np.exp(fsl.softmax_cross_entropy(x, [[0, -100]]))), 6)
    2.0
    """
    kind = as_input_kind(input)
    epsilon = as_number("label_smoothing", label_smoothing, 0.0, 1.0)
    zeta = as_number("z_loss", z_loss, 0.0, np.inf)
    if zeta and kind:
        raise ValueError(f"z_loss is {z_loss}; allowed: 0 with input={input!r}, it needs input='logits'")
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if not (epsilon or zeta) and with_respect_to is None and class_weight is None:
        found = short_loss(_kernel.entry, "softmax_cross_entropy", logits, targets, options, ignore_index, input)
        if found is not None:
            return found

    def compute(options: Options) -> Loss | LossAndGradient:
        rows = prepare_rows(
            "softmax_cross_entropy",
            logits,
            targets,
            options,
            ignore_index,
            class_weight,
            find=_kernel.find_bad_share,
            probabilities=input == "probs",
        )
        return rows.run(_kernel.softmax_cross_entropy, epsilon, balance(rows, zeta), kind)

    if with_respect_to is None:
        return compute(options)

    def by_targets(scores: NDArray[Any], options: Options) -> NDArray[Any]:
        return _by_distributions(scores, options, class_weight, epsilon, kind)

    request = as_request(CrossEntropyGradient, logits, targets, with_respect_to, grad_out)
    return cross_entropy_and_gradients(request, options, compute, by_targets)


@known_keywords
def nll_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    ignore_index: int = -100,
    class_weight: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Negative log-likelihood of the targets' log-probabilities, and its gradient.

    .. math:: L_{b,t} = -w_y\, x_{b,t,y}

    Parameters
    ----------
    log_probs : array_like [..., V]
        Log-probabilities of V classes, with any number of axes of steps before them: batch, time and so on;
        [N, V] is N sequences of one step. float32 and float64 are native; float16 and bfloat16 are read and
        written without a converted copy, and computed in float32. Any strides; a class axis that is not
        contiguous is copied.
    targets : array_like of int, shape of the steps
        Classes.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read and have gradient 0.
    ignore_index : int
        Steps with this target do not count.
    class_weight : array_like [V], optional
        Weight of each class, 0 or from 1e-150 to 1e150. For integer targets, averages divide by the sum of
        the targets' weights; for distributions, the weights do not change the divisor.
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
        Array of shape and dtype of `log_probs` to write the gradient to; may be `log_probs` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `log_probs`
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : loss of logits, with smoothing and distributions as targets.

    Notes
    -----
    Replaces ``torch.nn.functional.nll_loss`` (which has the classes on axis 1; here they are on the last axis). The
    loss is equal to `softmax_cross_entropy` with ``input="log_probs"``. For logits, `softmax_cross_entropy` is faster
    and more accurate than a log-softmax followed by this function.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> round(fsl.nll_loss(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 0]), 6)
    1.039721
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if class_weight is None:
        found = short_loss(_kernel.entry, "nll", log_probs, targets, options, ignore_index, "log_probs")
        if found is not None:
            return found
    rows = prepare_rows("nll", log_probs, targets, options, ignore_index, class_weight)
    return rows.run(_kernel.softmax_cross_entropy, None, 0, 0.0, 0.0, InputKind.LOG_PROBS)


@known_keywords
def binary_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits",
    pos_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | CrossEntropyGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, CrossEntropyGradient]:
    r"""Binary cross-entropy, and its gradient.

    .. math::
        L_{b,t} = -\frac{1}{D} \sum_d \left[ \omega_d\, y_{b,t,d} \log p_{b,t,d}
        + (1 - y_{b,t,d}) \log(1 - p_{b,t,d}) \right], \quad p = \frac{1}{1 + e^{-x}}

    with :math:`(1 - \epsilon) y + \epsilon / 2` in place of y if targets are smoothed by :math:`\epsilon`.

    Parameters
    ----------
    logits : array_like [B], [B, T] or [B, T, D]
        Scores: batch, time and features (labels of a multi-label step); the loss of a step is the mean over
        its features. float32 and float64 are native; float16 and bfloat16 are read and written without a
        converted copy. Any strides.
    targets : array_like, shape of `logits`
        Numbers from 0 to 1, of any real dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    input : {"logits", "probs"}
        Kind of the numbers in `logits`; the gradient is the derivative with respect to them. Probabilities are from 0
        to 1; a value outside this range by at most 1e-6, from rounding, counts as 0 or 1.
    pos_weight : float, or array_like, optional
        Weight of the positive part of the targets; a number, one number for each feature (the last axis), [D], or an
        array that NumPy broadcasts to the shape of `logits`.
    label_smoothing : float
        From 0 to 1: this share of each target is divided equally between the two decisions.
    reduction : {"mean", "sequence_mean", "batch_mean", "sum", "per_sequence", "step_mean", "none"}
        "mean" divides the sum over steps by their number; "sequence_mean" averages each sequence over
        its steps, then the sequences; "batch_mean" divides the sum by B; "per_sequence" gives the sums
        [B], "step_mean" the averages over the sequences at each step, and "none" the loss of every step.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], [B, T] or [B, T, D], optional
        Weight of each sequence, step or feature, finite and not negative where steps count. Averages divide by the
        sum of the weights instead of a count; unless they are weights of sequences, averages over sequences
        divide by B.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`. With `with_respect_to`, a `CrossEntropyGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "logits", or "targets" of a float dtype,
        or both. Implies `return_grad`.
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
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : loss of a choice among several classes.

    Notes
    -----
    The loss is computed from the logits without rounding a probability to 0 or 1: it is exact to rounding
    for logits of any size. A term whose factor is 0 is 0, so probabilities of exactly 0 and 1 have the loss
    of the equation, 0 or inf (PyTorch and Keras clip).

    Replaces ``torch.nn.functional.binary_cross_entropy_with_logits`` and ``binary_cross_entropy``,
    ``keras.losses.BinaryCrossentropy`` and ``optax.sigmoid_binary_cross_entropy``, the last two with their label
    smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.binary_cross_entropy([[0.0, 1e4]], [[1, 0]], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([[6.931e-01, 1.000e+04]])
    >>> grad
    array([[-0.5,  1. ]])
    """
    kind = choice("input", input, ("logits", "probs"))
    weight = 1.0 if pos_weight is None else pos_weight
    name = "binary_probs" if kind else "binary"
    epsilon = as_number("label_smoothing", label_smoothing, 0.0, 1.0)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss(name, logits, targets, options, weight, (epsilon, 0.0))

    def compute(options: Options) -> Loss | LossAndGradient:
        return pointwise_loss(name, logits, targets, options, weight, (epsilon, 0.0))

    def by_targets(scores: NDArray[Any], options: Options) -> NDArray[Any]:
        return (1.0 - epsilon) * _by_shares(scores, options, as_doubles(as_array("pos_weight", weight)), kind == 1)

    request = as_request(CrossEntropyGradient, logits, targets, with_respect_to, grad_out)
    return cross_entropy_and_gradients(request, options, compute, by_targets)


def _by_distributions(
    scores: NDArray[Any],
    options: Options,
    class_weight: ArrayLike | None,
    label_smoothing: float,
    kind: InputKind,
) -> NDArray[np.float64]:
    """Return the gradient by distributions, in which the loss is linear."""
    zeros = np.zeros(scores.shape)
    # The gradient by log-probabilities is minus the targets, here 1, times the weight of each class of each step.
    rows = prepare_rows("softmax_cross_entropy", zeros, zeros + 1, replace(options, return_grad=True), -1, class_weight,
                        find=_kernel.find_bad_share)  # fmt: skip
    balance(rows, 0.0)
    slopes = gradient_of(rows.run(_kernel.softmax_cross_entropy, 0.0, 0.0, InputKind.LOG_PROBS))
    losses = _negative_log_probs(scores.astype(np.float64), kind)
    slopes *= label_smoothing - 1.0
    np.multiply(slopes, losses, out=zeros, where=slopes != 0)
    return zeros


def _negative_log_probs(scores: NDArray[np.float64], kind: InputKind) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == InputKind.LOG_PROBS:
            return -scores
        if kind == InputKind.PROBS:
            return -np.log(np.clip(scores, 0.0, 1.0))
        top = scores.max(axis=-1, keepdims=True)
        losses: NDArray[np.float64] = np.log(np.exp(scores - top).sum(axis=-1, keepdims=True)) - (scores - top)
    return np.where(top == -np.inf, 0.0, losses)  # a step whose scores are all -inf has gradient 0


def _by_shares(
    scores: NDArray[Any], options: Options, weight: NDArray[np.float64], probabilities: bool
) -> NDArray[np.float64]:
    """Return the gradient by the targets of a binary cross-entropy, in which the loss is linear."""
    zeros = np.zeros(scores.shape)
    # The slope of the mean absolute error at a difference of 1 is the weight of each element.
    slopes = gradient_of(pointwise_loss("mae", zeros + 1, zeros, replace(options, return_grad=True)))
    x = scores.astype(np.float64)
    with np.errstate(all="ignore"):
        if probabilities:
            p = np.clip(x, 0.0, 1.0)
            losses = np.log1p(-p) - np.where(weight == 0, 0.0, weight * np.log(p))
        else:
            # w log(1 + e^-x) - log(1 + e^x), without a difference of large numbers.
            rest = (weight - 1.0) * np.log1p(np.exp(-np.abs(x)))
            losses = rest - np.where(x < 0, np.where(weight == 0, 0.0, weight * x), x)
    np.multiply(slopes, losses, out=zeros, where=slopes != 0)
    return zeros
