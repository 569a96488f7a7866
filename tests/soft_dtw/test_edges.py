"""Soft-DTW where things vanish: no batch, no steps, one step, no path, no numbers."""

import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from processes import printed
from soft_dtw_cases import cases, random_case

REDUCTIONS = ("none", "sum", "mean", "sequence_mean")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(0, 5, 4), (0, 0, 0), (3, 0, 0)])
def test_nothing_there(reduction, shape):
    batch, rows, columns = shape
    x, y = np.zeros((batch, rows, 2), np.float32), np.zeros((batch, columns, 2))
    for divergence in (False, True):
        loss, grad = fsl.soft_dtw_loss(x, y, reduction=reduction, divergence=divergence, return_grad=True)
        assert (grad.x.shape, grad.y.shape) == (x.shape, y.shape)
        assert (grad.x.dtype, grad.y.dtype) == (np.float32, np.float64)
        assert np.shape(loss) == (shape[:1] if reduction == "none" else ())
        assert np.sum(loss) == 0
    loss, posteriors = fsl.soft_dtw_cost(np.zeros(shape), reduction=reduction, return_grad=True)
    assert posteriors.shape == shape
    assert np.sum(loss) == 0
    assert fsl.soft_dtw_posteriors(x, y).shape == shape


@pytest.mark.parametrize("gamma", [0, 1.0])
def test_pairs_of_empty_series(level, gamma):
    case = random_case(np.random.default_rng(0), (3, 4, 5, 2), full=True)
    case.x[1] = case.y[1] = np.nan
    lengths = [4, 0, 2], [5, 0, 1]
    loss, grad = fsl.soft_dtw_loss(case.x, case.y, *lengths, gamma=gamma, reduction="none", return_grad=True)
    assert loss[1] == 0
    assert not grad.x[1].any()
    assert not grad.y[1].any()
    posteriors = fsl.soft_dtw_posteriors(case.x, case.y, *lengths, gamma=gamma)
    assert not posteriors[1].any()
    costs = np.full((3, 4, 5), np.nan)
    costs[[0, 2]] = 1.0
    out = np.full_like(costs, 7)
    losses, _ = fsl.soft_dtw_cost(costs, *lengths, gamma=gamma, reduction="none", grad_out=out)
    assert losses[1] == 0
    assert not out[1].any()
    assert not out[2, 2:].any()
    assert not out[2, :, 1:].any()


@given(cases(smallest=1, largest=(2, 1, 9, 3), dtypes=(np.float64,), bands=(None,)))
def test_one_step(level, case):
    """The only path is certain: the loss is the sum of the distances."""
    loss, grad = fsl.soft_dtw_loss(*case.arguments, gamma=case.gamma, reduction="none", return_grad=True)
    posteriors = fsl.soft_dtw_posteriors(*case.arguments, gamma=case.gamma)
    for b, m in enumerate(case.lengths_y):
        np.testing.assert_allclose(loss[b], case.costs[b, 0, :m].sum(), rtol=1e-12, atol=1e-12 * case.gamma)
        np.testing.assert_allclose(posteriors[b, 0, :m], 1, rtol=1e-15)
        apart = 2 * (case.x[b, 0] - case.y[b, :m])
        np.testing.assert_allclose(grad.x[b, 0], apart.sum(axis=0), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(grad.y[b, :m], -apart, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0, 1.0])
@pytest.mark.parametrize("divergence", [False, True])
def test_series_that_are_not_finite(level, gamma, divergence):
    """NaN spoils its pair; an infinite step is infinitely far from all finite ones."""
    case = random_case(np.random.default_rng(1), (4, 70, 66, 2), full=True)
    options = {"gamma": gamma, "divergence": divergence, "reduction": "none", "return_grad": True}
    expected, right = fsl.soft_dtw_loss(*case.arguments, **options)
    case.x[1, 65, 1] = np.nan
    case.y[2, 0, 0] = np.inf
    loss, grad = fsl.soft_dtw_loss(*case.arguments, **options)
    assert np.isnan(loss[1])
    assert np.isnan(grad.x[1]).all()
    assert np.isnan(grad.y[1]).all()
    assert loss[2] == np.inf
    assert not grad.x[2].any()
    assert not grad.y[2].any()
    for b in (0, 3):
        assert loss[b] == expected[b]
        np.testing.assert_array_equal(grad.x[b], right.x[b])
        np.testing.assert_array_equal(grad.y[b], right.y[b])


