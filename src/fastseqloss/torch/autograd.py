"""Losses of NumPy arrays in PyTorch's autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function, forward_ad

from . import operators, transforms
from .arguments import (
    DTYPES,
    Lengths,
    Tensors,
    as_array,
    as_constant,
    as_numbers,
    as_option,
    check_constant,
    check_scores,
    has_tangent,
    is_distribution,
    threads,
)
from .first_order import ONCE, first_order
from .loss import Loss, along, as_gradients, as_loss, late_gradients, late_tangents, needs_float64, spread
from .tracing import is_traced, is_transformed, outside_graphs

__all__ = ["Lengths", "Loss", "apply", "as_array", "check_scores", "has_tangent", "threads"]


_TRANSFORMED = (
    "losses of fastseqloss.torch are not compiled within transforms of torch.func; allowed: torch.compile without "
    "fullgraph=True, which calls them as they are, or the transforms without torch.compile"
)


def apply(loss: Loss, *scores: Tensor | None) -> Tensor:
    """Return the loss of scores that `as_array` or `check_scores` has checked; `loss` may be modified."""
    if is_transformed():
        if torch.compiler.is_dynamo_compiling():
            raise RuntimeError(_TRANSFORMED)
        return transforms.apply(loss, scores)
    if torch.compiler.is_dynamo_compiling():
        return operators.apply(loss, scores)
    arrays = loss.arrays(scores)
    if is_traced() or isinstance(arrays[0], Tensor):
        return operators.apply(loss, scores)
    loss.options = {name: as_option(name, value) for name, value in loss.options.items()}
    dual = forward_ad._current_level >= 0 and any(map(has_tangent, scores))
    if dual or (torch.is_grad_enabled() and any(score is not None and score.requires_grad for score in scores)):
        return _differentiable(loss, arrays, scores, dual)
    loss.constants = {name: as_constant(name, value) for name, value in loss.constants.items()}
    return as_loss(loss.value(arrays), scores[0].dtype)  # type: ignore[union-attr]


def _differentiable(loss: Loss, arrays: list[Any], scores: Tensors, dual: bool) -> Tensor:
    """Return a loss in the graph; `dual` if scores have tangents."""
    constants: dict[str, Any] = {}
    large: dict[str, Tensor] = {}
    for name, value in loss.constants.items():
        if value is None:
            constants[name] = None
        elif is_distribution(name, value):
            check_constant(name, value)
            large[name] = value
        else:
            constants[name] = as_constant(name, value, copy=True)
    loss.constants = constants
    if not dual:
        loss.wanted = tuple([score is not None and score.requires_grad for score in scores])
    return _Loss.apply(_Call(loss, arrays, scores, tuple(large), dual), *scores, *large.values())


_HALVES = frozenset((torch.float16, torch.bfloat16))


class _Call:
    """A loss in the graph: its arguments except those that PyTorch saves, scores and `large` constants."""

    __slots__ = ("arrays", "dtypes", "dual", "gradients", "large", "loss", "native", "ndim")

    def __init__(self, loss: Loss, arrays: list[Any], scores: Tensors, large: tuple[str, ...], dual: bool):
        self.loss, self.large, self.dual = loss, large, dual
        self.arrays: Any = arrays  # of the scores, until the loss is known
        self.dtypes = [None if score is None else score.dtype for score in scores]
        self.native = _HALVES.isdisjoint(self.dtypes)
        self.gradients: Any = None  # batch first, until a backward pass
        self.ndim = 0  # of the loss

    def whole(self, tensors: Tensors) -> Loss:
        """Return the loss with the large constants, which follow the scores in `tensors`."""
        if not self.large:
            return self.loss
        values = zip(self.large, tensors[len(self.dtypes) :], strict=True)
        arrays = {name: as_constant(name, value) for name, value in values}
        return replace(self.loss, constants=self.loss.constants | arrays)

    def rounded(self, gradients: list[Any]) -> list[Any]:
        """Return gradients in the dtypes of the scores."""
        pairs = zip(gradients, self.dtypes, strict=True)
        return [g if g is None or g.dtype is dtype else g.to(dtype) for g, dtype in pairs]


class _Loss(Function):
    """A loss and its gradient in float32 or float64, scaled by the cotangent before it is rounded.

    The first backward pass consumes the gradient and may scale it in place. A second pass through the same graph
    computes it again from saved tensors, which PyTorch checks for changes and frees, and copies of small arguments.
    """

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor | None) -> Tensor:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        if call.dual:
            ctx.save_for_forward(*tensors)
        arrays, call.arrays = call.arrays, None
        loss = call.whole(tensors)
        if loss.late:
            value = loss.value(arrays)
        elif call.native:
            value, call.gradients = loss.value_and_gradients(arrays)
        else:
            value, call.gradients = loss.differentiated(tensors[: len(call.dtypes)])
        result = as_loss(value, call.dtypes[0])
        call.ndim = result.ndim
        return result

    @staticmethod
    @outside_graphs
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        gradients, call.gradients = call.gradients, None
        linked = torch.is_grad_enabled() or call.dual or has_tangent(cotangent)
        if gradients is not None and not linked and _is_one(cotangent):
            tensors = as_gradients(call.loss, gradients)
        else:
            tensors = _scaled(ctx, gradients, cotangent, linked)
        return None, *call.rounded(tensors), *[None] * len(call.large)

    @staticmethod
    @outside_graphs
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        call: _Call = ctx.call
        loss, scores = _saved(ctx)
        own = tangents[1 : 1 + len(scores)]
        if loss.late:
            return first_order([late_tangents(loss, scores, own)], [*scores, *own])[0]
        gradients = first_order(as_gradients(loss, call.gradients), scores)
        return along(loss, gradients, own, call.ndim).to(DTYPES[call.dtypes[0]])


def _saved(ctx: Any) -> tuple[Loss, Tensors]:
    """Return the loss with all of its constants, and the scores; PyTorch raises if one was modified."""
    tensors = ctx.saved_tensors
    return ctx.call.whole(tensors), tensors[: len(ctx.call.dtypes)]


def _is_one(cotangent: Tensor) -> bool:
    """Return True for the cotangent 1 of a single loss, as of `Tensor.backward`."""
    if cotangent.ndim:
        return False
    try:
        return cotangent.item() == 1
    except RuntimeError:  # several at once, by `torch.vmap`
        return False


def _scaled(ctx: Any, gradients: Any, cotangent: Tensor, linked: bool) -> list[Any]:
    """Return gradients times the cotangent of their losses, in place unless `linked` to other graphs."""
    cotangents = as_numbers(cotangent)
    wide = needs_float64(cotangents)
    if gradients is None or wide or linked:
        loss, scores = _saved(ctx)
    else:
        loss, scores = ctx.call.loss, ()
    if loss.late:
        tensors = late_gradients(loss, scores, _one_each(loss, cotangents))
        if not linked:
            return tensors
        return _of_cotangents(loss, scores, cotangent, first_order(tensors, scores))
    if gradients is None or wide:
        gradients = loss.differentiated(scores, wide)[1]
    tensors = as_gradients(loss, gradients)
    if linked:
        tensors = first_order(tensors, scores)
    elif cotangents is not None:
        if (cotangents == 1).all():
            return tensors
        cotangent = cotangent.detach()
    spreads = [None if g is None else spread(loss, cotangent, k, g.ndim) for k, g in enumerate(tensors)]
    if linked or cotangents is None:
        return [None if g is None else g * factor for g, factor in zip(tensors, spreads, strict=True)]
    return [None if g is None else g.mul_(factor) for g, factor in zip(tensors, spreads, strict=True)]


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
        tangents = late_tangents(ctx.loss, ctx.saved_tensors, spread)
        (by_cotangent,) = first_order([tangents], [*ctx.saved_tensors, *factors])
        return None, None, by_cotangent, *([None] * len(ctx.given)), *factors

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(ONCE)


def _one_each(loss: Loss, cotangents: NDArray[Any] | None) -> NDArray[Any]:
    if cotangents is None:
        raise RuntimeError(f"{loss.called} has no batched gradients; allowed: one cotangent for each loss")
    return cotangents


def _of_cotangents(loss: Loss, scores: Tensors, cotangent: Tensor, gradients: Sequence[Any]) -> list[Any]:
    given = [gradient for gradient in gradients if gradient is not None]
    present = [gradient is not None for gradient in gradients]
    linked = iter(_OfCotangents.apply(loss, present, cotangent, *scores, *given))
    return [None if gradient is None else next(linked) for gradient in gradients]
