"""Gradients without derivatives of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function

from .arguments import Tensors

ONCE = "losses of fastseqloss.torch can be differentiated once, not twice"


class Derivative(Function):
    """A derivative, whose own derivatives raise the error that there are no second derivatives."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing."""

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError(ONCE)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError(ONCE)


class _Linked(Derivative):
    """Identity of the first `n` tensors, which then depend on the others."""

    generate_vmap_rule = True

    @staticmethod
    def forward(n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple([tensor.view_as(tensor) for tensor in tensors[:n]])


def first_order(gradients: Sequence[Any], others: Tensors) -> list[Any]:
    """Return gradients that depend on the other tensors, without derivatives by them."""
    given = [gradient for gradient in gradients if gradient is not None]
    linked = iter(_Linked.apply(len(given), *given, *[tensor for tensor in others if tensor is not None]))
    return [None if gradient is None else next(linked) for gradient in gradients]
