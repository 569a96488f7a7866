"""The grid of soft-DTW: by definition on small ones, against log space in long double on large and hostile ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import soft_dtw as reference
from thoroughness import spread

# Shapes around the blocks of 8 rows, the strips of 64 and the strips whose shares are not kept.
SHAPES = [(1, 1), (1, 9), (9, 1), (7, 8), (8, 7), (64, 3), (65, 70), (130, 63), (63, 200), (300, 280), (129, 400)]


def solve(costs, gamma, **options):
    return fsl.soft_dtw_cost(costs, gamma=gamma, reduction="sum", return_grad=True, **options)


@st.composite
def grids(draw):
    """Small grids of costs of either sign, some of them forbidden."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    costs = rng.normal(scale=draw(st.sampled_from((0.1, 1.0, 30.0))), size=(rows, columns))
    costs[rng.random(costs.shape) < draw(st.sampled_from((0.0, 0.0, 0.2)))] = np.inf
    return costs


@given(grids(), st.sampled_from((0.05, 1.0, 20.0)), st.sampled_from((None, 0, 1, 3)))
def test_enumeration(level, costs, gamma, band):
    if band is not None and abs(costs.shape[0] - costs.shape[1]) > band:
        band = 4
    loss, posteriors = solve(costs, gamma, band=band)
    expected, shares = reference.enumerated(reference.banded(costs, band), gamma)
    np.testing.assert_allclose(loss, expected, rtol=1e-13, atol=1e-13 * gamma)
    np.testing.assert_allclose(posteriors, shares, atol=1e-12)
    assert not posteriors[reference.banded(costs, band) == np.inf].any()


@given(grids(), st.sampled_from((None, 0, 1, 3)))
def test_best_path(level, costs, band):
    if band is not None and abs(costs.shape[0] - costs.shape[1]) > band:
        band = 4
    loss, cells = solve(costs, 0, band=band)
    costs = reference.banded(costs, band)
    assert loss == pytest.approx(reference.best_cost(costs), rel=1e-14, abs=1e-14)
    if loss == np.inf:
        assert not cells.any()
    else:
        assert reference.is_path(cells)
        assert costs[cells == 1].sum() == pytest.approx(loss, rel=1e-13, abs=1e-13)


@pytest.mark.thorough
@pytest.mark.parametrize(("shape", "gamma"), spread(SHAPES, [1e-4, 0.01, 1.0, 100.0], every=2))
def test_large_grids(level, shape, gamma):
    """Posteriors within 1e-11, whatever the gamma."""
    costs = np.random.default_rng(shape[1]).normal(size=shape) ** 2
    loss, posteriors = solve(costs, gamma)
    expected, shares = reference.forward_backward(costs, gamma)
    assert loss == pytest.approx(expected, rel=1e-13, abs=1e-12 * gamma)
    np.testing.assert_allclose(posteriors, shares, atol=1e-11)
    assert fsl.soft_dtw_cost(costs, gamma=gamma) == loss


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", [0, 1, 2, 7, 8, 40, 65])
def test_bands(level, shape, more):
    """Cells outside the band are not read, even if the band is as narrow as the lengths allow."""
    band = abs(shape[0] - shape[1]) + more
    costs = np.random.default_rng(band).normal(size=shape) ** 2
    outside = reference.banded(costs, band) == np.inf
    costs[outside] = np.nan
    for gamma in (0.1, 0):
        loss, posteriors = solve(costs, gamma, band=band)
        expected, shares = solve(np.where(outside, np.inf, costs), gamma)
        assert loss == expected < np.inf
        np.testing.assert_array_equal(posteriors, shares)
        assert not posteriors[outside].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_best_paths_of_large_grids(level, shape):
    costs = np.random.default_rng(shape[0]).normal(size=shape)
    loss, cells = solve(costs, 0)
    assert loss == pytest.approx(reference.best_cost(costs), rel=1e-13, abs=1e-13)
    assert reference.is_path(cells)
    assert costs[cells == 1].sum() == pytest.approx(loss, rel=1e-12, abs=1e-12)
    # A gamma far below all differences gives the same path.
    soft, posteriors = solve(costs, 1e-12)
    assert soft == pytest.approx(loss, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(posteriors, cells, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-299, 1e-30, 1e-5, 1e5, 1e30, 1e290])
def test_gamma_and_costs_have_one_unit(level, scale):
    """Costs and gamma times a power of two: the loss is multiplied, the posteriors are the same."""
    scale = 2.0 ** np.rint(np.log2(scale))
    costs = np.random.default_rng(0).normal(size=(90, 80))
    loss, posteriors = solve(costs, 0.5)
    scaled, same = solve(costs * scale, 0.5 * scale)
    assert scaled == pytest.approx(loss * scale, rel=1e-13)
    np.testing.assert_allclose(same, posteriors, atol=1e-12)


