"""Checks of the arguments of the CTC-CRF: scores of arcs, tables of transitions, and arcs that spell labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_floats, as_lengths, filled, kernel_ready, read_integers
from .._core.labels import Alphabet, Names, check_labels, read_label_array, read_labels
from .._core.messages import listed
from .._core.options import choice
from .._core.scores import Scores
from .._core.types import Infeasible

Integers = NDArray[np.int64]

_NAMES = Names(logits="scores", logit_lengths="lengths")
_INFEASIBLE = get_args(Infeasible)


class ArcScores(Scores):
    """Scores [B, T, K P] of the arcs into K states, passed as [B, T, K, P], or [T, K, P] for one sequence."""

    __slots__ = ()

    @property
    def single(self) -> bool:
        """True if there was no batch axis."""
        return self.given.ndim == 3


@dataclass(slots=True)
class Chain:
    """Scores of the arcs of a batch, in the form of the kernel, and the table of the states that they come from."""

    scores: ArcScores
    lengths: Integers
    table: Integers  # [P, K]; K for an arc that does not exist
    word: int  # number of labels that make a state, 0 for labels that are states

    @property
    def n_states(self) -> int:
        """Number of states."""
        return int(self.table.shape[1])

    @property
    def n_arcs(self) -> int:
        """Number of arcs into a state."""
        return len(self.table)


@dataclass(slots=True)
class Spelling:
    """Arcs of the paths that spell labels, in the form of the kernel."""

    lengths: Integers  # numbers of labels [B]
    counts: Integers  # numbers of states [B], 0 or less for labels too few for one
    starts: Integers  # [B]
    stays: Integers  # [N] each
    moves: Integers
    feasible: NDArray[np.bool_]  # [B]


def as_chain(scores: ArrayLike, lengths: ArrayLike | None, predecessors: ArrayLike | None) -> Chain:
    """Check scores, lengths and the table of transitions."""
    given = as_array("scores", scores)
    if given.ndim not in (3, 4):
        raise ValueError(f"scores has shape {given.shape}; allowed: [B, T, K, P], or [T, K, P] for one sequence")
    n_states, n_arcs = given.shape[-2:]
    if not n_states or not n_arcs:
        raise ValueError(f"scores has shape {given.shape}: no states or no arcs; allowed: 1 or more of each")
    values = as_floats("scores", given)
    batch = given.shape[0] if given.ndim == 4 else 1
    n_frames = given.shape[-3]
    counts = as_lengths("lengths", lengths, batch, n_frames, given.ndim == 3)
    if predecessors is None:
        table, word = _word_table(given.shape)
    else:
        table, word = _as_table(predecessors, n_states, n_arcs), 0
    values = values.astype(np.float32) if values.itemsize == 2 else values
    checked = ArcScores(kernel_ready(values.reshape(batch, n_frames, n_states * n_arcs)), given)
    return Chain(checked, counts, table, word)


def _word_table(shape: tuple[int, ...]) -> tuple[Integers, int]:
    """Return the table [P, K] of words of labels, and the number of labels in a word."""
    n_states, n_arcs = shape[-2:]
    n_bases = n_arcs - 1
    word = next((n for n in range(1, 64) if n_bases**n >= n_states), 1)
    if n_bases < 1 or n_bases**word != n_states:
        raise ValueError(
            f"scores has shape {shape}: {n_states} states with {n_arcs} arcs; allowed without predecessors: a power "
            f"of {n_bases} states, one for each word of that many labels, of which one arc stays and {n_bases} move"
        )
    states = np.arange(n_states, dtype=np.int64)
    oldest = np.arange(n_bases, dtype=np.int64)[:, None] * (n_states // n_bases)
    return np.concatenate((states[None], oldest + states // n_bases)), word


def _as_table(predecessors: ArrayLike, n_states: int, n_arcs: int) -> Integers:
    """Check a table of predecessors [K, P]; return it in the form of the kernel."""
    read = read_integers("predecessors", predecessors)
    values = read.values
    if values.shape != (n_states, n_arcs):
        raise ValueError(f"predecessors has shape {values.shape}; allowed: {(n_states, n_arcs)}, as of scores")
    bad = (values < -1) | (values >= n_states)
    bad[:, 0] = values[:, 0] != np.arange(n_states)
    if bad.any():
        k, p = np.argwhere(bad)[0].tolist()
        allowed = f"0 to {n_states - 1}, or -1 for no arc" if p else f"{k}: arc 0 of a state stays in it"
        raise ValueError(f"predecessors[{k}, {p}] is {read.shown(k * n_arcs + p)}; allowed: {allowed}")
    moves = np.sort(values[:, 1:], axis=1)
    repeated = np.argwhere((moves[:, 1:] == moves[:, :-1]) & (moves[:, 1:] >= 0))
    if len(repeated):
        k, i = repeated[0].tolist()
        raise ValueError(f"predecessors[{k}] is {moves[k, i]} in two moves; allowed: each state once from p = 1 on")
    table = np.ascontiguousarray(values.T)
    return np.where(table < 0, n_states, table)


def spell(chain: Chain, labels: ArrayLike, label_lengths: ArrayLike | None, infeasible: str) -> Spelling:
    """Check labels; return the arcs of the paths that spell them."""
    choice("infeasible", infeasible, _INFEASIBLE)
    single, batch, n_arcs = chain.scores.single, len(chain.lengths), chain.n_arcs
    alphabet = Alphabet(n_arcs, 0) if chain.word else Alphabet(chain.n_states, -1)
    read = read_label_array(labels, _NAMES) if single else read_labels(labels, _NAMES)
    checked = check_labels(read, label_lengths, batch, alphabet, single=single, names=_NAMES)
    word = chain.word or 1
    states = checked.values
    if chain.word:
        # Padding has any values; the states that it makes are not read.
        bases = np.clip(states, 1, n_arcs - 1) - 1
        states = np.zeros(max(len(bases) - word + 1, 0), np.int64)
        for i in range(word):
            states = states * (n_arcs - 1) + bases[i : len(states) + i]
    else:
        states = np.clip(states, 0, chain.n_states - 1)
    moves = filled(len(states), -1, np.int64)
    if len(states) > 1:
        known = chain.table.T[states[1:], 1:] == states[:-1, None]
        arcs = states[1:] * n_arcs + 1 + known.argmax(axis=1)
        moves[1:] = np.where(known.any(axis=1), arcs, -1)
    counts = checked.lengths - word + 1
    feasible = (counts > 0) & (counts - 1 <= chain.lengths)
    if infeasible == "raise" and not feasible.all():
        _raise_infeasible(chain, counts, checked.lengths, feasible)
    return Spelling(checked.lengths, counts, checked.starts, states * n_arcs, moves, feasible)


def _raise_infeasible(chain: Chain, counts: Integers, lengths: Integers, feasible: NDArray[np.bool_]) -> None:
    bad = np.flatnonzero(~feasible)
    b = bad[0]
    if counts[b] <= 0:
        text = f"label_lengths[{b}] is {lengths[b]}; allowed: {chain.word or 1} or more, the labels of a state"
    else:
        text = f"lengths[{b}] is {chain.lengths[b]}; allowed: {counts[b] - 1} or more, one for each move of its labels"
    raise ValueError(f"{text}; infeasible sequences: {listed(bad)}")
