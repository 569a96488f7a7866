"""Expected risk of label sequences, such as minimum word error rate, with its gradient through CTC."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_finite, as_lengths, as_mask, as_weights, check_output, read_integers
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.labels import read_label_array
from .._core.options import InputKind, as_index, as_input_kind, as_number
from .._core.reduction import check_reduction, finish_sequences, sequence_scale
from .._core.risk import RISK_REDUCTIONS, expected_risk
from .._core.scores import Scores, as_scores
from .._core.steps import shown
from .._core.threads import check_num_threads, schedule
from .._core.types import Input, Loss, LossAndGradient, RiskReduction
from .._kernels import arguments
from .loss import COSTS, run_lattices

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_NUMBERS = 1 << 17  # scores of classes at frames of several sequences whose lattices are computed together
_MOST_SLOPES = 1 << 21  # slopes, of the candidates of one sequence
_LARGEST = np.finfo(np.float64).max


@known_keywords
def ctc_risk_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    risks: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    blank: int = 0,
    input: Input = "logits",
    sharpness: float = 1.0,
    reduction: RiskReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Expected risk over candidate label sequences by CTC (minimum word error rate), and its gradient.

    .. math::
        L_b = \sum_n Q_{b,n} R_{b,n}, \quad
        Q_{b,n} = \frac{P(l_{b,n} \mid x_b)^\alpha}{\sum_k P(l_{b,k} \mid x_b)^\alpha}

    with the probabilities P of N candidates, summed over all their alignments as in `ctc_loss`, renormalised over the
    candidates, and their risks R, such as numbers of word errors [1]_ [2]_. The gradient with respect to logits is
    :math:`\sum_n \alpha\, Q_{b,n} (R_{b,n} - L_b)\, \gamma_{b,n,t,v}` with the posteriors :math:`\gamma` of
    `ctc_posteriors`, summed by class. The softmax cancels, because the weights of the posteriors add up to 0.

    Parameters
    ----------
    logits, logit_lengths, blank, input
        As for `ctc_loss`.
    labels : array_like of int [B, N, S], or [N, S] for one sequence
        Labels of N candidates for each sequence, such as those of `ctc_beam_search`, with any values in the padding.
    risks : array_like [B, N], or [N] for one sequence
        Cost of each candidate, such as an edit distance from the correct text; finite. Constants.
    label_lengths : array_like of int [B, N], or [N] for one sequence, optional
        Number of labels of each candidate; S by default.
    mask : array_like of bool, or of 0 and 1, shape of `risks`, optional
        Candidates that count; all by default. Other candidates, such as places of a beam that a search did not fill,
        are never read.
    sharpness : float
        Exponent :math:`\alpha`, above 0; with a small exponent, the weights of the candidates differ less.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum over sequences by B; "none" gives the risk of every sequence.
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
        Threads to use, at most two per candidate; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The expected risk.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of the losses, with "none"); exactly 0 in the
        padding. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, risks or options are not as above, or if a sequence has several candidates
        without labels and `mask` is not given. The message names the argument, the position, the value and what is
        allowed. In that case, nothing has been written.

    See Also
    --------
    ctc_beam_search : the most probable label sequences.
    expected_risk_loss : the same for log-probabilities of candidates that another model computed.

    Notes
    -----
    A candidate of probability 0, such as one with too many labels for its frames, does not affect the loss and the
    gradient. A sequence whose candidates do not count, or all have probability 0, has loss 0 and gradient 0. NaN or
    +inf among the scores of a valid step makes loss and gradient of the sequence NaN, as does a negative probability;
    for log-probabilities and probabilities only the classes that occur matter. Gradients with respect to probabilities
    below 2.3e-308 lose digits.

    Subtracting a constant from the risks of a sequence, such as their mean, subtracts it from the loss and does not
    change the gradient.

    The lattices of all candidates read the classes that occur in any of them. The memory needed in addition to the
    gradient does not grow with the number of candidates. The result has the same bits with any number of threads and in
    any batch.

    References
    ----------
    .. [1] A. Graves, N. Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", ICML 2014.
    .. [2] R. Prabhavalkar et al., "Minimum word error rate training for attention-based sequence-to-sequence models",
       ICASSP 2018.

    Examples
    --------
    Two candidates are equally likely, and the second one is wrong. At each of the two frames, label 1 occurs in two of
    its three alignments:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.ctc_risk_loss(np.zeros((2, 3)), [[1], [2]], [0, 1], return_grad=True)
    >>> loss
    0.5
    >>> grad.round(4)
    array([[ 0.    , -0.1667,  0.1667],
           [ 0.    , -0.1667,  0.1667]])

    A beam search finds three label sequences for three frames, and two for two frames. One label is correct, and the
    risk is the distance of the number of labels from 1:

    >>> probs = np.array([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]], [[0.6, 0.4], [0.6, 0.4], [0, 0]]])
    >>> beams = fsl.ctc_beam_search(probs, [3, 2], input="probs", n_best=3)
    >>> risks = np.abs(beams.label_lengths - 1)
    >>> found = beams.log_prob != -np.inf
    >>> options = {"input": "probs", "mask": found, "reduction": "none"}
    >>> fsl.ctc_risk_loss(probs, beams.labels, risks, [3, 2], beams.label_lengths, **options).round(4)
    array([0.252, 0.36 ])
    """
    normalizer = check_reduction(reduction, RISK_REDUCTIONS, normalizer)
    check_num_threads(num_threads)
    alpha = as_number("sharpness", sharpness, 0.0, np.inf, open_ends=True)
    kind = as_input_kind(input)
    scores = as_scores("logits", logits)
    batch, n_frames, n_classes = scores.values.shape
    blank = as_index("blank", blank, n_classes)
    frames = as_lengths("logit_lengths", logit_lengths, batch, n_frames, scores.single)
    candidates = _as_candidates(labels, label_lengths, mask, scores, blank)
    shape = candidates.counts.shape[1:] if scores.single else candidates.counts.shape
    costs = as_finite("risks", risks, shape, candidates.counts).reshape(candidates.counts.shape)
    weight = as_weights("sample_weight", sample_weight, batch)
    scale = sequence_scale(reduction, np.ones(batch), normalizer, weight, batch)
    gradient = as_gradient(scores, return_grad, grad_out)
    classes = _classes(candidates, n_classes, blank)
    with np.errstate(all="ignore"):
        risk = _Risk(scores, frames, kind, candidates, classes, costs, alpha, scale, num_threads)
        losses = risk.run(gradient.values)
    reduced = finish_sequences(reduction, losses, scale, single=scores.single)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()


