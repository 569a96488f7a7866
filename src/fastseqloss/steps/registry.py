"""Table of the losses at every step, read by the engine, the tests, the fuzzer and the benchmarks.

A new loss of one prediction and one target requires an arithmetic function in `_kernels/steps/wide_losses.inc.h`, a
name in `pointwise.h`, a row in this table, and a public function with its docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

# Kinds of targets. Of the shape of the predictions: any numbers, -1 or 1, 0 to 1, 0 or more, or 0 or 1. One for each
# step: a class, or a class or a distribution over classes.
NUMBERS, SIGNS, SHARES, COUNTS, INDICATORS, CLASSES, DISTRIBUTIONS = (
    "numbers", "signs", "shares", "counts", "indicators", "classes", "distributions"
)  # fmt: skip
PROBABILITIES, AMOUNTS = "probabilities", "amounts"  # kinds of scores

# Values that each kind allows, as messages name them.
ALLOWED = {
    SIGNS: "-1 or 1",
    SHARES: "0 to 1",
    COUNTS: "finite, 0 or more",
    INDICATORS: "0 or 1",
    AMOUNTS: "0 or more",
    PROBABILITIES: "0 to 1, or input='logits'",
    DISTRIBUTIONS: "finite, 0 or more",
}


class Parameter(NamedTuple):
    """A parameter of a loss over numbers: its name and its allowed range."""

    name: str
    least: float
    most: float
    open_ends: bool = False
    broadcasts: bool = False  # may be an array that NumPy broadcasts to the scores, such as one number for each feature


@dataclass(frozen=True)
class StepLoss:
    """One loss: the call of its public function, and the allowed values of its arguments."""

    name: str  # name in the kernel, for losses of numbers
    function: str
    scores: str  # name of the first argument
    targets: str = NUMBERS
    parameter: Parameter | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # select this loss of the function
    allowed: str = NUMBERS  # kind of the scores
    allowed_parameter: str = NUMBERS  # kind of the numbers of an array of parameters, such as a variance
    nanoseconds: float = 0.5  # time for a score on one thread

    @property
    def of_classes(self) -> bool:
        """Return True if a step has one target and a score for each class, rather than a target for each score."""
        return self.targets in (CLASSES, DISTRIBUTIONS)


_MARGIN = Parameter("margin", 0.0, inf)
_WEIGHT = Parameter("pos_weight", 0.0, inf, broadcasts=True)
_GAMMA = Parameter("gamma", 0.0, inf)

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
        allowed=PROBABILITIES,
        nanoseconds=2.0,
    ),
    StepLoss("mse", "mse_loss", "predictions"),
    StepLoss("mae", "mae_loss", "predictions"),
    StepLoss("huber", "huber_loss", "predictions", parameter=Parameter("delta", 0.0, inf, open_ends=True)),
    StepLoss(
        "quantile",
        "quantile_loss",
        "predictions",
        parameter=Parameter("q", 0.0, 1.0, open_ends=True, broadcasts=True),
    ),
    StepLoss("log_cosh", "log_cosh_loss", "predictions", nanoseconds=2.5),
    StepLoss("poisson", "poisson_nll_loss", "predictions", COUNTS, nanoseconds=2.0),
    StepLoss(
        "poisson_rates",
        "poisson_nll_loss",
        "predictions",
        COUNTS,
        options={"input": "rates"},
        allowed=AMOUNTS,
        nanoseconds=2.5,
    ),
    StepLoss(
        "tweedie",
        "tweedie_loss",
        "predictions",
        COUNTS,
        Parameter("power", 1.0, 2.0, open_ends=True),
        nanoseconds=3.0,
    ),
    StepLoss("softmax_focal", "softmax_focal_loss", "logits", CLASSES, _GAMMA, nanoseconds=0.6),
    StepLoss("binary_focal", "binary_focal_loss", "logits", SHARES, _GAMMA, nanoseconds=5.0),
    StepLoss("hinge", "hinge_loss", "scores", SIGNS, _MARGIN),
    StepLoss("squared_hinge", "hinge_loss", "scores", SIGNS, _MARGIN, options={"squared": True}),
)

LOSSES = {row.name: row for row in _ROWS}

# Losses with a predicted variance, by the kind of its numbers.
GAUSSIAN = {
    "variance": StepLoss("gaussian", "gaussian_nll_loss", "predictions", allowed_parameter=AMOUNTS, nanoseconds=3.0),
    "log_variance": StepLoss("gaussian_log", "gaussian_nll_loss", "predictions", nanoseconds=3.0),
}

# Losses of a vector of scores and a vector of targets at each step.
VECTORS = {
    row.name: row
    for row in (
        StepLoss("kl_divergence", "kl_divergence", "logits", DISTRIBUTIONS, nanoseconds=5.0),
        StepLoss("sparsemax", "sparsemax_loss", "logits", DISTRIBUTIONS, nanoseconds=2.0),
        StepLoss("cosine_distance", "cosine_distance_loss", "predictions", nanoseconds=1.5),
        StepLoss("multilabel_margin", "multilabel_margin_loss", "scores", INDICATORS, _MARGIN, nanoseconds=3.0),
    )
}
