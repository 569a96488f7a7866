"""Derivatives of losses that share parameters, for one cotangent, of either sign, per loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.steps import as_steps

_OF_STEPS = ("targets", "actions", "advantages", "old_log_probs", "ref_log_probs")

Gradients = tuple[NDArray[Any] | None, ...]


def arrays_for(given: Mapping[str, Any], wanted: Mapping[str, bool] | None) -> Gradients | None:
    """Return arrays for the gradients by the scores in `wanted` that are wanted; None, for `grad_out`, if all are."""
    if wanted is None or all(flag for name, flag in wanted.items() if given.get(name) is not None):
        return None
    return tuple([np.empty(given[name].shape, given[name].dtype) if flag else None for name, flag in wanted.items()])


def shared_gradients(
    compute: partial[Any], cotangent: NDArray[np.float64], wanted: Mapping[str, bool] | None = None
) -> Gradients:
    """Return the gradients of the sum of the losses times `cotangent`, which has an element for each.

    `compute` is a function of NumPy with its arguments by name; the first parameter of the function has the scores of
    each sequence or step. Cotangents of both signs take two calls, unless the function has slopes of its own. A
    cotangent that is not finite makes the gradient of its loss NaN, and the gradients of the shared parameters.
    `wanted` tells for each of the scores, in the order of the gradients, whether to compute its gradient; by default,
    all are computed.
    """
    given = compute.keywords.get("sample_weight")
    if given is None:
        weight = cotangent
    else:
        weight = cotangent * np.asarray(given, np.float64).reshape(-1, *(1,) * (cotangent.ndim - 1))
    finite = np.isfinite(weight)
    usable = np.where(finite, weight, 0.0)
    totals: Gradients
    if "slopes" in inspect.signature(compute.func).parameters:
        totals = compute(slopes=usable, grad_out=arrays_for(compute.keywords, wanted))[1]
    else:
        totals = _gradients(compute, np.maximum(usable, 0.0), wanted)
        if (usable < 0).any():
            for total, other in zip(totals, _gradients(compute, np.maximum(-usable, 0.0), wanted), strict=True):
                if total is not None:
                    total -= other
    if not finite.all():
        for k, total in enumerate(totals):
            if total is not None:
                total[slice(None) if k else ~finite] = np.nan
    return totals


def shared_tangents(
    compute: partial[Any], tangents: Sequence[NDArray[Any] | None], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the derivatives of the losses, of this shape, along tangents of the scores and shared parameters.

    One call for each loss, since a call returns the sum of the parameters' gradients; others have weight 0.
    """
    derivatives = np.zeros(shape)
    for at in np.ndindex(shape):
        alone = np.zeros(shape)
        alone[at] = 1.0
        for gradient, tangent in zip(shared_gradients(compute, alone), tangents, strict=True):
            if gradient is not None and tangent is not None:
                derivatives[at] += np.sum(gradient * tangent, dtype=np.float64)
    return derivatives


def _gradients(compute: partial[Any], weight: NDArray[np.float64], wanted: Mapping[str, bool] | None) -> Gradients:
    if weight.ndim < 2:
        out = arrays_for(compute.keywords, wanted)
        gradients: Gradients = compute(reduction="sum", sample_weight=weight, return_grad=True, grad_out=out)[1]
        return gradients
    first, *others = _gradients(_by_steps(compute, weight.shape), weight.reshape(-1), wanted)
    return (None if first is None else first.reshape(*weight.shape, first.shape[-1]), *others)


def _by_steps(compute: partial[Any], shape: tuple[int, ...]) -> partial[Any]:
    """Return a loss at every step of this shape as one of sequences of one step, which have weights of their own."""
    given = compute.keywords
    name = next(iter(inspect.signature(compute.func).parameters))
    scores = np.asarray(given[name])
    steps = as_steps(shape, given.get("lengths"), given.get("mask"))
    one_each = {
        name: scores.reshape(math.prod(shape), scores.shape[-1]),
        "mask": None if steps.full else steps.counting().reshape(-1),
        "lengths": None,
    }
    one_each |= {other: _of_steps(given[other], shape) for other in _OF_STEPS if given.get(other) is not None}
    return partial(compute.func, **given | one_each)


def _of_steps(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of this shape, or of numbers of the sequences of a batch, with one number for each step."""
    array = np.asarray(value)
    if array.shape != shape:  # one number for each sequence
        array = np.broadcast_to(array.reshape(shape[0], *(1,) * (len(shape) - 1)), shape)
    return array.reshape(-1)
