"""Labels of sequences in every form that is accepted, checked: padded, concatenated, or a list of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._kernels import arguments
from .arrays import MOST_ELEMENTS, Integers, as_array, as_lengths, read_integers
from .scores import Scores


class Names(NamedTuple):
    """Names of the arguments in error messages."""

    logits: str = "logits"
    labels: str = "labels"
    logit_lengths: str = "logit_lengths"
    label_lengths: str = "label_lengths"


NAMES = Names()


class Labels(NamedTuple):
    """Labels of a batch; those of sequence b are values[starts[b] : starts[b] + lengths[b]]."""

    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(slots=True)
class Sequences:
    """Frames and labels of a batch; the labels of sequence b are values[starts[b] : starts[b] + lengths[b]]."""

    table: NDArray[np.int64]  # frames [B], starts [B], lengths [B], frames_needed [B], values
    batch: int
    listed: bool  # the labels are a list or a column of sequences

    @property
    def frames(self) -> NDArray[np.int64]:
        """Number of frames of each sequence."""
        return self.table[: self.batch]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Position of the first label of each sequence."""
        return self.table[self.batch : 2 * self.batch]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of labels of each sequence."""
        return self.table[2 * self.batch : 3 * self.batch]

    @property
    def frames_needed(self) -> NDArray[np.int64]:
        """Number of labels plus one frame between each two equal neighbours."""
        return self.table[3 * self.batch : 4 * self.batch]

    @property
    def values(self) -> NDArray[np.int64]:
        """The labels of all sequences."""
        return self.table[4 * self.batch :]


class Alphabet(NamedTuple):
    """Classes 0 to `n_classes` - 1, without `blank` (-1 for none), and a `star`, which becomes class `n_classes`."""

    n_classes: int
    blank: int
    star: int | None = None


def as_sequences(
    scores: Scores,
    logit_lengths: Any,
    labels: Any,
    label_lengths: Any,
    blank: int,
    star: int | None = None,
    names: Names = NAMES,
) -> Sequences:
    """Check lengths and labels of the sequences of `scores`, whose steps are frames and whose last axis has classes."""
    batch, n_frames, *_, n_classes = scores.values.shape
    if type(labels) is np.ndarray and star is None and 0 < batch <= MOST_ELEMENTS // 4 - labels.size:
        table = np.empty(4 * batch + labels.size, np.int64)
        if arguments.read_sequences(
            table, batch, labels, logit_lengths, label_lengths, n_frames, n_classes, blank, scores.single
        ):
            return Sequences(table, batch, False)
    frames = as_lengths(names.logit_lengths, logit_lengths, batch, n_frames, scores.single)
    read = read_label_array(labels, names) if scores.single else read_labels(labels, names)
    needed = np.empty(batch, np.int64)
    alphabet = Alphabet(n_classes, blank, star)
    checked = check_labels(
        read, label_lengths, batch, alphabet, single=scores.single, names=names, frames_needed=needed
    )
    table = np.concatenate((frames, checked.starts, checked.lengths, needed, checked.values))
    return Sequences(table, batch, isinstance(read, list))


def read_labels(labels: Any, names: Names = NAMES) -> Integers | list[Integers]:
    """Return the labels of each sequence for a list or a column of sequences, else those of one array."""
    if isinstance(labels, np.ndarray) and labels.ndim != 1:
        return read_label_array(labels, names)
    if not isinstance(labels, (list, tuple)):
        labels = as_array(names.labels, labels)
        if labels.ndim != 1 or labels.dtype != object:
            return read_label_array(labels, names)
    if len(labels) and all(issubclass(kind, (int, float, np.generic)) for kind in set(map(type, labels))):
        return read_label_array(labels, names)
    rows = [as_array(f"{names.labels}[{b}]", row) for b, row in enumerate(labels)]
    if rows and all(row.ndim == 0 for row in rows):
        return read_label_array(rows if isinstance(labels, (list, tuple)) else labels, names)
    remedies = [_remedy(names) if row.ndim else "an empty list stands for no labels" for row in rows]
    return [
        read_integers(f"{names.labels}[{b}]", row, remedy)
        for b, (row, remedy) in enumerate(zip(rows, remedies, strict=True))
    ]


def read_label_array(labels: Any, names: Names = NAMES) -> Integers:
    """Return the labels of one array: padded, concatenated, or of a single sequence."""
    return read_integers(names.labels, labels, _remedy(names))


def _remedy(names: Names) -> str:
    return f"leave it out, or put any integer there and pass {names.label_lengths}"


def check_labels(
    read: Integers | list[Integers],
    label_lengths: Any,
    batch: int,
    alphabet: Alphabet,
    *,
    single: bool,
    names: Names = NAMES,
    frames_needed: NDArray[np.int64] | None = None,
) -> Labels:
    """Check labels as `read_labels` returns them: padded [B, S], concatenated, or a list of sequences.

    `frames_needed` [B], if given, receives the number of labels plus one frame between each two equal neighbours.
    """
    if isinstance(read, list):
        values, starts, lengths = _listed(read, label_lengths, batch, names)
    elif single or read.values.ndim == 2:
        values = read.values.reshape(-1)
        starts, lengths = _padded(read.values, label_lengths, batch, single, names)
    else:
        values = read.values
        starts, lengths = _concatenated(values, label_lengths, batch, names)
    n_labels, star = alphabet.n_classes, alphabet.star
    if star is not None:
        others = np.where(values == n_labels, -1, values)
        values = np.where(values == star, n_labels, others)
        n_labels += 1
    labels = Labels(values, starts, lengths)
    bad = arguments.find_bad_label(values, starts, lengths, n_labels, alphabet.blank, frames_needed)
    if bad is not None:
        raise _bad_label(read, labels, bad, alphabet, single=single, padded=label_lengths is None, names=names)
    return labels


def _padded(
    values: NDArray[np.int64], label_lengths: Any, batch: int, single: bool, names: Names
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if single and values.ndim != 1:
        raise ValueError(f"{names.labels} has shape {values.shape}; allowed: [S] for one sequence")
    if not single and len(values) != batch:
        allowed = f"[B, S] with B = {batch}, as in {names.logits}"
        raise ValueError(f"{names.labels} has shape {values.shape}; allowed: {allowed}")
    width = values.shape[-1]
    lengths = as_lengths(names.label_lengths, label_lengths, batch, width, single)
    starts = np.zeros(1, np.int64) if batch == 1 else np.arange(batch, dtype=np.int64) * width
    return starts, lengths


def _concatenated(
    values: NDArray[np.int64], label_lengths: Any, batch: int, names: Names
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if values.ndim != 1:
        raise ValueError(
            f"{names.labels} has shape {values.shape}; allowed: [B, S] padded, [sum of {names.label_lengths}] "
            "concatenated, or a list of B sequences"
        )
    if label_lengths is None:
        raise ValueError(f"{names.label_lengths} is None; {names.labels} in one dimension need {names.label_lengths}")
    lengths = as_lengths(names.label_lengths, label_lengths, batch, len(values), False)
    total = int(lengths.sum())
    if total != len(values):
        raise ValueError(f"{names.label_lengths} add up to {total}; allowed: {len(values)}, as in {names.labels}")
    return np.cumsum(lengths) - lengths, lengths


def _listed(
    rows: list[Integers], label_lengths: Any, batch: int, names: Names
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if len(rows) != batch:
        some = "1 sequence" if len(rows) == 1 else f"{len(rows)} sequences"
        raise ValueError(f"{names.labels} has {some}; allowed: {batch}, as in {names.logits}")
    for b, row in enumerate(rows):
        if row.values.ndim != 1:
            raise ValueError(f"{names.labels}[{b}] has shape {row.values.shape}; allowed: one dimension")
    sizes = np.array([len(row.values) for row in rows], np.int64)
    values = np.concatenate([row.values for row in rows]) if rows else np.empty(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    if label_lengths is None:
        return values, starts, sizes
    lengths = as_lengths(names.label_lengths, label_lengths, batch, int(sizes.max(initial=0)), False)
    bad = np.flatnonzero(lengths > sizes)
    if bad.size:
        b = int(bad[0])
        raise ValueError(f"{names.label_lengths}[{b}] is {lengths[b]}; allowed: 0 to {sizes[b]}")
    return values, starts, lengths


def _bad_label(
    read: Integers | list[Integers],
    labels: Labels,
    bad: tuple[int, int],
    alphabet: Alphabet,
    *,
    single: bool,
    padded: bool,
    names: Names,
) -> ValueError:
    """Return an error for label i of sequence b, which may be padding if lengths were left out (`padded`)."""
    b, i = bad
    first = int(labels.starts[b])
    if isinstance(read, list):
        where, value = f"{names.labels}[{b}][{i}]", read[b].shown(i)
    else:
        value = read.shown(first + i)
        if single:
            where = f"{names.labels}[{i}]"
        elif read.values.ndim == 2:
            where = f"{names.labels}[{b}, {i}]"
        else:
            where = f"{names.labels}[{first + i}] (sequence {b}, position {i})"
    text = f"{where} is {value}; allowed: 0 to {alphabet.n_classes - 1}"
    if alphabet.blank >= 0:
        text += f", except {alphabet.blank}, which is the blank"
    if alphabet.star is not None:
        text += f", or {alphabet.star}, which is the star"
    rest = labels.values[first + i : first + labels.lengths[b]]
    if padded and (value < 0 or value == alphabet.blank) and bool((rest == rest[0]).all()):
        text += f"; if it is padding, pass {names.label_lengths}"
    return ValueError(text)
