"""Slow, readable oracles for the CTC-CRF: one sequence at a time, NumPy only, in long double.

Scores are [T, K, P] without padding; predecessors [K, P], -1 for an arc that does not exist; labels are given as the
states that their paths visit.
"""

from itertools import product

import numpy as np

WIDE = np.longdouble


def word_table(n_bases: int, length: int) -> np.ndarray:
    """Predecessors [K, P] of words of labels, from the words themselves."""
    words = list(product(range(n_bases), repeat=length))
    number = {word: k for k, word in enumerate(words)}
    return np.array([[number[word], *(number[(c, *word[:-1])] for c in range(n_bases))] for word in words])


def word_states(labels, n_bases: int, length: int) -> list[int]:
    """States of the words of labels 1 to n_bases, one after another; none for too few labels."""
    words = [labels[i : i + length] for i in range(len(labels) - length + 1)]
    return [sum((int(c) - 1) * n_bases**i for i, c in enumerate(reversed(word))) for word in words]


def all_paths(scores, predecessors):
    """Paths as lists of (state, arc), with the first state, their scores, and the states that they visit."""
    frames, n_states, n_arcs = np.shape(scores)
    for last in range(n_states):
        for arcs in product(range(n_arcs), repeat=frames):
            state, path, total, visited = last, [], WIDE(0), [last]
            for t, p in zip(reversed(range(frames)), reversed(arcs), strict=True):
                if predecessors[state, p] < 0:
                    break
                path.append((state, p))
                total += WIDE(scores[t, state, p])
                state = int(predecessors[state, p])
                if p:
                    visited.append(state)
            else:
                yield path[::-1], total, visited[::-1]


def log_sum(values) -> np.longdouble:
    values = np.array(values, WIDE)
    most = values.max(initial=-np.inf)
    if not np.isfinite(most):
        return most
    return most + np.log(np.exp(values - most).sum())


def arcs_between(predecessors, states=None):
    """Arcs (to, p): (k, from) between all states, or between the places of the labels; arc p is that into state k."""
    nodes = range(len(predecessors)) if states is None else states
    arcs = {}
    for j, k in enumerate(nodes):
        for p, before in enumerate(predecessors[k]):
            if states is None:
                i = before
            elif p == 0:
                i = j
            else:
                i = j - 1 if j and before == states[j - 1] else -1
            if i >= 0:
                arcs[j, p] = (k, i)
    return arcs


def forward_backward(scores, predecessors, states=None):
    """Log of the sum over the paths, and posteriors of the arcs [T, K, P], by adding up in logarithms."""
    frames = len(scores)
    arcs = arcs_between(predecessors, states)
    n = scores.shape[1] if states is None else len(states)
    alpha = np.full((frames + 1, n), -np.inf, WIDE)
    beta = np.full((frames + 1, n), -np.inf, WIDE)
    alpha[0, : None if states is None else 1] = 0
    beta[frames, (0 if states is None else n - 1) :] = 0
    wide = np.asarray(scores).astype(WIDE)
    for t in range(frames):
        for j in range(n):
            into = [alpha[t, i] + wide[t, k, p] for (to, p), (k, i) in arcs.items() if to == j]
            alpha[t + 1, j] = log_sum(into)
    for t in reversed(range(frames)):
        for j in range(n):
            out = [beta[t + 1, to] + wide[t, k, p] for (to, p), (k, i) in arcs.items() if i == j]
            beta[t, j] = log_sum(out)
    total = log_sum(alpha[frames] + beta[frames])
    posteriors = np.zeros(scores.shape, WIDE)
    if np.isfinite(total):
        for (j, p), (k, i) in arcs.items():
            posteriors[:, k, p] += np.exp(alpha[:-1, i] + wide[:, k, p] + beta[1:, j] - total)
    return total, posteriors


def loss(scores, predecessors, states):
    """Loss and gradient; inf and 0 for states that no path visits."""
    total, among_all = forward_backward(scores, predecessors)
    if not states:
        return WIDE(np.inf), np.zeros(scores.shape)
    spelled, among_spelled = forward_backward(scores, predecessors, states)
    if spelled == -np.inf:
        return WIDE(np.inf), np.zeros(scores.shape)
    return total - spelled, (among_all - among_spelled).astype(np.float64)
