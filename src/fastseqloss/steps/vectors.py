"""Losses of a vector of scores and a vector of targets at each step: preparation of arguments, call of the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_floats, is_bfloat16, kernel_ready, stored
from .._core.engine import Options, Rows, as_class_targets, as_step_sum, threads_for_rows
from .._core.gradient import Gradient, as_gradient
from .._core.levels import load
from .._core.messages import cause
from .._core.options import InputKind
from .._core.scores import Scores, StepScores, as_step_scores, as_step_vectors
from .._core.types import Loss, LossAndGradient
from .arguments import as_distributions, as_stored, check_no_ignore_index, raise_if_bad
from .registry import DISTRIBUTIONS, INDICATORS, NUMBERS, PROBABILITIES, VECTORS
from .rows import ROW_COST, check_shares
from .targets import as_request

if TYPE_CHECKING:
    from .._kernels.steps import rows as _kernel
else:
    _kernel = load("steps.rows")

_find_bad_share = load("steps.classification").find_bad_share
_CODES = {name: code for code, name in _kernel.LOSSES.items()}


class Form(NamedTuple):
    """The options of a loss of vectors, as its kernel takes them."""

    option: float = 1.0  # margin, or reciprocal of the temperature
    scores: InputKind = InputKind.LOGITS  # kinds of the numbers of a divergence
    targets: InputKind = InputKind.PROBS
    reverse: bool = False  # the scores are the first argument of a divergence


def vector_loss(
    name: str,
    scores: Any,
    targets: Any,
    options: Options,
    form: Form = Form(),  # noqa: B008
    ignore_index: Any = None,
) -> Loss | LossAndGradient:
    """Return the reduced loss with this name in the registry, and its gradient if requested.

    Targets may be classes if there is an `ignore_index`.
    """
    return run_rows(name, _prepare(name, scores, targets, options, form, ignore_index), form)


def vector_loss_and_gradients(
    name: str,
    scores: Any,
    targets: Any,
    options: Options,
    with_respect_to: Any,
    result: Any,
    form: Form = Form(),  # noqa: B008
    ignore_index: Any = None,
) -> tuple[Loss, Any]:
    """Return a reduced loss, and a `result` of the gradients by scores and targets that are requested."""
    request = as_request(result, scores, targets, with_respect_to, options.grad_out)
    first, outs = result._fields[0], request.outs
    options = replace(options, return_grad=first in outs, grad_out=outs.get(first))
    rows = _prepare(name, request.scores, request.targets, options, form, ignore_index)
    other = Gradient((), None)
    if "targets" in outs:
        vectors = rows.dense[1]
        assert vectors is not None
        other = as_gradient(StepScores(vectors, request.targets), True, outs["targets"])
        rows.dense = (other.values, vectors)
    found: Any = run_rows(name, rows, form)
    value, gradient = (found, None) if rows.gradient.values is None else found
    return value, result(gradient, None if other.values is None else other.finish())


def run_rows(name: str, rows: Rows, form: Form) -> Loss | LossAndGradient:
    """Call the kernel of a loss of rows that have been prepared; the last array of `dense` is that of the targets."""
    rows.dense = rows.dense or (None, None)
    return rows.run(_kernel.row_losses, _CODES[name], *form)


def _prepare(name: str, scores: Any, targets: Any, options: Options, form: Form, ignore_index: Any) -> Rows:
    """Check the arguments."""
    loss = VECTORS[name]
    of_numbers = loss.targets == NUMBERS
    checked = as_step_vectors(loss.scores, scores, "D") if of_numbers else as_step_scores(loss.scores, scores)
    if checked.values.itemsize == 2:
        wide = np.float32 if name == "kl_divergence" else np.float64
        checked = StepScores(checked.values.astype(wide, order="C"), checked.given)
    summed = as_step_sum(checked.given.shape[:-1], options)
    targets = as_array("targets", targets)
    vectors = None
    if ignore_index is None or targets.dtype.kind == "f" or is_bfloat16(targets.dtype):
        vectors = _as_wide(_as_vectors(targets, checked, loss.targets, ignore_index), name)
        found = as_class_targets(summed, np.zeros(summed.steps.shape, np.int64), 1, -1, None)
    else:
        found = as_class_targets(summed, targets, checked.values.shape[-1], ignore_index, None)
    gradient = as_gradient(checked, options.return_grad, options.grad_out)
    if vectors is not None and gradient.values is not None and np.may_share_memory(gradient.values, vectors):
        vectors = vectors.copy()
    rows = Rows(
        summed=summed,
        scores=checked,
        gradient=gradient,
        targets=found.classes,
        scale=found.scale,
        class_weight=None,
        losses=found.classes.view(np.float64),  # shares the memory of the targets, as in `prepare_rows`
        threads=threads_for_rows(options.num_threads, checked, loss.nanoseconds, ROW_COST),
        dense=(None, vectors),
    )
    if form.scores == InputKind.PROBS:
        check_shares(rows, _find_bad_share, checked.values, PROBABILITIES, loss.scores, checked.given)
    if vectors is not None and loss.targets == DISTRIBUTIONS and form.targets == InputKind.PROBS:
        check_shares(rows, _find_bad_share, vectors, DISTRIBUTIONS, "targets", targets)
    if vectors is not None and loss.targets == INDICATORS and vectors.size:
        raise_if_bad(_kernel.find_bad_indicator(*stored(vectors), rows.targets), INDICATORS, "targets", targets)
    return rows


def _as_vectors(targets: NDArray[Any], scores: Scores, kind: str, ignore_index: Any) -> NDArray[Any]:
    """Check numbers of the shape of the scores; return them in the form of the kernel."""
    if ignore_index is not None:
        check_no_ignore_index(ignore_index)
        return as_distributions(targets, scores)
    if targets.shape != scores.given.shape:
        raise ValueError(f"targets has shape {targets.shape}; allowed: {scores.given.shape}{cause('targets', targets)}")
    numbers = as_floats("targets", targets) if kind == DISTRIBUTIONS else as_stored("targets", targets)
    return kernel_ready(numbers.reshape(scores.values.shape))


def _as_wide(vectors: NDArray[Any], name: str) -> NDArray[Any]:
    """Return numbers that the kernel reads: of float32, float64 or uint8."""
    if vectors.dtype in (np.float32, np.float64, np.uint8):
        return vectors
    return vectors.astype(np.float32 if name == "kl_divergence" else np.float64, order="C")
