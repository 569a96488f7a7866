from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]

def ctc_entropy(
    logits: NDArray[Any],
    kind: int,
    input_kind: int,
    blank: int,
    table: Integers,
    order: Integers | None,
    numbers: Doubles,
    grad: NDArray[Any] | None,
    num_threads: int,
) -> None: ...
