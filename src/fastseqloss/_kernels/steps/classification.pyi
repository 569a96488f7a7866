from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Stored = NDArray[Any]  # with the kind that goes with it

def softmax_cross_entropy(
    scores: Stored,
    kind: int,
    targets: Integers,
    scale: Doubles,
    class_weight: Doubles | None,
    loss: Doubles,
    grad: Stored | None,
    num_threads: int,
    distributions: Stored | None,
    distribution_kind: int,
    label_smoothing: float,
    z_loss: float,
    input_kind: int,
    gamma: float = 0,
) -> None: ...
def find_bad_share(
    values: Stored,
    kind: int,
    targets: Integers,
    most: float,
) -> int: ...

entry: object  # capsule for calls by C code
