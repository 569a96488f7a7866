"""Losses of a linear layer from the array of all logits, in float64: the reference for losses that never store it."""

from collections.abc import Callable
from typing import Any

import numpy as np

HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": np.random.default_rng(11).normal(size=7)},
    "scaled": {"scale": 0.3},
    "capped": {"softcap": 1.5},
    "all": {"bias": np.random.default_rng(12).normal(size=7), "scale": 1.7, "softcap": 2.5},
}


def layer(hidden, weight, bias=None, scale=1.0, softcap=None) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and their derivatives by the linear map."""
    hidden, weight = (np.asarray(x).astype(np.float64) for x in (hidden, weight))
    x = scale * (hidden @ weight.T + (0 if bias is None else np.asarray(bias).astype(np.float64)))
    if softcap is None:
        return x, np.full(x.shape, scale)
    ratio = np.tanh(x / softcap)
    return softcap * ratio, scale * (1 - ratio**2)


def answer(loss: Callable[..., Any], hidden, weight, *arguments, head: dict[str, Any], **options) -> tuple[Any, list]:
    """Loss, and gradients by hidden states, weight and bias, None without one."""
    logits, slopes = layer(hidden, weight, **head)
    value, gradient = loss(logits, *arguments, **options, return_grad=True)
    return value, gradients(np.where(gradient == 0, 0, gradient * slopes), hidden, weight, head)


def gradients(slopes, hidden, weight, head) -> list:
    """Gradients for the derivatives by the linear map, which are 0 where hidden states do not count."""
    counts = slopes.any(axis=-1, keepdims=True)
    states = np.where(counts, np.asarray(hidden).astype(np.float64), 0)
    n_rows = int(np.prod(slopes.shape[:-1]))
    flat = slopes.reshape(n_rows, slopes.shape[-1])
    return [
        slopes @ np.asarray(weight).astype(np.float64),
        flat.T @ states.reshape(n_rows, states.shape[-1]),
        None if head.get("bias") is None else flat.sum(axis=0),
    ]


def check(found, expected, tolerance: float = 1e-12) -> None:
    """Loss and gradients within a tolerance, relative to the largest number of each."""
    np.testing.assert_allclose(found[0], expected[0], rtol=tolerance, atol=tolerance)
    for name, a, b in zip(("hidden", "weight", "bias"), found[1], expected[1], strict=True):
        assert (a is None) == (b is None), name
        if b is not None:
            size = max(1.0, np.abs(b).max(initial=0))
            np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=tolerance * size, err_msg=name)
