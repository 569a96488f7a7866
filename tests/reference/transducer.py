"""Slow, readable oracles for the transducers: one sequence at a time, NumPy only.

A path goes from node (0, 0) to node (T, U) by arcs. An arc leaves node (t, u) for (t + d, u) with the blank, or for
(t + d, u + 1) with label u; the durations d that are possible make the topology. The oracles compute in log space and
in long double, as those of CTC do.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from reference.ctc import WIDE, log_emissions, log_softmax


class Topology(NamedTuple):
    """Durations of the arcs of the blank and of the labels; `label_ends`: a label may lead to the end of time."""

    blank: tuple[int, ...]
    label: tuple[int, ...]
    label_ends: bool = False


TOPOLOGIES = {"regular": Topology((1,), (0,)), "modified": Topology((1,), (1,), label_ends=True)}

BLANK, LABEL = 0, 1


class Arc(NamedTuple):
    """Kind, index of the duration, and the node that the arc leaves."""

    kind: int
    k: int
    t: int
    u: int


class Weights(NamedTuple):
    """Log-weights [K, T, U + 1] of the arcs with the blank and with the labels; -inf where there is no arc."""

    blank: np.ndarray
    label: np.ndarray


class Solution(NamedTuple):
    """Log of the total weight; for each arc the log of its derivative, d log P = exp(slope) d weight."""

    log_p: float
    slope: Weights

    def occupancies(self, weights: Weights) -> Weights:
        """Probabilities of the arcs."""
        return Weights(*(np.exp(s + w) for s, w in zip(self.slope, weights, strict=True)))


def masked(weights: Weights, topology: Topology) -> Weights:
    """Weights [K, T, U + 1] in long double, -inf for arcs that leave the lattice."""
    kept = []
    for kind, (given, durations) in enumerate(zip(weights, topology, strict=False)):
        log = np.asarray(given).astype(WIDE)
        frames, columns = log.shape[1:]
        t, u = np.indices((frames, columns))
        for k, d in enumerate(durations):
            ends = (t + d == frames) & (u + kind == columns - 1) & (kind == BLANK or topology.label_ends)
            log[k][~((t + d < frames) | ends) | (u + kind >= columns)] = -np.inf
        kept.append(log)
    return Weights(*kept)


# ---- two solutions ------------------------------------------------------------------------


def paths(frames: int, columns: int, topology: Topology) -> Iterator[tuple[Arc, ...]]:
    """All paths, those first that emit the blank earlier, and among these those of the shorter arcs."""

    def extend(path: tuple[Arc, ...], t: int, u: int) -> Iterator[tuple[Arc, ...]]:
        if t == frames:
            if u == columns - 1 and (topology.label_ends or path[-1].kind == BLANK):
                yield path
            return
        for kind in (BLANK, LABEL):
            for k, d in enumerate(topology[kind]):
                if t + d <= frames and u + kind < columns:
                    yield from extend((*path, Arc(kind, k, t, u)), t + d, u + kind)

    if frames:
        yield from extend((), 0, 0)


def by_enumeration(weights: Weights, topology: Topology) -> Solution:
    """The definition: sums over all paths of the products of their weights."""
    weights = masked(weights, topology)
    slope = Weights(*(np.full(w.shape, -np.inf, WIDE) for w in weights))
    log_p = WIDE(-np.inf)
    for path in paths(*weights.blank.shape[1:], topology):
        terms = np.array([weights[arc.kind][arc[1:]] for arc in path], WIDE)
        log_p = np.logaddexp(log_p, terms.sum())
        for i, arc in enumerate(path):
            others = np.delete(terms, i).sum()
            slope[arc.kind][arc[1:]] = np.logaddexp(slope[arc.kind][arc[1:]], others)
    return _finished(log_p, slope)


def by_recursion(weights: Weights, topology: Topology) -> Solution:
    """Sums over the paths to and from each node, all nodes of an anti-diagonal n = t + u at once."""
    weights = masked(weights, topology)
    frames, columns = weights.blank.shape[1:]
    arcs = [
        (kind, d, _skewed(w)) for kind in (BLANK, LABEL) for d, w in zip(topology[kind], weights[kind], strict=True)
    ]
    last = frames + columns - 1  # the diagonal of the end
    to = np.full((last + 1, columns), -np.inf, WIDE)
    to[0, 0] = 0
    for n in range(last):
        for kind, d, weight in arcs:
            if n + d + kind <= last:
                there = to[n + d + kind, kind:]
                np.logaddexp(there, (to[n] + weight[n])[: columns - kind], out=there)
    after = np.full((last + 1, columns), -np.inf, WIDE)
    after[last, -1] = 0
    for n in range(last - 1, -1, -1):
        for kind, d, weight in arcs:
            if n + d + kind <= last:
                here = after[n, : columns - kind]
                np.logaddexp(here, weight[n, : columns - kind] + after[n + d + kind, kind:], out=here)
    slope = masked(
        Weights(*(np.zeros(w.shape) for w in weights)), topology
    )  # 0 for arcs that exist, whatever their weight
    for kind in (BLANK, LABEL):
        for k, d in enumerate(topology[kind]):
            t, u = np.nonzero(slope[kind][k] == 0)
            slope[kind][k][t, u] = to[t + u, u] + after[t + u + d + kind, u + kind]
    return _finished(to[last, -1], slope)


def _finished(log_p: np.longdouble, slope: Weights) -> Solution:
    with np.errstate(invalid="ignore"):
        relative = Weights(*(np.where(s == -np.inf, s, s - log_p) for s in slope))
    return Solution(float(log_p), relative)


def _skewed(x: np.ndarray) -> np.ndarray:
    """Row n = t + u, column u; -inf where there is no node."""
    frames, columns = x.shape
    skewed = np.full((frames + columns - 1, columns), -np.inf, WIDE)
    t, u = np.indices(x.shape)
    skewed[t + u, u] = x
    return skewed


def best_path(weights: Weights, topology: Topology) -> tuple[float, list[tuple[Arc, ...]]]:
    """Log-weight of the best path, by enumeration, and all paths that have it within rounding; none of weight 0."""
    weights = masked(weights, topology)
    scored = [
        (sum((weights[arc.kind][arc[1:]] for arc in path), WIDE(0)), path)
        for path in paths(*weights.blank.shape[1:], topology)
    ]
    best = max((score for score, _ in scored), default=WIDE(-np.inf))
    if best == -np.inf:
        return -np.inf, []
    return float(best), [path for score, path in scored if best - score <= 1e-13 * max(1, abs(best))]


def best_score(weights: Weights, topology: Topology) -> float:
    """Log-weight of the best path, by dynamic programming over the nodes in their order."""
    weights = masked(weights, topology)
    frames, columns = weights.blank.shape[1:]
    best = np.full((frames + 1, columns), -np.inf, WIDE)
    best[0, 0] = 0
    for t in range(frames):
        for u in range(columns):
            for kind in (BLANK, LABEL):
                for k, d in enumerate(topology[kind]):
                    if weights[kind][k, t, u] > -np.inf:
                        reached = best[t, u] + weights[kind][k, t, u]
                        best[t + d, u + kind] = max(best[t + d, u + kind], reached)
    return float(best[frames, -1])


# ---- weights of the losses ----------------------------------------------------------------


def hat_log_probs(logits: np.ndarray, blank: int) -> np.ndarray:
    """Log-probabilities of HAT: a sigmoid for the blank, a softmax over the other classes times the rest."""
    x = np.asarray(logits).astype(WIDE)
    log_probs = log_softmax(np.where(np.arange(x.shape[-1]) == blank, -np.inf, x))
    of_blank = x[..., blank]
    log_probs += -np.logaddexp(WIDE(0), of_blank)[..., None]
    log_probs[..., blank] = -np.logaddexp(WIDE(0), -of_blank)
    return log_probs


def picked(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [T, U + 1] of the blank and of the next label; the last column has no label."""
    label = np.full(log_probs.shape[:2], -np.inf, log_probs.dtype)
    columns = np.arange(len(labels))
    label[:, :-1] = log_probs[:, columns, np.asarray(labels, int)]
    return log_probs[:, :, blank], label


