"""Calls from JAX programs to NumPy code, without copies and deadlocks.

On the CPU the primitive in this module is a custom call of XLA: a handler passes operands and results as NumPy arrays
that share their memory with XLA. Elsewhere, and if JAX does not accept the handler, it is a callback that receives the
NumPy arrays that XLA creates before the call. `jax.pure_callback` is the last resort: it turns the operands into JAX
arrays, copied by a thread of XLA's pool. In a pool of one thread that thread runs the callback, so reading an operand
waits forever; two programs on two threads block each other in the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from numpy.typing import NDArray

from .._kernels.xla.handler import handler_of
from .short_calls import KERNELS

Result = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype


class HostFunction(Protocol):
    """A pure function of NumPy arrays, hashable, which a text describes completely."""

    def into(self, operands: tuple[NDArray[Any], ...], results: tuple[NDArray[Any], ...]) -> None:
        """Write the results into arrays."""

    def __call__(self, *operands: Any) -> tuple[NDArray[Any], ...]:
        """Return the results."""

    def describe(self) -> str:
        """Return the text from which `from_description` makes an equal function, in another process too."""

    @classmethod
    def from_description(cls, text: str) -> HostFunction:
        """Return the function that a text describes."""

    def plan(self, operands: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return numbers with which the handler computes the results without Python, or None if it cannot."""


# ---- the handler of XLA's custom calls ---------------------------------------------------------------------------

_TARGET = "fastseqloss"
_CODES = {
    **{1: "bool", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "uint8", 7: "uint16", 8: "uint32", 9: "uint64"},
    **{10: "float16", 11: "float32", 12: "float64", 15: "complex64", 16: "bfloat16", 18: "complex128"},
}


def has_dtype(array: Any) -> bool:
    """Return True if functions can take this array of JAX: NumPy has its dtype."""
    return array.dtype.name in _CODES.values()


def _run_described(text: bytes, operands: tuple[NDArray[Any], ...], results: tuple[NDArray[Any], ...]) -> None:
    _described(text).into(operands, results)


@lru_cache(maxsize=4096)
def _described(text: bytes) -> HostFunction:
    from .callback import HostLoss

    return HostLoss.from_description(text.decode())


def _register() -> bool:
    """Register the handler; returns False if this version of JAX does not accept it."""
    try:
        from jax import ffi

        dtypes = {code: jnp.dtype(name) for code, name in _CODES.items()}
        handler = handler_of(_run_described, np.ndarray, dtypes, KERNELS)
        ffi.register_ffi_target(_TARGET, handler, platform="cpu")
    except Exception as error:  # any exception of a future version
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(
            f"fastseqloss.jax is slower with JAX {jax.__version__}, which does not accept its handler of custom calls: "
            f"{reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


_has_handler = _register()

_emit = getattr(mlir, "emit_python_callback", None)

if _emit is None and not _has_handler:
    warnings.warn(
        f"fastseqloss.jax does not support JAX {jax.__version__} and uses jax.pure_callback, which can wait forever in "
        "a process with one CPU; set jax_cpu_enable_async_dispatch to False before JAX computes anything",
        RuntimeWarning,
        stacklevel=2,
    )


def host_call(function: HostFunction, results: tuple[Result, ...], operands: list[Any]) -> tuple[Any, ...]:
    """Call a function with the operands as NumPy arrays; it returns arrays as `results` says.

    Axes that JAX maps over precede an operand's own axes, with length 1 for an operand that is not mapped.
    """
    if _emit is None and not _has_handler:
        wanted = tuple(jax.ShapeDtypeStruct(*result) for result in results)
        outputs = jax.pure_callback(function, wanted, *operands, vmap_method="expand_dims")
    else:
        outputs = _call.bind(*operands, function=function, results=results)
    return tuple(as_varying(outputs, varying_axes(operands)))


# ---- shard_map: the type of an array holds the mesh axes along which its values vary -----------------------------


def varying_axes(arrays: Any) -> frozenset[Hashable]:
    """Return the mesh axes along which any of the arrays varies; an empty set outside `jax.shard_map`."""
    return reduce(frozenset.union, map(_axes, arrays), frozenset())


def _axes(array: Any) -> frozenset[Hashable]:
    if not hasattr(jax, "typeof"):  # before JAX 0.5.3
        return frozenset()
    kind = jax.typeof(array)
    manual = getattr(kind, "manual_axis_type", None)
    axes: frozenset[Hashable] = getattr(kind, "vma", frozenset()) if manual is None else manual.varying
    return axes


def as_varying(arrays: Any, axes: frozenset[Hashable]) -> list[Any]:
    """Cast all arrays to types that vary along those axes; None stays None."""
    return [array if array is None else _cast(array, axes - _axes(array)) for array in arrays]


def _cast(array: Any, missing: frozenset[Hashable]) -> Any:
    if not missing:
        return array
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, tuple(missing), to="varying")
    return jax.lax.pvary(array, tuple(missing))


# ---- the primitive -----------------------------------------------------------------------------------------------

_call = Primitive("fastseqloss")


_call.multiple_results = True


@_call.def_abstract_eval
def _results(*operands: Any, function: HostFunction, results: tuple[Result, ...]) -> list[Any]:
    return [jax.core.ShapedArray(*result) for result in results]


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(function: HostFunction, results: tuple[Result, ...], *operands: Any) -> Any:
    return _call.bind(*operands, function=function, results=results)


@_call.def_impl
def _run(*operands: Any, function: HostFunction, results: tuple[Result, ...]) -> Any:
    with jax.disable_jit(False):
        return _compiled(function, results, *operands)


def _lower_to_custom_call(ctx: Any, *operands: Any, function: HostFunction, results: tuple[Result, ...]) -> Any:
    plan = function.plan(ctx.avals_in)
    attributes = {} if plan is None else {"plan": plan}
    return jax.ffi.ffi_lowering(_TARGET)(ctx, *operands, loss=function.describe(), **attributes)


def _lower_to_callback(ctx: Any, *operands: Any, function: HostFunction, results: tuple[Result, ...]) -> Any:
    if _emit is None:
        raise NotImplementedError(f"fastseqloss.jax runs on the CPU only with JAX {jax.__version__}")
    return _emit(ctx, function, None, list(operands), ctx.avals_in, ctx.avals_out, has_side_effect=False)[0]


def _batch(operands: Any, axes: Any, *, function: HostFunction, results: tuple[Result, ...]) -> Any:
    ahead = [
        jnp.expand_dims(operand, 0) if axis is None else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
    ]
    size = next(x.shape[0] for x, axis in zip(ahead, axes, strict=True) if axis is not None)
    mapped = tuple(((size, *shape), dtype) for shape, dtype in results)
    return _call.bind(*ahead, function=function, results=mapped), (0,) * len(results)


def _differentiate(*_: Any, **__: Any) -> Any:
    raise TypeError("losses of fastseqloss.jax have first derivatives in reverse mode only; allowed: jax.grad, jax.vjp")


mlir.register_lowering(_call, _lower_to_callback)
if _has_handler:
    mlir.register_lowering(_call, _lower_to_custom_call, platform="cpu")
batching.primitive_batchers[_call] = _batch
ad.primitive_jvps[_call] = _differentiate