@pytest.mark.parametrize("power", [10, 30, 100, 280, 299, 307])
@pytest.mark.parametrize("sign", [1, -1])
def test_costs_of_any_size(level, power, sign):
    """Large cells that a path can avoid, or cannot; the sum of any path is finite."""
    costs = np.random.default_rng(power).normal(size=(9, 7))
    costs[2:4, 3] = 10.0**power * sign
    loss, posteriors = solve(costs, 1.0)
    expected, shares = reference.forward_backward(costs, 1.0)
    assert loss == pytest.approx(expected, rel=1e-13, abs=1e-12)
    if sign > 0:
        np.testing.assert_allclose(posteriors, shares, atol=1e-11)
    else:
        np.testing.assert_allclose(posteriors[2:4, 3], 1, rtol=1e-14)
    costs[4] = sign * 10.0**power  # which is in every path
    loss, posteriors = solve(costs, 1.0)
    assert loss == pytest.approx(reference.best_cost(costs), rel=1e-12, abs=100)
    np.testing.assert_allclose(posteriors[[0, -1], [0, -1]], 1, rtol=1e-14)
    assert (posteriors <= 1 + 1e-14).all()


@pytest.mark.parametrize("power", [3, 9, 14, 16, 20, 25])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(9, 7), (90, 75)])
def test_walls_that_every_path_crosses(level, power, sign, shape):
    """Costs far larger than the differences between paths change no posterior by more than they should."""
    costs = np.random.default_rng(power).normal(size=shape)
    costs[4] = np.inf
    toll = sign * 10.0**power
    costs[4, [1, 4]] = 0  # two gates, each of them crossed by a single step
    expected, shares = solve(costs, 1.0)
    costs[4, [1, 4]] = toll
    loss, posteriors = solve(costs, 1.0)
    assert loss == pytest.approx(expected + toll, rel=1e-15)
    np.testing.assert_allclose(posteriors, shares, atol=1e-11)


@pytest.mark.parametrize("gamma", [1e-300, 1e-100, 1e-20, 1e20, 1e300])
def test_gamma_of_any_size(level, gamma):
    """Far below the costs, the best path; far above them, all paths alike."""
    costs = np.random.default_rng(1).normal(size=(70, 30)) ** 2
    loss, posteriors = solve(costs, gamma)
    expected, cells = solve(costs, 0) if gamma < 1 else reference.forward_backward(costs, gamma)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(posteriors, cells, atol=1e-11)


def test_equal_costs():
    """All paths of the fewest cells tie; counted, not chosen, at any gamma above 0."""
    for gamma in (1e-3, 1e-12):
        loss, posteriors = solve(np.ones((3, 2)), gamma)
        assert loss == pytest.approx(3 - gamma * np.log(2), rel=1e-12)
        np.testing.assert_allclose(posteriors, [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-12)


@pytest.mark.parametrize("gamma", [0, 1e-3, 1.0])
def test_forbidden_cells(level, gamma):
    """A wall with one gate; a wall without; the corners."""
    costs = np.random.default_rng(2).normal(size=(80, 75))
    costs[30] = np.inf
    costs[30, 40] = 0.5
    loss, posteriors = solve(costs, gamma)
    assert np.isfinite(loss)
    assert posteriors[30, 40] == pytest.approx(1, abs=1e-12)
    assert posteriors[30].sum() == posteriors[30, 40]
    if gamma:
        expected, shares = reference.forward_backward(costs, gamma)
        assert loss == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(posteriors, shares, atol=1e-11)
    for place in ((30, 40), (0, 0), (79, 74)):
        walled = np.zeros((80, 75)) if place != (30, 40) else costs.copy()
        walled[place] = np.inf
        loss, posteriors = solve(walled, gamma)
        assert loss == np.inf
        assert not posteriors.any()


@pytest.mark.parametrize("gamma", [0, 1.0])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (70, 3), (79, 74)])
def test_not_a_number(level, gamma, value, place):
    costs = np.random.default_rng(3).normal(size=(3, 80, 75))
    expected, right = fsl.soft_dtw_cost(costs, gamma=gamma, reduction="none", return_grad=True)
    costs[1][place] = value
    losses, posteriors = fsl.soft_dtw_cost(costs, gamma=gamma, reduction="none", return_grad=True)
    assert np.isnan(losses[1])
    assert np.isnan(posteriors[1]).all()
    for b in (0, 2):
        assert losses[b] == expected[b]
        np.testing.assert_array_equal(posteriors[b], right[b])
    total = fsl.soft_dtw_cost(costs, gamma=gamma, reduction="sum", sample_weight=[1, 0, 1])
    assert total == pytest.approx(expected[0] + expected[2])


@pytest.mark.thorough
def test_long_series():
    """Two thousand steps: values leave float64 many times over, errors do not grow."""
    rng = np.random.default_rng(4)
    costs = rng.normal(size=(2000, 1900)) ** 2
    loss, posteriors = solve(costs, 0.01)
    assert posteriors[0, 0] == pytest.approx(1, abs=1e-11)
    assert posteriors[-1, -1] == pytest.approx(1, abs=1e-11)
    assert (posteriors.sum(axis=0) > 1 - 1e-11).all()
    assert (posteriors.sum(axis=1) > 1 - 1e-11).all()
    flipped, turned = solve(costs[::-1, ::-1].T, 0.01)
    assert flipped == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(turned.T[::-1, ::-1], posteriors, atol=1e-11)
