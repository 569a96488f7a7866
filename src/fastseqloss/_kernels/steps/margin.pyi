from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Stored = NDArray[Any]  # with the kind that goes with it

def multiclass_hinge(
    scores: Stored,
    kind: int,
    targets: Integers,
    scale: Doubles,
    class_weight: Doubles | None,
    loss: Doubles,
    grad: Stored | None,
    num_threads: int,
    margin: float,
) -> None: ...

entry: object  # capsule for calls by C code
