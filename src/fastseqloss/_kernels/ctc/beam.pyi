from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[Any]  # float32 or float64

class _CTCBeamSearch(Protocol):
    def __call__(
        self,
        logits: Floats,
        logit_lengths: Integers,
        order: Integers,
        best: Doubles,
        input_kind: int,
        blank: int,
        beam: int,
        class_threshold: float,
        beam_threshold: float,
        bigram: Doubles | None,
        best_bigram: Doubles | None,
        bonus: float,
        by_logarithms: bool,
        labels: Integers,
        lengths: Integers,
        scores: Doubles,
        found: Integers,
        num_threads: int,
    ) -> None: ...

# Functions by the name of an element type, float or double.
ctc_beam_search: Mapping[str, _CTCBeamSearch]
