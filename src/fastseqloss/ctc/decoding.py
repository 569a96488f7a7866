"""Greedy decoding of CTC scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._core.arrays import as_lengths
from .._core.levels import load
from .._core.options import InputKind, as_index, as_input_kind
from .._core.scores import Scores, as_scores
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
    """

    labels: Integers
    label_lengths: int | Integers
    log_prob: float | Floats


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

    This is the most probable path, though not always the most probable label sequence [1]_.

    Parameters
    ----------
    logits, logit_lengths, blank, input
        As of `ctc_loss`.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    GreedyDecoding
        ``labels`` [B, S'] with -1 in the padding, ``label_lengths`` [B], and the log-probability of
        each path, ``log_prob`` [B], in nats. For a single sequence [S'], an int and a float.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or options are not as above. The message names the argument, the
        position, the value and what is allowed.

    Notes
    -----
    Of classes with equal scores the first one is taken. A sequence with NaN or +inf among its
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
    labels, counts, log_prob = best_paths(scores, frames, kind, blank, threads)
    longest = int(counts.max(initial=0))
    labels[np.arange(n_frames) >= counts[:, None]] = -1
    labels = np.ascontiguousarray(labels[:, :longest])
    if scores.single:
        return GreedyDecoding(labels[0], int(counts[0]), float(log_prob[0]))
    return GreedyDecoding(labels, counts, log_prob)


def best_paths(
    scores: Scores, frames: Integers, kind: InputKind, blank: int, threads: int
) -> tuple[Integers, Integers, Floats]:
    """Return the labels [B, T] and [B] of the best path of each sequence, and its log-probability [B]."""
    batch, n_frames, _ = scores.values.shape
    labels = np.full((batch, n_frames), -1, np.int64)
    counts, log_prob = np.zeros(batch, np.int64), np.zeros(batch)
    if labels.size:
        _kernel.ctc_greedy_decode[scores.type_name](
            scores.values,
            logit_lengths=frames,
            input_kind=kind,
            blank=blank,
            labels=labels,
            label_lengths=counts,
            log_prob=log_prob,
            num_threads=threads,
        )
    return labels, counts, log_prob


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
    n_classes = int(np.iinfo(np.int64).max)
    if as_index("blank", blank, n_classes) != blank:
        raise ValueError(f"blank is {blank}; allowed: 0 or more")
    path = as_classes("alignment", alignment, n_classes)
    starts = np.ones(len(path), np.bool_)
    starts[1:] = path[1:] != path[:-1]
    labels: Integers = path[starts & (path != blank)]
    return labels
