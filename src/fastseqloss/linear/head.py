"""The arguments of a linear layer whose scores a loss reads, checked; their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_floats, kernel_ready
from .._core.gradient import Differentiable, Gradient, as_gradients_of, finished
from .._core.messages import outline
from .._core.options import as_integer, as_number
from .._core.scores import StepScores, as_step_vectors
from .._core.types import Loss

# Bounds of factors: their products with finite scores of float32, and their reciprocals, are finite.
_LEAST, _MOST = 1e-30, 1e30


class LinearGradient(NamedTuple):
    """Gradients of a loss of a linear layer's scores, each of the shape and dtype of the argument of the same name.

    Attributes
    ----------
    hidden : ndarray [..., D], or None if `grad_out` was given without it
    weight : ndarray [V, D], or None if `grad_out` was given without it
    bias : ndarray [V], or None without a bias or if `grad_out` was given without it
    """

    hidden: NDArray[Any] | Any
    weight: NDArray[Any] | Any
    bias: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


LinearGradientOut = LinearGradient | tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]
LossAndLinearGradient = tuple[Loss, LinearGradient]


@dataclass(slots=True)
class Parameter:
    """A parameter of the layer in the type of the arithmetic."""

    values: NDArray[Any]
    given: NDArray[Any]

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return an array for the gradient, which has any strides; None for the parameter itself, read to the end."""
        return None if np.may_share_memory(array, self.values) else array

    def empty(self) -> NDArray[Any]:
        """Allocate an array for the gradient."""
        return np.empty(self.values.shape, self.values.dtype)


@dataclass(slots=True)
class Head:
    """A linear layer: the scores of the flattened steps n are softcap(scale (hidden_n W^T + bias))."""

    hidden: StepScores  # [B, R, D], in the dtype that was passed
    weight: Parameter  # [V, D]
    bias: Parameter | None  # [V], float64
    scale: float
    softcap: float | None
    chunk: int | None  # rows of scores that are held at a time

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of scores and of the arithmetic."""
        return self.weight.values.dtype

    @property
    def n_classes(self) -> int:
        """Return V."""
        return len(self.weight.values)

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the shape of the steps, as they were passed."""
        return self.hidden.given.shape[:-1]


@dataclass(slots=True)
class HeadGradients:
    """Gradients of a linear layer, whose `values` are None where they are not wanted."""

    hidden: Gradient
    weight: Gradient
    bias: Gradient
    requested: bool  # the caller gets a tuple of gradients

    @property
    def wanted(self) -> bool:
        """Return True if there is any gradient to compute."""
        return any(gradient.values is not None for gradient in (self.hidden, self.weight, self.bias))

    def beside(self, loss: Loss) -> Loss | LossAndLinearGradient:
        """Return the loss, with the gradients if they were requested."""
        if not self.requested:
            return loss
        return loss, LinearGradient(*finished((self.hidden, self.weight, self.bias)))


NO_GRADIENTS = HeadGradients(Gradient((), None), Gradient((), None), Gradient((), None), requested=False)


def as_head(hidden: StepScores, weight: Any, bias: Any, scale: Any, softcap: Any, chunk: Any) -> Head:
    """Check the parameters of a linear layer on hidden states, in half precision widened once."""
    n_features = hidden.values.shape[-1]
    matrix = _as_parameter("weight", weight)
    if matrix.ndim != 2 or matrix.shape[1] != n_features:
        shape = hidden.given.shape
        cause = ", so pass weight.T" if matrix.ndim == 2 and len(matrix) == n_features else ""
        raise ValueError(
            f"weight has shape {matrix.shape}; allowed: [V, {n_features}], as hidden has shape {shape}{cause}"
        )
    if not len(matrix):
        raise ValueError(f"weight has shape {matrix.shape}: no classes; allowed: 1 or more")
    offset = None if bias is None else _as_parameter("bias", bias)
    if offset is not None and offset.shape != (len(matrix),):
        raise ValueError(f"bias has shape {offset.shape}; allowed: ({len(matrix)},), a number for each class")
    factor = as_number("scale", scale, _LEAST, _MOST)
    cap = None if softcap is None else as_number("softcap", softcap, _LEAST, _MOST)
    rows = None if chunk is None else as_integer("chunk", chunk)
    if rows is not None and rows < 1:
        raise ValueError(f"chunk is {rows}; allowed: 1 or more")
    dtype = np.dtype(np.float64 if 8 in (hidden.values.itemsize, matrix.itemsize) else np.float32)
    with np.errstate(all="ignore"):
        return Head(
            hidden,
            Parameter(_as_matrix(matrix, dtype), matrix),
            None if offset is None else Parameter(offset.astype(np.float64), offset),
            factor,
            cap,
            rows,
        )


def as_step_head(hidden: Any, weight: Any, bias: Any, scale: Any, softcap: Any, chunk: Any) -> Head:
    """Check a linear layer on hidden states [..., D] with any number of axes of steps."""
    return as_head(as_step_vectors("hidden", hidden, "D"), weight, bias, scale, softcap, chunk)


def as_sequence_head(hidden: Any, weight: Any, bias: Any, scale: Any, softcap: Any, chunk: Any) -> Head:
    """Check a linear layer on hidden states [B, T, D], or [T, D] of a single sequence."""
    given = as_array("hidden", hidden)
    if given.ndim not in (2, 3):
        raise ValueError(f"hidden has shape {given.shape}; allowed: [B, T, D], or [T, D] for one sequence")
    values = as_floats("hidden", given)
    states = StepScores(kernel_ready(values[None] if given.ndim == 2 else values), given)
    return as_head(states, weight, bias, scale, softcap, chunk)


def as_head_gradients(head: Head, return_grad: Any, grad_out: Any) -> HeadGradients:
    """Allocate the gradients of a linear layer, or check the arrays given for them."""
    arguments: dict[str, Differentiable] = {"hidden": head.hidden, "weight": head.weight}
    if head.bias is not None:
        arguments["bias"] = head.bias
    by_hidden, by_weight, by_bias = as_gradients_of(arguments, return_grad, grad_out, LinearGradient)
    return HeadGradients(by_hidden, by_weight, by_bias, bool(return_grad) or grad_out is not None)


def _as_parameter(name: str, value: Any) -> NDArray[Any]:
    given = as_array(name, value)
    as_floats(name, given)
    return given


def _as_matrix(given: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the matrix in a dtype and in memory that BLAS can read: along rows or along columns."""
    contiguous = given.flags.aligned and given.itemsize in given.strides and min(given.strides) > 0
    return given if contiguous and given.dtype == dtype else np.array(given, dtype, order="C")
