"""Spans of labels in time, as alignments and decoders of every family list them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .options import as_integer, as_number


class _Span(NamedTuple):
    label: int
    start: int
    end: int
    log_prob: float
    mean_log_prob: float


class TokenSpan(_Span):
    """The frames of one label.

    Parameters
    ----------
    label : int
        The class.
    start, end : int
        First frame of the label, and the frame after its last one.
    log_prob : float
        Sum, in nats, of the log-probabilities of the label at those frames.

    Attributes
    ----------
    label, start, end, log_prob
        The arguments.
    mean_log_prob : float
        Log-probability per frame; its exponential, from 0 to 1, can be used as a confidence. It is
        the fifth element of the tuple, so it is a column of ``pandas.DataFrame(spans)``.

    Raises
    ------
    ValueError, TypeError
        If the frames are not integers of 0 or more, if the end is not above the start, or if the
        log-probability is not a number.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.TokenSpan(7, start=2, end=4, log_prob=-0.5)
    TokenSpan(label=7, start=2, end=4, log_prob=-0.5, mean_log_prob=-0.25)
    """

    __slots__ = ()

    def __new__(cls, label: int, start: int, end: int, log_prob: float) -> TokenSpan:
        """Check the arguments."""
        label, start, end = as_integer("label", label), as_integer("start", start), as_integer("end", end)
        if start < 0:
            raise ValueError(f"start is {start}; allowed: 0 or more")
        if end <= start:
            raise ValueError(f"end is {end}; allowed: above start, which is {start}")
        if isinstance(log_prob, (float, np.floating)):
            log_prob = float(log_prob)
        else:
            log_prob = as_number("log_prob", log_prob, -np.inf, np.inf)
        return _new(cls, (label, start, end, log_prob, log_prob / (end - start)))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> TokenSpan:  # type: ignore[override]
        """Return a span of the first four fields, or of all five; the mean is computed."""
        return cls(*tuple(iterable)[:4])

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self[:4]


_new = tuple.__new__
_LONGEST = 1e9  # seconds of a frame; larger limits overflow in matplotlib


def list_spans(
    labels: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], log_probs: NDArray[np.float64]
) -> list[TokenSpan]:
    """Return the spans of one sequence, whose fields are arrays [S]."""
    means = log_probs / (ends - starts)
    columns = (labels.tolist(), starts.tolist(), ends.tolist(), log_probs.tolist(), means.tolist())
    return [_new(TokenSpan, span) for span in zip(*columns, strict=True)]


def list_runs(tokens: NDArray[Any], path: NDArray[Any], log_probs: NDArray[np.float64], silent: int) -> list[TokenSpan]:
    """Return a span for each run of equal tokens [T] other than `silent`, with the class in the path [T]."""
    if not len(tokens):
        return []
    starts = np.flatnonzero(np.concatenate(([True], tokens[1:] != tokens[:-1])))
    ends = np.append(starts[1:], len(tokens))
    totals = np.add.reduceat(log_probs, starts)
    said = tokens[starts] != silent
    starts = starts[said]
    return list_spans(path[starts], starts, ends[said], totals[said])


def as_frame_seconds(value: Any) -> float:
    """Return the length of a frame."""
    seconds = as_number("frame_seconds", value, 0.0, np.inf, open_ends=True)
    if seconds > _LONGEST:
        raise ValueError(f"frame_seconds is {value}; allowed: finite, above 0, {_LONGEST:g} or less")
    return seconds


def check_spans(spans: Any) -> None:
    """Raise TypeError or ValueError unless `spans` are those of one sequence, in a list or tuple."""
    source = "ctc_align(...).spans(), or spans()[b] of a batch"
    if not isinstance(spans, (list, tuple)) or isinstance(spans, TokenSpan):
        raise TypeError(f"spans is a {type(spans).__name__}; allowed: a list of TokenSpan, {source}")
    for i, span in enumerate(spans):
        if not isinstance(span, TokenSpan):
            raise TypeError(f"spans[{i}] is a {type(span).__name__}; allowed: TokenSpan, as in {source}")
        if span.end > 2**53:
            raise ValueError(f"spans[{i}].end is {span.end}; allowed: 2**53 or less")
        if not span.log_prob < np.inf:
            raise ValueError(f"spans[{i}].log_prob is {span.log_prob}; allowed: -inf, or finite")
