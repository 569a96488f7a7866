"""CTC of the scores of a linear layer, which are never stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, check_output
from .._core.keywords import known_keywords
from .._core.labels import NAMES, Sequences
from .._core.options import InputKind
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.scores import Scores
from .._core.threads import check_num_threads
from .._core.types import Infeasible, Loss, SequenceReduction
from ..ctc.arguments import Lattice, as_lattice_of
from ..ctc.loss import lattice_losses
from .chunks import Chunk, run_chunks
from .head import Head, LinearGradientOut, LossAndLinearGradient, as_head_gradients, as_sequence_head

_MOST_NUMBERS = 1 << 21  # logits, and features of hidden states, of the sequences that are computed together


@known_keywords
def linear_ctc_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    blank: int = 0,
    infeasible: Infeasible = "inf",
    scale: float = 1.0,
    softcap: float | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: LinearGradientOut | None = None,
    chunk: int | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndLinearGradient:
    r"""Connectionist temporal classification of a linear layer of hidden states, and its gradient.

    It is `ctc_loss` of the logits

    .. math:: x_{b,t} = C\left(s\, (W h_{b,t} + a)\right)

    with the bias :math:`a`, the factor :math:`s`, and the soft cap :math:`C(x) = \kappa \tanh(x / \kappa)`, or
    :math:`C(x) = x` without one. Logits are computed for a few sequences at a time, in a buffer that is reused for the
    next sequences.

    Parameters
    ----------
    hidden : array_like [B, T, D], or [T, D] for one sequence
        States of D features at T time steps. Any strides. float16 and bfloat16 are converted a few sequences at a
        time. Padding (steps from a sequence's length on) is never read or multiplied.
    weight : array_like [V, D]
        Weights of V classes. A transposed array [D, V] is read without a copy. float16 and bfloat16 are converted to
        float32 once, which takes 4 V D bytes, and 4 V D more for the gradient. Logits and gradients are computed in
        float64 if `hidden` or `weight` is, else in float32.
    labels : array_like of int
        Padded [B, S] with any values in the padding, or concatenated in one dimension with
        `label_lengths`, or a list or column of B one-dimensional sequences; [S] for one sequence.
    logit_lengths, label_lengths : array_like of int [B], optional
        Lengths of each sequence; the full ones by default. An int for one sequence.
    bias : array_like [V], optional
        Added to the logits; 0 by default. -inf excludes a class, unless a `softcap` bounds its logits.
    blank : int
        Class of the blank; negative counts from the end.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels, as for `ctc_loss`.
    scale : float
        Factor of the logits; from 1e-30 to 1e30.
    softcap : float, optional
        Bound of the absolute values of the logits, after `scale`; from 1e-30 to 1e30.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by its
        number of labels (at least 1) first, as the ``mean`` of PyTorch does; "none" gives [B].
        With `sample_weight`, averages divide by the sum of the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. A sequence of weight 0 is ignored.
    return_grad : bool
        If True, return the gradients as well.
    grad_out : tuple of ndarray and None, optional
        `LinearGradient` of arrays to write the gradients to, of the shapes and dtypes of `hidden`, `weight` and `bias`,
        which may be these arrays themselves; None for a gradient that is not needed, which is then not computed.
        Implies `return_grad`.
    chunk : int, optional
        Number of steps whose logits are in memory at a time, at least those of one sequence: 4 bytes for each
        class of each step, 8 in float64, and twice as many with `softcap` and gradients. By default
        2^21 / max(V, D).
    num_threads : int, optional
        Threads to use, see `set_num_threads` for the default; NumPy's BLAS, which multiplies the matrices, has its
        own.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : LinearGradient
        Named tuple ``(hidden, weight, bias)`` of the gradients of the reduced loss (of the sum of the losses, with
        "none"), each of the shape and dtype of its argument; None for a bias that was not given, or a gradient that is
        not needed. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, weights or options are not as above. The message names
        the argument, the position, the value and what is allowed. In that case, nothing has been
        written. If ``infeasible="raise"`` and sequences are too short for their labels; the message
        names them.

    See Also
    --------
    ctc_loss : loss of logits that are in memory, of log-probabilities and of probabilities.
    linear_cross_entropy : cross-entropy without the array of logits.

    Notes
    -----
    The result has the same bits with any `num_threads`. It may depend by rounding on the threads of BLAS, on `chunk`
    and on the other sequences, because BLAS rounds products of matrices of different sizes differently.

    NaN or +inf among the logits of a valid step makes the loss of that sequence, the gradients of its hidden
    states, and the gradients of weight and bias NaN.

    Replaces a linear layer with ``torch.nn.functional.ctc_loss(log_softmax(x), ...)``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(2, 5, 3)), rng.normal(size=(4, 3))
    >>> labels, frames, n_labels = [[1, 2], [3, 0]], [5, 3], [2, 1]
    >>> loss, grad = fsl.linear_ctc_loss(hidden, weight, labels, frames, n_labels, return_grad=True)
    >>> round(loss, 4) == round(fsl.ctc_loss(hidden @ weight.T, labels, frames, n_labels), 4)
    True
    >>> grad.weight.shape
    (4, 3)
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    head = as_sequence_head(hidden, weight, bias, scale, softcap, chunk)
    lattice = as_lattice_of(
        _unread_scores(head), labels, logit_lengths, label_lengths, blank, InputKind.LOGITS, infeasible, names=_NAMES
    )
    sequences = lattice.sequences
    of_sequences = as_weights("sample_weight", sample_weight, sequences.batch)
    check_num_threads(num_threads)
    gradients = as_head_gradients(head, return_grad, grad_out)
    scale_of = length_scale(reduction, sequences.lengths, normalizer, of_sequences)
    losses = np.where(sequences.lengths > 0, np.inf, 0.0)  # of sequences without frames
    step = _Step(head, lattice, scale_of, gradients.wanted, num_threads, losses)
    run_chunks(head, gradients, step.groups(), step)
    reduced = finish_sequences(reduction, losses, scale_of, single=lattice.scores.single, infeasible=infeasible)
    return gradients.beside(reduced)


