"""Regression losses over padded sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .._core.engine import as_options
from .._core.keywords import known_keywords
from .._core.types import (
    Loss,
    LossAndGradient,
    RegressionGradient,
    RegressionGradientOut,
    StepReduction,
)
from .pointwise import pointwise_loss
from .targets import as_request, regression_and_gradients


@known_keywords
def mse_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Mean squared error, and its gradient.

    .. math:: L_{b,t} = \frac{1}{D} \sum_d (\hat y_{b,t,d} - y_{b,t,d})^2

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
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
    Replaces ``torch.nn.functional.mse_loss``, ``keras.losses.MeanSquaredError`` and
    ``optax.squared_error``, which do not support lengths: they average over padding, too.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.mse_loss([[1.0, 2.0, 9.0]], [[1.5, 1.0, 0.0]], [2], return_grad=True)
    >>> loss
    0.625
    >>> grad
    array([[-0.5,  1. ,  0. ]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("mse", predictions, targets, options)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return regression_and_gradients("mse", request, options, None)


@known_keywords
def mae_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Mean absolute error, and its gradient.

    .. math:: L_{b,t} = \frac{1}{D} \sum_d |\hat y_{b,t,d} - y_{b,t,d}|

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
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
    The derivative is 0 where prediction and target are equal.

    Replaces ``torch.nn.functional.l1_loss`` and ``keras.losses.MeanAbsoluteError``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.mae_loss([[1.0, 2.0, 9.0]], [[1.5, 1.0, 0.0]], [2])
    0.75
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("mae", predictions, targets, options)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return regression_and_gradients("mae", request, options, None)


@known_keywords
def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    delta: float = 1.0,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Huber loss, quadratic near the target and linear far from it, and its gradient.

    Its gradient is bounded, which limits the effect of outliers [1]_.

    .. math::
        L_{b,t} = \frac{1}{D} \sum_d \begin{cases} d^2/2 & |d| \le \delta \\
        \delta (|d| - \delta/2) & \text{else} \end{cases}, \quad d = \hat y_{b,t,d} - y_{b,t,d}

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    delta : float
        Distance from the target at which the loss changes from quadratic to linear; above 0.
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
    Replaces ``torch.nn.functional.huber_loss``, ``keras.losses.Huber`` and ``optax.huber_loss``.
    PyTorch's ``smooth_l1_loss`` with ``beta`` is this loss divided by `delta`.

    References
    ----------
    .. [1] P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical
       Statistics 35, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.huber_loss([[0.5, 3.0]], [[0.0, 0.0]], reduction="none", return_grad=True)
    >>> loss
    array([[0.125, 2.5  ]])
    >>> grad
    array([[0.5, 1. ]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("huber", predictions, targets, options, delta)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return regression_and_gradients("huber", request, options, delta)


@known_keywords
def quantile_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    q: ArrayLike = 0.5,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Quantile (pinball) loss, and its gradient.

    The prediction that minimises it is the quantile `q` of the targets [1]_.

    .. math:: L_{b,t} = \frac{1}{D} \sum_d \max(q\, d, (q - 1)\, d), \quad d = y_{b,t,d} - \hat y_{b,t,d}

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
    q : float, or array_like
        The quantile, between 0 and 1; or one for each feature (the last axis), [D], or an array of more axes
        that NumPy broadcasts to the shape of `predictions`.
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
    The derivative is 0 where prediction and target are equal. To predict several quantiles of one
    series, pass them as features, and the targets as ``np.broadcast_to(y[..., None], predictions.shape)``.

    References
    ----------
    .. [1] R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.quantile_loss([[1.0, 1.0]], [[3.0, 0.0]], q=0.9, reduction="none").round(6)
    array([[1.8, 0.1]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("quantile", predictions, targets, options, q)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return regression_and_gradients("quantile", request, options, q)


@known_keywords
def log_cosh_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reduction: StepReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | RegressionGradientOut | None = None,
    with_respect_to: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient | tuple[Loss, RegressionGradient]:
    r"""Logarithm of the hyperbolic cosine of the error, and its gradient.

    Like the Huber loss, it is about half the square of a small error and grows linearly with a large error, but all of
    its derivatives are continuous.

    .. math:: L_{b,t} = \frac{1}{D} \sum_d \log \cosh (\hat y_{b,t,d} - y_{b,t,d})

    Parameters
    ----------
    predictions : array_like [B], [B, T] or [B, T, D]
        Predictions: batch, time and features; the loss of a step is the mean over its features. float32
        and float64 are native; float16 and bfloat16 are read and written without a converted copy. Any
        strides.
    targets : array_like, shape of `predictions`
        Real numbers of any dtype.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    mask : array_like of bool, or of 0 and 1, [B, T] or [B, T, D], optional
        Steps or features that count; all by default. With `lengths` as well, they count if both include them. Others
        are never read and have gradient 0.
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
    The loss is exact to rounding for small errors, and does not overflow for large ones, for which it is the error
    minus log 2. The derivative is the hyperbolic tangent of the error.

    Replaces ``keras.losses.LogCosh`` and ``optax.log_cosh``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.log_cosh_loss([[0.5, 1e6]], [[0.0, 0.0]], reduction="none", return_grad=True)
    >>> loss.round(6)
    array([[1.20115000e-01, 9.99999307e+05]])
    >>> grad.round(6)
    array([[0.462117, 1.      ]])
    """
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    if with_respect_to is None:
        return pointwise_loss("log_cosh", predictions, targets, options)
    request = as_request(RegressionGradient, predictions, targets, with_respect_to, grad_out)
    return regression_and_gradients("log_cosh", request, options, None)
