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


class StepOptions(LossOptions, total=False):
    """Options of every per-step loss."""

    mask: ArrayLike | None


class ClassOptions(StepOptions, total=False):
    """Options of losses whose targets are classes."""

    ignore_index: int
    class_weight: ArrayLike | None


class PolicyTermOptions(StepOptions, total=False):
    """Options of every policy loss."""

    entropy_coef: float
    entropy_mask: ArrayLike | None
    ref_log_probs: ArrayLike | None
    kl_coef: float
    kl_kind: KLKind
    max_log_ratio: float | None


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
