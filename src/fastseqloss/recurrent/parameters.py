"""The parameters of a layer: drawn when it is created, checked when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arguments import Array, check_floats

Shapes = dict[str, tuple[int, ...]]


def uniform(shapes: Shapes, bound: float, rng: np.random.Generator, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Return arrays of these shapes, uniform within plus or minus `bound`."""
    return {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes.items()}


def check_parameters(parameters: Mapping[str, Any], shapes: Shapes) -> None:
    """Check the arrays of a layer, which the user may replace."""
    if parameters.keys() != shapes.keys():
        raise ValueError(f"parameters has the names {sorted(parameters)}; allowed: {sorted(shapes)}")
    for name, shape in shapes.items():
        array = parameters[name]
        check_floats(f"parameters[{name!r}]", array)
        if array.shape != shape:
            raise ValueError(f"parameters[{name!r}] has shape {array.shape}; allowed: {shape}")
    if len({array.dtype for array in parameters.values()}) > 1:
        found = {name: str(parameters[name].dtype) for name in shapes}
        raise TypeError(f"parameters has dtypes {found}; allowed: the same for all")
