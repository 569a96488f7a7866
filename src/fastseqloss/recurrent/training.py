"""Gradient clipping and the Adam optimizer."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._core.options import as_number
from . import arguments
from .arguments import Array

_TINY, _HUGE = 1e-120, 1e30
_MOST = sys.float_info.max


def clip_grad_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    r"""Scale gradients in place so that their norm is at most `max_norm`.

    With all gradients as one vector :math:`g`, :math:`g \leftarrow g \min(1, c / \|g\|)` for
    :math:`c` = `max_norm`. The direction is preserved, and exploding gradients give short steps.

    Parameters
    ----------
    gradients : mapping of str to ndarray
        Gradients by name of parameter, float32 or float64.
    max_norm : float
        Largest norm allowed, 0 or more; infinity only measures the norm.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    ValueError
        If a gradient is not finite (it has no direction to keep), is read-only, or shares memory
        with another one, or if `max_norm` is below 0. In that case, the gradients are unchanged.
    TypeError
        If a gradient is not an array of float32 or float64, or is a matrix or a masked array, or if
        `max_norm` is not a number.

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
    given: Any = max_norm
    unbounded = isinstance(given, (float, np.floating)) and given == math.inf
    longest = math.inf if unbounded else as_number("max_norm", max_norm, 0.0, math.inf)
    arguments.check_writeable("gradients", gradients)
    norm, unit = _norm(gradients), 1.0
    if not _TINY < norm < _HUGE:
        # Not finite, or the squares overflow or underflow: measure in units of the largest element.
        unit = _largest(gradients) or 1.0
        norm = _norm(gradients, unit)
    if norm * unit > longest:
        with np.errstate(all="ignore"):
            for gradient in gradients.values():
                if unit == 1:
                    gradient *= longest / norm
                else:  # in float64: float32 may not hold the unit
                    gradient[...] = gradient.astype(np.float64) / unit * (longest / norm)
    return norm * unit


