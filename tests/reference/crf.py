"""Slow, readable oracles for the linear-chain CRF: one sequence at a time, NumPy only.

In long double and in log space, as in `reference`. Every function takes the emissions [T, K] of one
sequence without its padding, transitions [K, K], starts and ends [K].
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

WIDE = np.longdouble


class Gradients(NamedTuple):
    emissions: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray


def log_sum(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis=axis, keepdims=True)
    largest = np.where(largest == -np.inf, 0, largest)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - largest).sum(axis=axis)) + largest.squeeze(axis)


def node_scores(emissions, start, end) -> np.ndarray:
    """Emissions, with starts and ends added where they belong."""
    scores = np.asarray(emissions).astype(WIDE)
    scores[0] += np.asarray(start).astype(WIDE)
    scores[-1] += np.asarray(end).astype(WIDE)
    return scores


def path_score(path, emissions, transitions, start, end) -> np.longdouble:
    if len(path) == 0:
        return WIDE(0)
    scores = node_scores(emissions, start, end)
    steps = np.asarray(transitions).astype(WIDE)[path[:-1], path[1:]]
    return scores[np.arange(len(path)), path].sum() + steps.sum()


def forward_backward(emissions, transitions, start, end) -> tuple[np.longdouble, np.ndarray, np.ndarray]:
    """Log-partition, and the marginals of tags [T, K] and of neighbouring tags [T - 1, K, K]."""
    frames, tags = np.shape(emissions)
    if frames == 0:
        return WIDE(0), np.zeros((0, tags)), np.zeros((0, tags, tags))
    scores, steps = node_scores(emissions, start, end), np.asarray(transitions).astype(WIDE)
    alpha, beta = scores.copy(), np.zeros(scores.shape, WIDE)
    for t in range(1, frames):
        alpha[t] += log_sum(alpha[t - 1][:, None] + steps, 0)
    for t in range(frames - 2, -1, -1):
        beta[t] = log_sum(steps + scores[t + 1] + beta[t + 1], 1)
    total = log_sum(alpha[-1], 0)
    if not total > -np.inf:  # or NaN
        share = 0.0 if total == -np.inf else np.nan
        return total, np.full(scores.shape, share), np.full((frames - 1, tags, tags), share)
    pairs = alpha[:-1, :, None] + steps + (scores + beta)[1:, None, :] - total
    return total, np.exp(alpha + beta - total).astype(float), np.exp(pairs).astype(float)


def loss(emissions, tags, transitions, start, end) -> tuple[float, Gradients]:
    """Negative log-likelihood of the tags and its gradients; inf and 0 for tags of probability 0."""
    tags = np.asarray(tags)
    shape = np.shape(emissions)
    none = Gradients(np.zeros(shape), np.zeros((shape[1],) * 2), np.zeros(shape[1]), np.zeros(shape[1]))
    if len(tags) == 0:
        return 0.0, none
    total, unary, pairwise = forward_backward(emissions, transitions, start, end)
    score = path_score(tags, emissions, transitions, start, end)
    if np.isnan(total) or total == np.inf:
        return np.nan, Gradients(*(np.full(g.shape, np.nan) for g in none))
    if score == -np.inf:
        return np.inf, none
    return float(max(total - score, 0)), path_difference(unary, pairwise.sum(0), tags)


def path_difference(unary: np.ndarray, steps: np.ndarray, tags: np.ndarray) -> Gradients:
    """Expected indicators of nodes and steps, minus those of the tagged path."""
    unary, steps = unary.copy(), steps.copy()
    unary[np.arange(len(tags)), tags] -= 1
    np.subtract.at(steps, (tags[:-1], tags[1:]), 1)
    return Gradients(unary, steps, unary[0], unary[-1])


def viterbi(emissions, transitions, start, end) -> tuple[np.ndarray, np.longdouble]:
    """Best path, of equal ones that whose last tag is smallest, and so on back; and its score."""
    if len(emissions) == 0:
        return np.zeros(0, int), WIDE(0)
    scores, steps = node_scores(emissions, start, end), np.asarray(transitions).astype(WIDE)
    best, before = scores[0], []
    for row in scores[1:]:
        reached = best[:, None] + steps
        before.append(reached.argmax(0))
        best = reached.max(0) + row
    path = [int(best.argmax())]
    for choice in reversed(before):
        path.append(int(choice[path[-1]]))
    if best.max() == -np.inf:
        return np.full(len(scores), -1), best.max()
    return np.array(path[::-1]), best.max()


def hinge(emissions, tags, transitions, start, end, cost) -> tuple[float, Gradients]:
    """Structured hinge loss and the subgradient of the best path that `viterbi` finds."""
    tags = np.asarray(tags)
    value, gradients = loss(emissions, tags, transitions, start, end)
    if len(tags) == 0 or not np.isfinite(value):
        return value, gradients
    augmented = np.asarray(emissions).astype(WIDE) + np.asarray(cost).astype(WIDE)[tags]
    path, best = viterbi(augmented, transitions, start, end)
    margin = float(best - path_score(tags, emissions, transitions, start, end))
    if margin <= 0:
        return 0.0, Gradients(*(np.zeros(g.shape) for g in gradients))
    unary = np.eye(augmented.shape[1])[path]
    steps = np.zeros(np.shape(transitions))
    np.add.at(steps, (path[:-1], path[1:]), 1)
    return margin, path_difference(unary, steps, tags)


def all_paths(emissions, transitions, start, end) -> tuple[np.ndarray, np.ndarray]:
    """All K^T paths [K^T, T] and their scores."""
    frames, tags = np.shape(emissions)
    paths = np.array(list(product(range(tags), repeat=frames)), int).reshape(tags**frames, frames)
    return paths, np.array([path_score(y, emissions, transitions, start, end) for y in paths], WIDE)


def batch(function: Callable, case, *more) -> tuple[np.ndarray, Gradients]:
    """Losses [B], and the gradients of their sum, of all sequences of a case."""
    emissions = np.zeros(case.emissions.shape)
    losses, sums = [], [np.zeros(np.shape(p)) for p in case.parameters]
    for b, n in enumerate(case.lengths):
        one, gradients = function(
            case.emissions[b, :n], case.tags[b, :n], *case.parameters, *(np.asarray(m) for m in more)
        )
        losses.append(one)
        emissions[b, :n] = gradients.emissions
        sums = [a + g for a, g in zip(sums, gradients[1:], strict=True)]
    return np.array(losses, float), Gradients(emissions, *sums)
