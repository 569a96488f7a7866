from typing import Any

from fastseqloss._core.types import Loss, LossAndGradient

def ctc_loss(
    entry: object,
    costs: tuple[float, float, float],
    most: float,
    scores: Any,
    labels: Any,
    lengths: Any,
    label_lengths: Any,
    blank: Any,
    input: Any,
    infeasible: Any,
    reduction: Any,
    return_grad: Any,
    grad_out: Any,
    num_threads: Any,
) -> Loss | LossAndGradient | None: ...
def classes(
    entry: object,
    costs: tuple[float, float],
    most: float,
    scores: Any,
    targets: Any,
    input: Any,
    parameter: float,
    ignore_index: Any,
    options: Any,
) -> Loss | LossAndGradient | None: ...
def pointwise(
    entry: object,
    which: int,
    allowed: int,
    cost: float,
    most: float,
    scores: Any,
    targets: Any,
    bounds: Any,
    parameter: Any,
    more: tuple[float, float],
    options: Any,
) -> Loss | LossAndGradient | None: ...
