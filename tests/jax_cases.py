"""Scores, labels and tags that the tests of `fastseqloss.jax` share."""

import functools
import inspect
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="the extra `peers` installs it")

from jax import test_util  # noqa: E402, F401

import fastseqloss as fsl  # noqa: E402
import fastseqloss.jax as fsj  # noqa: E402
from fastseqloss.jax.callback import HostLoss  # noqa: E402

jnp = jax.numpy
B, T, V, S = 3, 8, 5, 3
FLOATS = ("float16", "bfloat16", "float32", "float64")
AT_RUN_TIME = (jax.errors.JaxRuntimeError, ValueError)  # which of them is up to how JAX runs a program
SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
STEP_REDUCTIONS = ("none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean")


def scores(*shape, seed=0, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


LABELS = np.array([[1, 2, 2], [3, 4, 1], [2, 1, 3]])
LENGTHS, LABEL_LENGTHS = np.array([8, 5, 0]), np.array([3, 2, 0])
TAGS = np.random.default_rng(1).integers(0, 4, (B, T))
WEIGHT = np.array([1.0, 0.5, 2.0])


def paddings(lengths, width):
    return (np.arange(width) >= np.asarray(lengths)[:, None]).astype(np.float32)


PADDED = paddings(LENGTHS, T), LABELS, paddings(LABEL_LENGTHS, S)


def assert_close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


def call_python(monkeypatch):
    """Have programs that are compiled from now on call Python for each loss."""
    jax.clear_caches()
    monkeypatch.setattr(HostLoss, "plan", lambda host, operands: None)


def count_calls(monkeypatch, name):
    """The shapes of the scores of each call of a NumPy function."""
    call_python(monkeypatch)
    calls = []
    real = getattr(fsl, name)

    @functools.wraps(real)
    def counted(*arguments, **options):
        given = inspect.signature(real).bind(*arguments, **options).arguments
        calls.append(np.shape(next(iter(given.values()))))
        return real(*arguments, **options)

    monkeypatch.setattr(sys.modules[real.__module__], name, counted)  # programs refer to it by this name
    if hasattr(fsj, f"_{name}"):
        monkeypatch.setattr(fsj, f"_{name}", counted)
    return calls
