"""hinge_loss and multiclass_hinge_loss: worked numbers, kinks, ties and margins."""

import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF
from step_cases import DTYPES, FLOATS, Case, assert_same, random_case

EVERY = {"reduction": "none", "return_grad": True}


# ---- two classes ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1), (3, 1, 1)])
def test_golden(level, shape):
    """y = [1, -1, 1] and scores [0.8, -0.5, 0.3] cost 0.2, 0.5 and 0.7, 0.467 in the mean."""
    scores, targets = np.array([0.8, -0.5, 0.3]).reshape(shape), np.array([1, -1, 1]).reshape(shape)
    losses, gradient = fsl.hinge_loss(scores, targets, **EVERY)
    np.testing.assert_allclose(losses.ravel(), [0.2, 0.5, 0.7], rtol=1e-14)
    np.testing.assert_array_equal(gradient.ravel(), [-1, 1, -1])
    for reduction in ("mean", "sequence_mean"):
        loss, gradient = fsl.hinge_loss(scores, targets, reduction=reduction, return_grad=True)
        assert loss == pytest.approx(1.4 / 3, rel=1e-14)
        assert round(loss, 3) == 0.467
        np.testing.assert_allclose(gradient.ravel(), [-1 / 3, 1 / 3, -1 / 3], rtol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("options", "loss", "gradient"),
    [
        ({}, [0, 0, 0.5, 1, 3], [0, 0, -1, -1, -1]),
        ({"squared": True}, [0, 0, 0.25, 1, 9], [0, 0, -1, -2, -6]),
        ({"margin": 2.0}, [0, 1, 1.5, 2, 4], [0, -1, -1, -1, -1]),
        ({"margin": 0.0}, [0, 0, 0, 0, 2], [0, 0, 0, 0, -1]),
        ({"margin": 2, "squared": True}, [0, 1, 2.25, 4, 16], [0, -2, -3, -4, -8]),
    ],
)
def test_worked_numbers(level, options, loss, gradient, dtype):
    """Exactly at the margin the derivative is 0."""
    scores = np.array([2, 1, 0.5, 0, -2], dtype)
    assert_same(fsl.hinge_loss(scores, np.ones(5), **options, **EVERY), [loss, gradient])
    mirrored = fsl.hinge_loss(-scores, -np.ones(5), **options, **EVERY)
    assert_same(mirrored, [loss, -np.array(gradient)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_scores(level, dtype):
    scores, targets = np.array([np.inf, np.inf, -np.inf, -np.inf], dtype), np.array([1, -1, 1, -1])
    loss, gradient = fsl.hinge_loss(scores, targets, **EVERY)
    assert_same([loss, gradient], [[0, np.inf, np.inf, 0], [0, 1, -1, 0]])
    loss, gradient = fsl.hinge_loss(scores, targets, squared=True, **EVERY)
    assert_same([loss, gradient], [[0, np.inf, np.inf, 0], [0, np.inf, -np.inf, 0]])


# ---- several classes --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("scores", "target", "loss", "gradient"),
    [
        ([3, 1, 1.5], 0, 0, [0, 0, 0]),
        ([3, 1, 2.5], 0, 0.5, [-1, 0, 1]),
        ([3, 1, 2], 0, 0, [0, 0, 0]),  # exactly at the margin
        ([3, 1, 2.5], 1, 3, [1, -1, 0]),
        ([2, 2, 2], 2, 1, [1, 0, -1]),  # the first of equals
        ([2, 2, 2], 0, 1, [-1, 1, 0]),
        ([2, -np.inf, 1], 0, 0, [0, 0, 0]),
        ([2, -np.inf, 1], 1, np.inf, [1, -1, 0]),
        ([2, -np.inf, -np.inf], 0, 0, [0, 0, 0]),
        ([0, 0, np.inf], 0, np.inf, [-1, 0, 1]),
        ([7], 0, 0, [0]),
    ],
)
def test_worked_classes(level, scores, target, loss, gradient, dtype):
    """Alone, and in a block of rows."""
    rows = np.random.default_rng(0).normal(size=(41, len(scores))).astype(dtype)
    targets = np.zeros(41, int)
    rows[[0, 17, 40]], targets[[0, 17, 40]] = scores, target
    many = fsl.multiclass_hinge_loss(rows, targets, **EVERY)
    assert_same([many[0][[0, 17, 40]], many[1][[0, 17, 40]]], [[loss] * 3, [gradient] * 3])
    alone = fsl.multiclass_hinge_loss(np.array(scores, dtype), target, **EVERY)
    assert_same(alone, [loss, gradient])


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF])
def test_rows_of_every_short_width(level, dtype):
    rng = np.random.default_rng(0)
    for width in range(1, 71, 1 if dtype in DTYPES else 7):
        weight = rng.uniform(0, 2, width)
        case = random_case(
            rng, "multiclass_hinge_loss", (90, width), dtype=dtype, holes=0.03, class_weight=weight, margin=0.5
        )
        case.check(*case.run())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [2, 7, 16, 33, 64, 65, 200, 1025])
def test_the_first_of_equal_classes(level, dtype, width):
    """Few different scores: many ties, at every place of a row."""
    rng = np.random.default_rng(width)
    scores = rng.integers(-1, 2, (60, width)).astype(dtype)
    case = Case("multiclass_hinge_loss", scores, rng.integers(0, width, 60))
    assert_same(case.run(), [case.steps.loss, case.steps.gradient])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_offset_costs_nothing(level, dtype):
    scores = np.array([[1e6, 1e6 - 0.5, 0], [1e6 + 0.25, 1e6, -1e6]], dtype)
    loss, gradient = fsl.multiclass_hinge_loss(scores, [0, 0], margin=0.75, **EVERY)
    assert_same([loss, gradient], [[0.25, 0.5], [[-1, 1, 0], [-1, 1, 0]]])


def test_two_classes_are_the_hinge_of_their_difference(level):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 50)), rng.integers(0, 2, (4, 50))
    two = np.stack([np.zeros_like(x), x], axis=-1)
    binary, slope = fsl.hinge_loss(x, 2 * y - 1, **EVERY)
    several, gradient = fsl.multiclass_hinge_loss(two, y, **EVERY)
    np.testing.assert_allclose(several, binary, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(gradient[..., 1], slope)
