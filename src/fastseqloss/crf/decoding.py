"""Best paths of a linear-chain CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import filled
from .._core.levels import load
from .._core.messages import outline
from .arguments import as_potentials, schedule

if TYPE_CHECKING:
    from .._kernels.crf import loss as _kernel
else:
    _kernel = load("crf.loss")


class CRFPath(NamedTuple):
    """Best paths of a CRF.

    Attributes
    ----------
    tags : ndarray of int64 [B, T]
        Best tags; -1 in the padding, and at all steps of a sequence without a path.
    score : ndarray of float64 [B], or float for one sequence
        Score of the path; -inf for a sequence without a path.
    """

    tags: NDArray[np.int64]
    score: Any

    def __repr__(self) -> str:
        return outline(self)


def crf_decode(
    emissions: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    num_threads: int | None = None,
) -> CRFPath:
    r"""Path of the highest score, by the Viterbi algorithm.

    .. math:: \hat y_b = \arg\max_y s_b(y)

    with the scores s of `crf_loss`, added up in float64. Of paths with equal scores, the one with
    the smallest last tag is returned; ties go by the tag before it, and so on.

    Parameters
    ----------
    emissions, transitions, lengths, mask, start, end, num_threads
        As for `crf_loss`.

    Returns
    -------
    CRFPath
        Named tuple ``(tags, score)``: int64 [B, T], -1 in the padding and at all steps of a sequence
        without a path, and float64 [B], -inf for such a sequence. For one sequence [T] and a float.
        A sequence with NaN or +inf in a valid step has score NaN and tags -1. An empty sequence has
        score 0. If path scores overflow float64, the score is not finite and the tags are arbitrary.

    Raises
    ------
    ValueError, TypeError
        As `crf_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> emissions = np.array([[2.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    >>> fsl.crf_decode(emissions, np.zeros((2, 2)))
    CRFPath(tags=array([0, 1, 0]), score=3.5)
    >>> fsl.crf_decode(emissions, np.array([[0.0, -1.0], [-1.0, 0.0]]))
    CRFPath(tags=array([0, 0, 0]), score=3.0)
    """
    potentials = as_potentials(emissions, transitions, lengths=lengths, mask=mask, start=start, end=end)
    batch, n_frames, _ = potentials.scores.values.shape
    order, threads = schedule(potentials, None, num_threads, 2)
    score = np.empty(batch)
    tags = np.empty((batch, n_frames), np.int64)
    _kernel.best_paths[potentials.scores.type_name](
        potentials.scores.values,
        tags=None,
        lengths=potentials.lengths,
        transitions=potentials.transitions.values,
        start=potentials.start.values,
        end=potentials.end.values,
        cost=None,
        scale=filled(batch, 1.0),
        order=order,
        paths=tags,
        loss=score,
        grad=None,
        grad_transitions=None,
        grad_start=None,
        grad_end=None,
        num_threads=threads,
    )
    return CRFPath(tags[0], float(score[0])) if potentials.single else CRFPath(tags, score)
