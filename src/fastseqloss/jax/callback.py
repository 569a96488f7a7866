"""Losses of NumPy arrays as functions that JAX can compile, map and differentiate."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .._adapters.cotangents import shared_gradients
from .._adapters.functions import function_named
from .._core.foreign import check_nesting
from .._core.messages import brief, shortened
from .host_call import Result, as_varying, has_dtype, host_call, varying_axes
from .short_calls import plan_of

_HALVES = ("float16", "bfloat16")


_DTYPES = (*_HALVES, "float32", "float64")


@dataclass(frozen=True)
class HostLoss:
    """A loss as a function that JAX programs call. Equal instances compute the same, so JAX compiles a program once.

    `loss` is the name of a function of a module, such as "fastseqloss.ctc.loss.ctc_loss". Operands are passed in the
    order of their names, without those that were left out; the first `n_scores` have a gradient. Axes that JAX maps
    over precede an operand's own axes, with length 1 for an operand that is not mapped.
    """

    loss: str
    names: tuple[str, ...]
    ndims: tuple[int | None, ...]  # own axes of each operand
    n_scores: int
    shape: tuple[int, ...]  # of the loss
    folds: bool  # mapped axes may be merged into the batch: the losses of sequences are independent
    shared: tuple[str, ...]  # operands that all sequences of a batch share
    options: tuple[tuple[str, Any], ...]
    wanted: tuple[str, ...] = ()  # operands whose gradients are returned
    late: bool = False  # the last operand is the cotangents of the losses; only gradients are returned

    def __call__(self, *operands: Any) -> Any:
        """Return the loss and the gradients of operands, as arrays of NumPy."""
        arrays = dict(zip(self.given, map(np.asarray, operands), strict=True))
        mapped = np.broadcast_shapes(*self._ahead(arrays).values())
        scores = arrays[self.names[0]]
        results = () if self.late else (np.empty(mapped + self.shape, scores.dtype),)
        gradients = [np.empty(mapped + self._own(name, arrays[name]), arrays[name].dtype) for name in self.wanted]
        results = (*results, *gradients)
        self.into(tuple(arrays.values()), results)
        return results

    def into(self, operands: tuple[NDArray[Any], ...], results: tuple[NDArray[Any], ...]) -> None:
        """Write the loss unless `late`, and the gradients, of operands of NumPy."""
        arrays = dict(zip(self.given, operands, strict=True))
        if tuple(array.ndim for array in operands) == self.own_ndims:
            self._once(arrays, results)
            return
        ahead = self._ahead(arrays)
        mapped = np.broadcast_shapes(*ahead.values())
        if self.folds and all(math.prod(ahead[name]) == 1 for name in self.shared if name in ahead):
            self._folded(arrays, mapped, results)
        else:
            whole = {name: np.broadcast_to(array, mapped + self._own(name, array)) for name, array in arrays.items()}
            for at in np.ndindex(mapped):
                self._once({name: array[at] for name, array in whole.items()}, tuple(x[(*at, ...)] for x in results))

    def describe(self) -> str:
        """Return the text from which `from_description` makes an equal loss, in another process too."""
        return json.dumps(asdict(self))

    @classmethod
    def from_description(cls, text: str) -> HostLoss:
        """Return the loss that a text describes."""
        return cls(**{name: _as_tuples(value) for name, value in json.loads(text).items()})

    def plan(self, operands: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the plan of a short call with these shapes and dtypes, or None."""
        return plan_of(self, operands)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Names of the operands that were not left out."""
        names = tuple(name for name, ndim in zip(self.names, self.ndims, strict=True) if ndim is not None)
        return (*names, "cotangent") if self.late else names

    @cached_property
    def own_ndims(self) -> tuple[int, ...]:
        """Numbers of axes of the operands without those that JAX maps over."""
        ndims = tuple(ndim for ndim in self.ndims if ndim is not None)
        return (*ndims, len(self.shape)) if self.late else ndims

    @property
    def of_steps(self) -> bool:
        """Return True for averages over sequences at each step: the axis of sequences precedes those of the loss."""
        return len(self.shape) > 0 and self._named_options.get("reduction") == "step_mean"

    @property
    def needs_cotangent(self) -> bool:
        """Return True if the gradient depends on the cotangent of each loss: they share scores."""
        shares = not set(self.shared).isdisjoint(self.names[: self.n_scores])
        return shares and len(self.shape) > 0 and not self.folds

    @cached_property
    def _named_options(self) -> dict[str, Any]:
        return dict(self.options)

    def _bound(self, **arguments: Any) -> partial[Any]:
        """Return the function with these arguments, and the options for all others."""
        return partial(function_named(self.loss), **{**self._named_options, **arguments})

    def _compute(self, **arguments: Any) -> Any:
        """Return the result of the function for these arguments, with the options as its other arguments."""
        return self._bound(**arguments)()

    def _ndim(self, name: str) -> int:
        return self.own_ndims[self.given.index(name)]

    def _own(self, name: str, array: NDArray[Any]) -> tuple[int, ...]:
        return array.shape[array.ndim - self._ndim(name) :]

    def _ahead(self, arrays: dict[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
        """Return the mapped axes of each array."""
        return {name: array.shape[: array.ndim - self._ndim(name)] for name, array in arrays.items()}

    def _folded(
        self, arrays: dict[str, NDArray[Any]], mapped: tuple[int, ...], results: tuple[NDArray[Any], ...]
    ) -> None:
        """Call the loss once, with mapped axes and batch axis merged."""
        batched = len(self.shape) > 0
        batch = math.prod(mapped) * (self.shape[0] if batched else 1)
        folded = {}
        for name, array in arrays.items():
            own = self._own(name, array)
            if name in self.shared:
                folded[name] = array.reshape(own)
            else:
                folded[name] = np.broadcast_to(array, mapped + own).reshape(batch, *own[batched:])
        # Mapped arrays are contiguous, so these are views of the results.
        merged = [] if self.late else [results[0].reshape(batch, *self.shape[1:])]
        for name, gradient in zip(self.wanted, results[len(merged) :], strict=True):
            merged.append(gradient.reshape(batch, *self._own(name, arrays[name])[batched:]))
        self._once(folded, tuple(merged))

    def _once(self, arrays: dict[str, NDArray[Any]], results: tuple[NDArray[Any], ...]) -> None:
        if self.late:
            cotangents = np.asarray(arrays.pop("cotangent"), np.float64)
            wanted = {name: name in self.wanted for name in self.names[: self.n_scores]}
            gradients = shared_gradients(self._bound(**arrays), cotangents, wanted)
            by_name = dict(zip(self.names, gradients, strict=False))
            for name, result in zip(self.wanted, results, strict=True):
                result[...] = by_name[name]
            return
        loss = self._with_gradients(arrays, results[1:])
        with np.errstate(over="ignore"):  # a loss beyond the range of float32 is inf
            results[0][...] = loss

    def _with_gradients(self, arrays: dict[str, NDArray[Any]], gradients: tuple[NDArray[Any], ...]) -> Any:
        """Return the loss; write the gradients that are wanted into arrays."""
        if not gradients:
            return self._compute(**arrays)
        if len(names := self.names[: self.n_scores]) == 1:
            return self._compute(**arrays, grad_out=gradients[0])[0]
        into = dict(zip(self.wanted, gradients, strict=True))
        if "targets" in into or (len(names) > 2 and "targets" in names):
            return self._compute(**arrays, grad_out=tuple(map(into.get, names)), with_respect_to=tuple(into))[0]
        several = into[names[0]] if "targets" in names else tuple(map(into.get, names))
        return self._compute(**arrays, grad_out=several)[0]

    def call(self, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, ...]:
        """Bind this callback in JAX; return the loss unless `late`, and the gradients that are wanted."""
        results: list[Result] = [] if self.late else [(self.shape, scores[0].dtype)]
        results += [
            (score.shape, score.dtype) for name, score in zip(self.names, scores, strict=False) if name in self.wanted
        ]
        return host_call(self, tuple(results), [x for x in (*scores, *constants) if x is not None])

    def wanting(self, names: tuple[str, ...]) -> HostLoss:
        """Return this loss with the gradients of some operands."""
        return replace(self, wanted=names)

    def gradients(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the gradient of each score, None for one that was not wanted."""
        named = dict(zip(self.wanted, results, strict=True))
        return tuple(map(named.get, self.names[: self.n_scores]))


