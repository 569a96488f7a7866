"""Confidences and times of the labels of a sequence, from the posteriors of all alignments."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._core.arrays import filled, read_integers
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.types import Infeasible, Input
from .alignment import Floats, Integers, viterbi_paths
from .arguments import Lattice, as_lattice
from .loss import label_sums


class CTCConfidences(NamedTuple):
    """Result of `ctc_confidences`, a number for each label; without B for a single sequence.

    Attributes
    ----------
    confidences : ndarray of float64 [B, S]
        Largest posterior of the label at a frame, 0 to 1, as in `CTCBeams`.
    mean_frames : ndarray of float64 [B, S]
        Mean of the frames, weighted by the posteriors of the label; -1 in the padding and where no
        alignment exists.
    occupancies : ndarray of float64 [B, S]
        Sum of the posteriors over all frames: the expected number of frames of the label.
    span_masses : ndarray of float64 [B, S]
        Sum of the posteriors over the frames of the span: the expected number of frames of the
        label within its span.
    frames : ndarray of int64 [B, S, 2]
        Frames of each span: the first frame, and the frame after the last one; -1 without a span.

    All but `mean_frames` and `frames` are 0 in the padding and where no alignment exists.
    """

    confidences: Floats
    mean_frames: Floats
    occupancies: Floats
    span_masses: Floats
    frames: Integers

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def ctc_confidences(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    frames: ArrayLike | None = None,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> CTCConfidences:
    r"""Confidence, mean frame and expected duration of each label, without an array of posteriors.

    With the posterior :math:`\gamma_t(i)`, the probability that an alignment of the labels is at
    label i at frame t (an entry of `ctc_posteriors` [1]_), and the span of label i, from frame
    :math:`s_i` up to :math:`e_i`:

    .. math:: c_i = \max_t \gamma_t(i), \qquad n_i = \sum_t \gamma_t(i), \qquad
              \bar t_i = \frac{1}{n_i} \sum_t t\, \gamma_t(i), \qquad
              m_i = \sum_{t=s_i}^{e_i-1} \gamma_t(i)

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input
        As for `ctc_loss`.
    frames : array_like of int [B, S, 2], or [S, 2] for one sequence, optional
        The span of each label: its first frame, and the one after its last; -1 and -1 for no span.
        ``frames`` of `CTCBeams` have this form. Any values in the padding. By default the spans of the
        best path, those of `ctc_align`.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels: confidences of 0, or ValueError with
        "raise". A sequence of probability 0 has confidences of 0, too.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    CTCConfidences
        ``confidences`` :math:`c`, ``mean_frames`` :math:`\bar t`, ``occupancies`` :math:`n` and
        ``span_masses`` :math:`m`, [B, S] each, and ``frames`` [B, S, 2]; S is the largest number of
        labels. For a single sequence [S] and [S, 2].

    Raises
    ------
    ValueError, TypeError
        As `ctc_loss`, and if a span is not within the frames of its sequence.

    See Also
    --------
    ctc_posteriors : the posteriors themselves.
    ctc_align : the frames of each label on the best path.
    words_from_spans : words with confidences.

    Notes
    -----
    The posteriors are added up, frame by frame, in the backward sweep of `ctc_loss`, in float64.
    The working memory is that of the loss and not that of the posteriors, which for an hour of
    speech (180000 frames, 20000 labels) would take 29 GB.

    The mass of a span divided by its frames, :math:`m_i / (e_i - s_i)`, is the mean posterior at these frames; divided
    by the occupancy, :math:`m_i / n_i`, it is the share of the label's frames that lies within the span. If a label
    takes a single frame, but several frames are equally probable, its confidence is low although the label is certain.
    Its occupancy is then 1, and its mass in a span that covers these frames is near 1.

    A sequence with NaN or +inf among its scores, or a negative probability, has confidences, mean
    frames and masses of NaN; for log-probabilities and probabilities only the classes that occur
    matter. The result does not depend on the number of threads or on the other sequences of the
    batch.

    References
    ----------
    .. [1] A. Graves, "Supervised sequence labelling with recurrent neural networks", Springer 2012,
       section 7.4.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    >>> found = fsl.ctc_confidences(probs, [1, 2], input="probs")
    >>> found.confidences.round(2), found.mean_frames.round(2)
    (array([0.9 , 0.99]), array([1.35, 2.89]))
    >>> found.frames.tolist(), found.span_masses.round(2), found.occupancies.round(2)
    ([[1, 3], [3, 4]], array([1.61, 0.99]), array([1.72, 1.1 ]))
    """
    lattice = as_lattice(logits, labels, logit_lengths, label_lengths, blank=blank, input=input, infeasible=infeasible)
    spans = _as_spans(frames, lattice) if frames is not None else best_spans(lattice, num_threads)
    largest, mass, moment, span_mass = label_sums(lattice, spans, num_threads)
    with np.errstate(invalid="ignore", under="ignore"):
        mean = np.where(mass == 0, -1.0, moment / np.where(mass == 0, 1.0, mass))
    if lattice.scores.single:
        return CTCConfidences(largest[0], mean[0], mass[0], span_mass[0], spans[0])
    return CTCConfidences(largest, mean, mass, span_mass, spans)


def _width(lattice: Lattice) -> int:
    """Return the largest number of labels."""
    return int(lattice.sequences.lengths.max(initial=0))


def best_spans(lattice: Lattice, num_threads: int | None) -> Integers:
    """Return the frames of each label on the best path [B, S, 2]; -1 without one."""
    token_index = viterbi_paths(lattice, num_threads)[1]
    spans = filled((len(token_index), _width(lattice), 2), -1, np.int64)
    rows, frames = np.nonzero(token_index >= 0)
    labels = token_index[rows, frames]
    changes = np.flatnonzero((np.diff(rows) != 0) | (np.diff(labels) != 0))
    first, last = (np.concatenate(ends)[: len(labels)] for ends in (([0], changes + 1), (changes, [len(labels) - 1])))
    spans[rows[first], labels[first], 0] = frames[first]
    spans[rows[last], labels[last], 1] = frames[last] + 1
    return spans


def _as_spans(value: Any, lattice: Lattice) -> Integers:
    """Return checked spans [B, S, 2]; -1 in the padding."""
    sequences, single, width = lattice.sequences, lattice.scores.single, _width(lattice)
    read = read_integers("frames", value)
    given = read.values
    batched = given.reshape((1, *given.shape)) if single else given
    shape = (sequences.batch, batched.shape[1] if batched.ndim == 3 else width, 2)
    if width == 0 and given.size == 0:
        return np.empty((sequences.batch, 0, 2), np.int64)
    if batched.shape != shape or shape[1] < width:
        allowed = f"({'' if single else f'{sequences.batch}, '}{width} or more, 2), frames of each label"
        raise ValueError(f"frames has shape {given.shape}; allowed: {allowed}")
    spans = batched[:, :width].copy()
    spans[np.arange(width) >= sequences.lengths[:, None]] = -1
    start, end = spans[..., 0], spans[..., 1]
    bad = ((start < 0) | (end <= start) | (end > sequences.frames[:, None])) & ((start != -1) | (end != -1))
    if bad.any():
        b, i = np.argwhere(bad)[0].tolist()
        first = (b * shape[1] + i) * 2
        shown = f"[{read.shown(first)}, {read.shown(first + 1)}]"
        where = f"frames[{i}]" if single else f"frames[{b}, {i}]"
        allowed = f"0 or more, and above it up to {sequences.frames[b]}; -1 and -1 for no span"
        raise ValueError(f"{where} is {shown}; allowed: {allowed}")
    return spans
