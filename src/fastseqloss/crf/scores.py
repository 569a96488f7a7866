"""Scores and probabilities of given paths of a linear-chain CRF."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.keywords import known_keywords
from .._core.options import flag
from .._core.threads import threads_for
from .._core.types import Loss
from .arguments import Potentials, as_potentials, as_tags
from .kernels import sums_over_paths


@known_keywords
def crf_score(
    emissions: ArrayLike,
    tags: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    normalize: bool = False,
    num_threads: int | None = None,
) -> Loss:
    r"""Score of given paths of tags, or their log-probability.

    .. math::
        s_b(y) = a_{y_1} + \sum_{t=1}^{T_b} x_{b,t,y_t} + \sum_{t=2}^{T_b} A_{y_{t-1},y_t} + z_{y_{T_b}}

    with emissions x, transitions A, starts a and ends z. With `normalize`, the logarithm of the sum over
    all paths is subtracted, which gives the negative of `crf_loss`.

    Parameters
    ----------
    emissions, tags, transitions, lengths, mask, start, end, num_threads
        As for `crf_loss`.
    normalize : bool
        If True, return log-probabilities.

    Returns
    -------
    ndarray of float64 [B], or float for one sequence
        Scores, added up without rounding errors, or log-probabilities in nats, which are never positive; -inf for a
        forbidden path, 0 for an empty sequence. NaN if a tag of the path has an emission of NaN; with `normalize`, if a
        valid step has NaN or +inf.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`, and if `normalize` is not a bool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> emissions, transitions = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[0.0, -1.0], [0.0, 0.0]])
    >>> fsl.crf_score(emissions, [0, 1], transitions)
    1.5
    >>> paths = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> log_prob = [fsl.crf_score(emissions, path, transitions, normalize=True) for path in paths]
    >>> round(float(np.exp(log_prob).sum()), 6)
    1.0
    """
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    checked_tags = as_tags(tags, potentials)
    threads_for(num_threads, 0.0, 1)
    if flag("normalize", normalize):
        scores = potentials.scores.values
        values = 0.0 - sums_over_paths(potentials, emissions=scores, tags=checked_tags, num_threads=num_threads)
    else:
        values = _sums(potentials, checked_tags)
    return float(values[0]) if potentials.single else values


def _sums(potentials: Potentials, tags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores of paths [B]."""
    emissions = potentials.scores.values
    batch, n_frames, _ = emissions.shape
    inside = np.arange(n_frames) < potentials.lengths[:, None]
    path = np.where(inside, tags, 0)
    terms = np.zeros((batch, 2 * n_frames + 1))
    if n_frames:
        own = np.take_along_axis(emissions, path[:, :, None], axis=2)[:, :, 0]
        terms[:, :n_frames] = np.where(inside, own, 0.0)
        pairs = path[:, :-1], path[:, 1:]
        if potentials.varying is None:
            between = potentials.transitions.values[pairs]
        else:
            steps = np.arange(batch)[:, None], np.arange(1, n_frames)
            between = potentials.varying[*steps, *pairs]
        terms[:, n_frames + 1 : -1] = np.where(inside[:, 1:], between, 0.0)
        filled = np.flatnonzero(potentials.lengths)
        terms[filled, n_frames] = potentials.start.values[path[filled, 0]]
        terms[filled, -1] = potentials.end.values[path[filled, potentials.lengths[filled] - 1]]
    return np.array([_sum(row) for row in terms.tolist()], dtype=np.float64)


def _sum(terms: list[float]) -> float:
    """Return the rounded sum; NaN of +inf and -inf."""
    try:
        return math.fsum(terms)
    except ValueError:  # +inf and -inf
        return math.nan
    except OverflowError:  # of a part of the terms
        return math.fsum([x * 2.0**-64 for x in terms]) * 2.0**64
