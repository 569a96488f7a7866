from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Flags = NDArray[np.uint8]
Stored = NDArray[Any]  # with the kind that goes with it

FORMS: dict[int, str]
ESTIMATORS: dict[int, str]

def policy_loss(
    logits: Stored,
    kind: int,
    actions: Integers,
    scale: Doubles,
    class_weight: Doubles | None,
    loss: Doubles,
    grad: Stored | None,
    num_threads: int,
    advantages: Doubles,
    old_log_probs: Doubles | None,
    ref_log_probs: Doubles | None,
    entropy_coef: float,
    kl_coef: float,
    least: float,
    most: float,
    most_of_losses: float,
    most_log: float,
    form: int,
    estimator: int,
    with_entropy: Flags | None,
    log_probs: Doubles | None,
    entropies: Doubles | None,
    clipped: Flags | None,
) -> None: ...
