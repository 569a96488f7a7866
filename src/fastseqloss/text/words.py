"""Words with times and confidences, from spans of labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_doubles, as_real, read_integers
from .._core.keywords import known_keywords
from .._core.options import as_integer
from .._core.spans import TokenSpan, as_frame_seconds, check_spans
from .vocabulary import Vocabulary


class WordSpan(NamedTuple):
    """A word, with its frames and the confidences of its labels.

    Attributes
    ----------
    text : str
        The word; "" without a vocabulary.
    start, end : int
        First frame of the label, and the frame after its last one.
    start_seconds, end_seconds : float
        The same in seconds; NaN if the duration of a frame was not given.
    mean_confidence, least_confidence : float
        Mean and minimum of the confidences of its labels.
    span_start, span_end : int
        Its labels are those of ``spans[span_start:span_end]``.
    """

    text: str
    start: int
    end: int
    start_seconds: float
    end_seconds: float
    mean_confidence: float
    least_confidence: float
    span_start: int
    span_end: int


_DTYPES = (np.str_, np.int64, np.int64, np.float64, np.float64, np.float64, np.float64, np.int64, np.int64)


class Words(list[WordSpan]):
    """A list of words, `WordSpan`, as `words_from_spans` finds them.

    It is an ordinary list; ``Words(word for word in words if ...)`` selects words.
    """

    def __repr__(self) -> str:
        where = f", frames {self[0].start} to {self[-1].end}" if self else ""
        return f"Words({len(self)} {'word' if len(self) == 1 else 'words'}{where})"

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return an array [W] for each field of `WordSpan`, for W words.

        ``pandas.DataFrame``, ``polars.DataFrame`` and ``pyarrow.table`` take the result.

        Returns
        -------
        dict of str and ndarray

        Examples
        --------
        >>> import fastseqloss as fsl
        >>> spans = [fsl.TokenSpan(1, 0, 2, -0.1), fsl.TokenSpan(2, 2, 5, -0.9)]
        >>> fsl.words_from_spans(spans, word_lengths=[1, 1]).to_dict()["end"]
        array([2, 5])
        """
        columns = zip(*self, strict=True) if self else [()] * len(_DTYPES)
        named = zip(WordSpan._fields, columns, _DTYPES, strict=True)
        return {name: np.array(column, dtype) for name, column, dtype in named}


@known_keywords
def words_from_spans(
    spans: Sequence[TokenSpan],
    vocabulary: Vocabulary | None = None,
    *,
    separator: int | None = None,
    word_lengths: ArrayLike | None = None,
    confidences: ArrayLike | None = None,
    frame_seconds: float | None = None,
) -> Words:
    r"""Group spans of labels into words, with times and confidences.

    The confidence of a label, unless given, is the geometric mean of its probabilities at its
    frames, and that of a word the mean, or the minimum, over its labels:

    .. math:: c_i = \exp(\mathrm{mean\_log\_prob}_i), \qquad
              \frac{1}{n}\sum_{i=1}^{n} c_i, \qquad \min_i c_i

    Parameters
    ----------
    spans : list or tuple of TokenSpan
        Spans of one sequence, in the order of time: ``ctc_greedy_decode(...).spans()``, or
        ``spans()[b]`` of a batch. Those of a transducer may share a frame.
    vocabulary : Vocabulary, optional
        Tokens of the labels, for the texts of the words. Its separator, or its mark of word
        boundaries, determines where words end, unless `separator` or `word_lengths` does.
    separator : int, optional
        Class between two words; its frames do not belong to any word.
    word_lengths : array_like of int [W], optional
        Number of labels of each word, 1 or more; they add up to the number of spans.
    confidences : array_like [S], optional
        Confidence of each label, finite and not negative, in place of that of its span.
    frame_seconds : float, optional
        Duration of a frame, for times in seconds: 1 divided by the number of frames per second.

    Returns
    -------
    Words
        A list of `WordSpan`; ``to_dict()`` returns an array for each of their fields. Words without
        text or labels, such as those between two separators, are left out.

    Raises
    ------
    ValueError, TypeError
        If arguments are not as above, a label is not in the vocabulary, or no argument determines where
        words end. The message names the argument, the position, the value and what is allowed.

    See Also
    --------
    ctc_align, ctc_greedy_decode, rnnt_align, rnnt_greedy_decode : their results have spans.
    merge_tokens : the spans of a path from elsewhere.

    Notes
    -----
    A word begins at the first frame of its first label and ends with the last frame of its last label. Models trained
    with CTC often emit a label at a single frame, so the ends of words are often early.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> vocabulary = fsl.Vocabulary("-aby|", separator="|")
    >>> path = [2, 2, 0, 3, 4, 4, 1, 0]
    >>> spans = fsl.ctc_greedy_decode(0.6 * np.eye(5)[path] + 0.08, input="probs").spans()
    >>> for word in fsl.words_from_spans(spans, vocabulary, frame_seconds=0.02):
    ...     print(word.text, word.start, word.end, word.end_seconds, round(word.mean_confidence, 2))
    by 0 4 0.08 0.68
    a 6 7 0.14 0.68
    """
    check_spans(spans)
    for i, (before, span) in enumerate(pairwise(spans), 1):
        if span.start < before.start:
            raise ValueError(f"spans[{i}].start is {span.start}; allowed: {before.start}, of the span before, or more")
    labels = [span.label for span in spans]
    if vocabulary is not None:
        _check_labels(labels, vocabulary)
    groups = _group(labels, vocabulary, separator, word_lengths)
    certain = _as_confidences(confidences, spans)
    unit = np.nan if frame_seconds is None else as_frame_seconds(frame_seconds)
    words = Words()
    for first, last in groups:
        text = "" if vocabulary is None else vocabulary._text(labels[first:last])
        start, end, own = spans[first].start, spans[last - 1].end, certain[first:last]
        times = start * unit, end * unit
        words.append(WordSpan(text, start, end, *times, float(own.mean()), float(own.min()), first, last))
    return words


