"""Returns of actions that another policy has taken."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_doubles, as_real
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import as_number
from .rollouts import Doubles, Rollout, as_factor, as_numbers, as_rollout

_LEAST = -1e300  # a logarithm of a ratio that stands for -inf


class VTraceReturns(NamedTuple):
    """Targets for a critic, and advantages for a policy.

    Attributes
    ----------
    returns : ndarray of float64, shape of the rewards
        Estimates of the returns of the policy, 0 beyond the lengths.
    advantages : ndarray of float64, shape of the rewards
        Estimates of the advantages of the actions, times their bounded ratios; 0 beyond the lengths.
    """

    returns: NDArray[np.float64]
    advantages: NDArray[np.float64]

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def vtrace_returns(
    rewards: ArrayLike,
    values: ArrayLike,
    log_ratios: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float | ArrayLike = 1.0,
    decay: float | ArrayLike = 1.0,
    clip_ratio: float = 1.0,
    clip_trace: float = 1.0,
    done: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    bootstrap_values: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> VTraceReturns:
    r"""V-trace: returns of a policy from the actions of another policy, and the advantages of these actions.

    .. math::
        v_t &= V_t + \delta_t + \gamma_t \lambda_t c_t (1 - d_t) \left(v_{t+1} - V_{t+1}\right), \quad
        \delta_t = \rho_t \left(r_t + \gamma_t (1 - d_t) V_{t+1} - V_t\right) \\
        A_t &= \rho_t \left(r_t + \gamma_t (1 - d_t) v_{t+1} - V_t\right)

    with the ratio :math:`e^{\ell_t}` of the probabilities of an action under the policy and under the policy that chose
    it, :math:`\rho_t = \min(\bar\rho, e^{\ell_t})`, :math:`c_t = \min(\bar c, e^{\ell_t})`, :math:`d_t` = 1 if an
    episode ends with step t and 0 otherwise, and :math:`v_T = V_T` the final value [1]_.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. Place the reward of a whole sequence at its last step.
    values : array_like, shape of `rewards`
        Expected returns before each step, from a critic or a baseline; finite.
    log_ratios : array_like, shape of `rewards`
        Log-probabilities :math:`\ell` of the actions under the policy, minus those under the policy that chose them.
        Finite, or -inf for an action that the policy excludes.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float, or array_like of the shape of `rewards`
        Factor :math:`\gamma`, from 0 to 1: a number for all steps, or :math:`\gamma_t` for each step.
    decay : float, or array_like of the shape of `rewards`
        Factor :math:`\lambda` of the traces, from 0 to 1: a number for all steps, or :math:`\lambda_t` for each step.
    clip_ratio : float
        Bound :math:`\bar\rho` of the ratios, from 0 to 1e30.
    clip_trace : float
        Bound :math:`\bar c` of the ratios in the traces, from 0 to 1.
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
    VTraceReturns
        Named tuple ``(returns, advantages)`` of arrays of float64, of the shape of `rewards`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above. The message names the argument, the position,
        the value and what is allowed.

    See Also
    --------
    policy_gradient_loss : the loss that takes these advantages.
    retrace_returns : the same for values of actions.

    References
    ----------
    .. [1] L. Espeholt et al., "IMPALA: scalable distributed deep-RL with importance weighted actor-learner
       architectures", ICML 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> found = fsl.vtrace_returns([[0, 1]], [[0.5, 0.5]], np.log([[0.5, 2.0]]))
    >>> found.returns, found.advantages
    (array([[0.75, 1.  ]]), array([[0.25, 0.5 ]]))
    """
    rollout = as_rollout(rewards, lengths, discount, done, truncated, bootstrap_values, final_values)
    trace = as_factor("decay", decay, rollout.steps, rollout.counts)
    bound = as_number("clip_ratio", clip_ratio, 0.0, 1e30)
    bound_of_traces = as_number("clip_trace", clip_trace, 0.0, 1.0)
    now = as_numbers("values", values, rollout)
    logs = _as_log_ratios(log_ratios, rollout)
    rollout.shrink(now)
    with np.errstate(all="ignore"):
        ratio = _bounded_ratio(logs, bound)
        of_traces = ratio if bound == bound_of_traces else _bounded_ratio(logs, bound_of_traces)
        errors = _surprises(rollout, now, now) * ratio
        rollout.accumulate(errors, of_traces * (rollout.discount * trace))
        targets = np.add(now, errors, out=errors)
        gains = _surprises(rollout, now, targets)
        gains *= ratio
    return VTraceReturns(rollout.grown(targets), rollout.grown(gains))


@known_keywords
def retrace_returns(
    rewards: ArrayLike,
    action_values: ArrayLike,
    values: ArrayLike,
    log_ratios: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    discount: float | ArrayLike = 1.0,
    decay: float | ArrayLike = 1.0,
    done: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    bootstrap_values: ArrayLike | None = None,
    final_values: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Retrace: returns of a policy from the actions of another policy, given values of the
    actions.

    .. math::
        G_t = r_t + \gamma_t (1 - d_t) \left(V_{t+1} + \lambda_{t+1} \min(1, e^{\ell_{t+1}})
        \left(G_{t+1} - Q_{t+1}\right)\right)

    with the ratio :math:`e^{\ell_t}` of the probabilities of an action under the policy and under the policy that chose
    it, :math:`d_t` = 1 if an episode ends with step t and 0 otherwise, :math:`V_T` the final value, and
    :math:`G_T = Q_T` [1]_.

    Parameters
    ----------
    rewards : array_like [B, T] or [T]
        Rewards, finite. Place the reward of a whole sequence at its last step.
    action_values : array_like, shape of `rewards`
        Expected returns :math:`Q_t` after the actions taken; finite.
    values : array_like, shape of `rewards`
        Expected returns :math:`V_t` before each step: the means of the values of all actions under the policy; finite.
    log_ratios : array_like, shape of `rewards`
        Log-probabilities :math:`\ell` of the actions under the policy, minus those under the policy that chose them.
        Finite, or -inf for an action that the policy excludes.
    lengths : array_like of int [B], optional
        Time steps of each sequence; all by default. Padding is never read.
    discount : float, or array_like of the shape of `rewards`
        Factor :math:`\gamma`, from 0 to 1: a number for all steps, or :math:`\gamma_t` for each step.
    decay : float, or array_like of the shape of `rewards`
        Factor :math:`\lambda` of the traces, from 0 to 1: a number for all steps, or :math:`\lambda_t` for each step.
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
        Targets for the values of the actions, 0 beyond `lengths`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or numbers are not as above. The message names the argument, the position,
        the value and what is allowed.

    See Also
    --------
    vtrace_returns : for values of states.

    References
    ----------
    .. [1] R. Munos, T. Stepleton, A. Harutyunyan, M. Bellemare, "Safe and efficient off-policy reinforcement learning",
       NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.retrace_returns([[0, 1]], [[0.5, 0.5]], [[0.5, 0.25]], np.log([[1.0, 0.5]]))
    array([[0.5, 1. ]])
    """
    rollout = as_rollout(rewards, lengths, discount, done, truncated, bootstrap_values, final_values)
    trace = as_factor("decay", decay, rollout.steps, rollout.counts)
    taken = as_numbers("action_values", action_values, rollout)
    now = as_numbers("values", values, rollout)
    logs = _as_log_ratios(log_ratios, rollout)
    rollout.shrink(now, taken)
    with np.errstate(all="ignore"):
        traces, next_traces = trace * _bounded_ratio(logs, 1.0), np.zeros_like(logs)
        next_traces[:, :-1] = traces[:, 1:]
        errors = _surprises(rollout, taken, now)
        rollout.accumulate(errors, rollout.discount * next_traces)
        errors += taken
        return rollout.grown(errors)


def _as_log_ratios(value: Any, rollout: Rollout) -> Doubles:
    """Return logarithms of ratios [B, T], finite or -inf, for which a very small one stands."""
    logs = as_doubles(as_real("log_ratios", value))
    logs[np.isneginf(logs)] = _LEAST
    return as_numbers("log_ratios", logs, rollout, "finite, or -inf")


def _surprises(rollout: Rollout, expected: Doubles, values: Doubles) -> Doubles:
    """Return rewards and discounted values of the next states minus expected values, 0 for steps that do not count."""
    found = rollout.after(values)
    found *= rollout.discount
    found += rollout.rewards
    found -= expected
    return found


def _bounded_ratio(logs: Doubles, bound: float) -> Doubles:
    """Return the smaller one of a ratio and its bound, given the logarithm of the ratio."""
    if not bound:
        return np.zeros_like(logs)
    ratio = np.minimum(logs, math.log(bound))
    np.exp(ratio, out=ratio)
    return np.minimum(ratio, bound, out=ratio)