_NAMES = NAMES._replace(logits="hidden")


def _unread_scores(head: Head) -> Scores:
    """Return scores in the shape of the logits, all of them one number in memory."""
    number = np.zeros((), head.dtype)
    shape = (*head.hidden.values.shape[:2], head.n_classes)
    check_output("the logits", shape, number.itemsize)
    return Scores(np.broadcast_to(number, shape), np.broadcast_to(number, (*head.steps, head.n_classes)))


@dataclass(slots=True)
class _Group(Chunk):
    """Sequences that are computed together, the longest first."""

    members: NDArray[np.int64]


@dataclass(slots=True)
class _Step:
    """The losses of the sequences of a group."""

    head: Head
    lattice: Lattice
    scale: NDArray[np.float64]  # [B]
    with_slopes: bool
    num_threads: int | None
    losses: NDArray[np.float64]  # [B], output

    def groups(self) -> list[_Group]:
        """Return groups of the sequences that have frames and a scale, of similar lengths."""
        frames, values = self.lattice.sequences.frames, self.head.hidden.values
        most = self.head.chunk or _MOST_NUMBERS // max(self.head.n_classes, values.shape[2])
        order = np.flatnonzero((frames > 0) & (self.scale != 0))
        order = order[np.argsort(-frames[order], kind="stable")]
        groups = []
        while len(order):
            longest = int(frames[order[0]])
            count = max(1, most // longest)
            members, order = order[:count], order[count:]
            rows = [np.arange(b * values.shape[1], b * values.shape[1] + frames[b]) for b in members]
            groups.append(_Group(np.concatenate(rows), len(members) * longest, members))
        return groups

    def __call__(self, group: _Group, scores: NDArray[Any]) -> None:
        frames = self.lattice.sequences.frames[group.members]
        starts = np.cumsum(frames) - frames
        padded = scores.reshape(len(frames), -1, self.head.n_classes)
        places = np.arange(len(frames)) * padded.shape[1]
        for b in reversed(range(len(frames))):  # from the last on, so that no frame is overwritten before it moves
            _move(scores, frames[b], starts[b], places[b])
        lattice = replace(self.lattice, scores=Scores(padded, padded), sequences=self._sequences_of(group.members))
        slopes = padded if self.with_slopes else None
        scale = self.scale[group.members]
        self.losses[group.members] = lattice_losses(lattice, scale, slopes, self.num_threads, in_place=True)
        if self.with_slopes:
            for b in range(len(frames)):
                _move(scores, frames[b], places[b], starts[b])

    def _sequences_of(self, members: NDArray[np.int64]) -> Sequences:
        every = self.lattice.sequences
        of_all = (every.frames, every.starts, every.lengths, every.frames_needed)
        table = np.concatenate([*(numbers[members] for numbers in of_all), every.values])
        return Sequences(table, len(members), every.listed)


def _move(rows: NDArray[Any], count: int, start: int, target: int) -> None:
    """Move rows within an array, in pieces whose places do not overlap, of which NumPy would make copies."""
    gap = abs(target - start)
    pieces = range(0, count, gap) if gap else range(0)
    for first in reversed(pieces) if target > start else pieces:
        last = min(first + gap, count)
        rows[target + first : target + last] = rows[start + first : start + last]
