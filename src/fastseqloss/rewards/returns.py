"""Returns and advantages of padded sequences of rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_finite, as_lengths, as_mask
from .._core.levels import load
from .._core.options import as_number
from .._core.steps import Steps

if TYPE_CHECKING:
    from .._kernels.rewards import returns as _kernel
else:
    _kernel = load("rewards.returns")


def discounted_returns(
    rewards: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float = 1.0,
    done: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Discounted sums of future rewards.

    .. math:: G_t = r_t + \gamma (1 - d_t)\, G_{t+1}

    with :math:`d_t` = 1 if an episode ends with step t and 0 otherwise, and :math:`G_T` the final value.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. A reward for the whole sequence belongs at its last step.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float
        Factor :math:`\gamma`, from 0 to 1.
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps that end an episode: rewards after such a step do not count before it.
    final_values : array_like [B], optional
        Expected return after the last step of each sequence, for sequences that were cut off; 0 by default.

    Returns
    -------
    returns : ndarray of float64, shape of `rewards`
        Returns, 0 beyond `lengths`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above. The message names the argument, the position,
        the value and what is allowed.

    See Also
    --------
    generalized_advantages : returns less their expected values, with less variance.

    References
    ----------
    .. [1] R. Sutton, A. Barto, "Reinforcement learning: an introduction", 2nd edition, MIT Press 2018,
       section 3.3.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.discounted_returns([[0, 0, 1], [1, 1, 7]], [3, 2], discount=0.5)
    array([[0.25, 0.5 , 1.  ],
           [1.5 , 1.  , 0.  ]])
    """
    rewards = as_array("rewards", rewards)
    steps, counts, ends = _steps(rewards, lengths, done)
    factor = as_number("discount", discount, 0.0, 1.0)
    sums = as_finite("rewards", rewards, steps.shape, counts).reshape(counts.shape)
    final = _final(final_values, steps)
    unit = _shrink(sums, final)
    _kernel.sums_backwards(sums, final, steps.lengths(), ends, factor)
    return _grown(sums, unit).reshape(steps.shape)


def generalized_advantages(
    rewards: ArrayLike,
    values: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float = 1.0,
    decay: float = 0.95,
    done: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Generalized advantage estimates.

    .. math::
        A_t = \delta_t + \gamma \lambda (1 - d_t)\, A_{t+1}, \quad
        \delta_t = r_t + \gamma (1 - d_t)\, V_{t+1} - V_t

    with :math:`d_t` = 1 if an episode ends with step t and 0 otherwise, :math:`V_T` the final value, and
    :math:`A_T = 0`.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. A reward for the whole sequence belongs at its last step.
    values : array_like, shape of `rewards`
        Expected returns before each step, from a critic or a baseline; finite.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float
        Factor :math:`\gamma`, from 0 to 1.
    decay : float
        Factor :math:`\lambda`, from 0 (little variance, the bias of `values`) to 1 (`discounted_returns` less
        `values`).
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps that end an episode: rewards after such a step do not count before it.
    final_values : array_like [B], optional
        Expected return after the last step of each sequence, for sequences that were cut off; 0 by default.

    Returns
    -------
    advantages : ndarray of float64, shape of `rewards`
        Advantages, 0 beyond `lengths`. Their sum with `values` is a target for a critic.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above. The message names the argument, the position,
        the value and what is allowed.

    See Also
    --------
    clipped_policy_loss : the loss that usually takes these advantages.

    References
    ----------
    .. [1] J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-dimensional continuous control
       using generalized advantage estimation", ICLR 2016.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.generalized_advantages([[0, 0, 1]], [[0.5, 0.5, 0.5]], discount=1, decay=0.5)
    array([[0.125, 0.25 , 0.5  ]])
    """
    rewards = as_array("rewards", rewards)
    steps, counts, ends = _steps(rewards, lengths, done)
    factor = as_number("discount", discount, 0.0, 1.0)
    trace = as_number("decay", decay, 0.0, 1.0)
    shape = counts.shape
    gains = as_finite("rewards", rewards, steps.shape, counts).reshape(shape)
    now = as_finite("values", values, steps.shape, counts).reshape(shape)
    final = _final(final_values, steps)
    unit = _shrink(gains, now, final)
    after = np.zeros(shape)
    after[:, :-1] = now[:, 1:]
    at_end = np.flatnonzero(steps.lengths())
    after[at_end, steps.lengths()[at_end] - 1] = final[at_end]
    if ends is not None:
        after[ends.view(np.bool_)] = 0
    with np.errstate(all="ignore"):
        gains += factor * after - now
    gains[~counts] = 0
    _kernel.sums_backwards(gains, np.zeros(len(gains)), steps.lengths(), ends, factor * trace)
    return _grown(gains, unit).reshape(steps.shape)


_LARGE, _SHIFT = 1e250, 128  # sums of numbers below _LARGE are finite, and so are sums of finite numbers over 2^_SHIFT


def _shrink(*arrays: NDArray[np.float64]) -> int:
    """Divide finite numbers in place by a power of 2 if their sums might overflow; return its exponent."""
    if all(max(array.max(initial=0), -array.min(initial=0)) < _LARGE for array in arrays):
        return 0
    with np.errstate(under="ignore"):
        for array in arrays:
            np.ldexp(array, -_SHIFT, out=array)
    return _SHIFT


def _grown(sums: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """Undo `_shrink`; sums out of range become infinite, of their sign."""
    if exponent:
        with np.errstate(over="ignore"):
            np.ldexp(sums, exponent, out=sums)
    return sums


def _steps(given: NDArray[Any], lengths: Any, done: Any) -> tuple[Steps, NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Return the steps, the mask [B, T] of those that count, and the mask [B, T] of the ends of episodes, or None."""
    if given.ndim not in (1, 2):
        raise ValueError(f"rewards has shape {given.shape}; allowed: [B, T], or [T] for one sequence")
    single = given.ndim == 1
    shape = (1, len(given)) if single else given.shape
    first = as_lengths("lengths", lengths, shape[0], shape[1], single)
    counts = Steps.of(shape, first, None).counting()
    ends = None
    if done is not None:
        ends = as_mask("done", done, given.shape, counts).view(np.uint8).reshape(shape)
    return Steps.of(given.shape, first, None), counts, ends


def _final(final_values: Any, steps: Steps) -> NDArray[np.float64]:
    if final_values is None:
        return np.zeros(len(steps.lengths()))
    final_values = as_array("final_values", final_values)
    batch = len(steps.lengths())
    shape = () if batch == 1 and final_values.ndim == 0 else (batch,)
    return as_finite("final_values", final_values, shape).reshape(-1)
