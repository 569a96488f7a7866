"""Arrays of the caller, checked and in the form that kernels read."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .._kernels.codes import STORED
from .foreign import as_numpy
from .messages import indexed, swapped_axes, wrong_dtype

TYPE_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)

MOST_ELEMENTS = sys.maxsize // 9  # of 8 bytes; NumPy counts lengths near the limit in float64

FLOATS = "float16, bfloat16, float32 or float64"

_KINDS = {np.dtype(name): kind for kind, name in STORED.items() if name != "bfloat16"}
_BFLOAT16 = next(kind for kind, name in STORED.items() if name == "bfloat16")


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array, without a copy if NumPy can access its memory."""
    array = value if type(value) is np.ndarray else as_numpy(name, value)
    if not 0 < array.size <= MOST_ELEMENTS:
        _check_size(name, array)
    return array


def _check_size(name: str, array: NDArray[Any]) -> None:
    # Calls allocate 8 bytes for each element; empty arrays still have sequences and steps to allocate for.
    elements = math.prod(filter(None, array.shape))
    if elements > MOST_ELEMENTS:
        raise MemoryError(f"{name} has shape {array.shape}: no memory holds {8 * elements} bytes, 8 for each element")


def filled(shape: int | tuple[int, ...], value: float, dtype: type[Any] = np.float64) -> NDArray[Any]:
    """Return `np.full(shape, value, dtype)`, which takes longer for a short array."""
    array = np.empty(shape, dtype)
    array.fill(value)
    return array


