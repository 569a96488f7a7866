from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Stored = NDArray[Any]  # with the kind that goes with it

def row_losses(
    scores: Stored,
    kind: int,
    targets: Integers,
    scale: Doubles,
    class_weight: Doubles | None,
    loss: Doubles,
    grad: Stored | None,
    num_threads: int,
    vectors: Stored | None,
    vectors_kind: int,
    grad_vectors: Stored | None,
    grad_vectors_kind: int,
    code: int,
    option: float,
    scores_given: int,
    targets_given: int,
    reverse: bool,
) -> None: ...
def find_bad_indicator(
    values: Stored,
    kind: int,
    targets: Integers,
) -> int: ...

LOSSES: dict[int, str]

entry: object  # capsule for calls by C code
