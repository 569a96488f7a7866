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
OfParameters = tuple[NDArray[Any] | None, Doubles | None, Doubles | None]  # transitions, starts and ends
Inputs = tuple[NDArray[Any], Integers | None, Doubles, Integers]  # emissions, tags, scale and order


def sums_over_paths(
    potentials: Potentials,
    *,
    emissions: NDArray[Any],
    tags: Integers | None = None,
    scale: Doubles | None = None,
    weighted: bool = False,
    grad: NDArray[Any] | None = None,
    parameters: OfParameters = (None, None, None),
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


def best_paths(
    potentials: Potentials, n_best: int, num_threads: int | None
) -> tuple[Integers, Doubles, Integers | None]:
    """Return the best paths [B, N T'], their scores [B N], and numbers of paths [B] or None.

    The number is -1 for a sequence whose sums may be so large that rounding hides the best path; its paths are those of
    exact arithmetic.
    """
    batch, n_frames, n_tags = potentials.scores.values.shape
    sweeps = 2 + 3 * (n_best - 1) // n_tags  # the paths after the first take a comparison for each tag
    order, threads = schedule(potentials, None, num_threads, sweeps)
    inputs = potentials.scores.values, None, filled(batch, 1.0), order
    tags, score = np.empty((batch, n_best * n_frames), np.int64), np.empty(batch * n_best)
    found = None  # one path with shared transitions: the kernel itself searches exactly
    if n_best > 1 or potentials.varying is not None:
        found = np.zeros(batch, np.int64)
    _search(potentials, inputs, loss=score, paths=tags, found=found, num_threads=threads)
    if potentials.varying is not None:
        score[::n_best][potentials.lengths == 0] = 0
    if found is not None:
        for b in np.flatnonzero(found < 0):
            each = tags[b].reshape(n_best, n_frames)
            _search_exactly(potentials, b, each, score[b * n_best : (b + 1) * n_best])
    return tags, score, found


def margins(
    potentials: Potentials,
    *,
    emissions: NDArray[Any],
    tags: Integers,
    cost: Doubles,
    scale: Doubles,
    weighted: bool,
    grad: NDArray[Any] | None,
    parameters: OfParameters,
    num_threads: int | None,
) -> Doubles:
    """Return the scores of the best paths, with their cost for the tags, minus the scores of the tagged paths [B].

    Writes the subgradients, times `scale`, as `sums_over_paths`.
    """
    batch = len(potentials.lengths)
    order, threads = schedule(potentials, scale if weighted else None, num_threads, 2)
    inputs = emissions, tags, scale, order
    loss, paths = np.empty(batch), np.empty(tags.shape, np.int64)
    found = None if potentials.varying is None else np.zeros(batch, np.int64)
    _search(
        potentials,
        inputs,
        cost=cost,
        loss=loss,
        paths=paths,
        found=found,
        grad=grad,
        parameters=parameters,
        num_threads=threads,
    )
    if found is None:
        return loss
    for b in np.flatnonzero(found < 0):
        _search_exactly(potentials, b, paths[b : b + 1], loss[b : b + 1], (tags[b, : potentials.lengths[b]], cost))
    if grad is not None:
        _subtract_paths(potentials, loss, paths, tags, scale, grad, parameters)
    return loss


def _search(
    potentials: Potentials,
    inputs: Inputs,
    *,
    cost: Doubles | None = None,
    loss: Doubles,
    paths: Integers,
    found: Integers | None = None,
    grad: NDArray[Any] | None = None,
    parameters: OfParameters = (None, None, None),
    num_threads: int,
) -> None:
    """Call the kernel that searches for best paths; that of transitions of every step leaves gradients out.

    `found` are zeros before.
    """
    emissions, tags, scale, order = inputs
    if potentials.varying is not None:
        paths[:], loss[:] = -1, -np.inf if tags is None else 0
        _run_varying(potentials, inputs, cost=cost, loss=loss, paths=paths, found=found, num_threads=num_threads)
        return
    _kernel.best_paths[potentials.scores.type_name](
        emissions,
        tags=tags,
        lengths=potentials.lengths,
        transitions=potentials.transitions.values,
        start=potentials.start.values,
        end=potentials.end.values,
        cost=cost,
        scale=scale,
        order=order,
        paths=paths,
        found=found,
        loss=loss,
        grad=grad,
        grad_transitions=parameters[0],
        grad_start=parameters[1],
        grad_end=parameters[2],
        num_threads=num_threads,
    )


def _subtract_paths(
    potentials: Potentials,
    loss: Doubles,
    paths: Integers,
    tags: Integers,
    scale: Doubles,
    grad: NDArray[Any],
    parameters: OfParameters,
) -> None:
    """Write subgradients of margins: the steps of the best paths minus those of the tagged ones."""
    between, start, end = parameters
    assert between is not None
    assert start is not None
    assert end is not None
    pairs = between.reshape(*potentials.shape, *between.shape[-2:])
    inside = np.arange(tags.shape[1]) < potentials.lengths[:, None]
    wrong = inside & (paths != tags) & ((loss > 0) & (loss < np.inf))[:, None]
    broken = inside & np.isnan(loss)[:, None]
    grad[...] = 0
    with np.errstate(over="ignore", under="ignore"):
        for of_steps, step in ((paths, scale), (tags, -scale)):
            b, t = np.nonzero(wrong)
            grad[b, t, of_steps[b, t]] = step[b]
            b, t = np.nonzero((wrong[:, 1:] | wrong[:, :-1]) & inside[:, 1:])
            pairs[b, potentials.place(b, t + 1), of_steps[b, t], of_steps[b, t + 1]] = step[b]
            b = np.flatnonzero(wrong.any(axis=1))
            np.add.at(start, of_steps[b, np.zeros_like(b)], step[b])
            np.add.at(end, of_steps[b, potentials.lengths[b] - 1], step[b])
    grad[broken] = np.nan
    b, t = np.nonzero(broken[:, 1:])
    pairs[b, potentials.place(b, t + 1)] = np.nan
    if broken.any():
        start[:] = end[:] = np.nan


def _search_exactly(
    potentials: Potentials,
    b: np.intp,
    tags: Integers,
    score: Doubles,
    margin: tuple[Integers, Doubles] | None = None,
) -> None:
    """Write the best paths of a sequence to tags [N, T'] and score [N]; see `exact_paths`."""
    n_frames = potentials.lengths[b]
    transitions, start, end = [parameter.values for parameter in potentials.parameters]
    if potentials.varying is not None:
        transitions = potentials.varying[b, :n_frames]
    paths, scores = exact_paths(potentials.scores.values[b, :n_frames], transitions, start, end, len(score), margin)
    tags[:], score[:] = -1, -np.inf
    if paths:
        tags[: len(paths), :n_frames], score[: len(paths)] = paths, scores


def _run_varying(
    potentials: Potentials,
    inputs: Inputs,
    *,
    cost: Doubles | None = None,
    loss: Doubles,
    paths: Integers | None = None,
    found: Integers | None = None,
    grad: NDArray[Any] | None = None,
    pairs: NDArray[Any] | None = None,
    grad_ends: Doubles | None = None,
    num_threads: int,
) -> None:
    """Call the kernel for transitions of every step."""
    emissions, tags, scale, order = inputs
    if not len(order):
        return
    ends = np.stack([potentials.start.values, potentials.end.values])
    _, kind = stored(emissions)
    given = (emissions, potentials.varying, tags, potentials.lengths, order, scale, ends, cost)
    _varying.run(kind, (*given, loss, paths, found, grad, pairs, grad_ends), num_threads)