def _check_labels(labels: list[int], vocabulary: Any) -> None:
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"vocabulary is a {type(vocabulary).__name__}; allowed: Vocabulary, or None")
    n_classes, blank = len(vocabulary), vocabulary.blank
    for i, label in enumerate(labels):
        if not 0 <= label < n_classes or label == blank:
            raise ValueError(
                f"spans[{i}].label is {label}; allowed: 0 to {n_classes - 1}, as in vocabulary, except {blank}, which "
                "is the blank; leave out the spans of a star"
            )


def _group(
    labels: list[int], vocabulary: Vocabulary | None, separator: Any, word_lengths: Any
) -> list[tuple[int, int]]:
    """Return the first label of each word, and the one after its last."""
    if word_lengths is not None:
        if separator is not None:
            raise ValueError("separator and word_lengths are both given; allowed: one of them")
        ends = _as_word_lengths(word_lengths, len(labels)).cumsum().tolist()
        return list(pairwise([0, *ends]))
    if separator is not None:
        silent = as_integer("separator", separator)
        edges = [-1, *(i for i, label in enumerate(labels) if label == silent), len(labels)]
        return [(before + 1, edge) for before, edge in pairwise(edges) if edge > before + 1]
    if vocabulary is None or not vocabulary._has_words:
        raise ValueError(
            "separator and word_lengths are None; allowed: one of them, or a vocabulary with a separator or a mark"
        )
    return vocabulary._words(labels)


def _as_word_lengths(value: Any, n_labels: int) -> NDArray[np.int64]:
    read = read_integers("word_lengths", value)
    lengths = read.values
    if lengths.ndim != 1:
        raise ValueError(f"word_lengths has shape {lengths.shape}; allowed: [W]")
    bad = np.flatnonzero((lengths < 1) | (lengths > n_labels))
    if bad.size:
        allowed = f"1 to {n_labels}, the number of spans; leave out words without labels"
        raise ValueError(f"word_lengths[{bad[0]}] is {read.shown(int(bad[0]))}; allowed: {allowed}")
    total = sum(lengths.tolist())
    if total != n_labels:
        raise ValueError(f"word_lengths add up to {total}; allowed: {n_labels}, the number of spans")
    return lengths


def _as_confidences(value: Any, spans: Sequence[TokenSpan]) -> NDArray[np.float64]:
    if value is None:
        with np.errstate(all="ignore"):
            certain: NDArray[np.float64] = np.exp(np.array([span.mean_log_prob for span in spans], np.float64))
        return certain
    certain = as_doubles(as_real("confidences", value))
    if certain.shape != (len(spans),):
        raise ValueError(f"confidences has shape {certain.shape}; allowed: ({len(spans)},), one for each span")
    bad = np.flatnonzero(~(np.isfinite(certain) & (certain >= 0)))
    if bad.size:
        raise ValueError(f"confidences[{bad[0]}] is {certain[bad[0]]}; allowed: finite, 0 or more")
    return certain
