r"""Recurrent layers with backpropagation through time, in plain NumPy and short enough to read.

A layer keeps its weights in ``parameters``, a dict of arrays. ``forward`` remembers what
``backward`` needs, and ``backward(grad)`` takes the gradient of a loss with respect to the last
output and returns ``(gradients, grad_input)``: the gradients of the parameters, under the names of
the parameters, and the gradient with respect to the input. Any loss of this package supplies that
first gradient.

Everything that does not depend on the previous step is hoisted out of the loops over time: the
input projection before the forward loop, the slopes of the activations before the backward loop,
and every parameter gradient, one matrix product over all steps, after it.

Shapes use B sequences, T time steps, D input features, H hidden units. Arrays are computed in the
dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["GRU", "LSTM", "Adam", "Embedding", "Linear", "clip_grad_norm"]

Array = NDArray[Any]
Seed = int | np.random.Generator | None


def _valid_steps(lengths: ArrayLike | None, batch: int, steps: int) -> tuple[Array, Array]:
    """Return lengths ``[B]`` and the mask ``[B, T]`` of the steps that are not padding."""
    if lengths is None:
        counts = np.full(batch, steps)
    else:
        counts = np.asarray(lengths)
        if counts.shape != (batch,):
            raise ValueError(f"lengths has shape {counts.shape}, expected ({batch},)")
        if counts.size and not np.issubdtype(counts.dtype, np.integer):
            raise TypeError(f"lengths has dtype {counts.dtype}, expected integers")
        wrong = np.flatnonzero((counts < 0) | (counts > steps))
        if wrong.size:
            raise ValueError(f"lengths[{wrong[0]}] is {counts[wrong[0]]}, expected 0 to {steps}")
        counts = counts.astype(np.intp)
    return counts, np.arange(steps) < counts[:, None]


def _uniform(shape: tuple[int, ...], bound: float, rng: Seed, dtype: DTypeLike) -> Array:
    return np.random.default_rng(rng).uniform(-bound, bound, shape).astype(dtype)


def _sigmoid_in_place(x: Array) -> None:
    # Through tanh, which saturates where 1 / (1 + exp(-x)) would overflow.
    x *= 0.5
    np.tanh(x, out=x)
    x += 1
    x *= 0.5


class _Recurrent:
    """What the recurrent layers share: parameters, padding, direction, products over all steps.

    A layer adds `_gates`, the number of its blocks of H columns, and the two loops over time.
    """

    _gates: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reverse: bool = False,
        rng: Seed = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(hidden_size)
        columns = self._gates * hidden_size
        self.reverse = reverse
        self.parameters: dict[str, Array] = {
            "input_weight": _uniform((input_size, columns), bound, rng, dtype),
            "input_bias": _uniform((columns,), bound, rng, dtype),
            "recurrent_weight": _uniform((hidden_size, columns), bound, rng, dtype),
            "recurrent_bias": _uniform((columns,), bound, rng, dtype),
        }

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
            Hidden states, 0 in padding. State t has seen the steps up to t, or with ``reverse`` the
            valid steps from t on.

        Raises
        ------
        ValueError
            If `x` is not ``[B, T, D]`` with the D of this layer, or a length is not within 0 to T.
        TypeError
            If `lengths` are not integers.
        """
        weight, bias = self.parameters["input_weight"], self.parameters["input_bias"]
        x = np.asarray(x)
        if x.ndim != 3 or x.shape[2] != len(weight):
            raise ValueError(f"x has shape {x.shape}, expected (B, T, {len(weight)})")
        batch, steps, _ = x.shape
        counts, valid = _valid_steps(lengths, batch, steps)
        time = np.arange(steps)[:, None]
        if self.reverse:
            time = np.where(valid.T, counts - 1 - time, time)
        self._order = (np.arange(batch), time)
        self._padding = ~valid.T

        # Padding is read last in either direction, so the states it produces reach no valid one.
        self._input = self._in_time_order(x)
        self._activations = self._input @ weight + bias
        hidden_size = len(self.parameters["recurrent_weight"])
        self._states = np.zeros((steps + 1, batch, hidden_size), weight.dtype)
        self._run_forward(self._activations, self._states)
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
        """
        grad_hidden = self._in_time_order(np.asarray(grad))
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
        grad_input = grad_projected @ self.parameters["input_weight"].T
        return gradients, self._in_batch_order(grad_input)

    def _in_time_order(self, x: Array) -> Array:
        """Return ``[B, T, ...]`` as ``[T, B, ...]`` in the order of reading, padding set to 0."""
        ordered: Array = x[self._order]
        ordered[self._padding] = 0
        return ordered.astype(self.parameters["input_weight"].dtype, copy=False)

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


class GRU(_Recurrent):
    r"""Gated recurrent unit over padded batches.

    .. math::
        r_t &= \sigma(W_r x_t + b_r + U_r h_{t-1} + c_r) \\
        z_t &= \sigma(W_z x_t + b_z + U_z h_{t-1} + c_z) \\
        n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + c_n)) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}, \qquad h_0 = 0

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    reverse : bool
        Read the valid part of each sequence from its end to its start.
    rng : int or numpy.random.Generator, optional
        Source of the initial weights, uniform within :math:`\pm 1/\sqrt{H}`.
    dtype : dtype
        Of the parameters, and so of all results.

    Attributes
    ----------
    parameters : dict of ndarray
        ``input_weight`` [D, 3H], ``recurrent_weight`` [H, 3H], ``input_bias`` and
        ``recurrent_bias`` [3H]; the columns are in the order r, z, n. These are the transposed
        weights of ``torch.nn.GRU``.

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", 2014, https://arxiv.org/abs/1406.1078v1 (the reset gate after the product).

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import GRU
    >>> gru = GRU(2, 3, rng=0)
    >>> hidden = gru.forward(np.ones((1, 4, 2)), lengths=[3])
    >>> hidden.shape, hidden[0, 3].tolist()
    ((1, 4, 3), [0.0, 0.0, 0.0])
    >>> gradients, grad_input = gru.backward(np.ones_like(hidden))
    >>> {name: gradient.shape for name, gradient in gradients.items()}
    {'input_weight': (2, 9), 'input_bias': (9,), 'recurrent_weight': (3, 9), 'recurrent_bias': (9,)}
    >>> grad_input.shape
    (1, 4, 2)
    """

    _gates = 3

    def _run_forward(self, activations: Array, states: Array) -> None:
        size = states.shape[2]
        weight, bias = self.parameters["recurrent_weight"], self.parameters["recurrent_bias"]
        self._candidates = np.empty_like(states[1:])  # U_n h + c_n
        reset_update = activations[:, :, : 2 * size]
        reset, update, new = np.split(activations, 3, axis=2)
        for t in range(len(activations)):
            recurrent = states[t] @ weight
            recurrent += bias
            reset_update[t] += recurrent[:, : 2 * size]
            _sigmoid_in_place(reset_update[t])
            self._candidates[t] = recurrent[:, 2 * size :]
            new[t] += reset[t] * self._candidates[t]
            np.tanh(new[t], out=new[t])
            np.subtract(states[t], new[t], out=states[t + 1])
            states[t + 1] *= update[t]
            states[t + 1] += new[t]

    def _run_backward(self, grad_hidden: Array) -> tuple[Array, Array]:
        reset, update, new = np.split(self._activations, 3, axis=2)
        reset_slope = self._candidates * reset * (1 - reset)  # of n_t before its tanh
        update_slope = (self._states[:-1] - new) * update * (1 - update)  # of h_t
        new_slope = (1 - update) * (1 - new * new)  # of h_t
        weight = self.parameters["recurrent_weight"].T
        size = len(self.parameters["recurrent_weight"])

        grad_projected = np.empty_like(self._activations)
        grad_recurrent = np.empty_like(self._activations)
        to_reset, to_update, to_new = np.split(grad_projected, 3, axis=2)
        carried: Array | float = 0
        for t in reversed(range(len(grad_hidden))):
            grad = grad_hidden[t] + carried
            np.multiply(grad, new_slope[t], out=to_new[t])
            np.multiply(grad, update_slope[t], out=to_update[t])
            np.multiply(to_new[t], reset_slope[t], out=to_reset[t])
            grad_recurrent[t] = grad_projected[t]
            grad_recurrent[t, :, 2 * size :] *= reset[t]
            grad *= update[t]
            grad += grad_recurrent[t] @ weight
            carried = grad
        return grad_projected, grad_recurrent


class LSTM(_Recurrent):
    r"""Long short-term memory over padded batches.

    .. math::
        i_t &= \sigma(W_i x_t + b_i + U_i h_{t-1} + c_i) \\
        f_t &= \sigma(W_f x_t + b_f + U_f h_{t-1} + c_f) \\
        g_t &= \tanh(W_g x_t + b_g + U_g h_{t-1} + c_g) \\
        o_t &= \sigma(W_o x_t + b_o + U_o h_{t-1} + c_o) \\
        s_t &= f_t \odot s_{t-1} + i_t \odot g_t, \qquad s_0 = 0 \\
        h_t &= o_t \odot \tanh(s_t), \qquad h_0 = 0

    Parameters
    ----------
    input_size, hidden_size, reverse, rng, dtype
        As for `GRU`.

    Attributes
    ----------
    parameters : dict of ndarray
        ``input_weight`` [D, 4H], ``recurrent_weight`` [H, 4H], ``input_bias`` and
        ``recurrent_bias`` [4H]; the columns are in the order i, f, g, o. These are the transposed
        weights of ``torch.nn.LSTM``.

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
    https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate of Gers et al., "Learning to
    Forget", Neural Computation 12(10), 2000, https://doi.org/10.1162/089976600300015015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import LSTM
    >>> lstm = LSTM(2, 3, reverse=True, rng=0)
    >>> hidden = lstm.forward(np.ones((1, 4, 2)), lengths=[3])
    >>> hidden.shape, hidden[0, 3].tolist()
    ((1, 4, 3), [0.0, 0.0, 0.0])
    >>> gradients, grad_input = lstm.backward(np.ones_like(hidden))
    >>> gradients["recurrent_weight"].shape, grad_input.shape
    ((3, 12), (1, 4, 2))
    """

    _gates = 4

    def _run_forward(self, activations: Array, states: Array) -> None:
        size = states.shape[2]
        weight = self.parameters["recurrent_weight"]
        activations += self.parameters["recurrent_bias"]
        self._cells = np.zeros_like(states)
        self._squashed = np.empty_like(states[1:])  # tanh(s_t)
        entry_forget = activations[:, :, : 2 * size]
        entry, forget, new, exit_ = np.split(activations, 4, axis=2)
        for t in range(len(activations)):
            activations[t] += states[t] @ weight
            _sigmoid_in_place(entry_forget[t])
            _sigmoid_in_place(exit_[t])
            np.tanh(new[t], out=new[t])
            np.multiply(forget[t], self._cells[t], out=self._cells[t + 1])
            self._cells[t + 1] += entry[t] * new[t]
            np.tanh(self._cells[t + 1], out=self._squashed[t])
            np.multiply(exit_[t], self._squashed[t], out=states[t + 1])

    def _run_backward(self, grad_hidden: Array) -> tuple[Array, Array]:
        entry, forget, new, exit_ = np.split(self._activations, 4, axis=2)
        # Of s_t by the first three gates before their activation, of h_t by the last.
        slopes = np.concatenate(
            [
                new * entry * (1 - entry),
                self._cells[:-1] * forget * (1 - forget),
                entry * (1 - new * new),
                self._squashed * exit_ * (1 - exit_),
            ],
            axis=2,
        )
        cell_slope = exit_ * (1 - self._squashed * self._squashed)  # of h_t with respect to s_t
        weight = self.parameters["recurrent_weight"].T

        grad_gates = np.empty_like(self._activations)
        carried: Array | float = 0
        carried_cell: Array | float = 0
        for t in reversed(range(len(grad_hidden))):
            grad = grad_hidden[t] + carried
            grad_cell = grad * cell_slope[t] + carried_cell
            np.concatenate([grad_cell, grad_cell, grad_cell, grad], axis=1, out=grad_gates[t])
            grad_gates[t] *= slopes[t]
            carried = grad_gates[t] @ weight
            carried_cell = grad_cell * forget[t]
        return grad_gates, grad_gates


class Linear:
    r"""Affine map of the last axis, :math:`y = x W + b`.

    Parameters
    ----------
    input_size, output_size : int
        Features in and out.
    rng : int or numpy.random.Generator, optional
        Source of the initial weights, uniform within :math:`\pm 1/\sqrt{\text{input\_size}}`.
    dtype : dtype
        Of the parameters, and so of all results.

    Attributes
    ----------
    parameters : dict of ndarray
        ``weight`` [input_size, output_size] and ``bias`` [output_size].

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

    def __init__(
        self, input_size: int, output_size: int, *, rng: Seed = None, dtype: DTypeLike = np.float32
    ) -> None:
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(input_size)
        self.parameters: dict[str, Array] = {
            "weight": _uniform((input_size, output_size), bound, rng, dtype),
            "bias": _uniform((output_size,), bound, rng, dtype),
        }

    def forward(self, x: ArrayLike) -> Array:
        """Return ``x @ weight + bias``, ``[..., output_size]`` for `x` ``[..., input_size]``.

        Every row counts, padding too: give it finite values, as the recurrent layers do.
        """
        weight = self.parameters["weight"]
        x = np.asarray(x, dtype=weight.dtype)
        if x.ndim == 0 or x.shape[-1] != len(weight):
            raise ValueError(f"x has shape {x.shape}, expected (..., {len(weight)})")
        self._input = x
        projected: Array = x @ weight + self.parameters["bias"]
        return projected

    def backward(self, grad: ArrayLike) -> tuple[dict[str, Array], Array]:
        """Return the gradients of the parameters and of the input of the last `forward`."""
        weight = self.parameters["weight"]
        grad = np.asarray(grad, dtype=weight.dtype)
        rows = grad.reshape(-1, weight.shape[1])
        inputs = self._input.reshape(-1, weight.shape[0])
        return {"weight": inputs.T @ rows, "bias": rows.sum(axis=0)}, grad @ weight.T


