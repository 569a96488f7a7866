"""Cross-entropy of the scores of a linear layer, which are never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import stored_or_none
from .._core.engine import StepSum, as_class_targets, as_options, as_step_sum
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import InputKind, as_number
from .._core.reduction import reduce_steps
from .._core.steps import as_class_weight
from .._core.threads import check_num_threads
from .._core.types import Loss, StepReduction
from ..steps.registry import LOSSES
from ..steps.rows import balanced
from .chunks import even_chunks, run_chunks
from .head import LinearGradientOut, LossAndLinearGradient, as_head_gradients, as_step_head
from .rows import RowLosses

if TYPE_CHECKING:
    from .._kernels.steps import classification as _kernel
else:
    _kernel = load("steps.classification")


@known_keywords
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int = -100,
    class_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
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
    r"""Softmax cross-entropy of a linear layer of hidden states, and its gradient, without the array of logits.

    .. math::
        L_{b,t} = \sum_c q_{b,t,c} (\log Z_{b,t} - x_{b,t,c}) + \zeta \log^2 Z_{b,t}, \quad
        x_{b,t} = C\left(s\, (W h_{b,t} + a)\right)

    with :math:`q`, :math:`Z` and :math:`\zeta` of `softmax_cross_entropy`, the bias :math:`a`, the factor :math:`s`,
    and the soft cap :math:`C(x) = \kappa \tanh(x / \kappa)` [1]_, or :math:`C(x) = x` without one. Logits are computed
    for a few hundred steps at a time, in a buffer that is reused for the next steps [2]_.

    Parameters
    ----------
    hidden : array_like [..., D]
        States of D features, with any number of axes of steps before them: batch, time and so on; [N, D] is
        N sequences of one step. Any strides. float16 and bfloat16 are converted a few hundred steps at a time.
    weight : array_like [V, D]
        Weights of V classes. A transposed array [D, V] is read without a copy. float16 and bfloat16 are converted to
        float32 once, which takes 4 V D bytes, and 4 V D more for the gradient. Logits and gradients are computed in
        float64 if `hidden` or `weight` is, else in float32.
    targets : array_like of int, shape of the steps
        Classes.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default.
    bias : array_like [V], optional
        Added to the logits; 0 by default. -inf excludes a class, unless a `softcap` bounds its logits.
    mask : array_like of bool, or of 0 and 1, [B, T, ...], optional
        Steps that count; all by default. With `lengths` as well, a step counts if both include it. Other steps are
        never read or multiplied, and have gradient 0.
    ignore_index : int
        Steps with this target do not count.
    class_weight : array_like [V], optional
        Weight of each class, 0 or from 1e-150 to 1e150. Averages divide by the sum of the targets' weights.
    label_smoothing : float
        From 0 to 1: this share of each target is divided equally among all classes.
    z_loss : float
        Weight of the square of the log normaliser. Class weights do not apply to it.
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
        The loss, in nats; [B] with "per_sequence", [T, ...] with "step_mean", of the shape of the
        steps with "none", 0 for steps that do not count.
    grad : LinearGradient
        Named tuple ``(hidden, weight, bias)`` of the gradients of the reduced loss (of the sum of the returned losses),
        each of the shape and dtype of its argument; None for a bias that was not given, or a gradient that is not
        needed. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : loss of logits that are in memory, and of distributions as targets.
    linear_ctc_loss : CTC without the array of logits.

    Notes
    -----
    The gradients follow from the derivatives :math:`g` of the loss by :math:`s\, (W h + a)`: :math:`s\, W^T g`
    for a hidden state, and the sums over steps of :math:`s\, g h^T` for the weight and of :math:`s\, g` for the
    bias.

    The result has the same bits with any `num_threads`. It may depend by rounding on the threads of BLAS, on `chunk`
    and on the other steps, because BLAS rounds products of matrices of different sizes differently.

    NaN or +inf among the logits of a step makes its loss, the gradient of its hidden state, and the gradients of
    weight and bias NaN.

    To divide capped logits by a temperature T, as sampling does, pass ``scale=1 / T, softcap=cap / T``.

    Replaces a linear layer with ``torch.nn.functional.cross_entropy``, ``torch.nn.functional.linear_cross_entropy``,
    ``LigerFusedLinearCrossEntropyLoss`` of Liger Kernel and ``linear_cross_entropy`` of cut-cross-entropy.

    References
    ----------
    .. [1] Gemma Team, "Gemma 2: improving open language models at a practical size", arXiv:2408.00118, 2024.
    .. [2] E. Wijmans, B. Huval, A. Hertzberg, V. Koltun, P. Krähenbühl, "Cut your losses in large-vocabulary
       language models", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> hidden = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> weight = np.log([[1.0, 1.0], [2.0, 1.0], [1.0, np.sqrt(3.0)]])
    >>> loss, grad = fsl.linear_cross_entropy(hidden, weight, [1, 2], return_grad=True)
    >>> round(loss, 6)  # (log(2) + log(5 / 3)) / 2
    0.601986
    >>> grad.weight.round(3)
    array([[ 0.125,  0.2  ],
           [-0.25 ,  0.2  ],
           [ 0.125, -0.4  ]])

    If the weights are not trained, compute only the gradient of the hidden states:

    >>> out = fsl.LinearGradient(np.empty_like(hidden), None, None)
    >>> loss, grad = fsl.linear_cross_entropy(hidden, weight, [1, 2], grad_out=out)
    >>> grad.hidden.round(3)
    array([[-0.173,  0.069],
           [ 0.069, -0.11 ]])
    """
    epsilon = as_number("label_smoothing", label_smoothing, 0.0, 1.0)
    zeta = as_number("z_loss", z_loss, 0.0, np.inf)
    options = as_options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)
    head = as_step_head(hidden, weight, bias, scale, softcap, chunk)
    summed = as_step_sum(head.steps, options)
    weights = as_class_weight(class_weight, head.n_classes)
    found = as_class_targets(summed, targets, head.n_classes, ignore_index, weights)
    check_num_threads(num_threads)
    gradients = as_head_gradients(head, return_grad, grad_out)
    weights, factors, zeta = balanced(weights, found.scale, zeta)
    step = row_losses(summed, found.classes, factors, gradients.wanted, num_threads, (epsilon, zeta), weights)
    run_chunks(head, gradients, even_chunks(head, step.rows()), step)
    return gradients.beside(reduce_steps(reduction, step.by_sequence(), factors, summed.steps.shape))


def row_losses(
    summed: StepSum,
    classes: NDArray[np.int64],
    scale: NDArray[np.float64],
    with_slopes: bool,
    num_threads: int | None,
    terms: tuple[float, float] = (0.0, 0.0),
    class_weight: NDArray[np.float64] | None = None,
) -> RowLosses:
    """Return the cross-entropy of rows; `terms` are label smoothing and the weight of the z-loss."""
    parameters = (*stored_or_none(None), *terms, InputKind.LOGITS)
    return RowLosses(
        _kernel.softmax_cross_entropy,
        lambda rows: parameters,
        LOSSES["softmax_cross_entropy"].nanoseconds,
        summed,
        classes,
        scale,
        with_slopes,
        num_threads,
        class_weight,
    )
