"""Soft-DTW of series and of costs, with gradients, and the posteriors of the aligned pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, check_output
from .._core.gradient import as_gradient, as_gradients_of, finished
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import flag
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import (
    Loss,
    LossAndGradient,
    SequenceReduction,
)
from .arguments import SoftDTWGradient, as_costs, as_paths, as_series

if TYPE_CHECKING:
    from .._kernels.soft_dtw import loss as _kernel
else:
    _kernel = load("soft_dtw.loss")

GradOut = SoftDTWGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
LossAndGradients = tuple[Loss, SoftDTWGradient]


@known_keywords
def soft_dtw_loss(
    x: ArrayLike,
    y: ArrayLike,
    lengths_x: ArrayLike | None = None,
    lengths_y: ArrayLike | None = None,
    *,
    gamma: float = 1.0,
    divergence: bool = False,
    band: int | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GradOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradients:
    r"""Soft dynamic time warping of two series, and its gradient.

    A path leads from the first steps of both series to the last ones and advances by one step in x,
    in y or in both. Its cost is the sum of the squared distances of the steps that it pairs; the
    loss is the soft minimum of the costs of all paths [1]_:

    .. math::
        L_b = -\gamma \log \sum_\pi \exp\Bigl(-\frac{1}{\gamma}
              \sum_{(i,j) \in \pi} \lVert x_{b,i} - y_{b,j} \rVert^2\Bigr)

    As `gamma` goes to 0 it becomes the cost of the best path. With
    :math:`E_{ij}` the posterior probability that a path pairs i and j (`soft_dtw_posteriors`),

    .. math::
        \frac{\partial L_b}{\partial x_{b,i}} = 2 \sum_j E_{b,ij} (x_{b,i} - y_{b,j}), \qquad
        \frac{\partial L_b}{\partial y_{b,j}} = 2 \sum_i E_{b,ij} (y_{b,j} - x_{b,i}).

    Parameters
    ----------
    x : array_like [B, N, D], or [N, D] for one pair of series
        Series of N steps with D features; [B, N, 1] for a batch of univariate series. float32 and
        float64 are native, float16 and bfloat16 are computed in float32. Any strides; a feature axis
        that is not contiguous is copied. Padding is never read.
    y : array_like [B, M, D], or [M, D] for one pair of series
        Series to compare with, likewise; the dtype may differ from that of `x`.
    lengths_x, lengths_y : array_like of int [B], optional
        Steps of each series; N and M by default. An int for one pair of series. A pair of empty
        series has loss 0; one empty series is an error.
    gamma : float
        Temperature of the soft minimum, in the unit of the costs, which is the square of the unit of
        the series: 0 for the best path (dynamic time warping), or 1e-300 or more.
    divergence : bool
        If True, subtract half the loss of x and x and half the loss of y and y; the loss is then 0 for equal series
        [2]_.
    band : int, optional
        Largest difference of the positions that a path pairs, abs(i - j) <= band (Sakoe-Chiba). It
        must be at least the difference between the two lengths of each pair. No limit by default.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by the greater
        of its two lengths first; "none" gives [B]. With `sample_weight`, averages divide by the sum of
        the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each pair, finite and not negative. A pair of weight 0 is ignored.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : SoftDTWGradient, optional
        Arrays to write the gradients to, of the shapes and dtypes of `x` and `y`; may be `x` and `y` themselves. None
        in place of an array means that this gradient is not needed. Implies `return_grad`.
    num_threads : int, optional
        Threads to use, at most one per pair; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss, in the unit of the costs. The loss may be negative: the soft minimum lies below the
        minimum, by up to `gamma` times the logarithm of the number of paths. Divergences are
        usually, but not provably, at least 0.
    grad : SoftDTWGradient
        Named tuple of the gradients ``(x, y)`` of the reduced loss (of the sum of the losses, with
        "none"), each of the shape and dtype of its argument. Exactly 0 in the padding. With `gamma`
        0, the gradient for one of the best paths. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, weights or options are not as above, or if no path stays within
        the band. The message names the argument, the position, the value and what is allowed. In
        that case, nothing has been written.

    See Also
    --------
    soft_dtw_cost : the same for costs other than squared distances.
    soft_dtw_posteriors : which steps are aligned.

    Notes
    -----
    The costs are squared distances. Other libraries define DTW as the square root of the loss at
    `gamma` 0.

    The result of a pair has the same bits with any number of threads and in any batch. Working memory is O(N + M) for
    the loss; gradients need additional memory of about a twentieth of an [N, M] array of float64. Sums are float64
    numbers, each with its own exponent, so results are accurate for any `gamma`, however small in comparison with the
    costs. Each step of a path adds an error of about 1e-16 times `gamma`, so costs far below `gamma` lose digits.

    NaN in a valid step makes loss and gradients of that pair NaN. A squared distance beyond float64
    counts as infinite; a pair without a path of finite cost has loss inf and gradient 0.

    References
    ----------
    .. [1] M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML
       2017.
    .. [2] M. Blondel, A. Mensch, J.-P. Vert, "Differentiable divergences between time series",
       AISTATS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x = np.array([[0.0], [1.0], [2.0], [4.0]])
    >>> y = np.array([[0.0], [2.0], [2.0], [3.0], [5.0]])
    >>> loss, grad = fsl.soft_dtw_loss(x, y, return_grad=True)
    >>> round(loss, 6)
    0.594091
    >>> grad.x.round(4).T
    array([[-0.0667, -1.0588, -1.183 , -0.8313]])
    >>> fsl.soft_dtw_loss(x, y, gamma=0)
    3.0
    >>> fsl.soft_dtw_loss(x, x, divergence=True)
    0.0
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    series = as_series(x, y)
    first, second = series.x.values, series.y.values
    batch = len(first)
    shape = (batch, first.shape[1], second.shape[1])
    paths = as_paths(shape, series.x.single, lengths_x, lengths_y, gamma, band)
    divergence = flag("divergence", divergence)
    weight = as_weights("sample_weight", sample_weight, batch)
    gradients = as_gradients_of({"x": series.x, "y": series.y}, return_grad, grad_out, SoftDTWGradient)
    scale = length_scale(reduction, np.maximum(paths.lengths_x, paths.lengths_y), normalizer, weight)
    order, threads = paths.schedule(num_threads, features=first.shape[2], grids=3 if divergence else 1)
    loss = np.empty(batch)
    if batch:
        _kernel.soft_dtw[series.x.type_name](
            first,
            second,
            paths.lengths_x,
            paths.lengths_y,
            scale,
            order,
            paths.gamma,
            paths.band,
            divergence,
            loss,
            gradients[0].values,
            gradients[1].values,
            None,
            threads,
        )
    reduced = finish_sequences(reduction, loss, scale, single=series.x.single)
    if grad_out is None and not return_grad:
        return reduced
    return reduced, SoftDTWGradient(*finished(gradients))


