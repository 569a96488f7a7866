"""Calls from JAX programs to NumPy code that cannot deadlock.

`jax.pure_callback` turns the operands into JAX arrays, copied by a thread of XLA's pool. In a pool of one thread that
thread runs the callback, so reading an operand waits forever; two programs on two threads block each other in the same
way. The primitive in this module passes on the NumPy arrays that XLA creates before the call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Result = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype

_emit = getattr(mlir, "emit_python_callback", None)

if _emit is None:
    warnings.warn(
        f"fastseqloss.jax does not support JAX {jax.__version__} and uses jax.pure_callback, which can wait forever in "
        "a process with one CPU; set jax_cpu_enable_async_dispatch to False before JAX computes anything",
        RuntimeWarning,
        stacklevel=2,
    )


def host_call(function: Callable[..., Any], results: tuple[Result, ...], operands: list[Any]) -> tuple[Any, ...]:
    """Call a hashable, pure `function` with the operands as NumPy arrays; it returns arrays as `results` says.

    Axes that JAX maps over precede an operand's own axes, with length 1 for an operand that is not mapped.
    """
    if _emit is None:
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
    if not hasattr(jax, "typeof"):  # before JAX 0.6
        return frozenset()
    kind = jax.typeof(array)
    axes: frozenset[Hashable] = kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
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
def _results(*operands: Any, function: Callable[..., Any], results: tuple[Result, ...]) -> list[Any]:
    return [jax.core.ShapedArray(*result) for result in results]


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(function: Callable[..., Any], results: tuple[Result, ...], *operands: Any) -> Any:
    return _call.bind(*operands, function=function, results=results)


@_call.def_impl
def _run(*operands: Any, function: Callable[..., Any], results: tuple[Result, ...]) -> Any:
    with jax.disable_jit(False):
        return _compiled(function, results, *operands)


def _lower(ctx: Any, *operands: Any, function: Callable[..., Any], results: tuple[Result, ...]) -> Any:
    assert _emit is not None
    return _emit(ctx, function, None, list(operands), ctx.avals_in, ctx.avals_out, has_side_effect=False)[0]


def _batch(operands: Any, axes: Any, *, function: Callable[..., Any], results: tuple[Result, ...]) -> Any:
    ahead = [
        jnp.expand_dims(operand, 0) if axis is None else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
    ]
    size = max(operand.shape[0] for operand in ahead)
    mapped = tuple(((size, *shape), dtype) for shape, dtype in results)
    return _call.bind(*ahead, function=function, results=mapped), (0,) * len(results)


def _differentiate(*_: Any, **__: Any) -> Any:
    raise TypeError("losses of fastseqloss.jax have first derivatives in reverse mode only; allowed: jax.grad, jax.vjp")


mlir.register_lowering(_call, _lower)
batching.primitive_batchers[_call] = _batch
ad.primitive_jvps[_call] = _differentiate
