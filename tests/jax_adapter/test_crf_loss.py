"""CRF losses of JAX arrays with transitions of every step, and with holes in the mask."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="the extra `peers` installs it")

import fastseqloss as fsl  # noqa: E402
import fastseqloss.jax as fsj  # noqa: E402

pytestmark = pytest.mark.peers
RNG = np.random.default_rng(0)
X, A = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4, 3), (3, 4, 3, 3)))
TAGS, WEIGHTS = RNG.integers(0, 3, (3, 4)), np.float32([1.0, -2.0, 0.5])
MASK = np.array([[1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]], bool)
TAGS[~MASK] = -100

each_loss = pytest.mark.parametrize("name", ["crf_loss", "structured_hinge_loss"])


@each_loss
def test_gradients(name):
    def total(x, a):
        return (getattr(fsj, name)(x, TAGS, a, mask=MASK, reduction="none") * WEIGHTS).sum()

    loss, gradients = getattr(fsl, name)(X, TAGS, A, mask=MASK, reduction="none", return_grad=True)
    for function in (jax.value_and_grad(total, (0, 1)), jax.jit(jax.value_and_grad(total, (0, 1)))):
        value, found = function(X, A)
        np.testing.assert_allclose(value, (loss * WEIGHTS).sum(), rtol=1e-6)
        for own, gradient in zip(found, gradients[:2], strict=True):
            weights = WEIGHTS.reshape(-1, *[1] * (gradient.ndim - 1))
            np.testing.assert_allclose(own, gradient * weights, rtol=1e-5, atol=1e-6)


@each_loss
def test_mapped_calls(name):
    losses = jax.vmap(lambda x, a, tags, mask: getattr(fsj, name)(x, tags, a, mask=mask))(X, A, TAGS, MASK)
    np.testing.assert_allclose(losses, getattr(fsl, name)(X, TAGS, A, mask=MASK, reduction="none"), rtol=1e-6)