@known_keywords
def soft_dtw_cost(
    costs: ArrayLike,
    lengths_x: ArrayLike | None = None,
    lengths_y: ArrayLike | None = None,
    *,
    gamma: float = 1.0,
    band: int | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Soft minimum of the costs of all alignments, for arbitrary costs, and its gradient.

    .. math::
        L_b = -\gamma \log \sum_\pi \exp\Bigl(-\frac{1}{\gamma} \sum_{(i,j) \in \pi} C_{b,ij}\Bigr)

    over the paths :math:`\pi` from (0, 0) to (N - 1, M - 1) by steps (1, 0), (0, 1) and (1, 1) [1]_.
    The gradient is the posterior probability that a path crosses a cell:

    .. math::
        \frac{\partial L_b}{\partial C_{b,ij}} = E_{b,ij} =
        \sum_{\pi \ni (i,j)} \exp\Bigl(\frac{1}{\gamma}
        \Bigl(L_b - \sum_{(k,l) \in \pi} C_{b,kl}\Bigr)\Bigr)

    Parameters
    ----------
    costs : array_like [B, N, M], or [N, M] for one pair of series
        Costs of pairing step i of the first series with step j of the second one: distances of any
        kind, of either sign; inf forbids a pair. float32 and float64 are native, float16 and bfloat16
        are computed in float32. Any strides; a last axis that is not contiguous is copied. Padding
        and cells outside the band are never read.
    lengths_x, lengths_y : array_like of int [B], optional
        Rows and columns of each array of costs; N and M by default. An int for one pair.
    gamma, band, reduction, normalizer, sample_weight, return_grad, num_threads
        As for `soft_dtw_loss`.
    grad_out : ndarray, optional
        Array to write the gradient to, of the shape and dtype of `costs`; may be `costs` itself.
        Implies `return_grad`.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss, in the unit of the costs; the loss may be negative. inf if every path crosses an
        infinite cost.
    grad : ndarray, shape and dtype of `costs`
        Gradient of the reduced loss (of the sum of the losses, with "none"). Exactly 0 in the
        padding, outside the band, for infinite costs and for a pair whose loss is infinite. With
        `gamma` 0, the cells of one of the best paths. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        As `soft_dtw_loss`.

    See Also
    --------
    soft_dtw_loss : squared distances of series, without an array of costs.

    Notes
    -----
    NaN or -inf in a valid cell makes loss and gradient of that pair NaN. If costs divided by `gamma`
    are so large that their sums would overflow float64, the best path alone counts.

    References
    ----------
    .. [1] M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML
       2017.

    Examples
    --------
    The five paths through two rows and three columns cost 0, 1, 1, 4 and 5:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> costs = np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]])
    >>> loss, posteriors = fsl.soft_dtw_cost(costs, return_grad=True)
    >>> round(loss, 6)
    0.253134
    >>> posteriors.round(4)
    array([[1.    , 0.3518, 0.0032],
           [0.1743, 0.8225, 1.    ]])
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    scores = as_costs(costs)
    values = scores.values
    batch, n_rows, n_columns = values.shape
    paths = as_paths((batch, n_rows, n_columns), scores.single, lengths_x, lengths_y, gamma, band)
    weight = as_weights("sample_weight", sample_weight, batch)
    gradient = as_gradient(scores, return_grad, grad_out)
    scale = length_scale(reduction, np.maximum(paths.lengths_x, paths.lengths_y), normalizer, weight)
    order, threads = paths.schedule(num_threads)
    loss = np.empty(batch)
    if batch:
        _kernel.soft_minimum[scores.type_name](
            values,
            paths.lengths_x,
            paths.lengths_y,
            scale,
            order,
            paths.gamma,
            paths.band,
            loss,
            gradient.values,
            threads,
        )
    reduced = finish_sequences(reduction, loss, scale, single=scores.single)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()


