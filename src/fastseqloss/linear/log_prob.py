"""Log-probabilities of whole sequences by the scores of a linear layer, which are never stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .._core.engine import as_class_targets, as_options, as_step_sum
from .._core.keywords import known_keywords
from .._core.options import flag
from .._core.reduction import reduce_steps
from .._core.threads import check_num_threads
from .._core.types import Loss
from ..steps.log_prob import as_factors
from .chunks import even_chunks, run_chunks
from .cross_entropy import row_losses
from .head import (
    NO_GRADIENTS,
    LinearGradientOut,
    LossAndLinearGradient,
    as_head_gradients,
    as_step_head,
)


@known_keywords
def linear_sequence_log_prob(
    hidden: ArrayLike,
    weight: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int = -100,
    average: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    slopes: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: LinearGradientOut | None = None,
    chunk: int | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndLinearGradient:
    r"""Log-probabilities of sequences by a linear layer of hidden states, and their gradient, without logits in memory.

    .. math::
        \ell_b = \sum_t \log p_{b,t}(y_{b,t}), \quad
        p_{b,t} = \mathrm{softmax}(x_{b,t}), \quad
        x_{b,t} = C\left(s\, (W h_{b,t} + a)\right)

    with the sum over the steps that count, the bias :math:`a`, the factor :math:`s`, and the soft cap
    :math:`C(x) = \kappa \tanh(x / \kappa)`, or :math:`C(x) = x` without one. `sequence_log_prob` describes their use in
    preference losses. Logits are computed for a few hundred steps at a time.

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
    average : bool
        If True, divide each sum by the number of its steps that count, which gives the length-normalised
        log-probability.
    scale : float
        Factor of the logits, such as the reciprocal of a temperature; from 1e-30 to 1e30.
    softcap : float, optional
        Bound of the absolute values of the logits, after `scale`; from 1e-30 to 1e30.
    slopes : array_like [B], optional
        Derivatives of a loss with respect to the log-probabilities, finite, of either sign; the gradients are then
        those of this loss. All 1 by default. They do not change the log-probabilities. Implies `return_grad`.
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
    log_prob : ndarray of float64 [B]
        Log-probability of each sequence, in nats; 0 for a sequence without a step that counts. A number for hidden
        states [D] of one step.
    grad : LinearGradient
        Named tuple ``(hidden, weight, bias)`` of the gradients of the sum of the log-probabilities, or of their
        products with `slopes`, each of the shape and dtype of its argument; None for a bias that was not given, or a
        gradient that is not needed. Only with `return_grad`, `grad_out` or `slopes`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, numbers or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    sequence_log_prob : log-probabilities by logits that are in memory.
    linear_cross_entropy : cross-entropy without the array of logits.

    Notes
    -----
    Products of matrices take nearly all of the time. A call for log-probabilities computes one product, that of hidden
    states and weight; a call with gradients computes two more. A preference loss, with `slopes` in a second call,
    therefore takes four products, 4/3 of the time of `linear_cross_entropy` with gradients. A sequence of slope 0 takes
    one product in that call, and its gradient is always 0.

    The result has the same bits with any `num_threads`. It may depend by rounding on the threads of BLAS, on `chunk`
    and on the other steps, because BLAS rounds products of matrices of different sizes differently.

    NaN or +inf among the logits of a step makes the log-probability of its sequence, the gradient of its hidden
    state, and the gradients of weight and bias NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> hidden = np.array([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 2.0], [9.0, 9.0]]])
    >>> weight = np.log([[1.0, 1.0], [2.0, 1.0], [1.0, np.sqrt(3.0)]])
    >>> targets, lengths = [[1, 2], [0, 0]], [2, 1]
    >>> log_prob = fsl.linear_sequence_log_prob(hidden, weight, targets, lengths)
    >>> np.exp(log_prob).round(6)  # 1/2 * 3/5 and 1/5
    array([0.3, 0.2])

    The gradient of -log(sigmoid(d)) for the difference d of the two, whose derivative with respect to d is
    -sigmoid(-d):

    >>> slope = -1 / (1 + np.exp(log_prob[0] - log_prob[1]))
    >>> _, grad = fsl.linear_sequence_log_prob(hidden, weight, targets, lengths, slopes=[slope, -slope])
    >>> grad.weight.round(3)
    array([[ 0.1,  0.8],
           [-0.2,  0. ],
           [ 0.1, -0.8]])
    """
    averaged = flag("average", average)
    wanted = flag("return_grad", return_grad) or slopes is not None
    options = as_options(lengths, mask, "per_sequence", None, None, wanted, grad_out, num_threads)
    head = as_step_head(hidden, weight, bias, scale, softcap, chunk)
    summed = as_step_sum(head.steps, options)
    classes = as_class_targets(summed, targets, head.n_classes, ignore_index, None).classes
    share, factors = as_factors(summed, classes, averaged, slopes)
    check_num_threads(num_threads)
    gradients = as_head_gradients(head, wanted, grad_out)
    step = row_losses(summed, classes, factors, gradients.wanted, num_threads)
    # Sequences of slope 0 need no gradient. They come first: gradients may be written over the arguments.
    rest = row_losses(summed, classes, np.where(factors == 0, 1.0, 0.0), False, num_threads)
    run_chunks(head, NO_GRADIENTS, even_chunks(head, rest.rows()), rest)
    run_chunks(head, gradients, even_chunks(head, step.rows()), step)
    losses = reduce_steps("per_sequence", step.by_sequence() + rest.by_sequence(), share, summed.steps.shape)
    return gradients.beside(0.0 - losses)  # which gives no -0