def unpruned(scores: np.ndarray, ranges: np.ndarray, columns: int) -> np.ndarray:
    """Rows [T, R, V] of a pruned lattice in one [T, U + 1, V] of NaN."""
    whole = np.full((len(scores), columns, scores.shape[2]), np.nan)
    for t, first in enumerate(ranges):
        width = min(scores.shape[1], columns - first)
        whole[t, first : first + width] = scores[t, :width]
    return whole


def pruned(whole: np.ndarray, ranges: np.ndarray, width: int) -> np.ndarray:
    """Rows [T, R, ...] of an array [T, U + 1, ...]; 0 beyond its columns."""
    rows = np.zeros((len(whole), width, *whole.shape[2:]))
    for t, first in enumerate(ranges):
        kept = whole[t, first : first + width]
        rows[t, : len(kept)] = kept
    return rows


# ---- losses -------------------------------------------------------------------------------

Solver = Callable[[Weights, Topology], Solution]


def rnnt(
    scores: np.ndarray,
    labels: Sequence[int],
    *,
    blank: int = 0,
    kind: str = "logits",
    blank_model: str = "softmax",
    topology: str = "regular",
    fastemit: float = 0.0,
    ranges: np.ndarray | None = None,
    solver: Solver = by_recursion,
) -> tuple[float, np.ndarray]:
    """Loss and its gradient [T, U + 1, V], or [T, R, V] with `ranges`."""
    if ranges is not None:
        scores, width = unpruned(scores, ranges, len(labels) + 1), scores.shape[1]
    loss, gradient = _rnnt(scores, labels, blank, kind, blank_model, TOPOLOGIES[topology], fastemit, solver)
    return loss, gradient if ranges is None else pruned(gradient, ranges, width)


