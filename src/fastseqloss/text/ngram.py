"""N-gram models of labels or words, as language models of a beam search."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._core.keywords import known_keywords
from .._core.messages import brief, listed
from .._core.options import as_integer, as_number, as_real_number, choice, flag
from . import arpa as _arpa
from .arpa import Arpa
from .grammar import (
    END,
    START,
    UNKNOWN,
    Floats,
    Grammar,
    Integers,
    as_integers,
    build,
    sorted_edges,
)
from .speller import Speller, spelling_of
from .vocabulary import Vocabulary

_UNITS = ("labels", "words")
_MISSING = -100.0 * math.log(10.0)  # score of unknown tokens, as in KenLM, if the file has none


class Automata(NamedTuple):
    """An n-gram model in the form that the kernel of the beam search takes."""

    edges: Integers
    levels: Floats
    best: Floats  # [V], greatest score of each label, or more
    lowest: float  # least finite score of a label, or less


class NGram:
    """An n-gram model of labels or words, as `read_arpa` returns it.

    `ctc_beam_search` takes it as `language_model`.

    Attributes
    ----------
    order : int
        Number of tokens of the longest n-grams.
    unit : {"labels", "words"}
        Meaning of the tokens.
    counts : tuple of int
        Number of n-grams of each length in the file.
    """

    def __init__(
        self,
        counts: tuple[int, ...],
        n_tokens: int,
        grammar: Grammar,
        unknown: int | None,
        tokens: dict[int, int],
        speller: Speller | None,
    ) -> None:
        self.order, self.counts = len(counts), counts
        self.unit = "labels" if speller is None else "words"
        self._grammar, self._unknown, self._tokens, self._speller = grammar, unknown, tokens, speller
        self._n_tokens = n_tokens + 1  # an unknown one that the file does not have included
        self._compiled: tuple[int, Automata] | None = None
        self._scaled: tuple[float, Automata] | None = None

    def __repr__(self) -> str:
        return f"NGram({self.order}-grams of {self.unit}: {', '.join(map(str, self.counts))})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled": None, "_scaled": None}

    def _automata(self, n_classes: int, blank: int, weight: float) -> Automata:
        """Return the automata for scores of `n_classes` classes; those of the last call are kept."""
        known = self._tokens if self._speller is None else self._speller.classes
        label = max(known, default=-1)
        if label >= n_classes:
            allowed = f"0 to {n_classes - 1}, as logits has {n_classes} classes"
            raise ValueError(f"language_model has the class {label}; allowed: {allowed}")
        if blank in known:
            raise ValueError(f"language_model has the class {blank}, which is the blank; allowed: labels")
        kept = self._compiled
        if kept is None or kept[0] != n_classes:
            compiled = self._of_labels(n_classes) if self._speller is None else self._of_words(n_classes)
            self._compiled = kept = n_classes, compiled
            self._scaled = None
        automata, scaled = kept[1], self._scaled
        if scaled is None or scaled[0] != weight or scaled[1].edges is not automata.edges:
            with np.errstate(invalid="ignore"):
                levels, best = (
                    np.where(values > -np.inf, weight * values, -np.inf) for values in (automata.levels, automata.best)
                )
            scaled = weight, Automata(automata.edges, levels, best, weight * automata.lowest)
            self._scaled = scaled
        return scaled[1]

    def _of_labels(self, n_classes: int) -> Automata:
        grammar = self._grammar
        tokens = np.full(n_classes, -1 if self._unknown is None else self._unknown)
        tokens[list(self._tokens)] = list(self._tokens.values())
        states = np.flatnonzero(grammar.context >= 0)
        order = np.argsort(tokens, kind="stable")  # the classes of each token are next to each other
        first, last = (np.searchsorted(tokens[order], grammar.token[states], side) for side in ("left", "right"))
        counts = last - first
        places = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
        states = np.repeat(states, counts)
        edges = sorted_edges(len(grammar.token), grammar.context[states], order[places], states)
        best = np.where(tokens >= 0, grammar.best(self._n_tokens)[tokens], -np.inf)
        return Automata(as_integers(edges, grammar.fallback), grammar.numbers(), best, grammar.lowest())

    def _of_words(self, n_classes: int) -> Automata:
        assert self._speller is not None
        grammar = self._grammar
        states = np.flatnonzero(grammar.context >= 0)
        edges = sorted_edges(len(grammar.token), grammar.context[states], grammar.token[states], states)
        words = as_integers(edges, grammar.fallback)
        letters, levels, best = self._speller.compiled(n_classes, grammar.best(self._n_tokens))
        lowest = grammar.lowest() + float(levels.min(initial=0.0))
        return Automata(np.concatenate((letters, words)), np.concatenate((levels, grammar.numbers())), best, lowest)


@known_keywords
def read_arpa(
    path: str | os.PathLike[str],
    vocabulary: Vocabulary | Mapping[str, int] | Mapping[str, ArrayLike],
    *,
    unit: Literal["labels", "words"] = "labels",
    separator: int | None = None,
    start: bool = True,
    end: bool = True,
    unknown: float | None = None,
) -> NGram:
    r"""Read an n-gram model in the ARPA format, which KenLM, SRILM and other programs write.

    .. math:: \log p(w \mid h) = \begin{cases} s(h w) & h w \text{ is an n-gram of the file} \\
              b(h) + \log p(w \mid h') & \text{else, with } h' = h \text{ without its first token} \end{cases}

    with the scores s and the back-offs b of the file, converted from logarithms to base 10 to natural logarithms.

    Parameters
    ----------
    path : str or path
        The file, which may be compressed by gzip.
    vocabulary : Vocabulary, or dict
        For labels, the tokens of the classes, or the class of each token. For words, the vocabulary
        of their texts, or the labels of each word.
    unit : {"labels", "words"}
        Tokens of the file: labels, or words that labels spell.
    separator : int, optional
        For words, the class between two words; by default the separator or the marks of the
        vocabulary.
    start : bool
        If True, the labels follow ``<s>``, if the file contains it.
    end : bool
        If True, ``</s>`` follows the labels, if the file contains it.
    unknown : float, optional
        Score, in nats, of tokens that the file does not contain, 0 or less; -inf forbids them. By default the score of
        ``<unk>``; without it, -100 to base 10, as in KenLM.

    Returns
    -------
    NGram
        A `language_model` of `ctc_beam_search`.

    Raises
    ------
    ValueError, TypeError
        If the file is malformed: the message has the path, the number of the line and what is allowed.
        If it has no token of the vocabulary, or other arguments are not as above.
    OSError
        If the file cannot be read.

    See Also
    --------
    ctc_beam_search : the search that takes the model.

    Notes
    -----
    Classes without a token in the file, such as special ones, have the score of an unknown token.

    In the format, spaces separate tokens, so a file uses another token for the space, such as ``"|"``. Pass a dict with
    the class of this token.

    Labels match a word of the file if their text is this word, however it is divided into tokens. Words of the file
    that the vocabulary cannot spell are left out. Among words with the same labels, the one with the greatest score is
    taken. Other words have the score of an unknown token. Before a word ends, its labels have the score of the best
    word that begins with them; the difference is added when the word ends. Several separators in a row count as one.

    The model has a state for each n-gram. Reading takes some seconds and 500 MB for a million n-grams.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastseqloss as fsl
    >>> text = r'''\data\
    ... ngram 1=4
    ... ngram 2=2
    ...
    ... \1-grams:
    ... -0.5 a -0.2
    ... -0.7 b
    ... -0.4 </s>
    ... -99 <s> -0.1
    ...
    ... \2-grams:
    ... -0.2 <s> a
    ... -0.3 a b
    ...
    ... \end\ '''
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels.arpa")
    >>> _ = path.write_text(text)
    >>> model = fsl.read_arpa(path, fsl.Vocabulary("-ab"))
    >>> model
    NGram(2-grams of labels: 4, 2)
    """
    is_words = choice("unit", unit, _UNITS) == 1
    start, end = flag("start", start), flag("end", end)
    forced = None if unknown is None else _as_unknown(unknown)
    divider = _as_separator(separator, vocabulary) if is_words else None
    if separator is not None and not is_words:
        raise ValueError('separator is given; allowed: None with unit="labels", whose separator is a token')
    tokens_of = {} if is_words else _as_tokens(vocabulary)
    arpa = _arpa.read(path)
    number = {token: i for i, token in enumerate(arpa.tokens)}
    counts = tuple(map(len, arpa.ngrams))
    special = {number[token] for token in (START, END, *UNKNOWN) if token in number}
    rare = _add_unknown(arpa, number, forced)
    tokens: dict[int, int] = {}
    speller = None
    if is_words:
        speller = Speller(spelling_of(vocabulary, arpa, special, divider), rare, arpa)
        used = speller.used
    else:
        tokens = {label: number[token] for label, token in tokens_of.items() if token in number}
        tokens = {label: token for label, token in tokens.items() if token not in special}
        used = set(tokens.values())
    if not used:
        raise _none_known(arpa, special, is_words)
    usable = used if rare is None else used | {rare}
    grammar = build(arpa, usable, number.get(START) if start else None, number.get(END) if end else None)
    return NGram(counts, len(arpa.tokens), grammar, rare, tokens, speller)


def _as_unknown(value: Any) -> float:
    number = as_real_number("unknown", value)
    if number == -math.inf:
        return -math.inf
    return as_number("unknown", number, -1e6, 0.0, allowed="from -1e+06 to 0, and -inf")


def _as_tokens(vocabulary: Any) -> dict[int, str]:
    """Return the token of each class."""
    if isinstance(vocabulary, Vocabulary):
        return {label: token for label, token in enumerate(vocabulary.tokens) if token and label != vocabulary.blank}
    if not isinstance(vocabulary, Mapping):
        raise TypeError(
            f"vocabulary is {brief(vocabulary)}; allowed: a Vocabulary, or a dict of tokens and their classes"
        )
    found: dict[int, str] = {}
    for token, value in vocabulary.items():
        if not isinstance(token, str):
            raise TypeError(f"vocabulary has the key {brief(token)}; allowed: strings")
        number = as_integer(f"vocabulary[{brief(token)}]", value)
        if not 0 <= number < 2**31:
            raise ValueError(f"vocabulary[{brief(token)}] is {number}; allowed: 0 or more")
        if number in found:
            raise ValueError(
                f"vocabulary[{brief(token)}] is {number}, the class of {brief(found[number])}; allowed: another class"
            )
        found[number] = token
    return found


def _as_separator(separator: Any, vocabulary: Any) -> int | None:
    """Return the separator; None for one of a vocabulary, or for its marks."""
    if not isinstance(vocabulary, (Vocabulary, Mapping)):
        allowed = "a Vocabulary, or a dict of words and their labels"
        raise TypeError(f"vocabulary is {brief(vocabulary)}; allowed: {allowed}")
    if separator is not None:
        number = as_integer("separator", separator)
        if not 0 <= number < 2**31:
            raise ValueError(f"separator is {number}; allowed: a class, 0 or more")
        return number
    if not isinstance(vocabulary, Vocabulary) or not vocabulary._has_words:
        raise ValueError(
            "separator is None; allowed: a class, or None with a vocabulary that has a separator or a mark"
        )
    return None


def _add_unknown(arpa: Arpa, number: dict[str, int], forced: float | None) -> int | None:
    """Add an unknown token to a file that has none, or change its score; return it, None if it is forbidden."""
    if forced == -math.inf:
        return None
    rare = next((number[token] for token in UNKNOWN if token in number), len(arpa.tokens))
    score, backoff = arpa.ngrams[0].get((rare,), (_MISSING, 0.0))
    arpa.ngrams[0][(rare,)] = score if forced is None else forced, backoff
    return rare


def _none_known(arpa: Arpa, special: set[int], is_words: bool) -> ValueError:
    tokens = [repr(token) for i, token in enumerate(arpa.tokens) if i not in special]
    if is_words:
        allowed = "words that the vocabulary spells, in upper or lower case as there"
    else:
        allowed = 'tokens of the vocabulary; pass unit="words" if they are words'
    return ValueError(f"vocabulary has none of the tokens of {arpa.path}, {listed(tokens)}; allowed: {allowed}")
