"""Negative log-likelihoods of targets that are numbers, over padded sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array
from .._core.engine import as_options
from .._core.gradient import as_outputs
from .._core.keywords import known_keywords
from .._core.options import as_names, as_number, choice, flag
from .._core.types import (
    GaussianGradient,
    GaussianGradientOut,
    Loss,
    LossAndGradient,
    RegressionGradient,
    RegressionGradientOut,
    StepReduction,
)
from .pointwise import pointwise_loss
from .registry import GAUSSIAN
from .targets import as_request, check_differentiable, gaussian_and_gradients, gradients_of_pairs


@known_keywords
def gaussian_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    variance: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Literal["variance", "log_variance"] = "variance",
    full: bool = False,
    eps: float = 1e-6,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GaussianGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | tuple[Loss, GaussianGradient]:
    r"""Negative log-likelihood of a normal distribution with predicted mean and variance, and its gradients.

    .. math::
        L_{b,t} = \frac{1}{2D} \sum_d \left[ \log v_{b,t,d}
        + \frac{(\hat y_{b,t,d} - y_{b,t,d})^2}{v_{b,t,d}} \right]

    Each number has a separate predicted variance [1]_, so the width of the forecast may change from step to step.

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Means: batch, time and features; the loss of a step is the mean over its features. float32 and float64 are
        native; float16 and bfloat16 are read and written without a converted copy. Any strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    variance : array_like, shape of `predictions`
        Variances, 0 or more, or their logarithms, of any float dtype. A variance that several numbers share can be
        passed with ``np.broadcast_to``; add up the returned gradient over these numbers.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    input : {"variance", "log_variance"}
        Kind of the numbers in `variance`; the gradient is the derivative with respect to them.
    full : bool
        If True, add the constant :math:`\frac12 \log 2 \pi`.
    eps : float
        Smallest variance, 1e-300 or more. A smaller variance, or its logarithm, is replaced by `eps` and has the
        derivative at `eps`, so that training can leave this range.
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
    grad_out : GaussianGradient, or tuple of ndarray, optional
        Arrays of shape and dtype of `predictions`, `variance` and `targets`, in this order, to write the gradients to,
        with None for gradients that are not needed (with `with_respect_to`, for those to allocate); the last one may be
        left out. Each may be the argument itself. Implies `return_grad`.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate, of "predictions", "variance", and "targets" of a float dtype;
        the first two by default. Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : GaussianGradient
        Gradients of the reduced loss (of the sum of the returned losses), None for those that were not requested. Only
        with `return_grad`, `grad_out` or `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    Replaces ``torch.nn.functional.gaussian_nll_loss``, with the same values and derivatives for variances (there,
    `variance` comes after `targets`, too). With logarithms of variances, any output of a model is valid.

    References
    ----------
    .. [1] D. A. Nix, A. S. Weigend, "Estimating the mean and variance of the target probability
       distribution", ICNN 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.gaussian_nll_loss([[1.0, 2.0]], [[3.0, 2.0]], [[4.0, 1.0]], return_grad=True)
    >>> round(loss, 4)  # (log(4) + 1 + 0) / 4
    0.5966
    >>> grad.predictions, grad.variance
    (array([[-0.25,  0.  ]]), array([[0.  , 0.25]]))
    """
    kind = choice("input", input, ("variance", "log_variance"))
    least = as_number("eps", eps, 1e-300, math.inf)
    loss = GAUSSIAN[input]
    more = (math.log(least) if kind else least, 0.5 * math.log(2 * math.pi) if flag("full", full) else 0.0)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, False, None, num_threads)
    arguments = {
        name: as_array(name, value)
        for name, value in zip(GaussianGradient._fields, (predictions, variance, targets), strict=True)
    }
    outs = _requested(arguments, flag("return_grad", return_grad), grad_out, with_respect_to)
    check_differentiable(arguments, () if outs is None else outs)
    value, gradients = gaussian_and_gradients(loss, arguments, options, outs or {}, more)
    if outs is None:
        return value
    return value, GaussianGradient(*map(gradients.get, GaussianGradient._fields))


def _requested(
    arguments: dict[str, NDArray[Any]], return_grad: bool, grad_out: Any, with_respect_to: Any
) -> dict[str, NDArray[Any] | None] | None:
    """Return the requested gradients by the names of their arguments, with arrays to write them to, or None."""
    fields = GaussianGradient._fields
    if isinstance(grad_out, tuple) and len(grad_out) == 2:
        grad_out = (*grad_out, None)
    if with_respect_to is None:
        outs = as_outputs(arguments, fields, grad_out, GaussianGradient)
        if grad_out is not None:
            return {name: out for name, out in outs.items() if out is not None}
        return {name: outs[name] for name in fields[:2]} if return_grad else None
    names = as_names("with_respect_to", with_respect_to, fields)
    outs = as_outputs(arguments, names, grad_out, GaussianGradient)
    return {name: outs[name] for name in names}


@known_keywords
def poisson_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates",
    full: bool = False,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Negative log-likelihood of counts with a Poisson distribution, and its gradient.

    .. math::
        L_{b,t} = \frac{1}{D} \sum_d \left[ e^{x_{b,t,d}} - y_{b,t,d}\, x_{b,t,d} \right]
        \quad\text{or}\quad
        \frac{1}{D} \sum_d \left[ \lambda_{b,t,d} - y_{b,t,d} \log \lambda_{b,t,d} \right]

    for predictions that are logarithms :math:`x` of rates, or rates :math:`\lambda`; the term :math:`\log y!`, which
    does not depend on them, is left out unless `full` is set.

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Finite numbers of 0 or more, of any real dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    input : {"log_rates", "rates"}
        Kind of the numbers in `predictions`; the gradient is the derivative with respect to them. Rates are 0 or
        more.
    full : bool
        If True, add Stirling's approximation :math:`y \log y - y + \frac12 \log 2 \pi y` of :math:`\log y!` for targets
        above 1.
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
        Array of shape and dtype of `predictions` to write the gradient to; may be `predictions` itself.
        Implies `return_grad`. With `with_respect_to`, a `RegressionGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "predictions", or "targets" of a float dtype, or both. Implies
        `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `predictions`; or RegressionGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    A term whose factor is 0 is 0: a rate of 0 has loss 0 for the target 0, and inf for other targets (PyTorch adds
    1e-8 to rates before it takes their logarithm, and Keras 1e-7).

    Replaces ``torch.nn.functional.poisson_nll_loss``, and for rates ``keras.losses.Poisson``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.poisson_nll_loss([[0.0, 1.0]], [[2, 0]], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([[1.    , 2.7183]])
    >>> grad.round(4)
    array([[-1.    ,  2.7183]])
    """
    name = "poisson_rates" if choice("input", input, ("log_rates", "rates")) else "poisson"
    more = (float(flag("full", full)), 0.0)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss(name, predictions, targets, options, None, more)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return gradients_of_pairs(name, RegressionGradient, request, options, None, more)


@known_keywords
def tweedie_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    power: float = 1.5,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Negative log-likelihood of amounts with a Tweedie distribution, and its gradient.

    For amounts that are 0 at many steps and continuous at others, such as demand, rain or claims [1]_. The
    predictions are logarithms of means:

    .. math::
        L_{b,t} = \frac{1}{D} \sum_d \left[ \frac{e^{(2 - p) x_{b,t,d}}}{2 - p}
        - y_{b,t,d}\, \frac{e^{(1 - p) x_{b,t,d}}}{1 - p} \right]

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Logarithms of means: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Finite numbers of 0 or more, of any real dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    power : float
        The power p of the mean to which the variance is proportional, between 1 (Poisson) and 2 (gamma).
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
        Array of shape and dtype of `predictions` to write the gradient to; may be `predictions` itself.
        Implies `return_grad`. With `with_respect_to`, a `RegressionGradient` of such arrays, with None for
        those to allocate.
    with_respect_to : tuple of str, optional
        Arguments with respect to which to differentiate: "predictions", or "targets" of a float dtype, or both. Implies
        `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64
        The loss; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : ndarray, shape and dtype of `predictions`; or RegressionGradient
        Gradient of the reduced loss (of the sum of the returned losses). Only with `return_grad` or
        `grad_out`; a named tuple with `with_respect_to`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    Notes
    -----
    Terms of the log-likelihood that do not depend on the predictions are left out. Both terms of the loss are 0 or
    more. Its minimum is at the logarithm of the target.

    Replaces ``TweedieLoss`` of pytorch-forecasting, and is half of
    ``sklearn.metrics.mean_tweedie_deviance`` up to the terms that are left out.

    References
    ----------
    .. [1] B. Jorgensen, "Exponential dispersion models", Journal of the Royal Statistical Society B 49,
       1987.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.tweedie_loss([[0.0, 0.0]], [[3.0, 0.0]], reduction="none", return_grad=True)
    >>> loss
    array([[8., 2.]])
    >>> grad
    array([[-2.,  1.]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("tweedie", predictions, targets, options, power)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return gradients_of_pairs("tweedie", RegressionGradient, request, options, power)
