"""Best paths of a linear-chain CRF."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import check_output
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.options import as_integer
from .arguments import Potentials, as_potentials
from .kernels import best_paths

_MOST_PATHS = 4096  # the time of keeping them sorted grows with the square


class CRFPath(NamedTuple):
    """Best paths of a CRF.

    Attributes
    ----------
    tags : ndarray of int64 [B, T], or [B, N, T] for N = ``n_best`` paths
        Best tags; -1 in the padding, outside the mask, and at all steps of a path that does not exist.
    score : ndarray of float64 [B], or [B, N]; float for one path of one sequence
        Score of the path; -inf for a path that does not exist.
    """

    tags: NDArray[np.int64]
    score: Any

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def crf_decode(
    emissions: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    n_best: int | None = None,
    num_threads: int | None = None,
) -> CRFPath:
    r"""Path with the highest score, or paths with the N highest scores, by the Viterbi algorithm.

    .. math:: \hat y_b = \arg\max_y s_b(y)

    with the scores s of `crf_loss`, added up in float64. Among paths with equal scores, the one with the
    smallest last tag is returned; further ties are resolved by the tag before it, and so on.

    Parameters
    ----------
    emissions, transitions, lengths, mask, start, end, num_threads
        As for `crf_loss`.
    n_best : int, optional
        Number of different paths to return, sorted by their scores, with ties resolved as above [1]_. None
        and 1 return the best path, without the axis N.

    Returns
    -------
    CRFPath
        Named tuple ``(tags, score)``: int64 [B, T], -1 in the padding, outside the mask and at all steps
        of a sequence without a path, and float64 [B], -inf for such a sequence. With ``n_best=N`` above
        1, [B, N, T] and [B, N], with -1 and -inf where a sequence has fewer than N paths. Without B for
        one sequence. A sequence with NaN or +inf in a valid step has score NaN and tags -1. An
        empty sequence has one path, of score 0. If path scores overflow float64, the score is not
        finite and the tags are arbitrary.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`, and if `n_best` is not an integer from 1 to 4096.

    Notes
    -----
    The returned scores are added up along each path with compensated summation. The search itself
    rounds, so if two paths differ only in the last digits of float64, the better one may be missing
    at the end of the N best.

    References
    ----------
    .. [1] E. L. Lawler, "A procedure for computing the k best solutions to discrete optimization
       problems and its application to the shortest path problem", Management Science 18, 1972.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> emissions = np.array([[2.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    >>> tags, score = fsl.crf_decode(emissions, np.zeros((2, 2)))
    >>> tags, score
    (array([0, 1, 0]), 3.5)
    >>> tags, score = fsl.crf_decode(emissions, np.array([[0.0, -1.0], [-1.0, 0.0]]))
    >>> tags, score
    (array([0, 0, 0]), 3.0)
    >>> tags, score = fsl.crf_decode(emissions, np.zeros((2, 2)), n_best=3)
    >>> tags, score
    (array([[0, 1, 0],
           [0, 0, 0],
           [0, 1, 1]]), array([3.5, 3. , 2.5]))
    """
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    n_paths = 1 if n_best is None else as_integer("n_best", n_best)
    if not 1 <= n_paths <= _MOST_PATHS:
        raise ValueError(f"n_best is {n_paths}; allowed: 1 to {_MOST_PATHS}, or None")
    if n_paths > 1:
        tags, score = _several_paths(potentials, n_paths, num_threads)
        return CRFPath(tags[0], score[0]) if potentials.single else CRFPath(tags, score)
    tags, score, _ = best_paths(potentials, 1, num_threads)
    tags = potentials.scatter(tags, -1)
    return CRFPath(tags[0], float(score[0])) if potentials.single else CRFPath(tags, score)


def _several_paths(
    potentials: Potentials, n_best: int, num_threads: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the best paths [B, N, T] and their scores [B, N]."""
    batch, n_steps = potentials.shape
    check_output("the paths", (batch, n_best, n_steps), 8)
    tags, score, found = best_paths(potentials, n_best, num_threads)
    assert found is not None
    tags, score = tags.reshape(batch, n_best, tags.shape[1] // n_best), score.reshape(batch, n_best)
    score[potentials.lengths == 0, 1:] = -np.inf
    _sort(tags, score, found > 1)
    whole = potentials.scatter(tags.swapaxes(1, 2), -1)
    return np.ascontiguousarray(whole.swapaxes(1, 2)), score


def _sort(tags: NDArray[np.int64], score: NDArray[np.float64], wanted: NDArray[np.bool_]) -> None:
    """Sort the paths of sequences whose order in the search, which rounds, is not that of their scores."""
    unsorted = ((score[:, 1:] >= score[:, :-1]) & np.isfinite(score[:, 1:])).any(axis=1)
    for b in np.flatnonzero(unsorted & wanted):
        order = np.lexsort((*tags[b].T, -score[b]))
        tags[b], score[b] = tags[b, order], score[b, order]
