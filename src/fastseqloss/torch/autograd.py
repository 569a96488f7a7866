"""Losses of NumPy arrays in PyTorch's autograd graph."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function, forward_ad

from .._core.foreign import as_numpy
from .._core.threads import get_num_threads
from ..crf.cotangents import crf_gradients, crf_tangents

_DTYPES = {  # of scores: of their losses, and of their gradients before the cotangent scales them
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}


_P = ParamSpec("_P")
_R = TypeVar("_R")

# Quoted: the documentation is built without PyTorch, too.
Tensors: TypeAlias = "Sequence[Tensor | None]"
Lengths: TypeAlias = "Tensor | Sequence[int] | int"

_NUMBERS = (int, float, np.generic)
_ONCE = "losses of fastseqloss.torch can be differentiated once, not twice"
_LARGE = 2.0**30  # larger cotangents could magnify gradients that underflow in float32


def outside_graphs(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make `torch.compile` call a function as it is, without tracing it; its compiler is not imported here."""
    disabled: dict[str, Callable[_P, _R]] = {}

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if "torch._dynamo" not in sys.modules:  # nothing has been compiled
            return function(*args, **kwargs)
        if not disabled:
            disabled["call"] = torch.compiler.disable(function)
        return disabled["call"](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


@dataclass
class Loss:
    """A loss of NumPy arrays, with all of its arguments except the scores; arrays have the batch axis first."""

    function: Callable[..., Any]
    names: tuple[str, ...]  # of the scores
    constants: dict[str, Any]
    options: dict[str, Any]
    swapped: bool = False  # the scores have the batch axis second
    late: bool = False  # the gradient needs the cotangent of each loss [B], known in the backward pass

    def bound(self, arrays: list[NDArray[Any] | None]) -> partial[Any]:
        """Return the loss of these scores, to be called."""
        parameters = dict(zip(self.names[1:], arrays[1:], strict=True))
        return partial(self.function, arrays[0], **parameters, **self.constants, **self.options)

    def arrays(self, scores: Tensors, wide: bool | None = None) -> list[NDArray[Any] | None]:
        """Return scores as they are if `wide` is None, else in the dtype of their gradients, float64 if `wide`."""
        arrays: list[NDArray[Any] | None] = []
        for name, score in zip(self.names, scores, strict=True):
            if score is not None and wide is not None:
                score = score.detach().to(torch.float64 if wide else _DTYPES[score.dtype])
            arrays.append(None if score is None else as_array(name, score))
        if self.swapped:
            arrays[0] = arrays[0].swapaxes(0, 1)  # type: ignore[union-attr]
        return arrays


def apply(loss: Loss, *scores: Tensor | None) -> Tensor:
    """Return the loss of scores that `as_array` has checked; `loss` may be modified."""
    if torch.jit.is_tracing():
        raise RuntimeError("losses of fastseqloss.torch cannot be traced by torch.jit: they run outside of PyTorch")
    constants = {name: as_constant(name, value) for name, value in loss.constants.items()}
    dual = any(map(_has_tangent, scores))
    if dual or (torch.is_grad_enabled() and any(score is not None and score.requires_grad for score in scores)):
        large = {name: value for name, value in constants.items() if _is_large(name, value)}
        small = {name: _copied(name, value) for name, value in constants.items() if name not in large}
        loss.constants = small
        return _Loss.apply(loss, large, dual, *scores)
    loss.constants = constants
    return _as_loss(loss.bound(loss.arrays(scores))(), scores)


def sequence_loss(
    function: Callable[..., Any],
    scores: dict[str, Tensor],
    constants: dict[str, Any],
    num_threads: int | None,
    **options: Any,
) -> Tensor:
    """Return the loss of scores, of which every one has a gradient with the batch axis first."""
    for name, value in scores.items():
        as_array(name, value)
    return apply(
        Loss(function, tuple(scores), constants, options | {"num_threads": threads(num_threads)}), *scores.values()
    )


class _Loss(Function):
    """A loss and its gradient in float32 or float64, scaled by the cotangent before it is rounded.

    The first backward pass consumes the gradient and may scale it in place. A second pass through the same graph
    computes it again from saved tensors, which PyTorch checks for changes and frees, and copies of small arguments.
    """

    @staticmethod
    def forward(ctx: Any, loss: Loss, large: dict[str, Tensor], dual: bool, *scores: Tensor | None) -> Tensor:
        ctx.loss, ctx.large, ctx.dual = loss, tuple(large), dual
        ctx.dtypes = [None if score is None else score.dtype for score in scores]
        ctx.save_for_backward(*scores, *large.values())
        if dual:
            ctx.save_for_forward(*scores, *large.values())
        whole = replace(loss, constants=loss.constants | large) if large else loss
        if loss.late:
            value, ctx.gradients = whole.bound(whole.arrays(scores))(), None
        else:
            value, ctx.gradients = _value_and_gradients(whole, scores, False)
        result = _as_loss(value, scores)
        ctx.ndim = result.ndim
        return result

    @staticmethod
    @outside_graphs
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        cotangents = _as_numbers(cotangent)
        linked = torch.is_grad_enabled() or ctx.dual or _has_tangent(cotangent)
        wide = _needs_float64(cotangents)
        if wide:
            gradients = None
        loss, scores = (ctx.loss, ()) if gradients is not None and not linked else _saved(ctx)
        if loss.late:
            gradients = _late_gradients(loss, scores, cotangents)
        elif gradients is None:
            gradients = _value_and_gradients(loss, scores, wide)[1]
        if linked:
            gradients = _first_order(gradients, scores)
        if not loss.late:
            gradients = [_scaled(gradient, cotangent, cotangents, linked) for gradient in gradients]
        elif linked:
            gradients = _of_cotangents(loss, scores, cotangent, gradients)
        if loss.swapped:
            gradients[0] = gradients[0].transpose(0, 1)
        rounded = [None if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True)]
        return None, None, None, *rounded

    @staticmethod
    @outside_graphs
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        loss, scores = _saved(ctx)
        own = list(tangents[3:])
        if loss.late:
            return _first_order([_late_tangents(loss, scores, own)], [*scores, *own])[0]
        if loss.swapped:
            own[0] = own[0].transpose(0, 1)
        total: Any = 0
        for gradient, tangent in zip(_first_order(ctx.gradients, scores), own, strict=True):
            if gradient is not None and tangent is not None:
                axes, product = tuple(range(ctx.ndim, gradient.ndim)), gradient * tangent
                total = total + (product.sum(axes, dtype=torch.float64) if axes else product)  # of no axes: of all
        return total.to(_DTYPES[ctx.dtypes[0]])


