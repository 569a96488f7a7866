"""Arguments of the CTC functions, checked: labels and their lengths, stars, priors, feasibility."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import Integers, as_array, as_doubles, as_lengths, as_real, read_integers
from .._core.messages import listed
from .._core.options import as_integer
from .._kernels import arguments

Infeasible = Literal["inf", "zero", "raise"]


INFEASIBLE = ("inf", "zero", "raise")


class Labels(NamedTuple):
    """Labels of a batch: those of sequence b are values[starts[b] : starts[b] + lengths[b]]."""

    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    frames_needed: NDArray[np.int64]


def as_labels(
    labels: Any,
    label_lengths: Any,
    *,
    batch: int,
    n_classes: int,
    blank: int,
    single: bool,
    star: int | None = None,
) -> Labels:
    """Check labels in any of their forms: padded [B, S], concatenated, or a list of sequences.

    A `star` is allowed as a label besides the classes, and becomes class `n_classes`.
    """
    read = read_integers("labels", labels) if single else read_labels(labels)
    return check_labels(read, label_lengths, batch=batch, n_classes=n_classes, blank=blank, single=single, star=star)


def read_labels(labels: Any) -> Integers | list[Integers]:
    """Return the labels of each sequence if there is a list or a column of sequences, else those of one array."""
    if not isinstance(labels, (list, tuple)):
        labels = as_array("labels", labels)
        if labels.ndim != 1 or labels.dtype != object:
            return read_integers("labels", labels)
    if len(labels) and all(issubclass(kind, (int, float, np.generic)) for kind in set(map(type, labels))):
        return read_integers("labels", labels)
    rows = [as_array(f"labels[{b}]", row) for b, row in enumerate(labels)]
    if rows and all(row.ndim == 0 for row in rows):
        return read_integers("labels", rows if isinstance(labels, (list, tuple)) else labels)
    return [read_integers(f"labels[{b}]", row) for b, row in enumerate(rows)]


def check_labels(
    exact: Integers | list[Integers],
    label_lengths: Any,
    *,
    batch: int,
    n_classes: int,
    blank: int,
    single: bool,
    star: int | None = None,
) -> Labels:
    """Check labels as `read_labels` returns them; see `as_labels`."""
    if isinstance(exact, list):
        values, starts, lengths = _listed(exact, label_lengths, batch)
        form = "listed"
    else:
        values = exact.values
        if single or values.ndim == 2:
            form = "single" if single else "padded"
            starts, lengths = _padded(values, label_lengths, batch, single)
            values = values.reshape(-1)
        else:
            form = "concatenated"
            starts, lengths = _concatenated(values, label_lengths, batch)
    if star is not None:
        others = np.where(values == n_classes, -1, values)
        values = np.where(values == star, n_classes, others)
    frames_needed = np.empty(batch, np.int64)
    allowed = n_classes + (star is not None)
    bad = arguments.find_bad_label(values, starts, lengths, allowed, blank, frames_needed)
    if bad is not None:
        rest = values[starts[bad[0]] + bad[1] : starts[bad[0]] + lengths[bad[0]]]
        at_end = label_lengths is None and bool((rest == rest[0]).all())
        raise _bad_label(exact, form, bad, int(starts[bad[0]]), n_classes, blank, star, at_end)
    return Labels(values, starts, lengths, frames_needed)


def _padded(
    values: NDArray[np.int64], label_lengths: Any, batch: int, single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if single and values.ndim != 1:
        raise ValueError(f"labels has shape {values.shape}; allowed: [S] for one sequence")
    if not single and len(values) != batch:
        raise ValueError(f"labels has shape {values.shape}; allowed: [B, S] with B = {batch}")
    width = values.shape[-1]
    lengths = as_lengths("label_lengths", label_lengths, batch, width, single)
    starts = np.zeros(1, np.int64) if batch == 1 else np.arange(batch, dtype=np.int64) * width
    return starts, lengths


def _concatenated(
    values: NDArray[np.int64], label_lengths: Any, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if values.ndim != 1:
        raise ValueError(
            f"labels has shape {values.shape}; allowed: [B, S] padded, [sum of label_lengths] "
            "concatenated, or a list of B sequences"
        )
    if label_lengths is None:
        raise ValueError("label_lengths is None; labels in one dimension need label_lengths")
    lengths = as_lengths("label_lengths", label_lengths, batch, len(values), False)
    total = int(lengths.sum())
    if total != len(values):
        raise ValueError(f"label_lengths add up to {total}; allowed: {len(values)}, as in labels")
    return np.cumsum(lengths) - lengths, lengths


def _listed(
    rows: list[Integers], label_lengths: Any, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if len(rows) != batch:
        raise ValueError(f"labels has {len(rows)} sequences; allowed: {batch}, as in logits")
    for b, row in enumerate(rows):
        if row.values.ndim != 1:
            raise ValueError(f"labels[{b}] has shape {row.values.shape}; allowed: one dimension")
    sizes = np.array([len(row.values) for row in rows], np.int64)
    values = np.concatenate([row.values for row in rows]) if rows else np.empty(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    if label_lengths is None:
        return values, starts, sizes
    lengths = as_lengths("label_lengths", label_lengths, batch, int(sizes.max(initial=0)), False)
    bad = np.flatnonzero(lengths > sizes)
    if bad.size:
        b = int(bad[0])
        raise ValueError(f"label_lengths[{b}] is {lengths[b]}; allowed: 0 to {sizes[b]}")
    return values, starts, lengths


def _bad_label(
    exact: Integers | list[Integers],
    form: str,
    bad: tuple[int, int],
    start: int,
    n_classes: int,
    blank: int,
    star: int | None,
    at_end: bool,
) -> ValueError:
    """Return an error for label i of sequence b; `start` is where that begins, `at_end` if it may be padding."""
    b, i = bad
    if isinstance(exact, list):
        where, value = f"labels[{b}][{i}]", exact[b].shown(i)
    else:
        where, value = f"labels[{b}, {i}]" if form == "padded" else f"labels[{start + i}]", exact.shown(start + i)
    if form == "concatenated":
        where += f" (sequence {b}, position {i})"
    said = f"{where} is {value}; allowed: 0 to {n_classes - 1}"
    if blank >= 0:
        said += f", except {blank}, which is the blank"
    if star is not None:
        said += f", or {star}, which is the star"
    if at_end and (value < 0 or value == blank):
        said += "; if it is padding, pass label_lengths"
    return ValueError(said)


def require_feasible(frames: NDArray[np.int64], targets: Labels) -> None:
    """Raise ValueError if sequences are too short for their labels, naming them."""
    bad = np.flatnonzero(frames < targets.frames_needed)
    if bad.size:
        first = bad[0]
        raise ValueError(
            f"logit_lengths[{first}] is {frames[first]}; allowed: {targets.frames_needed[first]} "
            f"or more for its labels; infeasible sequences: {listed(bad)}"
        )


def as_star(star: Any, n_classes: int) -> int | None:
    """Return the label that stands for anything, which no class may have, or None."""
    if star is None:
        return None
    value = as_integer("star", star)
    largest = 2**63 - 2  # labels beyond int64 are taken for the one after it
    if 0 <= value < n_classes or not -(2**63) <= value <= largest:
        raise ValueError(f"star is {value}; allowed: -2**63 to 2**63 - 2, except 0 to {n_classes - 1}, the classes")
    return value


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
