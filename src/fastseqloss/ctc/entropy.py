"""Entropy of the alignments of CTC."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, stored
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import (
    Infeasible,
    Input,
    Loss,
    LossAndGradient,
    SequenceReduction,
)
from .._kernels.ctc import entropy as _kernel
from .arguments import as_lattice, schedule_sequences

_COSTS = 0.1, 100.0, 40.0  # nanoseconds, roughly, of a class, a frame, and a label at a frame


@known_keywords
def ctc_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Entropy of the alignments of CTC given the labels, and its gradient.

    The entropy, in nats, of the distribution over the alignments that spell the labels: it is 0 if one alignment has
    all of the probability, and the logarithm of the number of alignments if all are equally probable. Subtracting a
    multiple of it from a loss keeps a model from concentrating on a few alignments [1]_.

    .. math:: H_b = -\sum_{\pi \in \mathcal{B}^{-1}(l_b)} q_b(\pi) \log q_b(\pi), \qquad
              q_b(\pi) = \frac{\prod_{t=1}^{T_b} p_{b,t,\pi_t}}
                              {\sum_{\pi' \in \mathcal{B}^{-1}(l_b)} \prod_{t=1}^{T_b} p_{b,t,\pi'_t}}

    Parameters
    ----------
    logits : array_like [B, T, V], or [T, V] for one sequence
        Scores of V classes at T time steps. float32 and float64 are native, float16 and bfloat16
        are computed in float32. Any strides; a class axis that is not contiguous is copied.
        Padding (steps from a sequence's length on) is never read.
    labels : array_like of int
        Padded [B, S] with any values in the padding, or concatenated in one dimension with
        `label_lengths`, or a list or column of B one-dimensional sequences; [S] for one sequence.
    logit_lengths, label_lengths : array_like of int [B], optional
        Lengths of each sequence; the full ones by default. An int for one sequence.
    blank : int
        Class of the blank; negative counts from the end.
    input : {"logits", "log_probs", "probs"}
        Kind of the numbers in `logits`. A softmax is applied only to logits. Log-probabilities and probabilities are
        taken as they are, normalised or not, and the gradient is the derivative with respect to them.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels (equal neighbours need a blank between
        them): ValueError with "raise", else entropy 0 and gradient 0, as for a sequence whose
        probability is 0 because of scores of -inf (probabilities of 0).
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the entropies by B; "sequence_mean" divides each entropy by its
        number of labels (at least 1) first; "none" gives [B]. With `sample_weight`, averages divide
        by the sum of the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. A sequence of weight 0 is ignored.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    entropy : float, or ndarray of float64 [B] with ``reduction="none"``
        The entropy in nats, never negative.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced entropy (of the sum of the entropies, with "none"); exactly 0 in the
        padding and for classes that do not occur. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, weights or options are not as above. The message names
        the argument, the position, the value and what is allowed. In that case, nothing has been
        written. If ``infeasible="raise"`` and sequences are too short for their labels; the message
        names them.

    See Also
    --------
    ctc_loss : the loss to regularise.
    ctc_posteriors : the probability of each label at each frame.
    weighted_sum : the sum of a loss and a multiple of the entropy.

    Notes
    -----
    With the posterior :math:`\gamma_{t,u}` of state u at frame t (see `ctc_posteriors`), the
    derivative with respect to a log-probability, and to a logit, is

    .. math:: \frac{\partial H}{\partial x_{t,c}} = \sum_{u:\, \text{state } u \text{ is class } c}
              \gamma_{t,u} \left( E[-\log q(\pi) \mid q_t = u] - H \right)

    which adds up to 0 over the classes: adding a number to all scores of a step does not change the
    entropy, so the softmax changes neither the entropy nor its derivative. With respect to a
    probability the derivative is divided by the probability; where that is 0, the derivative may be
    infinite, and the gradient is 0. Gradients with respect to probabilities below 2.3e-308 may lose
    all digits.

    The entropy is a sum of entropies of single transitions, weighted by posteriors, so no large numbers cancel even if
    the loss is large. The entropy is computed in float64 for every dtype. Time and memory grow with frames times
    labels, whatever the number of classes; beyond 16 MB only the states of every :math:`\sqrt{T}`-th frame are kept.
    Scores of -1e300 and below count as -inf.

    NaN or +inf among the scores of the labels and the blank of a valid step makes entropy and
    gradient of that sequence NaN, as does a negative probability. The result does not depend on the
    number of threads or on the other sequences of the batch.

    References
    ----------
    .. [1] H. Liu, S. Jin, C. Zhang, "Connectionist temporal classification with maximum entropy
       regularization", NeurIPS 2018.

    Examples
    --------
    With two steps and two equally likely classes, three alignments spell the label:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> float(np.exp(fsl.ctc_entropy(np.zeros((2, 2)), [1])).round(6))
    3.0

    Training with entropy regularisation:

    >>> from functools import partial
    >>> x = np.random.default_rng(0).normal(size=(1, 6, 4))
    >>> given = {"labels": [[1, 2]], "reduction": "sum"}
    >>> loss = fsl.weighted_sum([(1, partial(fsl.ctc_loss, **given)), (-0.2, partial(fsl.ctc_entropy, **given))])
    >>> value, grad = loss(x, return_grad=True)
    >>> bool(np.isclose(value, fsl.ctc_loss(x, **given) - 0.2 * fsl.ctc_entropy(x, **given)))
    True
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    lattice = as_lattice(logits, labels, logit_lengths, label_lengths, blank=blank, input=input, infeasible=infeasible)
    scores, sequences = lattice.scores, lattice.sequences
    weight = as_weights("sample_weight", sample_weight, sequences.batch)
    gradient = as_gradient(scores, return_grad, grad_out)
    scale = length_scale(reduction, sequences.lengths, normalizer, weight)
    order, threads = schedule_sequences(lattice, num_threads, *_COSTS)
    numbers = np.stack([scale, scale])
    if sequences.batch:
        _kernel.ctc_entropy(
            *stored(scores.values),
            input_kind=lattice.input,
            blank=lattice.blank,
            table=sequences.table,
            order=order,
            numbers=numbers,
            grad=gradient.values,
            num_threads=min(threads, sequences.batch),
        )
    reduced = finish_sequences(reduction, numbers[1], scale, single=scores.single)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()
