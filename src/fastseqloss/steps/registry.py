"""The losses at every step, one row each: the engine, the tests, the fuzzer and the benchmarks read them here.

A new loss of one prediction and one target takes an arithmetic function and a word in `_kernels/steps/pointwise.h`, a
row here, and a public function with its docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from .._core.steps import Parameter

# What targets may be: numbers of the shape of the predictions, any of them, -1 and 1, or 0 to 1; or the class of each
# step, or that and distributions over classes.
NUMBERS, SIGNS, SHARES, CLASSES, DISTRIBUTIONS = "numbers", "signs", "shares", "classes", "distributions"


@dataclass(frozen=True)
class StepLoss:
    """One loss: how the public function is called that computes it, and what its arguments may be."""

    name: str  # the kernel's, if it is of numbers
    function: str
    scores: str  # the name of the first argument
    targets: str = NUMBERS
    parameter: Parameter | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # which choose it among the losses of its function
    probabilities: bool = False  # the scores are from 0 to 1
    nanoseconds: float = 0.5  # that a score takes on one thread

    @property
    def of_classes(self) -> bool:
        """Whether a step has a score for each class, and not each score a target."""
        return self.targets in (CLASSES, DISTRIBUTIONS)


_MARGIN = Parameter("margin", 0.0, inf)
_WEIGHT = Parameter("pos_weight", 0.0, inf, per_feature=True)

_ROWS = (
    StepLoss("softmax_cross_entropy", "softmax_cross_entropy", "logits", DISTRIBUTIONS),
    StepLoss("nll", "nll_loss", "log_probs", CLASSES, nanoseconds=0.1),
    StepLoss("multiclass_hinge", "multiclass_hinge_loss", "scores", CLASSES, _MARGIN, nanoseconds=0.3),
    StepLoss("binary", "binary_cross_entropy", "logits", SHARES, _WEIGHT, nanoseconds=1.5),
    StepLoss(
        "binary_probs",
        "binary_cross_entropy",
        "logits",
        SHARES,
        _WEIGHT,
        options={"input": "probs"},
        probabilities=True,
        nanoseconds=2.0,
    ),
    StepLoss("mse", "mse_loss", "predictions"),
    StepLoss("mae", "mae_loss", "predictions"),
    StepLoss("huber", "huber_loss", "predictions", parameter=Parameter("delta", 0.0, inf, open_ends=True)),
    StepLoss(
        "quantile",
        "quantile_loss",
        "predictions",
        parameter=Parameter("q", 0.0, 1.0, open_ends=True, per_feature=True),
    ),
    StepLoss("hinge", "hinge_loss", "scores", SIGNS, _MARGIN),
    StepLoss("squared_hinge", "hinge_loss", "scores", SIGNS, _MARGIN, options={"squared": True}),
)

LOSSES = {row.name: row for row in _ROWS}
