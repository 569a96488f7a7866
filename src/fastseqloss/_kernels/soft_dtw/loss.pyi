from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _SoftMinimum(Protocol):
    def __call__(
        self,
        costs: Floats,
        lengths_x: Integers,
        lengths_y: Integers,
        scale: Doubles,
        order: Integers,
        gamma: float,
        band: int,
        loss: Doubles,
        grad: Floats | None,
        num_threads: int,
    ) -> None: ...

class _SoftDTW(Protocol):
    def __call__(
        self,
        x: Floats,
        y: Floats,
        lengths_x: Integers,
        lengths_y: Integers,
        scale: Doubles,
        order: Integers,
        gamma: float,
        band: int,
        divergence: bool,
        loss: Doubles,
        grad_x: Floats | None,
        grad_y: Floats | None,
        posteriors: Floats | None,
        num_threads: int,
    ) -> None: ...

# Functions by the name of an element type, float or double.
soft_minimum: Mapping[str, _SoftMinimum]
soft_dtw: Mapping[str, _SoftDTW]
