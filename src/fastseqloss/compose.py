"""Weighted sums of losses, and a check of gradients."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arrays import as_array, as_doubles, as_floats, as_real, is_real
from ._core.foreign import as_output
from ._core.gradient import check_grad_out
from ._core.keywords import known_keywords
from ._core.messages import brief, listed
from ._core.options import as_number, flag

LossFunction = Callable[..., Any]

_HALF = 2  # bytes
_SMALL = 2.0**-64


class _Term(NamedTuple):
    weight: float
    loss: LossFunction
    name: str
    writes: bool  # takes grad_out, as the losses of this package do


class WeightedSum:
    """A weighted sum of losses; see `weighted_sum`."""

    def __init__(self, terms: Iterable[tuple[float, LossFunction]]) -> None:
        try:
            listed = iter(terms)
        except TypeError:
            raise TypeError(f"terms is a {type(terms).__name__}; allowed: an iterable of (weight, loss)") from None
        self._terms = [_as_term(i, term) for i, term in enumerate(listed)]
        if not self._terms:
            raise ValueError("terms is empty; allowed: one term or more")

    def __repr__(self) -> str:
        return f"weighted_sum({[(term.weight, term.name) for term in self._terms]})"

    @overload
    def __call__(self, scores: ArrayLike, *, return_grad: Literal[False] = ..., grad_out: None = ...) -> float: ...
    @overload
    def __call__(
        self, scores: ArrayLike, *, return_grad: Literal[True], grad_out: NDArray[Any] | None = ...
    ) -> tuple[float, NDArray[Any]]: ...
    @overload
    def __call__(
        self, scores: ArrayLike, *, return_grad: bool = ..., grad_out: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]: ...
    def __call__(
        self, scores: ArrayLike, *, return_grad: bool = False, grad_out: NDArray[Any] | None = None
    ) -> float | tuple[float, NDArray[Any]]:
        """Return the sum for these scores, and its gradient if requested."""
        given = as_array("scores", scores)
        terms = [term for term in self._terms if term.weight]
        if not flag("return_grad", return_grad) and grad_out is None:
            return _total(terms, [term.weight * _loss_of(term, given) for term in terms])
        given = as_floats("scores", given)
        if grad_out is not None:
            grad_out = as_output(grad_out)
            check_grad_out(grad_out, given)
        total, gradient = _accumulate(terms, given, grad_out)
        if grad_out is None:
            with np.errstate(over="ignore", under="ignore"):
                return total, gradient.astype(given.dtype, copy=False)
        if gradient is not grad_out:
            with np.errstate(over="ignore", under="ignore"):
                np.copyto(grad_out, gradient, casting="same_kind")
        return total, grad_out


@known_keywords
def weighted_sum(terms: Iterable[tuple[float, LossFunction]]) -> WeightedSum:
    r"""Return the weighted sum of losses of the same scores, :math:`L(x) = \sum_i w_i L_i(x)`.

    Parameters
    ----------
    terms : iterable of (float, callable)
        Finite weights, and losses. A loss is a function of this package with all arguments except the scores bound
        (`functools.partial`), or any callable that takes the scores and returns ``(loss, gradient)``, a number and an
        array of the shape of the scores. A term of weight 0 is not called.

    Returns
    -------
    loss : callable
        ``loss(scores)`` returns the sum; ``loss(scores, return_grad=True)`` and ``loss(scores, grad_out=array)``
        return ``(loss, gradient)``. It may be a term of another sum.

    Raises
    ------
    ValueError, TypeError
        If a term is not as above; the message names it. If a term raises an exception, a note names the term. A call
        also raises ValueError if some terms are inf and others -inf, because their sum is not defined; the message
        names both.

    See Also
    --------
    check_grad : a check for the gradients of your own terms.

    Notes
    -----
    Losses of this package write their gradients into existing arrays: the first term into the result, and the other
    terms, in turn, into one further array. Gradients in half precision are added up in float32. `grad_out` may be the
    scores, or share memory with arrays that are bound to the terms; it is then written after all terms have been
    called. Otherwise, if a term raises an exception, `grad_out` may contain the gradients of earlier terms.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> def penalty(x):  # keeps logits small
    ...     return float((x**2).mean()), 2 * x / x.size
    >>> loss = fsl.weighted_sum([(1.0, partial(fsl.softmax_cross_entropy, targets=[[0, 1]])), (0.1, penalty)])
    >>> x = np.array([[[2.0, 0.0], [0.0, 2.0]]])
    >>> round(loss(x), 6)
    0.326928
    >>> value, grad = loss(x, return_grad=True)
    >>> grad.round(4)
    array([[[0.0404, 0.0596],
            [0.0596, 0.0404]]])
    """
    return WeightedSum(terms)


@known_keywords
def check_grad(loss_fn: LossFunction, x: ArrayLike, *, rng: np.random.Generator | int | None = None) -> float:
    """Compare the gradient of a loss with central differences.

    Parameters
    ----------
    loss_fn : callable
        A loss of this package with all other arguments bound, a `weighted_sum`, or any callable that takes
        the scores and returns ``(loss, gradient)``. If the loss is an array, its sum is differentiated.
    x : array_like
        Scores at which to compare, converted to float64.
    rng : numpy.random.Generator or int, optional
        Selects 1000 elements to compare if `x` has more; seed 0 by default.

    Returns
    -------
    error : float
        Largest absolute difference, about 1e-9 times the size of the loss for a correct gradient. NaN if the loss or
        the gradient is not finite.

    Raises
    ------
    ValueError, TypeError
        If `loss_fn` does not return a loss and a gradient of the shape of `x`.

    Notes
    -----
    Within 1e-5 of a kink (of hinges, absolute values, clipped ratios), central differences differ from any gradient.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 4))
    >>> fsl.check_grad(partial(fsl.ctc_loss, labels=[[1, 2], [3, 3]]), x) < 1e-8
    True
    >>> fsl.check_grad(lambda x: (float((x**2).sum()), x), x) > 0.1  # 2 x would be right
    True
    """
    if not isinstance(rng, (np.random.Generator, int, np.integer, type(None))):
        raise TypeError(f"rng is a {type(rng).__name__}; allowed: numpy.random.Generator, int or None")
    point = as_doubles(as_real("x", x))
    term = _Term(1.0, loss_fn, f"loss_fn ({_name(loss_fn)})", _takes(loss_fn, "grad_out"))
    _, gradient = _checked(term, _call(term, point, gradient=True), point, scalar=False)
    positions = np.arange(point.size)
    if point.size > 1000:
        positions = np.random.default_rng(0 if rng is None else rng).choice(point.size, 1000, replace=False)
    flat, derivatives, worst = point.reshape(-1), as_doubles(gradient).reshape(-1), 0.0
    for i in positions:
        error = abs(_difference(term, point, flat, int(i)) - float(derivatives[i]))
        if math.isnan(error):
            return math.nan
        worst = max(worst, error)
    return worst


def _difference(term: _Term, point: NDArray[Any], flat: NDArray[Any], i: int) -> float:
    """Return the central difference of the loss by element i of a point; `flat` is a view of the point."""
    here = float(flat[i])
    step = 1e-5 * max(1.0, abs(here)) if math.isfinite(here) else 1.0
    ends = []
    for moved in (here + step, here - step):
        flat[i] = moved
        result = _call(term, point, gradient=False)
        ends.append(float(_as_losses(term, _first(result)).sum()))
    flat[i] = here
    # Infinite scores and padding do not change the loss.
    return 0.0 if ends[0] == ends[1] else (ends[0] - ends[1]) / ((here + step) - (here - step))


def _as_term(i: int, term: Any) -> _Term:
    if not isinstance(term, (tuple, list)) or len(term) != 2:
        raise TypeError(f"terms[{i}] is {brief(term)}; allowed: (weight, loss)")
    weight, loss = term
    if not callable(loss):
        raise TypeError(f"terms[{i}][1] is {brief(loss)}; allowed: a callable")
    number = as_number(f"terms[{i}][0]", weight, -math.inf, math.inf)
    return _Term(number, loss, f"terms[{i}] ({_name(loss)})", _takes(loss, "grad_out"))


def _name(loss: LossFunction) -> str:
    while isinstance(loss, partial):
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def _takes(loss: LossFunction, name: str) -> bool:
    try:
        return name in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False


def _call(term: _Term, scores: NDArray[Any], *, gradient: bool, into: NDArray[Any] | None = None) -> Any:
    options: dict[str, Any] = {}
    if into is not None and term.writes:
        options["grad_out"] = into
    elif gradient and _takes(term.loss, "return_grad"):
        options["return_grad"] = True
    try:
        return term.loss(scores, **options)
    except Exception as error:
        error.add_note(f"in {term.name}")
        raise


def _loss_of(term: _Term, scores: NDArray[Any]) -> float:
    result = _call(term, scores, gradient=False)
    return _as_loss(term, _first(result))


def _first(result: Any) -> Any:
    """Return the loss of a result, which may be a loss alone or a loss and its gradient."""
    return result[0] if isinstance(result, tuple) and result else result


def _as_loss(term: _Term, loss: Any) -> float:
    losses = _as_losses(term, loss)
    if losses.ndim:
        raise ValueError(f"the loss of {term.name} has shape {losses.shape}; allowed: a number")
    return float(losses)


def _as_losses(term: _Term, losses: Any) -> NDArray[np.float64]:
    array = as_array(f"the loss of {term.name}", losses)
    if not is_real(array.dtype) or array.dtype.kind == "b":
        raise ValueError(f"the loss of {term.name} is {brief(losses)}; allowed: a number")
    return as_doubles(array)


def _checked(term: _Term, result: Any, scores: NDArray[Any], *, scalar: bool = True) -> tuple[Any, NDArray[Any]]:
    """Return the checked loss and gradient of the result of a term."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{term.name} returned {type(result).__name__}; allowed: (loss, gradient)")
    loss, gradient = result
    if isinstance(gradient, tuple):
        raise TypeError(f"{term.name} returned gradients of several arguments; allowed: (loss, gradient)")
    array = as_real(f"the gradient of {term.name}", gradient)
    if array.shape != scores.shape:
        raise ValueError(f"the gradient of {term.name} has shape {array.shape}; allowed: {scores.shape}")
    return _as_loss(term, loss) if scalar else loss, array