class _FirstOrder(Function):
    """Identity whose derivatives raise the error that there are no second derivatives."""

    @staticmethod
    def forward(ctx: Any, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise RuntimeError(_ONCE)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_ONCE)


class _OfCotangents(Function):
    """Identity of gradients, with their derivative by the cotangent of each loss."""

    @staticmethod
    def forward(
        ctx: Any, loss: Loss, given: list[bool], cotangent: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.loss, ctx.given, ctx.dtype = loss, given, cotangent.dtype
        ctx.save_for_backward(*tensors[: len(given)])
        return tuple(tensor.view_as(tensor) for tensor in tensors[len(given) :] if tensor is not None)

    @staticmethod
    @outside_graphs
    def backward(ctx: Any, *factors: Tensor) -> Any:
        rest = iter(factors)
        spread = [next(rest) if given else None for given in ctx.given]
        tangents = _late_tangents(ctx.loss, ctx.saved_tensors, spread)
        (by_cotangent,) = _first_order([tangents], [*ctx.saved_tensors, *factors])
        return None, None, by_cotangent, *([None] * len(ctx.given)), *factors

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_ONCE)


def _value_and_gradients(loss: Loss, scores: Tensors, wide: bool) -> tuple[Any, list[Any]]:
    """Return the loss and its gradients, with the batch axis first."""
    arrays = loss.arrays(scores, wide)
    first: Any = arrays[0]
    converted = first.itemsize != scores[0].element_size()  # type: ignore[union-attr]
    own = first if converted and len(scores) == 1 else None  # a copy, which the gradient may overwrite
    value, gradients = loss.bound(arrays)(return_grad=True, grad_out=own)
    several = gradients if isinstance(gradients, tuple) else (gradients,)
    return value, [None if array is None else torch.from_numpy(array) for array in several]


def _late_gradients(loss: Loss, scores: Tensors, cotangents: NDArray[Any] | None) -> list[Any]:
    """Return the gradients of the sum of the losses [B] times `cotangents` [B]."""
    if cotangents is None:
        raise RuntimeError(
            "crf_loss with reduction='none' has no batched gradients; allowed: one cotangent for each loss"
        )
    arrays = crf_gradients(loss.bound(loss.arrays(scores, False)), cotangents.astype(np.float64))
    return [None if array is None else torch.from_numpy(array) for array in arrays]


def _late_tangents(loss: Loss, scores: Tensors, tangents: Tensors) -> Tensor:
    """Return the derivatives of the losses [B] along tangents of the scores."""
    arrays = [None if tangent is None else _as_numbers(tangent.to(torch.float64)) for tangent in tangents]
    if any(array is None and tangent is not None for array, tangent in zip(arrays, tangents, strict=True)):
        raise RuntimeError(
            "crf_loss with reduction='none' has no batched tangents; allowed: one for each of the scores"
        )
    return _as_loss(crf_tangents(loss.bound(loss.arrays(scores, False)), arrays), scores)


