"""Losses as operators of PyTorch, single nodes of the programs that it compiles.

Programs hold tensors, numbers, and a text that describes the rest of a loss: one operator stands for all losses.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._adapters.functions import function_named, name_of
from .._core.arrays import is_bfloat16, is_real
from .._core.foreign import as_numpy, nested
from .._core.messages import shortened, wrong_dtype
from .arguments import DTYPES, Tensors, as_constant, as_numbers, check_constant, check_depth, is_distribution, threads
from .first_order import ONCE
from .loss import Loss, as_gradients, as_loss, late_gradients, needs_float64, spread
from .tracing import outside_graphs

_ARGUMENTS = "str description, Tensor[] scores, Tensor[] tensors, SymInt[] integers, float[] floats"


class Described(NamedTuple):
    """A loss as the arguments of its operator."""

    description: str
    scores: list[Tensor]
    tensors: list[Tensor]
    integers: list[int]
    floats: list[float]


@dataclass(frozen=True, slots=True)
class Form:
    """The description of a loss, read from its text; constants and options have places in place of values."""

    function: str
    names: tuple[str, ...]
    given: tuple[bool, ...]  # scores that are not None
    wanted: tuple[bool, ...]  # given scores whose gradients are returned with the loss
    kept: tuple[int, ...]  # tensors of which copies are returned, too, for the backward pass
    swapped: bool
    late: bool
    core_ndim: int | None
    constants: dict[str, Any]
    options: dict[str, Any]

    def loss(self, tensors: Sequence[Tensor], integers: Sequence[int], floats: Sequence[float]) -> Loss:
        """Return the loss with its values."""
        values = {"tensor": tensors, "integer": integers, "float": floats}
        return Loss(
            function_named(self.function),
            self.names,
            {name: _filled(place, values) for name, place in self.constants.items()},
            {name: _filled(place, values) for name, place in self.options.items()},
            self.swapped,
            self.late,
            self.core_ndim,
            tuple(map(bool, self.spread(self.wanted))) if any(self.wanted) else None,
        )

    def spread(self, scores: Sequence[Any]) -> list[Any]:
        """Return given scores with None for the others."""
        rest = iter(scores)
        return [next(rest) if given else None for given in self.given]

    def chosen(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the gradients of the given scores that are wanted."""
        given = [gradient for gradient, given in zip(gradients, self.given, strict=True) if given]
        return [gradient for gradient, wanted in zip(given, self.wanted, strict=True) if wanted]


def apply(loss: Loss, scores: Tensors) -> Tensor:
    """Return the loss of scores, by its operator."""
    for name, value in (*loss.constants.items(), *loss.options.items()):
        check_constant(name, value)
    wanted = torch.is_grad_enabled()
    described = describe(loss, scores, [wanted and s.requires_grad for s in scores if s is not None], keep=True)
    return torch.ops.fastseqloss.loss(*described)[0]


def describe(loss: Loss, scores: Tensors, wanted: list[bool], keep: bool = False) -> Described:
    """Return the arguments of the operator of a loss; scores that are `wanted` have gradients.

    If asked to `keep` small constants, the operator copies them, so that later changes by the caller do not affect
    the backward pass. PyTorch checks large ones for changes.
    """
    values = Described("", [score for score in scores if score is not None], [], [], [])
    constants = {name: _placed(name, value, values) for name, value in loss.constants.items()}
    kept = range(len(values.tensors)) if keep and any(wanted) else ()
    options = {name: _placed(name, value, values) for name, value in loss.options.items()}
    large = [constants[name][1] for name, value in loss.constants.items() if is_distribution(name, value)]
    text = repr(
        {
            "function": name_of(loss.function),
            "names": loss.names,
            "given": tuple([score is not None for score in scores]),
            "wanted": tuple(wanted),
            "kept": tuple([i for i in kept if i not in large]),
            "swapped": loss.swapped,
            "late": loss.late,
            "core_ndim": loss.core_ndim,
            "constants": constants,
            "options": options,
        }
    )
    return Described(text, *values[1:])


def _placed(name: str, value: Any, values: Described) -> Any:
    """Return a literal, or the place among `values` at which a value was put."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)  # NumPy's strings are not literals
    if isinstance(value, Tensor):
        if value.is_nested:
            raise nested(name)
        values.tensors.append(value)
        return ("tensor", len(values.tensors) - 1)
    if isinstance(value, int):
        _check_size(name, value)
        values.integers.append(value)
        return ("integer", len(values.integers) - 1)
    if isinstance(value, float):
        values.floats.append(value)
        return ("float", len(values.floats) - 1)
    if isinstance(value, (list, tuple)):
        check_depth(name)
        if value and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            start = len(values.integers)
            for i, item in enumerate(value):
                _check_size(f"{name}[{i}]", item)
            values.integers.extend(value)
            return ("integers", start, len(values.integers))
        return [_placed(f"{name}[{i}]", item, values) for i, item in enumerate(value)]
    return _placed(name, _as_tensor(name, value), values)


def _as_tensor(name: str, value: Any) -> Any:
    """Return a tensor with the numbers of another array; its memory is the array's own in a compiled program alone."""
    if torch.compiler.is_dynamo_compiling():
        return torch.as_tensor(value)
    if isinstance(value, np.generic) and value.dtype.char not in "gG":  # whose items are their own
        return value.item()
    array = as_numpy(name, value)
    if not is_real(array.dtype):
        raise wrong_dtype(name, array, "real numbers")
    if is_bfloat16(array.dtype):
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    kind = np.float64 if array.dtype.itemsize > 8 else f"{array.dtype.kind}{array.dtype.itemsize}"
    with np.errstate(over="ignore"):  # beyond float64
        return torch.from_numpy(array.astype(kind, order="C"))


