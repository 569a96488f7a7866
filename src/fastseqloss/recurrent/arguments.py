"""Checks of the arguments of layers and training, before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_lengths, as_real, overlaps_itself, shares_memory
from .._core.options import as_integer

Array = NDArray[Any]
Seed = int | np.random.Generator | None

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def as_size(name: str, value: Any) -> int:
    """Return a number of features, units or tokens."""
    size = as_integer(name, value)
    if size < 1:
        raise ValueError(f"{name} is {size}; allowed: 1 or more")
    return size


def as_dtype(value: Any) -> np.dtype[Any]:
    """Return the dtype of parameters."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"dtype is {value!r}; allowed: float32 or float64") from None
    if dtype not in _DTYPES:
        raise TypeError(f"dtype is {dtype}; allowed: float32 or float64")
    return dtype


def as_generator(rng: Any) -> np.random.Generator:
    """Return a generator of random numbers, created from a seed if need be."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        allowed = "an integer of 0 or more, a numpy.random.Generator or None"
        raise type(error)(f"rng is {rng!r}; allowed: {allowed}") from None


def as_grad(value: Any, shape: tuple[int, ...] | None) -> Array:
    """Check the gradient with respect to an output of that shape; None means no output yet."""
    if shape is None:
        raise RuntimeError("backward was called before forward; allowed: after it")
    grad = as_real("grad", value)
    if grad.shape != shape:
        raise ValueError(f"grad has shape {grad.shape}; allowed: {shape}")
    return grad


def valid_steps(lengths: Any, batch: int, steps: int) -> tuple[Array, Array]:
    """Return lengths ``[B]`` and the mask ``[B, T]`` of the steps that are not padding."""
    counts = as_lengths("lengths", lengths, batch, steps, False)
    return counts, np.arange(steps) < counts[:, None]


def check_floats(name: str, array: Any) -> None:
    """Check that an array is fit for arithmetic in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if isinstance(array, (np.matrix, np.ma.MaskedArray)):  # their products or sums differ from those of arrays
        raise TypeError(f"{name} is a {type(array).__name__}; allowed: a plain NumPy array")
    if array.dtype not in _DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; allowed: float32 or float64")


def check_writeable(argument: str, arrays: Mapping[str, Any]) -> None:
    """Check that arrays can be changed in place, and that they are disjoint."""
    for name, array in arrays.items():
        check_floats(f"{argument}[{name!r}]", array)
        if not array.flags.writeable:
            raise ValueError(f"{argument}[{name!r}] is read-only; allowed: an array to write to")
        if overlaps_itself(array):
            raise ValueError(f"{argument}[{name!r}] has elements that share memory; allowed: elements apart")
    shared = first_shared(arrays)
    if shared is not None:
        raise ValueError(
            f"{argument}[{shared[1]!r}] shares memory with {argument}[{shared[0]!r}], and would be changed twice; "
            "allowed: arrays apart, so pass what is shared once"
        )


def first_shared(arrays: Mapping[str, Array]) -> tuple[str, str] | None:
    """Return the names of two arrays that share memory, in the order of the mapping, or None."""
    names = list(arrays)
    spans = sorted((*np.lib.array_utils.byte_bounds(arrays[name]), i) for i, name in enumerate(names))
    for k, (_, end, i) in enumerate(spans):
        for start, _, j in spans[k + 1 :]:
            if start >= end:
                break
            if shares_memory(arrays[names[i]], arrays[names[j]]):
                return names[min(i, j)], names[max(i, j)]
    return None
