"""Layers without memory, which treat each step independently."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._core.arrays import as_real, read_integers
from . import arguments
from .arguments import Array, Seed
from .parameters import Shapes, check_parameters, uniform


class Linear:
    r"""Affine map of the last axis, :math:`y = x W + b`.

    Parameters
    ----------
    input_size, output_size : int
        Features in and out.
    rng : int or numpy.random.Generator, optional
        Source of the initial weights, uniform within :math:`\pm 1/\sqrt{\text{input\_size}}`.
    dtype : dtype
        Dtype of the parameters and of all results: float32 or float64.

    Attributes
    ----------
    parameters : dict of ndarray
        ``weight`` [input_size, output_size] and ``bias`` [output_size].

    Raises
    ------
    ValueError
        If a size is below 1, or the seed is negative.
    TypeError
        If a size is not an integer, or `dtype` is neither float32 nor float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import Linear
    >>> linear = Linear(2, 1)
    >>> linear.parameters.update(weight=np.array([[2.0], [3.0]]), bias=np.array([1.0]))
    >>> linear.forward([[1.0, 1.0], [0.0, 2.0]]).tolist()
    [[6.0], [7.0]]
    >>> gradients, grad_input = linear.backward([[1.0], [10.0]])
    >>> gradients["weight"].tolist(), gradients["bias"].tolist(), grad_input.tolist()
    ([[1.0], [21.0]], [11.0], [[2.0, 3.0], [20.0, 30.0]])
    """

    _output_shape: tuple[int, ...] | None = None

    def __init__(self, input_size: int, output_size: int, *, rng: Seed = None, dtype: DTypeLike = np.float32) -> None:
        inputs = arguments.as_size("input_size", input_size)
        outputs = arguments.as_size("output_size", output_size)
        self._shapes: Shapes = {"weight": (inputs, outputs), "bias": (outputs,)}
        self.parameters: dict[str, Array] = uniform(
            self._shapes, 1 / math.sqrt(inputs), arguments.as_generator(rng), arguments.as_dtype(dtype)
        )

    def forward(self, x: ArrayLike) -> Array:
        """Return ``x @ weight + bias``, ``[..., output_size]`` for `x` ``[..., input_size]``.

        All rows are multiplied, including padding, so padding must be finite, as it is in the
        output of the recurrent layers.

        Raises
        ------
        ValueError
            If the last axis of `x` does not have length `input_size`, or `parameters` have other
            shapes.
        TypeError
            If `x` does not hold real numbers, or `parameters` are not arrays of one dtype, float32 or
            float64.
        """
        check_parameters(self.parameters, self._shapes)
        weight = self.parameters["weight"]
        x = as_real("x", x)
        if x.ndim == 0 or x.shape[-1] != len(weight):
            raise ValueError(f"x has shape {x.shape}; allowed: (..., {len(weight)})")
        # Copies, so that changes by the caller before `backward` do not affect the gradient.
        self._input, self._weight = x.astype(weight.dtype), weight.copy(order="K")
        projected: Array = self._input @ weight + self.parameters["bias"]
        self._output_shape = projected.shape
        return projected

    def backward(self, grad: ArrayLike) -> tuple[dict[str, Array], Array]:
        """Return the gradients of the parameters and of the input of the last `forward`.

        Raises
        ------
        ValueError
            If `grad` does not have the shape of the output.
        TypeError
            If `grad` does not hold real numbers.
        RuntimeError
            If `forward` has not been called.
        """
        grad = arguments.as_grad(grad, self._output_shape)
        weight = self._weight
        grad = grad.astype(weight.dtype, copy=False)
        rows = grad.reshape(-1, weight.shape[1])
        inputs = self._input.reshape(-1, weight.shape[0])
        return {"weight": inputs.T @ rows, "bias": rows.sum(axis=0)}, grad @ weight.T


class Embedding:
    """Embedding: a trainable vector for each token.

    Parameters
    ----------
    count, size : int
        Number of tokens, and D, the length of their vectors.
    rng : int or numpy.random.Generator, optional
        Source of the initial vectors, standard normal.
    dtype : dtype
        Dtype of the parameters and of all results: float32 or float64.

    Attributes
    ----------
    parameters : dict of ndarray
        ``weight`` [count, size].

    Raises
    ------
    ValueError
        If a size is below 1, or the seed is negative.
    TypeError
        If a size is not an integer, or `dtype` is neither float32 nor float64.

    Examples
    --------
    >>> from fastseqloss.recurrent import Embedding
    >>> embedding = Embedding(5, 2, rng=0)
    >>> vectors = embedding.forward([[3, 3, -1]], lengths=[2])
    >>> vectors.shape, vectors[0, 2].tolist()
    ((1, 3, 2), [0.0, 0.0])
    >>> gradients, _ = embedding.backward(vectors * 0 + 1)
    >>> gradients["weight"].tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]]
    """

    _output_shape: tuple[int, ...] | None = None

    def __init__(self, count: int, size: int, *, rng: Seed = None, dtype: DTypeLike = np.float32) -> None:
        shape = arguments.as_size("count", count), arguments.as_size("size", size)
        weight = arguments.as_generator(rng).standard_normal(shape).astype(arguments.as_dtype(dtype))
        self._shapes: Shapes = {"weight": shape}
        self.parameters: dict[str, Array] = {"weight": weight}

    def forward(self, tokens: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """Return the vectors ``[B, T, D]`` of `tokens` ``[B, T]``, 0 in padding.

        Raises
        ------
        ValueError
            If `tokens` does not have shape ``[B, T]``, a valid token is not within 0 to ``count - 1``,
            a length is not within 0 to T, or `parameters` have other shapes.
        TypeError
            If `tokens` or `lengths` are not integers, or `parameters` is not an array of float32 or
            float64.
        """
        check_parameters(self.parameters, self._shapes)
        weight = self.parameters["weight"]
        read = read_integers("tokens", tokens)
        numbers = read.values
        if numbers.ndim != 2:
            raise ValueError(f"tokens has shape {numbers.shape}; allowed: (B, T)")
        _, valid = arguments.valid_steps(lengths, *numbers.shape)
        wrong = np.argwhere(valid & ((numbers < 0) | (numbers >= len(weight))))
        if wrong.size:
            row, step = wrong[0]
            raise ValueError(f"tokens[{row}, {step}] is {read.exact[row, step]}; allowed: 0 to {len(weight) - 1}")
        self._valid, self._tokens, self._dtype = valid, numbers[valid], weight.dtype
        vectors = np.zeros((*numbers.shape, weight.shape[1]), weight.dtype)
        vectors[valid] = weight[self._tokens]
        self._output_shape = vectors.shape
        return vectors

    def backward(self, grad: ArrayLike) -> tuple[dict[str, Array], None]:
        """Return the gradient of the vectors, and None, because tokens have no gradient.

        Raises
        ------
        ValueError
            If `grad` does not have the shape of the output.
        TypeError
            If `grad` does not hold real numbers.
        RuntimeError
            If `forward` has not been called.
        """
        rows = arguments.as_grad(grad, self._output_shape)[self._valid]
        weight = np.zeros(self._shapes["weight"], self._dtype)
        np.add.at(weight, self._tokens, rows.astype(weight.dtype, copy=False))
        return {"weight": weight}, None
