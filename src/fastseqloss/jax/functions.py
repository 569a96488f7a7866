"""Losses of the table as functions of JAX arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._adapters.docstrings import Framework, docstring
from .._adapters.functions import name_of
from .._adapters.table import Loss as Row
from .._core.options import as_integer
from .._core.reduction import check_reduction
from .callback import HostLoss, apply, as_constant, as_operand, as_options, as_per_sequence, as_scores, ndims
from .reduction import reduce_sequences

_FRAMEWORK = Framework(
    module="jax",
    array="Array",
    raises="""    If an argument without a gradient is differentiated, or an option is traced.
jax.errors.JaxRuntimeError or ValueError
    When the program runs, if values of arrays are not as above.""",
    parameters={
        "labels": "labels : Array of int [B, S], or [S] for one sequence\n    Labels, with any values in the padding."
    },
    example=""">>> import jax, jax.numpy as jnp
>>> from fastseqloss.{module} import {name}
>>> {first} = jnp.array({value})
>>> loss, gradient = jax.value_and_grad(lambda {first}: {call})({first})
>>> round(float(loss), 4), gradient.shape == {first}.shape
({loss}, True)""",
    literal="jnp.array({value})",
)


def function_of(row: Row) -> Callable[..., jax.Array]:
    """Return the function of arrays of a loss, with the signature and the docstring that the table gives it."""
    bound = row.binder()

    def call(*args: Any, **kwargs: Any) -> jax.Array:
        return _loss(row, *bound(args, kwargs))

    call.__name__ = call.__qualname__ = row.name
    call.__module__ = "fastseqloss.jax.losses"
    call.__doc__ = docstring(row, _FRAMEWORK)
    call.__signature__ = row.signature("Array", "Array")  # type: ignore[attr-defined]
    return call


def _loss(row: Row, scores: dict[str, Any], constants: dict[str, Any], options: dict[str, Any]) -> jax.Array:
    first = as_scores(row.scores[0], scores[row.scores[0]])
    _check_axes(row, first)
    reduction = row.reduction_of(options)
    for name in _static(row, constants):
        options[name] = constants.pop(name)
    differentiable = {
        name: None if value is None and name not in row.required else as_scores(name, value)
        for name, value in scores.items()
    }
    if row.by_targets:
        targets = as_operand("targets", constants["targets"])
        if jnp.issubdtype(targets.dtype, jnp.floating):
            del constants["targets"]
            differentiable["targets"] = as_scores("targets", targets)
            _check_targets(row, targets, first, options)
    steps = first.shape[: 2 if row.of_numbers else -1] if row.axes is None else first.shape[: first.ndim - row.axes]
    batch = steps[:1]
    if row.axes is None:
        if constants.get("sample_weight") is not None and not hasattr(constants["sample_weight"], "ndim"):
            constants["sample_weight"] = as_operand("sample_weight", constants["sample_weight"])
        _check_of_steps(constants, (steps, first.shape) if row.of_numbers else (steps,))
    operands = {name: _operand(row, name, value, batch) for name, value in constants.items()}
    shared = row.shared
    if row.of_numbers:
        shared = _spread(row, operands, first.shape)
    if row.of_labels and not row.shares_scores:
        return _of_labels(row, differentiable, operands, batch, options)
    shape = {"none": steps, "per_sequence": batch, "step_mean": steps[1:]}.get(reduction, ())
    independent = reduction in ("none", "per_sequence") and not row.shares_scores
    return _apply(row, differentiable, operands, shape, independent, options, shared)


def _spread(row: Row, operands: dict[str, Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the parameters that sequences share; those with an axis of sequences get the shape of the scores."""
    shared = []
    for name in row.shared:
        array = operands.get(name)
        if array is None or array.ndim < len(shape):
            shared.append(name)
        elif array.ndim == len(shape) and all(n in (1, own) for n, own in zip(array.shape, shape, strict=True)):
            operands[name] = jnp.broadcast_to(array, shape)
    return tuple(shared)


