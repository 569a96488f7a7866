"""The best path through a transducer's lattice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import filled
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import outline
from .._core.spans import TokenSpan, list_spans
from .._core.types import BlankModel, Infeasible, Input, Topology
from .arguments import as_lattice, schedule_frames

if TYPE_CHECKING:
    from .._kernels.transducer import loss as _kernel
else:
    _kernel = load("transducer.loss")


class RNNTAlignment(NamedTuple):
    """The best path of each sequence, as `rnnt_align` finds it; without B for a single sequence.

    Attributes
    ----------
    labels : ndarray of int64 [B, U]
        The labels; -1 in the padding and for a sequence without a path.
    frames : ndarray of int64 [B, U]
        Frame at which each label is emitted; -1 in the padding and without a path.
    label_log_probs : ndarray of float64 [B, U]
        Log-probability of each label at its frame, in nats; 0 in the padding and without a path.
    log_prob : ndarray of float64 [B], or float for one sequence
        Log-probability of the path, blanks included.
    """

    labels: NDArray[np.int64]
    frames: NDArray[np.int64]
    label_log_probs: NDArray[np.float64]
    log_prob: Any

    def __repr__(self) -> str:
        return outline(self)

    def spans(self) -> list[Any]:
        """Return the frame of each label.

        Returns
        -------
        list of TokenSpan, or list of list of TokenSpan
            A span of one frame for each label, in order; labels may share a frame. One list for a
            single sequence, a list for each sequence of a batch. The list of a sequence without a
            path is empty.

        Examples
        --------
        >>> import numpy as np
        >>> import fastseqloss as fsl
        >>> probs = np.full((3, 2, 2), 0.5)
        >>> probs[1, 0] = 0.1, 0.9
        >>> [span] = fsl.rnnt_align(probs, [1], input="probs").spans()
        >>> span.label, span.start, span.end, round(span.log_prob, 4)
        (1, 1, 2, -0.1054)
        """
        if self.frames.ndim == 1:
            return spans_of_frames(self.labels, self.frames, self.label_log_probs)
        rows = zip(self.labels, self.frames, self.label_log_probs, strict=True)
        return [spans_of_frames(*row) for row in rows]


def spans_of_frames(
    labels: NDArray[np.int64], frames: NDArray[np.int64], log_probs: NDArray[np.float64]
) -> list[TokenSpan]:
    """Return a span of one frame for each label [U] whose frame is not -1."""
    placed = frames >= 0
    starts = frames[placed]
    return list_spans(labels[placed], starts, starts + 1, log_probs[placed])


@known_keywords
def rnnt_align(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    blank_model: BlankModel = "softmax",
    topology: Topology = "regular",
    ranges: ArrayLike | None = None,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> RNNTAlignment:
    r"""Forced alignment: the most probable path of a transducer that emits the labels.

    The recursion of `rnnt_loss` with the maximum in place of the sum [1]_:

    .. math:: \alpha(t,u) = \max\left(\alpha(t-1,u)\,\phi(t-1,u),\ \alpha(t,u-1)\,y(t,u-1)\right)

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input, blank_model, topology, ranges
        As for `rnnt_loss`.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence without frames, or with fewer frames than labels in the modified
        topology: a log-probability of -inf, of 0, or ValueError. "inf" and "zero" also apply to a
        sequence whose paths all have probability 0. Such a sequence has no path.
    num_threads : int, optional
        Threads to use, also for a single sequence; see `set_num_threads` for the default.

    Returns
    -------
    RNNTAlignment
        ``frames`` [B, U], the frame of each label; ``label_log_probs`` [B, U]; ``log_prob`` [B], of
        the whole path; and ``labels`` [B, U]. ``spans()`` lists them. Without B for a single
        sequence, whose ``log_prob`` is a float.

    Raises
    ------
    ValueError, TypeError
        As `rnnt_loss`.

    See Also
    --------
    rnnt_posteriors : probabilities of all alignments at once.
    ctc_align : alignment by the scores of CTC.

    Notes
    -----
    Among several paths with the same probability in float64, the one with the earliest last label
    is returned; further ties are resolved by the label before it, and so on. The result does not
    depend on the number of threads or on the other sequences of the batch.

    Sequences with NaN or +inf among the scores of a node that alignments pass, or with negative
    probabilities, have a ``log_prob`` of NaN and no path; for log-probabilities and probabilities
    only the blank and the labels matter.

    References
    ----------
    .. [1] A. Graves, "Sequence transduction with recurrent neural networks", 2012,
       arXiv:1211.3711.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> probs = np.full((4, 3, 3), 1 / 3)
    >>> probs[1, 0] = 0.1, 0.8, 0.1
    >>> probs[2, 1] = 0.2, 0.1, 0.7
    >>> aligned = fsl.rnnt_align(probs, [1, 2], input="probs")
    >>> aligned.frames
    array([1, 2])
    >>> np.exp(aligned.label_log_probs).round(4)
    array([0.8, 0.7])
    """
    lattice = as_lattice(
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input=input,
        blank_model=blank_model,
        topology=topology,
        ranges=ranges,
        infeasible=infeasible,
    )
    scores, checked = lattice.scores, lattice.labels
    batch = len(scores.values)
    order, threads = schedule_frames(lattice, num_threads)
    shape = (batch, int(checked.lengths.max(initial=0)))
    frames = np.full(shape, -1, np.int64)
    label_log_probs = np.zeros(shape)
    loss = filled(batch, np.inf)
    if not lattice.empty:
        _kernel.rnnt_align(
            **lattice.kernel_arguments(order, filled(batch, 1.0)),
            loss=loss,
            frames=frames,
            log_probs=label_log_probs,
            num_threads=threads,
        )
    placed = frames >= 0
    index = np.arange(shape[1]) + checked.starts[:, None]
    values = np.full(shape, -1, np.int64)
    values[placed] = checked.values[index[placed]]
    log_prob = np.negative(loss) + 0.0  # no -0.0
    if infeasible == "zero":
        log_prob[log_prob == -np.inf] = 0.0
    if scores.single:
        return RNNTAlignment(values[0], frames[0], label_log_probs[0], float(log_prob[0]))
    return RNNTAlignment(values, frames, label_log_probs, log_prob)
