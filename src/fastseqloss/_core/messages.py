"""Messages of errors: bounded in length, and with the likely cause where an array is of the wrong type."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence, Sized
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST = 200  # characters of a value
_LISTED = 10  # items of a long list
_LOOKED_AT = 1 << 20  # elements that are searched for the cause of an error
_REMEDIES = {  # for a missing entry
    "targets": "put any number there, and leave the step out by lengths or mask",
    "tags": "put any tag there, and leave the step out by lengths or mask",
    "actions": "put any action there, and leave the step out by lengths or mask",
}
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _LONGEST


def brief(value: Any) -> str:
    """Return the repr of a value, shortened in the middle if it is long."""
    return shortened(_repr.repr(value))


def shortened(text: Any) -> str:
    """Return a text, shortened in the middle if it is long."""
    text = str(text)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def listed(items: Sequence[Any] | NDArray[Any]) -> str:
    """Return the first items, with the number of all of them if there are more."""
    text = ", ".join(map(str, items[:_LISTED]))
    return text if len(items) <= _LISTED else f"{text}, ... ({len(items)} in all)"


def outline(result: Any) -> str:
    """Return the repr of a named tuple of arrays and numbers, with dtypes and shapes for the arrays of any library."""
    shown = (f"{x.dtype} {list(x.shape)}" if getattr(x, "shape", ()) else repr(x) for x in result)
    return f"{type(result).__name__}({', '.join(map('='.join, zip(result._fields, shown, strict=True)))})"


def swapped_axes(given: tuple[int, ...], allowed: tuple[int, ...]) -> str:
    """Return the likely cause of a shape, after a semicolon, if it is the allowed one with its first axes swapped."""
    if given == allowed or given[:2] != allowed[1::-1] or given[2:] != allowed[2:]:
        return ""
    return "; the axes of batch and time are probably swapped: array.swapaxes(0, 1) swaps them"


def indexed(name: str, index: tuple[Any, ...]) -> str:
    """Return the name of an element of an array."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def wrong_dtype(name: str, array: NDArray[Any], allowed: str, remedy: str | None = None) -> TypeError:
    """Return an error for an array whose dtype is not allowed, with the likely cause; see `cause` for `remedy`."""
    return TypeError(f"{name} has dtype {shortened(array.dtype)}; allowed: {allowed}{cause(name, array, remedy)}")


def cause(name: str, array: NDArray[Any], remedy: str | None = None) -> str:
    """Return the likely cause of a wrong dtype, after a semicolon, or nothing.

    `remedy` is the advice for a missing entry; by default it depends on the name of the argument.
    """
    remedy = remedy or _REMEDIES.get(name.partition("[")[0], "fill it or leave it out")
    if array.ndim > 32:  # `flat` does not support more axes
        return ""
    if array.dtype == object:
        return _cause_of_objects(name, array, remedy)
    if array.dtype.kind in "UST":
        return "; it holds text instead of numbers"
    if array.dtype.kind not in "fcmM":
        return ""
    first = array.flat[:_LOOKED_AT]
    missing = np.flatnonzero(np.isnan(first))
    if len(missing):
        at = _place(array, missing[0])
        return f"; {indexed(name, at)} is {array[at]}, a missing entry: {remedy}"
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            large = np.flatnonzero(np.abs(first.astype(np.float64)) >= 2.0**63)
        if len(large):  # NumPy reads integers of which one is beyond int64 and one below 0 as floats
            at = _place(array, large[0])
            return f"; {indexed(name, at)} is {array[at]}, beyond int64"
    return ""


def _place(array: NDArray[Any], i: Any) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(i, array.shape))


def _cause_of_objects(name: str, array: NDArray[Any], remedy: str) -> str:
    item: Any
    for at, item in islice(np.ndenumerate(array), _LOOKED_AT):
        if type(item) is int and -(2**63) <= item < 2**64:
            continue
        if _is_missing(item):
            return f"; {indexed(name, at)} is {brief(item)}, a missing entry: {remedy}"
        if at and isinstance(item, Sized) and not isinstance(item, (str, bytes, Mapping)):
            kind = type(item).__name__
            place = indexed(name, at)
            return f"; {place} is a {kind}, so this is a column of sequences: pad them to one length and stack them"
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            return f"; {indexed(name, at)} is an integer beyond 64 bits"
        if not isinstance(item, Real):
            return f"; {indexed(name, at)} is a {type(item).__name__}"
    return "; it holds numbers as Python objects: convert them by astype" if array.size else ""


def _is_missing(item: Any) -> bool:
    if item is None or isinstance(item, np.ma.core.MaskedConstant) or type(item).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(item, (float, np.floating, np.datetime64)) and bool(item != item)