def _norm(gradients: Mapping[str, Array], unit: float = 1.0) -> float:
    """Return the norm of all gradients together, in units of `unit`."""
    exact = (gradient.astype(np.float64) for gradient in gradients.values())
    with np.errstate(all="ignore"):  # an overflow or underflow is handled by the caller
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
        :math:`\eta`, 0 or more. The attribute of this name may be changed between steps.
    betas : tuple of float
        :math:`\beta_1, \beta_2`, from 0 to below 1.
    epsilon : float
        :math:`\epsilon`, above 0.

    Raises
    ------
    ValueError
        If a number is out of range, or an array is read-only or shares memory with another one.
        Pass a parameter that is used twice under one name, with the sum of its gradients.
    TypeError
        If a parameter is not an array of float32 or float64, or is a matrix or a masked array, or if
        another argument is not a number.

    Notes
    -----
    If squares of gradients, or an update, leave the range of a parameter's dtype, its moments are stored in float64
    from then on, the second moment as its square root, so finite gradients of any size give the steps of the equations.

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
        arguments.check_writeable("parameters", parameters)
        self.parameters = dict(parameters)
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.steps = 0
        self._moments = {name: _Moments(array) for name, array in parameters.items()}
        self.learning_rate, self.betas, self.epsilon = self._numbers()

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Update every parameter in place with the gradient of the same name.

        Gradients may be infinite or NaN; `clip_grad_norm` raises an error for such gradients.

        Raises
        ------
        ValueError
            If names or shapes of parameters and gradients differ, a parameter has become read-only, or a number is out
            of range. In that case, the parameters are unchanged.
        TypeError
            If a gradient is not an array of float32 or float64, or is a matrix or a masked array.
        """
        self._check(gradients)
        learning_rate, (first, second), epsilon = self._numbers()
        self.steps += 1
        rate = learning_rate / (1 - first**self.steps)
        root = math.sqrt(1 - second**self.steps)
        with np.errstate(all="ignore"):
            # All gradients are read before any parameter is changed, since they may share memory.
            for name, moments in self._moments.items():
                moments.follow(gradients[name], first, second, rate, epsilon)
            for name, moments in self._moments.items():
                moments.descend(self.parameters[name], rate, root, epsilon)

    def _numbers(self) -> tuple[float, tuple[float, float], float]:
        """Return learning rate, betas and epsilon, checked."""
        rate = as_number("learning_rate", self.learning_rate, 0.0, math.inf)
        epsilon = as_number("epsilon", self.epsilon, 0.0, math.inf, open_ends=True)
        return rate, _as_betas(self.betas), epsilon

    def _check(self, gradients: Mapping[str, Array]) -> None:
        """Check everything that could make `step` fail halfway."""
        for found in (gradients, self._moments):
            missing = self.parameters.keys() ^ found.keys()
            if missing:
                other = "gradients" if found is gradients else "what Adam was made for"
                raise ValueError(f"parameters and {other} do not share the names {sorted(missing)}")
        arguments.check_writeable("parameters", self.parameters)
        for name, moments in self._moments.items():
            arguments.check_floats(f"gradients[{name!r}]", gradients[name])
            for argument, array in (("parameters", self.parameters[name]), ("gradients", gradients[name])):
                if array.shape != moments.mean.shape:
                    raise ValueError(f"{argument}[{name!r}] has shape {array.shape}; allowed: {moments.mean.shape}")


class _Moments:
    """Running means of the gradients of a parameter and of their squares.

    Both have its dtype while squares and updates are well within its range. After that they are float64, and the
    second one is stored as its root.
    """

    def __init__(self, parameter: Array) -> None:
        self.mean = np.zeros(parameter.shape, parameter.dtype)
        self.second = np.zeros(parameter.shape, parameter.dtype)
        self.rooted = False

    def follow(self, gradient: Array, first: float, second: float, rate: float, epsilon: float) -> None:
        """Update the means with a gradient; `rate` and `epsilon` belong to the update that follows."""
        if not self.rooted and not self._fits(gradient, rate, epsilon):
            self.mean, self.second = self.mean.astype(np.float64), np.sqrt(self.second.astype(np.float64))
            self.rooted = True
        if self.rooted:
            exact = gradient.astype(np.float64)
            self.mean = first * self.mean + (1 - first) * exact
            self.second = np.hypot(math.sqrt(second) * self.second, math.sqrt(1 - second) * exact)
        else:
            self.mean += (1 - first) * (gradient - self.mean)
            self.second += (1 - second) * (gradient * gradient - self.second)

    def descend(self, parameter: Array, rate: float, root: float, epsilon: float) -> None:
        """Update the parameter."""
        if not self.rooted:
            parameter -= rate * self.mean / (np.sqrt(self.second) / root + epsilon)
        elif rate:
            step = self.mean / (self.second / root + epsilon)
            np.subtract(parameter, min(rate, _MOST) * step, out=parameter, casting="same_kind")

    def _fits(self, gradient: Array, rate: float, epsilon: float) -> bool:
        """Return True if squares and updates do not overflow, and do not underflow noticeably beside epsilon."""
        info = np.finfo(self.mean.dtype)
        largest = max(float(gradient.max(initial=0)), -float(gradient.min(initial=0)))  # NaN if either is
        return max(largest, rate) < 0.1 * math.sqrt(info.max) and epsilon > 1e7 * math.sqrt(info.tiny)


def _as_betas(value: Any) -> tuple[float, float]:
    """Return two numbers, from 0 to below 1."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"betas is {value!r}; allowed: two numbers") from None
    return _as_decay("betas[0]", first), _as_decay("betas[1]", second)


def _as_decay(name: str, value: Any) -> float:
    decay = as_number(name, value, -math.inf, math.inf)
    if not 0 <= decay < 1:
        raise ValueError(f"{name} is {value}; allowed: from 0 to below 1")
    return decay
