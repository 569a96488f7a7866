from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _CTCGreedyDecode(Protocol):
    def __call__(
        self,
        logits: Floats,
        logit_lengths: Integers,
        input_kind: int,
        blank: int,
        found: Integers,
        label_log_probs: Doubles,
        label_lengths: Integers,
        log_prob: Doubles,
        num_threads: int,
    ) -> None: ...

# Functions by the name of an element type, float or double.
ctc_greedy_decode: Mapping[str, _CTCGreedyDecode]
