"""What the losses share that compare one number with another: regression, hinge, binary cross-entropy."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_weights, native, stored
from .._core.foreign import as_output
from .._core.gradient import Gradient, check_grad_out
from .._core.levels import load
from .._core.options import flag
from .._core.reduction import STEP_REDUCTIONS, check_reduction, is_uniform, reduce_steps, sequence_scale
from .._core.steps import (
    Numbers,
    Parameter,
    Steps,
    as_comparison,
    as_parameter,
    as_predictions,
    as_runs,
    as_steps,
    shown,
)
from .._core.threads import threads_for
from .._core.types import Loss, LossAndGradient

if TYPE_CHECKING:
    from .._kernels.steps import pointwise as _kernel
else:
    _kernel = load("steps.pointwise")


LOSSES = ("mse", "mae", "huber", "quantile", "hinge", "squared_hinge", "bce_logits", "bce_probs")


_NANOSECONDS = {"bce_logits": 1.5, "bce_probs": 2.0}  # an element; 0.5 otherwise


# What the kernel allows as targets: -1 or 1, 0 to 1; as predictions: probabilities; anything otherwise.
_SIGNS, _SHARES, _PROBABILITIES = 1, 2, 3


_ALLOWED = {"hinge": _SIGNS, "squared_hinge": _SIGNS, "bce_logits": _SHARES, "bce_probs": _SHARES}


def pointwise_loss(
    loss: str,
    name: str,
    predictions: Any,
    targets: Any,
    lengths: Any,
    mask: Any,
    parameter: Parameter | None,
    reduction: str,
    normalizer: float | None,
    sample_weight: Any,
    return_grad: bool,
    grad_out: Any,
    num_threads: int | None,
) -> Loss | LossAndGradient:
    """Return the reduced loss, and its gradient if asked for; `name` is that of the predictions."""
    normalizer = check_reduction(reduction, STEP_REDUCTIONS, normalizer)
    numbers = as_predictions(name, predictions)
    steps = as_steps(numbers.given.shape[:2], lengths, mask)
    weight = as_weights("sample_weight", sample_weight, steps.batch)
    targets = as_array("targets", targets)
    wanted = as_comparison("targets", targets, numbers)
    number = as_parameter(parameter, numbers.given.shape) if parameter else 0.0
    spread = None
    if isinstance(number, np.ndarray):
        spread = as_runs(np.broadcast_to(number, numbers.given.shape), numbers.shape)
        number = 0.0
    scale = sequence_scale(reduction, steps.counts(), normalizer, weight, steps.batch)
    work = numbers.given.size * _NANOSECONDS.get(loss, 0.5)
    threads = threads_for(num_threads, work, numbers.given.size)
    gradient = _gradient_for(numbers, return_grad, grad_out)
    allowed = _ALLOWED.get(loss, 0)
    if loss == "bce_probs":
        _find_bad(_PROBABILITIES, numbers.values, name, numbers.given, numbers, steps, threads)
    if allowed and gradient.direct:  # nothing may be written there before all targets are known to be good
        _find_bad(allowed, wanted, "targets", targets, numbers, steps, threads)
        allowed = 0
    if gradient.values is not None and np.may_share_memory(gradient.values, wanted):
        wanted = wanted.copy()
    arrays = [numbers.values, wanted, spread, gradient.values]
    shape, counted = numbers.shape, steps.lengths()
    if steps.full and numbers.given.size and is_uniform(reduction, weight):
        arrays, shape, counted, scale = _as_one(arrays, shape, scale)
    batch, n_steps, n_features = shape
    partial = np.zeros((batch, _kernel.parts(n_steps * n_features)))
    losses = np.zeros((batch, n_steps)) if reduction == "none" else None
    room = np.empty(partial.size, np.int64) if allowed else None
    if numbers.given.size:
        x, y, a, g = (None if array is None else stored(array) for array in arrays)
        assert x is not None
        assert y is not None
        bad = _kernel.pointwise(
            LOSSES.index(loss),
            *x,
            *y,
            a and a[0],
            number,
            shape,
            counted,
            steps.mask,
            scale,
            partial,
            losses,
            g and g[0],
            allowed,
            room,
            threads,
        )
        _check(allowed, bad, "targets", targets)
    result = reduce_steps(reduction, partial if losses is None else losses, scale, steps.shape)
    return result if gradient.values is None else (result, gradient.deliver(numbers.given))


def _find_bad(
    allowed: int,
    values: NDArray[Any],
    name: str,
    given: NDArray[Any],
    numbers: Numbers,
    steps: Steps,
    threads: int,
) -> None:
    """Raise if there is a value that the loss does not allow, one of weight 0 too."""
    arrays: list[NDArray[Any] | None] = [values]
    shape, lengths = numbers.shape, steps.lengths()
    if not values.size:
        return
    if steps.full:
        arrays, shape, lengths, _ = _as_one(arrays, shape, np.ones(1))
    y = stored(arrays[0]) if arrays[0] is not None else None
    assert y is not None
    room = np.empty(shape[0] * _kernel.parts(shape[1] * shape[2]), np.int64)
    bad = _kernel.find_bad_target(*y, shape, lengths, steps.mask, allowed, room, threads)
    _check(allowed, bad, name, given)


def _check(allowed: int, bad: int, name: str, given: NDArray[Any]) -> None:
    if bad >= 0:
        said = "-1 or 1" if allowed == _SIGNS else "0 to 1"
        said += ", or input='logits'" if allowed == _PROBABILITIES else ""
        raise ValueError(f"{shown(name, given, bad)}; allowed: {said}")


def _gradient_for(numbers: Numbers, return_grad: bool, grad_out: Any) -> Gradient:
    """Allocate the gradient, or check the array given for it; values are runs, as the kernel wants them."""
    floats = native(numbers.given.dtype)
    return_grad = flag("return_grad", return_grad)
    if grad_out is not None:
        grad_out = as_output(grad_out)
        check_grad_out(grad_out, numbers.given)
        runs = as_runs(grad_out.view(np.ndarray), numbers.shape)
        if floats == grad_out.dtype and (not runs.size or np.may_share_memory(runs, grad_out)):
            return Gradient(runs, grad_out, True, False)
    if grad_out is None and not return_grad:
        return Gradient(None, None, False, False)
    fresh = np.empty_like(numbers.given, dtype=floats, subok=False)
    if not np.may_share_memory(as_runs(fresh, numbers.shape), fresh):
        fresh = np.empty(numbers.given.shape, floats)
    return Gradient(as_runs(fresh, numbers.shape), grad_out, False, False)


def _as_one(
    arrays: list[NDArray[Any] | None],
    shape: tuple[int, int, int],
    scale: NDArray[np.float64],
) -> tuple[list[NDArray[Any] | None], tuple[int, int, int], NDArray[np.int64], NDArray[np.float64]]:
    """Join the sequences of a batch to one, whose sums do not depend on how the arrays lie in memory."""
    batch, n_steps, n_features = shape
    joined = [array.reshape(1, 1, -1) if array is not None and _is_run(array) else array for array in arrays]
    return joined, (1, batch * n_steps, n_features), np.array([batch * n_steps]), scale[:1]


def _is_run(array: NDArray[Any]) -> bool:
    """Return True if the elements are evenly spaced, first to last."""
    axes = [(stride, n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1]
    return all(outer == stride * n for (outer, _), (stride, n) in pairwise(axes))
