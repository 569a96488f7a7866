"""Derivatives of the losses of a CRF for one cotangent, of either sign, per sequence; used by the adapters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PER_SEQUENCE = ("tags", "lengths", "mask", "sample_weight")

Gradients = tuple[NDArray[Any] | None, ...]


def crf_gradients(compute: partial[Any], cotangent: NDArray[np.float64]) -> Gradients:
    """Return the gradients of the sum of the losses [B] times `cotangent` [B]; `compute` is `crf_loss`, bound.

    Cotangents of both signs take two calls. A cotangent that is not finite makes the gradient of its sequence NaN, and
    the gradients of the shared parameters.
    """
    given = compute.keywords.get("sample_weight")
    weight = cotangent if given is None else cotangent * np.asarray(given, np.float64)
    finite = np.isfinite(weight)
    usable = np.where(finite, weight, 0.0)
    totals = _gradients(compute, np.maximum(usable, 0.0))
    if (usable < 0).any():
        for total, other in zip(totals, _gradients(compute, np.maximum(-usable, 0.0)), strict=True):
            if total is not None:
                total -= other
    if not finite.all():
        for k, total in enumerate(totals):
            if total is not None:
                total[slice(None) if k else ~finite] = np.nan
    return totals


def crf_tangents(compute: partial[Any], tangents: Sequence[NDArray[Any] | None]) -> NDArray[np.float64]:
    """Return the derivatives [B] of the losses along tangents of emissions [B, T, K], transitions, start and end.

    One call for each sequence, since a call returns the sum of the parameters' gradients.
    """
    emissions = compute.args[0]
    constants = {name: compute.keywords[name] for name in _PER_SEQUENCE if compute.keywords.get(name) is not None}
    derivatives = np.zeros(len(emissions))
    for b in range(len(emissions)):
        alone = {name: np.atleast_1d(np.asarray(value))[b : b + 1] for name, value in constants.items()}
        gradients = partial(compute.func, emissions[b : b + 1], **compute.keywords | alone)(return_grad=True)[1]
        parts = [None if tangents[0] is None else tangents[0][b : b + 1], *tangents[1:]]
        for gradient, tangent in zip(gradients, parts, strict=True):
            if gradient is not None and tangent is not None:
                derivatives[b] += np.sum(gradient * tangent, dtype=np.float64)
    return derivatives


def _gradients(compute: partial[Any], weight: NDArray[np.float64]) -> Gradients:
    gradients: Gradients = compute(reduction="sum", sample_weight=weight, return_grad=True)[1]
    return gradients
