"""Forced alignment by each side: fastseqloss, and the usual loop over frames in NumPy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastseqloss as fsl
from bench.contest import Call
from bench.sides_ctc import Batch, our_calls, random_batch, real_batch  # adds tests/ to the path

import real_data  # isort: skip
from reference.alignment import viterbi  # isort: skip

NUMPY = "NumPy"  # the usual loop over frames, vectorised over the states
NAMES = real_data.NAMES
MODES = ("log_probs", "logits")
HOUR = (1, 180_000, 32, 20_000)  # B, T, V, S: an hour of speech at 50 frames a second


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def emissions(name: str, folder: Path | None, kind: str) -> Batch:
    """Load real emissions, as logits or as log-probabilities."""
    batch = real_batch(name, folder)
    return batch if kind == "logits" else replace(batch, logits=log_softmax(batch.logits))


def hour() -> Batch:
    """Make the hour of speech."""
    return random_batch(HOUR)


def our_align(batch: Batch, kind: str, **options) -> fsl.CTCAlignment:
    """Call ``fastseqloss.ctc_align`` on a batch."""
    arguments = batch.logits, batch.labels, batch.lengths, batch.label_lengths
    return fsl.ctc_align(*arguments, blank=batch.blank, input=kind, **options)


def our_confidences(batch: Batch, **options) -> fsl.CTCConfidences:
    """Call ``fastseqloss.ctc_confidences`` on logits."""
    arguments = batch.logits, batch.labels, batch.lengths, batch.label_lengths
    return fsl.ctc_confidences(*arguments, blank=batch.blank, **options)


# Calls on one thread, of batches such as the hour.
HOUR_CALLS: dict[str, Callable[[Batch], Call]] = {
    "ctc_loss, gradient": lambda batch: our_calls(batch, 1)["grad_out"],
    "ctc_confidences": lambda batch: lambda: our_confidences(batch, num_threads=1),
    "ctc_align": lambda batch: lambda: our_align(batch, "logits", num_threads=1),
}


def numpy_align(batch: Batch, kind: str) -> list[tuple[float, np.ndarray]]:
    """Align each sequence with the loop; return scores and paths."""
    rows = zip(batch.logits, batch.lengths, batch.labels, batch.label_lengths, strict=True)
    found = []
    for scores, frames, labels, count in rows:
        log_probs = log_softmax(scores[:frames]) if kind == "logits" else scores[:frames]
        found.append(viterbi(log_probs, labels[:count], batch.blank))
    return found


def calls(batch: Batch, kind: str, threads: int) -> dict[tuple[str, str], Call]:
    """List the timed calls."""
    return {
        ("fastseqloss", kind): lambda: our_align(batch, kind, num_threads=threads),
        (NUMPY, kind): lambda: numpy_align(batch, kind),
    }


def score_difference(batch: Batch, kind: str) -> float:
    """Return the largest difference of the scores in float64."""
    double = batch.astype(np.float64)
    ours = our_align(double, kind).log_prob
    return max(abs(score - p) for (score, _), p in zip(numpy_align(double, kind), np.atleast_1d(ours), strict=True))
