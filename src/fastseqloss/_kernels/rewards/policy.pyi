from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Stored = NDArray[Any]  # with the kind that goes with it

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
) -> None: ...
