"""Types that public signatures share, overloads among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Required, TypedDict, Unpack, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .messages import outline

Loss = float | NDArray[np.float64]
LossAndGradient = tuple[Loss, NDArray[Any]]

Input = Literal["logits", "log_probs", "probs"]
Infeasible = Literal["inf", "zero", "raise"]
BlankModel = Literal["softmax", "hat"]
Topology = Literal["regular", "modified"]
PreferenceKind = Literal["sigmoid", "ipo", "hinge"]
KLKind = Literal["k1", "k2", "k3"]
PolicyKind = Literal["ppo", "gspo", "cispo"]
StepPolicyKind = Literal["ppo", "cispo"]

# For each family, the reductions to a float, and all of them.
ScalarReduction = Literal["sum", "mean", "sequence_mean", "batch_mean"]
StepReduction = Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"]
ScalarSequenceReduction = Literal["sum", "mean", "sequence_mean"]
SequenceReduction = Literal["none", "sum", "mean", "sequence_mean"]
RiskReduction = Literal["none", "sum", "mean"]
PairReduction = Literal["per_sequence", "sum", "mean", "sequence_mean"]
ListReduction = Literal["none", "sum", "mean"]


# In the fields of results, `| Any` stands for what some calls give instead, as their arguments say: None, or a number
# for one sequence. Type checkers then take a field for an array without being told so.


class RegressionGradient(NamedTuple):
    """Gradients of a regression loss.

    Attributes
    ----------
    predictions, targets : ndarray or None
        Gradient with respect to each argument, of its shape and dtype; None if it was not requested.
    """

    predictions: NDArray[Any] | Any
    targets: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


class CrossEntropyGradient(NamedTuple):
    """Gradients of a cross-entropy.

    Attributes
    ----------
    logits, targets : ndarray or None
        Gradient with respect to each argument, of its shape and dtype; None if it was not requested.
    """

    logits: NDArray[Any] | Any
    targets: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


class GaussianGradient(NamedTuple):
    """Gradients of `gaussian_nll_loss`.

    Attributes
    ----------
    predictions, variance, targets : ndarray or None
        Gradient with respect to each argument, of its shape and dtype; None if it was not requested.
    """

    predictions: NDArray[Any] | Any
    variance: NDArray[Any] | Any
    targets: NDArray[Any] | Any = None

    def __repr__(self) -> str:
        return outline(self)


RegressionGradientOut = RegressionGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
CrossEntropyGradientOut = CrossEntropyGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
GaussianGradientOut = (
    GaussianGradient
    | tuple[NDArray[Any] | None, NDArray[Any] | None]
    | tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]
)


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


class CTCCRFOptions(LossOptions, total=False):
    """Options of `ctc_crf_loss`."""

    predecessors: ArrayLike | None
    infeasible: Infeasible


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


class SequenceLogProbOptions(TypedDict, total=False):
    """Options of `sequence_log_prob`."""

    mask: ArrayLike | None
    input: Input
    ignore_index: int
    average: bool
    num_threads: int | None


class MulticlassHingeOptions(ClassOptions, total=False):
    """Options of `multiclass_hinge_loss`."""

    margin: float


class FocalOptions(ClassOptions, total=False):
    """Options of `softmax_focal_loss`."""

    gamma: float


class PolicyTermOptions(StepOptions, total=False):
    """Options of every policy loss."""

    entropy_coef: float
    entropy_mask: ArrayLike | None
    ref_log_probs: ArrayLike | None
    kl_coef: float
    kl_kind: KLKind
    max_log_ratio: float | None


class PolicyOptions(PolicyTermOptions, total=False):
    """Options of `policy_gradient_loss`."""

    diagnostics: Any


class ClippedPolicyOptions(PolicyOptions, total=False):
    """Options of `clipped_policy_loss`."""

    clip: float | tuple[float, float]
    kind: PolicyKind
    dual_clip: float | None


class RiskOptions(StepOptions, total=False):
    """Options of `expected_risk_loss`."""

    sharpness: float


class _SmoothedOptions(LossOptions, total=False):
    """Options of losses of pairs whose labels may be swapped."""

    beta: float
    label_smoothing: float


class DPOOptions(_SmoothedOptions, total=False):
    """Options of `dpo_loss`."""

    kind: PreferenceKind


class SimPOOptions(_SmoothedOptions, total=False):
    """Options of `simpo_loss`."""

    margin: float


class ORPOOptions(LossOptions, total=False):
    """Options of `orpo_loss`."""

    beta: float
    nll_coef: float


class KTOOptions(LossOptions, total=False):
    """Options of `kto_loss`."""

    kl: ArrayLike
    beta: float
    desirable_weight: float
    undesirable_weight: float


class CTCRiskOptions(RiskOptions, total=False):
    """Options of `ctc_risk_loss`."""

    blank: int
    input: Input


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


class RegressionGradientsOptions(StepOptions, total=False):
    """Options of a call that returns gradients of a regression loss by predictions and targets."""

    reduction: StepReduction
    return_grad: bool
    grad_out: RegressionGradientOut | None
    with_respect_to: Required[Sequence[str]]


class CrossEntropyGradientsOptions(StepOptions, total=False):
    """Options of a call that returns gradients of a cross-entropy by logits and targets."""

    reduction: StepReduction
    return_grad: bool
    grad_out: CrossEntropyGradientOut | None
    with_respect_to: Required[Sequence[str]]


class GaussianStepOptions(StepOptions, total=False):
    """Options of a call that returns `gaussian_nll_loss` and its gradients."""

    reduction: StepReduction
    return_grad: Required[Literal[True]]
    grad_out: GaussianGradientOut | None


class GaussianOutStepOptions(StepOptions, total=False):
    """Options of a call that writes the gradients of `gaussian_nll_loss` to arrays."""

    reduction: StepReduction
    return_grad: bool
    grad_out: Required[GaussianGradientOut]


class GaussianGradientsOptions(StepOptions, total=False):
    """Options of a call that returns chosen gradients of `gaussian_nll_loss`."""

    reduction: StepReduction
    return_grad: bool
    grad_out: GaussianGradientOut | None
    with_respect_to: Required[Sequence[str]]


class RegressionLoss(Protocol):
    """A loss of predictions and targets without options of its own."""

    @overload
    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[ScalarStepOptions],
    ) -> float: ...
    @overload
    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[LossStepOptions],
    ) -> Loss: ...
    @overload
    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradientStepOptions],
    ) -> LossAndGradient: ...
    @overload
    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradOutStepOptions],
    ) -> LossAndGradient: ...
    @overload
    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[RegressionGradientsOptions],
    ) -> tuple[Loss, RegressionGradient]: ...


def regression_loss(function: Callable[..., Any]) -> RegressionLoss:
    """Declare to type checkers what the calls of a loss return; at run time, return the function itself."""
    return cast(RegressionLoss, function)


class PairOptions(StepOptions, total=False):
    """Options of losses of pairs; each loss has some of them."""

    item_weight: ArrayLike | None
    margin: float
    lambda_weight: Literal["dcg", "ndcg"] | None


class ScalarPairOptions(PairOptions, total=False):
    """Options of a call that returns one number."""

    reduction: ScalarSequenceReduction
    return_grad: Literal[False]
    grad_out: None


class LossPairOptions(PairOptions, total=False):
    """Options of a call that returns a loss alone."""

    reduction: PairReduction
    return_grad: Literal[False]
    grad_out: None


class GradientPairOptions(PairOptions, total=False):
    """Options of a call that returns loss and gradient."""

    reduction: PairReduction
    return_grad: Required[Literal[True]]
    grad_out: NDArray[Any] | None


class GradOutPairOptions(PairOptions, total=False):
    """Options of a call that writes the gradient to an array."""

    reduction: PairReduction
    return_grad: bool
    grad_out: Required[NDArray[Any]]


class PairLoss(Protocol):
    """A loss of the pairs of lists."""

    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[ScalarPairOptions],
    ) -> float: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[LossPairOptions],
    ) -> Loss: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradientPairOptions],
    ) -> LossAndGradient: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradOutPairOptions],
    ) -> LossAndGradient: ...


def pair_loss(function: Callable[..., Any]) -> PairLoss:
    """Declare to type checkers what the calls of a loss of pairs return; at run time, return the function itself."""
    return cast(PairLoss, function)


class ListOptions(StepOptions, total=False):
    """Options of losses of whole lists; each loss has some of them."""

    item_weight: ArrayLike | None
    regularization: float


class ScalarListOptions(ListOptions, total=False):
    """Options of a call that returns one number."""

    reduction: Literal["sum", "mean"]
    return_grad: Literal[False]
    grad_out: None


class LossListOptions(ListOptions, total=False):
    """Options of a call that returns a loss alone."""

    reduction: ListReduction
    return_grad: Literal[False]
    grad_out: None


class GradientListOptions(ListOptions, total=False):
    """Options of a call that returns loss and gradient."""

    reduction: ListReduction
    return_grad: Required[Literal[True]]
    grad_out: NDArray[Any] | None


class GradOutListOptions(ListOptions, total=False):
    """Options of a call that writes the gradient to an array."""

    reduction: ListReduction
    return_grad: bool
    grad_out: Required[NDArray[Any]]


class RelevanceLoss(Protocol):
    """A loss of whole lists, given the relevance of their items."""

    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[ScalarListOptions],
    ) -> float: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[LossListOptions],
    ) -> Loss: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradientListOptions],
    ) -> LossAndGradient: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        relevance: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradOutListOptions],
    ) -> LossAndGradient: ...


def relevance_loss(function: Callable[..., Any]) -> RelevanceLoss:
    """Declare to type checkers what the calls of a loss of lists return; at run time, return the function itself."""
    return cast(RelevanceLoss, function)


class TargetLoss(Protocol):
    """A loss of a target and negatives."""

    @overload
    def __call__(
        self,
        scores: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[ScalarListOptions],
    ) -> float: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[LossListOptions],
    ) -> Loss: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradientListOptions],
    ) -> LossAndGradient: ...
    @overload
    def __call__(
        self,
        scores: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = ...,
        **options: Unpack[GradOutListOptions],
    ) -> LossAndGradient: ...


def target_loss(function: Callable[..., Any]) -> TargetLoss:
    """Declare to type checkers what the calls of a loss of a target return; at run time, return the function itself."""
    return cast(TargetLoss, function)
