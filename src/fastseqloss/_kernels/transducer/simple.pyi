from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _Exponentials(Protocol):
    def __call__(self, scores: Floats, out: Floats, most: Doubles, num_threads: int) -> None: ...

class _Lattice(Protocol):
    def __call__(
        self,
        am: Floats,
        lm: Floats,
        am_most: Doubles,
        lm_most: Doubles,
        norms: Floats,
        rest: Floats | None,
        labels: Integers,
        blank: int,
        least: float,
        modified: bool,
        label_factor: float,
        blank_out: Doubles | None,
        label_out: Doubles | None,
    ) -> float: ...

class _CellGradients(Protocol):
    def __call__(
        self,
        am: Floats,
        lm: Floats,
        am_most: Doubles,
        lm_most: Doubles,
        labels: Integers,
        blank: int,
        ratios: Floats,
        more_am: Doubles,
        more_lm: Doubles,
    ) -> None: ...

class _Gradient(Protocol):
    def __call__(
        self,
        product: Floats,
        exps: Floats,
        more: Doubles | None,
        label_slopes: Doubles,
        slot: Integers | None,
        classes: Integers,
        blank_slopes: Doubles,
        blank: int,
        scale: float,
        grad: Floats,
        num_threads: int,
    ) -> None: ...

# Functions by the name of an element type, float or double.
exponentials: Mapping[str, _Exponentials]
lattice: Mapping[str, _Lattice]
cell_gradients: Mapping[str, _CellGradients]
gradient: Mapping[str, _Gradient]
