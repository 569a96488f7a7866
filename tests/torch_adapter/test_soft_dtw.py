"""Soft-DTW of tensors: the same as of arrays."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss as fsl  # noqa: E402
import fastseqloss.torch as fst  # noqa: E402
from thoroughness import spread  # noqa: E402
from torch_cases import FLOATS, assert_close, logits  # noqa: E402

LENGTHS = [5, 3, 4], torch.tensor([4, 4, 2])


@pytest.mark.parametrize(
    ("reduction", "dtype", "options"),
    spread(
        ["none", "sum", "mean"], FLOATS, [{}, {"divergence": True, "gamma": 0.1}, {"gamma": 0.0}, {"band": 3}], every=3
    ),
)
def test_as_numpy(reduction, dtype, options):
    x, y = logits((3, 5, 2), dtype=dtype), logits((3, 4, 2), dtype=dtype, seed=1)
    given = options | {"reduction": reduction, "sample_weight": [1.0, 0.5, 2.0]}
    loss = fst.soft_dtw_loss(x, y, *LENGTHS, **given)
    wide = [z.detach() if dtype == torch.float64 else z.detach().float() for z in (x, y)]
    expected, gradients = fsl.soft_dtw_loss(*wide, *LENGTHS, return_grad=True, **given)
    assert_close(loss, torch.as_tensor(expected, dtype=torch.float64), 1e-14 if dtype == torch.float64 else 1e-6)
    for found, gradient in zip(torch.autograd.grad(loss.sum(), (x, y)), gradients, strict=True):
        assert found.dtype == dtype
        assert torch.equal(found, torch.from_numpy(gradient).to(dtype))


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradcheck(reduction):
    inputs = [logits((3, 5, 2)), logits((3, 4, 2), seed=1)]
    assert torch.autograd.gradcheck(lambda x, y: fst.soft_dtw_loss(x, y, *LENGTHS, reduction=reduction), inputs)


def test_errors():
    with pytest.raises(TypeError, match="y must be a tensor, got ndarray"):
        fst.soft_dtw_loss(logits((5, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"lengths_x\[0\] is 6; allowed"):
        fst.soft_dtw_loss(logits((1, 5, 2)), logits((1, 4, 2)), [6])
