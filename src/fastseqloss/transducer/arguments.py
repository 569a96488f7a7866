"""Checks of the arguments of the transducer functions: scores and labels, bands of labels, feasibility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import read_integers, stored
from .._core.labels import Sequences, as_sequences
from .._core.messages import listed
from .._core.options import InputKind, as_index, as_input_kind, choice
from .._core.scores import Scores, as_grid_scores
from .._core.threads import Schedule, schedule, threads_for
from .._core.types import BlankModel, Infeasible, Topology

_BLANK_MODELS, _TOPOLOGIES, _INFEASIBLE = get_args(BlankModel), get_args(Topology), get_args(Infeasible)


@dataclass(slots=True)
class Lattice:
    """Checked scores and labels of a batch."""

    scores: Scores
    labels: Sequences
    ranges: NDArray[np.int64] | None  # [B, T]
    blank: int
    input: InputKind
    hat: bool
    modified: bool

    @property
    def frames(self) -> NDArray[np.int64]:
        """Number of frames of each sequence."""
        return self.labels.frames

    @property
    def empty(self) -> bool:
        """True if there are no frames."""
        return 0 in self.scores.values.shape[:2]

    def kernel_arguments(self, order: NDArray[np.int64], scale: NDArray[np.float64]) -> dict[str, Any]:
        """Return the arguments that the kernels have in common, by name."""
        scores, kind = stored(self.scores.values)
        return {
            "scores": scores,
            "kind": kind,
            "labels": self.labels.values,
            "starts": self.labels.starts,
            "logit_lengths": self.frames,
            "label_lengths": self.labels.lengths,
            "ranges": self.ranges,
            "order": order,
            "scale": scale,
            "input_kind": self.input,
            "blank": self.blank,
            "hat": self.hat,
            "modified": self.modified,
        }


def as_lattice(
    logits: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    *,
    blank: Any,
    input: Any,
    blank_model: Any,
    topology: Any,
    ranges: Any,
    infeasible: Any,
) -> Lattice:
    """Check the arguments that the loss, the posteriors and the alignment have in common."""
    kind = as_input_kind(input)
    hat = choice("blank_model", blank_model, _BLANK_MODELS) == 1
    modified = choice("topology", topology, _TOPOLOGIES) == 1
    choice("infeasible", infeasible, _INFEASIBLE)
    if hat and kind != InputKind.LOGITS:
        raise ValueError(f"blank_model='hat' needs input='logits', got {input!r}")
    scores = as_grid_scores("logits", logits, "U+1" if ranges is None else "R")
    n_classes = scores.values.shape[3]
    blank = as_index("blank", blank, n_classes)
    checked = as_sequences(scores, logit_lengths, labels, label_lengths, blank)
    frames, bands = checked.frames, None
    if ranges is None:
        check_columns("logits", scores, checked, full=label_lengths is None)
    else:
        bands = _as_ranges(ranges, scores, frames, checked.lengths)
    if infeasible == "raise":
        require_feasible(frames, checked.lengths, modified)
    return Lattice(scores, checked, bands, blank, kind, hat, modified)


def check_columns(name: str, scores: Scores, labels: Sequences, *, full: bool) -> None:
    """Raise ValueError unless the lattice has a column for each number of labels from 0 to U.

    `scores` [..., U+1, V] are called `name` in the message; `full` says that labels have no lengths.
    """
    width = scores.values.shape[-2]
    most = int(labels.lengths.max(initial=0))
    exact = full and not labels.listed and labels.batch > 0
    if width == most + 1 or (width > most and not exact):
        return
    axis = scores.given.ndim - 2
    allowed = f"{most + 1}" if exact else f"{most + 1} or more"
    shape = scores.given.shape
    text = f"{name} has shape {shape}: {width} on axis {axis}, U+1; allowed: {allowed}, for U = {most} labels"
    if width == most:
        text += ": a column for each number of labels from 0 to U"
    elif width > most:
        text += ", the width of labels; if the last columns are padding, pass label_lengths"
    raise ValueError(text)


def _as_ranges(
    ranges: Any, scores: Scores, frames: NDArray[np.int64], label_lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first column of each frame [B, T], checked up to the lengths."""
    batch, n_frames, width, _ = scores.values.shape
    read = read_integers("ranges", ranges)
    shape = (n_frames,) if scores.single else (batch, n_frames)
    if read.values.shape != shape:
        raise ValueError(f"ranges has shape {read.values.shape}; allowed: {shape}, a column for each frame of logits")
    if width == 0:
        raise ValueError(f"logits has shape {scores.given.shape}: no columns; allowed: R of 1 or more")
    first = read.values.reshape(batch, n_frames)
    least = np.zeros_like(first)
    np.copyto(least[:, 1:], first[:, :-1])
    most = least + (width - 1)
    most[:, :1] = 0
    bad = ((first < least) | (first > most)) & (np.arange(n_frames) < frames[:, None])
    if bad.any():
        b, t = (int(i) for i in np.argwhere(bad)[0])
        allowed = "0 at the first frame"
        if t:
            allowed = f"{least[b, t]} to {most[b, t]} (the range of the frame before, plus up to R - 1)"
    else:
        last = np.maximum(label_lengths - (width - 1), 0)
        some = np.flatnonzero(frames)
        wrong = some[first[some, frames[some] - 1] != last[some]]
        if not wrong.size:
            return first
        b = int(wrong[0])
        t = int(frames[b]) - 1
        allowed = f"{last[b]} at the last frame: U - R + 1, at least 0, for U = {label_lengths[b]} and R = {width}"
    where = f"ranges[{t}]" if scores.single else f"ranges[{b}, {t}]"
    raise ValueError(f"{where} is {read.shown(b * n_frames + t)}; allowed: {allowed}")


def require_feasible(frames: NDArray[np.int64], label_lengths: NDArray[np.int64], modified: bool) -> None:
    """Raise ValueError if sequences are too short for their labels, naming them."""
    needed = np.maximum(label_lengths, 1) if modified else np.ones_like(frames)
    bad = np.flatnonzero(frames < needed)
    if bad.size:
        first = bad[0]
        of = f" for its {label_lengths[first]} labels, a frame each" if modified and label_lengths[first] else ""
        raise ValueError(
            f"logit_lengths[{first}] is {frames[first]}; allowed: {needed[first]} or more{of}; "
            f"infeasible sequences: {listed(bad)}"
        )


def schedule_frames(lattice: Lattice, num_threads: int | None) -> Schedule:
    """Return the order of the sequences, and the number of threads, which may share the frames of a sequence."""
    frames = lattice.frames
    batch, n_frames, width, n_classes = lattice.scores.values.shape
    # Nanoseconds, roughly: the passes over all classes, and the lattice.
    per_node = n_classes * (0.6 if lattice.input == InputKind.LOGITS else 0.1) + 20.0
    if threads_for(num_threads, batch * n_frames * width * per_node, batch * n_frames) == 1:
        return Schedule(np.arange(batch), 1)
    work = frames * np.minimum(lattice.labels.lengths + 1, width) * per_node
    return schedule(work, num_threads, items=int(frames.sum()))
