"""Losses of the table as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._adapters.docstrings import Framework, docstring
from .._adapters.table import Loss as Row
from .autograd import Loss, apply, check_scores, has_tangent, threads
from .tracing import is_transformed, traceable

_FRAMEWORK = Framework(
    module="torch",
    array="Tensor",
    raises="""    If a tensor is not on the CPU, or an argument without a gradient requires grad.
RuntimeError
    If a second derivative is requested.""",
    parameters={},
    example=""">>> import torch
>>> from fastseqloss.{module} import {name}
>>> {first} = torch.tensor({value}, requires_grad=True)
>>> loss = {call}
>>> loss.backward()
>>> round(loss.item(), 4), {first}.grad.shape == {first}.shape
({loss}, True)""",
    literal="torch.tensor({value})",
)


def function_of(row: Row) -> Callable[..., Tensor]:
    """Return the function of tensors of a loss, with the signature and the docstring that the table gives it."""
    bound = row.binder()

    def call(*args: Any, **kwargs: Any) -> Tensor:
        return _loss(row, *bound(args, kwargs))

    call.__name__ = call.__qualname__ = row.name
    call.__module__ = "fastseqloss.torch.losses"
    call.__doc__ = docstring(row, _FRAMEWORK)
    call.__signature__ = row.signature("Tensor", "Tensor")  # type: ignore[attr-defined]
    return traceable(call)


def _loss(row: Row, scores: dict[str, Any], constants: dict[str, Any], options: dict[str, Any]) -> Tensor:
    first = scores[row.scores[0]]
    check_scores(row.scores[0], first)
    reduction = row.reduction_of(options)
    for name, value in scores.items():
        if value is not None or name in row.required:
            check_scores(name, value)
    if row.by_targets and _is_differentiated(constants["targets"]):
        scores["targets"] = constants.pop("targets")
        options["with_respect_to"] = tuple(name for name, value in scores.items() if _is_differentiated(value))
    constants |= {name: options.pop(name) for name in row.static}  # copied, if the gradient is computed later
    late = row.shares_scores and reduction in ("none", "per_sequence") and first.ndim > (row.axes or 1)
    options["num_threads"] = threads(options["num_threads"])
    core_ndim = row.axes
    if core_ndim is None:  # losses of numbers are sums over the features of a step
        core_ndim = max(first.ndim - 2, 0) if row.of_numbers else 1
    loss = Loss(row.function, tuple(scores), constants, options, late=late, core_ndim=core_ndim)
    return apply(loss, *scores.values())


def _is_differentiated(value: Any) -> bool:
    """Return True for a tensor with a gradient or a tangent."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    if is_transformed():  # by which of its arguments is not known yet
        return True
    return (value.requires_grad and torch.is_grad_enabled()) or has_tangent(value)