def _accumulate(terms: list[_Term], scores: NDArray[Any], grad_out: NDArray[Any] | None) -> tuple[float, NDArray[Any]]:
    """Return the sum and its gradient, in `grad_out` unless terms read from its memory."""
    dtype = np.dtype(np.float32) if scores.dtype.itemsize == _HALF else scores.dtype
    if not all(_SMALL < abs(term.weight) < 1 / _SMALL for term in terms):
        dtype = np.dtype(np.float64)  # float32 may not hold the weight
    read = [scores, *(term.loss for term in terms[1:])]
    if grad_out is not None and dtype == scores.dtype and not _is_read(grad_out, read):
        gradient = grad_out
    else:
        gradient = np.empty(scores.shape, dtype)
    losses, room, first = [], None, True
    for term in terms:
        if first and dtype == scores.dtype:
            into = gradient
        else:
            room = np.empty(scores.shape, scores.dtype) if room is None else room
            into = room
        loss, found = _checked(term, _call(term, scores, gradient=True, into=into), scores)
        losses.append(term.weight * loss)
        _add(gradient, found, term.weight, first, into if term.writes else None)
        first = False
    if first:
        gradient[...] = 0
    return _total(terms, losses), gradient


def _is_read(array: NDArray[Any], values: Iterable[Any], depth: int = 4) -> bool:
    """Return True if the array is known to share memory with one of the values, or with arguments bound to them."""
    for value in values:
        found = as_output(value)
        if isinstance(found, np.ndarray):
            if np.may_share_memory(array, found):
                return True
        elif depth and _is_read(array, _held(value), depth - 1):
            return True
    return False


