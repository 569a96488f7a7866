"""Arrays of other kinds: ragged, of other libraries, empty, beyond float64."""

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, LOSSES, X
from step_cases import Capsule

RECURSIVE: list = [1]
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize("value", [[[1], [2, 3]], RECURSIVE])
def test_ragged_arrays(value):
    with pytest.raises(ValueError, match="final_values is not an array"):
        fsl.discounted_returns(np.zeros((2, 3)), final_values=value)
    with pytest.raises(ValueError, match="q is not an array"):
        fsl.quantile_loss(X, X, q=value)
    with pytest.raises(ValueError, match="pos_weight is not an array"):
        fsl.binary_cross_entropy(X, X, pos_weight=value)


def test_ragged_labels():
    with pytest.raises(ValueError, match=r"labels\[0\] is not an array"):
        fsl.ctc_loss(X, [[[1], [2, 3]], [1]])


def test_parameters_of_another_library():
    """Objects that only support DLPack have no `ndim`."""
    q = np.array([0.1, 0.2, 0.5, 0.9])
    assert fsl.quantile_loss(X, X + 1, q=Capsule(q)) == fsl.quantile_loss(X, X + 1, q=q)
    final = np.array([1.0, 2.0])
    expected = fsl.discounted_returns(np.zeros((2, 3)), final_values=final)
    np.testing.assert_array_equal(fsl.discounted_returns(np.zeros((2, 3)), final_values=Capsule(final)), expected)
    old, gain = np.zeros((2, 3)), np.ones(2)
    expected = fsl.clipped_policy_loss(X, CLASSES, old, gain, clip=(0.1, 0.3))
    assert fsl.clipped_policy_loss(X, CLASSES, old, gain, clip=Capsule(np.array([0.1, 0.3]))) == expected


@pytest.mark.parametrize("dtype", [complex, "U1", "M8[s]", object, [("a", "i4")]])
def test_nothing_of_any_dtype(dtype):
    """An empty array says nothing of what it would hold; nor does a complex one warn."""
    assert fsl.ctc_collapse(np.zeros(0, dtype)).shape == (0,)
    assert fsl.softmax_cross_entropy(np.zeros((0, 3, 4)), np.zeros((0, 3), dtype)) == 0


def test_numbers_beyond_float64():
    with pytest.raises(ValueError, match=r"sample_weight\[1\] is inf"):
        LOSSES["mse_loss"](sample_weight=np.array(["1", "1e4000"], np.longdouble))
    with pytest.raises(ValueError, match=r"advantages\[0\] is inf"):
        fsl.policy_gradient_loss(X, CLASSES, np.array(["1e4000", "1"], np.longdouble))
    assert fsl.mse_loss([0.0], np.array(["1e4000"], np.longdouble)) == np.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_that_signals(dtype):
    bits = {np.float16: np.uint16(0x7D01), np.float32: np.uint32(0x7FA00001)}[dtype]
    signalling = np.array([bits, bits]).view(dtype)
    with pytest.raises(ValueError, match=r"sample_weight\[0\] is nan"):
        LOSSES["mse_loss"](sample_weight=signalling)
    assert np.isnan(fsl.expected_risk_loss(signalling, [0.0, 1.0]))


def test_more_rows_than_memory():
    with pytest.raises(ValueError, match="alignments has more rows"):
        fsl.ctc_alignment_log_prob(np.zeros(3), range(2**70))
