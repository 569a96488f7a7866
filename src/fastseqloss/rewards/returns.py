"""Returns and advantages of padded sequences of rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_lengths, as_mask
from .._core.levels import load
from .._core.options import as_number
from .._core.steps import Steps
from .arguments import as_finite

if TYPE_CHECKING:
    from .._kernels.rewards import policy as _kernel
else:
    _kernel = load("rewards.policy")


def discounted_returns(
    rewards: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float = 1.0,
    done: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Discounted sums of the rewards to come.

    .. math:: G_t = r_t + \gamma (1 - d_t)\, G_{t+1}

    with :math:`d_t` 1 where an episode ends with step t, and :math:`G_T` the final value.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite; a reward that comes at the end alone is one at the last step.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. What lies beyond is never read.
    discount : float
        The factor :math:`\gamma`, from 0 to 1.
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps with which an episode ends: nothing that comes later counts before them.
    final_values : array_like [B], optional
        What is expected after the last step of each sequence, where it was cut off and did not end; 0 by
        default.

    Returns
    -------
    returns : ndarray of float64, shape of `rewards`
        0 beyond `lengths`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above, naming the argument, the position, the
        value and what is allowed.

    See Also
    --------
    generalized_advantages : returns less what was expected, with less variance.

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

    with :math:`d_t` 1 where an episode ends with step t, :math:`V_T` the final value and :math:`A_T = 0`.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite.
    values : array_like, shape of `rewards`
        What was expected before each step: of a critic, or a baseline. Finite.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. What lies beyond is never read.
    discount : float
        The factor :math:`\gamma`, from 0 to 1.
    decay : float
        The factor :math:`\lambda`, from 0 (little variance, the bias of `values`) to 1 (`discounted_returns`
        less `values`).
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps with which an episode ends: nothing that comes later counts before them.
    final_values : array_like [B], optional
        What is expected after the last step of each sequence, where it was cut off and did not end; 0 by
        default.

    Returns
    -------
    advantages : ndarray of float64, shape of `rewards`
        0 beyond `lengths`. Added to `values` they are targets for a critic.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above, naming the argument, the position, the
        value and what is allowed.

    See Also
    --------
    clipped_policy_loss : what they are usually made for.

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


_LARGE, _SHIFT = 1e250, 128  # sums of any number of numbers below it are finite; of finite ones over 2^_SHIFT, too


def _shrink(*arrays: NDArray[np.float64]) -> int:
    """Divide finite numbers, in place, by a power of 2 if sums of them might overflow; return its exponent."""
    if all(max(array.max(initial=0), -array.min(initial=0)) < _LARGE for array in arrays):
        return 0
    with np.errstate(under="ignore"):
        for array in arrays:
            np.ldexp(array, -_SHIFT, out=array)
    return _SHIFT


def _grown(sums: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """Undo `_shrink`; what is beyond the range then is infinite, of its sign."""
    if exponent:
        with np.errstate(over="ignore"):
            np.ldexp(sums, exponent, out=sums)
    return sums


def _steps(given: NDArray[Any], lengths: Any, done: Any) -> tuple[Steps, NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Return the steps, a row for each sequence even if there is but one; which count; where episodes end."""
    if given.ndim not in (1, 2):
        raise ValueError(f"rewards has shape {given.shape}; allowed: [B, T], or [T] for one sequence")
    single = given.ndim == 1
    shape = (1, len(given)) if single else given.shape
    first = as_lengths("lengths", lengths, shape[0], shape[1], single)
    counts = Steps(shape, first, None).counting()
    ends = None
    if done is not None:
        ends = as_mask("done", done, given.shape, counts).view(np.uint8).reshape(shape)
    return Steps(given.shape, first, None), counts, ends


def _final(final_values: Any, steps: Steps) -> NDArray[np.float64]:
    if final_values is None:
        return np.zeros(len(steps.lengths()))
    final_values = as_array("final_values", final_values)
    batch = len(steps.lengths())
    shape = () if batch == 1 and final_values.ndim == 0 else (batch,)
    return as_finite("final_values", final_values, shape).reshape(-1)
