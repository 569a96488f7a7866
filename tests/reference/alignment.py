"""Slow, readable oracles for alignment, posteriors and decoding: one sequence at a time, NumPy only."""

from collections.abc import Iterator, Sequence

import numpy as np

from reference import ctc as reference


def states_of(labels: Sequence[int], blank: int) -> np.ndarray:
    """The class of each state: blank, first label, blank, ..., last label, blank."""
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    return states


def may_skip(states: np.ndarray) -> np.ndarray:
    """True for states that may be entered from the label before the preceding blank."""
    return np.array([u % 2 == 1 and u > 1 and states[u] != states[u - 2] for u in range(len(states))])


def state_paths(states: np.ndarray, frames: int) -> Iterator[tuple[int, ...]]:
    """All ways through the states, in lexicographic order."""
    skip = may_skip(states)

    def extend(path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(path) == frames:
            if path[-1] >= len(states) - 2:
                yield path
            return
        last = path[-1]
        for u in (last, last + 1, last + 2):
            if u < len(states) and (u < last + 2 or skip[u]):
                yield from extend((*path, u))

    for first in range(min(2, len(states))):
        yield from extend((first,))


def best_path_by_enumeration(emissions: np.ndarray, states: np.ndarray) -> tuple[float, np.ndarray]:
    """Score and states of the first of the best paths; score -inf and no states if there is none.

    `emissions` [T, U] are the log-probabilities of the states.
    """
    best, found = -np.inf, np.zeros(0, int)
    for path in state_paths(states, len(emissions)):
        # From the last frame on, so that sums which are equal in float64 are equal for both sides.
        score = sum(emissions[np.arange(len(path)), path][::-1])
        if score > best:
            best, found = score, np.array(path)
    return best, found


def viterbi(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> tuple[float, np.ndarray]:
    """Score and classes [T] of a best path: the usual loop over frames, vectorised over the states.

    Written as one would without a library, in the dtype of `log_probs`, with an int8 backpointer
    for each state.
    """
    states = states_of(labels, blank)
    skip = np.where(may_skip(states), 0, -np.inf).astype(log_probs.dtype)[2:]
    score = np.full(len(states), -np.inf, log_probs.dtype)
    score[:2] = log_probs[0, states[:2]]
    back = np.zeros((len(log_probs), len(states)), np.int8)
    for t in range(1, len(log_probs)):
        best = score.copy()
        moved = score[:-1] > best[1:]
        np.maximum(best[1:], score[:-1], out=best[1:])
        skipped = score[:-2] + skip > best[2:]
        np.maximum(best[2:], score[:-2] + skip, out=best[2:])
        back[t, 1:] = moved
        back[t, 2:][skipped] = 2
        score = best + log_probs[t, states]
    u = len(states) - 1
    if u and score[u - 1] > score[u]:
        u -= 1
    total = score[u]
    path = np.empty(len(log_probs), np.int64)
    for t in range(len(log_probs) - 1, -1, -1):
        path[t] = states[u]
        u -= int(back[t, u])
    return float(total), path


def best_score(emissions: np.ndarray, states: np.ndarray) -> float:
    """Score of the best path, in long double, by dynamic programming."""
    skip = may_skip(states)
    score = np.full(len(states), -np.inf, reference.WIDE)
    score[:2] = emissions[0, :2]
    for row in emissions[1:]:
        before = [score, np.roll(score, 1), np.where(skip, np.roll(score, 2), -np.inf)]
        before[1][0] = -np.inf
        score = np.max(before, axis=0) + row
    return score[-2:].max()


def posteriors(scores: np.ndarray, labels: Sequence[int], blank: int, kind: str) -> np.ndarray:
    """Occupation probabilities [T, 2S+1], in long double; all 0 if no path has a probability."""
    frames = len(scores)
    states = states_of(labels, blank)
    if frames == 0 or not reference.feasible(labels, frames):
        return np.zeros((frames, len(states)))
    emissions = reference.log_emissions(scores, kind)[:, states]
    alpha, beta = reference.lattices(emissions, may_skip(states))
    together = alpha + beta + emissions
    total = np.logaddexp.reduce(together[-1])
    if total == -np.inf:
        return np.zeros((frames, len(states)))
    return np.exp(together - total).astype(np.float64)


def posteriors_by_enumeration(probs: np.ndarray, labels: Sequence[int], blank: int) -> np.ndarray:
    """The definition: the share of the paths that are in a state, of all paths."""
    states = states_of(labels, blank)
    frames = np.arange(len(probs))
    shares = np.zeros((len(probs), len(states)))
    for path in state_paths(states, len(probs)):
        shares[frames, list(path)] += probs[frames, states[list(path)]].prod()
    total = shares[:1].sum()
    return shares / total if total > 0 else shares


def greedy(scores: np.ndarray, blank: int, kind: str) -> tuple[list[int], float]:
    """Labels and log-probability of the best class of each frame."""
    best = scores.astype(np.float64).argmax(axis=1)
    log_probs = reference.log_emissions(scores, kind)
    total = sum(log_probs[t, c] for t, c in enumerate(best))
    return reference.collapse(best.tolist(), blank), float(total)


def first_best_path(emissions: np.ndarray, states: np.ndarray) -> tuple[float, np.ndarray]:
    """Score and states of the best path that advances latest: best scores backwards, then the path forwards."""
    skip = may_skip(states)
    frames, count = emissions.shape
    behind = np.full((frames, count + 2), -np.inf)
    behind[-1, max(count - 2, 0) : count] = emissions[-1, max(count - 2, 0) :]
    for t in range(frames - 2, -1, -1):
        skipped = np.where(np.append(skip[2:], [False, False])[:count], behind[t + 1, 2:], -np.inf)
        ways = [behind[t + 1, :count], behind[t + 1, 1:-1], skipped]
        behind[t, :count] = np.max(ways, axis=0) + emissions[t]
    path = [int(np.argmax(behind[0, :2]))]
    for t in range(1, frames):
        u = path[-1]
        ways = behind[t, u : u + 3].copy()
        if u + 2 >= count or not skip[u + 2]:
            ways[2] = -np.inf
        path.append(u + int(np.argmax(ways)))
    return behind[0, : min(2, count)].max(), np.array(path)