def _saved(ctx: Any) -> tuple[Loss, Tensors]:
    """Return the loss with all of its constants, and the scores; PyTorch raises if one was modified."""
    n, saved = len(ctx.dtypes), ctx.saved_tensors
    large = dict(zip(ctx.large, saved[n:], strict=True))
    return replace(ctx.loss, constants=ctx.loss.constants | large), saved[:n]


def _first_order(gradients: Sequence[Any], others: Tensors) -> list[Any]:
    """Return gradients that depend on the other tensors, without derivatives by them."""
    given = [gradient for gradient in gradients if gradient is not None]
    linked = iter(_FirstOrder.apply(len(given), *given, *[tensor for tensor in others if tensor is not None]))
    return [None if gradient is None else next(linked) for gradient in gradients]


def _of_cotangents(loss: Loss, scores: Tensors, cotangent: Tensor, gradients: Sequence[Any]) -> list[Any]:
    given = [gradient for gradient in gradients if gradient is not None]
    present = [gradient is not None for gradient in gradients]
    linked = iter(_OfCotangents.apply(loss, present, cotangent, *scores, *given))
    return [None if gradient is None else next(linked) for gradient in gradients]


def _scaled(gradient: Any, cotangent: Tensor, cotangents: NDArray[Any] | None, linked: bool) -> Any:
    """Return a gradient times the cotangent of its losses, in place unless `linked` to other graphs."""
    if gradient is None or (not linked and cotangents is not None and (cotangents == 1).all()):
        return gradient
    spread = cotangent
    if cotangent.ndim:
        spread = cotangent.reshape(cotangent.shape + (1,) * (gradient.ndim - cotangent.ndim))
    return gradient * spread if linked or cotangents is None else gradient.mul_(spread.detach())


def _needs_float64(cotangents: NDArray[Any] | None) -> bool:
    """Return True if cotangents may magnify gradients that underflow in float32."""
    if cotangents is None or cotangents.dtype != np.float32:
        return False
    if not cotangents.ndim:
        return _LARGE < abs(float(cotangents)) < math.inf
    return bool(((np.abs(cotangents) > _LARGE) & np.isfinite(cotangents)).any())


def _as_numbers(tensor: Tensor) -> NDArray[Any] | None:
    """Return the memory of a tensor, or None for one without memory, such as a batched tensor of `torch.vmap`."""
    try:
        numbers: NDArray[Any] = tensor.detach().resolve_neg().numpy()
    except RuntimeError:
        return None
    return numbers


def _has_tangent(tensor: Tensor | None) -> bool:
    """Return True for a tensor with a forward-mode tangent."""
    return tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None


def _is_large(name: str, value: Any) -> bool:
    """Return True for distributions over classes, which have the size of the scores and are not copied."""
    return name == "targets" and isinstance(value, Tensor) and value.is_floating_point()


def _copied(name: str, value: Any) -> Any:
    """Return a copy of a constant, which later changes by the caller do not affect."""
    if value is None or isinstance(value, _NUMBERS):
        return value
    if isinstance(value, (list, tuple)):
        return [v if isinstance(v, _NUMBERS) else _copied(f"{name}[{i}]", v) for i, v in enumerate(value)]
    return as_numpy(name, value).copy()


def threads(num_threads: int | None) -> int:
    """Return the number of threads: `num_threads`, else the smaller one of both libraries' limits."""
    if num_threads is not None:
        return num_threads
    return min(torch.get_num_threads(), get_num_threads())


def as_array(name: str, tensor: Any) -> NDArray[Any]:
    """Return the memory of scores as an array."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}; allowed: {', '.join(map(str, _DTYPES))}")
    return as_numpy(name, tensor.detach())


def as_constant(name: str, value: Any) -> Any:
    """Return an argument that the loss cannot be differentiated by."""
    if isinstance(value, (list, tuple)):
        return [v if isinstance(v, _NUMBERS) else as_constant(f"{name}[{i}]", v) for i, v in enumerate(value)]
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad and torch.is_grad_enabled():
        raise TypeError(f"{name} requires grad, and this loss has no gradient of it; pass {name}.detach()")
    if _has_tangent(value):
        raise TypeError(f"{name} has a tangent, and this loss has no derivative by it; pass its primal")
    return value.detach() if value.requires_grad else value


def _as_loss(loss: Any, scores: Tensors) -> Tensor:
    """Return a loss as a CPU tensor, on any default device of PyTorch."""
    dtype = _DTYPES[scores[0].dtype]  # type: ignore[union-attr]
    if isinstance(loss, np.ndarray):
        return torch.from_numpy(loss).to(dtype)
    return torch.scalar_tensor(loss, dtype=dtype, device="cpu")
