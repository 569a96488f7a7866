"""Words of an n-gram model as a tree of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._core.arrays import read_integers
from .._core.messages import brief
from .arpa import Arpa
from .grammar import FORBIDDEN, Floats, Integers, as_integers, sorted_edges
from .vocabulary import Vocabulary

Spelling = tuple[int, tuple[int, ...]]  # a word and its labels


class Speller:
    """A tree of words. A node has the level of the best word below it, or of an unknown one, if that is better: its
    labels pay for that word before it ends.
    """

    def __init__(self, spellings: list[Spelling], separator: int, unknown: int | None, arpa: Arpa) -> None:
        scores = {word: arpa.ngrams[0][(word,)][0] for word, _ in spellings}
        finite = [score for score in scores.values() if score > -np.inf]
        self.separator, self.unknown = separator, unknown
        self._lowest = -np.inf if unknown is None else arpa.ngrams[0][(unknown,)][0]
        if self._lowest == -np.inf:
            self._lowest = min(finite, default=0.0)
        children: dict[tuple[int, int], int] = {}
        levels, words = [0.0], [-1]
        for word, labels in sorted(spellings, key=lambda spelling: -scores[spelling[0]]):
            node = 0
            for label in labels:
                if (node, label) not in children:
                    children[node, label] = len(levels)
                    levels.append(max(scores[word], self._lowest))
                    words.append(-2)
                node = children[node, label]
            if words[node] == -2:
                words[node] = word
        self._edges = np.array(list(children), np.int64).reshape(-1, 2)
        self._nodes = np.array(list(children.values()), np.int64)
        self._levels, self._words = np.array(levels), np.array(words, np.int64)
        self.classes = {separator, *self._edges[:, 1].tolist()}
        self.largest = max(self.classes)

    def compiled(self, n_classes: int, best_of_words: Floats) -> tuple[Integers, Floats, Floats]:
        """Return the automaton, its levels, gains and ends, and the greatest score of each label."""
        n, levels, words = len(self._levels), self._levels, self._words.copy()
        (sources, labels), nodes = self._edges.T, self._nodes
        fallback = np.full(n, FORBIDDEN, np.int64)
        best = np.full(n_classes, -np.inf)
        np.maximum.at(best, labels, levels[nodes] - levels[sources])
        rare = len(best_of_words) - 1 if self.unknown is None else self.unknown
        words[words == -2] = rare  # an n-gram has no edge by an unknown word that is forbidden
        if self.unknown is not None:  # a state after the others for the labels of unknown words
            others = np.delete(np.arange(n_classes), self.separator)
            sources, labels = np.append(sources, np.full(len(others), n)), np.append(labels, others)
            nodes = np.append(nodes, np.full(len(others), n))
            fallback = np.append(np.full(n, n), FORBIDDEN)
            levels, words = np.append(levels, self._lowest), np.append(words, rare)
            best = np.maximum(best, 0.0)
        best[self.separator] = max(0.0, (best_of_words[words[1:]] - levels[1:]).max(initial=-np.inf))
        edges = sorted_edges(len(levels), sources, labels, nodes)
        numbers = np.concatenate((levels, np.zeros(2 * len(levels))))
        return as_integers(edges, fallback, self.separator, [words]), numbers, best


def spelt(vocabulary: Any, arpa: Arpa, special: set[int], separator: int) -> list[Spelling]:
    """Return the words of a file that the vocabulary spells."""
    words = [(i, token) for i, token in enumerate(arpa.tokens) if i not in special]
    if isinstance(vocabulary, Vocabulary):
        return _encoded(vocabulary, words, separator)
    if not isinstance(vocabulary, Mapping):
        raise TypeError(
            f"vocabulary is {brief(vocabulary)}; allowed: a Vocabulary, or a dict of words and their labels"
        )
    found = []
    for i, token in words:
        if token in vocabulary:
            found.append((i, _as_labels(f"vocabulary[{brief(token)}]", vocabulary[token], separator)))
    return found


def _encoded(vocabulary: Vocabulary, words: list[tuple[int, str]], separator: int) -> list[Spelling]:
    found = []
    for i, token in words:
        try:
            labels = tuple(vocabulary._encode(token, True, "text").tolist())
        except ValueError:
            continue
        if labels and separator not in labels:
            found.append((i, labels))
    return found


def _as_labels(name: str, value: Any, separator: int) -> tuple[int, ...]:
    read = read_integers(name, value)
    labels = read.values
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"{name} has shape {labels.shape}; allowed: [S] with 1 label or more")
    bad = np.flatnonzero((labels < 0) | (labels >= 2**31) | (labels == separator))
    if bad.size:
        reason = ", the separator" if labels[bad[0]] == separator else ""
        raise ValueError(f"{name}[{bad[0]}] is {read.shown(int(bad[0]))}{reason}; allowed: labels, 0 or more")
    return tuple(labels.tolist())
