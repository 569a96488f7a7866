"""What the losses share that compare one number with another: regression, hinge, binary cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _arguments, _reduction, _runtime
from ._signatures import Loss, LossAndGradient

_kernel = _runtime.load("pointwise")

LOSSES = ("mse", "mae", "huber", "quantile", "hinge", "squared_hinge", "bce_logits", "bce_probs")
_NANOSECONDS = {"bce_logits": 4.0, "bce_probs": 4.0}  # an element; 1 otherwise
_SIGNS = ("hinge", "squared_hinge")


def pointwise_loss(
    loss: str,
    name: str,
    predictions: Any,
    targets: Any,
    lengths: Any,
    mask: Any,
    parameter: _arguments.Parameter | None,
    reduction: str,
    normalizer: float | None,
    sample_weight: Any,
    return_grad: bool,
    grad_out: Any,
    num_threads: int | None,
) -> Loss | LossAndGradient:
    """Return the reduced loss, and its gradient if asked for; `name` is that of the predictions."""
    _reduction.check_reduction(reduction, _reduction.STEP_REDUCTIONS, normalizer)
    numbers = _arguments.as_predictions(name, predictions)
    steps = _arguments.as_steps(numbers.given.shape[:2], lengths, mask)
    weight = _arguments.as_weights("sample_weight", sample_weight, steps.batch)
    wanted = _arguments.as_comparison("targets", targets, numbers)
    number = _arguments.as_parameter(parameter, numbers.given.shape) if parameter else 0.0
    spread = None
    if isinstance(number, np.ndarray):
        spread = _arguments.as_runs(np.broadcast_to(number, numbers.given.shape), numbers.shape)
        number = 0.0
    scale = _reduction.sequence_scale(reduction, steps.counts(), normalizer, weight)
    work = numbers.given.size * _NANOSECONDS.get(loss, 1.0)
    threads = _runtime.threads_for(num_threads, work, numbers.given.size)
    if loss in _SIGNS or loss.startswith("bce"):
        _check_targets(loss, wanted, targets, numbers, steps, scale, threads)
    gradient = _gradient_for(numbers, return_grad, grad_out)
    if gradient.values is not None and np.may_share_memory(gradient.values, wanted):
        wanted = wanted.copy()
    arrays = [numbers.values, wanted, spread, gradient.values]
    shape, counted = numbers.shape, steps.lengths
    if steps.full and numbers.given.size and _reduction.is_uniform(reduction, weight):
        arrays, shape, counted, scale = _as_one(arrays, shape, counted, scale)
    batch, n_steps, n_features = shape
    partial = np.zeros((batch, _kernel.parts(n_steps * n_features)))
    losses = np.zeros((batch, n_steps)) if reduction == "none" else None
    if numbers.given.size:
        x, y, a, g = (None if array is None else _arguments.stored(array) for array in arrays)
        assert x is not None
        assert y is not None
        _kernel.pointwise(
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
            threads,
        )
    result = _reduction.reduce_steps(reduction, partial if losses is None else losses, scale, steps.shape)
    return result if gradient.values is None else (result, gradient.deliver(numbers.given))


def _check_targets(
    loss: str,
    wanted: NDArray[Any],
    targets: Any,
    numbers: _arguments.Numbers,
    steps: _arguments.Steps,
    scale: NDArray[np.float64],
    threads: int,
) -> None:
    batch, n_steps, n_features = numbers.shape
    if not wanted.size:
        return
    y, kind = _arguments.stored(wanted)
    room = np.empty(batch * _kernel.parts(n_steps * n_features), np.int64)
    signs = loss in _SIGNS
    everything = np.ones(batch)  # targets of weight 0 as well
    bad = _kernel.find_bad_target(y, kind, numbers.shape, steps.lengths, steps.mask, everything, signs, room, threads)
    if bad >= 0:
        where = np.unravel_index(bad, numbers.given.shape)
        allowed = "-1 or 1" if signs else "0 to 1"
        shown = _arguments.as_array("targets", targets)[where]
        raise ValueError(f"targets[{', '.join(map(str, where))}] is {shown}; allowed: {allowed}")


def _gradient_for(numbers: _arguments.Numbers, return_grad: bool, grad_out: Any) -> _arguments.Gradient:
    """Allocate the gradient, or check the array given for it; values are runs, as the kernel wants them."""
    floats = _arguments.native(numbers.given.dtype)
    if grad_out is not None:
        _arguments.check_grad_out(grad_out, numbers.given)
        runs = _arguments.as_runs(grad_out, numbers.shape)
        if floats == grad_out.dtype and (not runs.size or np.may_share_memory(runs, grad_out)):
            return _arguments.Gradient(runs, grad_out, True, False)
    if grad_out is None and not return_grad:
        return _arguments.Gradient(None, None, False, False)
    fresh = np.empty_like(numbers.given, dtype=floats, subok=False)
    if not np.may_share_memory(_arguments.as_runs(fresh, numbers.shape), fresh):
        fresh = np.empty(numbers.given.shape, floats)
    return _arguments.Gradient(_arguments.as_runs(fresh, numbers.shape), grad_out, False, False)


def _as_one(
    arrays: list[NDArray[Any] | None],
    shape: tuple[int, int, int],
    lengths: NDArray[np.int64],
    scale: NDArray[np.float64],
) -> tuple[list[NDArray[Any] | None], tuple[int, int, int], NDArray[np.int64], NDArray[np.float64]]:
    """Join the sequences of a batch to one, if their arrays follow each other in memory."""
    batch, n_steps, n_features = shape
    joined: list[NDArray[Any] | None] = []
    for array in arrays:
        one = None if array is None else array.reshape(1, 1, -1)
        if array is not None and one is not None and not np.may_share_memory(one, array):
            return arrays, shape, lengths, scale
        joined.append(one)
    return joined, (1, batch * n_steps, n_features), np.array([batch * n_steps]), scale[:1]
