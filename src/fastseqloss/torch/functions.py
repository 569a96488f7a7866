"""Losses of the table as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._adapters.docstrings import Framework, docstring
from .._adapters.table import Loss as Row
from .arguments import is_differentiated
from .autograd import Loss, apply, check_scores, threads
from .tracing import traceable

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
    if row.by_targets and is_differentiated(constants["targets"]):
        scores["targets"] = constants.pop("targets")
        options["with_respect_to"] = tuple(name for name, value in scores.items() if is_differentiated(value))
    for name, value in scores.items():
        if value is not None or name in row.required:
            check_scores(name, value)
    constants |= {name: options.pop(name) for name in row.static}  # copied, if the gradient is computed later
    several = {"none": 1, "per_sequence": 1, "step_mean": 2}.get(reduction)  # axes of steps of more than one loss
    late = row.shares_scores and several is not None and first.ndim >= (row.axes or 1) + several
    options["num_threads"] = threads(options["num_threads"])
    core_ndim = row.axes
    if core_ndim is None:  # losses of numbers are sums over the features of a step
        core_ndim = max(first.ndim - 2, 0) if row.of_numbers else 1
    loss = Loss(row.function, tuple(scores), constants, options, late=late, core_ndim=core_ndim)
    return apply(loss, *scores.values())
