"""Greedy decoding of transducers whose predictor and joiner are functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_lengths, as_real, check_output
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import as_integer, no_class
from .alignment import spans_of_frames
from .durations import as_durations

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_SYMBOLS = 10_000  # bounds the calls of a model that never chooses the blank
_MOST_CLASSES = 2**31 - 1

Predictor = Callable[[Integers, list[Any]], Any]
Joiner = Callable[[NDArray[Any], NDArray[Any]], Any]


class RNNTDecoding(NamedTuple):
    """Result of `rnnt_greedy_decode`; without B for a single sequence.

    Attributes
    ----------
    labels : ndarray of int64 [B, U]
        Labels, -1 in the padding.
    label_lengths : ndarray of int64 [B], or int for one sequence
        Number of labels.
    frames : ndarray of int64 [B, U]
        Frame at which each label was emitted, -1 in the padding.
    log_prob : ndarray of float64 [B], or float for one sequence
        Log-probability of the choices, in nats.
    label_log_probs : ndarray of float64 [B, U]
        Log-probability of each label at its frame, in nats, without that of its duration; 0 in the
        padding.
    """

    labels: Integers
    label_lengths: Integers | Any
    frames: Integers
    log_prob: Any
    label_log_probs: Floats

    def __repr__(self) -> str:
        return outline(self)

    @property
    def confidences(self) -> Floats:
        """Confidence of each label [B, U], 0 to 1: its probability at its frame; 0 in the padding."""
        with np.errstate(under="ignore"):
            return np.where(self.frames >= 0, np.exp(self.label_log_probs), 0.0)

    def spans(self) -> list[Any]:
        """Return the frame of each label.

        Returns
        -------
        list of TokenSpan, or list of list of TokenSpan
            A span of one frame for each label, in order; labels may share a frame. One list for a
            single sequence, a list for each sequence of a batch.

        Examples
        --------
        >>> import numpy as np
        >>> import fastseqloss as fsl
        >>> decoded = fsl.rnnt_greedy_decode(
        ...     np.log([[0.7, 0.3], [0.1, 0.9]]),
        ...     predict=lambda labels, states: (-3.0 * np.eye(2)[labels] * labels[:, None], states),
        ...     join=lambda encoded, predictions: encoded + predictions,
        ... )
        >>> [span] = decoded.spans()
        >>> span.label, span.start, span.end, round(span.log_prob, 4)
        (1, 1, 2, -0.1054)
        """
        if self.frames.ndim == 1:
            return spans_of_frames(self.labels, self.frames, self.label_log_probs)
        rows = zip(self.labels, self.frames, self.label_log_probs, strict=True)
        return [spans_of_frames(*row) for row in rows]


@known_keywords
def rnnt_greedy_decode(
    encoded: ArrayLike,
    predict: Predictor,
    join: Joiner,
    logit_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    durations: ArrayLike | None = None,
    max_symbols: int = 10,
) -> RNNTDecoding:
    r"""Decode a transducer greedily: take the best class at each node of the lattice.

    A label advances the predictor and stays at its frame; the blank advances to the next frame
    [1]_:

    .. math::
        k = \arg\max_v z_{t,u,v}, \qquad
        (t, u) \to \begin{cases} (t + 1, u) & k \text{ is the blank} \\ (t, u + 1) & \text{else} \end{cases}

    All sequences are decoded at the same time: every call of `predict` and `join` has one row for
    each sequence that needs it.

    Parameters
    ----------
    encoded : array_like [B, T, D], or [T, D] for one sequence
        Output of the encoder, of any real dtype. Padding (frames from a sequence's length on) is not
        passed on.
    predict : callable
        The predictor, ``predict(labels, states) -> (predictions, states)``: the last label of n
        sequences, an array of int64 [n], and a list of their n states become an array of predictions
        [n, ...] and a list of n new states. A state is any object. Each sequence begins with the
        blank and the state None.
    join : callable
        The joiner, ``join(encoded, predictions) -> logits``, of arrays [n, D] and [n, ...] to [n, V].
        With `durations`, the tuple ``(logits, duration_logits)``.
    logit_lengths : array_like of int [B], optional
        Frames of each sequence; T by default. An int for one sequence.
    blank : int
        Class of the blank, 0 or more; it is needed before the number of classes is known, so negative
        values are not accepted.
    durations : array_like of int [D], optional
        The durations of a token-and-duration transducer, as for `tdt_loss`: the best duration is
        the number of frames to advance. For the blank, it is the best duration above 0.
    max_symbols : int
        Largest number of labels at a frame, 0 to 10000; after this number of labels, the blank is
        chosen, so that decoding ends even if a model never chooses the blank.

    Returns
    -------
    RNNTDecoding
        ``labels`` [B, U] with -1 in the padding, ``label_lengths`` [B], the frame of each label,
        ``frames`` [B, U], ``log_prob`` [B], the sum of the log-probabilities of the choices, in nats,
        and ``label_log_probs`` [B, U], those of the labels. ``confidences`` [B, U] is computed from
        these, and ``spans()`` lists them. For a single sequence [U], an int, [U], a float and [U].

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or options are not as above, or if `predict` or `join` returns
        arrays of other shapes. Exceptions of the two functions are passed on.

    See Also
    --------
    rnnt_loss, tdt_loss : losses to train the model with.
    rnnt_align : frames of known labels.

    Notes
    -----
    Among classes with equal scores, the first one is taken. A sequence with NaN or +inf among its logits has a
    ``log_prob`` of NaN and no labels.

    For a model that was trained with the modified topology, in which a label takes a frame, pass
    ``max_symbols=1``: the labels and frames are then those of this topology, and ``log_prob`` includes
    the forced blank after each label, which the topology does not have.

    Each state belongs to one sequence, so that a subset of the sequences can advance. For an LSTM of an ONNX model with
    states [layers, n, H], `predict` can join them by ``np.stack(states, 1)``, with zeros for None, and return
    ``list(np.moveaxis(new_states, 1, 0))``. For a predictor that sees the last two labels, the state is the label
    before the last.

    References
    ----------
    .. [1] A. Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711, 2012.

    Examples
    --------
    This joiner adds the scores of the frame and those of the last label; the rows of ``lm`` make a repetition less
    probable:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> am = 5.0 * np.eye(3)[[1, 0, 2, 2]]
    >>> lm = np.array([[0.0, 0, 0], [2, -9, 0], [2, 0, -9]])
    >>> decoded = fsl.rnnt_greedy_decode(
    ...     am,
    ...     predict=lambda labels, states: (lm[labels], states),
    ...     join=lambda encoded, predictions: encoded + predictions,
    ... )
    >>> decoded.labels, decoded.frames
    (array([1, 2]), array([0, 2]))
    >>> round(decoded.log_prob, 3)
    -0.45
    """
    given = as_real("encoded", encoded)
    if given.ndim not in (2, 3):
        raise ValueError(f"encoded has shape {given.shape}; allowed: [B, T, D], or [T, D] for one sequence")
    single = given.ndim == 2
    batch, n_frames = given.shape[:2] if not single else (1, len(given))
    ends = as_lengths("logit_lengths", logit_lengths, batch, n_frames, single)
    for name, function in (("predict", predict), ("join", join)):
        no_class(name, function, "a function")
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    most = as_integer("max_symbols", max_symbols)
    if not 0 <= most <= _MOST_SYMBOLS:
        raise ValueError(f"max_symbols is {most}; allowed: 0 to {_MOST_SYMBOLS}")
    steps = None if durations is None else as_durations(durations)
    _require_memory((batch, n_frames))
    search = _Search(given[None] if single else given, ends, predict, join, _as_blank(blank), steps, most)
    while search.advance():
        pass
    return search.decoding(single)


def _require_memory(shape: tuple[int, int]) -> None:
    """Raise MemoryError now, instead of after hours, unless memory has room for a label at each frame [B, T]."""
    check_output("the labels", shape, 8)
    np.empty(shape, np.int64)


def _as_blank(blank: Any) -> int:
    """Return the class of the blank, which the predictor needs before the number of classes is known."""
    number = as_integer("blank", blank)
    if not 0 <= number <= _MOST_CLASSES:
        raise ValueError(f"blank is {number}; allowed: 0 to {_MOST_CLASSES}")
    return number


class _Search:
    """Decoding of a batch: the node where each sequence is, its prediction and state, and the labels so far."""

    def __init__(
        self,
        encoded: NDArray[Any],
        ends: Integers,
        predict: Predictor,
        join: Joiner,
        blank: int,
        durations: Integers | None,
        max_symbols: int,
    ) -> None:
        batch = len(encoded)
        self.encoded, self.ends, self.blank, self.max_symbols = encoded, ends, blank, max_symbols
        self.predict, self.join, self.durations = predict, join, durations
        self.t = np.zeros(batch, np.int64)
        self.labels_at_frame = np.zeros(batch, np.int64)
        self.log_prob = np.zeros(batch)
        self.states: list[Any] = [None] * batch
        self.predictions: NDArray[Any] | None = None
        self.emitted: list[tuple[Integers, Integers, Integers]] = []  # sequences, labels, frames
        self.emitted_log_probs: list[Floats] = []
        begun = np.flatnonzero(ends)
        self._update(begun, np.full(len(begun), blank, np.int64))

    def advance(self) -> bool:
        """Move every sequence on by one arc; return False if all are at their ends."""
        rows = np.flatnonzero(self.t < self.ends)
        if not rows.size:
            return False
        assert self.predictions is not None
        logits, duration_logits = self._joined(rows)
        is_full = self.labels_at_frame[rows] >= self.max_symbols
        best, log_prob = _best(logits, is_full[:, None] & (np.arange(logits.shape[1]) != self.blank))
        is_label = best != self.blank
        steps, label_log_prob = np.where(is_label, 0, 1), log_prob
        if duration_logits is not None:
            assert self.durations is not None
            which, more = _best(duration_logits, ~is_label[:, None] & (self.durations == 0))
            steps, log_prob = self.durations[which], log_prob + more
        self.log_prob[rows] += log_prob
        is_bad = np.isnan(log_prob)
        steps, is_label = np.where(is_bad, self.ends[rows], steps), is_label & ~is_bad
        labels, emitting = best[is_label], rows[is_label]
        self.emitted.append((emitting, labels, self.t[emitting]))
        self.emitted_log_probs.append(label_log_prob[is_label])
        self.labels_at_frame[rows] = np.where(steps > 0, 0, self.labels_at_frame[rows] + is_label)
        self.t[rows] += np.minimum(steps, self.ends[rows] - self.t[rows])
        goes_on = self.t[emitting] < self.ends[emitting]
        self._update(emitting[goes_on], labels[goes_on])
        return True

    def _joined(self, rows: Integers) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the logits of the nodes of these sequences, and those of the durations."""
        assert self.predictions is not None
        joined = self.join(self.encoded[rows, self.t[rows]], self.predictions[rows])
        if self.durations is None:
            return _checked("logits", joined, len(rows), self.blank + 1), None
        if not isinstance(joined, tuple) or len(joined) != 2:
            raise TypeError(
                f"join returned {_kind(joined)}; allowed: a tuple (logits, duration_logits), as durations is given"
            )
        logits = _checked("logits", joined[0], len(rows), self.blank + 1)
        duration_logits = _checked("duration_logits", joined[1], len(rows), len(self.durations))
        if duration_logits.shape[1] != len(self.durations):
            raise ValueError(
                f"join returned duration_logits of shape {duration_logits.shape}; allowed: "
                f"({len(rows)}, {len(self.durations)})"
            )
        return logits, duration_logits

    def _update(self, rows: Integers, labels: Integers) -> None:
        """Advance the predictor of these sequences by a label each."""
        if not rows.size:
            return
        updated = self.predict(labels, [self.states[b] for b in rows])
        if not isinstance(updated, tuple) or len(updated) != 2:
            raise TypeError(f"predict returned {_kind(updated)}; allowed: a tuple (predictions, states)")
        predictions, states = as_array("predictions that predict returned", updated[0]), updated[1]
        inner = predictions.shape[1:] if self.predictions is None else self.predictions.shape[1:]
        if predictions.shape != (len(rows), *inner):
            allowed = ", ".join(map(str, (len(rows), *inner))) if inner else f"{len(rows)}, ..."
            raise ValueError(f"predict returned predictions of shape {predictions.shape}; allowed: ({allowed})")
        if not np.iterable(states):
            raise TypeError(f"predict returned states of type {type(states).__name__}; allowed: one for each sequence")
        states = list(states)
        if len(states) != len(rows):
            raise ValueError(f"predict returned {len(states)} states; allowed: {len(rows)}, one for each sequence")
        if self.predictions is None:
            self.predictions = np.empty((len(self.encoded), *inner), predictions.dtype)
        self.predictions = self.predictions.astype(np.result_type(self.predictions, predictions), copy=False)
        self.predictions[rows] = predictions
        for b, state in zip(rows, states, strict=True):
            self.states[b] = state

    def decoding(self, single: bool) -> RNNTDecoding:
        """Return the labels of all sequences, padded; none for those with NaN."""
        batch = len(self.encoded)
        emitting, labels, frames = (
            np.concatenate([np.empty(0, np.int64), *(part[k] for part in self.emitted)]) for k in range(3)
        )
        log_probs = np.concatenate([np.empty(0), *self.emitted_log_probs])
        kept = ~np.isnan(self.log_prob)[emitting]
        emitting, labels, frames, log_probs = emitting[kept], labels[kept], frames[kept], log_probs[kept]
        lengths = np.bincount(emitting, minlength=batch)
        order = np.argsort(emitting, kind="stable")
        position = np.arange(len(emitting)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        padded = np.full((2, batch, int(lengths.max(initial=0))), -1, np.int64)
        padded[:, emitting[order], position] = labels[order], frames[order]
        of_labels = np.zeros(padded.shape[1:])
        of_labels[emitting[order], position] = log_probs[order]
        if single:
            return RNNTDecoding(padded[0, 0], int(lengths[0]), padded[1, 0], float(self.log_prob[0]), of_labels[0])
        return RNNTDecoding(padded[0], lengths, padded[1], self.log_prob, of_labels)


def _kind(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"an object of type {type(value).__name__}"


def _checked(name: str, value: Any, rows: int, least: int) -> NDArray[Any]:
    """Return logits [rows, V] with V of at least `least`, which the joiner returned."""
    if value is None:
        raise TypeError(f"join returned None; allowed: {name} of shape ({rows}, V)")
    logits = as_real(f"{name} that join returned", value)
    if logits.ndim != 2 or len(logits) != rows or logits.shape[1] < least:
        raise ValueError(f"join returned {name} of shape {logits.shape}; allowed: ({rows}, V) with V = {least} or more")
    return logits


def _best(logits: NDArray[Any], excluded: NDArray[np.bool_]) -> tuple[Integers, Floats]:
    """Return the best class of each row that is not excluded, and its log-probability among all; NaN for bad rows."""
    x = logits.astype(np.float64)
    bad = ~(x < np.inf).all(axis=1)
    with np.errstate(all="ignore"):
        most = x.max(axis=1)
        most[most == -np.inf] = 0.0
        log_probs = x - (most + np.log(np.exp(x - most[:, None]).sum(axis=1)))[:, None]
    log_probs[x == -np.inf] = -np.inf
    best = np.where(excluded, -np.inf, log_probs).argmax(axis=1)
    # If no class has a probability, argmax is the first one, which may be excluded.
    best = np.where(excluded[np.arange(len(x)), best], (~excluded).argmax(axis=1), best)
    picked = log_probs[np.arange(len(x)), best]
    picked[bad] = np.nan
    return best, picked