def _apply(
    row: Row,
    scores: dict[str, Any],
    operands: dict[str, Any],
    shape: tuple[int, ...],
    independent: bool,
    options: dict[str, Any],
    shared: tuple[str, ...] | None = None,
) -> jax.Array:
    """Return a loss of this shape; mapped axes may join the batch if the losses are `independent`.

    `shared` are the operands that all sequences share, by default those of the table.
    """
    host = HostLoss(
        loss=name_of(row.function),
        names=(*scores, *operands),
        ndims=ndims(*scores.values(), *operands.values()),
        n_scores=len(scores),
        shape=shape,
        folds=independent,
        shared=row.shared if shared is None else shared,
        options=as_options(**options),
    )
    loss: jax.Array = apply(host, tuple(scores.values()), tuple(operands.values()))
    return loss


def _of_labels(
    row: Row, scores: dict[str, Any], operands: dict[str, Any], batch: tuple[int, ...], options: dict[str, Any]
) -> jax.Array:
    """Return the losses of sequences, which are independent of each other, as JAX reduces them."""
    (_, reduction), (_, normalizer) = as_options(reduction=options["reduction"], normalizer=options["normalizer"])
    normalizer = check_reduction(reduction, row.reductions, normalizer)
    labels, counts = operands["labels"], operands["label_lengths"]
    if labels.ndim != len(batch) + 1:
        allowed = f"({batch[0]}, n), n for each sequence" if batch else "(n,), of one sequence"
        raise ValueError(f"labels has shape {labels.shape}; allowed: {allowed}")
    # Weights belong to the losses; the average divides by their sum.
    losses = _apply(row, scores, operands, batch, True, options | {"reduction": "none", "normalizer": None})
    width = labels.shape[-1] if counts is None else counts
    reduced: jax.Array = reduce_sequences(losses, width, reduction, normalizer, operands["sample_weight"])
    return reduced


def _check_of_steps(constants: dict[str, Any], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Check the shapes of a mask, which may be too large to copy, and of weights that are not those of sequences."""
    allowed = " or ".join(map(str, dict.fromkeys(shapes)))
    mask: Any = constants.get("mask")
    weight: Any = constants.get("sample_weight")
    if getattr(mask, "shape", shapes[0]) not in shapes:
        raise ValueError(f"mask has shape {mask.shape}; allowed: {allowed}")
    if np.ndim(weight) > 1 and np.shape(weight) not in shapes:
        raise ValueError(f"sample_weight has shape {np.shape(weight)}; allowed: {shapes[0][:1]} or {allowed}")


def _operand(row: Row, name: str, value: Any, batch: tuple[int, ...]) -> Any:
    """Return an array without a gradient, or None for one that is left out."""
    if name in row.per_sequence and not (name == "sample_weight" and row.axes is None and np.ndim(value) > 1):
        return as_per_sequence(name, value, batch)
    if value is None and name in row.required:
        raise TypeError(f"{name} is None; allowed: an array")
    return as_constant(name, value)


def _static(row: Row, constants: dict[str, Any]) -> list[str]:
    """Return the names of parameters that are numbers: JAX would round them to float32."""
    return [
        name for name, value in constants.items() if name in row.shared and isinstance(value, (int, float, np.generic))
    ]


def _check_axes(row: Row, first: Any) -> None:
    allowed = first.ndim > 0 if row.axes is None else first.ndim in (row.axes, row.axes + 1)
    if not allowed:
        raise ValueError(f"{row.scores[0]} has shape {first.shape}; allowed: {row.shapes}")


def _check_targets(row: Row, targets: Any, first: Any, options: dict[str, Any]) -> None:
    """Check targets of floats, of the shape of the scores."""
    if targets.shape != first.shape:
        integers = f"integers of shape {first.shape[:-1]}, or floats of shape "
        allowed = integers if "ignore_index" in row.parameters else ""
        raise ValueError(
            f"targets has shape {targets.shape} and dtype {targets.dtype}; allowed: {allowed}{first.shape}"
        )
    ignored = options.get("ignore_index", -1)
    if isinstance(ignored, (int, np.integer)) and as_integer("ignore_index", ignored) >= 0:
        raise ValueError(f"ignore_index is {ignored}; allowed with distributions: below 0, which ignores nothing")
