"""Soft-DTW of JAX arrays: the same as of NumPy's; compiled, mapped and differentiated."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
jax = pytest.importorskip("jax", reason="the extra `peers` installs it")
jnp = jax.numpy

import fastseqloss.jax as fsj  # noqa: E402

LENGTHS = np.array([5, 3, 4]), np.array([4, 4, 2])


@pytest.fixture(autouse=True)
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def series():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(3, 5, 2))), jnp.asarray(rng.normal(size=(3, 4, 2)))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"divergence": True, "gamma": 0.1}, {"band": 3}])
def test_as_numpy(reduction, options):
    x, y = series()
    given = options | {"reduction": reduction, "sample_weight": np.array([1.0, 0.5, 2.0])}
    call = jax.jit(lambda x, y: fsj.soft_dtw_loss(x, y, *LENGTHS, **given))
    expected, gradients = fsl.soft_dtw_loss(x, y, *LENGTHS, return_grad=True, **given)
    np.testing.assert_allclose(call(x, y), expected, rtol=1e-14)
    found = jax.grad(lambda x, y: call(x, y).sum(), (0, 1))(x, y)
    for gradient, slope in zip(found, gradients, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-13)


def test_mapped():
    x, y = series()
    one = partial(fsj.soft_dtw_loss, reduction="none")
    expected = fsl.soft_dtw_loss(x, y, *LENGTHS, reduction="none")
    np.testing.assert_allclose(jax.vmap(one)(x, y, *LENGTHS), expected, rtol=1e-14)


def test_loss_beyond_float32():
    """Inf, without a warning."""
    x, y = jnp.zeros((2, 1), jnp.float32), jnp.full((2, 1), 1e30, jnp.float32)
    assert fsj.soft_dtw_loss(x, y) == np.inf


def test_errors():
    with pytest.raises(ValueError, match=r"x has shape \(5,\); allowed"):
        fsj.soft_dtw_loss(jnp.zeros(5), jnp.zeros(5))
    with pytest.raises(TypeError, match="y has dtype int64"):
        fsj.soft_dtw_loss(jnp.zeros((5, 2)), jnp.zeros((5, 2), int))
