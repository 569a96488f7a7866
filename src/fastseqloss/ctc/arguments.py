"""Checks of the arguments of the CTC functions: scores and labels, stars, priors, feasibility."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_doubles, as_real, read_integers
from .._core.labels import NAMES, Names, Sequences, as_sequences
from .._core.messages import indexed, listed
from .._core.options import InputKind, as_index, as_input_kind, as_integer, as_number, choice
from .._core.scores import Scores, as_scores
from .._core.threads import schedule, threads_for
from .._core.types import Infeasible
from .._kernels import arguments

_INFEASIBLE = get_args(Infeasible)


@dataclass(slots=True)
class Lattice:
    """Checked scores and labels of a batch."""

    scores: Scores
    sequences: Sequences
    blank: int
    star: int | None
    input: InputKind
    infeasible: Infeasible


def as_lattice(
    logits: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    *,
    blank: Any,
    input: Any,
    infeasible: Any,
    star: Any = None,
    names: Names = NAMES,
) -> Lattice:
    """Check the arguments that the loss, the posteriors and the alignment have in common."""
    kind = as_input_kind(input)
    scores = as_scores(names.logits, logits)
    return as_lattice_of(scores, labels, logit_lengths, label_lengths, blank, kind, infeasible, star, names)


def as_lattice_of(
    scores: Scores,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    blank: Any,
    kind: InputKind,
    infeasible: Any,
    star: Any = None,
    names: Names = NAMES,
) -> Lattice:
    """Check labels and lengths for scores, whose values are not read."""
    choice("infeasible", infeasible, _INFEASIBLE)
    n_classes = scores.values.shape[2]
    blank, star = as_index("blank", blank, n_classes), as_star(star, n_classes)
    sequences = as_sequences(scores, logit_lengths, labels, label_lengths, blank, star, names)
    if infeasible == "raise":
        _require_feasible(sequences, names)
    return Lattice(scores, sequences, blank, star, kind, infeasible)


def _require_feasible(sequences: Sequences, names: Names) -> None:
    """Raise ValueError if sequences are too short for their labels, naming them."""
    frames, needed = sequences.frames, sequences.frames_needed
    bad = np.flatnonzero(frames < needed)
    if bad.size:
        first = bad[0]
        raise ValueError(
            f"{names.logit_lengths}[{first}] is {frames[first]}; allowed: {needed[first]} "
            f"or more for its {names.labels}; infeasible sequences: {listed(bad)}"
        )


def schedule_sequences(
    lattice: Lattice,
    num_threads: int | None,
    per_class: float,
    per_frame: float,
    per_label: float,
    *,
    workers_each: int = 1,
) -> tuple[NDArray[np.int64] | None, int]:
    """Return the order of the sequences, longest first, for several threads, else None; and the number of threads.

    The costs are the nanoseconds, roughly, of a class at a frame, a frame, and a label at a frame. A sequence may have
    `workers_each` workers.
    """
    sequences = lattice.sequences
    batch, n_frames, n_classes = lattice.scores.values.shape
    items = batch * workers_each
    work = lattice_work(batch, n_frames, n_classes, len(sequences.values), per_class, per_frame, per_label)
    if threads_for(num_threads, work, items) == 1:
        return None, 1
    per_frame += n_classes * per_class
    return schedule(sequences.frames * (per_frame + sequences.lengths * per_label), num_threads, items)


def lattice_work(
    batch: int, n_frames: int, n_classes: int, n_labels: int, per_class: float, per_frame: float, per_label: float
) -> float:
    """Return the nanoseconds, roughly, of a batch with `n_labels` labels in all; costs as of `schedule_sequences`."""
    return n_frames * (batch * (per_frame + n_classes * per_class) + n_labels * per_label)


def as_star(star: Any, n_classes: int) -> int | None:
    """Return the label that matches anything, a number other than all classes, or None."""
    if star is None:
        return None
    value = as_integer("star", star)
    largest = 2**63 - 2  # 2**63 - 1 stands for all labels beyond int64
    if 0 <= value < n_classes or not -(2**63) <= value <= largest:
        raise ValueError(f"star is {value}; allowed: -2**63 to 2**63 - 2, except 0 to {n_classes - 1}, the classes")
    return value


def as_star_log_prob(
    name: str, value: Any, frames: NDArray[np.int64], n_frames: int, single: bool
) -> tuple[float, NDArray[np.float64] | None]:
    """Return the star's log-probability: one number for all frames, or else 0 and an array [B * T].

    Elements beyond the `frames` of a sequence are not checked.
    """
    if isinstance(value, (numbers.Real, str)):
        return as_number(name, value, -np.inf, 0.0), None
    array = as_array(name, value)
    if not array.ndim:
        return as_number(name, value if array.dtype == object else array, -np.inf, 0.0), None
    array = as_real(name, array)
    shape = (n_frames,) if single else (len(frames), n_frames)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}, or a number for all frames")
    log_probs = as_doubles(array)
    rows = log_probs.reshape((len(frames), n_frames))
    bad = np.flatnonzero(~(rows <= 0) & (np.arange(n_frames) < frames[:, None]))
    if bad.size:
        at = tuple(map(int, np.unravel_index(bad[0], shape)))
        raise ValueError(f"{indexed(name, at)} is {log_probs[at]}; allowed: 0 or less; -inf forbids the star")
    return 0.0, log_probs.reshape(-1)


def as_log_prior(name: str, value: Any, n_classes: int, scale: float) -> NDArray[np.float64] | None:
    """Return logarithms of priors [V] times `scale`, both finite, or None."""
    if value is None:
        return None
    prior = as_doubles(as_real(name, value))
    if prior.shape != (n_classes,):
        raise ValueError(f"{name} has shape {prior.shape}; allowed: ({n_classes},)")
    bad = np.flatnonzero(~np.isfinite(prior))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {prior[bad[0]]}; allowed: finite numbers")
    with np.errstate(over="ignore", under="ignore"):
        scaled = scale * prior
    bad = np.flatnonzero(~np.isfinite(scaled))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {prior[bad[0]]}; allowed: numbers finite when scaled by {scale:g}")
    return scaled


def as_classes(name: str, value: Any, n_classes: int) -> NDArray[np.int64]:
    """Return classes [T], one for each frame."""
    read = read_integers(name, value)
    classes = read.values
    if classes.ndim != 1:
        raise ValueError(f"{name} has shape {classes.shape}; allowed: one dimension")
    first = arguments.first_outside(classes, 0, n_classes - 1)
    if first >= 0:
        raise ValueError(f"{name}[{first}] is {read.shown(first)}; allowed: 0 to {n_classes - 1}")
    return classes
