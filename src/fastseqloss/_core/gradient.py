"""Gradient arrays: allocated or given, and handed back in the caller's form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import is_kernel_ready, overlaps_itself, shares_memory
from .foreign import as_output
from .messages import shortened
from .options import flag
from .scores import Scores


class Gradient(NamedTuple):
    """Where a kernel writes the gradient, and where the user wants it."""

    values: NDArray[Any] | None
    given: NDArray[Any] | None
    direct: bool  # the kernel writes to `given` itself
    in_place: bool  # which is the input

    def deliver(self, given: NDArray[Any]) -> NDArray[Any]:
        """Copy the gradient to where it was asked for, in shape and dtype of the input, and return it."""
        values = self.values
        assert values is not None
        if self.given is not None:
            if not self.direct:
                with np.errstate(over="ignore", under="ignore"):
                    np.copyto(self.given, values.reshape(given.shape), casting="same_kind")
            return self.given
        if values.dtype != given.dtype:
            with np.errstate(over="ignore", under="ignore"):
                values = values.astype(given.dtype)
        return values.reshape(given.shape)


def as_gradient(scores: Scores, return_grad: bool, grad_out: Any) -> Gradient:
    """Allocate the gradient, or check the array given for it."""
    wanted = flag("return_grad", return_grad)
    if grad_out is None:
        return Gradient(_empty_gradient(scores.values) if wanted else None, None, False, False)
    grad_out = as_output(grad_out)
    same = check_grad_out(grad_out, scores.given)
    target = scores.fold(grad_out.view(np.ndarray))
    if target is None or target.dtype != scores.values.dtype or not is_kernel_ready(target):
        return Gradient(_empty_gradient(scores.values), grad_out, False, False)
    return Gradient(target, grad_out, True, same and np.may_share_memory(target, scores.values))


def check_grad_out(grad_out: Any, wanted: NDArray[Any]) -> bool:
    """Check the array given for a gradient; return whether it is the input itself."""
    if not isinstance(grad_out, np.ndarray):
        raise TypeError(f"grad_out must be a NumPy array, got {type(grad_out).__name__}")
    if isinstance(grad_out, np.ma.MaskedArray):
        raise TypeError("grad_out is a masked array; allowed: an array without a mask")
    if grad_out.shape != wanted.shape:
        raise ValueError(f"grad_out has shape {grad_out.shape}; allowed: {wanted.shape}")
    if grad_out.dtype != wanted.dtype:
        raise TypeError(f"grad_out has dtype {shortened(grad_out.dtype)}; allowed: {wanted.dtype}")
    if not grad_out.flags.writeable:
        raise ValueError("grad_out is read-only")
    if overlaps_itself(grad_out):
        raise ValueError(
            f"grad_out has strides {grad_out.strides} for shape {grad_out.shape}: its elements must not share memory"
        )
    if not wanted.size or not np.may_share_memory(grad_out, wanted):
        return False
    same = (
        grad_out.__array_interface__["data"][0] == wanted.__array_interface__["data"][0]
        and grad_out.strides == wanted.strides
    )
    if not same and shares_memory(grad_out, wanted):
        raise ValueError("grad_out overlaps the input; allowed: the input itself or apart")
    return same


def _empty_gradient(values: NDArray[Any]) -> NDArray[Any]:
    # Keeps the order of the axes in memory, time-major say, where the class axis comes last.
    gradient = np.empty_like(values, subok=False)
    return gradient if is_kernel_ready(gradient) else np.empty(values.shape, values.dtype)