class _Candidates(NamedTuple):
    """Checked label sequences, N for each of B sequences."""

    labels: Integers  # [B, N, S], with anything in the padding
    lengths: Integers  # [B, N], 0 for candidates that do not count
    frames_needed: Integers  # [B, N], numbers of labels plus one frame between each two equal neighbours
    counts: NDArray[np.bool_]  # [B, N]


def _as_candidates(labels: Any, label_lengths: Any, mask: Any, scores: Scores, blank: int) -> _Candidates:
    batch, _, n_classes = scores.values.shape
    read = read_label_array(labels)
    given = read.values.shape
    if len(given) != 3 - scores.single or given[:-2] not in ((), (batch,)):
        allowed = "[N, S] for one sequence" if scores.single else f"[B, N, S] with B = {batch}"
        raise ValueError(f"labels has shape {given}; allowed: {allowed}, N candidates of S labels")
    n, width = given[-2:]
    counts = np.ones(given[:-1], np.bool_) if mask is None else as_mask("mask", mask, given[:-1])
    lengths = _as_label_lengths(label_lengths, counts, width)
    needed = np.empty(batch * n, np.int64)
    starts = np.arange(batch * n) * width
    bad = arguments.find_bad_label(read.values.reshape(-1), starts, lengths.reshape(-1), n_classes, blank, needed)
    if bad is not None:
        where = shown("labels", read.exact, bad[0] * width + bad[1])
        advice = "" if label_lengths is not None else "; if it is padding, pass label_lengths"
        raise ValueError(f"{where}; allowed: 0 to {n_classes - 1}, except {blank}, which is the blank{advice}")
    shape = batch, n
    lengths, counts = lengths.reshape(shape), counts.reshape(shape)
    if mask is None:
        _check_empty(lengths, scores.single)
    return _Candidates(read.values.reshape(*shape, width), lengths, needed.reshape(shape), counts)


def _as_label_lengths(value: Any, counts: NDArray[np.bool_], width: int) -> Integers:
    """Return numbers of labels, in the shape of `counts`; 0 for candidates that do not count."""
    if value is None:
        return np.where(counts, width, 0)
    read = read_integers("label_lengths", value)
    if read.values.shape != counts.shape:
        raise ValueError(f"label_lengths has shape {read.values.shape}; allowed: {counts.shape}, as of the candidates")
    lengths: Integers = np.where(counts, read.values, 0)
    first = arguments.first_outside(lengths.reshape(-1), 0, width)
    if first >= 0:
        raise ValueError(f"{shown('label_lengths', read.exact, first)}; allowed: 0 to {width}")
    return lengths


