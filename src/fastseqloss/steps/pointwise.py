"""Losses of one target for each prediction: preparation of arguments, call of the kernel, reduction of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core import threads as _threads
from .._core.arrays import as_array, stored_or_none
from .._core.engine import Options, StepSum, as_one, as_step_sum
from .._core.gradient import Gradient, as_gradient, finished
from .._core.levels import load
from .._core.threads import threads_for
from .._core.types import Loss, LossAndGradient
from .._kernels import short_calls
from .arguments import Numbers, as_comparison, as_parameter, as_predictions, as_runs, raise_if_bad
from .registry import LOSSES, NUMBERS, StepLoss

if TYPE_CHECKING:
    from .._kernels.steps import pointwise as _kernel
else:
    _kernel = load("steps.pointwise")


@dataclass
class _Pairs:
    """Predictions, targets and the other arguments of the kernel."""

    loss: StepLoss
    summed: StepSum
    numbers: Numbers
    gradient: Gradient
    targets: NDArray[Any]  # as passed
    wanted: NDArray[Any]  # in the form of the kernel
    parameter: float | NDArray[Any]  # a number, one for each feature, or an array in the form of the kernel
    more: tuple[float, float]
    scale: NDArray[np.float64]  # [B], or that of each step or feature
    threads: int
    shape: tuple[int, int, int]  # B, steps, features of a step; features that count by themselves are steps
    other: Gradient = field(default_factory=partial(Gradient, (), None))  # with respect to the targets or the variance


def pointwise_loss(
    name: str,
    predictions: Any,
    targets: Any,
    options: Options,
    parameter: Any = None,
    more: tuple[float, float] = (0.0, 0.0),
) -> Loss | LossAndGradient:
    """Return the reduced loss with this name in the registry, and its gradient if requested.

    `more` are the further parameters of its kernel.
    """
    loss = LOSSES[name]
    if loss.allowed == NUMBERS:
        found = short_calls.pointwise(
            _kernel.entry,
            _kernel.LOSSES[name],
            _kernel.ALLOWED[loss.targets],
            loss.nanoseconds,
            _threads.LEAST_WORK,
            predictions,
            targets,
            loss.parameter,
            parameter,
            more,
            options,
        )
        if found is not None:
            return found
    pairs = _prepare(loss, predictions, targets, options, parameter, more)
    losses, scale = _run(pairs)
    return pairs.summed.finish(losses, scale, pairs.gradient)


def loss_and_gradients(
    loss: StepLoss,
    arguments: Mapping[str, NDArray[Any]],
    options: Options,
    outs: Mapping[str, NDArray[Any] | None],
    parameter: Any,
    more: tuple[float, float],
) -> tuple[Loss, dict[str, NDArray[Any]]]:
    """Return a reduced loss, and the gradients in `outs`, which has arrays to write them to, or None.

    The arguments are the scores, the targets and, for a loss that has one, the variance: arrays of one shape. The loss
    has gradients by the scores, and by the last of these arguments.
    """
    (first, scores), *_, (last, given) = arguments.items()
    targets = arguments["targets"]
    options = replace(options, return_grad=first in outs, grad_out=outs.get(first))
    pairs = _prepare(loss, scores, targets, options, parameter, more)
    if last != "targets":
        further = as_predictions(last, given)
        if given.shape != scores.shape:
            raise ValueError(f"{last} has shape {given.shape}; allowed: {scores.shape}")
        pairs.parameter = further.values
        if loss.allowed_parameter != NUMBERS:
            _check_all(pairs, loss.allowed_parameter, further.values, last, given)
    if last in outs:
        pairs.other = as_gradient(as_predictions(last, given), True, outs[last])
    losses, scale = _run(pairs)
    value = pairs.summed.reduce(losses, scale)
    found = zip((first, last), finished((pairs.gradient, pairs.other)), strict=True)
    return value, {name: gradient for name, gradient in found if gradient is not None}


def _prepare(
    loss: StepLoss, predictions: Any, targets: Any, options: Options, parameter: Any, more: tuple[float, float]
) -> _Pairs:
    numbers = as_predictions(loss.scores, predictions)
    shape = numbers.given.shape
    summed = as_step_sum(shape[:2], options, shape[2:])
    targets = as_array("targets", targets)
    wanted = as_comparison("targets", targets, numbers)
    number = as_parameter(loss.parameter, parameter, shape) if loss.parameter else 0.0
    scale = summed.plain_scale()
    if isinstance(number, np.ndarray):
        number = as_runs(np.broadcast_to(number, shape), numbers.shape)
    threads = threads_for(options.num_threads, numbers.given.size * loss.nanoseconds, numbers.given.size)
    gradient = as_gradient(numbers, options.return_grad, options.grad_out)
    form = (numbers.shape[0], numbers.shape[1] * numbers.shape[2], 1) if summed.of_features else numbers.shape
    return _Pairs(loss, summed, numbers, gradient, targets, wanted, number, more, scale, threads, form)


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
        raise_if_bad(bad, allowed, name, given)


def _run(pairs: _Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check values and call the kernel, unless the batch is empty.

    Returns losses or partial sums, and the scale of each sequence.
    """
    if pairs.loss.allowed != NUMBERS:
        _check_all(pairs, pairs.loss.allowed, pairs.numbers.values, pairs.loss.scores, pairs.numbers.given)
    summed, number, wanted, scale = pairs.summed, pairs.parameter, pairs.wanted, pairs.scale
    given, gradient = pairs.numbers.given, pairs.gradient.values
    spread = None
    if isinstance(number, np.ndarray):
        spread, number = number, 0.0
    if gradient is not None and np.may_share_memory(gradient, wanted):
        wanted = wanted.copy()
    together = len(given) > 1 and given.size > 0 and summed.steps.full and summed.uniform
    taken = [pairs.numbers.values, wanted, spread, gradient, pairs.other.values]
    shape, lengths, arrays = _laid_out(pairs, taken, together)
    scale = scale[:1] if together else scale
    partial = np.zeros((shape[0], _kernel.parts(shape[1] * shape[2])))
    factors = scale if summed.of_each else None
    losses = np.zeros(shape[:2]) if factors is not None or summed.reduction == "none" else None
    if given.size:
        (x, x_kind), (y, y_kind), (a, a_kind), (g, _), (other, other_kind) = arrays
        assert x is not None
        assert y is not None
        bad = _kernel.pointwise(
            _kernel.LOSSES[pairs.loss.name],
            x,
            x_kind,
            y,
            y_kind,
            a=a,
            a_kind=a_kind,
            parameter=number,
            more=pairs.more,
            shape=shape,
            lengths=lengths,
            mask=summed.steps.mask,
            scale=scale if factors is None else np.ones(len(scale)),
            factors=factors,
            partial=partial,
            steps=losses,
            grad=g,
            other=other,
            other_kind=other_kind,
            allowed=_kernel.ALLOWED[pairs.loss.targets],
            before=pairs.gradient.direct or pairs.other.direct,
            bad=None if pairs.loss.targets == NUMBERS else _room_for_items(shape),
            num_threads=pairs.threads,
        )
        raise_if_bad(bad, pairs.loss.targets, "targets", pairs.targets)
    return (partial if losses is None else losses), scale


def _laid_out(
    pairs: _Pairs, arrays: list[NDArray[Any] | None], together: bool
) -> tuple[tuple[int, int, int], NDArray[np.int64], list[tuple[NDArray[Any] | None, int]]]:
    """Return the shape, the lengths and the arrays for the kernel, as one sequence if `together`.

    The sums of one sequence do not depend on the memory layout of the arrays.
    """
    shape = pairs.shape
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
