"""Beam search of CTC scores: the most probable label sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_lengths, check_output, filled, stored
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import InputKind, as_index, as_input_kind, as_integer, as_number, flag
from .._core.scores import Scores, as_scores
from .._core.threads import schedule
from .._core.types import Input
from .._kernels.ctc import beam as _kernel
from ..text.ngram import NGram
from .alignment import Floats, Integers
from .arguments import as_lattice_of
from .confidences import best_spans
from .decoding import best_paths
from .language import as_language
from .loss import label_sums, run_lattices
from .prefix_scores import PrefixModel, PrefixScores

_WIDEST = 2**20  # prefixes of a beam
_LARGEST_LOSS = 1e4  # of logits read as log-probabilities
_LARGE_LATTICE = 4e6  # frames times labels
_LARGEST_OVER_BLANKS = 1e6  # sum of logits that the log-probability, which may be near 0, is a difference of


class CTCBeams(NamedTuple):
    """Result of `ctc_beam_search`, best label sequences first; without B for a single sequence.

    Attributes
    ----------
    labels : ndarray of int64 [B, N, S]
        Labels of the N = `n_best` best sequences, -1 in the padding.
    label_lengths : ndarray of int64 [B, N]
        Number of labels; 0 if fewer than N sequences were found.
    log_prob : ndarray of float64 [B, N]
        Log-probability of the labels by CTC alone, in nats; -inf if fewer than N sequences were
        found.
    total : ndarray of float64 [B, N]
        Sum of ``log_prob``, the language scores and the bonus, by which the results are sorted.
    score : ndarray of float64 [B, N]
        Logarithm of the probability that the search adds up, including language scores: at most
        ``total``.
    n_found : ndarray of int64 [B], or int for one sequence
        Number of label sequences found.
    frames : ndarray of int64 [B, N, S, 2], or None
        With ``align=True``, the first frame of each label on the best path, and the frame after its
        last one; -1 in the padding.
    confidences : ndarray of float64 [B, N, S], or None
        With ``align=True``, the largest posterior probability of each label at any frame; 0 in the
        padding.
    """

    labels: Integers
    label_lengths: Integers
    log_prob: Floats
    total: Floats
    score: Floats
    n_found: Integers | Any
    frames: Integers | Any
    confidences: Floats | Any

    def __repr__(self) -> str:
        return outline(self)


@dataclass(slots=True)
class _Search:
    """Checked scores, and the label sequences that the search has found for each sequence."""

    scores: Scores
    frames: Integers  # [B]
    kind: InputKind
    blank: int
    threads: int
    best: Floats  # [B], log-probability of the best path
    tables: Integers  # [B, N (4 + T)], of the lattice: N numbers of frames, starts, lengths, frames needed; labels
    score: Floats  # [B, N]
    lm: Floats  # [B, N], scores of labels in them
    table: Integers  # [3, B]: numbers of frames, order of the search, numbers of label sequences found

    @property
    def counts(self) -> Integers:
        """Numbers of label sequences found [B]."""
        counts: Integers = self.table[2]
        return counts

    @property
    def lengths(self) -> Integers:
        """Numbers of labels [B, N]."""
        n = self.score.shape[1]
        return self.tables[:, 2 * n : 3 * n]

    @property
    def labels(self) -> Integers:
        """Labels [B, N, T], with anything in the padding."""
        batch, n = self.score.shape
        return self.tables[:, 4 * n :].reshape(batch, n, self.scores.values.shape[1])


@known_keywords
def ctc_beam_search(
    logits: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    beam: int = 30,
    n_best: int = 1,
    rescore: int = 10,
    class_threshold: float | None = None,
    beam_threshold: float | None = None,
    bigram: ArrayLike | None = None,
    language_model: NGram | PrefixModel | None = None,
    lm_weight: float = 1.0,
    length_bonus: float = 0.0,
    boost: Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]] | None = None,
    lexicon: Sequence[Sequence[int]] | None = None,
    align: bool = False,
    num_threads: int | None = None,
) -> CTCBeams:
    r"""Beam search for the most probable label sequences.

    .. math:: \hat l_b = \arg\max_l \log \sum_{\pi \in \mathcal{B}^{-1}(l)} \prod_{t=1}^{T_b} p_{b,t,\pi_t}
              + \sum_{s=1}^{|l|} \left(\alpha \, g(l_{s-1}, l_s) + \beta\right) + \sum_w \gamma_w n_w(l)

    with the scores g of `bigram`, :math:`\alpha` = `lm_weight`, :math:`\beta` = `length_bonus`, and the scores
    :math:`\gamma_w` of the words of `boost`, which occur :math:`n_w` times. With `language_model` the score of a label,
    :math:`g(l_1 \dots l_{s-1}, l_s)`, depends on all labels before it. At each frame the search keeps the `beam`
    prefixes that have the largest probability, summed over the alignments whose own prefixes were kept [1]_ [2]_. This
    sum is a lower bound of the probability of a label sequence. The best sequences (`rescore` is their number) are
    therefore scored again over all their alignments, and sorted by the result.

    Parameters
    ----------
    logits, logit_lengths, blank, input
        As for `ctc_loss`.
    beam : int
        Number of prefixes to keep at each frame, 1 to 1048576.
    n_best : int
        Number of label sequences to return, 1 to `beam`.
    rescore : int
        Number of the best label sequences whose exact probability is computed; at least `n_best`
        and at most `beam` are. 0 keeps the scores of the search.
    class_threshold : float, optional
        Log-probability below which a class does not extend a prefix, unless it is the best label of
        its frame or the longer prefix is in the beam already. Saves time with many classes.
    beam_threshold : float, optional
        Largest difference, 0 or more, between the log-probability of the best prefix and that of a
        prefix that is kept.
    bigram : array_like [V + 1, V], optional
        Scores g of a label (column) after another label (row), in nats; row V holds the scores of the first label. -inf
        forbids a pair. The row and the column of the blank are not used.
    language_model : NGram or callable, optional
        Scores of the next label after any labels: an n-gram model of `read_arpa`, or a function
        ``language_model(prefixes, states) -> scores``. The function takes a list of n tuples of labels, and
        a list of the n states of the tuples without their last labels. It returns an array [n, V] of scores
        in nats, such as log-probabilities. -inf forbids a label, and the column of the blank is not used. An
        array [n, V + 1] has the score of the end of the labels in its last column. To keep states, such as
        those of a recurrent network, return the tuple ``(scores, states)`` with a list of the n states after
        the last labels. A state is any object. It is None for the empty tuple, and if no states are returned.
    lm_weight : float
        Factor of `bigram` and `language_model`, 0 or more.
    length_bonus : float
        Score of each label, -1e6 to 1e6.
    boost : list of (labels, score), or dict of score by tuple of labels, optional
        Score, -1e6 to 1e6 nats, of each occurrence of label sequences such as names. The search adds a part of it with
        each label, and subtracts these parts again if a sequence is not completed.
    lexicon : list of label sequences, optional
        Words to which the results are restricted: each result is a sequence of zero or more of
        them. Include the separator, if there is one, in the words.
    align : bool
        If True, return the frames and the confidences of the labels.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    CTCBeams
        ``labels`` [B, n_best, S] with -1 in the padding, ``label_lengths``, ``log_prob``, ``total``
        and ``score`` [B, n_best], ``n_found`` [B], and with `align` ``frames`` [B, n_best, S, 2] and
        ``confidences`` [B, n_best, S]. For a single sequence without B, and ``n_found`` is an int.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or options are not as above, or if `language_model` returns other
        shapes, NaN or +inf. The message names the argument, the position, the value and what is
        allowed. Exceptions of `language_model` are passed on.

    See Also
    --------
    ctc_greedy_decode : the best path, which is faster to find.
    ctc_loss : minus the log-probability of given labels.
    read_arpa : n-gram models.

    Notes
    -----
    Without `class_threshold` and `beam_threshold`, the choice of the prefixes is exact: only classes that cannot change
    the result are skipped. Among label sequences with equal totals, the shorter one comes first, then the one with
    smaller labels. The result does not depend on the number of threads or on the other sequences of the batch.

    A sequence with NaN or +inf among its scores, or a negative probability, has ``n_found`` 0 and
    log-probabilities of NaN. If fewer than `n_best` label sequences have a probability above 0, the
    others have log-probabilities of -inf.

    The search adds probabilities, not logarithms, in float64. A sequence with probabilities beyond
    the range of float64 is searched in logarithms, which takes longer. Memory is at most
    proportional to frames times `beam`. Rescored values of ``log_prob`` agree with minus `ctc_loss` to 1e-9 nats or
    to 2e-11 of their size, whichever is larger.

    A function `language_model` is called by the calling thread, at most once per frame, with the prefixes of all
    sequences that are new in their beams; a prefix that was dropped and is found again counts as new. The same prefix
    should always have the same scores. No bound on the scores of a function is known in advance. For each label, the
    search uses the greatest score over the prefixes of the beam as a bound, so the choice of the prefixes is still
    exact, but each frame takes time proportional to `beam` times V. The scores of all prefixes are kept, in 8 B `beam`
    (V + 1) bytes, and the search uses logarithms.

    Frames and confidences are those of `ctc_align` and `ctc_confidences`, computed in the same memory, without
    an array of posteriors.

    References
    ----------
    .. [1] A. Graves, "Supervised sequence labelling with recurrent neural networks", Springer 2012,
       section 7.5.
    .. [2] A. Hannun, A. Maas, D. Jurafsky, A. Ng, "First-pass large vocabulary continuous speech
       recognition using bi-directional recurrent DNNs", 2014, arXiv:1408.2873.

    Examples
    --------
    The best path consists of two blanks, but three paths spell label 1:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> probs = np.array([[0.6, 0.4], [0.6, 0.4]])
    >>> fsl.ctc_greedy_decode(probs, input="probs").labels
    array([], dtype=int64)
    >>> beams = fsl.ctc_beam_search(probs, input="probs", n_best=3)
    >>> beams.labels
    array([[ 1],
           [-1],
           [-1]])
    >>> np.exp(beams.log_prob).round(4), beams.n_found
    (array([0.64, 0.36, 0.  ]), 2)

    This model of the next label gives label 1 a probability of 0.2:

    >>> def language_model(prefixes, states):
    ...     return np.log(np.tile([0.8, 0.2], (len(prefixes), 1)))
    >>> beams = fsl.ctc_beam_search(probs, input="probs", n_best=2, language_model=language_model)
    >>> np.exp(beams.total).round(4), beams.label_lengths
    (array([0.36 , 0.128]), array([0, 1]))
    """
    kind = as_input_kind(input)
    scores = as_scores("logits", logits)
    batch, n_frames, n_classes = scores.values.shape
    blank = as_index("blank", blank, n_classes)
    frames = as_lengths("logit_lengths", logit_lengths, batch, n_frames, scores.single)
    beam = _count("beam", beam, 1, _WIDEST)
    n_best = _count("n_best", n_best, 1, beam)
    rescore = _count("rescore", rescore, 0, None)
    log_least = -np.inf if class_threshold is None else as_number("class_threshold", class_threshold, -np.inf, np.inf)
    furthest = np.inf if beam_threshold is None else as_number("beam_threshold", beam_threshold, 0.0, np.inf)
    language = as_language(bigram, language_model, lm_weight, length_bonus, boost, lexicon, n_classes, blank)
    align = flag("align", align)
    order, threads = schedule(frames * (200.0 + 25.0 * beam + 0.5 * n_classes), num_threads)
    n_out = min(max(rescore, n_best), beam)
    check_output("the label sequences", (batch, n_out, n_frames + 4), 8)
    is_unread = kind != InputKind.LOGITS and language.model is None
    tables = np.zeros((batch, n_out * (4 + n_frames)), np.int64)
    table = np.array((frames, order, np.zeros(batch, np.int64)))
    score = np.zeros((batch, 1 + 2 * n_out))
    score[:, 1 : 1 + n_out] = -np.inf
    if not is_unread:
        score[:, 0] = best_paths(scores, frames, kind, blank, threads)[2]
    if batch:
        model, shape = language.model, (batch, beam, n_classes)
        told = None if model is None else PrefixScores(model, language.weight, shape, blank)
        _kernel.ctc_beam_search(
            *stored(scores.values),
            table=table,
            input_kind=kind,
            blank=blank,
            beam=beam,
            class_threshold=log_least,
            beam_threshold=furthest,
            bigram=language.bigram,
            best=language.best,
            edges=language.edges,
            levels=language.levels,
            bonus=language.bonus,
            by_logarithms=language.is_wide,
            is_unread=is_unread,
            ask=None if told is None else told.ask,
            rows=None if told is None else told.rows,
            asked=None if told is None else told.asked,
            labels=tables,
            scores=score,
            num_threads=threads,
        )
    best = score[:, 0]
    found = score[:, 1 : 1 + n_out] + best[:, None]
    search = _Search(scores, frames, kind, blank, threads, best, tables, found, score[:, 1 + n_out :], table)
    return _finish(search, n_best, rescore > 0, align)


def _count(name: str, value: Any, least: int, most: int | None) -> int:
    number = as_integer(name, value)
    if number < least or (most is not None and number > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {number}; allowed: {allowed}{', the beam' if name == 'n_best' else ''}")
    return number


def _finish(search: _Search, n_best: int, rescored: bool, align: bool) -> CTCBeams:
    """Return the results, sorted by their totals."""
    lengths, n = search.lengths, search.score.shape[1]
    labels = search.labels[:, :, : int(lengths.max(initial=0))]
    is_found = np.arange(n) < search.counts[:, None]
    log_prob = np.where(is_found, _log_probs(search) if rescored else search.score - search.lm, -np.inf)
    total = log_prob + search.lm
    order = np.argsort(-total, axis=1, kind="stable")
    _order_ties(order, total, labels, lengths, search.counts)
    order = order[:, :n_best]
    rows = np.arange(len(order))[:, None]
    log_prob, total, score = (values[rows, order] for values in (log_prob, total, search.score))
    lengths = lengths[rows, order]
    labels = labels[rows, order, : int(lengths.max(initial=0))]
    labels[np.arange(labels.shape[2]) >= lengths[:, :, None]] = -1
    for values in (log_prob, total, score):
        values[np.isnan(search.best)] = np.nan
    counts = np.minimum(search.counts, n_best)
    spans, confidences = _aligned(search, labels, lengths) if align else (None, None)
    if not search.scores.single:
        return CTCBeams(labels, lengths, log_prob, total, score, counts, spans, confidences)
    first = (None, None) if spans is None or confidences is None else (spans[0], confidences[0])
    return CTCBeams(labels[0], lengths[0], log_prob[0], total[0], score[0], int(counts[0]), *first)


def _order_ties(order: Integers, total: Floats, labels: Integers, lengths: Integers, counts: Integers) -> None:
    """Put label sequences with equal totals in order: shorter ones first, then smaller labels."""
    ordered = total[np.arange(len(order))[:, None], order]
    for b in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)):
        rows = [labels[b, i, : lengths[b, i]].tolist() for i in range(counts[b])]
        order[b, : counts[b]] = sorted(range(counts[b]), key=lambda i: (-total[b, i], len(rows[i]), rows[i]))


def _log_probs(search: _Search) -> Floats:
    """Return the log-probabilities [B, N] of the label sequences by all their alignments.

    The tree of their prefixes has most of them in common. Where its masses leave the range of float64, the lattices of
    the label sequences are run one by one. Both read logits as if they were log-probabilities: only the classes that
    occur. The sum of the logarithms of the softmax's divisors is in the loss of the first label sequence, and the other
    ones differ by the lattice. For large lattices it is taken from the loss of no labels, that of the blanks, unless
    this is so large that digits would be lost.
    """
    values, shape = search.scores.values, search.score.shape
    is_logits = search.kind == InputKind.LOGITS
    log_probs = np.zeros(shape)
    if log_probs.size and values.shape[1]:
        _kernel.ctc_rescore(
            *stored(values), search.table, search.tables, search.kind, search.blank, log_probs, search.threads
        )
    unknown = np.isnan(log_probs).any(axis=1)
    for b in np.flatnonzero(unknown).tolist():
        log_probs[b] = _lattice_log_probs(search, b, is_logits)
    if not is_logits:
        return log_probs
    n = shape[1]
    columns = [search.tables[:, i].copy() for i in (2 * n, 3 * n)]
    base = log_probs[:, :1].copy()
    for b in np.flatnonzero((search.frames * columns[0] > _LARGE_LATTICE) & ~unknown).tolist():
        over_blanks = _over_blanks(search, b)
        if abs(over_blanks) < _LARGEST_OVER_BLANKS:
            base[b], columns[0][b], columns[1][b] = -over_blanks, 0, 0
    starts = np.arange(shape[0]) * values.shape[1]
    table = np.concatenate((search.frames, starts, *columns, search.labels[:, 0].ravel()))
    first = run_lattices(values, table, search.kind, search.blank, search.threads)
    with np.errstate(invalid="ignore"):
        return log_probs - base - first[:, None]


def _over_blanks(search: _Search, b: int) -> float:
    """Return the sum over frames of the greatest logit, of the classes that occur, minus that of the blank."""
    labels = [search.labels[b, i, :n] for i, n in enumerate(search.lengths[b, : search.counts[b]])]
    occurring = np.unique(np.concatenate((*labels, [search.blank])))
    scores = search.scores.values[b, : search.frames[b]]
    with np.errstate(invalid="ignore"):
        rows = np.max(scores[:, occurring], axis=1).astype(np.float64) - scores[:, search.blank]
    return float(rows.sum())


def _lattice_log_probs(search: _Search, b: int, is_logits: bool) -> Floats:
    """Return the log-probabilities of the label sequences of sequence b, those of logits but for a number in common."""
    kind = InputKind.LOG_PROBS if is_logits else search.kind
    scores, threads = search.scores.values[b, : search.frames[b]], min(search.threads, search.score.shape[1])
    losses = _shared_losses(search, b, scores, kind, threads)
    if is_logits and not abs(losses[0]) < _LARGEST_LOSS and len(scores):  # digits would be lost
        scores = scores - scores.max(axis=1).astype(np.float64)[:, None]
        losses = _shared_losses(search, b, scores, kind, threads)
    return -losses


def _shared_losses(search: _Search, b: int, scores: NDArray[Any], kind: InputKind, threads: int) -> Floats:
    """Return the losses of the label sequences of sequence b."""
    shared = np.broadcast_to(scores, (search.score.shape[1], *scores.shape))
    return run_lattices(shared, search.tables[b], kind, search.blank, threads)


def _aligned(search: _Search, labels: Integers, lengths: Integers) -> tuple[Integers, Floats]:
    """Return the frames of each label [B, N, S, 2] and its largest posterior [B, N, S]."""
    spans, confidences = filled((*labels.shape, 2), -1, np.int64), np.zeros(labels.shape)
    scores = Scores(search.scores.values, search.scores.values)
    for i in range(labels.shape[1]):
        lattice = as_lattice_of(scores, labels[:, i], search.frames, lengths[:, i], search.blank, search.kind, "inf")
        found = best_spans(lattice, search.threads)
        width = found.shape[1]
        spans[:, i, :width], confidences[:, i, :width] = found, label_sums(lattice, found, search.threads)[0]
    return spans, confidences
