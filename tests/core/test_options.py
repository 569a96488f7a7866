"""Options of every loss: what is no bool, no name and no number that float64 holds is refused."""

from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, LOSSES, X, every_loss


@every_loss
@pytest.mark.parametrize("value", [1, 0, None, "yes", np.array([True, False]), np.array([]), [True]])
def test_return_grad_is_a_bool(loss, value):
    with pytest.raises(TypeError, match="return_grad must be a bool, got"):
        loss(return_grad=value)


@every_loss
def test_return_grad_of_numpy(loss):
    assert isinstance(loss(return_grad=np.bool_(True)), tuple)
    assert not isinstance(loss(return_grad=np.bool_(False)), tuple)


@every_loss
@pytest.mark.parametrize("value", [np.array(["mean", "sum"]), np.array([]), ["mean"], {"mean"}, None, b"mean", 1j])
def test_reduction_that_is_no_string(loss, value):
    with pytest.raises(ValueError, match=r"^reduction is .*; allowed: 'none'"):
        loss(reduction=value)


def test_reduction_of_numpy():
    assert LOSSES["mse_loss"](reduction=np.str_("sum")) == LOSSES["mse_loss"](reduction="sum")


@pytest.mark.parametrize("value", [np.array(["logits", "probs"]), np.array([]), ["logits"], {}, None])
def test_input_that_is_no_string(value):
    with pytest.raises(ValueError, match=r"^input is "):
        LOSSES["ctc_loss"](input=value)


@every_loss
@pytest.mark.parametrize("value", [10**400, Fraction(10**400)])
def test_normalizer_beyond_floats(loss, value):
    with pytest.raises(ValueError, match="normalizer is beyond all floats; allowed: finite and above 0"):
        loss(reduction="sum", normalizer=value)


@every_loss
@pytest.mark.parametrize("value", [5e-324, 1e-310, np.longdouble("1e-4000")])
def test_normalizer_without_a_reciprocal(loss, value):
    """A loss of 0 divided by it would be 0, but 0 times its reciprocal is NaN."""
    with pytest.raises(ValueError, match="normalizer is "):
        loss(reduction="sum", normalizer=value)


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400), pytest.param(10**5000, id="5001 digits")])
def test_numbers_beyond_floats(value):
    with pytest.raises(ValueError, match="margin is beyond all floats"):
        fsl.hinge_loss([1.0], [1], margin=value)
    with pytest.raises(ValueError, match=r"clip\[0\] is beyond all floats"):
        fsl.clipped_policy_loss(X, CLASSES, np.zeros((2, 3)), np.ones(2), clip=value)


def test_integers_that_python_does_not_print():
    with pytest.raises(ValueError, match="blank is an integer of 16610 bits"):
        fsl.ctc_loss(X, [[1], [2]], blank=10**5000)


@pytest.mark.parametrize("value", [1, "yes", None, np.array([True, False])])
def test_pairwise_is_a_bool(value):
    with pytest.raises(TypeError, match="pairwise must be a bool"):
        fsl.crf_marginals(X, np.zeros((4, 4)), pairwise=value)


@pytest.mark.parametrize("value", [[[0.1], [0.2, 1]], [1, [2]]])
def test_ragged_bounds(value):
    with pytest.raises(ValueError, match="clip is not an array"):
        fsl.clipped_policy_loss(X, CLASSES, np.zeros((2, 3)), np.ones(2), clip=value)
