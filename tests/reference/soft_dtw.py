"""Slow, readable oracles of soft-DTW: one pair of series at a time, in long double."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

WIDE = np.longdouble
STEPS = ((1, 0), (0, 1), (1, 1))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Costs [N, M] of series [N, D] and [M, D]."""
    x, y = np.asarray(x).astype(WIDE), np.asarray(y).astype(WIDE)
    return ((x[:, None] - y[None]) ** 2).sum(axis=-1)


def banded(costs: np.ndarray, band: int | None) -> np.ndarray:
    """Costs that are infinite outside the band."""
    i, j = np.indices(costs.shape)
    return np.where(np.abs(i - j) > (max(costs.shape) if band is None else band), np.inf, costs)


def soft_minimum(values: np.ndarray, gamma: float) -> np.ndarray:
    """-gamma log sum exp(-values / gamma) over the first axis; the minimum for gamma 0."""
    least = values.min(axis=0)
    if gamma == 0:
        return least
    with np.errstate(invalid="ignore"):
        total = np.exp((least - values) / WIDE(gamma)).sum(axis=0)
    return np.where(np.isfinite(least), least - WIDE(gamma) * np.log(total), least)


def _totals(costs: np.ndarray, gamma: float) -> np.ndarray:
    """Soft minimum [N, M] of the costs of the paths from (0, 0) to each cell, by diagonals."""
    rows, columns = costs.shape
    totals = np.full((rows + 1, columns + 1), np.inf, WIDE)
    totals[0, 0] = 0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(diagonal + 1, rows))
        j = diagonal - i
        before = np.stack([totals[i, j + 1], totals[i + 1, j], totals[i, j]])
        totals[i + 1, j + 1] = costs[i, j] + soft_minimum(before, gamma)
    return totals[1:, 1:]


def forward_backward(costs: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    """Loss, and the posteriors [N, M], from the costs of the paths on both sides of a cell. For gamma above 0."""
    costs = np.asarray(costs).astype(WIDE)
    if not costs.size:
        return 0.0, np.zeros(costs.shape)
    first, second = _totals(costs, gamma), _totals(costs[::-1, ::-1], gamma)[::-1, ::-1]
    loss = first[-1, -1]
    if loss == np.inf:
        return np.inf, np.zeros(costs.shape)
    with np.errstate(invalid="ignore", under="ignore"):
        through = np.where(np.isfinite(costs), first + second - np.where(np.isfinite(costs), costs, 0), np.inf)
        posteriors = np.exp((loss - through) / WIDE(gamma))
    return float(loss), posteriors.astype(float)


def paths(rows: int, columns: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every path from corner to corner."""
    if rows == columns == 1:
        yield ((0, 0),)
        return
    for down, right in STEPS:
        if rows > down and columns > right:
            for path in paths(rows - down, columns - right):
                yield (*path, (rows - 1, columns - 1))


def enumerated(costs: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    """Loss and posteriors by their definition, over all paths."""
    costs = np.asarray(costs).astype(WIDE)
    every = list(paths(*costs.shape))
    totals = np.array([sum(costs[cell] for cell in path) for path in every])
    loss = soft_minimum(totals, gamma)
    posteriors = np.zeros(costs.shape, WIDE)
    if loss < np.inf:
        for path, total in zip(every, totals, strict=True):
            for cell in path:
                posteriors[cell] += np.exp((loss - total) / WIDE(gamma))
    return float(loss), posteriors.astype(float)


def best_cost(costs: np.ndarray) -> float:
    """The least cost of a path."""
    return float(_totals(np.asarray(costs).astype(WIDE), 0)[-1, -1]) if np.size(costs) else 0.0


def is_path(cells: np.ndarray) -> bool:
    """Return True if the ones of a matrix of 0 and 1 are a path from corner to corner."""
    found = [tuple(cell) for cell in np.argwhere(cells)]
    if not found or found[0] != (0, 0) or found[-1] != tuple(np.subtract(cells.shape, 1)):
        return False
    return all(tuple(np.subtract(b, a)) in STEPS for a, b in pairwise(found))


def series_loss(
    x: np.ndarray, y: np.ndarray, gamma: float, band: int | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss of two series and its gradients, [N, D] and [M, D]."""
    x, y = np.asarray(x).astype(WIDE), np.asarray(y).astype(WIDE)
    loss, posteriors = forward_backward(banded(squared_distances(x, y), band), gamma)
    apart = posteriors[..., None] * (x[:, None] - y[None])
    return loss, (2 * apart.sum(1)).astype(float), (-2 * apart.sum(0)).astype(float)


def divergence(
    x: np.ndarray, y: np.ndarray, gamma: float, band: int | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss less half of both series' losses with themselves, and its gradients."""
    loss, slope_x, slope_y = series_loss(x, y, gamma, band)
    own_x, own_y = series_loss(x, x, gamma, band), series_loss(y, y, gamma, band)
    return (
        loss - (own_x[0] + own_y[0]) / 2,
        slope_x - (own_x[1] + own_x[2]) / 2,
        slope_y - (own_y[1] + own_y[2]) / 2,
    )
