"""Log-probabilities of whole sequences, for scoring and for losses of preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, read_integers
from .._core.engine import StepSum, as_options
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.options import as_input_kind, flag
from .._core.types import Input, Loss, LossAndGradient
from .rows import prepare_rows

if TYPE_CHECKING:
    from .._kernels.steps import classification as _kernel
else:
    _kernel = load("steps.classification")


@known_keywords
def sequence_log_prob(
    logits: ArrayLike,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    input: Input = "logits",
    ignore_index: int = -100,
    average: bool = False,
    slopes: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Log-probabilities of the target classes of whole sequences, and their gradient.

    .. math::
        \ell_b = \sum_t \log p_{b,t}(y_{b,t}), \quad
        \log p_{b,t}(c) = x_{b,t,c} - \log \sum_k e^{x_{b,t,k}}

    with the sum over the steps that count. Scores of language models, and the policies in preference losses such as
    DPO [1]_, ORPO [2]_ and SimPO [3]_, are such sums or their averages over steps.

    A preference loss :math:`L(\ell_1, \ldots, \ell_B)` has the gradient

    .. math::
        \frac{\partial L}{\partial x_{b,t,c}} = s_b \left([c = y_{b,t}] - p_{b,t}(c)\right), \quad
        s_b = \frac{\partial L}{\partial \ell_b},

    whose slopes :math:`s_b` are known only when all log-probabilities are known.

    Parameters
    ----------
    logits : array_like [..., V]
        Scores of V classes, with any number of axes of steps before them: batch, time and so on; [N, V] is
        N sequences of one step. float32 and float64 are native; float16 and bfloat16 are read and written
        without a converted copy, and computed in float32. Any strides; a class axis that is not contiguous
        is copied.
    targets : array_like of int, shape of the steps
        Classes.
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
        Steps with this target do not count.
    average : bool
        If True, divide each sum by the number of its steps that count, which gives the length-normalised
        log-probability.
    slopes : array_like [B], optional
        Derivatives :math:`s_b` of a loss with respect to the log-probabilities, finite, of either sign; the gradient is
        then that of this loss. All 1 by default. They do not change the log-probabilities. Implies `return_grad`.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default.

    Returns
    -------
    log_prob : ndarray of float64 [B]
        Log-probability of each sequence, in nats; 0 for a sequence without a step that counts. A number for logits
        [V] of one step.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the sum of the log-probabilities, or of their products with `slopes`. Only with `return_grad`,
        `grad_out` or `slopes`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, targets, numbers or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written.

    See Also
    --------
    softmax_cross_entropy : ``reduction="per_sequence"`` gives the negative of the sums, with all of its options.

    Notes
    -----
    The result has the same bits with any number of threads and in any batch. A sequence with a target of probability 0
    has the log-probability -inf, and the gradient that the equation says. NaN or +inf among the logits of a step makes
    the log-probability of its sequence and the gradient of the step NaN. With `slopes`, the gradient of a sequence of
    slope 0 is always 0.

    A call with `slopes` computes the log-probabilities again, in the same pass over the logits as the gradient.

    References
    ----------
    .. [1] R. Rafailov et al., "Direct preference optimization: your language model is secretly a reward model",
       NeurIPS 2023.
    .. [2] J. Hong, N. Lee, J. Thorne, "ORPO: monolithic preference optimization without reference model",
       EMNLP 2024.
    .. [3] Y. Meng, M. Xia, D. Chen, "SimPO: simple preference optimization with a reference-free reward",
       NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x = np.log([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]])
    >>> log_prob = fsl.sequence_log_prob(x, [[0, 1], [2, 0]], [2, 1])
    >>> np.exp(log_prob).round(6)  # 0.5 * 0.8 and 0.6
    array([0.4, 0.6])

    The gradient of -log(sigmoid(d)) for the difference d of the two, whose derivative with respect to d is
    -sigmoid(-d):

    >>> slope = -1 / (1 + np.exp(log_prob[0] - log_prob[1]))
    >>> _, grad = fsl.sequence_log_prob(x, [[0, 1], [2, 0]], [2, 1], slopes=[slope, -slope])
    >>> grad.round(2) + 0  # no -0
    array([[[-0.3 ,  0.15,  0.15],
            [ 0.06, -0.12,  0.06]],
    <BLANKLINE>
           [[-0.12, -0.12,  0.24],
            [ 0.  ,  0.  ,  0.  ]]])
    """
    kind = as_input_kind(input)
    averaged = flag("average", average)
    wanted = flag("return_grad", return_grad) or slopes is not None
    options = as_options(lengths, mask, "per_sequence", None, None, wanted, grad_out, num_threads)
    rows = prepare_rows(
        "softmax_cross_entropy",
        logits,
        read_integers("targets", targets).exact,
        options,
        ignore_index,
        None,
        find=_kernel.find_bad_share,
        probabilities=input == "probs",
    )
    rows.scale, rows.slopes = as_factors(rows.summed, rows.targets, averaged, slopes)
    result = rows.run(_kernel.softmax_cross_entropy, 0.0, 0.0, kind)
    # Subtracted from 0, which gives no -0.
    return (0.0 - result[0], result[1]) if isinstance(result, tuple) else 0.0 - result


def as_factors(
    summed: StepSum, classes: NDArray[np.int64], average: bool, slopes: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factor of each sum of log-probabilities, and that of the gradient of each sum of cross-entropies.

    The latter is the former times minus the slope, which is checked. Classes [B R] are -1 for steps that do not count.
    """
    given = as_weights("slopes", slopes, summed.steps.batch, signed=True)
    share = np.ones(summed.steps.batch)
    if average:
        share /= np.maximum(summed.counts(classes), 1)
    return share, -share if given is None else -given * share