def _as_tuples(value: Any) -> Any:
    """Return a value read from JSON with tuples in place of lists."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def apply(host: HostLoss, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> Any:
    """Return the loss of operands of JAX, differentiable by the scores."""
    axes = varying_axes([x for x in (*scores, *constants) if x is not None])
    loss = _loss_late if host.needs_cotangent else _loss
    # The transpose of the cast sums the gradient over the mesh axes along which the scores do not vary.
    return loss(host, tuple(as_varying(scores, axes)), tuple(as_varying(constants, axes)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(host: HostLoss, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> Any:
    """Return the loss; JAX calls `_forward` instead when it differentiates."""
    return host.call(scores, constants)[0]


def _forward(host: HostLoss, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    host, scores, constants = _differentiated(host, scores, constants)
    loss, *gradients = host.call(scores, constants)
    return loss, host.gradients(tuple(gradients))


def _backward(host: HostLoss, gradients: tuple[Any, ...], cotangent: Any) -> tuple[Any, None]:
    cotangent = jnp.asarray(cotangent)  # may be a number
    if host.of_steps:
        cotangent = cotangent[None]

    def scaled(gradient: Any) -> Any:
        spread = cotangent.reshape(cotangent.shape + (1,) * (gradient.ndim - cotangent.ndim))
        return (gradient * spread).astype(gradient.dtype)

    return tuple(None if gradient is None else scaled(gradient) for gradient in gradients), None


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss_late(host: HostLoss, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> Any:
    """Return losses that share parameters; the gradient depends on the cotangent of each."""
    return host.call(scores, constants)[0]


def _forward_late(host: HostLoss, scores: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    differentiated, scores, constants = _differentiated(host, scores, constants)
    # JAX keeps the keys of a dictionary as they are.
    return host.call(scores, constants)[0], (scores, constants, dict.fromkeys(differentiated.wanted))


def _backward_late(host: HostLoss, kept: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, None]:
    scores, constants, wanted = kept
    differentiated = replace(host.wanting(tuple(name for name in host.names if name in wanted)), late=True)
    return differentiated.gradients(differentiated.call(scores, (*constants, cotangent))), None


_loss_late.defvjp(_forward_late, _backward_late, symbolic_zeros=True)


def _differentiated(host: HostLoss, scores: Any, constants: Any) -> tuple[HostLoss, Any, Any]:
    """Return the loss with the gradients of perturbed operands, and the values of operands of `jax.custom_vjp`."""
    names = tuple(name for name, x in zip(host.names, scores, strict=False) if x is not None and x.perturbed)
    given, kept = (tuple(None if x is None else x.value for x in operands) for operands in (scores, constants))
    return host.wanting(names), given, kept


def as_operand(name: str, value: Any, copy: bool = False) -> Any:
    """Return an array of JAX; not with the memory of the caller's array if it is to be a copy."""
    if isinstance(value, jax.Array):
        return value
    check_nesting(name, value)
    try:
        array = np.array(np.asanyarray(value), subok=True) if copy and hasattr(value, "__array__") else value
        return jnp.asarray(array)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} is not an array for JAX: {shortened(error)}") from error


