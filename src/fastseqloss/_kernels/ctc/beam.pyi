from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]

def ctc_beam_search(
    logits: NDArray[Any],
    logits_kind: int,
    table: Integers,
    input_kind: int,
    blank: int,
    beam: int,
    class_threshold: float,
    beam_threshold: float,
    bigram: Doubles | None,
    best: Doubles | None,
    edges: Integers,
    levels: Doubles,
    bonus: float,
    by_logarithms: bool,
    is_unread: bool,
    ask: Callable[[int], bool] | None,
    rows: Doubles | None,
    asked: Integers | None,
    labels: Integers,
    scores: Doubles,
    num_threads: int,
) -> None: ...
def ctc_rescore(
    logits: NDArray[Any],
    logits_kind: int,
    table: Integers,
    labels: Integers,
    input_kind: int,
    blank: int,
    log_probs: Doubles,
    num_threads: int,
) -> None: ...
