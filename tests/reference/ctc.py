"""Slow, readable oracles for the kernels: one sequence at a time, NumPy only.

Everything is computed in long double, in log space. A log-space float64 lattice would lose
|log alpha| ulps at every step, which on long sequences is more than the error that the tests allow;
long double (64 mantissa bits on x86-64, 113 on aarch64) leaves three digits to spare. Results are
rounded to float64 at the end.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np

from reference.policy import expected_risk

WIDE = np.longdouble


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of each row in long double; all -inf for a row of -inf."""
    x = np.asarray(logits).astype(WIDE)
    largest = x.max(axis=-1, keepdims=True)
    x = x - np.where(largest == -np.inf, 0, largest)
    with np.errstate(divide="ignore"):
        log_sum = np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x - np.where(largest == -np.inf, 0, log_sum)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits))


def collapse(alignment: Sequence[int], blank: int) -> list[int]:
    """The labels that an alignment spells: repeats merged, then blanks removed."""
    merged = [c for t, c in enumerate(alignment) if t == 0 or c != alignment[t - 1]]
    return [c for c in merged if c != blank]


def feasible(labels: Sequence[int], frames: int) -> bool:
    """Return True if there are enough frames: one for each label, and one for the blank between equal neighbours."""
    repeats = sum(a == b for a, b in pairwise(labels))
    return len(labels) + repeats <= frames


def log_emissions(scores: np.ndarray, kind: str) -> np.ndarray:
    """Log-probabilities [T, V] in long double of "logits", "log_probs" or "probs"."""
    if kind == "logits":
        return log_softmax(scores)
    wide = np.asarray(scores).astype(WIDE)
    if kind == "log_probs":
        return wide
    with np.errstate(divide="ignore"):
        return np.log(wide)