@known_keywords
def soft_dtw_posteriors(
    x: ArrayLike,
    y: ArrayLike,
    lengths_x: ArrayLike | None = None,
    lengths_y: ArrayLike | None = None,
    *,
    gamma: float = 1.0,
    band: int | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    r"""Posterior probabilities that steps of two series are aligned.

    .. math::
        E_{b,ij} = \sum_{\pi \ni (i,j)} \exp\Bigl(\frac{1}{\gamma}
        \Bigl(L_b - \sum_{(k,l) \in \pi} \lVert x_{b,k} - y_{b,l} \rVert^2\Bigr)\Bigr)

    with the paths :math:`\pi` and the loss :math:`L_b` of `soft_dtw_loss` [1]_. For arbitrary costs it
    is the gradient of `soft_dtw_cost` with ``reduction="sum"``.

    Parameters
    ----------
    x, y, lengths_x, lengths_y, gamma, band, num_threads
        As for `soft_dtw_loss`.

    Returns
    -------
    ndarray [B, N, M], or [N, M] for one pair of series
        Posteriors, in the dtype of `x` and `y`, or in the dtype of the computation if the two
        differ. Each row and column of the valid part adds up to 1 or more, since a path may pair a
        step with several others. Exactly 0 in the padding, outside the band, and for a pair without
        a path of finite cost. With `gamma` 0, 1 for the cells of one of the best paths.

    Raises
    ------
    ValueError, TypeError
        As `soft_dtw_loss`.

    See Also
    --------
    plot.plot_alignment_path : draws them.

    References
    ----------
    .. [1] M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML
       2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x, y = np.array([[0.0], [3.0]]), np.array([[0.0], [1.0], [3.0]])
    >>> fsl.soft_dtw_posteriors(x, y).round(3)
    array([[1.   , 0.953, 0.   ],
           [0.   , 0.064, 1.   ]])
    """
    series = as_series(x, y)
    first, second = series.x.values, series.y.values
    batch = len(first)
    shape = (batch, first.shape[1], second.shape[1])
    paths = as_paths(shape, series.x.single, lengths_x, lengths_y, gamma, band)
    order, threads = paths.schedule(num_threads, features=first.shape[2])
    check_output("the posteriors", shape, first.itemsize)
    posteriors: NDArray[Any] = np.empty(shape, first.dtype)
    if batch:
        _kernel.soft_dtw[series.x.type_name](
            first,
            second,
            paths.lengths_x,
            paths.lengths_y,
            np.ones(batch),
            order,
            paths.gamma,
            paths.band,
            False,
            np.empty(batch),
            None,
            None,
            posteriors,
            threads,
        )
    if posteriors.dtype != series.result_type:
        with np.errstate(under="ignore"):
            posteriors = posteriors.astype(series.result_type)
    return posteriors[0] if series.x.single else posteriors
