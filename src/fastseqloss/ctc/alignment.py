"""The best path through a CTC lattice: forced alignment, greedy decoding, alignments by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_lengths, as_real
from .._core.levels import load
from .._core.options import as_index, as_number, choice
from .._core.scores import as_scores
from .._core.threads import schedule
from .arguments import as_classes, as_labels, as_log_prior, as_star, require_feasible

if TYPE_CHECKING:
    from .._kernels.ctc import alignment as _kernel
else:
    _kernel = load("ctc.alignment")


_INPUTS = ("logits", "log_probs", "probs")


_INFEASIBLE = ("inf", "zero", "raise")


Input = Literal["logits", "log_probs", "probs"]


Infeasible = Literal["inf", "zero", "raise"]


Integers = NDArray[np.int64]


Floats = NDArray[np.float64]


class TokenSpan(NamedTuple):
    """The frames of one label.

    Attributes
    ----------
    label : int
        The class.
    start, end : int
        Its frames: the first one, and the one after the last.
    log_prob : float
        Sum, in nats, of the log-probabilities of the label at those frames.
    """

    label: int
    start: int
    end: int
    log_prob: float

    @property
    def mean_log_prob(self) -> float:
        """Log-probability per frame; its exponential, from 0 to 1, is a usual confidence."""
        return self.log_prob / (self.end - self.start)


class CTCAlignment(NamedTuple):
    """The best path of each sequence, as `ctc_align` finds it; without B for a single sequence.

    Attributes
    ----------
    path : ndarray of int64 [B, T]
        Class of each frame; -1 in the padding and where a sequence has no path.
    token_index : ndarray of int64 [B, T]
        Position of that label among the labels; -1 at blanks, in the padding, without a path.
    log_prob : ndarray of float64 [B], or float for one sequence
        Log-probability of the path, in nats.
    frame_log_probs : ndarray of float64 [B, T]
        Log-probability of the class at each frame; 0 in the padding and without a path.
    """

    path: Integers
    token_index: Integers
    log_prob: float | Floats
    frame_log_probs: Floats

    def spans(self) -> list[list[TokenSpan]]:
        """Return the frames of each label, one list for each sequence, also of a single one.

        Returns
        -------
        list of list of TokenSpan
            A span for each label, in order; no spans where a sequence has no path.

        Examples
        --------
        >>> import numpy as np
        >>> import fastseqloss as fsl
        >>> probs = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]
        >>> [[span]] = fsl.ctc_align(probs, [1], input="probs").spans()
        >>> span.label, span.start, span.end, round(span.mean_log_prob, 4)
        (1, 1, 3, -0.4581)
        """
        rows = zip(
            np.atleast_2d(self.path),
            np.atleast_2d(self.token_index),
            np.atleast_2d(self.frame_log_probs),
            strict=True,
        )
        return [_spans(*row) for row in rows]


def _spans(path: Integers, tokens: Integers, log_probs: Floats) -> list[TokenSpan]:
    changes = np.flatnonzero(tokens[1:] != tokens[:-1]) + 1
    starts = np.concatenate([[0], changes])[: len(tokens)].astype(np.int64)
    ends = np.append(starts[1:], len(tokens))
    is_label = tokens[starts] >= 0
    totals = np.add.reduceat(log_probs, starts) if len(starts) else log_probs
    columns = (path[starts], starts, ends, totals)
    return [TokenSpan(*span) for span in zip(*(c[is_label].tolist() for c in columns), strict=True)]


def ctc_align(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    star: int | None = None,
    star_log_prob: float = 0.0,
    label_prior: ArrayLike | None = None,
    prior_scale: float = 1.0,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> CTCAlignment:
    r"""Forced alignment: the most probable path that spells the labels.

    .. math:: \pi_b^* = \arg\max_{\pi \in \mathcal{B}^{-1}(l_b)}
              \sum_{t=1}^{T_b} \left(\log p_{b,t,\pi_t} - \alpha \log q_{\pi_t}\right)

    by the Viterbi algorithm [1]_, in float64, where q are the priors of `label_prior`, if given, and
    :math:`\alpha` is `prior_scale`.

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input
        As of `ctc_loss`.
    star : int, optional
        A label, other than all classes (-1, say), that matches anything: put it among the labels
        where something is said that is not transcribed. Like any label it takes one frame or more,
        and two in a row need a blank between them.
    star_log_prob : float
        Log-probability of the star at any frame, 0 or less. 0 counts all classes together; the star
        then takes every frame that no label needs. Below 0 labels and blanks get the frames that
        they fit better.
    label_prior : array_like [V], optional
        Log-priors of the classes, to be subtracted from their log-probabilities when paths are
        compared. The logarithm of the mean probabilities of a model makes blanks less and labels
        more attractive, which sharpens the boundaries of models that mostly emit blanks [2]_.
    prior_scale : float
        Factor of the log-priors, 0 or more.
    infeasible : {"inf", "zero", "raise"}
        What a sequence gives that is too short for its labels (equal neighbours need a blank
        between them): a log-probability of -inf, of 0, or ValueError. "inf" and "zero" also say
        what a sequence gives whose every path has probability 0, or a log-probability beyond the
        range of float64. It has no path then.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    CTCAlignment
        ``path`` [B, T], the class of each frame; ``token_index`` [B, T], which of the labels that
        is; ``log_prob`` [B] and ``frame_log_probs`` [B, T], log-probabilities in nats by the model
        alone, priors left out. ``spans()`` lists the frames of each label. Without B for a single
        sequence, whose ``log_prob`` is a float.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels or options are not as above, naming the argument, the
        position, the value and what is allowed. If ``infeasible="raise"`` and sequences are too
        short for their labels, naming them.

    See Also
    --------
    ctc_posteriors : probabilities of all alignments at once.
    ctc_greedy_decode : the most probable path of all, whatever it spells.

    Notes
    -----
    Of several paths that are equally good in float64, the one is taken that moves on latest. It
    starts at the blank if it can; at each frame, from the first on, it stays in its state if it can,
    else goes on to the blank, else to the next label. (Number the states blank, first label, blank,
    second label, and so on: of the best paths this one is lexicographically first.) It depends on
    nothing else, neither threads nor batch mates.

    Sequences with NaN or +inf among the scores (for log-probabilities and probabilities: of a class
    that occurs) or with negative probabilities have a ``log_prob`` of NaN and no path.

    No backpointers are kept, and scores at checkpoints only: about 90 MB for an hour of speech,
    180000 frames and 20000 labels. States that no best path can come through are left out, so what
    a model is sure of is aligned faster. Replaces ``torchaudio.functional.forced_align`` and
    ``merge_tokens``.

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
    >>> [(span.label, span.start, span.end) for span in aligned.spans()[0]]
    [(1, 1, 3), (2, 3, 4)]

    Something comes before label 2 that nobody wrote down:

    >>> fsl.ctc_align(probs, [-1, 2], input="probs", star=-1).path
    array([-1, -1, -1,  2])
    """
    kind = choice("input", input, _INPUTS)
    policy = choice("infeasible", infeasible, _INFEASIBLE)
    scores = as_scores("logits", logits)
    values = scores.values
    batch, n_frames, n_classes = values.shape
    blank = as_index("blank", blank, n_classes)
    star = as_star(star, n_classes)
    star_log_prob = as_number("star_log_prob", star_log_prob, -np.inf, 0.0)
    prior_scale = as_number("prior_scale", prior_scale, 0.0, np.inf)
    prior = as_log_prior("label_prior", label_prior, n_classes, prior_scale)
    frames = as_lengths("logit_lengths", logit_lengths, batch, n_frames, scores.single)
    targets = as_labels(
        labels,
        label_lengths,
        batch=batch,
        n_classes=n_classes,
        blank=blank,
        single=scores.single,
        star=star,
    )
    if policy == 2:
        require_feasible(frames, targets)
    # Nanoseconds, roughly: the dense pass of logits, and the lattice.
    row = n_classes * 0.5 if kind == 0 else 0.0
    threads, order = schedule(frames * (row + targets.lengths + 100.0), num_threads)
    log_prob = np.empty(batch)
    path = np.full((batch, n_frames), -1, np.int64)
    token_index = path.copy()
    frame_log_probs = np.zeros((batch, n_frames))
    if batch:
        _kernel.ctc_align[scores.type_name](
            values,
            targets.values,
            targets.starts,
            frames,
            targets.lengths,
            targets.frames_needed,
            order,
            kind,
            blank,
            prior,
            star_log_prob,
            log_prob,
            path,
            token_index,
            frame_log_probs,
            threads,
        )
    if star is not None:
        path[path == n_classes] = star
    if policy == 1:
        log_prob[log_prob == -np.inf] = 0.0
    if scores.single:
        return CTCAlignment(path[0], token_index[0], float(log_prob[0]), frame_log_probs[0])
    return CTCAlignment(path, token_index, log_prob, frame_log_probs)


def ctc_alignment_log_prob(log_probs: ArrayLike, alignments: ArrayLike | Sequence[ArrayLike]) -> Floats:
    r"""Return the log-probability of alignments that are written out.

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
        If shapes, dtypes or classes are not as above, naming the argument, the position, the value
        and what is allowed.

    See Also
    --------
    ctc_collapse : the labels that an alignment spells.

    Examples
    --------
    Two ways to write "ab" in three frames, with the same probabilities at each:

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
        raise ValueError("alignments has more rows than there is memory") from None
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
    """Return the sum, rounded once; as NumPy has it where it is no finite number."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(values.sum())