def rnnt_weights(
    scores: np.ndarray,
    labels: Sequence[int],
    *,
    blank: int = 0,
    kind: str = "logits",
    blank_model: str = "softmax",
) -> Weights:
    """Log-weights of the arcs, one duration each; -inf for rows of NaN, which a pruned lattice does not have."""
    blank %= scores.shape[2]
    kept = np.where(np.isnan(scores), 0, scores)
    log_probs = hat_log_probs(kept, blank) if blank_model == "hat" else log_emissions(kept, kind)
    log_probs = np.where(np.isnan(scores), -np.inf, log_probs)
    return Weights(*(w[None] for w in picked(log_probs, labels, blank)))


def _rnnt(scores, labels, blank, kind, blank_model, topology, fastemit, solver) -> tuple[float, np.ndarray]:
    frames, _, classes = scores.shape
    blank %= classes
    none = np.zeros(scores.shape)
    if frames == 0:
        return np.inf, none
    weights = rnnt_weights(scores, labels, blank=blank, kind=kind, blank_model=blank_model)
    solution = solver(weights, topology)
    if solution.log_p == -np.inf:
        return np.inf, none
    own = Weights(*map(np.zeros_like, weights)) if kind == "probs" else weights
    with np.errstate(over="ignore"):  # where p is 0 the derivative may exceed any range
        by_blank, by_label = (g[0] for g in solution.occupancies(own))
    by_label = by_label * (1 + fastemit)
    gradient = _of_arcs(scores.shape, labels, blank, by_blank, by_label)
    if kind == "logits":
        gradient += _of_normalizers(scores, blank, blank_model, by_blank, by_label)
    with np.errstate(over="ignore"):
        return -solution.log_p, gradient.astype(np.float64)


def _of_arcs(shape, labels, blank, by_blank, by_label) -> np.ndarray:
    """Minus the occupancy of each arc, at the class of the arc."""
    gradient = np.zeros(shape, WIDE)
    gradient[:, :, blank] -= by_blank
    for u, label in enumerate(labels):
        gradient[:, u, label] -= by_label[:, u]
    return gradient


def _of_normalizers(scores, blank, blank_model, by_blank, by_label) -> np.ndarray:
    """The expected occupancy of each class, which the softmax or the sigmoid of a node shares out."""
    x = np.where(np.isnan(scores), 0, scores)
    node = (by_blank + by_label)[:, :, None]
    if blank_model == "softmax":
        return node * np.exp(log_softmax(x))
    others = np.exp(log_softmax(np.where(np.arange(x.shape[2]) == blank, -np.inf, x)))
    expected = by_label[:, :, None] * others
    expected[:, :, blank] = node[:, :, 0] * np.exp(hat_log_probs(x, blank)[:, :, blank])
    return expected


def posteriors(scores: np.ndarray, labels: Sequence[int], topology: str = "regular", **options) -> tuple:
    """Occupancies [T, U + 1] of the blank's and of the label's arcs; 0 if the labels have probability 0."""
    weights = rnnt_weights(scores, labels, **options)
    solution = by_recursion(weights, TOPOLOGIES[topology])
    if solution.log_p == -np.inf:
        return np.zeros(scores.shape[:2]), np.zeros(scores.shape[:2])
    return tuple(x[0].astype(float) for x in solution.occupancies(weights))


class TDT(NamedTuple):
    loss: float
    logits: np.ndarray  # gradient [T, U + 1, V]
    duration_logits: np.ndarray  # gradient [T, U + 1, D]