def _check_size(name: str, value: int) -> None:
    """Check that an integer is one of an operator."""
    if not torch.compiler.is_dynamo_compiling() and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is {shortened(value)}; allowed: integers of 64 bits")


def _filled(place: Any, values: dict[str, Any]) -> Any:
    """Return the value of a place."""
    if isinstance(place, list):
        return [_filled(item, values) for item in place]
    if not isinstance(place, tuple):
        return place
    kind, *where = place
    if kind == "integers":
        return list(values["integer"][slice(*where)])
    return values[kind][where[0]]


@lru_cache(maxsize=256)
def form_of(description: str) -> Form:
    """Return the form of a loss."""
    return Form(**literal_eval(description))


def ready(form: Form, tensors: Sequence[Tensor], integers: Sequence[int], floats: Sequence[float]) -> Loss:
    """Return a loss that can be called with arrays."""
    loss = form.loss(tensors, integers, floats)
    loss.constants = {name: as_constant(name, value) for name, value in loss.constants.items()}
    if "num_threads" in loss.options:
        loss.options["num_threads"] = threads(loss.options["num_threads"])
    return loss


@torch.library.custom_op("fastseqloss::loss", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor[]")
def loss_operator(
    description: str, scores: list[Tensor], tensors: list[Tensor], integers: list[int], floats: list[float]
) -> list[Tensor]:
    """Return the loss; its gradients by scores that are wanted, in float32 or float64; and copies of constants."""
    form = form_of(description)
    loss = ready(form, tensors, integers, floats)
    own = form.spread(scores)
    arrays = loss.arrays(own)
    copies = [tensors[i].clone(memory_format=torch.contiguous_format) for i in form.kept]
    if not any(form.wanted) or loss.late:
        return [as_loss(loss.value(arrays), scores[0].dtype), *copies]
    value, gradients = loss.differentiated(own)
    wanted = form.chosen(as_gradients(loss, gradients))
    return [as_loss(value, scores[0].dtype), *[gradient.contiguous() for gradient in wanted], *copies]


@torch.library.custom_op(
    "fastseqloss::gradients", mutates_args=(), schema=f"({_ARGUMENTS}, Tensor cotangent, Tensor[] known) -> Tensor[]"
)
def gradients_operator(
    description: str,
    scores: list[Tensor],
    tensors: list[Tensor],
    integers: list[int],
    floats: list[float],
    cotangent: Tensor,
    known: list[Tensor],
) -> list[Tensor]:
    """Return the gradients by the scores that are wanted, scaled by the cotangent; `known` are those of the loss."""
    form = form_of(description)
    loss = form.loss(tensors, integers, floats)
    own, cotangents = form.spread(scores), as_numbers(cotangent)
    assert cotangents is not None
    if loss.late:
        loss = ready(form, tensors, integers, floats)
        scaled = form.chosen(late_gradients(loss, own, cotangents))
    else:
        if needs_float64(cotangents):
            loss = ready(form, tensors, integers, floats)
            known = form.chosen(as_gradients(loss, loss.differentiated(own, wide=True)[1]))
        places = form.chosen(range(len(form.names)))
        scaled = [g * spread(loss, cotangent, k, g.ndim) for k, g in zip(places, known, strict=True)]
    dtypes = [score.dtype for score in form.chosen(own)]
    return [g.to(dtype).contiguous() for g, dtype in zip(scaled, dtypes, strict=True)]


@loss_operator.register_fake
def _fake_loss(description: str, scores: Any, tensors: Any, integers: Any, floats: Any) -> list[Tensor]:
    form = form_of(description)
    loss, first = form.loss(tensors, integers, floats), scores[0]
    value = first.new_empty(loss.shape(first), dtype=DTYPES[first.dtype])
    wanted = () if loss.late else form.chosen(form.spread(scores))
    gradients = [score.new_empty(score.shape, dtype=DTYPES[score.dtype]) for score in wanted]
    return [value, *gradients, *[tensors[i].new_empty(tensors[i].shape) for i in form.kept]]


@gradients_operator.register_fake
def _fake_gradients(
    description: str, scores: Any, tensors: Any, integers: Any, floats: Any, cotangent: Any, known: Any
) -> list[Tensor]:
    form = form_of(description)
    return [score.new_empty(score.shape) for score in form.chosen(form.spread(scores))]


@outside_graphs
def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.description, scores, tensors, ctx.integers, ctx.floats = inputs
    ctx.mark_non_differentiable(*output[1:])
    kept = form_of(ctx.description).kept
    copies = dict(zip(kept, output[len(output) - len(kept) :], strict=True))
    known = output[1 : len(output) - len(kept)]
    ctx.sizes = len(scores), len(scores) + len(tensors)
    ctx.save_for_backward(*scores, *[copies.get(i, tensor) for i, tensor in enumerate(tensors)], *known)


@outside_graphs
def _differentiate(ctx: Any, cotangents: Any) -> Any:
    own, end = ctx.sizes
    saved = ctx.saved_tensors
    scores, tensors, known = list(saved[:own]), list(saved[own:end]), list(saved[end:])
    gradients = iter(
        torch.ops.fastseqloss.gradients(
            ctx.description, scores, tensors, ctx.integers, ctx.floats, cotangents[0], known
        )
    )
    spread = [next(gradients) if wanted else None for wanted in form_of(ctx.description).wanted]
    # PyTorch takes empty lists of numbers for lists of tensors.
    return None, spread, [None] * len(tensors), None if ctx.integers else [], None if ctx.floats else []


@outside_graphs
def _refuse(ctx: Any, cotangents: Any) -> Any:
    raise RuntimeError(ONCE)


loss_operator.register_autograd(_differentiate, setup_context=_save)
gradients_operator.register_autograd(_refuse)
