"""Derivatives of losses that share parameters, for one cotangent, of either sign, per loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.engine import as_class_targets, as_options, as_step_sum
from .._core.steps import as_class_weight

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
    each sequence or step. Cotangents of both signs take two calls, unless the function takes slopes. A
    cotangent that is not finite makes the gradient of its loss NaN, and the gradients of the shared parameters.
    `wanted` is True for each of the scores, in the order of the gradients, whose gradient is needed; by default, all
    are computed.
    """
    weight = _weights(compute, cotangent)
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
    out = arrays_for(compute.keywords, wanted)
    gradients: Gradients = compute(reduction="sum", sample_weight=weight, return_grad=True, grad_out=out)[1]
    return gradients


def _weights(compute: partial[Any], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of sequences or steps with which the sum of the losses has the gradient that is wanted."""
    given = compute.keywords
    weight = given.get("sample_weight")
    if given.get("reduction") == "step_mean":
        first = next(iter(inspect.signature(compute.func).parameters))
        return cotangent * _shares(given, np.shape(given[first])[:-1])
    if weight is None:
        return cotangent
    weight = np.asarray(weight, np.float64)
    weight = np.where(np.isfinite(weight), weight, 0.0)  # those of steps that do not count may be anything
    ndim = max(weight.ndim, cotangent.ndim)
    of_each, by_each = (x.reshape(*x.shape, *(1,) * (ndim - x.ndim)) for x in (weight, cotangent))
    product: NDArray[np.float64] = of_each * by_each
    return product


def _shares(given: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the factors of the losses of steps of this shape in their averages at each step."""
    lengths, mask, weight = (given.get(name) for name in ("lengths", "mask", "sample_weight"))
    summed = as_step_sum(shape, as_options(lengths, mask, "step_mean", None, weight, False, None, None))
    if "targets" not in given:
        return summed.plain_scale().reshape(shape)
    n_classes = len(given["weight"])
    weight = as_class_weight(given.get("class_weight"), n_classes)
    return as_class_targets(summed, given["targets"], n_classes, given["ignore_index"], weight).scale.reshape(shape)
