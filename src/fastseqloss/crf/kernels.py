"""Calls of the kernels: sums over all paths and best paths, with transitions that all steps share or of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import filled, stored
from .._core.levels import load
from .._kernels.crf import varying as _varying
from .arguments import Potentials, schedule
from .exact_paths import exact_paths

if TYPE_CHECKING:
    from .._kernels.crf import loss as _kernel
else:
    _kernel = load("crf.loss")

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


def sums_over_paths(
    potentials: Potentials,
    *,
    emissions: NDArray[Any],
    tags: Integers | None = None,
    scale: Doubles | None = None,
    weighted: bool = False,
    grad: NDArray[Any] | None = None,
    parameters: tuple[NDArray[Any] | None, Doubles | None, Doubles | None] = (None, None, None),
    pairwise: NDArray[Any] | None = None,
    num_threads: int | None,
) -> Doubles:
    """Return the log of the sum over all paths [B], minus the score of the tagged path, if tags are given.

    Writes the gradients, times `scale`, to the arrays given for them: of the emissions, and of transitions, starts and
    ends (`parameters`), which are zeros before; and pairwise marginals, which require that of the emissions.
    `emissions` do not overlap `grad`; `weighted` is True if sequences of scale 0 are left out.
    """
    batch = len(potentials.lengths)
    sweeps = 1 if grad is None else 2 if parameters[1] is None else 3
    order, threads = schedule(potentials, scale if weighted else None, num_threads, sweeps)
    loss = np.empty(batch)
    scale = filled(batch, 1.0) if scale is None else scale
    grad_transitions, grad_start, grad_end = parameters
    ends = {"start": potentials.start.values, "end": potentials.end.values}
    if potentials.varying is None:
        _kernel.partition[potentials.scores.type_name](
            emissions,
            tags=tags,
            lengths=potentials.lengths,
            transitions=potentials.transitions.values,
            **ends,
            scale=scale,
            order=order,
            loss=loss,
            grad=grad,
            grad_transitions=grad_transitions,
            grad_start=grad_start,
            grad_end=grad_end,
            pairwise=pairwise,
            num_threads=threads,
        )
        return loss
    pairs = pairwise
    if grad_transitions is not None:
        pairs = potentials.like_varying(grad_transitions)[:, 1:]
    for array in (loss, grad, pairs):
        if array is not None:
            array[...] = 0
    each = None if grad_start is None else np.zeros((2, batch, potentials.scores.values.shape[2]))
    inputs = emissions, tags, scale, order
    _run_varying(potentials, inputs, loss=loss, grad=grad, pairs=pairs, grad_ends=each, num_threads=threads)
    if each is not None and grad_start is not None and grad_end is not None:
        grad_start[:], grad_end[:] = each.sum(axis=1)
    if grad_transitions is not None and pairs is not None and potentials.kept is not None:
        at = np.arange(batch)[:, None], potentials.kept[:, 1:]
        grad_transitions.reshape(*potentials.shape, *pairs.shape[2:])[at] = pairs
    return loss


def best_paths(potentials: Potentials, n_best: int, num_threads: int | None) -> tuple[Integers, Doubles, Integers]:
    """Return the best paths [B, N, T'], their scores [B, N], and numbers of paths [B].

    The number is -1 for a sequence whose sums may be so large that rounding hides the best path; its paths are those of
    exact arithmetic.
    """
    batch, n_frames, n_tags = potentials.scores.values.shape
    sweeps = 2 + 3 * (n_best - 1) // n_tags  # the paths after the first take a comparison for each tag
    order, threads = schedule(potentials, None, num_threads, sweeps)
    emissions, scale = potentials.scores.values, filled(batch, 1.0)
    found = np.zeros(batch, np.int64)
    if potentials.varying is not None:
        tags, score = filled((batch, n_best * n_frames), -1, np.int64), filled(batch * n_best, -np.inf)
        inputs = emissions, None, scale, order
        _run_varying(potentials, inputs, paths=tags, found=found, loss=score, num_threads=threads)
        score[::n_best][potentials.lengths == 0] = 0
    else:
        tags, score = np.empty((batch, n_best * n_frames), np.int64), np.empty(batch * n_best)
        _kernel.best_paths[potentials.scores.type_name](
            emissions,
            tags=None,
            lengths=potentials.lengths,
            transitions=potentials.transitions.values,
            start=potentials.start.values,
            end=potentials.end.values,
            cost=None,
            scale=scale,
            order=order,
            paths=tags,
            found=None if n_best == 1 else found,  # the kernel itself searches exactly for one path
            loss=score,
            grad=None,
            grad_transitions=None,
            grad_start=None,
            grad_end=None,
            num_threads=threads,
        )
    tags, score = tags.reshape(batch, n_best, n_frames), score.reshape(batch, n_best)
    if n_best > 1 or potentials.varying is not None:
        for b in np.flatnonzero(found < 0):
            _search_exactly(potentials, b, tags[b], score[b])
    return tags, score, found


def _search_exactly(potentials: Potentials, b: np.intp, tags: Integers, score: Doubles) -> None:
    """Write the best paths of a sequence, in exact arithmetic, to tags [N, T'] and score [N]."""
    n_frames = potentials.lengths[b]
    transitions, start, end = [parameter.values for parameter in potentials.parameters]
    if potentials.varying is not None:
        transitions = potentials.varying[b, :n_frames]
    paths, scores = exact_paths(potentials.scores.values[b, :n_frames], transitions, start, end, len(score))
    tags[:], score[:] = -1, -np.inf
    if paths:
        tags[: len(paths), :n_frames], score[: len(paths)] = paths, scores


def _run_varying(
    potentials: Potentials,
    inputs: tuple[NDArray[Any], Integers | None, Doubles, Integers],
    *,
    loss: Doubles,
    paths: Integers | None = None,
    found: Integers | None = None,
    grad: NDArray[Any] | None = None,
    pairs: NDArray[Any] | None = None,
    grad_ends: Doubles | None = None,
    num_threads: int,
) -> None:
    """Call the kernel for transitions of every step; `inputs` are emissions, tags, scale and order."""
    emissions, tags, scale, order = inputs
    if not len(order):
        return
    ends = np.stack([potentials.start.values, potentials.end.values])
    _, kind = stored(emissions)
    given = (emissions, potentials.varying, tags, potentials.lengths, order, scale, ends)
    _varying.run(kind, (*given, loss, paths, found, grad, pairs, grad_ends), num_threads)