def _held(value: Any) -> list[Any]:
    """Return the objects known to be held by a callable or a container."""
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, WeightedSum):
        return [term.loss for term in value._terms]
    if inspect.isfunction(value):
        names = inspect.getclosurevars(value)
        return [*names.nonlocals.values(), *names.globals.values(), *(value.__defaults__ or ())]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) and len(value) < 1000 else []


def _total(terms: list[_Term], losses: list[float]) -> float:
    """Return the sum of the weighted losses of the terms; ValueError if it has both inf and -inf."""
    if any(map(math.isnan, losses)):
        return math.nan
    above, below = ([i for i, loss in enumerate(losses) if loss == infinity] for infinity in (math.inf, -math.inf))
    if above and below:
        which = (listed([terms[i].name for i in some]) for some in (above, below))
        raise ValueError("the sum is not defined: times their weights, {} is inf and {} is -inf".format(*which))
    try:
        return math.fsum(losses)
    except OverflowError:  # of a partial sum
        return math.fsum(loss * 2.0**-64 for loss in losses) * 2.0**64


def _add(gradient: NDArray[Any], found: NDArray[Any], weight: float, first: bool, room: NDArray[Any] | None) -> None:
    """Add weight * found to the gradient, or set it if `first`; `room` may be overwritten."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if first:
            if found is not gradient or weight != 1:
                np.multiply(found, weight, out=gradient, casting="same_kind", dtype=gradient.dtype)
        elif weight == 1:
            np.add(gradient, found, out=gradient, casting="same_kind", dtype=gradient.dtype)
        else:
            fits = room is not None and room.dtype == gradient.dtype and found is room
            product = np.multiply(found, weight, out=room if fits else None, casting="same_kind", dtype=gradient.dtype)
            np.add(gradient, product, out=gradient)
