"""Oracles that add scores up as fractions: right whatever their sizes, for as few paths as can be enumerated.

A path is a sequence of terms, one for each score that it crosses; terms of -inf make it impossible.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np

from reference import alignment as reference_alignment
from reference import transducer


def exact_sum(terms: Iterable[float]) -> Fraction | None:
    """The sum; None if a term is -inf."""
    terms = [float(x) for x in terms]
    return None if -math.inf in terms else sum(map(Fraction, terms), Fraction(0))


def rounded(x: Fraction) -> float:
    """The float64 nearest to x, or inf of its sign."""
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def exponential(x: Fraction) -> float:
    """exp(x) of x <= 0."""
    return math.exp(max(rounded(x), -800.0))


def shares(sums: Sequence[Fraction | None]) -> tuple[Fraction, float, list[float]] | None:
    """The largest sum, the log of all relative to it, and the share of each; None if all are impossible."""
    possible = [s for s in sums if s is not None]
    if not possible:
        return None
    best = max(possible)
    weights = [0.0 if s is None else exponential(s - best) for s in sums]
    total = math.fsum(weights)
    return best, math.log(total), [w / total for w in weights]


def log_normalizer(row: np.ndarray) -> tuple[Fraction, float] | None:
    """Maximum of a row of logits and log of the sum relative to it; None if all are -inf."""
    scores = [exact_sum([x]) for x in row]
    found = shares(scores)
    return None if found is None else found[:2]


class CTC(NamedTuple):
    loss: float
    states: np.ndarray  # [T, 2 S + 1] posteriors
    gradient: np.ndarray  # [T, V]
    scores: dict[tuple[int, ...], Fraction]  # of each possible path of states, up to a constant of all paths


def ctc(scores: np.ndarray, labels: Sequence[int], kind: str) -> CTC:
    """Blank 0; of a sequence without a path loss inf and no gradient."""
    frames, classes = scores.shape
    states = reference_alignment.states_of(labels, 0)
    with np.errstate(divide="ignore"):
        values = np.log(scores.astype(float)) if kind == "probs" else scores.astype(float)
    paths = list(reference_alignment.state_paths(states, frames))
    sums = [exact_sum(values[np.arange(frames), states[list(path)]]) for path in paths]
    found = shares(sums)
    posteriors, gradient = np.zeros((frames, len(states))), np.zeros(scores.shape)
    if found is None:
        return CTC(math.inf, posteriors, gradient, {})
    best, log_sum, share = found
    loss, rest = -best, -log_sum
    for path, weight in zip(paths, share, strict=True):
        posteriors[np.arange(frames), list(path)] += weight
    for t in range(frames):
        by_class = np.bincount(states, posteriors[t], classes)
        gradient[t] = -by_class
        if kind == "logits":
            most, log_norm = log_normalizer(values[t])
            loss, rest = loss + most, rest + log_norm
            softmax = [0.0 if x == -np.inf else exponential(Fraction(x) - most) for x in values[t]]
            gradient[t] += np.array(softmax) / math.exp(log_norm)
        if kind == "probs":
            gradient[t] /= np.where(scores[t] > 0, scores[t].astype(float), np.nan)
    possible = {path: s for path, s in zip(paths, sums, strict=True) if s is not None}
    return CTC(rounded(loss + Fraction(rest)), posteriors, gradient, possible)


class RNNT(NamedTuple):
    loss: float
    by_blank: np.ndarray  # [T, U + 1] occupancies
    by_label: np.ndarray
    gradient: np.ndarray  # [T, U + 1, V]
    scores: dict[tuple[transducer.Arc, ...], Fraction]  # of each possible path


def _arcs_of_a_node(row: np.ndarray, kind: str, hat: bool) -> tuple[list[Fraction | None], np.ndarray]:
    """Log-probability of each class at a node, blank 0, and the expectation of each class, given that it is passed."""
    terms = [exact_sum([x]) for x in row]
    expected = np.zeros(len(row))
    if kind != "logits":
        return terms, expected
    found = log_normalizer(np.where(np.arange(len(row)) == 0, -np.inf, row) if hat else row)
    for c, x in enumerate(terms):
        if found is not None and x is not None and not (hat and c == 0):
            expected[c] = exponential(x - found[0]) / math.exp(found[1])
            terms[c] = x - found[0] - Fraction(found[1])
    if hat:
        z = terms[0]
        small = 0.0 if z is None else exponential(-abs(z))
        rest = -Fraction(math.log1p(small))
        terms = [None if x is None else x + rest - (max(z, 0) if z is not None else 0) for x in terms]
        terms[0] = None if z is None else min(z, 0) + rest
    return terms, expected


def rnnt(scores: np.ndarray, labels: Sequence[int], kind: str, topology: str, hat: bool = False) -> RNNT:
    """Blank 0; without a path the loss is inf and there is no gradient. The gradient is that of "softmax" alone."""
    frames, columns, _ = scores.shape
    with np.errstate(divide="ignore"):
        values = np.log(scores.astype(float)) if kind == "probs" else scores.astype(float)
    nodes = [[_arcs_of_a_node(row, kind, hat) for row in rows] for rows in values]
    paths = list(transducer.paths(frames, columns, transducer.TOPOLOGIES[topology]))
    sums: list[Fraction | None] = []
    for path in paths:
        terms = [nodes[arc.t][arc.u][0][0 if arc.kind == transducer.BLANK else labels[arc.u]] for arc in path]
        sums.append(None if None in terms else sum(terms, Fraction(0)))
    found = shares(sums)
    occupancies, gradient = np.zeros((2, frames, columns)), np.zeros(scores.shape)
    if found is None:
        return RNNT(math.inf, *occupancies, gradient, {})
    best, log_sum, share = found
    for path, weight in zip(paths, share, strict=True):
        for arc in path:
            occupancies[arc.kind, arc.t, arc.u] += weight
    for t, u in np.ndindex(frames, columns):
        gradient[t, u] = occupancies[:, t, u].sum() * nodes[t][u][1]
        gradient[t, u, 0] -= occupancies[transducer.BLANK, t, u]
        if u < len(labels):
            gradient[t, u, labels[u]] -= occupancies[transducer.LABEL, t, u]
    if kind == "probs":
        gradient /= np.where(scores > 0, scores.astype(float), np.nan)
    possible = {path: s for path, s in zip(paths, sums, strict=True) if s is not None}
    return RNNT(rounded(-best - Fraction(log_sum)), *occupancies, gradient, possible)


class CRF(NamedTuple):
    log_partition: float
    unary: np.ndarray  # [T, K]
    pairwise: np.ndarray  # [T - 1, K, K]
    log_sum: float  # of all paths, relative to the best
    scores: dict[tuple[int, ...], Fraction]  # of each possible path


def crf_terms(path, emissions, transitions, start, end) -> list[float]:
    steps = transitions[list(path[:-1]), list(path[1:])]
    return [*emissions[np.arange(len(path)), list(path)], *steps, start[path[0]], end[path[-1]]]


def crf(emissions, transitions, start, end) -> CRF:
    frames, tags = emissions.shape
    paths = list(product(range(tags), repeat=frames))
    sums = [exact_sum(crf_terms(path, emissions, transitions, start, end)) for path in paths]
    unary, pairwise = np.zeros((frames, tags)), np.zeros((frames - 1, tags, tags))
    found = shares(sums)
    if found is None:
        return CRF(-math.inf, unary, pairwise, -math.inf, {})
    best, log_sum, share = found
    for path, weight in zip(paths, share, strict=True):
        unary[np.arange(frames), list(path)] += weight
        pairwise[np.arange(frames - 1), list(path[:-1]), list(path[1:])] += weight
    possible = {path: s for path, s in zip(paths, sums, strict=True) if s is not None}
    return CRF(rounded(best + Fraction(log_sum)), unary, pairwise, log_sum, possible)
