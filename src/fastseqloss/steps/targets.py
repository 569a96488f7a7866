"""Gradients by predictions and targets of losses at every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import FLOATS, as_array, as_floats
from .._core.engine import Options
from .._core.gradient import as_outputs
from .._core.options import as_names
from .._core.types import CrossEntropyGradient, Loss, RegressionGradient
from .pointwise import loss_and_gradients, pointwise_loss
from .registry import LOSSES, StepLoss


class Request(NamedTuple):
    """The gradients that a call requests: of which arguments, and the arrays to write them to."""

    scores: NDArray[Any]
    targets: NDArray[Any]
    outs: dict[str, NDArray[Any] | None]  # by the names of the arguments, without those not requested

    def stored(self, name: str, slopes: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient by an argument in its dtype, in the array given for it."""
        out = self.outs[name]
        with np.errstate(over="ignore", under="ignore"):
            if out is None:
                given = self.targets if name == "targets" else self.scores
                return slopes.astype(given.dtype, copy=False)
            np.copyto(out, slopes, casting="unsafe")
        return out


def as_request(result: Any, scores: Any, targets: Any, with_respect_to: Any, grad_out: Any) -> Request:
    """Check the names of the arguments to differentiate by, and the arrays given for their gradients."""
    fields = result._fields
    names = as_names("with_respect_to", with_respect_to, fields)
    arguments = {name: as_array(name, value) for name, value in zip(fields, (scores, targets), strict=True)}
    check_differentiable(arguments, names)
    outs = as_outputs(arguments, names, grad_out, result)
    return Request(arguments[fields[0]], arguments["targets"], {name: outs[name] for name in names})


def check_differentiable(arguments: Mapping[str, NDArray[Any]], names: Collection[str]) -> None:
    """Raise TypeError for arguments that are not floats; targets may be integers unless they are in `names`."""
    for name, array in arguments.items():
        if name == "targets" and name in names:
            _check_targets(array)
        elif name != "targets":
            as_floats(name, array)


def _check_targets(targets: NDArray[Any]) -> None:
    """Raise TypeError for targets that have no gradient."""
    if targets.dtype.kind in "iub":
        raise TypeError(
            f"targets has dtype {targets.dtype}; allowed: {FLOATS}, because with_respect_to has 'targets', and "
            "integers, such as class labels, have no gradient"
        )
    as_floats("targets", targets)


def cross_entropy_and_gradients(
    request: Request,
    options: Options,
    compute: Callable[[Options], Any],
    by_targets: Callable[[NDArray[Any], Options], NDArray[Any]],
) -> tuple[Loss, CrossEntropyGradient]:
    """Return a loss and the gradients that are requested.

    `compute` returns the loss alone, or with its gradient by the logits; `by_targets` returns the gradient by the
    targets, given logits and options that request no gradient.
    """
    plain = replace(options, return_grad=False, grad_out=None)
    value, first, second = compute(plain), None, None
    slopes = by_targets(request.scores, plain) if "targets" in request.outs else None
    if "logits" in request.outs:  # last, because it may be written over the logits
        _, first = compute(replace(plain, return_grad=True, grad_out=request.outs["logits"]))
    if slopes is not None:
        second = request.stored("targets", slopes)
    return value, CrossEntropyGradient(first, second)


def regression_and_gradients(
    name: str, request: Request, options: Options, parameter: Any
) -> tuple[Loss, RegressionGradient]:
    """Return a loss of the differences of predictions and targets, and the gradients that are requested."""
    predictions, targets, outs = request
    options = replace(options, return_grad=True, grad_out=None)
    result: Any = pointwise_loss(name, predictions, targets, options, parameter)
    value, slopes = result
    if "targets" in outs and predictions.itemsize < 8 and predictions.dtype != targets.dtype:
        wide = predictions.astype(np.promote_types(np.float32, targets.dtype))
        slopes = gradient_of(pointwise_loss(name, wide, targets, options, parameter))
    first = request.stored("predictions", slopes) if "predictions" in outs else None
    second = None
    if "targets" in outs:  # subtracted from 0, which gives no -0
        second = request.stored("targets", np.subtract(np.zeros((), slopes.dtype), slopes))
    return value, RegressionGradient(first, second)


def gradients_of_pairs(
    name: str,
    result: Any,
    request: Request,
    options: Options,
    parameter: Any = None,
    more: tuple[float, float] = (0.0, 0.0),
) -> tuple[Loss, Any]:
    """Return a loss whose kernel has a gradient by the targets, and a `result` of the gradients that are requested."""
    first, targets = result._fields
    arguments = {first: request.scores, targets: request.targets}
    options = replace(options, return_grad=False, grad_out=None)
    value, gradients = loss_and_gradients(LOSSES[name], arguments, options, request.outs, parameter, more)
    return value, result(gradients.get(first), gradients.get(targets))


def gaussian_and_gradients(
    loss: StepLoss,
    arguments: Mapping[str, NDArray[Any]],
    options: Options,
    outs: Mapping[str, NDArray[Any] | None],
    more: tuple[float, float],
) -> tuple[Loss, dict[str, NDArray[Any]]]:
    """Return a loss of the differences of predictions and targets with a variance, and the gradients in `outs`."""
    predictions, variance, targets = arguments["predictions"], arguments["variance"], arguments["targets"]
    given = {"predictions": predictions, "targets": targets, "variance": variance}
    if "targets" not in outs:
        return loss_and_gradients(loss, given, options, outs, None, more)
    # Minus the gradient by predictions of at least the precision of the targets.
    wide = predictions.astype(np.promote_types(np.float32, predictions.dtype))
    wide = wide.astype(np.promote_types(wide.dtype, np.float64 if targets.itemsize == 8 else np.float32))
    _, gradients = loss_and_gradients(loss, given | {"predictions": wide}, options, {"predictions": None}, None, more)
    slopes = np.subtract(np.zeros((), wide.dtype), gradients["predictions"])
    others = {name: out for name, out in outs.items() if name != "targets"}
    value, found = loss_and_gradients(loss, given, options, others, None, more)
    found["targets"] = Request(predictions, targets, dict(outs)).stored("targets", slopes)
    return value, found


def gradient_of(result: Any) -> NDArray[Any]:
    """Return the gradient of a loss and its gradient."""
    gradient: NDArray[Any] = result[1]
    return gradient
