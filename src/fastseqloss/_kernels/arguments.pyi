from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

def first_outside(values: Integers, least: int, most: int) -> int: ...
def find_bad_label(
    labels: Integers,
    starts: Integers,
    label_lengths: Integers,
    n_classes: int,
    blank: int,
    frames_needed: Integers | None,
) -> tuple[int, int] | None: ...
def read_lengths(value: Any, most: int, lengths: Integers) -> bool: ...
def read_sequences(
    table: Integers,
    batch: int,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    n_frames: int,
    n_classes: int,
    blank: int,
    single: bool,
) -> bool: ...
def read_tags(value: Any, lengths: Integers, n_tags: int, tags: Integers) -> bool: ...
def read_numbers(
    value: Any, numbers: NDArray[np.float64], least: float, most: float, counts: NDArray[np.bool_] | None = ...
) -> bool: ...
def is_same(out: Any, wanted: Any) -> bool | None: ...
def count_targets(
    targets: Integers,
    lengths: Integers,
    mask: NDArray[np.uint8] | None,
    ignore_index: int,
    n_classes: int,
    class_weight: NDArray[np.float64] | None,
    counts: NDArray[np.float64],
) -> int: ...
def sequence_sums(values: NDArray[np.float64], sums: NDArray[np.float64]) -> None: ...
def weigh(values: NDArray[np.float64], weights: NDArray[np.float64], weighted: NDArray[np.float64] | None) -> float: ...
def find_bad_tag(tags: Integers, lengths: Integers, n_tags: int) -> tuple[int, int] | None: ...
def first_not_a_score(values: NDArray[np.float64]) -> int: ...
