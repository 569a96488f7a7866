"""Common part of the losses at every step: counted steps, sums of their losses, rows of scores.

`StepSum` and `as_class_targets` do not depend on scores or their gradient, so that losses that never store scores can
use them, too. `Rows` is for losses whose scores [B, R, V] and gradient are arrays of the user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_array, as_finite, as_real, as_weights, stored_or_none
from .gradient import Gradient
from .reduction import (
    STEP_REDUCTIONS,
    averages_steps,
    by_sequence,
    check_reduction,
    is_uniform,
    reduce_steps,
    sequence_scale,
    step_scale,
)
from .scores import Scores
from .steps import Steps, as_steps, as_targets
from .threads import threads_for
from .types import Loss, LossAndGradient


@dataclass(slots=True)
class Options:
    """Options of every loss at every step; the reduction has been checked, the others are as passed."""

    lengths: Any
    mask: Any
    reduction: str
    normalizer: float | None
    sample_weight: Any
    return_grad: Any
    grad_out: Any
    num_threads: Any


def as_options(
    lengths: Any,
    mask: Any,
    reduction: str,
    normalizer: float | None,
    sample_weight: Any,
    return_grad: bool,
    grad_out: Any,
    num_threads: int | None,
) -> Options:
    """Collect the options, in the order of the public signatures; check the reduction."""
    normalizer = check_reduction(reduction, STEP_REDUCTIONS, normalizer)
    return Options(lengths, mask, reduction, normalizer, sample_weight, return_grad, grad_out, num_threads)


@dataclass(slots=True)
class StepSum:
    """The steps that count, and the reduction of their losses.

    If the mask or the weights are those of features, each feature counts as a step in `steps`. The loss of a step is
    then the sum over its features, divided by their number, as it is otherwise.
    """

    steps: Steps  # or features
    shape: tuple[int, ...]  # of the steps
    sample_weight: NDArray[np.float64] | None  # [B]
    step_weight: NDArray[Any] | None  # weights of steps or features, as passed
    reduction: str
    normalizer: float | None
    of_features: bool  # each feature counts as a step
    of_each: bool  # each step has a separate scale

    @property
    def uniform(self) -> bool:
        """Return True if all sequences have the same scale, so that the batch is reduced as one; see `is_uniform`."""
        return not self.of_each and is_uniform(self.reduction, self.sample_weight)

    def plain_scale(self) -> NDArray[np.float64]:
        """Return the factor of the loss of each sequence, or of each step, if all steps count as one term."""
        if self.of_each:
            return self.scale_of_each(self.steps.counting())
        return self.scale(self.steps.counts())

    def scale(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factor of the loss of each sequence, given the numbers of steps that count."""
        scale = sequence_scale(self.reduction, counts, self.normalizer, self.sample_weight, self.steps.batch)
        if self.of_features and not averages_steps(self.reduction):
            with np.errstate(under="ignore"):
                scale /= max(math.prod(self.steps.shape[len(self.shape) :]), 1)
        return scale

    def scale_of_each(
        self, counting: NDArray[np.bool_], terms: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return the factor [B, R] of the loss of each step, given those that count; `terms` as in `step_scale`.

        Weights are checked here, those of steps that count alone.
        """
        given = self.step_weight
        if given is not None and given.shape == self.steps.shape:
            weight = as_finite("sample_weight", given, given.shape, counting, signed=False).reshape(counting.shape)
        elif given is not None:
            per_weight = counting.reshape(*given.shape, math.prod(self.steps.shape[given.ndim :]))
            any_of_it: NDArray[np.bool_] = np.logical_or.reduce(per_weight, axis=-1)
            weight = as_finite("sample_weight", given, given.shape, any_of_it, signed=False)
            weight = np.where(per_weight, weight[..., None], 0.0).reshape(counting.shape)
        elif self.sample_weight is not None:
            weight = self.sample_weight[:, None] * counting
        else:
            weight = counting.astype(np.float64)
        return step_scale(self.reduction, weight, terms, self.normalizer, math.prod(self.shape[1:]))

    def counts(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of steps of each sequence whose class [B R] is not -1."""
        counts: NDArray[np.int64] = (classes.reshape(self.steps.batch, self.steps.rows) >= 0).sum(axis=1)
        return counts

    def finish(
        self, losses: NDArray[np.float64], scale: NDArray[np.float64], gradient: Gradient
    ) -> Loss | LossAndGradient:
        """Return the reduced loss, and the gradient if requested; `losses` as in `reduce_steps`."""
        loss = self.reduce(losses, scale)
        return loss if gradient.values is None else (loss, gradient.finish())

    def reduce(self, losses: NDArray[np.float64], scale: NDArray[np.float64]) -> Loss:
        """Return the reduced loss; `losses` as in `reduce_steps`."""
        loss = reduce_steps(self.reduction, losses, scale, self.steps.shape)
        if self.of_features and self.reduction in ("none", "step_mean"):
            with np.errstate(all="ignore"):
                loss = np.sum(loss, axis=tuple(range(len(self.shape) - len(self.steps.shape), 0)))
        return loss


def as_step_sum(shape: tuple[int, ...], options: Options, features: tuple[int, ...] = ()) -> StepSum:
    """Check lengths and mask of steps of shape [B, T, ...], and the shape of weights.

    If steps have `features`, mask and weights are those of steps or of features.
    """
    reduction, normalizer = options.reduction, options.normalizer
    each = reduction == "step_mean"
    mask, weight = options.mask, options.sample_weight
    if mask is None and weight is None:
        return StepSum(as_steps(shape, options.lengths, None), shape, None, None, reduction, normalizer, False, each)
    whole = shape + features
    by_feature = False
    may_be_of_steps = weight is not None and len(shape) > 1 and getattr(weight, "shape", None) != shape[:1]
    if features and mask is not None:
        mask = as_array("mask", mask)
        _check_shape("mask", mask.shape, (shape, whole))
        by_feature = mask.shape == whole
    if may_be_of_steps:
        weight = as_real("sample_weight", weight)
        by_feature |= weight.shape == whole != shape
    steps = as_steps(shape, options.lengths, mask, features if by_feature else ())
    of_steps = None
    if may_be_of_steps and (weight.ndim or steps.batch != 1):
        _check_shape("sample_weight", weight.shape, (shape[:1], shape, whole))
        if weight.ndim > 1:
            weight, of_steps = None, weight
    weight = as_weights("sample_weight", weight, steps.batch)
    each |= of_steps is not None
    return StepSum(steps, shape, weight, of_steps, reduction, normalizer, by_feature, each)


def _check_shape(name: str, shape: tuple[int, ...], allowed: tuple[tuple[int, ...], ...]) -> None:
    """Raise ValueError unless the shape is one of those allowed: of sequences, of steps, of features."""
    if shape not in allowed:
        *others, last = dict.fromkeys(allowed)
        raise ValueError(f"{name} has shape {shape}; allowed: {', '.join(map(str, others))} or {last}")


@dataclass(slots=True)
class ClassTargets:
    """Checked classes, and the scale that follows from the number of counted steps."""

    classes: NDArray[np.int64]  # [B R], -1 where a step does not count
    scale: NDArray[np.float64]  # [B], or [1] for the batch if the sum is uniform; or [B, R], one for each step


def as_class_targets(
    summed: StepSum, targets: Any, n_classes: int, ignore_index: Any, class_weight: NDArray[np.float64] | None
) -> ClassTargets:
    """Check the class of each step that counts."""
    flat, counts = as_targets(targets, summed.steps, n_classes, ignore_index, class_weight, summed.uniform)
    if not summed.of_each:
        return ClassTargets(flat, summed.scale(counts))
    classes = flat.reshape(summed.steps.batch, summed.steps.rows)
    terms = None if class_weight is None else class_weight[classes]  # those of steps that do not count have weight 0
    return ClassTargets(flat, summed.scale_of_each(classes >= 0, terms))


@dataclass
class Rows:
    """Rows of scores, one for each step, and the other arguments of a kernel."""

    summed: StepSum
    scores: Scores
    gradient: Gradient
    targets: NDArray[np.int64]  # [B R], -1 where a step does not count
    scale: NDArray[np.float64]  # [B], or [1] for the whole batch, or [B, R]
    class_weight: NDArray[np.float64] | None
    losses: NDArray[np.float64]  # [B R], output
    threads: int
    dense: tuple[NDArray[Any] | None, ...] = ()  # further arrays [B, R, V] for the kernel
    slopes: NDArray[np.float64] | None = None  # [B], factors of the gradients if they are not those of the losses

    def run(self, kernel: Callable[..., object], *parameters: Any) -> Loss | LossAndGradient:
        """Call the kernel, unless the batch is empty, and return its reduced result."""
        scale, losses = self.scale, self.losses
        if losses.size:
            (scores, gradient, *dense), each = self._arrays()
            for array in dense:
                parameters = (*stored_or_none(array), *parameters)
            x, g = stored_or_none(scores), stored_or_none(gradient)[0]
            if self.slopes is not None:  # kernels leave out sequences of scale 0, whose losses are needed here
                each = np.where(self.slopes == 0, 1.0, self.slopes)
            kernel(*x, self.targets, each, self.class_weight, losses, g, self.threads, *parameters)
            if self.slopes is not None and gradient is not None:
                gradient[self.slopes == 0] = 0
        # For any memory layout of the arrays, the losses of a uniform sum are those of one sequence.
        return self.summed.finish(by_sequence(losses, scale), scale, self.gradient)

    def _arrays(self) -> tuple[list[NDArray[Any] | None], NDArray[np.float64]]:
        """Return all arrays, and the scale of each sequence or step; the batch becomes one sequence if possible."""
        batch = self.summed.steps.batch
        arrays = [self.scores.values, self.gradient.values, *self.dense]
        scale = self.scale
        if scale.ndim == 2:
            scale = scale.reshape(-1)
        elif len(scale) != batch:
            joined = [None if array is None else as_one(array, 2) for array in arrays]
            if sum(array is None for array in joined) == sum(array is None for array in arrays):
                arrays = joined
            else:
                scale = np.repeat(scale, batch)
        return arrays, scale


def threads_for_rows(num_threads: int | None, scores: Scores, per_score: float, per_row: float) -> int:
    """Return the number of threads for rows of scores, given the nanoseconds for a score and for a row."""
    n_rows = math.prod(scores.values.shape[:2])
    return threads_for(num_threads, scores.values.size * per_score + n_rows * per_row, n_rows)


def as_one(array: NDArray[Any], n_axes: int) -> NDArray[Any] | None:
    """View an array with its first axes joined into a single sequence; None if the view requires a copy."""
    shape = 1, math.prod(array.shape[:n_axes]), *array.shape[n_axes:]
    if not array.flags.c_contiguous and array.size:
        axes = [(stride, n) for stride, n in zip(array.strides[:n_axes], array.shape, strict=False) if n > 1]
        if any(outer != stride * n for (outer, _), (stride, n) in pairwise(axes)):
            return None
    return array.reshape(shape)
