"""Arrays of other libraries as NumPy arrays, without a copy and without importing those libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .messages import shortened


def check_nesting(name: str, value: Any) -> None:
    """Raise ValueError for a list that contains itself, which code that goes into lists would follow without end."""
    level = {0: value} if isinstance(value, (list, tuple)) else {}
    for _ in range(64):  # axes of an array of NumPy
        level = {id(row): row for rows in level.values() for row in rows if isinstance(row, (list, tuple))}
        if not level:
            return
    raise ValueError(f"{name} is nested too deeply; allowed: an array")


def as_numpy(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array, without a copy if NumPy can access its memory."""
    if is_tensor(value):
        return _as_tensor(name, value)
    if isinstance(value, (list, tuple)) and _holds_masked(value):
        raise _masked(name)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asanyarray(value)
    except (ValueError, BufferError) as error:
        ragged = "; pad its rows to one length" if "inhomogeneous" in str(error) else ""
        raise ValueError(f"{name} is not an array: {shortened(error)}{ragged}") from None
    except TypeError as error:
        if hasattr(value, "aval"):
            raise TypeError(f"{name} is traced by JAX and has no values yet; call fastseqloss.jax instead") from error
        raise TypeError(f"{name} is not an array: {shortened(error)}") from error
    except (LookupError, ArithmeticError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"{name} is not an array: {shortened(repr(error))}") from error
    if isinstance(array, np.ma.MaskedArray):
        raise _masked(name)
    if array.dtype == object:
        return _as_objects(name, value, array)
    return np.asarray(array)


def _as_objects(name: str, value: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects, or of numbers if the objects are Arrow scalars."""
    if hasattr(value, "as_py"):  # a row of a column of lists
        return as_numpy(name, value.as_py())
    if array.ndim == 0 and not isinstance(value, (np.ndarray, str, bytes)) and isinstance(value, Iterable):
        listed = f"list({name}.values())" if isinstance(value, Mapping) else f"list({name})"
        raise TypeError(f"{name} is a {type(value).__name__}, not an array; allowed: arrays and lists, as {listed}")
    if array.size and all(hasattr(item, "as_py") for item in array.flat):
        return np.asarray([item.as_py() for item in array.flat]).reshape(array.shape)
    return np.asarray(array)


def _masked(name: str) -> TypeError:
    return TypeError(
        f"{name} is a masked array, or holds one; allowed: arrays without a mask, so fill it, and leave out what does "
        "not count by lengths (or mask, if the function has one)"
    )


def _holds_masked(value: Any) -> bool:
    """Return True if nested lists hold a masked array or number, whose mask NumPy would drop."""
    waiting, seen = [value], set()
    while waiting:
        row = waiting.pop()
        if id(row) in seen:
            continue
        seen.add(id(row))
        kinds = set(map(type, row))
        if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
            return True
        if any(issubclass(kind, (list, tuple)) for kind in kinds):
            waiting += [inner for inner in row if isinstance(inner, (list, tuple))]
    return False


def as_output(value: Any) -> Any:
    """Return an output as an array of the same memory; other objects than tensors are returned unchanged."""
    return _as_tensor("grad_out", value) if is_tensor(value) else value


def is_tensor(value: Any) -> bool:
    """Return True for a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def _as_tensor(name: str, tensor: Any) -> NDArray[Any]:
    array: NDArray[Any]
    try:
        array = tensor.numpy()
    except (RuntimeError, TypeError) as error:
        array = _as_odd_tensor(name, tensor, error)
    return array


def _as_odd_tensor(name: str, tensor: Any, error: Exception) -> NDArray[Any]:
    """Return a tensor that `Tensor.numpy` refuses as an array if possible, else raise TypeError with the reason."""
    if tensor.device.type != "cpu":
        raise elsewhere(name, tensor)
    if tensor.requires_grad:
        raise TypeError(
            f"{name} requires grad, and NumPy cannot hand it on; pass {name}.detach(), or call fastseqloss.torch"
        )
    if tensor.is_nested:
        raise nested(name) from error
    is_bfloat16 = str(tensor.dtype) == "torch.bfloat16"
    try:
        if is_bfloat16 or tensor.is_neg():
            plain = tensor.resolve_neg()
            array: NDArray[Any] = (plain.view(sys.modules["torch"].int16) if is_bfloat16 else plain).numpy()
            return array.view(_bfloat16(name)) if is_bfloat16 else array
    except RuntimeError as other:  # sparse ones, and others without memory of their own
        error = other
    why = "; it has none under torch.func, torch.vmap or torch.export" if "data pointer" in str(error) else ""
    raise TypeError(f"{name} is not a tensor that NumPy can see: {error}{why}") from error


def elsewhere(name: str, tensor: Any) -> TypeError:
    """Return an error for a tensor that is not on the CPU."""
    return TypeError(f"{name} is on device {str(tensor.device)!r}; allowed: 'cpu', so pass {name}.cpu()")


def nested(name: str) -> TypeError:
    """Return an error for a nested tensor of PyTorch."""
    return TypeError(f"{name} is a nested tensor; allowed: tensors of one shape, so pass {name}.to_padded_tensor(0)")


def _bfloat16(name: str) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"{name} has dtype bfloat16, for which NumPy needs the package ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
