"""Advantages of sequences beside the others of their group."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array, as_finite, read_integers
from .._core.keywords import known_keywords
from .._core.messages import indexed
from .._core.options import as_integer, as_number, choice
from .rollouts import Doubles, grow, shrink

_BASELINES = ("mean", "leave_one_out")
_SCALES = ("group", "batch", "none")


@known_keywords
def group_advantages(
    rewards: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    baseline: Literal["mean", "leave_one_out"] = "mean",
    scale: Literal["group", "batch", "none"] = "group",
    ddof: int = 0,
    eps: float = 1e-4,
) -> NDArray[np.float64]:
    r"""Rewards of sequences minus the baseline of their group, divided by a standard deviation.

    .. math:: A_i = \frac{r_i - b_i}{\sigma + \epsilon}

    with the mean :math:`b_i` of the rewards of the group, as in GRPO [1]_, or of the other rewards of the group, as in
    RLOO [2]_, and the standard deviation :math:`\sigma` of the rewards of the group, or of all rewards.

    Parameters
    ----------
    rewards : array_like [B] or [B, G]
        Reward of each sequence, finite.
    groups : array_like of int, shape of `rewards`, optional
        Number of the group of each sequence, in any order. The sequences of a group answer the same question. By
        default, each row of [B, G] is a group, and [B] is one group.
    baseline : {"mean", "leave_one_out"}
        The mean of the group, or the mean of all other rewards of the group, which must then have two or more.
    scale : {"group", "batch", "none"}
        Divisor: the standard deviation of the group, that of all rewards, or none.
    ddof : {0, 1}
        The standard deviation divides the sum of squares by the number of rewards minus `ddof`. PyTorch uses 1.
    eps : float
        Number :math:`\epsilon` that is added to standard deviations, 0 or more.

    Returns
    -------
    advantages : ndarray of float64, shape of `rewards`
        Advantages, exactly 0 where all rewards of a group are the same.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, groups or numbers are not as above. The message names the argument, the position,
        the value and what is allowed.

    See Also
    --------
    clipped_policy_loss : the loss that usually takes these advantages.

    References
    ----------
    .. [1] Z. Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in open language models",
       arXiv:2402.03300, 2024.
    .. [2] A. Ahmadian et al., "Back to basics: revisiting REINFORCE style optimization for learning from human feedback
       in LLMs", ACL 2024.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> fsl.group_advantages([1, 0, 4, 2], [7, 7, 3, 3], eps=0)
    array([ 1., -1.,  1., -1.])
    >>> fsl.group_advantages([[1, 0, 0.5]], baseline="leave_one_out", scale="none")
    array([[ 0.75, -0.75,  0.  ]])
    """
    others = choice("baseline", baseline, _BASELINES) == 1
    by = _SCALES[choice("scale", scale, _SCALES)]
    freedom, least = _as_ddof(ddof), as_number("eps", eps, 0.0, np.inf)
    given = as_array("rewards", rewards)
    if given.ndim not in (1, 2):
        raise ValueError(f"rewards has shape {given.shape}; allowed: [B], or [B, G] for groups of G")
    flat = as_finite("rewards", given, given.shape).reshape(-1)
    index = _as_groups(groups, given.shape)
    counts = np.bincount(index)
    if others:
        _check_others(counts[index], given.shape)
    unit = shrink(flat)
    with np.errstate(all="ignore"):
        apart = _centred(flat, index, counts)
        if by == "none":
            exponent, scaled = unit, apart
        else:
            of, n = (index, counts) if by == "group" else (np.zeros_like(index), np.array([len(index)]))
            spread = apart if by == "group" else _centred(flat, of, n)
            exponent, scaled = 0, _standardized(apart, spread, of, n, freedom, float(np.ldexp(least, -unit)))
        if others:
            scaled *= (counts / np.maximum(counts - 1, 1))[index]
        return grow(scaled, exponent).reshape(given.shape)


def _centred(rewards: Doubles, index: NDArray[np.intp], counts: NDArray[np.intp]) -> Doubles:
    """Return rewards minus the means of their groups, exactly 0 in a group of equal ones."""
    base = np.empty(len(counts))
    base[index] = rewards
    apart = rewards - base[index]
    means = np.bincount(index, apart, len(counts)) / np.maximum(counts, 1)
    return np.asarray(apart - means[index])


def _standardized(
    values: Doubles, apart: Doubles, index: NDArray[np.intp], counts: NDArray[np.intp], freedom: int, eps: float
) -> Doubles:
    """Return values divided by the standard deviations of groups plus eps, given the distances from their means."""
    widest = np.zeros(len(counts))
    np.maximum.at(widest, index, np.abs(apart))
    # Exponents by which neither squares can overflow or underflow, nor eps can overflow.
    exponents = np.maximum(np.frexp(widest)[1], -600)
    squares = np.bincount(index, np.ldexp(apart, -exponents[index]) ** 2, len(counts))
    deviations = np.sqrt(squares / np.maximum(counts - freedom, 1))
    divisors = deviations + np.ldexp(eps, -exponents)
    scaled = np.ldexp(values, -exponents[index])
    result: Doubles = np.divide(scaled, divisors[index], out=np.zeros_like(scaled), where=scaled != 0)
    return result


def _as_ddof(value: Any) -> int:
    ddof = as_integer("ddof", value)
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}; allowed: 0 and 1")
    return ddof


def _as_groups(groups: Any, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the index of the group of each reward, flat."""
    if groups is None:
        return np.repeat(np.arange(shape[0]), shape[1]) if len(shape) == 2 else np.zeros(shape, np.intp)
    read = read_integers("groups", groups)
    if read.exact.shape != shape:
        raise ValueError(f"groups has shape {read.exact.shape}; allowed: {shape}, a group for each reward")
    return np.unique(read.exact.reshape(-1), return_inverse=True)[1].reshape(-1)


def _check_others(counts: NDArray[np.intp], shape: tuple[int, ...]) -> None:
    """Check that no reward is alone in its group."""
    alone = np.flatnonzero(counts == 1)
    if alone.size:
        where = tuple(int(i) for i in np.unravel_index(alone[0], shape))
        raise ValueError(
            f"{indexed('rewards', where)} is alone in its group; allowed with baseline='leave_one_out': 2 or more"
        )
