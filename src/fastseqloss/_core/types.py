"""Types that public signatures share, overloads among them."""

from __future__ import annotations

from typing import Any, Literal, Required, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Loss = float | NDArray[np.float64]
LossAndGradient = tuple[Loss, NDArray[Any]]

Input = Literal["logits", "log_probs", "probs"]
Infeasible = Literal["inf", "zero", "raise"]
BlankModel = Literal["softmax", "hat"]
Topology = Literal["regular", "modified"]

# For each family, the reductions to a float, and all of them.
ScalarReduction = Literal["sum", "mean", "sequence_mean", "batch_mean"]
StepReduction = Literal["none", "per_sequence", "sum", "mean", "sequence_mean", "batch_mean"]
ScalarSequenceReduction = Literal["sum", "mean", "sequence_mean"]
SequenceReduction = Literal["none", "sum", "mean", "sequence_mean"]
RiskReduction = Literal["none", "sum", "mean"]


class LossOptions(TypedDict, total=False):
    """Options of every loss."""

    normalizer: float | None
    sample_weight: ArrayLike | None
    num_threads: int | None


class CTCOptions(LossOptions, total=False):
    """Options of `ctc_loss`."""

    blank: int
    input: Input
    infeasible: Infeasible


class RNNTOptions(CTCOptions, total=False):
    """Options of `rnnt_loss`."""

    blank_model: BlankModel
    topology: Topology
    fastemit: float
    ranges: ArrayLike | None


class TDTOptions(LossOptions, total=False):
    """Options of `tdt_loss`."""

    blank: int
    sigma: float
    infeasible: Infeasible


class RNNTSimpleOptions(LossOptions, total=False):
    """Options of `rnnt_simple_loss`."""

    blank: int
    topology: Topology
    fastemit: float
    infeasible: Infeasible


class ChainOptions(TypedDict, total=False):
    """Options of every function of a linear chain."""

    mask: ArrayLike | None
    start: ArrayLike | None
    end: ArrayLike | None
    num_threads: int | None


class CRFOptions(ChainOptions, total=False):
    """Options of `crf_loss`."""

    normalizer: float | None
    sample_weight: ArrayLike | None


class StructuredHingeOptions(CRFOptions, total=False):
    """Options of `structured_hinge_loss`."""

    cost: Literal["hamming"] | ArrayLike


class SoftDTWOptions(LossOptions, total=False):
    """Options of `soft_dtw_cost`."""

    gamma: float
    band: int | None


class SeriesOptions(SoftDTWOptions, total=False):
    """Options of `soft_dtw_loss`."""

    divergence: bool


class StepOptions(LossOptions, total=False):
    """Options of every per-step loss."""

    mask: ArrayLike | None


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
