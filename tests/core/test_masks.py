"""Masks of integers."""

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, TAGS, X
from step_cases import Foreign

MASK = np.array([[1, 1, 0], [1, 0, 0]])
MASKED = {
    "crf_loss": lambda mask: fsl.crf_loss(X + MASK[..., None], TAGS, np.zeros((4, 4)), mask=mask),
    "crf_decode": lambda mask: fsl.crf_decode(X, np.zeros((4, 4)), mask=mask).tags,
    "structured_hinge_loss": lambda mask: fsl.structured_hinge_loss(X, TAGS, np.eye(4), mask=mask),
    "softmax_cross_entropy": lambda mask: fsl.softmax_cross_entropy(X, CLASSES, mask=mask, reduction="none"),
    "nll_loss": lambda mask: fsl.nll_loss(X - 1, CLASSES, mask=mask, reduction="none"),
    "mse_loss": lambda mask: fsl.mse_loss(X, X + 1, mask=mask, reduction="none"),
    "policy_gradient_loss": lambda mask: fsl.policy_gradient_loss(X, CLASSES, [1.0, 2.0], mask=mask, reduction="none"),
    "expected_risk_loss": lambda mask: fsl.expected_risk_loss(X[:, :, 0] + MASK, MASK * 2, mask=mask),
    "ctc_risk_loss": lambda mask: fsl.ctc_risk_loss(X, [[[1], [2], [3]]] * 2, MASK * 2, mask=mask),
    "pairwise_hinge_loss": lambda mask: fsl.pairwise_hinge_loss(X[:, :, 0] + MASK, MASK * 2, mask=mask),
    "bpr_max_loss": lambda mask: fsl.bpr_max_loss(X[:, :, 0] + MASK, [0, 0], mask=mask),
    "discounted_returns": lambda mask: fsl.discounted_returns(MASK, done=mask),
    "generalized_advantages": lambda mask: fsl.generalized_advantages(MASK, MASK, done=mask),
}
every_mask = pytest.mark.parametrize("name", MASKED)


@every_mask
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i8", "u8", ">i4"])
def test_masks_of_integers(name, dtype):
    expected = MASKED[name](MASK.astype(bool))
    for mask in (MASK.astype(dtype), np.asfortranarray(MASK.astype(dtype)), MASK.tolist(), Foreign(MASK.astype(dtype))):
        np.testing.assert_array_equal(MASKED[name](mask), expected)


@every_mask
@pytest.mark.parametrize("value", [2, -1, 255, 2**63])
def test_masks_of_other_integers(name, value):
    dtype = np.uint64 if value >= 2**63 else np.int64
    mask = MASK.astype(dtype)
    mask[1, 2] = value
    argument = "done" if name in ("discounted_returns", "generalized_advantages") else "mask"
    with pytest.raises(ValueError, match=rf"{argument}\[1, 2\] is {value}; allowed: 0 and 1, or bool"):
        MASKED[name](mask)


@every_mask
@pytest.mark.parametrize("dtype", ["f4", "f8", ml_dtypes.bfloat16, object, "U1"])
def test_masks_of_no_integers(name, dtype):
    with pytest.raises(TypeError, match=r"(mask|done) has dtype .*; allowed: bool, or integers 0 and 1"):
        MASKED[name](MASK.astype(dtype))


def test_masks_in_the_padding_are_not_read():
    mask = np.array([[1, 0, 7], [1, 9, 9]])
    clean, lengths = mask == 1, [2, 1]
    for call in (
        lambda mask: fsl.mse_loss(X, X + 1, lengths, mask=mask),
        lambda mask: fsl.expected_risk_loss(X[..., 0], MASK, lengths, mask=mask),
        lambda mask: fsl.list_mle_loss(X[..., 0], MASK, lengths, mask=mask),
        lambda mask: fsl.discounted_returns(MASK, lengths, done=mask),
    ):
        np.testing.assert_array_equal(call(mask), call(clean))
