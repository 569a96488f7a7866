"""Best paths in exact arithmetic, for scores so large that float64 sums lose the other terms.

One sequence at a time, in integers of Python: such scores are rare, and the kernel then finds the best path alone.
"""

from __future__ import annotations

import heapq
import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Scores = list[list[int | None]]  # in units of the smallest power of two that occurs; None for -inf
_Entry = tuple[int, int, int]  # negative score of a path; the tag before its last one, and the rank among paths to it


def exact_paths(
    emissions: NDArray[Any],
    transitions: NDArray[Any],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    n_best: int,
    margin: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
) -> tuple[list[list[int]], list[float]]:
    """Return the best paths of a sequence [T, K] of finite scores and -inf, up to `n_best`, and their scores.

    Transitions are [K, K], or [T, K, K] to each step, whose first ones are not read. If `margin` has the tags [T] of a
    path that is not forbidden, and a cost [K, K], the scores include the cost, less the score of that path. Paths to a
    tag whose scores are equal are sorted by the tag before it and by the rank among the paths to that tag, which is the
    order of `crf_decode`.
    """
    ends = np.stack([start, end])
    steps = [transitions] if transitions.ndim == 2 else list(transitions[1:])
    tags, cost = margin or (np.zeros(0, np.int64), np.zeros((0, 0)))
    unit = max(_denominator(x) for x in (emissions, ends, cost, *steps))
    nodes, each = _in_units(emissions, unit), [_in_units(step, unit) for step in steps]
    first, last = _in_units(ends, unit)
    nodes[0] = _add(nodes[0], first)
    nodes[-1] = _add(nodes[-1], last)
    terms = [nodes[t][y] for t, y in enumerate(tags)]
    terms += [each[t if transitions.ndim == 3 else 0][i][j] for t, (i, j) in enumerate(pairwise(tags))]
    own = sum(x for x in terms if x is not None)
    if margin:
        nodes = [_add(row, costs) for row, costs in zip(nodes, _in_units(cost[tags], unit), strict=True)]
    table: list[list[list[_Entry]]] = [[[] if x is None else [(-x, -1, 0)] for x in nodes[0]]]
    for t, row in enumerate(nodes[1:]):
        between = each[t if transitions.ndim == 3 else 0]
        table.append([[] if x is None else _step(table[-1], between, j, x, n_best) for j, x in enumerate(row)])
    found = heapq.nsmallest(n_best, [(to[r][0], j, r) for j, to in enumerate(table[-1]) for r in range(len(to))])
    paths = [_trace(table, tag, rank) for _, tag, rank in found]
    return paths, [_as_float(-score - own, unit) for score, _, _ in found]


def _denominator(scores: NDArray[Any]) -> int:
    return max((x.as_integer_ratio()[1] for x in scores.ravel().tolist() if math.isfinite(x)), default=1)


def _in_units(scores: NDArray[Any], unit: int) -> _Scores:
    rows = []
    for row in scores.tolist():
        ratios = [x.as_integer_ratio() if math.isfinite(x) else None for x in row]
        rows.append([None if ratio is None else ratio[0] * (unit // ratio[1]) for ratio in ratios])
    return rows


def _add(a: list[int | None], b: list[int | None]) -> list[int | None]:
    return [None if x is None or y is None else x + y for x, y in zip(a, b, strict=True)]


def _step(before: list[list[_Entry]], between: _Scores, tag: int, score: int, n_best: int) -> list[_Entry]:
    """Return the best paths to a tag of this score, given those to the tags before."""
    entries = []
    for i, paths in enumerate(before):
        step = between[i][tag]
        if step is not None:
            entries += [(path[0] - step - score, i, rank) for rank, path in enumerate(paths)]
    return heapq.nsmallest(n_best, entries)


def _trace(table: list[list[list[_Entry]]], tag: int, rank: int) -> list[int]:
    path = []
    for paths in reversed(table):
        path.append(tag)
        _, tag, rank = paths[tag][rank]
    return path[::-1]


def _as_float(score: int, unit: int) -> float:
    try:
        return score / unit
    except OverflowError:
        return math.inf if score > 0 else -math.inf