class Embedding:
    """A vector for each token.

    Parameters
    ----------
    count, size : int
        Number of tokens, and D, the length of their vectors.
    rng : int or numpy.random.Generator, optional
        Source of the initial vectors, standard normal.
    dtype : dtype
        Of the parameters, and so of all results.

    Attributes
    ----------
    parameters : dict of ndarray
        ``weight`` [count, size].

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

    def __init__(
        self, count: int, size: int, *, rng: Seed = None, dtype: DTypeLike = np.float32
    ) -> None:
        weight = np.random.default_rng(rng).standard_normal((count, size)).astype(dtype)
        self.parameters: dict[str, Array] = {"weight": weight}

    def forward(self, tokens: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """Return the vectors ``[B, T, D]`` of `tokens` ``[B, T]``, 0 in padding.

        Raises
        ------
        ValueError
            If `tokens` is not ``[B, T]``, or a valid token is not within 0 to ``count - 1``.
        TypeError
            If `tokens` or `lengths` are not integers.
        """
        weight = self.parameters["weight"]
        tokens = np.asarray(tokens)
        if tokens.ndim != 2:
            raise ValueError(f"tokens has shape {tokens.shape}, expected (B, T)")
        if tokens.size and not np.issubdtype(tokens.dtype, np.integer):
            raise TypeError(f"tokens has dtype {tokens.dtype}, expected integers")
        _, self._valid = _valid_steps(lengths, *tokens.shape)
        wrong = np.argwhere(self._valid & ((tokens < 0) | (tokens >= len(weight))))
        if wrong.size:
            row, step = wrong[0]
            allowed = f"0 to {len(weight) - 1}"
            raise ValueError(f"tokens[{row}, {step}] is {tokens[row, step]}, expected {allowed}")
        self._tokens = tokens[self._valid].astype(np.intp)
        vectors = np.zeros((*tokens.shape, weight.shape[1]), weight.dtype)
        vectors[self._valid] = weight[self._tokens]
        return vectors

    def backward(self, grad: ArrayLike) -> tuple[dict[str, Array], None]:
        """Return the gradient of the vectors, and None, since tokens have none."""
        weight = np.zeros_like(self.parameters["weight"])
        np.add.at(weight, self._tokens, np.asarray(grad, dtype=weight.dtype)[self._valid])
        return {"weight": weight}, None


def clip_grad_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    r"""Shorten a gradient that is too long, in place.

    With all gradients as one vector :math:`g`, :math:`g \leftarrow g \min(1, c / \|g\|)` for
    :math:`c` = `max_norm`: the direction stays, and a step down a cliff of the loss stays short.

    Parameters
    ----------
    gradients : mapping of str to ndarray
        Gradients by name of parameter.
    max_norm : float
        Longest norm allowed.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    ValueError
        If a gradient is not finite; it has no direction to keep.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013,
    https://arxiv.org/abs/1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import clip_grad_norm
    >>> gradients = {"weight": np.array([[6.0, 0.0]]), "bias": np.array([8.0])}
    >>> clip_grad_norm(gradients, 5.0)
    10.0
    >>> gradients["weight"].tolist(), gradients["bias"].tolist()
    ([[3.0, 0.0]], [4.0])
    """
    for name, gradient in gradients.items():
        if not np.isfinite(gradient).all():
            raise ValueError(f"the gradient of {name!r} is not finite")
    norm = math.hypot(*(np.linalg.norm(g.astype(np.float64)) for g in gradients.values()))
    if norm > max_norm:
        for gradient in gradients.values():
            gradient *= max_norm / norm
    return norm


class Adam:
    r"""Adaptive moment estimation.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta &\leftarrow
            \theta - \eta \, \frac{m / (1 - \beta_1^k)}{\sqrt{v / (1 - \beta_2^k)} + \epsilon}

    Parameters
    ----------
    parameters : mapping of str to ndarray
        The arrays to train; `step` changes them in place.
    learning_rate : float
        :math:`\eta`, an attribute that may be changed between steps.
    betas : tuple of float
        :math:`\beta_1, \beta_2`.
    epsilon : float
        :math:`\epsilon`.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014, https://arxiv.org/abs/1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import Adam
    >>> weight = np.array([1.0, -2.0])
    >>> optimizer = Adam({"weight": weight}, learning_rate=0.1)
    >>> for _ in range(200):  # gradient of the squared norm
    ...     optimizer.step({"weight": 2 * weight})
    >>> bool(np.abs(weight).max() < 1e-2)
    True
    """

    def __init__(
        self,
        parameters: Mapping[str, Array],
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = dict(parameters)
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.steps = 0
        self._means = {name: np.zeros_like(array) for name, array in parameters.items()}
        self._squares = {name: np.zeros_like(array) for name, array in parameters.items()}

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Change every parameter in place, given its gradient under the same name."""
        missing = self.parameters.keys() ^ gradients.keys()
        if missing:
            raise ValueError(f"parameters and gradients do not share the names {sorted(missing)}")
        self.steps += 1
        first, second = self.betas
        rate = self.learning_rate / (1 - first**self.steps)
        root = math.sqrt(1 - second**self.steps)
        for name, parameter in self.parameters.items():
            gradient, mean, square = gradients[name], self._means[name], self._squares[name]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            parameter -= rate * mean / (np.sqrt(square) / root + self.epsilon)