def check_output(name: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise MemoryError if no memory could hold an output of that shape."""
    n_bytes = math.prod(filter(None, shape)) * itemsize
    if n_bytes > sys.maxsize:
        raise MemoryError(f"{name} would have shape {shape}: no memory holds {n_bytes} bytes")


def as_floats(name: str, given: NDArray[Any]) -> NDArray[Any]:
    """Return the array in float16, bfloat16, float32 or float64 of native byte order."""
    dtype = given.dtype
    if dtype in TYPE_NAMES or is_bfloat16(dtype):
        return given
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return given.astype(native(dtype), copy=False)
    raise wrong_dtype(name, given, FLOATS)


def stored_kind(dtype: np.dtype[Any]) -> int | None:
    """Return the kernels' code of a dtype, None for a dtype or byte order that they cannot read."""
    kind = _KINDS.get(dtype)
    return _BFLOAT16 if kind is None and is_bfloat16(dtype) else kind


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Return True for bfloat16 of ml_dtypes, which need not be installed."""
    return dtype.kind == "V" and dtype.name == "bfloat16"  # the name alone takes microseconds


def is_real(dtype: np.dtype[Any]) -> bool:
    """Return True for integers and floats, bfloat16 and bool included."""
    return dtype.kind in "fiub" or is_bfloat16(dtype)


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of real numbers, of any dtype."""
    array = as_array(name, value)
    if not is_real(array.dtype):
        raise wrong_dtype(name, array, "real numbers")
    return array


def as_doubles(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return a C-contiguous copy in float64, under any `numpy.seterr` of the caller."""
    if array.dtype is _FLOAT64:
        return array.copy()
    with np.errstate(all="ignore"):
        return np.array(array, dtype=np.float64, order="C")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in native byte order."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def stored(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return an array that exports its memory to kernels, and the kernels' code of its dtype."""
    kind = stored_kind(array.dtype)
    assert kind is not None
    return (array.view(np.uint16) if array.itemsize == 2 else array), kind


def stored_or_none(array: NDArray[Any] | None) -> tuple[NDArray[Any] | None, int]:
    """Return the same for an array that may be missing."""
    return (None, 0) if array is None else stored(array)


def is_kernel_ready(array: NDArray[Any]) -> bool:
    """Return True if kernels can walk the array: last axis contiguous, strides whole elements."""
    flags = array.flags
    if flags.c_contiguous:
        return flags.aligned
    size = array.itemsize
    strides = array.strides
    return (
        (strides[-1] == size or array.shape[-1] == 1)
        and flags.aligned
        and strides[0] % size == 0
        and strides[1] % size == 0
        and strides[-2] % size == 0
    )


def kernel_ready(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, copied if kernels cannot walk it."""
    return array if is_kernel_ready(array) else array.copy(order="C")


def overlaps_itself(array: NDArray[Any]) -> bool:
    """Return True if elements of an array share memory with one another."""
    extent = array.itemsize
    if array.flags.c_contiguous or array.size == 0:
        return False
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(array.strides, array.shape, strict=True) if length > 1
    ):
        if stride < extent:
            return True
        extent += stride * (length - 1)
    return False


def shares_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return True if two arrays share memory, or if that takes too long to find out."""
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


class Integers(NamedTuple):
    """Integers for computing, and for messages; both are copies."""

    values: NDArray[np.int64]  # C-contiguous; 2**63 - 1 for values beyond int64
    exact: NDArray[Any]

    def shown(self, flat: int) -> Any:
        """Return the number at a position of the flat array, as it was passed."""
        return self.exact.reshape(-1)[flat]


def read_integers(name: str, value: Any, remedy: str | None = None) -> Integers:
    """Return a copy of `value`; TypeError for a dtype that is not an integer one.

    The copy keeps checked values safe from other threads and from a gradient written over `value`.
    `remedy` is the advice for a missing entry, if not that of `messages.cause`.
    """
    array = as_array(name, value)
    dtype = array.dtype
    if dtype is _INT64:
        values = array.copy()
        return Integers(values, values)
    if dtype.kind not in "iu":
        if array.size:
            raise wrong_dtype(name, array, "any integer dtype", remedy)
        array = np.empty(array.shape, np.int64)
    elif dtype.itemsize == 8 and dtype.kind == "u":
        exact = np.array(array, dtype=np.uint64, order="C")
        return Integers(np.minimum(exact, np.iinfo(np.int64).max).astype(np.int64), exact)
    values = np.array(array, dtype=np.int64, order="C")
    return Integers(values, values)


def as_lengths(name: str, value: Any, batch: int, longest: int, single: bool) -> NDArray[np.int64]:
    """Return lengths [B] from 0 to `longest`; None means `longest` for all. A number is accepted for one sequence."""
    if value is None or (type(value) is np.ndarray and value.shape == (batch,)):
        lengths = np.empty(batch, np.int64)
        if arguments.read_lengths(value, longest, lengths):
            return lengths
    read = read_integers(name, value)
    lengths = read.values
    if lengths.ndim == 0 and (single or batch == 1):
        lengths = lengths.reshape(1)
    if lengths.shape != (batch,):
        allowed = "an integer" if single else f"({batch},), one for each sequence"
        hint = "" if single else swapped_axes((*lengths.shape, batch), (batch, longest))
        raise ValueError(f"{name} has shape {lengths.shape}; allowed: {allowed}{hint}")
    first = arguments.first_outside(lengths, 0, longest)
    if first >= 0:
        where = f"{name}[{first}]" if read.exact.ndim else name
        raise ValueError(f"{where} is {read.shown(first)}; allowed: 0 to {longest}")
    return lengths


def as_mask(
    name: str, value: Any, shape: tuple[int, ...], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return a C-contiguous copy of a mask of that shape: bool, or integers 0 and 1.

    Integers where `inside`, an array of as many elements, is False are not checked.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "biu":
        raise wrong_dtype(name, array, "bool, or integers 0 and 1")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}{swapped_axes(array.shape, shape)}")
    array = array.copy()
    if array.dtype.kind != "b":
        bad = (array != 0) & (array != 1)
        if inside is not None:
            bad &= inside.reshape(shape)
        if bad.any():
            at = tuple(np.argwhere(bad)[0].tolist())
            raise ValueError(f"{indexed(name, at)} is {array[at]}; allowed: 0 and 1, or bool")
    return array.astype(np.bool_, copy=False)


def as_weights(name: str, value: Any, batch: int, signed: bool = False) -> NDArray[np.float64] | None:
    """Return weights [B], finite and, unless `signed`, not negative; or None."""
    if value is None:
        return None
    least, most = -sys.float_info.max if signed else 0.0, sys.float_info.max
    array = as_real(name, value)
    weights = np.empty(batch)
    if arguments.read_numbers(array, weights, least, most):
        return weights
    weights = as_doubles(array)
    if weights.ndim == 0 and batch == 1:
        weights = weights.reshape(1)
    if weights.shape != (batch,):
        raise ValueError(f"{name} has shape {weights.shape}; allowed: ({batch},)")
    bad = np.flatnonzero(~((least <= weights) & (weights <= most)))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {weights[bad[0]]}; allowed: finite{'' if signed else ', 0 or more'}")
    return weights


def as_finite(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    counts: NDArray[np.bool_] | None = None,
    signed: bool = True,
    allowed: str = "finite",
) -> NDArray[np.float64]:
    """Return a copy of real numbers of this shape: where they count, finite and not negative unless `signed`; else 0.

    `counts` is a contiguous array of as many elements.
    """
    given = as_real(name, value)
    if given.shape != shape:
        raise ValueError(f"{name} has shape {given.shape}; allowed: {shape}{swapped_axes(given.shape, shape)}")
    least, most = -sys.float_info.max if signed else 0.0, sys.float_info.max
    values = np.empty(shape)
    if arguments.read_numbers(given, values, least, most, counts):
        return values
    values = as_doubles(given)
    bad = ~((least <= values) & (values <= most))
    if counts is not None:
        bad &= counts.reshape(shape)
        values[~counts.reshape(shape)] = 0
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        shown = f"[{', '.join(map(str, where))}]" if where else ""
        allowed = allowed if signed else "finite, 0 or more"
        raise ValueError(f"{name}{shown} is {given[where]}; allowed: {allowed}")
    return values