def _check_empty(lengths: Integers, single: bool) -> None:
    """Raise ValueError if a sequence has several candidates without labels: a search that found fewer has such."""
    several = np.flatnonzero((lengths == 0).sum(axis=1) > 1)
    if several.size:
        b = int(several[0])
        empty = np.flatnonzero(lengths[b] == 0)
        where = "" if single else f"{b}, "
        raise ValueError(
            f"label_lengths[{where}{empty[0]}] and [{where}{empty[1]}] are 0; allowed: one candidate without labels "
            "for each sequence; if candidates are missing, pass mask, such as log_prob != -inf of the beams"
        )


class _Classes(NamedTuple):
    """The classes that occur in the candidates of each sequence, the blank first."""

    columns: Integers  # [B, K], classes
    counts: Integers  # [B], number of classes, the blank included
    labels: Integers  # [B, N, S], labels as indices of columns


def _classes(candidates: _Candidates, n_classes: int, blank: int) -> _Classes:
    """Return the classes of each sequence; labels keep their order."""
    batch = len(candidates.counts)
    inside = np.arange(candidates.labels.shape[2]) < candidates.lengths[:, :, None]
    keys = np.nonzero(inside)[0] * n_classes + candidates.labels[inside]
    every, places = np.unique(keys, return_inverse=True)
    rows, classes = np.divmod(every, n_classes)
    counts = np.bincount(rows, minlength=batch)
    order = 1 + np.arange(len(every)) - (np.cumsum(counts) - counts)[rows]
    columns = np.full((batch, 1 + int(counts.max(initial=0))), blank)
    columns[rows, order] = classes
    labels = np.zeros_like(candidates.labels)
    labels[inside] = order[places]
    return _Classes(columns, counts + 1, labels)


