"""What is done with gradients: clipped, and followed downhill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _arguments
from . import arguments
from .arguments import Array

_TINY, _HUGE = 1e-120, 1e30


def clip_grad_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    r"""Shorten a gradient that is too long, in place.

    With all gradients as one vector :math:`g`, :math:`g \leftarrow g \min(1, c / \|g\|)` for
    :math:`c` = `max_norm`: the direction stays, and a step down a cliff of the loss stays short.

    Parameters
    ----------
    gradients : mapping of str to ndarray
        Gradients by name of parameter, float32 or float64.
    max_norm : float
        Longest norm allowed, 0 or more; infinity clips nothing and measures.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    ValueError
        If a gradient is not finite, for it has no direction to keep, or is read-only, or if
        `max_norm` is below 0. Nothing has been clipped then.
    TypeError
        If a gradient is not an array of float32 or float64, or `max_norm` not a number.

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
    longest = math.inf if max_norm == math.inf else _arguments.as_number("max_norm", max_norm, 0.0, math.inf)
    for name, gradient in gradients.items():
        arguments.check_writeable(f"gradients[{name!r}]", gradient)
    norm, unit = _norm(gradients), 1.0
    if not _TINY < norm < _HUGE:
        # Not finite, or squares of what has exploded or vanished leave the range: in units of the largest.
        unit = _largest(gradients) or 1.0
        norm = _norm(gradients, unit)
    if norm * unit > longest:
        for gradient in gradients.values():
            if unit != 1:
                gradient /= unit
            gradient *= longest / norm
    return norm * unit


def _norm(gradients: Mapping[str, Array], unit: float = 1.0) -> float:
    """Return the norm of all gradients together, in units of `unit`."""
    exact = (gradient.astype(np.float64) for gradient in gradients.values())
    with np.errstate(over="ignore"):  # to infinity, which is looked into
        return math.hypot(*(np.linalg.norm(g if unit == 1 else g / unit) for g in exact))


def _largest(gradients: Mapping[str, Array]) -> float:
    """Return the largest magnitude, if all are finite."""
    for name, gradient in gradients.items():
        wrong = np.argwhere(~np.isfinite(gradient))
        if wrong.size:
            place, found = ", ".join(map(str, wrong[0])), gradient[tuple(wrong[0])]
            raise ValueError(f"gradients[{name!r}][{place}] is {found}; allowed: finite")
    return max((float(np.abs(gradient).max(initial=0)) for gradient in gradients.values()), default=0.0)


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
        The arrays to train, float32 or float64; `step` changes them in place.
    learning_rate : float
        :math:`\eta`, 0 or more, an attribute that may be changed between steps.
    betas : tuple of float
        :math:`\beta_1, \beta_2`, from 0 to below 1.
    epsilon : float
        :math:`\epsilon`, above 0.

    Raises
    ------
    ValueError
        If a number is out of range, or an array is read-only.
    TypeError
        If a parameter is not an array of float32 or float64, or something else not a number.

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
        for name, array in parameters.items():
            arguments.check_writeable(f"parameters[{name!r}]", array)
        self.parameters = dict(parameters)
        self.learning_rate = _arguments.as_number("learning_rate", learning_rate, 0.0, math.inf)
        self.betas = _as_betas(betas)
        self.epsilon = _arguments.as_number("epsilon", epsilon, 0.0, math.inf, open_ends=True)
        self.steps = 0
        self._means = {name: np.zeros_like(array) for name, array in parameters.items()}
        self._squares = {name: np.zeros_like(array) for name, array in parameters.items()}

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Change every parameter in place, given its gradient under the same name.

        Gradients are taken as they are, finite or not; `clip_grad_norm` looks.

        Raises
        ------
        ValueError
            If names or shapes of parameters and gradients differ, or `learning_rate` is out of
            range. No parameter has been changed then.
        TypeError
            If a gradient is not an array of float32 or float64.
        """
        missing = self.parameters.keys() ^ gradients.keys()
        if missing:
            raise ValueError(f"parameters and gradients do not share the names {sorted(missing)}")
        for name, parameter in self.parameters.items():
            arguments.check_floats(f"gradients[{name!r}]", gradients[name])
            if gradients[name].shape != parameter.shape:
                found, allowed = gradients[name].shape, parameter.shape
                raise ValueError(f"gradients[{name!r}] has shape {found}; allowed: {allowed}")
        learning_rate = _arguments.as_number("learning_rate", self.learning_rate, 0.0, math.inf)
        self.steps += 1
        first, second = self.betas
        rate = learning_rate / (1 - first**self.steps)
        root = math.sqrt(1 - second**self.steps)
        for name, parameter in self.parameters.items():
            gradient, mean, square = gradients[name], self._means[name], self._squares[name]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            parameter -= rate * mean / (np.sqrt(square) / root + self.epsilon)


def _as_betas(value: Any) -> tuple[float, float]:
    """Return two numbers, from 0 to below 1."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"betas is {value!r}; allowed: two numbers") from None
    return _as_decay("betas[0]", first), _as_decay("betas[1]", second)


def _as_decay(name: str, value: Any) -> float:
    decay = _arguments.as_number(name, value, -math.inf, math.inf)
    if not 0 <= decay < 1:
        raise ValueError(f"{name} is {value}; allowed: from 0 to below 1")
    return decay
