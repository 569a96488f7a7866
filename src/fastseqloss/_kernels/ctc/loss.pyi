from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _CTCLoss(Protocol):
    def __call__(
        self,
        logits: Floats,
        table: Integers,
        scale: Doubles,
        order: Integers | None,
        input_kind: int,
        blank: int,
        loss: Doubles,
        grad: Floats | None,
        in_place: bool,
        num_threads: int,
        by_state: bool = ...,
        occupation: Doubles | None = ...,
    ) -> None: ...

# Functions by the name of an element type, float or double.
ctc_loss: Mapping[str, _CTCLoss]

entry: object  # capsule for calls by C code
