"""Connectionist temporal classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core import threads as _threads
from .._core.arrays import TYPE_NAMES, Integers, as_array, as_lengths, as_weights, check_output, filled, read_integers
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.labels import NAMES, Alphabet, Names, check_labels, read_labels
from .._core.levels import load
from .._core.options import InputKind
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import (
    Infeasible,
    Input,
    Loss,
    LossAndGradient,
    SequenceReduction,
)
from .._kernels import short_calls
from .arguments import Lattice, as_lattice, schedule_sequences

if TYPE_CHECKING:
    from .._kernels.ctc import loss as _kernel
else:
    _kernel = load("ctc.loss")

COSTS = 0.5, 50.0, 4.0  # nanoseconds, roughly, of a class, a frame, and a label at a frame, in both directions


@known_keywords
def ctc_loss(
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
    r"""Connectionist temporal classification loss, and its gradient.

    The negative log-likelihood, in nats, of label sequences given scores of every class at every
    time step, summed over all alignments. An alignment has a label or the blank at each step.
    Merging repeats and then removing blanks gives its label sequence [1]_.

    .. math:: L_b = -\log \sum_{\pi \in \mathcal{B}^{-1}(l_b)} \prod_{t=1}^{T_b} p_{b,t,\pi_t}

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
        Kind of the numbers in `logits`. A softmax is applied only to logits. Log-probabilities and
        probabilities are taken as they are, normalised or not, and the gradient is the derivative
        with respect to them.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels (equal neighbours need a blank
        between them): loss inf, loss 0, or ValueError. "inf" and "zero" also apply to a sequence
        whose probability is 0 because of scores of -inf (probabilities of 0). The gradient of such
        a sequence is 0. They also apply to losses beyond the range of float64, whose gradient is
        correct.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by its
        number of labels (at least 1) first, as the ``mean`` of PyTorch does; "none" gives [B].
        With `sample_weight`, averages divide by the sum of the weights instead of B.
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
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of the losses, with "none"); exactly 0 in the
        padding. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, weights or options are not as above. The message names
        the argument, the position, the value and what is allowed. In that case, nothing has been
        written. If ``infeasible="raise"`` and sequences are too short for their labels; the message
        names them.

    See Also
    --------
    ctc_feasible : test for sequences that are long enough for their labels.
    ctc_posteriors : the probability of each label at each frame.
    ctc_align : the best alignment.

    Notes
    -----
    The result has the same bits with any number of threads and in any batch. NaN or +inf among the
    scores of a valid step makes loss and gradient of that sequence NaN, as does a negative
    probability; for log-probabilities and probabilities only the classes that occur matter. A step
    whose logits are all -inf has probability 0.

    Replaces ``torch.nn.functional.ctc_loss(log_softmax(x), ...)`` (whose logits are time-major:
    pass ``x.swapaxes(0, 1)``, which is a view), ``optax.ctc_loss``, ``tf.nn.ctc_loss`` and
    ``keras.ops.ctc_loss``.

    References
    ----------
    .. [1] A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, "Connectionist temporal
       classification: labelling unsegmented sequence data with recurrent neural networks",
       ICML 2006.

    Examples
    --------
    With two steps, and a blank and one label that are equally likely, three of the four alignments
    spell the label:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.ctc_loss(np.zeros((2, 2)), [1], return_grad=True)
    >>> round(float(np.exp(-loss)), 6)
    0.75
    >>> grad.round(4)
    array([[ 0.1667, -0.1667],
           [ 0.1667, -0.1667]])

    A batch; the second sequence has three steps and one label:

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    >>> fsl.ctc_loss(x, [[1, 2], [3, 0]], [5, 3], [2, 1], reduction="none").round(4)
    array([5.0291, 2.8468])
    """
    return named_ctc_loss(
        NAMES,
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank,
        input,
        infeasible,
        reduction,
        normalizer,
        sample_weight,
        return_grad,
        grad_out,
        num_threads,
    )


def named_ctc_loss(
    names: Names,
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    blank: int = 0,
    input: Input = "logits",
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Any = None,
    return_grad: bool = False,
    grad_out: Any = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    """Return the result of `ctc_loss`; `names` are the names of the arguments in error messages."""
    if normalizer is None and sample_weight is None:
        found = short_calls.ctc_loss(
            _kernel.entry,
            COSTS,
            _threads.LEAST_WORK,
            logits,
            labels,
            logit_lengths,
            label_lengths,
            blank,
            input,
            infeasible,
            reduction,
            return_grad,
            grad_out,
            num_threads,
        )
        if found is not None:
            return found
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    lattice = as_lattice(
        logits, labels, logit_lengths, label_lengths, blank=blank, input=input, infeasible=infeasible, names=names
    )
    scores = lattice.scores
    weight = as_weights("sample_weight", sample_weight, lattice.sequences.batch)
    gradient = as_gradient(scores, return_grad, grad_out)
    scale = length_scale(reduction, lattice.sequences.lengths, normalizer, weight)
    loss = lattice_losses(lattice, scale, gradient.values, num_threads, in_place=gradient.in_place)
    reduced = finish_sequences(reduction, loss, scale, single=scores.single, infeasible=lattice.infeasible)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()


def lattice_losses(
    lattice: Lattice,
    scale: NDArray[np.float64],
    gradient: NDArray[Any] | None,
    num_threads: int | None,
    *,
    in_place: bool,
) -> NDArray[np.float64]:
    """Return the losses [B]; write gradients times `scale` to an array, which is that of the scores if `in_place`."""
    scores, sequences = lattice.scores, lattice.sequences
    order, threads = schedule_sequences(lattice, num_threads, *COSTS, workers_each=2)
    loss = np.empty(sequences.batch)
    if sequences.batch:
        _kernel.ctc_loss[scores.type_name](
            scores.values,
            sequences.table,
            scale,
            order,
            lattice.input,
            lattice.blank,
            loss,
            gradient,
            in_place,
            threads,
        )
    return loss


def run_lattices(
    scores: NDArray[Any],
    table: NDArray[np.int64],
    kind: InputKind,
    blank: int,
    threads: int,
    order: NDArray[np.int64] | None = None,
    gradient: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the losses [N] of checked scores [N, T, V] and a table of sequences, as `read_sequences` fills it.

    Sequences are taken in the given order. Gradients are written to an array if there is one.
    """
    losses = np.empty(len(scores))
    if len(scores):
        _kernel.ctc_loss[TYPE_NAMES[scores.dtype]](
            scores,
            table,
            filled(len(scores), 1.0),
            order,
            kind,
            blank,
            losses,
            gradient,
            False,
            threads,
        )
    return losses


