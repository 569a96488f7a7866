"""Returns and advantages from rewards."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.keywords import known_keywords
from .._core.options import as_integer
from .rollouts import Doubles, Rollout, as_factor, as_numbers, as_rollout


@known_keywords
def discounted_returns(
    rewards: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float | ArrayLike = 1.0,
    done: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    bootstrap_values: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Discounted sums of future rewards.

    .. math:: G_t = r_t + \gamma_t (1 - d_t)\, G_{t+1}

    with :math:`d_t` = 1 if an episode ends with step t and 0 otherwise, and :math:`G_T` the final value.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. Place the reward of a whole sequence at its last step.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float, or array_like of the shape of `rewards`
        Factor :math:`\gamma`, from 0 to 1: a number for all steps, or :math:`\gamma_t` for each step.
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps that end an episode: rewards after such a step do not add to the returns before it.
    truncated : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps at which an episode was cut off, for example by a time limit: rewards after such a step do not add to
        the returns before it, but its `bootstrap_values` do. A step that is also `done` counts as done.
    bootstrap_values : array_like, shape of `rewards`, optional
        Expected return of the state that the cut-off episode had reached after each `truncated` step; other
        elements are not read. Required with `truncated`.
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
    generalized_advantages : returns minus their expected values, with less variance.

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
    rollout = as_rollout(rewards, lengths, discount, done, truncated, bootstrap_values, final_values)
    rollout.shrink()
    return rollout.grown(_discounted(rollout))


def _discounted(rollout: Rollout) -> Doubles:
    """Overwrite the rewards by the discounted sums of those that follow."""
    sums = rollout.rewards
    if rollout.cut is not None:
        with np.errstate(all="ignore"):
            sums += rollout.discount * rollout.bootstrap
    rollout.accumulate(sums, rollout.discount, rollout.final)
    return sums


@known_keywords
def n_step_returns(
    rewards: ArrayLike,
    values: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    n: int,
    discount: float | ArrayLike = 1.0,
    done: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    bootstrap_values: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Discounted sums of the rewards of n steps and of the value of the state after them.

    .. math:: G_t = \sum_{k=0}^{n-1} \gamma^k r_{t+k} + \gamma^n V_{t+n}

    within an episode. Near its end, the sum has fewer terms, and a value follows them only if the episode was cut off.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. Place the reward of a whole sequence at its last step.
    values : array_like, shape of `rewards`
        Expected returns before each step, from a critic or a baseline; finite.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    n : int
        Number of steps, 1 or more.
    discount : float, or array_like of the shape of `rewards`
        Factor :math:`\gamma`, from 0 to 1: a number for all steps, or :math:`\gamma_t` for each step.
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps that end an episode: rewards after such a step do not add to the returns before it.
    truncated : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps at which an episode was cut off, for example by a time limit: rewards after such a step do not add to
        the returns before it, but its `bootstrap_values` do. A step that is also `done` counts as done.
    bootstrap_values : array_like, shape of `rewards`, optional
        Expected return of the state that the cut-off episode had reached after each `truncated` step; other
        elements are not read. Required with `truncated`.
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
    discounted_returns : the sums of all steps.

    References
    ----------
    .. [1] R. Sutton, A. Barto, "Reinforcement learning: an introduction", 2nd edition, MIT Press 2018,
       section 7.1.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.n_step_returns([[1, 1, 1, 1]], [[8, 8, 8, 8]], n=2, discount=0.5)
    array([[3.5, 3.5, 1.5, 1. ]])
    """
    rollout = as_rollout(rewards, lengths, discount, done, truncated, bootstrap_values, final_values)
    now = as_numbers("values", values, rollout)
    count = as_integer("n", n)
    if count < 1:
        raise ValueError(f"n is {count}; allowed: 1 or more")
    rollout.shrink(now)
    if count >= rollout.counts.shape[1]:  # no value of a state is left
        return rollout.grown(_discounted(rollout))
    with np.errstate(all="ignore"):
        for _ in range(count):
            now = rollout.rewards + rollout.discount * rollout.after(now)
    return rollout.grown(now)


@known_keywords
def generalized_advantages(
    rewards: ArrayLike,
    values: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float | ArrayLike = 1.0,
    decay: float | ArrayLike = 0.95,
    done: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    bootstrap_values: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Generalized advantage estimates.

    .. math::
        A_t = \delta_t + \gamma_t \lambda_t (1 - d_t)\, A_{t+1}, \quad
        \delta_t = r_t + \gamma_t (1 - d_t)\, V_{t+1} - V_t

    with :math:`d_t` = 1 if an episode ends with step t and 0 otherwise, :math:`V_T` the final value, and
    :math:`A_T = 0`.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. Place the reward of a whole sequence at its last step.
    values : array_like, shape of `rewards`
        Expected returns before each step, from a critic or a baseline; finite.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float, or array_like of the shape of `rewards`
        Factor :math:`\gamma`, from 0 to 1: a number for all steps, or :math:`\gamma_t` for each step.
    decay : float, or array_like of the shape of `rewards`
        Factor :math:`\lambda`, from 0 (little variance, the bias of `values`) to 1 (`discounted_returns` minus
        `values`): a number for all steps, or :math:`\lambda_t` for each step.
    done : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps that end an episode: rewards after such a step do not add to the returns before it.
    truncated : array_like of bool, or of 0 and 1, shape of `rewards`, optional
        Steps at which an episode was cut off, for example by a time limit: rewards after such a step do not add to
        the returns before it, but its `bootstrap_values` do. A step that is also `done` counts as done.
    bootstrap_values : array_like, shape of `rewards`, optional
        Expected return of the state that the cut-off episode had reached after each `truncated` step; other
        elements are not read. Required with `truncated`.
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
    vtrace_returns : for actions of another policy.

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
    rollout = as_rollout(rewards, lengths, discount, done, truncated, bootstrap_values, final_values)
    trace = as_factor("decay", decay, rollout.steps, rollout.counts)
    now = as_numbers("values", values, rollout)
    rollout.shrink(now)
    gains = rollout.rewards
    with np.errstate(all="ignore"):
        gains += rollout.discount * rollout.after(now) - now
        factor = rollout.discount * trace
    gains[~rollout.counts] = 0
    rollout.accumulate(gains, factor)
    return rollout.grown(gains)
