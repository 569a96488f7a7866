"""Scores of labels that steer a beam search: pairs of labels, words that score more, words alone, and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_doubles, as_real
from .._core.messages import brief
from .._core.options import as_number, no_class
from ..text.ngram import NGram
from .arguments import as_classes
from .prefix_scores import LARGEST as _LARGEST_PAIR
from .prefix_scores import PrefixModel

_LARGEST_SCORE = 1e6  # of a label or word
_LARGEST_WEIGHT = 1e6  # of an n-gram model
_LARGEST_FACTOR = 200.0  # logarithm of a score by which masses may be multiplied at a frame
_MOST_STATES = 100_000  # of a lexicon, and 16 for each label of its words
_START, _FORBIDDEN = -1, -2  # fallbacks of states, as kernels know them

Word = tuple[int, ...]


@dataclass(slots=True)
class Automaton:
    """States by the labels so far, from state 0 on; see the kernel for their meaning."""

    edges: list[dict[int, int]] = field(default_factory=lambda: [{}])  # label: next state
    fallback: list[int] = field(default_factory=lambda: [_START])
    level: list[float] = field(default_factory=lambda: [0.0])
    gain: list[float] = field(default_factory=lambda: [0.0])
    end: list[float] = field(default_factory=lambda: [0.0])

    def add(self, fallback: int) -> int:
        """Return a new state."""
        self.edges.append({})
        self.fallback.append(fallback)
        for values in (self.level, self.gain, self.end):
            values.append(0.0)
        return len(self.edges) - 1

    def integers(self) -> list[int]:
        """Return states and edges in the order in which kernels read them."""
        ordered = [sorted(edges.items()) for edges in self.edges]
        starts = np.cumsum([0, *map(len, ordered)]).tolist()
        flat = [edge for edges in ordered for edge in edges]
        labels, states = ([edge[i] for edge in flat] for i in (0, 1))
        return [len(self.edges), len(flat), 0, *starts, *labels, *states, *self.fallback]

    def best(self, n_classes: int) -> NDArray[np.float64]:
        """Return the greatest score of each label [V]."""
        found = np.full(n_classes, 0.0 if self.fallback[0] == _START else -np.inf)
        for state, edges in enumerate(self.edges):
            for label, to in edges.items():
                found[label] = max(found[label], self.level[to] - self.level[state] + self.gain[to])
        return found


@dataclass(slots=True)
class Language:
    """Scores of labels in the form that the kernel takes."""

    bigram: NDArray[np.float64] | None  # [V + 1, V], bonus added
    bonus: float
    best: NDArray[np.float64] | None  # [V], greatest score of each label, or more; None if no label has a score
    edges: NDArray[np.int64]
    levels: NDArray[np.float64]
    is_wide: bool  # scores may leave the range of float64 in a few frames
    model: PrefixModel | None  # its scores are in none of the arrays
    weight: float


def as_language(
    bigram: Any,
    language_model: Any,
    lm_weight: Any,
    length_bonus: Any,
    boost: Any,
    lexicon: Any,
    n_classes: int,
    blank: int,
) -> Language:
    """Check the scores of labels."""
    weight = as_number("lm_weight", lm_weight, 0.0, np.inf)
    bonus = as_number("length_bonus", length_bonus, -_LARGEST_SCORE, _LARGEST_SCORE)
    table = None if bigram is None else _as_bigram(bigram, weight, bonus, n_classes, blank)
    ngram = language_model if isinstance(language_model, NGram) else None
    model = None if language_model is None or ngram else _as_model(language_model)
    automata = []
    if boost is not None:
        automata.append(_boosting(_as_boost(boost, n_classes, blank)))
    if lexicon is not None:
        automata.append(_restricting(_as_words("lexicon", lexicon, n_classes, blank)))
    if table is None and language_model is None and not automata and bonus == 0.0:
        return Language(None, bonus, None, np.zeros(0, np.int64), np.zeros(0), False, None, weight)
    best = np.full(n_classes, bonus) if table is None else table.max(axis=0)
    levels, largest = [], abs(bonus) if table is None else _largest(table)
    for automaton in automata:
        best += automaton.best(n_classes)
        levels += [np.array(values) for values in (automaton.level, automaton.gain, automaton.end)]
        largest += sum(map(_largest, levels[-3:]))
    edges = [np.array([i for automaton in automata for i in automaton.integers()], np.int64)]
    if ngram is not None:
        if weight > _LARGEST_WEIGHT:
            raise ValueError(f"lm_weight is {weight:g}; allowed with an NGram: 0 to {_LARGEST_WEIGHT:g}")
        compiled = ngram._automata(n_classes, blank, weight)
        best, edges, levels = best + compiled.best, [*edges, compiled.edges], [*levels, compiled.levels]
        # Masses that become small are searched again by logarithms if they are lost; those that become large are not.
        largest += max(0.0, float(compiled.best.max()), -compiled.lowest / 3)
    # The scores of a function are not known beforehand, so that logarithms are searched from the start.
    is_wide = largest > _LARGEST_FACTOR or model is not None
    return Language(table, bonus, best, _joined(edges, np.int64), _joined(levels, np.float64), is_wide, model, weight)


def _joined(parts: list[NDArray[Any]], dtype: type[Any]) -> NDArray[Any]:
    """Return arrays one after the other, without a copy of the only one that is not empty."""
    parts = [part for part in parts if part.size]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype), *parts])


def _as_model(value: Any) -> PrefixModel:
    allowed = "an NGram, or a function of prefixes and states"
    no_class("language_model", value, allowed)
    if not callable(value):
        raise TypeError(f"language_model is {brief(value)}; allowed: {allowed}")
    model: PrefixModel = value
    return model


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _as_bigram(bigram: Any, weight: float, bonus: float, n_classes: int, blank: int) -> NDArray[np.float64]:
    """Return the scores of pairs [V + 1, V], scaled, with the bonus."""
    table = as_doubles(as_real("bigram", bigram))
    if table.shape != (n_classes + 1, n_classes):
        raise ValueError(f"bigram has shape {table.shape}; allowed: [V + 1, V] = {(n_classes + 1, n_classes)}")
    table = table.copy()
    table[blank] = table[:, blank] = -np.inf
    bad = np.argwhere(~(table < np.inf))
    if len(bad):
        i, k = bad[0]
        raise ValueError(f"bigram[{i}, {k}] is {table[i, k]}; allowed: finite numbers and -inf")
    with np.errstate(all="ignore"):
        scaled = np.where(table > -np.inf, weight * table + bonus, -np.inf)
    bad = np.argwhere((table > -np.inf) & ~(np.abs(scaled) <= _LARGEST_PAIR))
    if len(bad):
        i, k = bad[0]
        raise ValueError(
            f"bigram[{i}, {k}] is {table[i, k]}; allowed: {-_LARGEST_PAIR:g} to {_LARGEST_PAIR:g} "
            f"when scaled by {weight:g}"
        )
    return scaled


# ---- words --------------------------------------------------------------------------------


def _as_words(name: str, value: Any, n_classes: int, blank: int) -> list[Word]:
    """Return label sequences, each of one label or more."""
    is_list = isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes))
    if not is_list and not (isinstance(value, np.ndarray) and value.ndim > 0):
        raise TypeError(f"{name} is {brief(value)}; allowed: a list of label sequences")
    return [_as_word(f"{name}[{i}]", word, n_classes, blank) for i, word in enumerate(value)]


def _as_word(name: str, value: Any, n_classes: int, blank: int) -> Word:
    word = tuple(as_classes(name, value, n_classes).tolist())
    if not word:
        raise ValueError(f"{name} has no labels; allowed: 1 or more")
    if blank in word:
        i = word.index(blank)
        raise ValueError(f"{name}[{i}] is {blank}, which is the blank; allowed: labels")
    return word


def _as_boost(value: Any, n_classes: int, blank: int) -> dict[Word, float]:
    """Return the score of each label sequence; those of equal ones are added."""
    pairs: Iterable[Any] = value.items() if isinstance(value, Mapping) else value
    if isinstance(value, (str, bytes)) or not isinstance(value, (Mapping, Sequence)):
        raise TypeError(f"boost is {brief(value)}; allowed: a list of pairs (labels, score), or a dictionary")
    found: dict[Word, float] = {}
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"boost[{i}] is {brief(pair)}; allowed: a pair (labels, score)")
        word = _as_word(f"boost[{i}][0]", pair[0], n_classes, blank)
        score = as_number(f"boost[{i}][1]", pair[1], -_LARGEST_SCORE, _LARGEST_SCORE)
        found[word] = found.get(word, 0.0) + score
    return found


def _boosting(scores: dict[Word, float]) -> Automaton:
    """Return the automaton of Aho and Corasick: every occurrence of a word scores, label by label.

    The level of a state is the largest part of a score that its labels have earned; a label that breaks a word off
    falls back to the longest end of the labels that begins a word, and to its level.
    """
    made = Automaton()
    for word, score in scores.items():
        state = 0
        for i, label in enumerate(word, 1):
            if label not in made.edges[state]:
                made.edges[state][label] = made.add(0)
            state = made.edges[state][label]
            if i < len(word):
                made.level[state] = max(made.level[state], score * i / len(word))
        made.gain[state] += score
    queue = [0]
    for state in queue:
        for label, to in made.edges[state].items():
            back = made.fallback[state]
            while back >= 0 and label not in made.edges[back]:
                back = made.fallback[back]
            made.fallback[to] = made.edges[back][label] if back >= 0 else 0
            made.level[to] = max(made.level[to], made.level[made.fallback[to]])
            made.gain[to] += made.gain[made.fallback[to]]
            queue.append(to)
    made.end = [-level for level in made.level]
    return made


def _restricting(words: list[Word]) -> Automaton:
    """Return the automaton of the sequences of words: a state for each set of places where the labels may be."""
    places: list[dict[int, int]] = [{}]  # the words as a tree
    is_word = [False]
    for word in words:
        place = 0
        for label in word:
            if label not in places[place]:
                places[place][label] = len(places)
                places.append({})
                is_word.append(False)
            place = places[place][label]
        is_word[place] = True
    made = Automaton(fallback=[_FORBIDDEN])
    known = {frozenset({0}): 0}
    queue = [frozenset({0})]
    for here in queue:
        state = known[here]
        made.end[state] = 0.0 if 0 in here else -np.inf
        for label in {label for place in here for label in places[place]}:
            reached = {places[place][label] for place in here if label in places[place]}
            ends = any(is_word[place] for place in reached)
            to = frozenset({place for place in reached if places[place]} | ({0} if ends else set()))
            if to not in known:
                if len(known) > _MOST_STATES + 16 * len(places):
                    raise ValueError(
                        f"lexicon has words that divide labels in too many ways: more than {len(known)} states; "
                        "allowed: words that end in a separator, or none that begin within others"
                    )
                known[to] = made.add(_FORBIDDEN)
                queue.append(to)
            made.edges[state][label] = known[to]
    return made
