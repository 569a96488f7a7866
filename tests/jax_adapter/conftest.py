from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Float64, which JAX has on request."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
