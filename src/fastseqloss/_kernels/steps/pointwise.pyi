from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.uint8]
Doubles = NDArray[np.float64]
Stored = NDArray[Any]  # with the kind that goes with it

LOSSES: dict[str, int]
ALLOWED: dict[str, int]

def parts(
    n_elements: int,
) -> int: ...
def pointwise(
    which: int,
    x: Stored,
    x_kind: int,
    y: Stored,
    y_kind: int,
    a: Stored | None,
    a_kind: int,
    parameter: float,
    more: tuple[float, float],
    shape: tuple[int, int, int],
    lengths: Integers,
    mask: Flags | None,
    scale: Doubles,
    factors: Doubles | None,
    partial: Doubles,
    steps: Doubles | None,
    grad: Stored | None,
    other: Stored | None,
    other_kind: int,
    allowed: int,
    before: bool,
    bad: Integers | None,
    num_threads: int,
) -> int: ...
def find_bad_target(
    y: Stored,
    y_kind: int,
    shape: tuple[int, int, int],
    lengths: Integers,
    mask: Flags | None,
    allowed: int,
    bad: Integers | None,
    num_threads: int,
) -> int: ...

entry: object  # capsule for calls by C code