@dataclass(slots=True)
class _Risk:
    """The expected risks of the sequences of a batch."""

    scores: Scores
    frames: Integers  # [B]
    kind: InputKind
    candidates: _Candidates
    classes: _Classes
    risks: Floats  # [B, N]
    sharpness: float
    scale: Floats  # [B]
    num_threads: int | None

    def run(self, gradient: NDArray[Any] | None) -> Floats:
        """Return the expected risks [B]; write gradients times `scale` to an array, which may be that of the scores."""
        losses = np.zeros(len(self.frames))
        wanted = (self.scale != 0) & self.candidates.counts.any(axis=1)
        if gradient is not None:
            for b in np.flatnonzero(~wanted):
                gradient[b] = 0
        room = _Room(gradient is not None)
        for members in self._groups(wanted):
            group = self._group(members, room)
            risk, weights = group.risks(self.risks[members], self.sharpness)
            losses[members] = risk
            if gradient is not None:
                factors, slopes = group.slopes(weights)
                for g, b in enumerate(members):
                    self._write(gradient[b], b, slopes[g], factors[g], bool(np.isnan(risk[g])))
        return losses

    def _groups(self, wanted: NDArray[np.bool_]) -> Iterator[Integers]:
        """Yield groups of sequences of similar lengths, whose lattices are computed together; or long ones alone."""
        order = np.flatnonzero(wanted)
        order = order[np.argsort(-self.frames[order], kind="stable")]
        each = self.candidates.counts.shape[1] * self.classes.columns.shape[1]
        while len(order):
            count = max(1, _MOST_NUMBERS // (each * max(int(self.frames[order[0]]), 1)))
            yield order[:count]
            order = order[count:]

    def _group(self, members: Integers, room: _Room) -> _Group:
        """Return a group with the scores of the classes that occur."""
        counts, frames = self.classes.counts[members], self.frames[members]
        n = self.candidates.counts.shape[1] if len(members) > 1 else 1
        shape = (len(members), n, int(frames.max()), int(counts.max()))
        check_output("the scores of the labels", shape, 8)
        emissions, is_nan = room.of("emissions", shape), np.zeros(len(members), np.bool_)
        for g, b in enumerate(members):
            rows = self.scores.values[b, : frames[g]]
            if self.kind == InputKind.LOGITS:
                is_nan[g] = not rows.max(initial=-np.inf) < np.inf
            own = rows[:, self.classes.columns[b, : counts[g]]].astype(np.float64, copy=False)
            if self.kind != InputKind.PROBS:  # a number added to all scores of a frame changes no share of a candidate
                own -= own.max(axis=1, keepdims=True, initial=-_LARGEST)
            emissions[g, :, : frames[g], : counts[g]] = own
        every = self.candidates
        some = _Candidates(
            self.classes.labels[members], every.lengths[members], every.frames_needed[members], every.counts[members]
        )
        kind = InputKind.PROBS if self.kind == InputKind.PROBS else InputKind.LOG_PROBS
        return _Group(emissions, is_nan, frames, some, kind, self.num_threads, room)

    def _write(self, out: NDArray[Any], b: int, slopes: Floats, factor: float, is_nan: bool) -> None:
        """Write the gradient of sequence b."""
        frames, count = self.frames[b], self.classes.counts[b]
        out[...] = 0
        if is_nan:
            out[:frames] = np.nan
            return
        own = slopes[:frames, :count]
        for number in (factor, self.sharpness, self.scale[b]):  # one after the other: products of them may overflow
            own *= number
        out[:frames, self.classes.columns[b, :count]] = own


class _Room:
    """Memory that one group uses after the other."""

    def __init__(self, with_slopes: bool) -> None:
        self.with_slopes = with_slopes
        self._arrays: dict[str, Floats] = {}

    def of(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return an array with any contents."""
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays.pop(name, None)
            self._arrays[name] = np.empty(size)
        return self._arrays[name][:size].reshape(shape)


@dataclass(slots=True)
class _Group:
    """Sequences whose lattices are computed together."""

    emissions: Floats  # [G, N, T, K], or [1, 1, T, K], which all candidates read, of one sequence
    is_nan: NDArray[np.bool_]  # [G]
    frames: Integers  # [G]
    candidates: _Candidates
    kind: InputKind
    num_threads: int | None
    room: _Room
    together: Floats | None = None  # [G, N, T, K], slopes of all candidates, if they are not too many

    def risks(self, risks: Floats, sharpness: float) -> tuple[Floats, Floats]:
        """Return the expected risks [G], and the derivatives [G, N] by the log-probabilities over 2 `sharpness`."""
        n = risks.shape[1]
        losses, slopes = self._lattices(0, n, self.room.with_slopes and self._few >= n)
        self.together = slopes
        expected = expected_risk(-losses, risks, sharpness)
        risk, share = np.where(self.is_nan, np.nan, expected.risk), expected.share
        # Relative to the most probable candidate, whose own excess is small: its digits would be lost.
        first = np.argmax(share, axis=1, keepdims=True)
        beyond = risks / 2 - np.take_along_axis(risks, first, axis=1) / 2
        half_excess = beyond - (share * beyond).sum(axis=1, keepdims=True)
        return risk, np.where(share > 0, share * half_excess, 0.0)

    def slopes(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return factors [G] and slopes [G, T, K], whose products are the derivatives by the scores over `sharpness`.

        Slopes of candidates that are too many are computed a few at a time.
        """
        # Derivatives by probabilities may be as large as can be, so the sum of the weights is below 1.
        exponents = np.frexp(np.abs(weights).sum(axis=1))[1]
        weights = np.ldexp(weights, -exponents[:, None])
        size, n, *rest = (*weights.shape, *self.emissions.shape[2:])
        total = np.zeros((size, *rest))
        for first in range(0, n, self._few):
            last = min(first + self._few, n)
            slopes = self._lattices(first, last, True)[1] if self.together is None else self.together
            assert slopes is not None
            if self.kind == InputKind.PROBS:
                np.clip(slopes, -_LARGEST, _LARGEST, out=slopes)
            for i in range(last - first):
                slopes[:, i] *= weights[:, first + i, None, None]
                total -= slopes[:, i]
        return np.ldexp(2.0, exponents), total

    @property
    def _few(self) -> int:
        """Number of candidates whose slopes are in memory at a time; all of them for several sequences."""
        n = self.candidates.counts.shape[1]
        return n if len(self.frames) > 1 else max(1, _MOST_SLOPES // max(self.emissions.size, 1))

    def _lattices(self, first: int, last: int, with_slopes: bool) -> tuple[Floats, Floats | None]:
        """Return losses [G, N], inf for candidates that do not count, and slopes [G, N, T, K]."""
        some = (slice(None), slice(first, last))
        lengths, labels = self.candidates.lengths[some], self.candidates.labels[some]
        shape, each = lengths.shape, self.emissions.shape[2:]
        frames = np.broadcast_to(self.frames[:, None], shape)
        # More frames than there are: the kernel leaves these out.
        needed = np.where(self.candidates.counts[some], self.candidates.frames_needed[some], frames + 1)
        starts = np.arange(lengths.size) * labels.shape[2]
        table = np.concatenate([numbers.reshape(-1) for numbers in (frames, starts, lengths, needed, labels)])
        scores = np.broadcast_to(self.emissions, (*shape, *each)) if shape[0] == 1 else self.emissions
        slopes = self.room.of("slopes", (lengths.size, *each)) if with_slopes else None
        per_class, per_frame, per_label = COSTS
        work = frames * (per_frame + per_class * each[1] + per_label * lengths)
        order, threads = schedule(work.reshape(-1), self.num_threads, 2 * lengths.size)
        losses = run_lattices(scores.reshape(lengths.size, *each), table, self.kind, 0, threads, order, slopes)
        return losses.reshape(shape), None if slopes is None else slopes.reshape(*shape, *each)