def as_scores(name: str, value: Any) -> Any:
    """Return an operand with a gradient, in float32 for half precision: JAX rounds its gradient after scaling."""
    array = as_operand(name, value)
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; allowed: {', '.join(_DTYPES)}")
    return array.astype(jnp.float32) if array.dtype.name in _HALVES else array


def as_constant(name: str, value: Any) -> Any:
    """Return an operand without a gradient, or None; differentiating by it raises TypeError."""
    if value is None:
        return None
    # A copy: JAX may keep NumPy's own memory, and read it when its owner has changed it.
    array = _as_known_dtype(name, as_operand(name, value, copy=True))
    if jnp.issubdtype(array.dtype, jnp.floating):
        return _without_derivative(name, array)
    if hasattr(value, "__array__") and not isinstance(value, jax.Array):
        _check_integers(name, np.asarray(value), array.dtype)
    return array


def _as_known_dtype(name: str, array: Any) -> Any:
    """Return an array in a dtype of NumPy with the same values; the others of JAX have 8 bits or less."""
    if has_dtype(array):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(jnp.int8)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.float32)
    raise TypeError(f"{name} has dtype {array.dtype}; allowed: dtypes of NumPy")


def _check_integers(name: str, given: NDArray[Any], dtype: Any) -> None:
    """Check that integers of NumPy fit a dtype of JAX, which would wrap them around."""
    if given.size and given.dtype.kind in "iu" and given.dtype != dtype:
        bounds = np.iinfo(dtype)
        bad = np.argwhere((given < bounds.min) | (given > bounds.max))
        if len(bad):
            position = tuple(bad[0].tolist())
            where = f"{name}[{', '.join(map(str, position))}]" if position else name
            raise ValueError(f"{where} is {given[position]}; allowed: integers of {dtype}; jax_enable_x64 is off")


