"""Derivatives of a CRF's losses, each with a slope of its own, of any sign, as adapters need them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PER_SEQUENCE = ("tags", "lengths", "mask", "sample_weight")


Gradients = tuple[NDArray[Any] | None, ...]


def crf_gradients(compute: partial[Any], slope: NDArray[np.float64]) -> Gradients:
    """Return the gradients of the sum of the losses [B] times `slope` [B]; `compute` is `crf_loss`, bound.

    Two calls if there are slopes of both signs. A slope that is not finite makes NaN of the gradient of its
    sequence, and of those of the parameters that all share.
    """
    given = compute.keywords.get("sample_weight")
    weight = slope if given is None else slope * np.asarray(given, np.float64)
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

    Sequence by sequence: the parameters' gradients of several come as their sum.
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
