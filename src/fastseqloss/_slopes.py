"""Gradients of a CRF's losses when each has a slope of its own, of any sign, as backward passes need them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def _gradients(compute: partial[Any], weight: NDArray[np.float64]) -> Gradients:
    gradients: Gradients = compute(reduction="sum", sample_weight=weight, return_grad=True)[1]
    return gradients
