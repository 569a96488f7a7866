"""Tagging schemes: the tags that may follow each other, and the spans that tags represent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import check_output, read_integers
from .._core.keywords import known_keywords
from .._core.messages import brief, listed
from .._core.options import as_integer, choice, flag

Scheme = Literal["BIO", "BIOES", "BIOUL"]
_SCHEMES = ("BIO", "BIOES", "BIOUL")
_OPEN = "BI"  # prefixes of tags that the next tag may continue


class _Prefixes(NamedTuple):
    """Prefixes of the tags of a scheme, by their place in a span; None if the scheme does not mark the place."""

    last: str | None
    only: str | None

    @property
    def every(self) -> str:
        return "BI" + (self.last or "") + (self.only or "")

    @property
    def continuing(self) -> str:
        return "I" + (self.last or "")


_PREFIXES = {"BIO": _Prefixes(None, None), "BIOES": _Prefixes("E", "S"), "BIOUL": _Prefixes("L", "U")}


class _Tag(NamedTuple):
    prefix: str  # "O" outside of spans
    label: str


class TagSpan(NamedTuple):
    """A span of steps with one label.

    Attributes
    ----------
    label : str
        The label.
    start, end : int
        First step of the span, and the step after its last one.
    """

    label: str
    start: int
    end: int


class TagViolation(NamedTuple):
    """First step of a path that a tagging scheme does not allow.

    Attributes
    ----------
    position : int
        Step of the tag; the number of steps if the path may not end as it does.
    before : str or None
        The tag before it; None at the start.
    tag : str or None
        The tag; None at the end.
    allowed : tuple of str
        Tags that are allowed at the position; at the end, tags that may be the last one.
    """

    position: int
    before: str | None
    tag: str | None
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        allowed = listed([repr(tag) for tag in self.allowed]) or "none"
        if self.tag is None:
            return f"path ends with {self.before!r}; allowed at the end: {allowed}"
        place = "at the start" if self.before is None else f"after {self.before!r}"
        return f"path[{self.position}] is {self.tag!r} {place}; allowed: {allowed}"


class TagConstraints(NamedTuple):
    """Scores of 0 and -inf that forbid illegal sequences of tags, to be added to the scores of a CRF.

    Attributes
    ----------
    transitions : ndarray of float32 [K, K]
        -inf where the tag of the column may not follow that of the row.
    start, end : ndarray of float32 [K]
        -inf for tags that may not be the first, or the last.
    tags : tuple of str
        The tags.
    """

    transitions: NDArray[np.float32]
    start: NDArray[np.float32]
    end: NDArray[np.float32]
    tags: tuple[str, ...]

    def first_violation(self, path: Any) -> TagViolation | None:
        """Return the first step of a path that is not allowed, or None.

        Parameters
        ----------
        path : sequence of str, or of int
            Tags by name, or by their index as in a row of ``crf_decode(...).tags``. Steps of -1, which that
            function returns outside the mask, are left out.

        Returns
        -------
        TagViolation or None
            Its position, the tag before, the tag and the allowed tags. ``str`` formats it as a sentence.

        Raises
        ------
        ValueError, TypeError
            If the path has more than one axis, or a tag that is not among ``tags``.
        """
        steps = self._indices(path)
        kept = np.flatnonzero(steps >= 0)
        scores, before = self.start, None
        for t in kept.tolist():
            tag = steps[t]
            if scores[tag] < 0:
                return TagViolation(t, before, self.tags[tag], self._where(scores))
            scores, before = self.transitions[tag], self.tags[tag]
        if len(kept) and self.end[steps[kept[-1]]] < 0:
            return TagViolation(len(steps), before, None, self._where(self.end))
        return None

    def _where(self, scores: NDArray[np.float32]) -> tuple[str, ...]:
        return tuple(tag for tag, score in zip(self.tags, scores.tolist(), strict=True) if score == 0)

    def _indices(self, path: Any) -> NDArray[np.int64]:
        """Return the indices of the tags of a path, -1 for steps that are left out."""
        if isinstance(path, str) or not hasattr(path, "__len__") or getattr(path, "ndim", 1) == 0:
            raise TypeError(f"path is {brief(path)}; allowed: a sequence of str or int")
        if any(isinstance(tag, str) for tag in path):
            numbers = {tag: k for k, tag in enumerate(self.tags)}
            for t, tag in enumerate(path):
                if not isinstance(tag, str):
                    raise TypeError(f"path[{t}] is {brief(tag)}; allowed: a str, as others of the path are")
                if tag not in numbers:
                    allowed = listed([repr(tag) for tag in self.tags])
                    raise ValueError(f"path[{t}] is {brief(str(tag))}; allowed: {allowed}")
            return np.array([numbers[tag] for tag in path])
        if not len(path):
            return np.zeros(0, np.int64)
        steps = read_integers("path", path).values
        if steps.ndim != 1:
            raise ValueError(f"path has shape {steps.shape}; allowed: [T]")
        bad = np.flatnonzero((steps < -1) | (steps >= len(self.tags)))
        if len(bad):
            raise ValueError(f"path[{bad[0]}] is {steps[bad[0]]}; allowed: 0 to {len(self.tags) - 1}, and -1")
        return steps


@known_keywords
def tag_constraints(tags: Sequence[str], scheme: Scheme = "BIO") -> TagConstraints:
    """Scores of 0 and -inf that keep a CRF from decoding illegal sequences of tags.

    In all schemes, "O" is outside of spans, "B-x" begins a span of label x and "I-x" continues it. In
    "BIO" (IOB2) a span may end after any of its steps. "BIOES" and "BIOUL" (BILOU) also mark the last
    step of a span, "E-x" or "L-x", and a span of one step, "S-x" or "U-x".

    Parameters
    ----------
    tags : sequence of str
        The tags, in the order of the tag axis of the CRF; each once. "B" and "I" without a label are allowed and have
        the empty label.
    scheme : {"BIO", "BIOES", "BIOUL"}
        The tagging scheme.

    Returns
    -------
    TagConstraints
        Named tuple ``(transitions, start, end, tags)``: add the first three to the parameters of a CRF,
        in training and for decoding. Its method ``first_violation(path)`` checks a path.

    Raises
    ------
    ValueError, TypeError
        If a tag is not a tag of the scheme or occurs twice, or if the scheme is not as above.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> constraints = fsl.tag_constraints(["O", "B-PER", "I-PER"])
    >>> constraints.transitions
    array([[  0.,   0., -inf],
           [  0.,   0.,   0.],
           [  0.,   0.,   0.]], dtype=float32)
    >>> print(constraints.first_violation(["O", "I-PER"]))
    path[1] is 'I-PER' after 'O'; allowed: 'O', 'B-PER'

    The emissions favour "I-PER" after "O", which is forbidden:

    >>> import numpy as np
    >>> emissions = np.array([[1.0, 0.8, 0.0], [0.0, 0.0, 3.0]])
    >>> path = fsl.crf_decode(emissions, constraints.transitions, start=constraints.start, end=constraints.end)
    >>> [constraints.tags[k] for k in path.tags]
    ['B-PER', 'I-PER']
    """
    prefixes = _PREFIXES[_SCHEMES[choice("scheme", scheme, _SCHEMES)]]
    names = _as_names("tags", tags)
    read = [_parsed("tags", k, name, prefixes) for k, name in enumerate(names)]
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        if first.setdefault(name, k) != k:
            raise ValueError(f"tags[{k}] is {name!r}, as tags[{first[name]}] is; allowed: each tag once")

    check_output("the transitions", (len(read), len(read)), 4)
    labels = {tag.label: k for k, tag in enumerate(read)}
    label = np.array([labels[tag.label] for tag in read], np.int64)
    is_open = np.array([tag.prefix in _OPEN for tag in read], np.bool_)
    continues = np.array([tag.prefix in prefixes.continuing for tag in read], np.bool_)
    may_end = ~is_open | (prefixes.last is None)
    may_follow = np.where(continues, is_open[:, None] & (label[:, None] == label), may_end[:, None])
    return TagConstraints(_scores(may_follow), _scores(~continues), _scores(may_end), tuple(names))


def _scores(allowed: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(allowed, np.float32(0), np.float32(-np.inf))


@known_keywords
def spans_from_tags(tags: Sequence[str], scheme: Scheme = "BIO", *, strict: bool = True) -> list[TagSpan]:
    """Spans that a sequence of tags represents.

    Parameters
    ----------
    tags : sequence of str
        As for `tag_constraints`, for the steps of one sequence in their order.
    scheme : {"BIO", "BIOES", "BIOUL"}
        As for `tag_constraints`.
    strict : bool
        If True, an illegal sequence raises an error. If False, a span begins at every tag that cannot
        continue the span before it, and ends where it is not continued, as in conlleval and in the default
        mode of seqeval.

    Returns
    -------
    list of TagSpan
        Named tuples ``(label, start, end)`` in their order; ``end`` is the step after the last.

    Raises
    ------
    ValueError, TypeError
        If a tag is not a tag of the scheme or, with `strict`, may not follow the tag before it.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.spans_from_tags(["B-PER", "I-PER", "O", "B-LOC"])
    [TagSpan(label='PER', start=0, end=2), TagSpan(label='LOC', start=3, end=4)]
    """
    prefixes = _PREFIXES[_SCHEMES[choice("scheme", scheme, _SCHEMES)]]
    strict = flag("strict", strict)
    spans: list[TagSpan] = []
    before: _Tag | None = None
    names = _as_names("tags", tags)
    for t, name in enumerate(names):
        tag = _parsed("tags", t, name, prefixes)
        if strict and not _may_follow(before, tag, prefixes):
            place = "at the start" if before is None else f"after {names[t - 1]!r}"
            raise ValueError(
                f"tags[{t}] is {name!r} {place}, which {scheme} does not allow; pass strict=False to read it"
            )
        if tag.prefix in prefixes.continuing and _continues(before, tag):
            spans[-1] = spans[-1]._replace(end=t + 1)
        elif tag.prefix != "O":
            spans.append(TagSpan(tag.label, t, t + 1))
        before = tag
    if strict and not _may_follow(before, None, prefixes):
        raise ValueError(f"tags end with {names[-1]!r}, which {scheme} does not allow; pass strict=False to read them")
    return spans


@known_keywords
def tags_from_spans(spans: Iterable[tuple[str, int, int]], length: int, scheme: Scheme = "BIO") -> list[str]:
    """Tags that represent the spans of a sequence, the inverse of `spans_from_tags`.

    Parameters
    ----------
    spans : iterable of (label, start, end)
        As for `spans_from_tags`, in any order; they may not overlap.
    length : int
        Number of steps of the sequence.
    scheme : {"BIO", "BIOES", "BIOUL"}
        As for `tag_constraints`.

    Returns
    -------
    list of str
        One tag for each step.

    Raises
    ------
    ValueError, TypeError
        If a span is empty, overlaps another one or is not within the sequence.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.tags_from_spans([("PER", 0, 2), ("LOC", 3, 4)], 5)
    ['B-PER', 'I-PER', 'O', 'B-LOC', 'O']
    >>> fsl.tags_from_spans([("PER", 0, 2), ("LOC", 3, 4)], 5, "BIOES")
    ['B-PER', 'E-PER', 'O', 'S-LOC', 'O']
    """
    prefixes = _PREFIXES[_SCHEMES[choice("scheme", scheme, _SCHEMES)]]
    n_steps = as_integer("length", length)
    if n_steps < 0:
        raise ValueError(f"length is {n_steps}; allowed: 0 or more")
    check_output("the tags", (n_steps,), 8)
    given = _iterated("spans", spans, "(label, start, end) of each span")
    tags = ["O"] * n_steps
    taken: list[int | None] = [None] * n_steps
    for k, (label, start, end) in enumerate(_read_span(k, span, n_steps) for k, span in enumerate(given)):
        for t in range(start, end):
            if taken[t] is not None:
                raise ValueError(f"spans[{k}] overlaps spans[{taken[t]}] at step {t}; allowed: spans apart")
            taken[t] = k
        places = ["B"] + ["I"] * (end - start - 1)
        places[-1] = (prefixes.only if end == start + 1 else prefixes.last) or places[-1]
        tags[start:end] = [f"{place}-{label}" if label else place for place in places]
    return tags


def _read_span(k: int, span: Any, n_steps: int) -> tuple[str, int, int]:
    if not isinstance(span, (tuple, list)) or len(span) != 3 or not isinstance(span[0], str):
        raise TypeError(f"spans[{k}] is {brief(span)}; allowed: (label, start, end), with a str and two integers")
    start, end = as_integer(f"spans[{k}].start", span[1]), as_integer(f"spans[{k}].end", span[2])
    if not 0 <= start < end <= n_steps:
        raise ValueError(f"spans[{k}] is from {start} to {end}; allowed: 0 <= start < end <= {n_steps}")
    return span[0], start, end


def _iterated(name: str, items: Any, allowed: str) -> Iterator[Any]:
    if not isinstance(items, (str, bytes)):
        try:
            return iter(items)
        except TypeError:  # not iterable
            pass
    raise TypeError(f"{name} is {brief(items)}; allowed: {allowed}")


def _as_names(name: str, tags: Any) -> list[str]:
    names = []
    for k, tag in enumerate(_iterated(name, tags, "a sequence of str")):
        if not isinstance(tag, str):
            raise TypeError(f"{name}[{k}] is {brief(tag)}; allowed: a str")
        names.append(str(tag))
    return names


def _parsed(argument: str, k: int, name: str, prefixes: _Prefixes) -> _Tag:
    if name == "O":
        return _Tag("O", "")
    prefix, _, label = name.partition("-")
    if len(prefix) != 1 or prefix not in prefixes.every:
        allowed = ", ".join(f"'{prefix}-...'" for prefix in prefixes.every)
        raise ValueError(f"{argument}[{k}] is {brief(name)}; allowed: 'O', {allowed}")
    return _Tag(prefix, label)


def _continues(before: _Tag | None, after: _Tag) -> bool:
    return before is not None and before.prefix in _OPEN and before.label == after.label


def _may_follow(before: _Tag | None, after: _Tag | None, prefixes: _Prefixes) -> bool:
    """Return True if a tag may follow another one, or be the first (after None) or the last (before None)."""
    if after is not None and after.prefix in prefixes.continuing:
        return _continues(before, after)
    return before is None or before.prefix not in _OPEN or prefixes.last is None
