"""What the losses share whose targets are classes: arguments in, results out."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_weights, is_bfloat16, stored
from .._core.gradient import Gradient, as_gradient
from .._core.reduction import STEP_REDUCTIONS, check_reduction, is_uniform, reduce_steps, sequence_scale
from .._core.scores import as_step_scores
from .._core.steps import as_class_weight, as_distributions, as_steps, as_targets, check_no_ignore_index, shown
from .._core.threads import threads_for
from .._core.types import Loss, LossAndGradient


@dataclass
class Problem:
    """Checked arguments of a kernel, and what becomes of its results."""

    scores: tuple[NDArray[Any], int]  # [B, R, V], with the kind of its elements
    targets: NDArray[np.int64]  # [B R], -1 where a step does not count
    distributions: tuple[NDArray[Any] | None, int]  # [B, R, V]
    scale: NDArray[np.float64]
    class_weight: NDArray[np.float64] | None
    losses: NDArray[np.float64]  # [B R], to be filled
    gradient: NDArray[Any] | None
    reduction: str
    uniform: bool  # the losses of the batch are added as if they were of one sequence
    shape: tuple[int, ...]
    delivery: Gradient
    given: NDArray[Any]
    asked: NDArray[Any]  # targets as they were passed

    def check_shares(self, kernel: Any, *, scores: str | None) -> None:
        """Check the range of the distributions and, if they are probabilities, of the scores of that name."""
        for values, name, given, allowed, most in (
            (self.scores, scores, self.given, "0 to 1; or input='logits'", 1.0),
            (self.distributions, "targets", self.asked, "finite, 0 or more", sys.float_info.max),
        ):
            if name is None or values[0] is None or not values[0].size:
                continue
            bad = kernel.first_outside(*values, self.targets, most)
            if bad >= 0:
                raise ValueError(f"{shown(name, given, bad)}; allowed: {allowed}")

    def balance(self, z_loss: float) -> float:
        """Move a power of 2 from weights of classes that float32 may not hold to the scale; return `z_loss` over it."""
        if self.class_weight is None:
            return z_loss
        largest = float(self.class_weight.max())
        if largest == 0 or 2.0**-50 < largest < 2.0**50:
            return z_loss
        unit = 2.0 ** math.frexp(largest)[1]
        self.class_weight = self.class_weight / unit
        with np.errstate(over="ignore", under="ignore"):
            self.scale = np.minimum(self.scale * unit, sys.float_info.max)
        return min(z_loss / unit, sys.float_info.max)

    @property
    def size(self) -> int:
        """Elements; nothing is to be done where there are none."""
        return self.scores[0].size

    def threads(self, num_threads: int | None, nanoseconds: float) -> int:
        """Threads to use, given the time an element takes."""
        work = self.size * nanoseconds + len(self.losses) * 20.0
        return threads_for(num_threads, work, len(self.losses))

    def result(self) -> Loss | LossAndGradient:
        """Return the reduced loss, and the gradient if there is one."""
        scale = self.scale[:1] if self.uniform else self.scale  # however the arrays lie in memory
        losses = self.losses.reshape(len(scale), -1) if self.losses.size else np.zeros((len(scale), 0))
        loss = reduce_steps(self.reduction, losses, scale, self.shape)
        return loss if self.delivery.values is None else (loss, self.delivery.deliver(self.given))


def prepare(
    name: str,
    scores: Any,
    targets: Any,
    lengths: Any,
    mask: Any,
    ignore_index: Any,
    class_weight: Any,
    reduction: str,
    normalizer: float | None,
    sample_weight: Any,
    return_grad: bool,
    grad_out: Any,
    *,
    distributions: bool = False,
) -> Problem:
    """Check the arguments of a loss whose scores are called `name`."""
    normalizer = check_reduction(reduction, STEP_REDUCTIONS, normalizer)
    checked = as_step_scores(name, scores)
    values = checked.values
    n_classes = values.shape[-1]
    steps = as_steps(checked.given.shape[:-1], lengths, mask)
    weight = as_weights("sample_weight", sample_weight, steps.batch)
    class_weight = as_class_weight(class_weight, n_classes)
    targets = asked = as_array("targets", targets)
    uniform = is_uniform(reduction, weight)
    wanted = None
    if distributions and (targets.dtype.kind == "f" or is_bfloat16(targets.dtype)):
        wanted = as_distributions(targets, checked)
        check_no_ignore_index(ignore_index)
        targets = np.zeros(steps.shape, np.int64)
        flat, counts = as_targets(targets, steps, 1, -1, None, uniform)
    else:
        flat, counts = as_targets(targets, steps, n_classes, ignore_index, class_weight, uniform)
    gradient = as_gradient(checked, return_grad, grad_out)
    scale = sequence_scale(reduction, counts, normalizer, weight, steps.batch)
    if wanted is not None and gradient.values is not None and np.may_share_memory(gradient.values, wanted):
        wanted = wanted.copy()
    arrays: list[NDArray[Any] | None] = [values, wanted, gradient.values]
    if uniform:
        arrays, scale = _as_one(arrays, scale, steps.batch)
    x, y, g = (None if array is None else stored(array) for array in arrays)
    assert x is not None
    return Problem(
        scores=x,
        targets=flat,
        distributions=y or (None, 0),
        scale=scale,
        class_weight=class_weight,
        # In the memory of the targets, which a step no longer needs once its loss is known.
        losses=flat.view(np.float64),
        gradient=g and g[0],
        reduction=reduction,
        uniform=uniform,
        shape=steps.shape,
        delivery=gradient,
        given=checked.given,
        asked=asked,
    )


def _as_one(
    arrays: list[NDArray[Any] | None], scale: NDArray[np.float64], batch: int
) -> tuple[list[NDArray[Any] | None], NDArray[np.float64]]:
    """Join the sequences of a batch, which have one scale, if their arrays follow each other in memory."""
    joined: list[NDArray[Any] | None] = []
    for array in arrays:
        one = None
        if array is not None:
            one = array.reshape(1, math.prod(array.shape[:2]), array.shape[2])
            if array.size and not np.may_share_memory(one, array):
                return arrays, np.repeat(scale, batch)
        joined.append(one)
    return joined, scale
