"""Losses of one target for each row of scores, a class or a distribution: preparation of arguments."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import threads
from .._core.arrays import as_array, is_bfloat16, stored
from .._core.engine import Options, Rows, as_class_targets, as_step_sum, threads_for_rows
from .._core.gradient import as_gradient
from .._core.scores import as_step_scores
from .._core.steps import as_class_weight
from .._core.types import Loss, LossAndGradient
from .._kernels import short_calls
from .arguments import as_distributions, check_no_ignore_index, raise_if_bad
from .registry import DISTRIBUTIONS, LOSSES, PROBABILITIES

ROW_COST = 20.0  # nanoseconds of a row, in addition to those of its scores


def short_loss(
    entry: object,
    name: str,
    scores: Any,
    targets: Any,
    options: Options,
    ignore_index: Any,
    input: Any = "logits",
    parameter: float = 0.0,
) -> Loss | LossAndGradient | None:
    """Return the result of a short call in the usual form, without weights of classes, or None.

    `entry` is that of the kernel, which reads the parameter.
    """
    costs = LOSSES[name].nanoseconds, ROW_COST
    return short_calls.classes(
        entry, costs, threads.LEAST_WORK, scores, targets, input, parameter, ignore_index, options
    )


def prepare_rows(
    name: str,
    scores: Any,
    targets: Any,
    options: Options,
    ignore_index: Any,
    class_weight: Any,
    *,
    find: Any = None,
    probabilities: bool = False,
) -> Rows:
    """Check the arguments of the loss with this name in the registry, for targets that are classes.

    `find` is the kernel's search for numbers out of range, for losses that allow distributions; scores are searched,
    too, if they are `probabilities`.
    """
    loss = LOSSES[name]
    checked = as_step_scores(loss.scores, scores)
    n_classes = checked.values.shape[-1]
    summed = as_step_sum(checked.given.shape[:-1], options)
    weight = as_class_weight(class_weight, n_classes)
    targets = as_array("targets", targets)
    wanted = None
    if loss.targets == DISTRIBUTIONS and (targets.dtype.kind == "f" or is_bfloat16(targets.dtype)):
        wanted = as_distributions(targets, checked)
        check_no_ignore_index(ignore_index)
        found = as_class_targets(summed, np.zeros(summed.steps.shape, np.int64), 1, -1, None)
    else:
        found = as_class_targets(summed, targets, n_classes, ignore_index, weight)
    gradient = as_gradient(checked, options.return_grad, options.grad_out)
    if wanted is not None and gradient.values is not None and np.may_share_memory(gradient.values, wanted):
        wanted = wanted.copy()
    rows = Rows(
        summed=summed,
        scores=checked,
        gradient=gradient,
        targets=found.classes,
        scale=found.scale,
        class_weight=weight,
        # Losses share the memory of the targets: the target of a step is not read after its loss is stored.
        losses=found.classes.view(np.float64),
        threads=threads_for_rows(options.num_threads, checked, loss.nanoseconds, ROW_COST),
        dense=(wanted,) if loss.targets == DISTRIBUTIONS else (),
    )
    if probabilities:
        check_shares(rows, find, checked.values, PROBABILITIES, loss.scores, checked.given)
    if wanted is not None:
        check_shares(rows, find, wanted, DISTRIBUTIONS, "targets", targets)
    return rows


def check_shares(rows: Rows, find: Any, values: NDArray[Any], allowed: str, name: str, given: NDArray[Any]) -> None:
    """Raise ValueError for a number of a counted step outside the range of probabilities, or of distributions."""
    if values.size:
        most = 1.0 if allowed == PROBABILITIES else sys.float_info.max
        raise_if_bad(find(*stored(values), rows.targets, most), allowed, name, given)


def balance(rows: Rows, z_loss: float) -> float:
    """Move a power of 2 from class weights out of the range of float32 to the scale; return `z_loss` divided by it."""
    rows.class_weight, rows.scale, z_loss = balanced(rows.class_weight, rows.scale, z_loss)
    return z_loss


def balanced(
    class_weight: NDArray[np.float64] | None, scale: NDArray[np.float64], z_loss: float
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64], float]:
    """Return class weights within the range of float32, and scale and `z_loss` for the same loss."""
    if class_weight is None:
        return class_weight, scale, z_loss
    largest = float(class_weight.max())
    if largest == 0 or 2.0**-50 < largest < 2.0**50:
        return class_weight, scale, z_loss
    unit = 2.0 ** math.frexp(largest)[1]
    with np.errstate(over="ignore", under="ignore"):
        scale = np.minimum(scale * unit, sys.float_info.max)
    return class_weight / unit, scale, min(z_loss / unit, sys.float_info.max)
