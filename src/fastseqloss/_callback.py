"""Losses of NumPy arrays as functions that JAX can compile, map and differentiate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ._slopes import crf_gradients

_DTYPES = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


@dataclass(frozen=True)
class Host:
    """A loss as JAX calls it back. Equal ones compute the same, so that JAX compiles a program once.

    Operands come under their names, None for one that was left out; the first `n_scores` have a gradient. What
    JAX maps over comes as axes ahead of an operand's own, of length 1 where the operand was not mapped.
    """

    loss: Callable[..., Any]
    names: tuple[str, ...]
    ndims: tuple[int | None, ...]  # own axes of each operand
    n_scores: int
    shape: tuple[int, ...]  # of the loss
    folds: bool  # whether mapped axes may join the batch: losses of sequences that have nothing in common
    shared: tuple[str, ...]  # what the sequences of a batch have in common
    options: tuple[tuple[str, Any], ...]
    with_gradient: bool = False
    sloped: bool = False  # the last operand is the slopes of the losses [B]; only gradients are returned

    def __call__(self, *operands: Any) -> Any:
        arrays = dict(zip(self.given, map(np.asarray, operands), strict=True))
        ahead = {name: array.shape[: array.ndim - self._ndim(name)] for name, array in arrays.items()}
        mapped = np.broadcast_shapes(*ahead.values())
        if not mapped:
            return self._once(arrays)
        if self.folds and all(math.prod(ahead[name]) == 1 for name in self.shared if name in ahead):
            return self._folded(arrays, mapped)
        whole = {name: np.broadcast_to(array, mapped + self._own(name, array)) for name, array in arrays.items()}
        rows = [self._once({name: array[at] for name, array in whole.items()}) for at in np.ndindex(mapped)]
        return tuple(np.stack(column).reshape(mapped + column[0].shape) for column in zip(*rows, strict=True))

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the operands that were not left out."""
        names = tuple(name for name, ndim in zip(self.names, self.ndims, strict=True) if ndim is not None)
        return (*names, "slope") if self.sloped else names

    def _ndim(self, name: str) -> int:
        ndim = len(self.shape) if name == "slope" else self.ndims[self.names.index(name)]
        assert ndim is not None
        return ndim

    def _own(self, name: str, array: NDArray[Any]) -> tuple[int, ...]:
        return array.shape[array.ndim - self._ndim(name) :]

    def _folded(self, arrays: dict[str, NDArray[Any]], mapped: tuple[int, ...]) -> Any:
        """Call once, with mapped axes and batch axis made one."""
        batched = len(self.shape) > 0
        batch = math.prod(mapped) * (self.shape[0] if batched else 1)
        folded = {}
        for name, array in arrays.items():
            own = self._own(name, array)
            if name in self.shared:
                folded[name] = array.reshape(own)
            else:
                folded[name] = np.broadcast_to(array, mapped + own).reshape(batch, *own[batched:])
        results = self._once(folded)
        shapes = (self.shape, *(self._own(name, arrays[name]) for name in self.names[: self.n_scores]))
        return tuple(result.reshape(mapped + shape) for result, shape in zip(results, shapes, strict=False))

    def _once(self, arrays: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        scores = arrays[self.names[0]]
        compute = partial(self.loss, **{k: v for k, v in arrays.items() if k != "slope"}, **dict(self.options))
        if self.sloped:
            return _present(crf_gradients(compute, np.asarray(arrays["slope"], np.float64)))
        loss, gradients = compute(return_grad=True) if self.with_gradient else (compute(), ())
        if isinstance(gradients, np.ndarray):
            gradients = (gradients,)
        return (np.asarray(loss, _DTYPES[scores.dtype.name]), *_present(gradients))

    def results(self, scores: tuple[Any, ...]) -> Iterator[Any]:
        """Say what comes back."""
        if not self.sloped:
            yield jax.ShapeDtypeStruct(self.shape, _DTYPES[scores[0].dtype.name])
        if self.with_gradient:
            yield from (jax.ShapeDtypeStruct(score.shape, score.dtype) for score in scores if score is not None)

    def call(self, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, ...]:
        """Have JAX call this back."""
        operands = [operand for operand in (*scores, *constants) if operand is not None]
        wanted = tuple(self.results(scores))
        results: tuple[Any, ...] = jax.pure_callback(self, wanted, *operands, vmap_method="expand_dims")
        return results


def _present(arrays: Any) -> tuple[NDArray[Any], ...]:
    return tuple(array for array in arrays if array is not None)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def apply(host: Host, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> Any:
    """Return the loss. The gradient is computed along with it, where JAX differentiates."""
    return host.call(scores, constants)[0]


def _forward(host: Host, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    loss, *gradients = replace(host, with_gradient=True).call(scores, constants)
    return loss, _as_given(scores, gradients)


def _backward(host: Host, gradients: tuple[Any, ...], slope: Any) -> tuple[Any, None]:
    def scaled(gradient: Any) -> Any:
        spread = slope.reshape(slope.shape + (1,) * (gradient.ndim - slope.ndim))
        return (gradient * spread).astype(gradient.dtype)

    return tuple(None if gradient is None else scaled(gradient) for gradient in gradients), None


apply.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def apply_late(host: Host, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> Any:
    """Return the losses [B] of sequences that share parameters, whose gradient depends on the slope of each."""
    return host.call(scores, constants)[0]


def _forward_late(host: Host, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    return host.call(scores, constants)[0], (scores, constants)


def _backward_late(host: Host, kept: tuple[Any, Any], slope: Any) -> tuple[Any, None]:
    scores, constants = kept
    late = replace(host, with_gradient=True, sloped=True, folds=False)
    return _as_given(scores, list(late.call(scores, (*constants, slope)))), None


apply_late.defvjp(_forward_late, _backward_late)


def _as_given(scores: tuple[Any, ...], gradients: list[Any]) -> tuple[Any, ...]:
    present = iter(gradients)
    return tuple(None if score is None else next(present) for score in scores)


def as_scores(name: str, value: Any) -> Any:
    """Return an array of scores of a dtype that has a loss."""
    array = jnp.asarray(value)
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; allowed: {', '.join(_DTYPES)}")
    return array


def as_constant(value: Any) -> Any:
    """Return an operand without a gradient, or None."""
    return None if value is None else jax.lax.stop_gradient(jnp.asarray(value))


def ndims(*operands: Any) -> tuple[int | None, ...]:
    """Say how many axes each operand has, None for one that was left out."""
    return tuple(None if operand is None else operand.ndim for operand in operands)
