"""Greedy decoding of CTC scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._core.arrays import as_doubles, as_lengths, as_real, filled, read_integers
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import indexed, outline
from .._core.options import InputKind, as_index, as_input_kind, as_integer
from .._core.scores import Scores, as_scores
from .._core.spans import list_runs, list_spans
from .._core.threads import threads_for
from .._core.types import Input
from .alignment import Floats, Integers
from .arguments import as_classes

if TYPE_CHECKING:
    from .._kernels.ctc import decoding as _kernel
else:
    _kernel = load("ctc.decoding")


class GreedyDecoding(NamedTuple):
    """Result of `ctc_greedy_decode`; without B for a single sequence.

    Attributes
    ----------
    labels : ndarray of int64 [B, S']
        Labels, -1 in the padding.
    label_lengths : ndarray of int64 [B], or int for one sequence
        Number of labels.
    log_prob : ndarray of float64 [B], or float for one sequence
        Log-probability of the path, in nats.
    frames, end_frames : ndarray of int64 [B, S']
        Frames of each label: the first frame, and the frame after the last one; -1 in the padding.
    label_log_probs : ndarray of float64 [B, S']
        Sum of the log-probabilities of each label at its frames, in nats; 0 in the padding.
    """

    labels: Integers
    label_lengths: Integers | Any
    log_prob: Any
    frames: Integers
    end_frames: Integers
    label_log_probs: Floats

    def __repr__(self) -> str:
        return outline(self)

    @property
    def confidences(self) -> Floats:
        """Confidence of each label [B, S'], 0 to 1: the geometric mean of its probabilities at its frames."""
        counts = np.maximum(self.end_frames - self.frames, 1)
        with np.errstate(under="ignore"):
            means: Floats = np.exp(self.label_log_probs / counts)
        return np.where(self.frames >= 0, means, 0.0)

    def spans(self) -> list[Any]:
        """Return the frames of each label.

        Returns
        -------
        list of TokenSpan, or list of list of TokenSpan
            A span for each label, in order: one list for a single sequence, a list for each
            sequence of a batch.

        Examples
        --------
        >>> import fastseqloss as fsl
        >>> probs = [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]]
        >>> [span] = fsl.ctc_greedy_decode(probs, input="probs").spans()
        >>> span.label, span.start, span.end, round(span.mean_log_prob, 4)
        (1, 1, 3, -0.2899)
        """
        columns = (self.labels, self.frames, self.end_frames, self.label_log_probs)
        if self.labels.ndim == 1:
            return list_spans(*columns)
        counts = np.asarray(self.label_lengths).tolist()
        rows = zip(*columns, counts, strict=True)
        return [list_spans(*(column[:n] for column in row)) for *row, n in rows]


@known_keywords
def ctc_greedy_decode(
    logits: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    num_threads: int | None = None,
) -> GreedyDecoding:
    r"""Decode greedily: take the best class of each frame, merge repeats, remove blanks.

    .. math:: \hat\pi_{b,t} = \arg\max_c p_{b,t,c}, \qquad \hat l_b = \mathcal{B}(\hat\pi_b)

    These are the labels of the most probable path, which are not always the most probable label
    sequence [1]_.

    Parameters
    ----------
    logits, logit_lengths, blank, input
        As for `ctc_loss`.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    GreedyDecoding
        ``labels`` [B, S'] with -1 in the padding, ``label_lengths`` [B], and the log-probability of
        each path, ``log_prob`` [B], in nats; ``frames`` and ``end_frames`` [B, S'] of the labels,
        and ``label_log_probs`` [B, S']. ``confidences`` [B, S'] is computed from these, and
        ``spans()`` lists them. For a single sequence [S'], an int and a float.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or options are not as above. The message names the argument, the
        position, the value and what is allowed.

    Notes
    -----
    Among classes with equal scores, the first one is taken. A sequence with NaN or +inf among its
    scores, or a negative probability, has a ``log_prob`` of NaN and an empty label sequence.

    References
    ----------
    .. [1] A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, "Connectionist temporal
       classification: labelling unsegmented sequence data with recurrent neural networks",
       ICML 2006, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> path = [1, 1, 0, 1, 2, 2]
    >>> decoded = fsl.ctc_greedy_decode(0.7 * np.eye(3)[path] + 0.1, input="probs")
    >>> decoded.labels, decoded.label_lengths
    (array([1, 1, 2]), 3)
    >>> decoded.frames, decoded.confidences.round(2)
    (array([0, 3, 4]), array([0.8, 0.8, 0.8]))
    >>> round(decoded.log_prob / 6, 4)  # log(0.8)
    -0.2231
    """
    kind = as_input_kind(input)
    scores = as_scores("logits", logits)
    batch, n_frames, n_classes = scores.values.shape
    blank = as_index("blank", blank, n_classes)
    frames = as_lengths("logit_lengths", logit_lengths, batch, n_frames, scores.single)
    work = float(frames.sum()) * (n_classes * 0.5 + 50.0) if batch > 1 else 0.0
    threads = threads_for(num_threads, work, batch)
    labels, counts, log_prob, starts, ends, each = best_paths(scores, frames, kind, blank, threads)
    if scores.single:
        return GreedyDecoding(labels[0], int(counts[0]), float(log_prob[0]), starts[0], ends[0], each[0])
    return GreedyDecoding(labels, counts, log_prob, starts, ends, each)


def best_paths(
    scores: Scores, frames: Integers, kind: InputKind, blank: int, threads: int
) -> tuple[Integers, Integers, Floats, Integers, Integers, Floats]:
    """Return the fields of a `GreedyDecoding` of a batch."""
    batch, n_frames, _ = scores.values.shape
    found, label_log_probs = filled((3, batch, n_frames), -1, np.int64), np.zeros((batch, n_frames))
    counts, log_prob = np.zeros(batch, np.int64), np.zeros(batch)
    if label_log_probs.size:
        _kernel.ctc_greedy_decode[scores.type_name](
            scores.values,
            logit_lengths=frames,
            input_kind=kind,
            blank=blank,
            found=found,
            label_log_probs=label_log_probs,
            label_lengths=counts,
            log_prob=log_prob,
            num_threads=threads,
        )
    longest = int(counts.max(initial=0))
    labels, starts, ends = found[:, :, :longest].copy()
    label_log_probs = label_log_probs[:, :longest].copy()
    return labels, counts, log_prob, starts, ends, label_log_probs


@known_keywords
def merge_tokens(
    path: ArrayLike,
    frame_log_probs: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
) -> list[Any]:
    r"""Return the frames of each label of a path: the runs of equal classes other than the blank.

    .. math:: \mathrm{log\_prob}_i = \sum_{t=\mathrm{start}_i}^{\mathrm{end}_i - 1} x_t

    Use it for paths that other programs have found. `CTCAlignment.spans` and `GreedyDecoding.spans`
    list the same for paths of this library.

    Parameters
    ----------
    path : array_like of int [B, T], or [T] for one sequence
        The class of each frame, 0 or more. Padding is not read.
    frame_log_probs : array_like, of the shape of `path`
        Log-probability of that class at each frame, or any other score to be added up.
    logit_lengths : array_like of int [B], or int for one sequence, optional
        Numbers of frames; T by default.
    blank : int
        Class of the blank, 0 or more.

    Returns
    -------
    list of TokenSpan, or list of list of TokenSpan
        A span for each label, in order: one list for a single sequence, a list for each sequence
        of a batch. Scores are added up in float64.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or classes are not as above. The message names the argument, the
        position, the value and what is allowed.

    See Also
    --------
    ctc_collapse : the labels alone.
    words_from_spans : the words that the labels spell.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> for span in fsl.merge_tokens([0, 1, 1, 0, 2], [-0.1, -0.25, -0.75, -0.1, -1.0]):
    ...     print(span.label, span.start, span.end, span.mean_log_prob)
    1 1 3 -0.5
    2 4 5 -1.0
    """
    blank = _as_class("blank", blank)
    read = read_integers("path", path)
    classes, scores = read.values, as_doubles(as_real("frame_log_probs", frame_log_probs))
    if classes.ndim not in (1, 2):
        raise ValueError(f"path has shape {classes.shape}; allowed: [B, T], or [T] for one sequence")
    if scores.shape != classes.shape:
        raise ValueError(f"frame_log_probs has shape {scores.shape}; allowed: {classes.shape}, as of path")
    single, n_frames = classes.ndim == 1, classes.shape[-1]
    rows = classes.reshape((1, -1)) if single else classes
    lengths = as_lengths("logit_lengths", logit_lengths, len(rows), n_frames, single)
    padding = np.arange(n_frames) >= lengths[:, None]
    bad = np.flatnonzero(((rows < 0) | (rows == _BEYOND)) & ~padding)
    if bad.size:
        at = np.unravel_index(bad[0], classes.shape)
        hint = "; if it is padding, pass logit_lengths" if logit_lengths is None and rows.flat[bad[0]] < 0 else ""
        raise ValueError(f"{indexed('path', at)} is {read.shown(int(bad[0]))}; allowed: 0 to {_BEYOND - 1}{hint}")
    with np.errstate(all="ignore"):
        sequences = zip(rows, scores.reshape(rows.shape), lengths.tolist(), strict=True)
        spans = [list_runs(row[:n], row[:n], values[:n], blank) for row, values, n in sequences]
    return spans[0] if single else spans


_BEYOND = int(np.iinfo(np.int64).max)  # stands for integers beyond int64


def _as_class(name: str, value: Any) -> int:
    """Return a class of paths, which do not tell the number of classes."""
    index = as_integer(name, value)
    if not 0 <= index < _BEYOND:
        raise ValueError(f"{name} is {index}; allowed: 0 or more, below 2**63 - 1")
    return index


@known_keywords
def ctc_collapse(alignment: ArrayLike, blank: int = 0) -> Integers:
    r"""Return the labels that an alignment spells: repeats merged, then blanks removed.

    This is the map :math:`\mathcal{B}` in the definition of CTC.

    Parameters
    ----------
    alignment : array_like of int [T]
        The class of each frame, 0 or more.
    blank : int
        Class of the blank, 0 or more.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    ValueError, TypeError
        If the alignment is not one-dimensional, does not hold integers, or has a negative class.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.ctc_collapse([1, 1, 0, 1, 2, 2, 0])
    array([1, 1, 2])
    """
    blank = _as_class("blank", blank)
    path = as_classes("alignment", alignment, _BEYOND)
    starts = np.ones(len(path), np.bool_)
    starts[1:] = path[1:] != path[:-1]
    labels: Integers = path[starts & (path != blank)]
    return labels
