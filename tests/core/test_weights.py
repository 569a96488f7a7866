"""Weights of sequences and classes of any size."""

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import LOSSES, every_loss


@every_loss
@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e200, 1.7e308])
def test_averages_by_extreme_weights(loss, size):
    """Weights all alike are no weights, however small or large: neither their sum nor its reciprocal overflows."""
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weights = np.full(batch, size)
    np.testing.assert_allclose(loss(sample_weight=weights), loss(), rtol=1e-13)
    value, gradient = loss(sample_weight=weights, return_grad=True)
    expected = loss(return_grad=True)[1]
    for found, wanted in zip(*([g] if isinstance(g, np.ndarray) else g[:2] for g in (gradient, expected)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    assert np.isfinite(value)


@every_loss
def test_weights_that_underflow(loss):
    """For any settings of NumPy's error handling."""
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weights = np.array([3.0, 1e-310, 65504.0])[:batch]
    expected = loss(sample_weight=weights)
    with np.errstate(all="raise"):
        assert loss(sample_weight=weights, return_grad=True)[0] == expected


@every_loss
def test_losses_that_overflow_do_not_warn(loss):
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weighted = loss(sample_weight=np.full(batch, 1e308), reduction="none")
    assert not np.isnan(weighted).any()
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(loss(sample_weight=np.full(batch, 1e308), reduction="none"), weighted)


@pytest.mark.parametrize("loss", [fsl.crf_loss, fsl.structured_hinge_loss])
def test_one_impossible_sequence_of_weight_zero(loss):
    transitions = np.full((2, 2), -np.inf)
    emissions, tags = np.zeros((3, 2)), [0, 1, 0]
    assert loss(emissions, tags, transitions, reduction="none") == np.inf
    assert loss(emissions, tags, transitions, reduction="none", sample_weight=[0.0]) == 0.0


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-200, 1e200, 1.7e308])
def test_extreme_weights_of_classes(value):
    """Whose sum would have no reciprocal, or overflow: the mean would be NaN, or 0."""
    with pytest.raises(ValueError, match=r"class_weight\[2\] is .*; allowed: 0, or from 1e-150 to 1e\+150"):
        LOSSES["softmax_cross_entropy"](class_weight=np.array([1, 0, value, 1]))


def test_advantages_that_underflow():
    """For any settings of NumPy's error handling."""
    rewards, values = np.ones((2, 5)), np.full((2, 5), 0.3)
    expected = fsl.generalized_advantages(rewards, values, discount=5e-324)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(fsl.generalized_advantages(rewards, values, discount=5e-324), expected)
