r"""Recurrent layers with backpropagation through time, in plain NumPy and short enough to read.

A layer keeps its weights in ``parameters``, a dict of arrays. ``forward`` saves the values that
``backward`` needs, and ``backward(grad)`` takes the gradient of a loss with respect to the last
output and returns ``(gradients, grad_input)``: the gradients of the parameters, under the names of
the parameters, and the gradient with respect to the input. Any loss of this package supplies that
first gradient.

The loops over time contain only what depends on the previous step: the input projection is computed
before the forward loop, the slopes of the activations before the backward loop, and every parameter
gradient, one matrix product over all steps, after it.

Shapes use B sequences, T time steps, D input features, H hidden units. Arrays are computed in the
dtype of the parameters, float32 or float64.

The modules: `through_time` has the base class of the recurrent layers, `cells` the recurrences `RNN`,
`GRU` and `LSTM`, `layers` the layers without memory, `Linear` and `Embedding`, and `training`
`clip_grad_norm` and `Adam`.

Weights of PyTorch
------------------
The gates are those of PyTorch, with their blocks in the same order; the matrices are transposed,
since rows are multiplied from the left here. The table gives the weights of layer k of
``torch.nn.RNN``, ``torch.nn.GRU`` or ``torch.nn.LSTM``; the second direction, with the suffix
``_reverse``, is a layer with ``reverse=True`` here.

==================== ====================== =========================================
``parameters``       PyTorch                columns
==================== ====================== =========================================
``input_weight``     ``weight_ih_l{k}.T``   RNN h; GRU r, z, n; LSTM i, f, g, o, each
                                            H wide
``input_bias``       ``bias_ih_l{k}``       the same
``recurrent_weight`` ``weight_hh_l{k}.T``   the same
``recurrent_bias``   ``bias_hh_l{k}``       the same
==================== ====================== =========================================

The ``weight`` of `Linear` is the transposed one of ``torch.nn.Linear``, that of `Embedding` is the
same as in ``torch.nn.Embedding``. Write them into the arrays, ``parameters[name][...] = value``, so
that an existing `Adam` continues to train them.
"""

from .cells import GRU, LSTM, RNN
from .layers import Embedding, Linear
from .training import Adam, clip_grad_norm

__all__ = ["GRU", "LSTM", "RNN", "Adam", "Embedding", "Linear", "clip_grad_norm"]
