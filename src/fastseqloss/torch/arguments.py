"""Tensors as arguments of losses of NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad

from .._core.foreign import as_numpy, nested
from .._core.threads import requested_threads
from .tracing import is_traced, is_transformed

DTYPES = {  # of scores: of their losses, and of their gradients before the cotangent scales them
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}

# Quoted: the documentation is built without PyTorch, too.
Tensors: TypeAlias = "Sequence[Tensor | None]"
Lengths: TypeAlias = "Tensor | Sequence[int] | int"

_NUMBERS = (int, float, np.generic)


def check_tensor(name: str, value: Any) -> None:
    """Check that an argument is a tensor with strides, whose axes PyTorch can move."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.is_nested:
        raise nested(name)
    if value.layout is not torch.strided:
        raise TypeError(f"{name} has layout {value.layout}; allowed: torch.strided, so pass {name}.to_dense()")


def check_scores(name: str, tensor: Any) -> None:
    """Check that scores are a tensor of a dtype that losses take, outside of traces of `torch.jit`."""
    check_tensor(name, tensor)
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}; allowed: {', '.join(map(str, DTYPES))}")
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError("losses of fastseqloss.torch cannot be traced by torch.jit: they run outside of PyTorch")


def as_array(name: str, tensor: Any) -> Any:
    """Return the memory of scores as an array; or the tensor itself where it has no memory yet.

    A tensor has none under `torch.compile`, in the transforms of `torch.func`, and as a fake tensor.
    """
    check_scores(name, tensor)
    return tensor if torch.compiler.is_dynamo_compiling() else memory(name, tensor)


def memory(name: str, tensor: Tensor) -> Any:
    """Return the memory of scores that `check_scores` has checked, or the tensor itself, as `as_array`."""
    try:
        return tensor.detach().numpy()
    except (RuntimeError, TypeError):
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or isinstance(tensor, FakeTensor) or is_traced():
            return tensor
        return as_numpy(name, tensor.detach())


def check_constant(name: str, value: Any) -> None:
    """Check that no derivative is requested by an argument that the loss cannot be differentiated by."""
    if isinstance(value, Tensor):
        if value.requires_grad and torch.is_grad_enabled():
            raise TypeError(f"{name} requires grad, and this loss has no gradient of it; pass {name}.detach()")
        if has_tangent(value):
            raise TypeError(f"{name} has a tangent, and this loss has no derivative by it; pass its primal")
    elif isinstance(value, (list, tuple)):
        check_depth(name)
        for i, item in enumerate(value):
            if not isinstance(item, _NUMBERS):
                check_constant(f"{name}[{i}]", item)


def check_depth(name: str) -> None:
    """Raise ValueError for an item nested more deeply than an array has axes, as in a list that contains itself."""
    if name.count("[") > 64:
        raise ValueError(f"{name.partition('[')[0]} is nested too deeply; allowed: an array")


def as_constant(name: str, value: Any, copy: bool = False) -> Any:
    """Return a constant without tensors; a copy, which later changes by the caller do not affect, if asked."""
    if isinstance(value, Tensor):
        if value.requires_grad or forward_ad._current_level >= 0:
            check_constant(name, value)
            value = value.detach()
        try:
            array = value.numpy()
        except (RuntimeError, TypeError):
            array = as_numpy(name, value)
        return array.copy() if copy else array
    if value is None or isinstance(value, _NUMBERS):
        return value
    if isinstance(value, (list, tuple)):
        check_depth(name)
        return [v if isinstance(v, _NUMBERS) else as_constant(f"{name}[{i}]", v, copy) for i, v in enumerate(value)]
    return as_numpy(name, value).copy() if copy else value


def as_option(name: str, value: Any) -> Any:
    """Return an option without tensors; later changes by the caller do not affect it."""
    if isinstance(value, (Tensor, np.ndarray)):
        return as_constant(name, value, copy=True)
    if isinstance(value, (list, tuple)):
        check_depth(name)
        return tuple([as_option(f"{name}[{i}]", item) for i, item in enumerate(value)])
    return value


def is_distribution(name: str, value: Any) -> bool:
    """Return True for distributions over classes, which have the size of the scores and are not copied."""
    return name in ("target", "targets") and isinstance(value, Tensor) and value.is_floating_point()


def is_differentiated(value: Any) -> bool:
    """Return True for a tensor with a gradient or a tangent."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    if is_transformed():  # by which of its arguments is not known yet
        return True
    return (value.requires_grad and torch.is_grad_enabled()) or has_tangent(value)


def has_tangent(tensor: Tensor | None) -> bool:
    """Return True for a tensor with a forward-mode tangent."""
    if tensor is None or torch.compiler.is_dynamo_compiling() or forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None


def as_numbers(tensor: Tensor) -> NDArray[Any] | None:
    """Return the memory of a tensor, or None for one without memory, such as a batched tensor of `torch.vmap`."""
    try:
        numbers: NDArray[Any] = tensor.detach().resolve_neg().numpy()
    except RuntimeError:
        return None
    return numbers


def threads(num_threads: int | None) -> int | None:
    """Return the number of threads: `num_threads`, else the smaller one of both libraries' limits when it runs."""
    if num_threads is not None or torch.compiler.is_dynamo_compiling() or is_traced():
        return num_threads
    return min(torch.get_num_threads(), requested_threads())
