"""Losses of NumPy arrays, called with tensors of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._adapters.cotangents import arrays_for, shared_gradients, shared_tangents
from .arguments import DTYPES, Tensors, as_numbers, memory

Arrays = list[Any]  # of the scores, None for one that was not given

_LARGE = 2.0**30  # larger cotangents could magnify gradients that underflow in float32
_GREATEST = float(np.finfo(np.float32).max)
_NUMPY: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


@dataclass(slots=True)
class Loss:
    """A loss of NumPy arrays, with all of its arguments except the scores; arrays have the batch axis first.

    The function is an attribute of its module, by whose names compiled programs find it. Its losses before they are
    reduced have the axes of the first scores, batch first, without the last `core_ndim`: compiled programs need
    to know the shape of losses with ``reduction="none"`` before there are any.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]  # of the scores
    constants: dict[str, Any]
    options: dict[str, Any]
    swapped: bool = False  # the scores have the batch axis second
    late: bool = False  # the gradient needs the cotangent of each loss, known in the backward pass
    core_ndim: int | None = None
    wanted: tuple[bool, ...] | None = None  # True for each of the scores whose gradient is computed; all by default

    @property
    def called(self) -> str:
        """The function and its reduction, as messages name them."""
        reduction = f" with reduction={self.options['reduction']!r}" if "reduction" in self.options else ""
        return self.function.__name__.removeprefix("_") + reduction

    def bound(self, arrays: Arrays) -> partial[Any]:
        """Return the loss of these scores, to be called."""
        return partial(self.function, **{self.names[0]: arrays[0]}, **self._keywords(arrays))

    def value(self, arrays: Arrays) -> Any:
        """Return the loss of scores."""
        return self.function(arrays[0], **self._keywords(arrays))

    def value_and_gradients(self, arrays: Arrays, out: Any = None) -> tuple[Any, Arrays]:
        """Return the loss and its gradients by scores, with the batch axis first; the first one may be put in `out`."""
        if out is None and "with_respect_to" not in self.options:
            out = arrays_for(dict(zip(self.names, arrays, strict=True)), self._wanted)
        value, gradients = self.function(arrays[0], **self._keywords(arrays), return_grad=True, grad_out=out)
        # A tuple may end with the gradient by targets, which are not among the scores unless they have one.
        return value, list(gradients)[: len(self.names)] if isinstance(gradients, tuple) else [gradients]

    def late_gradients(self, arrays: Arrays, cotangents: NDArray[Any]) -> Sequence[Any]:
        """Return the gradients of the sum of the losses times `cotangents`, batch first."""
        return shared_gradients(self.bound(arrays), cotangents.astype(np.float64), self._wanted)

    @property
    def _wanted(self) -> dict[str, bool] | None:
        return None if self.wanted is None else dict(zip(self.names, self.wanted, strict=True))

    def _keywords(self, arrays: Arrays) -> dict[str, Any]:
        keywords = {**self.constants, **self.options}
        for name, array in zip(self.names[1:], arrays[1:], strict=True):
            keywords[name] = array
        return keywords

    def arrays(self, scores: Tensors) -> Arrays:
        """Return the memory of scores, with the batch axis first."""
        arrays: Arrays = [None if x is None else memory(name, x) for name, x in zip(self.names, scores, strict=True)]
        if self.swapped:
            arrays[0] = arrays[0].swapaxes(0, 1)
        return arrays

    def differentiated(self, scores: Tensors, wide: bool = False) -> tuple[Any, Arrays]:
        """Return the loss and its gradients by scores, batch first, in the dtype of gradients; float64 if `wide`."""
        converted = _converted(self, scores, wide)
        arrays = self.arrays(converted)
        first: Any = converted[0]
        # A copy of the only scores may be overwritten by their gradient.
        own = len(arrays) == 1 and first.dtype != scores[0].dtype  # type: ignore[union-attr]
        return self.value_and_gradients(arrays, arrays[0] if own else None)

    def shape(self, first: Tensor) -> torch.Size:
        """Return the shape of the loss of the first scores."""
        reduction = self.options.get("reduction", "per_sequence")
        if reduction not in ("none", "per_sequence", "step_mean"):
            return torch.Size(())
        if self.core_ndim is None:
            raise NotImplementedError(f"{self.called} has no shape without the losses themselves")
        shape = list(first.shape)
        if self.swapped:
            shape[0], shape[1] = shape[1], shape[0]
        each = shape[: len(shape) - self.core_ndim]
        return torch.Size({"per_sequence": each[:1], "step_mean": each[1:]}.get(reduction, each))

    @property
    def ahead(self) -> int:
        """Return the number of axes of the first scores, batch first, before those of the loss."""
        return int(self.options.get("reduction") == "step_mean")


