"""The lattice on a grid, on every instruction set: against the enumeration of paths, and in log space on long grids."""

import ctypes
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c_compiler import shared_library
from fastseqloss._core import levels
from reference import transducer as reference
from transducer_cases import random_ranges

OCCUPANCIES, SLOPES, BEST = range(3)


class Grid:
    """The functions of grid.c for weights [T, U + 1], or [T, R] with the first column of each frame."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))
        self.library.solve.restype = ctypes.c_double
        self.library.rows.restype = ctypes.c_ssize_t

    def rows(self, frames, end, modified, start, width):
        n = frames + (0 if modified else end)
        at, first, last = np.zeros((3, n + 1), np.intp)
        given = [*map(ctypes.c_ssize_t, (frames, end)), int(modified), _address(start), ctypes.c_ssize_t(width)]
        return self.library.rows(*given, *map(_address, (at, first, last))), at, first, last

    def solve(self, kind, blank, label, end, modified=False, start=None):
        """Log of the total, and two arrays of the shape of the weights, or the columns of the best path."""
        frames, width = blank.shape
        start = None if start is None else np.ascontiguousarray(start, np.int64)
        arcs, at, first, last = self.rows(frames, end, modified, start, width)
        t, r = np.indices(blank.shape)
        u = r + (0 if start is None else start[:, None])
        row = np.minimum(t if modified else t + u, len(at) - 1)
        inside = (u >= first[row]) & (u <= last[row])
        place = (at[row] + u)[inside]
        assert sorted(place) == list(range(arcs))
        skewed = np.empty((2, arcs))
        skewed[:, place] = blank[inside], label[inside]
        memory, column = np.empty(9 * (arcs + end + 2)), np.zeros(len(at), np.intp)
        given = [*map(ctypes.c_ssize_t, (frames, end)), int(modified), _address(start), ctypes.c_ssize_t(width)]
        arrays = map(_address, (skewed[0], skewed[1], memory, at, first, last, column))
        total = self.library.solve(kind, *given, *arrays)
        if kind == BEST:
            return total, column
        found = np.zeros((2, frames, width))
        found[:, inside] = skewed[:, place]
        return total, found


def _address(array):
    assert array is None or array.flags.c_contiguous
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


@pytest.fixture(scope="module", params=levels.available_levels())
def grid(request, tmp_path_factory):
    source = Path(__file__).parent / "grid.c"
    return Grid(shared_library(source, tmp_path_factory.mktemp(request.param), request.param, ["rows", "solve"]))


def weights(rng, frames, columns, scale, forbidden):
    blank, label = rng.normal(scale=scale, size=(2, frames, columns))
    for w in (blank, label):
        w[rng.random(w.shape) < forbidden] = -np.inf
    return blank, label


def whole(w, start, columns):
    """Weights [T, R] of a band in [T, U + 1]."""
    if start is None:
        return w
    found = np.full((len(w), columns), -np.inf)
    for t, s in enumerate(start):
        n = min(w.shape[1], columns - s)
        found[t, s : s + n] = w[t, :n]
    return found


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, end = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    modified, width = draw(st.booleans()), draw(st.sampled_from([None, 1, 2, 3]))
    if modified:
        end = min(end, frames)
    start = None
    if width is not None and not modified:
        end = min(end, (frames - 1) * (width - 1) + width - 1)
        start = random_ranges(rng, [frames], [end], frames, width)[0]
    scale, forbidden = draw(st.sampled_from([0.1, 1.0, 1e3, 1e6])), draw(st.sampled_from([0.0, 0.2]))
    columns = end + 1 if start is None else width
    return *weights(rng, frames, columns, scale, forbidden), end, modified, start


def solution(problem):
    blank, label, end, modified, start = problem
    arcs = reference.Weights(*(whole(w, start, end + 1)[None] for w in (blank, label)))
    return arcs, reference.TOPOLOGIES["modified" if modified else "regular"]


@pytest.mark.thorough
@given(problems())
def test_enumeration(grid, problem):
    blank, label, end, _, start = problem
    arcs, topology = solution(problem)
    exact = reference.by_enumeration(arcs, topology)
    total, occupancies = grid.solve(OCCUPANCIES, *problem)
    assert total == pytest.approx(exact.log_p, rel=1e-14, abs=1e-13)
    again, slopes = grid.solve(SLOPES, *problem)
    assert again == pytest.approx(total, rel=1e-14, abs=1e-13)
    if exact.log_p == -np.inf:
        return
    allowed = 1e-12 * max(1, np.abs(np.where(np.isfinite([blank, label]), [blank, label], 0)).max() * 1e-3)
    with np.errstate(over="ignore"):
        derivatives = exact.occupancies(reference.Weights(*(np.zeros_like(w) for w in arcs)))
    inside = np.ones(blank.shape, bool)
    if start is not None:
        inside = np.arange(blank.shape[1]) + start[:, None] <= end
    for k in range(2):
        expected = _banded(exact.occupancies(arcs)[k][0], start, blank.shape)
        np.testing.assert_allclose(occupancies[k][inside], expected[inside], atol=allowed)
        with np.errstate(over="ignore"):
            expected = _banded(derivatives[k][0].astype(float), start, blank.shape)[inside]
        np.testing.assert_allclose(slopes[k][inside], expected, rtol=1e3 * allowed, atol=1e-300)


def _banded(w, start, shape):
    return w if start is None else reference.pruned(w, start, shape[1])


@given(problems())
def test_best_path(grid, problem):
    _, _, end, modified, _ = problem
    arcs, topology = solution(problem)
    best, _ = reference.best_path(arcs, topology)
    total, column = grid.solve(BEST, *problem)
    assert total == pytest.approx(best, rel=1e-14, abs=1e-13)
    if best == -np.inf:
        return
    assert column[0] == 0
    assert column[-1] == end
    path = 0.0
    for n, (u, after) in enumerate(pairwise(column)):
        assert 0 <= after - u <= 1
        path += arcs[after - u][0][n if modified else n - u, u]
    assert path == pytest.approx(total, rel=1e-13, abs=1e-12)


def log_space(blank, label):
    """Total and occupancies of the regular grid by alphas and betas in float64 log space, row by row."""
    frames, columns = blank.shape
    to, after = np.full((2, frames + columns, columns + 1), -np.inf)
    to[0, 0] = 0
    skew = np.full((2, frames + columns, columns), -np.inf)
    t, u = np.indices(blank.shape)
    skew[:, t + u, u] = blank, label
    skew[0, frames - 1 + np.arange(columns - 1), np.arange(columns - 1)] = -np.inf  # they leave the grid
    skew[1, t[:, -1] + columns - 1, columns - 1] = -np.inf
    for n in range(frames + columns - 1):
        to[n + 1, :-1] = to[n, :-1] + skew[0, n]
        to[n + 1, 1:] = np.logaddexp(to[n + 1, 1:], to[n, :-1] + skew[1, n])
    after[frames + columns - 1, columns - 1] = 0
    for n in range(frames + columns - 2, -1, -1):
        after[n, :-1] = np.logaddexp(skew[0, n] + after[n + 1, :-1], skew[1, n] + after[n + 1, 1:])
    total = after[0, 0]
    occupancies = [
        np.exp(to[:-1, :-1] + skew[0, :-1] + after[1:, :-1] - total),
        np.exp(to[:-1, :-1] + skew[1, :-1] + after[1:, 1:] - total),
    ]
    return total, [x[t + u, u] for x in occupancies]


@pytest.mark.parametrize(
    ("frames", "end", "scale", "on_blank"),
    [(600, 60, 1, 0), (600, 60, 1e6, 0), (1000, 150, 1, 20), (1000, 150, 10, 0), (500, 400, 1, -20)],
)
def test_long(grid, frames, end, scale, on_blank):
    _check_long(grid, frames, end, scale, on_blank)


@pytest.mark.thorough
@pytest.mark.parametrize(("scale", "on_blank"), [(1, 0), (1e6, 0), (1, 20), (10, 0)])
def test_very_long(grid, scale, on_blank):
    _check_long(grid, 6000, 600, scale, on_blank)


def _check_long(grid, frames, end, scale, on_blank):
    blank, label = weights(np.random.default_rng(frames), frames, end + 1, 1.0, 0.0)
    blank, label = blank * scale + on_blank, label * scale
    total, occupancies = grid.solve(OCCUPANCIES, blank, label, end)
    exact, expected = log_space(blank, label)
    assert total == pytest.approx(exact, rel=1e-12)
    assert abs(occupancies[1].sum() - end) < 1e-9 * end  # no mass is lost on the way
    assert abs(occupancies[0].sum() - frames) < 1e-9 * frames
    # Log space itself rounds each sum to its last place.
    allowed = 1e-11 + 4 * np.finfo(float).eps * abs(exact) * np.sqrt(frames)
    for found, right in zip(occupancies, expected, strict=True):
        assert np.abs(found - right).max() < allowed


def test_rows_of_a_band_may_be_empty(grid):
    """The modified topology cannot follow a band that rises by more than one column a frame."""
    start = np.array([0, 2, 2, 2, 2])
    assert grid.rows(5, 4, True, start, 3)[0] == -1
    assert grid.rows(5, 4, False, start, 3)[0] == 15
