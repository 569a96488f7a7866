from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _CTCAlign(Protocol):
    def __call__(
        self,
        logits: Floats,
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

# Functions by the name of an element type, float or double.
ctc_align: Mapping[str, _CTCAlign]
