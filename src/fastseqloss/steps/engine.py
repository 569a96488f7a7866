"""Engine of the losses at every step: preparation of arguments, call of a kernel, reduction of the result."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, is_bfloat16, stored, stored_or_none
from .._core.engine import Options, Rows, StepSum, as_class_targets, as_one, as_step_sum, threads_for_rows
from .._core.gradient import Gradient, as_gradient
from .._core.levels import load
from .._core.scores import as_step_scores
from .._core.steps import (
    Numbers,
    as_class_weight,
    as_comparison,
    as_distributions,
    as_parameter,
    as_predictions,
    as_runs,
    check_no_ignore_index,
    shown,
)
from .._core.threads import threads_for
from .._core.types import Loss, LossAndGradient
from .registry import DISTRIBUTIONS, LOSSES, NUMBERS, StepLoss

if TYPE_CHECKING:
    from .._kernels.steps import pointwise as _kernel
else:
    _kernel = load("steps.pointwise")


# ---- a score for each class ------------------------------------------------------------------


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
        threads=threads_for_rows(options.num_threads, checked, loss.nanoseconds, 20.0),
        dense=(wanted,) if loss.targets == DISTRIBUTIONS else (),
    )
    if probabilities:
        _check_share(rows, find, checked.values, loss.scores, checked.given, "0 to 1; or input='logits'", 1.0)
    if wanted is not None:
        _check_share(rows, find, wanted, "targets", targets, "finite, 0 or more", sys.float_info.max)
    return rows


def _check_share(
    rows: Rows, find: Any, values: NDArray[Any], name: str, given: NDArray[Any], allowed: str, most: float
) -> None:
    bad = find(*stored(values), rows.targets, most) if values.size else -1
    if bad >= 0:
        raise ValueError(f"{shown(name, given, bad)}; allowed: {allowed}")


def balance(rows: Rows, z_loss: float) -> float:
    """Move a power of 2 from class weights out of the range of float32 to the scale; return `z_loss` divided by it."""
    if rows.class_weight is None:
        return z_loss
    largest = float(rows.class_weight.max())
    if largest == 0 or 2.0**-50 < largest < 2.0**50:
        return z_loss
    unit = 2.0 ** math.frexp(largest)[1]
    rows.class_weight = rows.class_weight / unit
    with np.errstate(over="ignore", under="ignore"):
        rows.scale = np.minimum(rows.scale * unit, sys.float_info.max)
    return min(z_loss / unit, sys.float_info.max)


# ---- a target for each number ----------------------------------------------------------------


@dataclass
class _Pairs:
    """Predictions, targets and the other arguments of the kernel."""

    loss: StepLoss
    summed: StepSum
    numbers: Numbers
    gradient: Gradient
    targets: NDArray[Any]  # as passed
    wanted: NDArray[Any]  # in the form of the kernel
    parameter: float | NDArray[np.float64]
    scale: NDArray[np.float64]
    threads: int


def pointwise_loss(
    name: str, predictions: Any, targets: Any, options: Options, parameter: Any = None
) -> Loss | LossAndGradient:
    """Return the reduced loss with this name in the registry, and its gradient if requested."""
    pairs = _prepare(LOSSES[name], predictions, targets, options, parameter)
    losses, scale = _run(pairs, _check_before(pairs))
    return pairs.summed.finish(losses, scale, pairs.gradient)


def _prepare(loss: StepLoss, predictions: Any, targets: Any, options: Options, parameter: Any) -> _Pairs:
    numbers = as_predictions(loss.scores, predictions)
    shape = numbers.given.shape
    summed = as_step_sum(shape[:2], options)
    targets = as_array("targets", targets)
    wanted = as_comparison("targets", targets, numbers)
    number = as_parameter(loss.parameter, parameter, shape) if loss.parameter else 0.0
    scale = summed.scale(summed.steps.counts())
    threads = threads_for(options.num_threads, numbers.given.size * loss.nanoseconds, numbers.given.size)
    gradient = as_gradient(numbers, options.return_grad, options.grad_out)
    return _Pairs(loss, summed, numbers, gradient, targets, wanted, number, scale, threads)


def _check_before(pairs: _Pairs) -> str:
    """Check the values that must be valid before anything is written; return the check that remains for the kernel."""
    if pairs.loss.probabilities:
        _check_all(pairs, "probabilities", pairs.numbers.values, pairs.loss.scores, pairs.numbers.given)
    if pairs.loss.targets == NUMBERS or not pairs.gradient.direct:
        return pairs.loss.targets
    _check_all(pairs, pairs.loss.targets, pairs.wanted, "targets", pairs.targets)
    return NUMBERS


def _check_all(pairs: _Pairs, allowed: str, values: NDArray[Any], name: str, given: NDArray[Any]) -> None:
    """Raise ValueError for a value that the loss does not allow, even one of weight 0."""
    if values.size:
        steps = pairs.summed.steps
        shape, lengths, arrays = _laid_out(pairs, [values], steps.full and steps.batch > 1)
        room = _room_for_items(shape)
        code = _kernel.ALLOWED[allowed]
        array, kind = arrays[0]
        assert array is not None
        bad = _kernel.find_bad_target(array, kind, shape, lengths, steps.mask, code, room, pairs.threads)
        _raise_if_bad(bad, allowed, name, given)


_SAID = {"signs": "-1 or 1", "shares": "0 to 1", "probabilities": "0 to 1, or input='logits'"}


def _raise_if_bad(bad: int, allowed: str, name: str, given: NDArray[Any]) -> None:
    if bad >= 0:
        raise ValueError(f"{shown(name, given, bad)}; allowed: {_SAID[allowed]}")


def _run(pairs: _Pairs, allowed: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Call the kernel, unless the batch is empty; return losses or partial sums, and the scale of each sequence."""
    summed, number, wanted, scale = pairs.summed, pairs.parameter, pairs.wanted, pairs.scale
    given, gradient = pairs.numbers.given, pairs.gradient.values
    spread = None
    if isinstance(number, np.ndarray):
        spread = as_runs(np.broadcast_to(number, given.shape), pairs.numbers.shape)
        number = 0.0
    if gradient is not None and np.may_share_memory(gradient, wanted):
        wanted = wanted.copy()
    together = len(given) > 1 and given.size > 0 and summed.steps.full and summed.uniform
    shape, lengths, arrays = _laid_out(pairs, [pairs.numbers.values, wanted, spread, gradient], together)
    scale = scale[:1] if together else scale
    partial = np.zeros((shape[0], _kernel.parts(shape[1] * shape[2])))
    losses = np.zeros(shape[:2]) if summed.reduction == "none" else None
    if given.size:
        (x, x_kind), (y, y_kind), (a, _), (g, _) = arrays
        assert x is not None
        assert y is not None
        bad = _kernel.pointwise(
            _kernel.LOSSES[pairs.loss.name],
            x,
            x_kind,
            y,
            y_kind,
            a=a,
            parameter=number,
            shape=shape,
            lengths=lengths,
            mask=summed.steps.mask,
            scale=scale,
            partial=partial,
            steps=losses,
            grad=g,
            allowed=_kernel.ALLOWED[allowed],
            bad=None if allowed == NUMBERS else _room_for_items(shape),
            num_threads=pairs.threads,
        )
        _raise_if_bad(bad, allowed, "targets", pairs.targets)
    return (partial if losses is None else losses), scale


def _laid_out(
    pairs: _Pairs, arrays: list[NDArray[Any] | None], together: bool
) -> tuple[tuple[int, int, int], NDArray[np.int64], list[tuple[NDArray[Any] | None, int]]]:
    """Return the shape, the lengths and the arrays for the kernel, as one sequence if `together`.

    The sums of one sequence do not depend on the memory layout of the arrays.
    """
    shape = pairs.numbers.shape
    if not together:
        return shape, pairs.summed.steps.lengths(), [stored_or_none(array) for array in arrays]
    n_steps = shape[0] * shape[1]
    for i, array in enumerate(arrays):
        joined = None if array is None else as_one(array, 3)
        arrays[i] = array if joined is None else joined[:, None]
    return (1, n_steps, shape[2]), np.array([n_steps]), [stored_or_none(array) for array in arrays]


def _room_for_items(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Allocate the array for the first bad target of each item."""
    return np.empty(shape[0] * _kernel.parts(shape[1] * shape[2]), np.int64)
