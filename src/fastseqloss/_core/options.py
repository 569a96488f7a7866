"""Options: numbers, choices and flags, checked."""

from __future__ import annotations

import math
import numbers
import operator
from enum import IntEnum
from typing import Any

import numpy as np

from .._kernels import codes
from .arrays import as_array, is_bfloat16
from .messages import brief

_INPUTS = tuple(codes.INPUTS.values())


class InputKind(IntEnum):
    """Meaning of scores, as kernels know it."""

    LOGITS, LOG_PROBS, PROBS = codes.INPUTS


_INPUT_KINDS = tuple(InputKind)


def choice(name: str, value: object, allowed: tuple[str, ...]) -> int:
    """Return the index of `value` among the allowed ones."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {brief(value)}; allowed: {', '.join(map(repr, allowed))}")
    return allowed.index(value)


def as_names(name: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return a tuple of at least one of the allowed strings, each at most once."""
    shown = f"a tuple of one or more of {', '.join(map(repr, allowed))}"
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} is {brief(value)}; allowed: {shown}")
    for chosen in value:
        if not isinstance(chosen, str) or chosen not in allowed:
            raise ValueError(f"{name} has {brief(chosen)}; allowed: {shown}")
    if not value or len(set(value)) != len(value):
        raise ValueError(f"{name} is {brief(value)}; allowed: {shown}")
    return tuple(value)


def as_input_kind(value: object, name: str = "input") -> InputKind:
    """Return the meaning of scores."""
    return _INPUT_KINDS[choice(name, value, _INPUTS)]


def no_class(name: str, value: Any, allowed: str) -> None:
    """Raise TypeError for a class where a function is due: it can be called, but an instance of it is meant."""
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}; allowed: {allowed}, such as an instance of the class")


def flag(name: str, value: Any) -> bool:
    """Return a bool."""
    if value is False or value is True:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return bool(value)


def as_index(name: str, value: Any, n: int) -> int:
    """Return an index into an axis of length `n`, counted from its start."""
    if type(value) is int and 0 <= value < n:
        return value
    index = as_integer(name, value)
    if not -n <= index < n:
        raise ValueError(f"{name} is {index}; allowed: {-n} to {n - 1}")
    return index + n if index < 0 else index


def as_integer(name: str, value: Any) -> int:
    """Return an integer: a number, or an array without axes."""
    if type(value) is int and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        raise TypeError(f"{name} must be an integer, got bool")
    try:
        if getattr(value, "ndim", 0):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if number.bit_length() > 1000:  # Python refuses to print the largest ones
        raise ValueError(f"{name} is an integer of {number.bit_length()} bits; allowed: integers of 64 bits")
    return number


def as_number(
    name: str, value: Any, least: float, most: float, *, open_ends: bool = False, allowed: str | None = None
) -> float:
    """Return a finite number from `least` to `most`, without these two if `open_ends`.

    An array without axes counts as a number.
    """
    if type(value) is not float:
        value = as_real_number(name, value)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is beyond all floats; allowed: {allowed or _range(least, most, open_ends)}") from None
    inside = least < number < most if open_ends else least <= number <= most
    if not (inside and math.isfinite(number)):
        shown = value if isinstance(value, (int, float, np.generic)) else number  # not every number can be printed
        raise ValueError(f"{name} is {shown}; allowed: {allowed or _range(least, most, open_ends)}")
    return number


def as_real_number(name: str, value: Any) -> Any:
    """Return a real number of any type; an array without axes becomes one."""
    if not isinstance(value, (int, float)) and (hasattr(value, "__array__") or hasattr(value, "__dlpack__")):
        array = as_array(name, value)
        if array.ndim == 0:
            value = float(array) if is_bfloat16(array.dtype) else array[()]
    no_number = isinstance(value, (bool, np.bool_, np.timedelta64))  # NumPy counts the last one among integers
    if no_number or not isinstance(value, (numbers.Real, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    return value


def _range(least: float, most: float, open_ends: bool) -> str:
    if least == -math.inf:
        return "finite" if most == math.inf else f"finite, {most:g} or less"
    if most == math.inf:
        return f"finite, above {least:g}" if open_ends else f"finite, {least:g} or more"
    return f"{'between' if open_ends else 'from'} {least:g} {'and' if open_ends else 'to'} {most:g}"