def tdt_topology(durations: Sequence[int]) -> Topology:
    return Topology(tuple(d for d in durations if d > 0), tuple(durations))


def tdt_weights(logits, duration_logits, labels, durations, *, blank=0, sigma=0.0) -> Weights:
    """Log-weights of the arcs of every duration; 0 is a duration of labels alone."""
    of_blank, of_label = picked(log_softmax(logits), labels, blank)
    q = np.moveaxis(log_softmax(duration_logits), 2, 0) - WIDE(sigma)
    positive = [k for k, d in enumerate(durations) if d > 0]
    return Weights(of_blank + q[positive], of_label + q)


def tdt(
    logits: np.ndarray,
    duration_logits: np.ndarray,
    labels: Sequence[int],
    durations: Sequence[int],
    *,
    blank: int = 0,
    sigma: float = 0.0,
    solver: Solver = by_recursion,
) -> TDT:
    """Loss of a token-and-duration transducer, with the gradients of both arrays."""
    blank %= logits.shape[2]
    none = TDT(np.inf, np.zeros(logits.shape), np.zeros(duration_logits.shape))
    if len(logits) == 0:
        return none
    weights = tdt_weights(logits, duration_logits, labels, durations, blank=blank, sigma=sigma)
    solution = solver(weights, tdt_topology(durations))
    if solution.log_p == -np.inf:
        return none
    by_blank, by_label = solution.occupancies(weights)
    gradient = _of_arcs(logits.shape, labels, blank, by_blank.sum(axis=0), by_label.sum(axis=0))
    gradient += _of_normalizers(logits, blank, "softmax", by_blank.sum(axis=0), by_label.sum(axis=0))
    by_duration = by_label.copy()
    by_duration[[k for k, d in enumerate(durations) if d > 0]] += by_blank
    of_durations = by_duration.sum(axis=0)[:, :, None] * np.exp(log_softmax(duration_logits))
    of_durations -= np.moveaxis(by_duration, 0, 2)
    return TDT(-solution.log_p, gradient.astype(float), of_durations.astype(float))


def simple(am: np.ndarray, lm: np.ndarray, labels: Sequence[int], **options) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss of the additive joiner am[t] + lm[u], and the gradients of am [T, V] and lm [U + 1, V]."""
    loss, gradient = rnnt(am.astype(WIDE)[:, None] + lm.astype(WIDE)[None], labels, **options)
    return loss, gradient.sum(axis=1), gradient.sum(axis=0)


def batch(
    scores: np.ndarray, labels: Sequence[Sequence[int]], lengths: Sequence[int], **options
) -> tuple[np.ndarray, np.ndarray]:
    """Loss [B] of each sequence and gradient [B, T, U + 1, V] of their sum; `labels` without padding."""
    losses, gradient = np.zeros(len(labels)), np.zeros(scores.shape)
    for b, (y, n) in enumerate(zip(labels, lengths, strict=True)):
        columns = len(y) + 1
        losses[b], gradient[b, :n, :columns] = rnnt(scores[b, :n, :columns], y, **options)
    return losses, gradient


# ---- long sequences -----------------------------------------------------------------------


def in_blocks(frames: int, rows: int = 100) -> Iterator[slice]:
    for start in range(0, frames, rows):
        yield slice(start, min(start + rows, frames))


class Long(NamedTuple):
    """Loss, and the arrays that the gradient is made of, in long double."""

    loss: float
    by_blank: np.ndarray  # [T, U + 1]
    by_label: np.ndarray  # [T, U + 1]

    def gradient(self, scores: np.ndarray, labels: Sequence[int], frames: slice, blank: int = 0) -> np.ndarray:
        """The gradient of some frames."""
        by_blank, by_label = self.by_blank[frames], self.by_label[frames]
        gradient = _of_arcs(scores[frames].shape, labels, blank, by_blank, by_label)
        gradient += _of_normalizers(scores[frames], blank, "softmax", by_blank, by_label)
        return gradient.astype(float)


def solve_long(scores: np.ndarray, labels: Sequence[int], blank: int = 0, topology: str = "regular") -> Long:
    """The loss of logits, some frames at a time, so that their long doubles need not be held at once."""
    parts = [rnnt_weights(scores[frames], labels, blank=blank) for frames in in_blocks(len(scores))]
    weights = Weights(*(np.concatenate(part, axis=1) for part in zip(*parts, strict=True)))
    solution = by_recursion(weights, TOPOLOGIES[topology])
    return Long(-solution.log_p, *(x[0] for x in solution.occupancies(weights)))
