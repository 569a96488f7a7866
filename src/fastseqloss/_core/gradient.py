"""Gradients with respect to one argument or several: allocated or given, and returned in the form of the argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .arrays import overlaps_itself, shares_memory
from .foreign import as_output
from .messages import shortened
from .options import flag


class Differentiable(Protocol):
    """An argument in the form in which a kernel reads it and writes its gradient."""

    @property
    def values(self) -> NDArray[Any]:
        """The numbers in the form of the kernel."""

    @property
    def given(self) -> NDArray[Any]:
        """The array as passed."""

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """View an array of the passed shape in the form of the kernel; None if the view requires a copy."""

    def empty(self) -> NDArray[Any]:
        """Allocate an array for the gradient in the form of the kernel."""


@dataclass(slots=True)
class SharedParameter:
    """A parameter shared by all sequences: a copy for the kernel, in float64 as a rule, and the passed dtype."""

    name: str
    values: NDArray[Any]
    dtype: np.dtype[Any] | None  # None for an omitted parameter


@dataclass(slots=True)
class Gradient:
    """Gradient with respect to one argument: the array that a kernel writes, and the array to return."""

    shape: tuple[int, ...]  # of the argument as passed
    dtype: np.dtype[Any] | None
    values: NDArray[Any] | None = None  # None if the gradient is not requested
    out: NDArray[Any] | None = None
    direct: bool = False  # the kernel writes to `out` directly
    in_place: bool = False  # `out` is the input

    def finish(self) -> NDArray[Any]:
        """Return the gradient in shape and dtype of the argument, copied to `out` if given."""
        values = self.values
        assert values is not None
        if self.direct and self.out is not None:
            return self.out
        if self.out is None and values.dtype == self.dtype:
            return values if values.shape == self.shape else values.reshape(self.shape)
        with np.errstate(over="ignore", under="ignore"):
            if self.out is None:
                return values.astype(self.dtype).reshape(self.shape)
            np.copyto(self.out, values.reshape(self.shape), casting="unsafe")
        return self.out


_UNWANTED = Gradient((), None)


def as_gradient(argument: Differentiable, return_grad: bool, grad_out: Any, name: str = "grad_out") -> Gradient:
    """Allocate the gradient, or check the array given for it, called `name` in messages."""
    wanted = flag("return_grad", return_grad)
    if grad_out is None and not wanted:
        return _UNWANTED
    shape, dtype = argument.given.shape, argument.given.dtype
    if grad_out is None:
        return Gradient(shape, dtype, argument.empty())
    if type(grad_out) is not np.ndarray:
        grad_out = as_output(grad_out)
    same = check_grad_out(grad_out, argument.given, name)
    folded = argument.fold(grad_out if type(grad_out) is np.ndarray else grad_out.view(np.ndarray))
    if folded is None or folded.dtype != argument.values.dtype:
        return Gradient(shape, dtype, argument.empty(), grad_out)
    in_place = same and np.may_share_memory(folded, argument.values)
    return Gradient(shape, dtype, folded, grad_out, True, in_place)


def as_gradients_of(
    arguments: dict[str, Differentiable], return_grad: bool, grad_out: Any, result: Any
) -> tuple[Gradient, ...]:
    """Allocate the gradients with respect to several arguments, or check the arrays given for them.

    `result` is the class of the named tuple of all gradients, and `grad_out` may be such a tuple, with None for
    gradients that are not needed. Arguments at the end of the tuple may be missing; their gradients are not wanted.
    """
    wanted = flag("return_grad", return_grad)
    missing = [_UNWANTED] * (len(result._fields) - len(arguments))
    if grad_out is None:
        return (*[as_gradient(argument, wanted, None) for argument in arguments.values()], *missing)
    outs = _as_several(grad_out, result)
    for name, out in zip(result._fields[len(arguments) :], outs[len(arguments) :], strict=True):
        if out is not None:
            raise _not_given(f"grad_out.{name}", name)
    gradients = []
    for k, argument in enumerate(arguments.values()):
        gradients.append(as_gradient(argument, False, outs[k], f"grad_out.{result._fields[k]}"))
        _check_sharing(result._fields, outs, k, {name: read.given for name, read in arguments.items()})
    return (*gradients, *missing)


def as_outputs(
    arguments: dict[str, NDArray[Any]], names: tuple[str, ...], grad_out: Any, result: Any
) -> dict[str, NDArray[Any] | None]:
    """Check the arrays given for the gradients with these names, None for those to allocate."""
    if grad_out is None:
        return dict.fromkeys(arguments)
    outs = _as_several(grad_out, result)
    for k, (name, given) in enumerate(arguments.items()):
        if outs[k] is None:
            continue
        if name not in names:
            raise ValueError(f"grad_out.{name} is given, but with_respect_to has no {name!r}; allowed: None")
        check_grad_out(outs[k], given, f"grad_out.{name}")
        _check_sharing(result._fields, outs, k, arguments)
    return dict(zip(arguments, outs, strict=True))


def _as_several(grad_out: Any, result: Any) -> tuple[Any, ...]:
    """Return the arrays given for several gradients, which may be None."""
    n = len(result._fields)
    allowed = f"a {result.__name__}, or a tuple of {n}, of arrays and None"
    if not isinstance(grad_out, tuple):
        raise TypeError(f"grad_out must be {allowed}, got {type(grad_out).__name__}")
    if len(grad_out) != n:
        raise ValueError(f"grad_out has {len(grad_out)} arrays; allowed: {allowed}")
    return tuple([None if out is None else as_output(out) for out in grad_out])


def _check_sharing(names: tuple[str, ...], outs: tuple[Any, ...], k: int, arguments: dict[str, NDArray[Any]]) -> None:
    """Check that an array given for a gradient is its own argument, or shares memory with nothing."""
    if outs[k] is None:
        return
    name = list(arguments)[k]
    for other, read in arguments.items():
        if other != name and shares_memory(outs[k], read):
            raise ValueError(f"grad_out.{names[k]} shares memory with {other}; allowed: {name} itself or apart")
    _check_apart(names, outs, k)


def finished(gradients: tuple[Gradient, ...]) -> list[NDArray[Any] | None]:
    """Return the arrays to return, None for gradients that are not needed."""
    return [None if gradient.values is None else gradient.finish() for gradient in gradients]


def as_gradients(
    argument: Differentiable,
    parameters: Sequence[SharedParameter],
    return_grad: bool,
    grad_out: Any,
    result: Any,
) -> tuple[Gradient, ...]:
    """Allocate the gradients with respect to an argument and to parameters, or check the arrays given for them.

    `result` is the class of the named tuple of all gradients. `grad_out` may be one array, for the argument, or such a
    tuple, with None for omitted arrays. Gradients of parameters are initialised to zeros in the dtype of their values;
    kernels add to them.
    """
    wanted = flag("return_grad", return_grad)
    if grad_out is None and not wanted:
        return (_UNWANTED,) * (1 + len(parameters))
    if grad_out is None:
        grad_out = (None,) * (1 + len(parameters))
    outs = grad_out if isinstance(grad_out, tuple) else (grad_out, *[None] * len(parameters))
    if len(outs) != 1 + len(parameters):
        allowed = f"an array, or a {result.__name__} of {1 + len(parameters)}"
        raise ValueError(f"grad_out has {len(outs)} arrays; allowed: {allowed}")
    outs = tuple([None if out is None else as_output(out) for out in outs])
    gradients = [as_gradient(argument, True, outs[0])]
    for k, parameter in enumerate(parameters, 1):
        if outs[k] is not None:
            _check_shared_out(f"grad_out.{parameter.name}", outs[k], parameter)
            _check_apart(result._fields, outs, k)
        shape = parameter.values.shape
        gradients.append(Gradient(shape, parameter.dtype, np.zeros(shape, parameter.values.dtype), outs[k]))
    return tuple(gradients)


def _check_shared_out(name: str, out: Any, parameter: SharedParameter) -> None:
    if parameter.dtype is None:
        raise _not_given(name, parameter.name)
    _check_array(name, out, parameter.values.shape, parameter.dtype)


def _not_given(name: str, argument: str) -> ValueError:
    return ValueError(f"{name} is given, but {argument} is not; allowed: None")


def _check_apart(names: tuple[str, ...], outs: tuple[Any, ...], k: int) -> None:
    for name, other in zip(names, outs[:k], strict=False):
        if other is not None and shares_memory(outs[k], other):
            raise ValueError(f"grad_out.{names[k]} shares memory with grad_out.{name}; allowed: arrays apart")


def check_grad_out(grad_out: Any, wanted: NDArray[Any], name: str = "grad_out") -> bool:
    """Check the array given for a gradient; return True if it is the input itself."""
    memory = arguments.is_same(grad_out, wanted)
    if memory is not None:
        return memory
    _check_array(name, grad_out, wanted.shape, wanted.dtype)
    if not wanted.size or not np.may_share_memory(grad_out, wanted):
        return False
    same: bool = (
        grad_out.__array_interface__["data"][0] == wanted.__array_interface__["data"][0]
        and grad_out.strides == wanted.strides
    )
    if not same and shares_memory(grad_out, wanted):
        raise ValueError(f"{name} overlaps the input; allowed: the input itself or apart")
    return same


def _check_array(name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; allowed: an array without a mask")
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}; allowed: {shape}")
    if out.dtype != dtype:
        raise TypeError(f"{name} has dtype {shortened(out.dtype)}; allowed: {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if overlaps_itself(out):
        raise ValueError(f"{name} has strides {out.strides} for shape {out.shape}: its elements must not share memory")
