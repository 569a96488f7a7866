"""Arrays for the gradient of classes other than ndarray."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import LOSSES, X, every_loss


@every_loss
def test_gradient_into_a_masked_array(loss):
    shape = (3, 4) if loss is LOSSES["expected_risk_loss"] else X.shape
    out = np.ma.MaskedArray(np.full(shape, 7.0))
    with pytest.raises(TypeError, match="grad_out is a masked array"):
        loss(grad_out=out)
    assert (np.asarray(out) == 7).all()


def test_gradients_of_parameters_into_a_masked_array():
    outs = (None, np.ma.MaskedArray(np.zeros((4, 4))), None, None)
    with pytest.raises(TypeError, match=r"grad_out\.transitions is a masked array"):
        LOSSES["crf_loss"](grad_out=outs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_gradient_into_a_matrix(dtype):
    """A class of arrays that has two axes whatever is asked of it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4)).astype(dtype)
    calls = [
        partial(fsl.mse_loss, x, rng.normal(size=(3, 4))),
        partial(fsl.quantile_loss, x, rng.normal(size=(3, 4))),
        partial(fsl.softmax_cross_entropy, x, [1, 2, 3]),
        partial(fsl.ctc_loss, x, [1]),
        partial(fsl.expected_risk_loss, x, np.ones((3, 4))),
    ]
    for call in calls:
        out = np.full((3, 4), 7, dtype).view(np.matrix)
        loss, gradient = call(grad_out=out)
        assert gradient is out
        expected = call(return_grad=True)
        assert loss == expected[0]
        np.testing.assert_array_equal(np.asarray(out), expected[1])