def lattices(emissions: np.ndarray, skip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [T, U] of coming to a state before it emits, and of going on to the end after it has emitted.

    `emissions` [T, U] are those of the states; `skip[u]` says whether u may be entered from u - 2.
    """
    # Reversed in time and states, it is a lattice of the same kind, in which u + 2 enters u.
    emissions = np.stack([emissions, emissions[::-1, ::-1]], axis=1)
    skip = np.stack([skip, np.roll(skip, -2)[::-1]])
    before = np.full(emissions.shape, -np.inf, WIDE)
    before[0, :, :2] = 0
    for t in range(1, len(emissions)):
        after, now = before[t - 1] + emissions[t - 1], before[t]
        now[:] = after
        np.logaddexp(now[:, 1:], after[:, :-1], out=now[:, 1:])
        np.logaddexp(now[:, 2:], after[:, :-2], out=now[:, 2:], where=skip[:, 2:])
    return before[:, 0], before[::-1, 1, ::-1]


def ctc(scores: np.ndarray, labels: Sequence[int], blank: int, kind: str = "logits") -> tuple[float, np.ndarray]:
    """Loss and its derivative with respect to `scores` [T, V], all frames and labels valid.

    The derivative of P with respect to one probability is the sum, over the states that emit it, of
    alpha before the emission times beta after it, which is right where that probability is 0, too.
    """
    scores = np.asarray(scores)
    frames, classes = scores.shape
    blank %= classes
    if frames == 0:
        return (np.inf if len(labels) else 0.0), np.zeros(scores.shape)
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    if not feasible(labels, frames):
        return np.inf, np.zeros(scores.shape)
    if np.isnan(scores).any() or (scores == np.inf).any():
        return np.nan, np.full(scores.shape, np.nan)

    log_probs = log_emissions(scores, kind)
    emissions = log_probs[:, states]
    skip = (states != blank) & (states != np.roll(states, 2))
    alpha, beta = lattices(emissions, skip)
    log_p = np.logaddexp.reduce((alpha + emissions)[-1, -2:])
    if log_p == -np.inf:
        return np.inf, np.zeros(scores.shape)

    occupation = np.zeros(scores.shape, WIDE)
    own = 0 if kind == "probs" else emissions
    with np.errstate(over="ignore"):  # where p is 0 the derivative may exceed any range
        np.add.at(occupation.T, states, np.exp(alpha + beta + own - log_p).T)
        gradient = np.exp(log_probs) - occupation if kind == "logits" else -occupation
        return float(-log_p), gradient.astype(np.float64)


def ctc_brute_force(
    scores: np.ndarray, labels: Sequence[int], blank: int, kind: str = "logits"
) -> tuple[float, np.ndarray]:
    """The definition: P is the sum over all V^T alignments that collapse to the labels."""
    scores = np.asarray(scores)
    frames, classes = scores.shape
    blank %= classes
    probs = np.exp(log_emissions(scores, kind)).astype(np.float64)
    alignments = np.array([*product(range(classes), repeat=frames)], np.int8)
    alignments = alignments.reshape(classes**frames, frames)
    kept = alignments != blank
    kept[:, 1:] &= alignments[:, 1:] != alignments[:, :-1]
    alignments, kept = (x[kept.sum(axis=1) == len(labels)] for x in (alignments, kept))
    spelled = alignments[kept].reshape(len(alignments), len(labels))
    alignments = alignments[(spelled == np.asarray(labels, int)).all(axis=1)]

    factors = probs[np.arange(frames), alignments]
    total = factors.prod(axis=1).sum()
    by_probs = np.zeros(scores.shape)
    for t in range(frames):
        others = np.delete(factors, t, axis=1).prod(axis=1)
        np.add.at(by_probs[t], alignments[:, t], others)
    if total == 0:
        return np.inf, np.zeros(scores.shape)
    gradient = -by_probs / total
    if kind == "log_probs":
        gradient *= probs
    if kind == "logits":
        gradient = probs * (gradient - (gradient * probs).sum(axis=1, keepdims=True))
    return float(-np.log(total)), gradient


def mean_scores(emissions: np.ndarray, before: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """Mean score [T, U] of the path to a state, before it emits; `before` as of `lattices`."""
    scores = np.where(np.isfinite(emissions), emissions, 0)
    means = np.zeros(emissions.shape, WIDE)
    for t in range(1, len(emissions)):
        after, value = before[t - 1] + emissions[t - 1], means[t - 1] + scores[t - 1]
        with np.errstate(invalid="ignore"):
            for back, allowed in ((0, True), (1, True), (2, skip[2:])):
                share = np.exp(np.minimum(after[: len(after) - back] - before[t, back:], 0))
                means[t, back:] += np.where(allowed & (share > 0), share * value[: len(value) - back], 0)
    return means


def ctc_entropy(
    scores: np.ndarray, labels: Sequence[int], blank: int, kind: str = "logits"
) -> tuple[float, np.ndarray]:
    """Entropy of the alignments and its derivative with respect to `scores` [T, V], all frames and labels valid.

    log Z less the mean score of an alignment; the derivative is minus a covariance with the score. Where a
    probability is 0, the derivative is set to 0.
    """
    scores = np.asarray(scores)
    frames, classes = scores.shape
    blank %= classes
    gradient = np.zeros(scores.shape, WIDE)
    if frames == 0 or not feasible(labels, frames):
        return 0.0, np.zeros(scores.shape)
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    log_probs = log_emissions(scores, kind)
    emissions = log_probs[:, states]
    if np.isnan(emissions).any() or (emissions == np.inf).any():
        return np.nan, np.full(scores.shape, np.nan)
    skip = (states != blank) & (states != np.roll(states, 2))
    # A number added to all scores of a frame changes nothing. With scores whose posterior mean is 0 nothing cancels.
    center = emissions.max(axis=1, keepdims=True)
    for _ in range(3):
        emissions = emissions - np.where(np.isfinite(center), center, 0)
        alpha, beta = lattices(emissions, skip)
        log_p = np.logaddexp.reduce((alpha + emissions)[-1, -2:])
        if log_p == -np.inf:
            return 0.0, np.zeros(scores.shape)
        posterior = np.exp(alpha + beta + emissions - log_p)
        own = np.where(np.isfinite(emissions), emissions, 0)
        center = (posterior * own).sum(axis=1, keepdims=True)
    after = mean_scores(emissions[::-1, ::-1], beta[::-1, ::-1], np.roll(skip, -2)[::-1])[::-1, ::-1]
    score = mean_scores(emissions, alpha, skip) + own + after
    mean = (posterior[-1] * score[-1]).sum() / posterior[-1].sum()
    np.add.at(gradient.T, states, (posterior * (mean - score)).T)
    if kind == "logits":
        gradient -= np.exp(log_probs) * gradient.sum(axis=1, keepdims=True)
    if kind == "probs":
        gradient = np.divide(gradient, scores, where=scores > 0, out=np.zeros_like(gradient))
    return float(log_p - mean), gradient.astype(np.float64)


def entropy_batch(
    scores: np.ndarray, labels: Sequence[Sequence[int]], lengths: Sequence[int], blank: int, kind: str = "logits"
) -> tuple[np.ndarray, np.ndarray]:
    """Entropy [B] of each sequence and gradient [B, T, V] of their sum; `labels` without padding."""
    entropies, gradient = np.zeros(len(labels)), np.zeros(scores.shape)
    for b, (y, n) in enumerate(zip(labels, lengths, strict=True)):
        entropies[b], gradient[b, :n] = ctc_entropy(scores[b, :n], y, blank, kind)
    return entropies, gradient


def ctc_batch(
    scores: np.ndarray,
    labels: Sequence[Sequence[int]],
    lengths: Sequence[int],
    blank: int,
    kind: str = "logits",
    infeasible: str = "inf",
) -> tuple[np.ndarray, np.ndarray]:
    """Loss [B] of each sequence and gradient [B, T, V] of their sum; `labels` without padding."""
    losses = np.zeros(len(labels))
    gradient = np.zeros(scores.shape)
    for b, (y, n) in enumerate(zip(labels, lengths, strict=True)):
        losses[b], gradient[b, :n] = ctc(scores[b, :n], y, blank, kind)
        if infeasible == "zero" and not feasible(y, n):
            losses[b] = 0.0
    return losses, gradient


def ctc_risk(
    scores: np.ndarray,
    candidates: Sequence[Sequence[int]],
    risks: np.ndarray,
    blank: int,
    kind: str = "logits",
    sharpness: float = 1.0,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Expected risk of label sequences and its derivative, a sum of those of `ctc`; and the size of its terms."""
    found = [ctc(scores, y, blank, kind) for y in candidates]
    some = [i for i, (loss, _) in enumerate(found) if loss < np.inf]
    if not some:
        return 0.0, np.zeros(scores.shape), np.zeros(scores.shape)
    log_probs = np.array([-found[i][0] for i in some])
    base = risks[some][log_probs.argmax()]  # of the most probable one, whose excess loses digits otherwise
    risk, slopes = expected_risk(log_probs, risks[some].astype(WIDE) - base, sharpness)
    terms = np.array([float(slope) * found[i][1] for slope, i in zip(slopes, some, strict=True)])
    return float(base + risk), -terms.sum(axis=0), np.abs(terms).sum(axis=0)


def reduce(
    losses: np.ndarray,
    gradient: np.ndarray,
    label_lengths: Sequence[int],
    reduction: str,
    sample_weight: np.ndarray | None = None,
    normalizer: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The documented reductions of sequence losses; a weight of 0 removes a sequence."""
    weight = np.ones(len(losses)) if sample_weight is None else np.asarray(sample_weight, float)
    divisor = {"none": 1.0, "sum": normalizer or 1.0}.get(reduction, weight.sum())
    share = weight / divisor if divisor else 0 * weight
    if reduction == "sequence_mean":
        share = share / np.maximum(label_lengths, 1)
    weighted = np.multiply(share, losses, where=share != 0, out=np.zeros(len(losses)))
    return (weighted if reduction == "none" else weighted.sum()), gradient * share.reshape(
        -1, *[1] * (gradient.ndim - 1)
    )


def central_differences(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Numerical gradient of a scalar function, one element at a time."""
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[i] += step
        below[i] -= step
        gradient[i] = (function(above) - function(below)) / (above[i] - below[i])
    return gradient
