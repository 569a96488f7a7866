"""Real emissions for tests and benchmarks: extracts in tests/data, or the full files elsewhere."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).parent / "data"

# What each file holds: logits, or log-probabilities.
KINDS = {
    "speech_hama_real": "log_probs",
    "ocr_ppocrv4_feats": "logits",
    "nanopore_chiron_seg": "logits",
    "nanopore_chiron_long": "log_probs",
}
NAMES = tuple(KINDS)


class Emissions(NamedTuple):
    emissions: np.ndarray  # float32 [B, T, V]
    lengths: np.ndarray  # int32 [B]
    labels: np.ndarray  # int32 [B, S]
    label_lengths: np.ndarray  # int32 [B]
    blank: int
    kind: str  # "logits" or "log_probs"


def _frames(archive: np.lib.npyio.NpzFile, lengths: np.ndarray) -> np.ndarray:
    """All frames [sum(lengths), V] of a file, one sequence after the other."""
    if "feats" in archive:
        return archive["feats"] @ archive["W"] + archive["b"]
    if "emissions" in archive:
        frames = archive["emissions"]
        return frames * archive["unit"] if "unit" in archive else frames
    padded = archive["logits" if "logits" in archive else "log_probs"]
    return padded[np.arange(padded.shape[1]) < lengths[:, None]]


def load(name: str, folder: str | Path | None = None, padding: float = 0.0) -> Emissions:
    """Read one of `NAMES`, from `folder` if given, padded to rectangular arrays (labels with 0)."""
    with np.load(Path(folder or DATA) / f"{name}.npz") as archive:
        lengths, label_lengths = archive["input_lengths"], archive["label_lengths"]
        frames, tokens, blank = _frames(archive, lengths), archive["labels"], int(archive["blank"])
    emissions = np.full((len(lengths), lengths.max(), frames.shape[1]), padding, np.float32)
    emissions[np.arange(emissions.shape[1]) < lengths[:, None]] = frames
    labels = np.zeros((len(lengths), label_lengths.max()), np.int32)
    labels[np.arange(labels.shape[1]) < label_lengths[:, None]] = tokens
    return Emissions(emissions, lengths, labels, label_lengths, blank, KINDS[name])


class Tagged(NamedTuple):
    emissions: np.ndarray  # float32 [B, T, K]
    tags: np.ndarray  # int64 [B, T]
    lengths: np.ndarray  # int32 [B]
    transitions: np.ndarray  # float32 [K, K], from and to
    log_likelihood: np.ndarray  # float64 [B], by pytorch-crf


def crf() -> Tagged:
    """Scores of a trained part-of-speech tagger and the true tags, padded with 0."""
    with np.load(DATA / "crf_hkcancor.npz") as archive:
        lengths, rows, tags = (archive[name] for name in ("lengths", "emissions", "tags"))
        transitions, log_likelihood = archive["transitions"], archive["log_likelihood"]
    valid = np.arange(lengths.max()) < lengths[:, None]
    emissions = np.zeros((*valid.shape, rows.shape[1]), np.float32)
    padded = np.zeros(valid.shape, np.int64)
    emissions[valid], padded[valid] = rows, tags
    return Tagged(emissions, padded, lengths, transitions, log_likelihood)