def as_per_sequence(name: str, value: Any, batch: tuple[int, ...]) -> Any:
    """Return an operand with one number for each sequence, of shape `batch`, or None; () is one sequence."""
    array = as_constant(name, value)
    if array is None or array.shape == batch:
        return array
    if array.shape not in ((), (1,)) or math.prod(batch) != 1:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {batch if batch else 'a number'}")
    return array.reshape(batch)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _without_derivative(name: str, array: Any) -> Any:
    return array


@_without_derivative.defjvp
def _refuse(name: str, primals: Any, tangents: Any) -> Any:
    hint = "; or multiply the losses of reduction='none' by it" if name == "sample_weight" else ""
    raise TypeError(
        f"{name} is differentiated, and the loss has no derivative by it here; allowed: a constant, such as "
        f"jax.lax.stop_gradient({name}){hint}"
    )


def as_options(**options: Any) -> tuple[tuple[str, Any], ...]:
    """Return the options that are static in JAX: names and hashable values."""
    return tuple((name, _as_static(name, value)) for name, value in options.items())


_SEQUENCES = {"durations": "integers in one dimension", "clip": "a number, or two, (low, high)"}


def _as_static(name: str, value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        hint = "; divide the loss of reduction='sum' by it" if name == "normalizer" else ""
        raise TypeError(f"{name} is traced by JAX; allowed: a value that is known when the program is traced{hint}")
    if isinstance(value, (np.ndarray, jax.Array)):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if name in _SEQUENCES and isinstance(value, (list, tuple)):
        return tuple(_as_static(name, each) for each in value)
    if value is not None and not isinstance(value, (bool, int, float, str)):  # which are hashable, and texts in JSON
        raise TypeError(f"{name} is {brief(value)}; allowed: {_SEQUENCES.get(name, 'one value, of Python or NumPy')}")
    return value


def ndims(*operands: Any) -> tuple[int | None, ...]:
    """Return the number of axes of each operand, None for one that was left out."""
    return tuple(None if operand is None else operand.ndim for operand in operands)
