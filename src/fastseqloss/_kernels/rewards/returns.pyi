import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.uint8]
Doubles = NDArray[np.float64]

def sums_backwards(
    values: Doubles,
    final: Doubles,
    lengths: Integers,
    done: Flags | None,
    decay: float,
    decays: Doubles | None,
) -> None: ...