@pytest.mark.parametrize("gamma", [0, 1.0])
def test_distances_beyond_float64(level, gamma):
    """Steps whose distance overflows are not paired, and leave no NaN in the gradient."""
    x = np.array([[1.0], [1e300], [2.0]])
    y = np.array([[1.0], [1e300], [1e300], [2.5]])
    loss, grad = fsl.soft_dtw_loss(x, y, gamma=gamma, return_grad=True)
    assert loss == pytest.approx(0.25, abs=2 * gamma)
    assert np.isfinite(grad.x).all()
    assert np.isfinite(grad.y).all()
    loss, grad = fsl.soft_dtw_loss(x, -y, gamma=gamma, return_grad=True)
    assert loss == np.inf
    assert not grad.x.any()


@pytest.mark.parametrize("gamma", [0, 1.0])
def test_float32_overflows_no_sum(level, gamma):
    """Distances of float32 series are float64 numbers."""
    x, y = np.float32([[1e30], [0]]), np.float32([[0], [1e30]])
    loss, grad = fsl.soft_dtw_loss(x, y, gamma=gamma, return_grad=True)
    assert loss == pytest.approx(2e60, rel=1e-6)
    assert np.isfinite(grad.x).all()


def test_weights_of_zero(level):
    """A pair of weight 0 does not count, whatever is in it."""
    case = random_case(np.random.default_rng(2), (3, 9, 8, 2))
    expected, right = fsl.soft_dtw_loss(*case.take([0, 2]).arguments, return_grad=True)
    case.x[1], case.y[1] = np.nan, np.inf
    for reduction in REDUCTIONS[1:]:
        loss, grad = fsl.soft_dtw_loss(*case.arguments, sample_weight=[1, 0, 1], return_grad=True, reduction=reduction)
        assert np.isfinite(loss)
        assert not grad.x[1].any()
        assert not grad.y[1].any()
    loss, grad = fsl.soft_dtw_loss(*case.arguments, sample_weight=[1, 0, 1], return_grad=True)
    assert loss == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(grad.x[[0, 2]], right.x, rtol=1e-14)
    out = np.full((3, 9, 8), 7.0)
    fsl.soft_dtw_cost(np.full((3, 9, 8), np.nan), sample_weight=[0, 0, 0], grad_out=out)
    assert not out.any()


def test_negative_values_are_right():
    """The soft minimum of 63 paths of cost 0 lies below 0."""
    x = np.zeros((1, 4, 1))
    assert fsl.soft_dtw_loss(x, x) == pytest.approx(-np.log(63), rel=1e-14)
    assert fsl.soft_dtw_loss(x, x, gamma=0.1) == pytest.approx(-0.1 * np.log(63), rel=1e-14)
    assert fsl.soft_dtw_loss(x, x, gamma=0) == 0
    assert fsl.soft_dtw_loss(x, x, divergence=True) == 0


@pytest.mark.thorough
def test_workspace_of_a_divergence_of_unequal_lengths():
    """The grid of the shorter series with itself keeps more shares than that of the longer one."""
    code = """
import numpy as np, fastseqloss as fsl
rng = np.random.default_rng(0)
for n, m in ((700, 1000), (1000, 700), (130, 1050)):
    x, y = rng.normal(size=(n, 1)), rng.normal(size=(m, 1))
    loss, grad = fsl.soft_dtw_loss(x, y, divergence=True, return_grad=True)
    pairs = [fsl.soft_dtw_loss(a, b, return_grad=True) for a, b in ((x, y), (x, x), (y, y))]
    np.testing.assert_allclose(loss, pairs[0][0] - (pairs[1][0] + pairs[2][0]) / 2, rtol=1e-9)
    own = (pairs[1][1].x + pairs[1][1].y) / 2
    np.testing.assert_allclose(grad.x, pairs[0][1].x - own, atol=1e-9 * abs(own).max())
print("works")
"""
    assert printed(code) == "works"
