"""Losses within the transforms of `torch.func`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .._core.foreign import elsewhere
from .arguments import DTYPES, Tensors
from .first_order import Derivative, first_order
from .loss import Loss, along, late_tangents, spread
from .operators import Form, describe, form_of, ready
from .tracing import outside_graphs


@outside_graphs
def apply(loss: Loss, scores: Tensors) -> Tensor:
    """Return the loss of scores."""
    for name, value in (*zip(loss.names, scores, strict=True), *loss.constants.items(), *loss.options.items()):
        if isinstance(value, Tensor) and value.device.type == "meta":  # operators make losses of these without numbers
            raise elsewhere(name, value)
    described = describe(loss, scores, [True for score in scores if score is not None])
    call = _Call(described.description, described.integers, described.floats, len(described.scores))
    results: tuple[Tensor, ...] = _Transformed.apply(call, *described.scores, *described.tensors)
    return results[0]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a loss without its tensors, scores first, which the transforms wrap and unwrap."""

    description: str
    integers: list[int]
    floats: list[float]
    n_scores: int

    @property
    def form(self) -> Form:
        """The description of the loss."""
        return form_of(self.description)

    def loss(self, tensors: Tensors) -> Loss:
        """Return the loss with its constants."""
        return ready(self.form, tensors[self.n_scores :], self.integers, self.floats)

    def arguments(self, tensors: Tensors) -> tuple[Any, ...]:
        """Return the arguments of the operators."""
        n = self.n_scores
        return self.description, list(tensors[:n]), list(tensors[n:]), self.integers, self.floats


class _Mapped(Function):
    """A function of tensors, called for each example of a batch."""

    @classmethod
    def vmap(cls, info: Any, dims: Any, *arguments: Any) -> Any:
        results = _each(cls.apply, info.batch_size, dims, arguments)
        return tuple(results), (0,) * len(results)


class _Transformed(_Mapped):
    """A loss and its gradients, which are constants."""

    @staticmethod
    def forward(call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.fastseqloss.loss(*call.arguments(tensors)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, *tensors = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.n, ctx.ndim = len(tensors), output[0].ndim
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.save_for_forward(*tensors, *output[1:])

    @staticmethod
    @outside_graphs
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> Any:
        call: _Call = ctx.call
        tensors, gradients = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]
        if cotangent is None:  # derivatives by the loss were not requested
            return (None,) * (1 + len(tensors))
        scores, form = tensors[: call.n_scores], call.form
        _check_constants(ctx.needs_input_grad[1 + call.n_scores :])
        if form.late:
            own = _LateGradients.apply(call, cotangent, *tensors)
        else:
            loss = form.loss(tensors[call.n_scores :], call.integers, call.floats)
            linked = first_order(gradients, scores)
            places = form.chosen(range(len(form.names)))
            scaled = [g * spread(loss, cotangent, k, g.ndim) for k, g in zip(places, linked, strict=True)]
            own = [gradient.to(score.dtype) for gradient, score in zip(scaled, scores, strict=True)]
        return None, *own, *[None] * (len(tensors) - len(scores))

    @staticmethod
    @outside_graphs
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        call: _Call = ctx.call
        tensors, gradients = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]
        n, form = call.n_scores, call.form
        _check_constants([tangent is not None for tangent in tangents[n:]])
        if form.late:
            own = [torch.zeros_like(x) if t is None else t for t, x in zip(tangents[:n], tensors[:n], strict=True)]
            (derivatives,) = _LateTangents.apply(call, len(tensors), *tensors, *own)
        else:
            loss = form.loss(tensors[n:], call.integers, call.floats)
            linked = form.spread(first_order(gradients, tensors[:n]))
            derivatives = along(loss, linked, form.spread(tangents[:n]), ctx.ndim).to(DTYPES[tensors[0].dtype])
        return derivatives, *[None] * len(gradients)


class _LateGradients(Derivative, _Mapped):
    """Gradients for one cotangent of each loss."""

    @staticmethod
    def forward(call: _Call, cotangent: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.fastseqloss.gradients(*call.arguments(tensors), cotangent, []))


class _LateTangents(Derivative, _Mapped):
    """Derivatives of each loss along tangents, which follow the `n` tensors of the loss."""

    @staticmethod
    def forward(call: _Call, n: int, *tensors: Tensor) -> tuple[Tensor]:
        scores, tangents = call.form.spread(tensors[: call.n_scores]), call.form.spread(tensors[n:])
        return (late_tangents(call.loss(tensors[:n]), scores, tangents),)


def _check_constants(differentiated: Any) -> None:
    if any(differentiated):
        raise TypeError(
            "an argument of a loss is differentiated that the loss has no derivative by; allowed: differentiate by the "
            "scores alone, and pass the .detach() of the others"
        )


def _each(function: Callable[..., Any], size: int, dims: Any, arguments: Any) -> list[Tensor]:
    """Return the results of a function for each example of a batch, stacked along a new first axis."""
    if size:
        rows = [function(*_example(arguments, dims, partial(_at, i))) for i in range(size)]
        return [torch.stack(column) for column in zip(*rows, strict=True)]
    shapes = function(*_example(arguments, dims, _without_memory))
    return [torch.empty((0, *result.shape), dtype=result.dtype, device="cpu") for result in shapes]


def _example(argument: Any, dim: Any, take: Callable[[Tensor, int], Tensor]) -> Any:
    """Return an argument with an example in place of each batch."""
    if isinstance(argument, (list, tuple)) and isinstance(dim, (list, tuple)):
        return [_example(*pair, take) for pair in zip(argument, dim, strict=True)]
    return argument if dim is None else take(argument, dim)


def _at(i: int, batch: Tensor, dim: int) -> Tensor:
    return batch.select(dim, i)


def _without_memory(batch: Tensor, dim: int) -> Tensor:
    """Return a tensor with the shape of an example alone."""
    shape = list(batch.shape)
    del shape[dim]
    return batch.new_empty(shape, device="meta")
