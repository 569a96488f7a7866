"""Paths through a CTC lattice: forced alignment, and the log-probability of given alignments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_real, filled
from .._core.keywords import known_keywords
from .._core.labels import NAMES, Names
from .._core.levels import load
from .._core.messages import outline
from .._core.options import InputKind, as_number
from .._core.spans import list_runs
from .._core.types import Infeasible, Input
from .arguments import Lattice, as_classes, as_lattice, as_log_prior, as_star_log_prob, schedule_sequences

if TYPE_CHECKING:
    from .._kernels.ctc import alignment as _kernel
else:
    _kernel = load("ctc.alignment")

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class CTCAlignment(NamedTuple):
    """The best path of each sequence, as `ctc_align` finds it; without B for a single sequence.

    Attributes
    ----------
    path : ndarray of int64 [B, T]
        Class of each frame; -1 in the padding and for a sequence without a path.
    token_index : ndarray of int64 [B, T]
        Position of the label of each frame among the labels; -1 at blanks, in the padding and
        without a path.
    log_prob : ndarray of float64 [B], or float for one sequence
        Log-probability of the path, in nats.
    frame_log_probs : ndarray of float64 [B, T]
        Log-probability of the class at each frame; 0 in the padding and without a path.
    """

    path: Integers
    token_index: Integers
    log_prob: Any
    frame_log_probs: Floats

    def __repr__(self) -> str:
        return outline(self)

    def spans(self) -> list[Any]:
        """Return the frames of each label.

        Returns
        -------
        list of TokenSpan, or list of list of TokenSpan
            A span for each label, in order: one list for a single sequence, a list for each
            sequence of a batch. The list of a sequence without a path is empty.

        Examples
        --------
        >>> import numpy as np
        >>> import fastseqloss as fsl
        >>> probs = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]
        >>> [span] = fsl.ctc_align(probs, [1], input="probs").spans()
        >>> span.label, span.start, span.end, round(span.mean_log_prob, 4)
        (1, 1, 3, -0.4581)
        """
        if self.path.ndim == 1:
            return list_runs(self.token_index, self.path, self.frame_log_probs, -1)
        rows = zip(self.token_index, self.path, self.frame_log_probs, strict=True)
        return [list_runs(*row, -1) for row in rows]


@known_keywords
def ctc_align(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    star: int | None = None,
    star_log_prob: float | ArrayLike = 0.0,
    label_prior: ArrayLike | None = None,
    prior_scale: float = 1.0,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> CTCAlignment:
    r"""Forced alignment: the most probable path that spells the labels.

    .. math:: \pi_b^* = \arg\max_{\pi \in \mathcal{B}^{-1}(l_b)}
              \sum_{t=1}^{T_b} \left(\log p_{b,t,\pi_t} - \alpha \log q_{\pi_t}\right)

    by the Viterbi algorithm [1]_, in float64, with the priors q of `label_prior`, if given, and
    :math:`\alpha` = `prior_scale`.

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input
        As for `ctc_loss`.
    star : int, optional
        A label that matches anything: a number that is not a class, such as -1. Put it among the
        labels in place of speech without a transcript. Like any label, it takes at least one frame,
        and two neighbouring stars need a blank between them.
    star_log_prob : float, or array_like [B, T], or [T] for one sequence
        Log-probability of the star, 0 or less: a number for all frames, or one for each frame. With 0, the
        log-probability of all classes together, the star takes every frame that no label needs. With a lower value,
        labels and blanks take the frames at which they are more probable. In an array, -inf excludes the star from a
        frame, and the padding is not read.
    label_prior : array_like [V], optional
        Log-priors of the classes, subtracted from their log-probabilities when paths are compared.
        The logarithm of the mean probability of each class favours labels over blanks, which
        sharpens the boundaries if a model emits blanks at most frames [2]_.
    prior_scale : float
        Factor of the log-priors, 0 or more.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that is too short for its labels (equal neighbours need a blank
        between them): a log-probability of -inf, of 0, or ValueError. "inf" and "zero" also apply
        to a sequence whose paths all have probability 0, or a log-probability beyond the range of
        float64. Such a sequence has no path.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    CTCAlignment
        ``path`` [B, T], the class of each frame; ``token_index`` [B, T], its position among the
        labels; ``log_prob`` [B] and ``frame_log_probs`` [B, T], log-probabilities of the model in
        nats, without priors. ``spans()`` lists the frames of each label. Without B for a single
        sequence, whose ``log_prob`` is a float.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels or options are not as above. The message names the
        argument, the position, the value and what is allowed. If ``infeasible="raise"`` and
        sequences are too short for their labels; the message names them.

    See Also
    --------
    ctc_align_windows : the same for scores that do not fit in memory.
    ctc_posteriors : probabilities of all alignments at once.
    ctc_greedy_decode : the most probable path among those of all label sequences.

    Notes
    -----
    Among several paths with the same score in float64, the one that advances latest is returned. It
    starts at the blank if possible. At each frame, from the first on, it stays in its state if
    possible, otherwise it advances to the blank, and otherwise to the next label. (If the states
    are numbered blank, first label, blank, second label, and so on, it is lexicographically first
    among the best paths.) The result does not depend on the number of threads or on the other
    sequences of the batch.

    Sequences with NaN or +inf among the scores, or with negative probabilities, have a ``log_prob``
    of NaN and no path; for log-probabilities and probabilities only the classes that occur matter.

    Scores are stored only at checkpoints, and backpointers are not stored: an hour of speech,
    180000 frames and 20000 labels, takes about 90 MB. States that cannot be on the best path are
    skipped, so the scores of confident models are aligned faster. Replaces
    ``torchaudio.functional.forced_align`` and ``merge_tokens``.

    References
    ----------
    .. [1] L. Kürzinger, D. Winkelbauer, L. Li, T. Watzel, G. Rigoll, "CTC-segmentation of large
       corpora for German end-to-end speech recognition", SPECOM 2020.
    .. [2] R. Huang et al., "Less peaky and more accurate CTC forced alignment by label priors",
       ICASSP 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    >>> aligned = fsl.ctc_align(probs, [1, 2], input="probs")
    >>> aligned.path
    array([0, 1, 1, 2])
    >>> aligned.token_index
    array([-1,  0,  0,  1])
    >>> round(float(np.exp(aligned.log_prob)), 4)
    0.2688
    >>> [(span.label, span.start, span.end) for span in aligned.spans()]
    [(1, 1, 3), (2, 3, 4)]

    Untranscribed speech before label 2:

    >>> fsl.ctc_align(probs, [-1, 2], input="probs", star=-1).path
    array([-1, -1, -1,  2])

    With the probability of the best label at each frame, the path has blanks at silent frames:

    >>> best = np.log(probs[:, 1:].max(axis=1))
    >>> fsl.ctc_align(probs, [-1, 2], input="probs", star=-1, star_log_prob=best).path
    array([ 0, -1, -1,  2])
    """
    return named_ctc_align(
        NAMES,
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input=input,
        star=star,
        star_log_prob=star_log_prob,
        label_prior=label_prior,
        prior_scale=prior_scale,
        infeasible=infeasible,
        num_threads=num_threads,
    )


def named_ctc_align(
    names: Names,
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    star: int | None = None,
    star_log_prob: Any = 0.0,
    label_prior: Any = None,
    prior_scale: float = 1.0,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> CTCAlignment:
    """Return the result of `ctc_align`; `names` are the names of the arguments in error messages."""
    lattice = as_lattice(
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input=input,
        infeasible=infeasible,
        star=star,
        names=names,
    )
    scores = lattice.scores
    _, n_frames, n_classes = scores.values.shape
    star_scores = as_star_log_prob("star_log_prob", star_log_prob, lattice.sequences.frames, n_frames, scores.single)
    prior_scale = as_number("prior_scale", prior_scale, 0.0, np.inf)
    prior = as_log_prior("label_prior", label_prior, n_classes, prior_scale)
    return finish_alignment(lattice, *viterbi_paths(lattice, num_threads, star_scores, prior))


def viterbi_paths(
    lattice: Lattice,
    num_threads: int | None,
    star_log_prob: tuple[float, Floats | None] = (0.0, None),
    prior: Floats | None = None,
) -> tuple[Integers, Integers, Floats, Floats]:
    """Return the fields of a `CTCAlignment` of a batch, in which class V is the star."""
    scores, sequences = lattice.scores, lattice.sequences
    batch, n_frames, _ = scores.values.shape
    per_class = 0.5 if lattice.input == InputKind.LOGITS else 0.0
    order, threads = schedule_sequences(lattice, num_threads, per_class, 100.0, 1.0)
    log_prob = np.empty(batch)
    path = filled((batch, n_frames), -1, np.int64)
    token_index = path.copy()
    frame_log_probs = np.zeros((batch, n_frames))
    if batch:
        _kernel.ctc_align(
            scores.values,
            scores.values.itemsize == 8,
            sequences.table,
            order,
            lattice.input,
            lattice.blank,
            prior,
            *star_log_prob,
            log_prob,
            path,
            token_index,
            frame_log_probs,
            threads,
        )
    return path, token_index, log_prob, frame_log_probs


def finish_alignment(
    lattice: Lattice, path: Integers, token_index: Integers, log_prob: Floats, frame_log_probs: Floats
) -> CTCAlignment:
    """Return the alignment of a batch, which the kernel has written."""
    scores = lattice.scores
    if lattice.star is not None:
        path[path == scores.values.shape[2]] = lattice.star
    if lattice.infeasible == "zero":
        log_prob[log_prob == -np.inf] = 0.0
    if scores.single:
        return CTCAlignment(path[0], token_index[0], float(log_prob[0]), frame_log_probs[0])
    return CTCAlignment(path, token_index, log_prob, frame_log_probs)


@known_keywords
def ctc_alignment_log_prob(log_probs: ArrayLike, alignments: ArrayLike | Sequence[ArrayLike]) -> Floats:
    r"""Return the log-probability of given alignments.

    .. math:: \log P(\pi_n) = \sum_{t=1}^{T_n} \log p_{n,t,\pi_{n,t}}

    Parameters
    ----------
    log_probs : array_like [V], [T, V] or [N, T, V]
        Log-probabilities of V classes: the same at every frame, at T frames, or at T frames of each
        of N sequences.
    alignments : array_like of int [N, T], or list of N one-dimensional sequences
        The class of each frame. Alignments in a list may be shorter than T: they begin at the first
        frame; with `log_probs` [V] they may have any length.

    Returns
    -------
    ndarray of float64 [N]
        In nats; 0 for an alignment without frames, NaN for one with both +inf and -inf.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or classes are not as above. The message names the argument, the
        position, the value and what is allowed.

    See Also
    --------
    ctc_collapse : the labels that an alignment spells.

    Examples
    --------
    Two alignments of "ab" with three frames that have the same probabilities:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> log_probs = np.log([0.2, 0.5, 0.3])  # blank, a, b
    >>> np.exp(fsl.ctc_alignment_log_prob(log_probs, [[1, 0, 2], [1, 1, 2]])).round(4)
    array([0.03 , 0.075])
    """
    scores = as_real("log_probs", log_probs)
    if not 1 <= scores.ndim <= 3 or scores.shape[-1] == 0:
        raise ValueError(f"log_probs has shape {scores.shape}; allowed: [V], [T, V] or [N, T, V], V at least 1")
    if not isinstance(alignments, Sequence):
        alignments = as_array("alignments", alignments)
        if alignments.ndim == 0:
            raise TypeError("alignments must be [N, T] or a list of sequences")
    try:
        count = len(alignments)
    except OverflowError:
        raise ValueError("alignments has more rows than memory can hold") from None
    if scores.ndim == 3 and count != len(scores):
        raise ValueError(f"alignments has {count} rows; allowed: {len(scores)}, as in log_probs")
    result = np.empty(count)
    for n, alignment in enumerate(alignments):
        path = as_classes(f"alignments[{n}]", alignment, scores.shape[-1])
        if scores.ndim > 1 and len(path) > scores.shape[-2]:
            raise ValueError(
                f"alignments[{n}] has {len(path)} frames; allowed: {scores.shape[-2]} or less, as in log_probs"
            )
        rows = scores[n] if scores.ndim == 3 else scores
        chosen: NDArray[Any] = rows[path] if scores.ndim == 1 else rows[np.arange(len(path)), path]
        result[n] = _exact_sum(chosen.astype(np.float64))
    return result


def _exact_sum(values: NDArray[np.float64]) -> float:
    """Return the sum, rounded once, or that of NumPy if it is not finite."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(values.sum())