def _converted(loss: Loss, scores: Tensors, wide: bool = False) -> list[Tensor | None]:
    """Return scores in the dtype of their gradients; float64 if `wide`."""
    converted: list[Tensor | None] = []
    for name, x in zip(loss.names, scores, strict=True):
        try:
            converted.append(None if x is None else x.detach().to(torch.float64 if wide else DTYPES[x.dtype]))
        except RuntimeError as error:
            shape = tuple(x.shape)  # type: ignore[union-attr]
            raise MemoryError(f"{name} has shape {shape}: no memory holds a copy of it") from error
    return converted


def as_loss(loss: Any, dtype: torch.dtype) -> Tensor:
    """Return the loss of scores of a dtype as a CPU tensor, on any default device of PyTorch."""
    wanted = _NUMPY[DTYPES[dtype]]
    if not isinstance(loss, np.ndarray) and abs(loss) <= _GREATEST:
        return torch.from_numpy(np.array(loss, wanted))
    with np.errstate(over="ignore"):  # a loss beyond the range of float32 is inf
        return torch.from_numpy(np.asarray(loss, wanted))


def as_gradient(loss: Loss, k: int, gradient: Any) -> Any:
    """Return the gradient by scores k as a tensor with their axes, or None."""
    if gradient is None:
        return None
    return torch.from_numpy(gradient.swapaxes(0, 1) if loss.swapped and not k else gradient)


def as_gradients(loss: Loss, gradients: Sequence[Any]) -> list[Any]:
    """Return gradients as tensors with the axes of the scores."""
    return [as_gradient(loss, k, gradient) for k, gradient in enumerate(gradients)]


def spread(loss: Loss, cotangent: Tensor, k: int, ndim: int) -> Tensor:
    """Return the cotangent of each loss with the axes of the gradient by scores k, which has `ndim`."""
    if not cotangent.ndim:
        return cotangent
    ones = (1,) * (ndim - cotangent.ndim)
    if (loss.swapped and not k) or loss.ahead:
        return cotangent.reshape(1, *cotangent.shape, *ones[1:])
    return cotangent.reshape(*cotangent.shape, *ones)


def along(loss: Loss, gradients: Tensors, tangents: Tensors, ndim: int) -> Tensor:
    """Return the derivatives of losses of `ndim` axes along tangents of the scores, in float64."""
    total: Any = 0
    for k, (gradient, tangent) in enumerate(zip(gradients, tangents, strict=True)):
        if gradient is not None and tangent is not None:
            product = gradient * tangent
            first = product.transpose(0, 1) if loss.swapped and not k else product
            axes = (*range(loss.ahead), *range(loss.ahead + ndim, first.ndim)) if ndim else tuple(range(first.ndim))
            total = total + (first.sum(axes, dtype=torch.float64) if axes else first)  # of no axes: of all
    derivatives: Tensor = total
    return derivatives


def needs_float64(cotangents: NDArray[Any] | None) -> bool:
    """Return True if cotangents may magnify gradients that underflow in float32."""
    if cotangents is None or cotangents.dtype != np.float32:
        return False
    if not cotangents.ndim:
        return _LARGE < abs(float(cotangents)) < math.inf
    return bool(((np.abs(cotangents) > _LARGE) & np.isfinite(cotangents)).any())


def late_gradients(loss: Loss, scores: Tensors, cotangents: NDArray[Any]) -> list[Any]:
    """Return the gradients of the sum of the losses times `cotangents`, one for each."""
    return as_gradients(loss, loss.late_gradients(loss.arrays(_converted(loss, scores)), cotangents))


def late_tangents(loss: Loss, scores: Tensors, tangents: Tensors) -> Tensor:
    """Return the derivatives of the losses along tangents of the scores."""
    arrays = [None if tangent is None else as_numbers(tangent.to(torch.float64)) for tangent in tangents]
    if any(array is None and tangent is not None for array, tangent in zip(arrays, tangents, strict=True)):
        raise RuntimeError(f"{loss.called} has no batched tangents; allowed: one for each of the scores")
    first: Any = scores[0]
    compute = loss.bound(loss.arrays(_converted(loss, scores)))
    return as_loss(shared_tangents(compute, arrays, tuple(loss.shape(first))), first.dtype)
