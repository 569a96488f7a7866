"""N-grams as automata: a state for each n-gram, and the back-offs as differences of levels.

A label leads from the state of the longest n-gram that ends the labels so far to the longest one that ends them
together with the label. On the way the search falls back to shorter ends, and pays their back-offs. The sum of the
back-offs from a state to the empty n-gram is its level with the sign changed, so that the level alone has them, and a
state gains the rest of its score, whichever state the label came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arpa import Arpa, Entry

FORBIDDEN = -2  # fallback of a state where no other label is allowed
START, END, UNKNOWN = "<s>", "</s>", ("<unk>", "<UNK>")

Ngram = tuple[int, ...]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(slots=True)
class Grammar:
    """The states of n-grams, the first one that of the start; in nats."""

    context: Integers  # [n], the state without the last token, -1 for that of the start and of no token
    token: Integers  # [n], the last token, -1 for those two
    fallback: Integers  # [n]
    score: Floats  # [n], of the last token after the others
    backoff: Floats  # [n], sum of the back-offs down to the empty n-gram
    end: Floats  # [n], score of the end
    least: Floats  # [n], of the sums of back-offs from states to this one
    most: Floats  # [n]

    def numbers(self) -> Floats:
        """Return level, gain and end of the states, one after the other."""
        gain = self.score - self.backoff[self.context] + self.backoff
        return np.concatenate((-self.backoff, np.where(self.context < 0, 0.0, gain), self.end))

    def best(self, n_tokens: int) -> Floats:
        """Return the greatest score of each token [V], or more: differences of levels are rounded."""
        found = np.full(n_tokens, -np.inf)
        last = np.flatnonzero(self.context >= 0)
        np.maximum.at(found, self.token[last], self.score[last] + self.most[self.context[last]])
        largest = np.abs(self.backoff).max() + np.abs(self.score[np.isfinite(self.score)]).max()
        slack: float = 8 * np.finfo(np.float64).eps * largest
        return found + slack

    def lowest(self) -> float:
        """Return the least finite score of a token, or less."""
        scores = self.score + self.least[self.context]
        return float(scores[(self.context >= 0) & np.isfinite(scores)].min(initial=0.0))


class Edges(NamedTuple):
    """Edges of an automaton, those of each state together and in the order of their labels."""

    starts: Integers  # [n + 1]
    labels: Integers
    states: Integers


def sorted_edges(n_states: int, sources: Integers, labels: Integers, states: Integers) -> Edges:
    """Return edges in order."""
    order = np.lexsort((labels, sources))
    starts = np.zeros(n_states + 1, np.int64)
    np.cumsum(np.bincount(sources, minlength=n_states), out=starts[1:])
    return Edges(starts, labels[order], states[order])


def as_integers(edges: Edges, fallback: Integers, words: Sequence[int] = (), actions: Sequence[int] = ()) -> Integers:
    """Return an automaton in the order in which kernels read it; words of the states and actions are of a speller."""
    sizes = np.array([len(fallback), len(edges.labels), len(actions)], np.int64)
    return np.concatenate((sizes, *edges, fallback, np.array([*words, *actions], np.int64)))


def build(arpa: Arpa, usable: set[int], start: int | None, end: int | None) -> Grammar:
    """Return the automaton of the n-grams of `usable` tokens, after token `start` and before token `end`, if any."""
    states = _States(start)
    ends: dict[Ngram, float] = {}
    for ngrams in arpa.ngrams:
        for ngram, entry in ngrams.items():
            context = ngram[:-1]
            if not usable.issuperset(context[1:] if context and context[0] == start else context):
                continue
            if ngram[-1] == end:
                states.add_context(context)
                ends[context] = entry[0]
            elif ngram == (start,):
                states.entries[ngram] = (0.0, entry[1])
            elif ngram[-1] in usable:
                states.add_context(context)
                states.entries[ngram] = entry
    return _linked(states, ends)


class _States:
    """Scores and back-offs of n-grams, shorter ones first."""

    def __init__(self, start: int | None) -> None:
        self.first: Ngram = () if start is None else (start,)
        self.entries: dict[Ngram, Entry] = {self.first: (0.0, 0.0), (): (0.0, 0.0)}

    def add_context(self, ngram: Ngram) -> None:
        """Add an n-gram that the file lacks, though it has longer ones: its score is that of shorter ones."""
        if ngram not in self.entries:
            self.add_context(ngram[:-1])
            self.entries[ngram] = self._score(ngram), 0.0

    def _score(self, ngram: Ngram) -> float:
        backoff = 0.0
        for i in range(len(ngram)):
            if ngram[i:] in self.entries:
                return backoff + self.entries[ngram[i:]][0]
            backoff += self.entries.get(ngram[i:-1], (0.0, 0.0))[1]
        return -np.inf


def _linked(states: _States, ends: dict[Ngram, float]) -> Grammar:
    """Return the automaton of closed n-grams: each one's context is among them."""
    number = {ngram: i for i, ngram in enumerate(states.entries)}
    n = len(number)
    score, backoff = (list(column) for column in zip(*states.entries.values(), strict=True))
    context, token, fallback, end = [-1] * n, [-1] * n, [FORBIDDEN] * n, [0.0] * n
    end[number[()]] = ends.get((), 0.0)
    ordered = sorted(number, key=len)
    for ngram in ordered[1:]:
        i = number[ngram]
        if ngram != states.first:
            context[i], token[i] = number[ngram[:-1]], ngram[-1]
        shorter = ngram[1:]
        while shorter not in number:
            shorter = shorter[1:]
        fallback[i] = back = number[shorter]
        if ends:  # otherwise the end has no score
            end[i] = ends[ngram] if ngram in ends else backoff[i] + end[back]
        backoff[i] += backoff[back]
    least, most = [*backoff], [*backoff]
    for ngram in reversed(ordered[1:]):
        i = number[ngram]
        back = fallback[i]
        least[back] = min(least[back], least[i])
        most[back] = max(most[back], most[i])
    total = np.array(backoff)
    return Grammar(
        np.array(context),
        np.array(token),
        np.array(fallback),
        np.array(score),
        total,
        np.array(end),
        np.array(least) - total,
        np.array(most) - total,
    )
