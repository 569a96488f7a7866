"""CRF losses of tensors with transitions of every step, and with holes in the mask."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss as fsl  # noqa: E402
import fastseqloss.torch as fst  # noqa: E402

pytestmark = pytest.mark.peers
RNG = np.random.default_rng(0)
X, A, TAGS = RNG.normal(size=(3, 4, 3)), RNG.normal(size=(3, 4, 3, 3)), RNG.integers(0, 3, (3, 4))
MASK = np.array([[1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]], bool)
TAGS[~MASK] = -100

each_loss = pytest.mark.parametrize("name", ["crf_loss", "structured_hinge_loss"])


@each_loss
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradients(name, reduction):
    loss = getattr(fst, name)
    x, a = (torch.tensor(z, requires_grad=True) for z in (X, A))
    tags, mask = torch.tensor(TAGS), torch.tensor(MASK)
    assert torch.autograd.gradcheck(lambda x, a: loss(x, tags, a, mask=mask, reduction=reduction), (x, a))
    weights = torch.tensor([1.0, -2.0, 0.5] if reduction == "none" else 3.0)
    (loss(x, tags, a, mask=mask, reduction=reduction) * weights).sum().backward()
    _, gradients = getattr(fsl, name)(X, TAGS, A, mask=MASK, reduction=reduction, return_grad=True)
    for own, gradient in ((x, gradients.emissions), (a, gradients.transitions)):
        factor = weights.reshape(-1, *[1] * (own.ndim - 1)) if weights.ndim else weights
        np.testing.assert_allclose(own.grad, gradient * factor.numpy(), rtol=1e-12, atol=1e-15)


@each_loss
def test_mapped_calls(name):
    loss = getattr(fst, name)
    x, a, tags, mask = map(torch.tensor, (X, A, TAGS, MASK))
    losses = torch.func.vmap(lambda x, a, tags, mask: loss(x, tags, a, mask=mask))(x, a, tags, mask)
    np.testing.assert_allclose(losses, getattr(fsl, name)(X, TAGS, A, mask=MASK, reduction="none"), rtol=1e-14)
