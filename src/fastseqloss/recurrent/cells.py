"""The recurrences: each layer's step forwards and backwards."""

from __future__ import annotations

import numpy as np

from .arguments import Array
from .through_time import Recurrent


def _sigmoid_in_place(x: Array) -> None:
    # By tanh, which saturates for arguments that overflow in 1 / (1 + exp(-x)).
    x *= 0.5
    np.tanh(x, out=x)
    x += 1
    x *= 0.5


class RNN(Recurrent):
    r"""Plain recurrent layer, without gates, over padded batches.

    .. math::
        h_t = \tanh(W x_t + b + U h_{t-1} + c), \qquad h_0 = 0

    The gradient that reaches :math:`h_{t-1}` from :math:`h_t` is multiplied by
    :math:`\operatorname{diag}(1 - h_t^2)` and :math:`U`: over many steps, it vanishes or explodes.

    Parameters
    ----------
    input_size, hidden_size, reverse, rng, dtype
        As for `GRU`, with the same errors.

    Attributes
    ----------
    parameters : dict of ndarray
        ``input_weight`` [D, H], ``recurrent_weight`` [H, H], ``input_bias`` and ``recurrent_bias``
        [H]. These are the transposed weights of ``torch.nn.RNN``.

    References
    ----------
    Elman, "Finding Structure in Time", Cognitive Science 14(2), 1990,
    https://doi.org/10.1207/s15516709cog1402_1; for the gradient Bengio, Simard and Frasconi,
    "Learning long-term dependencies with gradient descent is difficult", IEEE Transactions on Neural
    Networks 5(2), 1994, https://doi.org/10.1109/72.279181.

    Examples
    --------
    >>> import numpy as np
    >>> from fastseqloss.recurrent import RNN
    >>> rnn = RNN(2, 3, rng=0)
    >>> hidden = rnn.forward(np.ones((1, 4, 2)), lengths=[3])
    >>> hidden.shape, hidden[0, 3].tolist()
    ((1, 4, 3), [0.0, 0.0, 0.0])
    >>> gradients, grad_input = rnn.backward(np.ones_like(hidden))
    >>> gradients["recurrent_weight"].shape, grad_input.shape
    ((3, 3), (1, 4, 2))
    """

    _gates = 1

    def _run_forward(self, activations: Array, states: Array) -> None:
        weight = self._recurrent_weight
        activations += self.parameters["recurrent_bias"]
        for t in range(len(activations)):
            activations[t] += states[t] @ weight
            np.tanh(activations[t], out=states[t + 1])

    def _run_backward(self, grad_hidden: Array) -> tuple[Array, Array]:
        slope = 1 - self._states[1:] * self._states[1:]
        weight = self._recurrent_weight.T
        grad_sums = np.empty_like(self._activations)
        carried: Array | float = 0
        for t in reversed(range(len(grad_hidden))):
            np.multiply(grad_hidden[t] + carried, slope[t], out=grad_sums[t])
            carried = grad_sums[t] @ weight
        return grad_sums, grad_sums


class GRU(Recurrent):
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
        If True, read the valid part of each sequence from its end to its start.
    rng : int or numpy.random.Generator, optional
        Source of the initial weights, uniform within :math:`\pm 1/\sqrt{H}`.
    dtype : dtype
        Dtype of the parameters and of all results: float32 or float64.

    Attributes
    ----------
    parameters : dict of ndarray
        ``input_weight`` [D, 3H], ``recurrent_weight`` [H, 3H], ``input_bias`` and
        ``recurrent_bias`` [3H]; the columns are in the order r, z, n. These are the transposed
        weights of ``torch.nn.GRU``.

    Raises
    ------
    ValueError
        If a size is below 1, or the seed is negative.
    TypeError
        If a size is not an integer, or `dtype` is neither float32 nor float64.

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
        weight, bias = self._recurrent_weight, self.parameters["recurrent_bias"]
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
        weight = self._recurrent_weight.T
        size = len(self._recurrent_weight)

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


class LSTM(Recurrent):
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
        As for `GRU`, with the same errors.

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
        weight = self._recurrent_weight
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
        weight = self._recurrent_weight.T

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
