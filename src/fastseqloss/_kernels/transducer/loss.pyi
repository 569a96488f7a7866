from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

def rnnt_loss(
    scores: NDArray[Any],
    kind: int,
    labels: Integers,
    starts: Integers,
    logit_lengths: Integers,
    label_lengths: Integers,
    ranges: Integers | None,
    order: Integers,
    scale: Floats,
    input_kind: int,
    blank: int,
    hat: bool,
    modified: bool,
    fastemit: float,
    loss: Floats,
    grad: NDArray[Any] | None,
    blank_occupancy: Floats | None,
    label_occupancy: Floats | None,
    num_threads: int,
) -> None: ...
def rnnt_align(
    scores: NDArray[Any],
    kind: int,
    labels: Integers,
    starts: Integers,
    logit_lengths: Integers,
    label_lengths: Integers,
    ranges: Integers | None,
    order: Integers,
    scale: Floats,
    input_kind: int,
    blank: int,
    hat: bool,
    modified: bool,
    loss: Floats,
    frames: Integers,
    log_probs: Floats,
    num_threads: int,
) -> None: ...
def tdt_loss(
    scores: NDArray[Any],
    kind: int,
    labels: Integers,
    starts: Integers,
    logit_lengths: Integers,
    label_lengths: Integers,
    order: Integers,
    scale: Floats,
    blank: int,
    duration_scores: NDArray[Any],
    duration_kind: int,
    durations: Integers,
    sigma: float,
    loss: Floats,
    grad: NDArray[Any] | None,
    duration_grad: NDArray[Any] | None,
    num_threads: int,
) -> None: ...