@known_keywords
def ctc_posteriors(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> NDArray[Any]:
    r"""Occupation probabilities of the states of the CTC lattice: the position of each label in time.

    The states are blank, first label, blank, second label, ..., last label, blank. Entry u of frame
    t is the probability, given scores and labels, that an alignment is in state u at frame t [1]_:

    .. math:: \gamma_{b,t,u} = P(q_t = u \mid x_b, l_b)
              = \frac{\sum_{\pi : q_t = u} \prod_{t'} p_{b,t',\pi_{t'}}}
                     {\sum_{\pi} \prod_{t'} p_{b,t',\pi_{t'}}}

    with both sums over the alignments of :math:`l_b`. They are computed by the forward-backward
    sweeps of `ctc_loss`, whose gradient with respect to logits is the softmax minus the posteriors,
    summed by class.

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input
        As for `ctc_loss`.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels: posteriors of 0, or ValueError with
        "raise". A sequence of probability 0 has posteriors of 0, too.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    ndarray [B, T, 2 S + 1], or [T, 2 S + 1] for one sequence; dtype of `logits`
        Posteriors; S is the largest number of labels. The posteriors of a valid frame add up to 1;
        those beyond a sequence's length, and of states beyond its labels, are 0.

    Raises
    ------
    ValueError, TypeError
        As `ctc_loss`.

    See Also
    --------
    ctc_align : the single best alignment.

    References
    ----------
    .. [1] A. Graves, "Supervised sequence labelling with recurrent neural networks", Springer 2012,
       section 7.4.1.

    Examples
    --------
    Six alignments of three frames with two equally likely classes give label 1:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.ctc_posteriors(np.zeros((3, 2)), [1]).round(4)
    array([[0.5   , 0.5   , 0.    ],
           [0.1667, 0.6667, 0.1667],
           [0.    , 0.5   , 0.5   ]])
    """
    lattice = as_lattice(logits, labels, logit_lengths, label_lengths, blank=blank, input=input, infeasible=infeasible)
    scores, sequences = lattice.scores, lattice.sequences
    order, threads = schedule_sequences(lattice, num_threads, *COSTS)
    batch, n_frames, _ = scores.values.shape
    n_states = 2 * int(sequences.lengths.max(initial=0)) + 1
    shape = (batch, n_frames, n_states)
    check_output("the posteriors", shape, scores.values.itemsize)
    posteriors: NDArray[Any] = np.empty(shape, scores.values.dtype)
    if batch:
        _kernel.ctc_loss[scores.type_name](
            scores.values,
            sequences.table,
            filled(batch, 1.0),
            order,
            lattice.input,
            lattice.blank,
            np.empty(batch),
            posteriors,
            False,
            threads,
            by_state=True,
        )
    if posteriors.dtype != scores.given.dtype:
        with np.errstate(under="ignore"):
            posteriors = posteriors.astype(scores.given.dtype)
    return posteriors[0] if scores.single else posteriors


def label_sums(
    lattice: Lattice, spans: NDArray[np.int64], num_threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, of the posteriors of each label over the frames [B, S]: the largest one, their sum, the sum of their
    products with the number of the frame, and their sum within the span of the label, of `spans` [B, S, 2].
    """
    scores, sequences = lattice.scores, lattice.sequences
    order, threads = schedule_sequences(lattice, num_threads, *COSTS, workers_each=2)
    batch, width, _ = spans.shape
    shape = (batch, 6, width)
    check_output("the sums of the labels", shape, 8)
    sums = np.zeros(shape)
    sums[:, 0], sums[:, 1] = spans[..., 0], spans[..., 1]
    if sums.size:
        _kernel.ctc_loss[scores.type_name](
            scores.values,
            sequences.table,
            filled(batch, 1.0),
            order,
            lattice.input,
            lattice.blank,
            np.empty(batch),
            None,
            False,
            threads,
            occupation=sums,
        )
    return np.minimum(sums[:, 2], 1.0), sums[:, 3].copy(), sums[:, 4].copy(), sums[:, 5].copy()


@known_keywords
def ctc_feasible(
    labels: ArrayLike, logit_lengths: ArrayLike, label_lengths: ArrayLike | None = None
) -> bool | NDArray[np.bool_]:
    """Return True for sequences that are long enough for their labels.

    A label sequence needs one time step for each label and one for a blank between each two equal
    neighbours; `ctc_loss` is infinite for shorter sequences.

    Parameters
    ----------
    labels : array_like of int
        Padded [B, S], concatenated with `label_lengths`, or a list or column of B sequences; [S] for one
        sequence.
    logit_lengths : array_like of int [B], or int for one sequence
        Time steps of each sequence.
    label_lengths : array_like of int [B], or int for one sequence, optional
        Labels of each sequence; the full width by default.

    Returns
    -------
    ndarray of bool [B], or bool for one sequence

    Raises
    ------
    ValueError, TypeError
        If lengths or labels are not integers of the right shape or are negative.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.ctc_feasible([[1, 2], [1, 1]], [2, 2])
    array([ True, False])
    >>> fsl.ctc_feasible([1, 1], 2)
    False
    """
    given = as_array("logit_lengths", logit_lengths)
    if given.ndim > 1:
        raise ValueError(f"logit_lengths has shape {given.shape}; allowed: [B], or an integer for one sequence")
    read = read_labels(labels)
    if given.ndim == 0 and not read:
        read = read_integers("labels", [])
    single = given.ndim == 0 and isinstance(read, Integers) and read.values.ndim == 1
    longest = int(np.iinfo(np.int64).max)
    frames = as_lengths("logit_lengths", given, given.size, longest, single)
    needed = np.empty(len(frames), np.int64)
    check_labels(read, label_lengths, len(frames), Alphabet(longest, blank=-1), single=single, frames_needed=needed)
    feasible: NDArray[np.bool_] = frames >= needed
    return bool(feasible[0]) if single else feasible
