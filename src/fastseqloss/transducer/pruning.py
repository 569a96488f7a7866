"""Ranges of a pruned transducer: the labels that are worth a joiner at each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_doubles, as_lengths, as_real
from .._core.keywords import known_keywords
from .._core.messages import listed
from .._core.options import as_integer


@known_keywords
def rnnt_prune_ranges(
    posteriors: tuple[ArrayLike, ArrayLike],
    width: int,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
) -> NDArray[np.int64]:
    r"""Choose the nodes of each frame that a pruned transducer computes.

    A pruned transducer [1]_ has logits for R neighbouring nodes of each frame t only, ``s[t]`` to
    ``s[t] + R - 1`` of the nodes 0 to U. The nodes with the largest posteriors are chosen first,

    .. math:: s_{b,t} = \arg\max_s \sum_{u=s}^{s+R-1} (\mathrm{blank} + \mathrm{label})_{b,t,u},

    and then moved as little as is needed for a path to exist: :math:`s_{b,0} = 0`,
    :math:`s_{b,t} \le s_{b,t+1} < s_{b,t} + R` and :math:`s_{b,T_b-1} = \max(U_b + 1 - R, 0)`.

    Parameters
    ----------
    posteriors : RNNTPosteriors, or tuple of two array_like [B, T, U+1]; [T, U+1] for one sequence
        Occupancies of the arcs of the blank and of the labels, by `rnnt_simple_posteriors` or
        `rnnt_posteriors`. Any real dtype; the padding is never read.
    width : int
        R, the number of nodes of each frame, 2 or more unless there are no labels; 5 is usual. More
        than U + 1 counts as U + 1.
    logit_lengths, label_lengths : array_like of int [B], optional
        Frames and labels of each sequence; T and U by default. An int for one sequence.

    Returns
    -------
    ndarray of int64 [B, T], or [T] for one sequence
        The first node of each frame, for ``rnnt_loss(ranges=)``; in the padding, that of the last
        frame.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or the width are not as above, or if the width is too small for
        all labels of a sequence to be reached in its frames: at most R - 1 labels a frame. The
        message names the argument, the position, the value and what is allowed.

    See Also
    --------
    rnnt_simple_posteriors : posteriors of an additive joiner, which costs little.
    rnnt_loss : the pruned loss, by its argument `ranges`.

    Notes
    -----
    Replaces ``k2.get_rnnt_prune_ranges(px_grad, py_grad, boundary, s_range)``, whose result is
    ``ranges[..., None] + np.arange(s_range)``.

    References
    ----------
    .. [1] F. Kuang, L. Guo, W. Kang, L. Lin, M. Luo, Z. Yao, D. Povey, "Pruned RNN-T for fast,
       memory-efficient ASR training", Interspeech 2022.

    Examples
    --------
    This example computes the loss of a joiner on 2 of the 4 nodes of each frame, from the outputs ``am`` of an encoder
    and ``lm`` of a predictor, both projected to the classes:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> rng = np.random.default_rng(0)
    >>> am, lm, labels = rng.normal(size=(6, 8)), rng.normal(size=(4, 8)), [3, 1, 4]
    >>> ranges = fsl.rnnt_prune_ranges(fsl.rnnt_simple_posteriors(am, lm, labels), width=2)
    >>> ranges
    array([0, 0, 0, 0, 1, 2])
    >>> nodes = ranges[:, None] + np.arange(2)
    >>> logits = np.tanh(am[:, None] + lm[nodes])  # the joiner, [T, R, V]
    >>> loss, grad = fsl.rnnt_loss(logits, labels, ranges=ranges, return_grad=True)
    >>> grad.shape
    (6, 2, 8)

    The gradient of ``lm`` is a sum over the frames:

    >>> slope = grad * (1 - logits**2)
    >>> lm_grad = np.zeros_like(lm)
    >>> np.add.at(lm_grad, nodes, slope)
    >>> am_grad = slope.sum(axis=1)
    """
    occupancy, single = _as_occupancy(posteriors)
    batch, n_frames, n_nodes = occupancy.shape
    wanted = as_integer("width", width)
    if wanted < 1:
        raise ValueError(f"width is {wanted}; allowed: 1 or more")
    frames = as_lengths("logit_lengths", logit_lengths, batch, n_frames, single)
    labels = as_lengths("label_lengths", label_lengths, batch, n_nodes - 1, single)
    _require_reachable(wanted, frames, labels)
    wanted = min(wanted, n_nodes)
    last = np.maximum(labels + 1 - wanted, 0)
    ranges = _best_windows(occupancy, wanted, frames, labels)
    ranges = np.where(np.arange(n_frames) < frames[:, None] - 1, ranges, last[:, None])
    ranges = _connected(ranges, wanted)
    return ranges[0] if single else ranges


def _as_occupancy(posteriors: Any) -> tuple[NDArray[np.float64], bool]:
    """Return the occupancies of the nodes [B, T, U+1], a copy, and True if there was no batch axis."""
    if not isinstance(posteriors, tuple) or len(posteriors) != 2:
        kind = type(posteriors).__name__
        what = f"a tuple of {len(posteriors)}" if isinstance(posteriors, tuple) else f"of type {kind}"
        raise TypeError(f"posteriors is {what}; allowed: a tuple of two arrays, (blank, label), as RNNTPosteriors is")
    blank, label = (as_real(f"posteriors.{name}", x) for name, x in zip(("blank", "label"), posteriors, strict=True))
    if blank.ndim not in (2, 3):
        raise ValueError(
            f"posteriors.blank has shape {blank.shape}; allowed: [B, T, U+1], or [T, U+1] for one sequence"
        )
    if blank.shape[-1] == 0:
        raise ValueError(f"posteriors.blank has shape {blank.shape}: no nodes; allowed: U+1 of them, 1 or more")
    if label.shape != blank.shape:
        raise ValueError(f"posteriors.label has shape {label.shape}; allowed: {blank.shape}, as of posteriors.blank")
    occupancy = as_doubles(blank)
    with np.errstate(all="ignore"):
        occupancy += label
    return (occupancy[None], True) if blank.ndim == 2 else (occupancy, False)


def _require_reachable(width: int, frames: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Raise ValueError if the ranges of a sequence cannot move as far as its last label."""
    bad = np.flatnonzero((frames > 0) & (labels > (width - 1) * frames.astype(object)))
    if bad.size:
        b = int(bad[0])
        needed = -(-int(labels[b]) // int(frames[b])) + 1
        raise ValueError(
            f"width is {width}; allowed: {needed} or more for the {labels[b]} labels of sequence {b} in {frames[b]} "
            f"frames, at most width - 1 labels a frame; sequences that need more: {listed(bad)}"
        )


def _best_windows(
    occupancy: NDArray[np.float64], width: int, frames: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first node of the `width` neighbouring nodes that are the most probable ones, for each frame."""
    n_frames, n_nodes = occupancy.shape[1:]
    occupancy[np.arange(n_nodes) > labels[:, None, None] + np.zeros((1, n_frames, 1), np.int64)] = 0.0
    occupancy[np.arange(n_frames) >= frames[:, None]] = 0.0
    with np.errstate(all="ignore"):
        windows = occupancy[..., : n_nodes - width + 1].copy()
        for r in range(1, width):
            windows += occupancy[..., r : n_nodes - width + 1 + r]
    best: NDArray[np.int64] = windows.argmax(axis=-1)
    return best


def _connected(ranges: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return ranges that begin at 0, do not decrease, and increase by less than `width` from frame to frame."""
    ranges = _least_from(ranges)
    # As far as the nodes could have moved by frame t, less where they are: this must not decrease either.
    reach = (width - 1) * np.arange(ranges.shape[-1])
    return reach - np.maximum(_least_from(reach - ranges), 0)


def _least_from(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the least element from each one on, along the last axis."""
    least: NDArray[np.int64] = np.minimum.accumulate(x[..., ::-1], axis=-1)[..., ::-1]
    return least
