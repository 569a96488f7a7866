"""Losses of NumPy arrays in the graph of PyTorch's autograd."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from . import _foreign, _runtime
from ._slopes import crf_gradients

_DTYPES = {  # of scores: of their losses
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}

Compute = partial[Any]  # a loss of NumPy arrays, with all of its arguments


def apply(compute: Compute, scores: Tensor, swapped: bool, trailing: int, constants: tuple[Any, ...]) -> Tensor:
    """Return the loss of one tensor.

    `compute` calls a loss of NumPy arrays; `swapped` says that its batch axis is the second one of the tensor,
    `trailing` how many axes a gradient has after those of the loss, `constants` are the other arguments.
    """
    if torch.is_grad_enabled() and scores.requires_grad:
        return _Loss.apply(scores, compute, swapped, trailing, constants)
    return _as_loss(compute(), scores)


def apply_crf(compute: Compute, late: bool, constants: tuple[Any, ...], *scores: Tensor | None) -> Tensor:
    """Return the loss of a CRF's emissions, transitions, start and end."""
    if torch.is_grad_enabled() and any(score is not None and score.requires_grad for score in scores):
        return _CRFLoss.apply(compute, late, constants, *scores)
    emissions: Any = scores[0]
    return _as_loss(compute(), emissions)


class _Loss(Function):
    """A loss of one tensor, whose gradient is computed along with it.

    The first backward pass takes the gradient away and may scale it in place. A second one through the same
    graph computes it again, from saved tensors, which PyTorch checks for changes and frees when it is done.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, compute: Compute, swapped: bool, trailing: int, constants: tuple[Any, ...]
    ) -> Tensor:
        ctx.others, ctx.swapped, ctx.trailing = _without_scores(compute), swapped, trailing
        ctx.save_for_backward(scores, *_tensors(constants))
        loss, ctx.gradient = compute(return_grad=True)
        return _as_loss(loss, scores)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, ctx.gradient = ctx.gradient, None
        if values is None:
            values = _with_scores(ctx.others, ctx.saved_tensors[0], ctx.swapped)(return_grad=True)[1]
        gradient = _as_tensor(values.swapaxes(0, 1) if ctx.swapped else values)
        if slope.ndim:
            if not (slope == 1).all():
                gradient.mul_(slope.detach().reshape(slope.shape + (1,) * ctx.trailing))
        elif slope.item() != 1:
            gradient.mul_(slope.detach())
        if torch.is_grad_enabled():
            (gradient,) = _FirstOrder.apply(1, gradient, ctx.saved_tensors[0])
        return gradient, None, None, None, None


class _CRFLoss(Function):
    """The loss of a CRF; as `_Loss`, for several tensors."""

    @staticmethod
    def forward(ctx: Any, compute: Compute, late: bool, constants: tuple[Any, ...], *scores: Tensor | None) -> Tensor:
        ctx.others, ctx.late = _without_scores(compute), late
        ctx.save_for_backward(*scores, *_tensors(constants))
        loss, ctx.gradients = (compute(), None) if late else compute(return_grad=True)
        emissions: Any = scores[0]
        return _as_loss(loss, emissions)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        arrays, ctx.gradients = ctx.gradients, None
        scores: tuple[Any, ...] = ctx.saved_tensors[:4] if arrays is None or torch.is_grad_enabled() else ()
        if arrays is None:
            compute = _with_scores(ctx.others, scores[0], False)
            slopes = slope.detach().to(torch.float64).numpy()
            arrays = crf_gradients(compute, slopes) if ctx.late else compute(return_grad=True)[1]
        gradients = [None if array is None else _as_tensor(array) for array in arrays]
        if not ctx.late and slope.item() != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(slope.detach())
        if torch.is_grad_enabled():
            given = [gradient for gradient in gradients if gradient is not None]
            linked = iter(_FirstOrder.apply(len(given), *given, *[x for x in scores if x is not None]))
            gradients = [None if gradient is None else next(linked) for gradient in gradients]
        return None, None, None, *gradients


class _FirstOrder(Function):
    """Gradients as they are, in a graph of their own that says, when it is used, that there are no second ones."""

    @staticmethod
    def forward(ctx: Any, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        raise RuntimeError("losses of fastseqloss.torch can be differentiated once, not twice")


def _without_scores(compute: Compute) -> Compute:
    """Return a loss less its scores, so that nobody but PyTorch keeps these."""
    return partial(compute.func, *compute.args[1:], **compute.keywords)


def _with_scores(others: Compute, scores: Tensor, swapped: bool) -> Compute:
    values = as_array("scores", scores)
    return partial(others.func, values.swapaxes(0, 1) if swapped else values, *others.args, **others.keywords)


def _tensors(constants: tuple[Any, ...]) -> list[Tensor]:
    return [constant for constant in constants if isinstance(constant, Tensor)]


def threads(num_threads: int | None) -> int:
    """Return the threads to use: as many as said, else as both libraries allow."""
    if num_threads is not None:
        return num_threads
    return min(torch.get_num_threads(), _runtime.get_num_threads())


def as_array(name: str, tensor: Any) -> NDArray[Any]:
    """Return the memory of scores as an array."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}; allowed: {', '.join(map(str, _DTYPES))}")
    return _foreign.as_numpy(name, tensor.detach())


def as_parameter(name: str, value: Any) -> NDArray[Any] | None:
    """Return the memory of scores that may be left out, except transitions."""
    return None if value is None and name != "transitions" else as_array(name, value)


def as_constant(name: str, value: Any) -> Any:
    """Return an argument of which there is no gradient."""
    if isinstance(value, Tensor) and value.requires_grad:
        if torch.is_grad_enabled():
            raise TypeError(f"{name} requires grad, and this loss has no gradient of it; pass {name}.detach()")
        return value.detach()
    return value


def _as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of an array."""
    if array.dtype.kind == "V":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _as_loss(loss: Any, scores: Tensor) -> Tensor:
    dtype = _DTYPES[scores.dtype]
    return torch.from_numpy(loss).to(dtype) if isinstance(loss, np.ndarray) else torch.scalar_tensor(loss, dtype=dtype)
