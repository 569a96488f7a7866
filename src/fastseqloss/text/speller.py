"""Words of an n-gram model as a tree of their characters, through which labels lead."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._core.arrays import read_integers
from .._core.messages import brief
from .arpa import Arpa
from .grammar import FORBIDDEN, Floats, Integers, as_integers, sorted_edges
from .tokens import EDGE
from .vocabulary import Vocabulary

_BEFORE, _MOVES, _AFTER = 1, 2, 4  # actions of labels: the word ends before, labels go on in the tree, it ends after

Characters = str | tuple[int, ...]  # those of a text, or labels


class Spelling(NamedTuple):
    """Words, and the labels that spell them."""

    words: list[tuple[int, Characters]]
    pieces: dict[Characters, list[int]]  # the labels of some characters
    actions: dict[int, int]  # of labels, if others than to go on


class Speller:
    """A tree of words. A node has the level of the best word below it, or of an unknown one, if that is better: the
    labels that lead there pay for that word before it ends.
    """

    def __init__(self, spelling: Spelling, unknown: int | None, arpa: Arpa) -> None:
        self.unknown, self._actions = unknown, spelling.actions
        scores = {word: arpa.ngrams[0][(word,)][0] for word, _ in spelling.words}
        self._lowest = -np.inf if unknown is None else arpa.ngrams[0][(unknown,)][0]
        if self._lowest == -np.inf:
            self._lowest = min((score for score in scores.values() if score > -np.inf), default=0.0)
        lengths = sorted({len(piece) for piece in spelling.pieces})
        levels, words = [0.0], [-1]
        edges: dict[tuple[int, int], int] = {}
        nodes: dict[Characters, int] = {}
        self.used: set[int] = set()  # words that labels spell
        for word, characters in sorted(spelling.words, key=lambda each: -scores[each[0]]):
            steps = _steps(characters, spelling, lengths)
            if not steps:
                continue
            self.used.add(word)
            ends = [0]
            for end in range(1, len(characters) + 1):
                node = nodes.setdefault(characters[:end], len(levels))
                if node == len(levels):
                    levels.append(max(scores[word], self._lowest))
                    words.append(-2)
                ends.append(node)
            words[ends[-1]] = word if words[ends[-1]] == -2 else words[ends[-1]]
            edges |= {(ends[first], label): ends[last] for first, label, last in steps}
        self._edges = np.array([(*key, node) for key, node in edges.items()], np.int64).reshape(-1, 3).T
        self._levels, self._words = np.array(levels), np.array(words, np.int64)
        ending = {label for label, action in spelling.actions.items() if action & (_BEFORE | _AFTER)}
        self.classes = {*self._edges[1].tolist()} | ending

    def compiled(self, n_classes: int, best_of_words: Floats) -> tuple[Integers, Floats, Floats]:
        """Return the automaton, its levels, gains and ends, and the greatest score of each label."""
        n, levels, words = len(self._levels), self._levels, self._words.copy()
        sources, labels, nodes = self._edges
        actions = np.full(n_classes, _MOVES)
        for label, action in self._actions.items():
            if label < n_classes:
                actions[label] = action
        fallback = np.full(n, FORBIDDEN, np.int64)
        best = np.full(n_classes, -np.inf)
        np.maximum.at(best, labels, levels[nodes] - levels[sources])
        rare = len(best_of_words) - 1 if self.unknown is None else self.unknown
        words[words == -2] = rare  # an n-gram has no edge by an unknown word that is forbidden
        if self.unknown is not None:  # a state after the others for the labels of unknown words
            others = np.flatnonzero(actions & _MOVES)
            sources, labels = np.append(sources, np.full(len(others), n)), np.append(labels, others)
            nodes = np.append(nodes, np.full(len(others), n))
            fallback = np.append(np.full(n, n), FORBIDDEN)
            levels, words = np.append(levels, self._lowest), np.append(words, rare)
            best[others] = np.maximum(best[others], 0.0)
        ended = max(0.0, (best_of_words[words[1:]] - levels[1:]).max(initial=-np.inf))
        best[actions & _MOVES == 0] = 0.0
        best += ended * (actions & _BEFORE > 0) + ended * (actions & _AFTER > 0)
        edges = sorted_edges(len(levels), sources, labels, nodes)
        numbers = np.concatenate((levels, np.zeros(2 * len(levels))))
        return as_integers(edges, fallback, words.tolist(), actions.tolist()), numbers, best


def _steps(characters: Characters, spelling: Spelling, lengths: list[int]) -> list[tuple[int, int, int]]:
    """Return the labels of a word as (first character, label, one after the last); none if labels do not spell it.

    Labels that begin a word are left out within it, those that end it before its end.
    """
    size = len(characters)
    found, reached = [], {0}
    for first in range(size):
        for last in (first + length for length in lengths if first in reached and first + length <= size):
            for label in spelling.pieces.get(characters[first:last], ()):
                action = spelling.actions.get(label, _MOVES)
                if (first == 0 or not action & _BEFORE) and (last == size or not action & _AFTER):
                    found.append((first, label, last))
                    reached.add(last)
    return found if size in reached else []


def spelling_of(vocabulary: Any, arpa: Arpa, special: set[int], separator: int | None) -> Spelling:
    """Return the words of a file, as texts or as labels that are given."""
    words = [(i, token) for i, token in enumerate(arpa.tokens) if i not in special]
    if isinstance(vocabulary, Vocabulary):
        return _of_vocabulary(vocabulary, words, separator)
    given: list[tuple[int, Characters]] = []
    pieces: dict[Characters, list[int]] = {}
    for i, token in words:
        if token in vocabulary:
            labels = _as_labels(f"vocabulary[{brief(token)}]", vocabulary[token], separator)
            given.append((i, labels))
            pieces |= {(label,): [label] for label in labels}
    return Spelling(given, pieces, {} if separator is None else {separator: _BEFORE})


def _of_vocabulary(vocabulary: Vocabulary, words: list[tuple[int, str]], separator: int | None) -> Spelling:
    pieces: dict[Characters, list[int]] = {}
    actions = {}
    for label, piece in enumerate(vocabulary._pieces):
        text = piece.strip(EDGE)
        actions[label] = 0 if piece else _MOVES  # a label without a text is in no word
        if EDGE in text:
            token = brief(vocabulary.tokens[label])
            raise ValueError(f'vocabulary has the token {token}; allowed with unit="words": tokens of one word')
        actions[label] |= (_BEFORE if piece.startswith(EDGE) else 0) | (_AFTER if piece.endswith(EDGE) and text else 0)
        if text and label != separator:
            actions[label] |= _MOVES
            pieces.setdefault(text, []).append(label)
    if separator is not None:
        actions[separator] = _BEFORE
    spelt: list[tuple[int, Characters]] = []
    for i, token in words:
        if EDGE not in token:
            spelt.append((i, vocabulary._spell(token, "text").characters.strip(EDGE)))
    return Spelling(spelt, pieces, actions)


def _as_labels(name: str, value: Any, separator: int | None) -> tuple[int, ...]:
    read = read_integers(name, value)
    labels = read.values
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"{name} has shape {labels.shape}; allowed: [S] with 1 label or more")
    bad = np.flatnonzero((labels < 0) | (labels >= 2**31) | (labels == separator))
    if bad.size:
        reason = ", the separator" if labels[bad[0]] == separator else ""
        raise ValueError(f"{name}[{bad[0]}] is {read.shown(int(bad[0]))}{reason}; allowed: labels, 0 or more")
    return tuple(labels.tolist())
