"""Types that public signatures share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

# Reductions of each family.
StepReduction = Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"]
SequenceReduction = Literal["none", "sum", "mean", "sequence_mean"]
RiskReduction = Literal["none", "sum", "mean"]
PairReduction = Literal["per_sequence", "sum", "mean", "sequence_mean"]
ListReduction = Literal["none", "sum", "mean"]

# In the fields of results, `| Any` covers the other types that some calls return, by their arguments: None, a number
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
