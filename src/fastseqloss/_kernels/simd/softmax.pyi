from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _Elementwise(Protocol):
    def __call__(self, x: Floats, out: Floats) -> None: ...

class _SoftmaxRows(Protocol):
    def __call__(self, logits: Floats, out: Floats, row_max: Doubles, row_sum: Doubles, scale: float) -> None: ...

# Functions by the name of an element type, float or double.
exp: Mapping[str, _Elementwise]
log: Mapping[str, _Elementwise]
softmax_rows: Mapping[str, _SoftmaxRows]
