"""Base class of the recurrent layers: padding, direction, and the products over all steps."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._core.arrays import as_real
from . import arguments
from .arguments import Array, Seed
from .parameters import Shapes, check_parameters, uniform


class Recurrent:
    """Base class of the recurrent layers: parameters, padding, direction, products over all steps.

    Subclasses add `_gates`, the number of their blocks of H columns, and the two loops over time.
    """

    _gates: ClassVar[int]
    _output_shape: tuple[int, ...] | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reverse: bool = False,
        rng: Seed = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        features = arguments.as_size("input_size", input_size)
        hidden = arguments.as_size("hidden_size", hidden_size)
        self.reverse = reverse
        self._shapes: Shapes = {
            "input_weight": (features, self._gates * hidden),
            "input_bias": (self._gates * hidden,),
            "recurrent_weight": (hidden, self._gates * hidden),
            "recurrent_bias": (self._gates * hidden,),
        }
        self.parameters: dict[str, Array] = uniform(
            self._shapes, 1 / math.sqrt(hidden), arguments.as_generator(rng), arguments.as_dtype(dtype)
        )

    def forward(self, x: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """Return the hidden state after every step.

        Parameters
        ----------
        x : array_like [B, T, D]
            Input sequences. The content of padding is never used.
        lengths : array_like of int [B], optional
            Valid steps of each sequence; all T by default.

        Returns
        -------
        ndarray [B, T, H]
            Hidden states, 0 in padding. State t depends on the steps up to t, or with ``reverse`` on
            the valid steps from t on.

        Raises
        ------
        ValueError
            If `x` does not have shape ``[B, T, D]`` with the D of this layer, a length is not within
            0 to T, or `parameters` have other shapes.
        TypeError
            If `x` does not hold real numbers, `lengths` are not integers, or `parameters` are not
            arrays of one dtype, float32 or float64.
        """
        check_parameters(self.parameters, self._shapes)
        weight, bias = self.parameters["input_weight"], self.parameters["input_bias"]
        x = as_real("x", x)
        if x.ndim != 3 or x.shape[2] != len(weight):
            raise ValueError(f"x has shape {x.shape}; allowed: (B, T, {len(weight)})")
        batch, steps, _ = x.shape
        counts, valid = arguments.valid_steps(lengths, batch, steps)
        time = np.arange(steps)[:, None]
        if self.reverse:
            time = np.where(valid.T, counts - 1 - time, time)
        self._order = (np.arange(batch), time)
        self._padding = ~valid.T

        # Copies, so that changes by the caller before `backward` do not affect the gradient.
        self._input_weight = weight.copy(order="K")
        self._recurrent_weight = self.parameters["recurrent_weight"].copy(order="K")
        # Padding is read last in either direction, so its states cannot reach a valid one.
        self._input = self._in_time_order(x)
        self._activations = self._input @ weight + bias
        hidden_size = len(self._recurrent_weight)
        self._states = np.zeros((steps + 1, batch, hidden_size), weight.dtype)
        self._run_forward(self._activations, self._states)
        self._output_shape = (batch, steps, hidden_size)
        return self._in_batch_order(self._states[1:])

    def backward(self, grad: ArrayLike) -> tuple[dict[str, Array], Array]:
        """Backpropagate through time, for the input of the last `forward`.

        Parameters
        ----------
        grad : array_like [B, T, H]
            Gradient with respect to the hidden states. The content of padding is never used.

        Returns
        -------
        gradients : dict of ndarray
            Gradient of each parameter.
        grad_input : ndarray [B, T, D]
            Gradient with respect to `x`, 0 in padding.

        Raises
        ------
        ValueError
            If `grad` does not have the shape of the hidden states.
        TypeError
            If `grad` does not hold real numbers.
        RuntimeError
            If `forward` has not been called.
        """
        grad_hidden = self._in_time_order(arguments.as_grad(grad, self._output_shape))
        grad_projected, grad_recurrent = self._run_backward(grad_hidden)
        projected = grad_projected.reshape(-1, grad_projected.shape[2])
        recurrent = grad_recurrent.reshape(projected.shape)
        inputs = self._input.reshape(-1, self._input.shape[2])
        previous = self._states[:-1].reshape(-1, self._states.shape[2])
        gradients = {
            "input_weight": inputs.T @ projected,
            "input_bias": projected.sum(axis=0),
            "recurrent_weight": previous.T @ recurrent,
            "recurrent_bias": recurrent.sum(axis=0),
        }
        grad_input = grad_projected @ self._input_weight.T
        return gradients, self._in_batch_order(grad_input)

    def _in_time_order(self, x: Array) -> Array:
        """Return ``[B, T, ...]`` as ``[T, B, ...]`` in the order of reading, padding set to 0."""
        ordered: Array = x[self._order]
        ordered[self._padding] = 0
        return ordered.astype(self._input_weight.dtype, copy=False)

    def _in_batch_order(self, ordered: Array) -> Array:
        steps, batch, features = ordered.shape
        x = np.empty((batch, steps, features), ordered.dtype)
        x[self._order] = ordered
        x[self._padding.T] = 0  # in either direction padding step t is at t
        return x

    def _run_forward(self, activations: Array, states: Array) -> None:
        """Turn projected inputs ``[T, B, gates * H]`` into activations; fill ``states[1:]``."""
        raise NotImplementedError

    def _run_backward(self, grad_hidden: Array) -> tuple[Array, Array]:
        """Return the gradients ``[T, B, gates * H]`` of projected inputs and projected states."""
        raise NotImplementedError
