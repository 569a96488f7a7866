from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

def ctc_align(
    logits: Floats,
    doubles: bool,
    table: Integers,
    order: Integers | None,
    input_kind: int,
    blank: int,
    prior: Doubles | None,
    star_log_prob: float,
    star_log_probs: Doubles | None,
    log_prob: Doubles,
    path: Integers,
    token_index: Integers,
    frame_log_probs: Doubles,
    num_threads: int,
) -> None: ...
def open_windows(
    frames: int,
    labels: Integers,
    n_classes: int,
    input_kind: int,
    blank: int,
    prior: Doubles | None,
    star_log_prob: float,
    star_log_probs: Doubles | None,
    path: Integers,
    token_index: Integers,
    frame_log_probs: Doubles,
    memory: NDArray[np.uint8] | None,
) -> int: ...
def align_window(
    memory: NDArray[np.uint8], logits: Floats, doubles: bool, first: int, block: int, last: int
) -> float: ...
