from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _Partition(Protocol):
    def __call__(
        self,
        emissions: Floats,
        tags: Integers | None,
        lengths: Integers,
        transitions: Doubles,
        start: Doubles,
        end: Doubles,
        scale: Doubles,
        order: Integers,
        loss: Doubles,
        grad: Floats | None,
        grad_transitions: Doubles | None,
        grad_start: Doubles | None,
        grad_end: Doubles | None,
        pairwise: Floats | None,
        num_threads: int,
    ) -> None: ...

class _BestPaths(Protocol):
    def __call__(
        self,
        emissions: Floats,
        tags: Integers | None,
        lengths: Integers,
        transitions: Doubles,
        start: Doubles,
        end: Doubles,
        cost: Doubles | None,
        scale: Doubles,
        order: Integers,
        paths: Integers,
        found: Integers | None,
        loss: Doubles,
        grad: Floats | None,
        grad_transitions: Doubles | None,
        grad_start: Doubles | None,
        grad_end: Doubles | None,
        num_threads: int,
    ) -> None: ...

# Functions by the name of an element type, float or double.
partition: Mapping[str, _Partition]
best_paths: Mapping[str, _BestPaths]
