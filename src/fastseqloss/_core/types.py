"""Types that public signatures share: what overloads need to tell which result a call has."""

from __future__ import annotations

from typing import Any, Literal, Required, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Loss = float | NDArray[np.float64]


Input = Literal["logits", "log_probs", "probs"]


ScalarReduction = Literal["sum", "mean", "sequence_mean", "batch_mean"]


StepReduction = Literal["none", "per_sequence", "sum", "mean", "sequence_mean", "batch_mean"]


LossAndGradient = tuple[Loss, NDArray[Any]]


class StepOptions(TypedDict, total=False):
    """Options of every per-step loss."""

    mask: ArrayLike | None
    normalizer: float | None
    sample_weight: ArrayLike | None
    num_threads: int | None


class ClassOptions(StepOptions, total=False):
    """Options of losses whose targets are classes."""

    ignore_index: int
    class_weight: ArrayLike | None


class CrossEntropyOptions(ClassOptions, total=False):
    """Options of `softmax_cross_entropy`."""

    input: Input
    label_smoothing: float
    z_loss: float


class MulticlassHingeOptions(ClassOptions, total=False):
    """Options of `multiclass_hinge_loss`."""

    margin: float


RiskReduction = Literal["none", "sum", "mean"]


class PolicyOptions(StepOptions, total=False):
    """Options of `policy_gradient_loss`."""

    entropy_coef: float
    ref_log_probs: ArrayLike | None
    kl_coef: float


class ClippedPolicyOptions(PolicyOptions, total=False):
    """Options of `clipped_policy_loss`."""

    clip: float | tuple[float, float]


class RiskOptions(StepOptions, total=False):
    """Options of `expected_risk_loss`."""

    sharpness: float


# For losses whose options are those of every loss at every step: reduction and gradient, by what a call returns.


class ScalarStepOptions(StepOptions, total=False):
    """Options of a call that returns one number."""

    reduction: ScalarReduction
    return_grad: Literal[False]
    grad_out: None


class LossStepOptions(StepOptions, total=False):
    """Options of a call that returns a loss alone."""

    reduction: StepReduction
    return_grad: Literal[False]
    grad_out: None


class GradientStepOptions(StepOptions, total=False):
    """Options of a call that returns loss and gradient."""

    reduction: StepReduction
    return_grad: Required[Literal[True]]
    grad_out: NDArray[Any] | None


class GradOutStepOptions(StepOptions, total=False):
    """Options of a call that writes the gradient to an array."""

    reduction: StepReduction
    return_grad: bool
    grad_out: Required[NDArray[Any]]
