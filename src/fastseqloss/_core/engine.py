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

from .arrays import as_weights, stored_or_none
from .gradient import Gradient
from .reduction import STEP_REDUCTIONS, check_reduction, is_uniform, reduce_steps, sequence_scale
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
    """The steps that count, and the reduction of their losses."""

    steps: Steps
    sample_weight: NDArray[np.float64] | None
    reduction: str
    normalizer: float | None

    @property
    def uniform(self) -> bool:
        """Return True if all sequences have the same scale, so that the batch is reduced as one; see `is_uniform`."""
        return is_uniform(self.reduction, self.sample_weight)

    def scale(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factor of the loss of each sequence, given the numbers of steps that count."""
        return sequence_scale(self.reduction, counts, self.normalizer, self.sample_weight, self.steps.batch)

    def counts(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of steps of each sequence whose class [B R] is not -1."""
        counts: NDArray[np.int64] = (classes.reshape(self.steps.batch, self.steps.rows) >= 0).sum(axis=1)
        return counts

    def finish(
        self, losses: NDArray[np.float64], scale: NDArray[np.float64], gradient: Gradient
    ) -> Loss | LossAndGradient:
        """Return the reduced loss, and the gradient if requested; `losses` as in `reduce_steps`."""
        loss = reduce_steps(self.reduction, losses, scale, self.steps.shape)
        return loss if gradient.values is None else (loss, gradient.finish())


def as_step_sum(shape: tuple[int, ...], options: Options) -> StepSum:
    """Check lengths and mask of steps of shape [B, T, ...], and the weights of sequences."""
    steps = as_steps(shape, options.lengths, options.mask)
    weight = as_weights("sample_weight", options.sample_weight, steps.batch)
    return StepSum(steps, weight, options.reduction, options.normalizer)


@dataclass(slots=True)
class ClassTargets:
    """Checked classes, and the scale that follows from the number of counted steps."""

    classes: NDArray[np.int64]  # [B R], -1 where a step does not count
    scale: NDArray[np.float64]  # [B], or [1] for the batch if the sum is uniform


def as_class_targets(
    summed: StepSum, targets: Any, n_classes: int, ignore_index: Any, class_weight: NDArray[np.float64] | None
) -> ClassTargets:
    """Check the class of each step that counts."""
    flat, counts = as_targets(targets, summed.steps, n_classes, ignore_index, class_weight, summed.uniform)
    return ClassTargets(flat, summed.scale(counts))


@dataclass
class Rows:
    """Rows of scores, one for each step, and the other arguments of a kernel."""

    summed: StepSum
    scores: Scores
    gradient: Gradient
    targets: NDArray[np.int64]  # [B R], -1 where a step does not count
    scale: NDArray[np.float64]  # [B], or [1] for the whole batch
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
        losses = losses.reshape(len(scale), -1) if losses.size else np.zeros((len(scale), 0))
        return self.summed.finish(losses, scale, self.gradient)

    def _arrays(self) -> tuple[list[NDArray[Any] | None], NDArray[np.float64]]:
        """Return all arrays and the scale of each sequence; the batch becomes one sequence if possible."""
        batch = self.summed.steps.batch
        arrays = [self.scores.values, self.gradient.values, *self.dense]
        scale = self.scale
        if len(scale) != batch:
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
