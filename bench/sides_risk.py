"""Expected risk of label sequences by each side: fastseqloss, a call of `ctc_loss` for each candidate, and PyTorch."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import fastseqloss as fsl
from bench import peers
from bench.contest import MODES, NUMPY, OURS, TORCH, Call, Calls, Limits, Result, Row
from bench.sides_ctc import WORKLOADS as SHAPES
from bench.sides_ctc import Batch, random_batch, real_batch, real_data

LIMITS = Limits(gradient={1: 2e-6, 10: 1e-5})
WORKLOADS = ("char32", "bpe1024", "ocr6625")
COUNT = 8  # candidates of a sequence


@dataclass(frozen=True)
class Candidates:
    """A batch, and several label sequences for each of its sequences, with their risks."""

    batch: Batch
    labels: np.ndarray  # [B, N, S]
    lengths: np.ndarray  # [B, N]
    risks: np.ndarray  # [B, N]

    def scaled(self, scale: int) -> "Candidates":
        """Return the same candidates for logits multiplied."""
        return replace(self, batch=self.batch.scaled(scale))


def made(name: str) -> Candidates:
    """Make candidates that differ from the labels of a random batch in two places."""
    batch, rng = random_batch(SHAPES[name]), np.random.default_rng(1)
    b, _, v, s = batch.shape
    labels = np.repeat(batch.labels[:, None].astype(np.int64), COUNT, axis=1)
    places = rng.integers(0, s, (b, COUNT, 2))
    np.put_along_axis(labels, places, rng.integers(1, v, places.shape), axis=2)
    return Candidates(batch, labels, np.full((b, COUNT), s), rng.integers(0, 3, (b, COUNT)).astype(np.float64))


def searched(name: str, folder: Path | None) -> Candidates:
    """Return the candidates that a beam search finds in real emissions; their risks are differences of lengths."""
    batch = real_batch(name, folder)
    beams = fsl.ctc_beam_search(batch.logits, batch.lengths, blank=batch.blank, n_best=COUNT)
    risks = np.abs(beams.label_lengths - batch.label_lengths[:, None]).astype(np.float64)
    return Candidates(batch, beams.labels, beams.label_lengths, risks)


def ours(given: Candidates, **options):
    """Call ``fastseqloss.ctc_risk_loss``."""
    batch = given.batch
    arguments = batch.logits, given.labels, given.risks, batch.lengths, given.lengths
    return fsl.ctc_risk_loss(*arguments, blank=batch.blank, **options)


def one_by_one(given: Candidates, with_gradient: bool = True, threads: int = 1):
    """Call ``fastseqloss.ctc_loss`` for each candidate, and combine losses and gradients in NumPy."""
    batch, losses, gradients = given.batch, [], []
    for i in range(COUNT):
        arguments = batch.logits, given.labels[:, i], batch.lengths, given.lengths[:, i]
        options = {"blank": batch.blank, "reduction": "none", "num_threads": threads}
        found = fsl.ctc_loss(*arguments, **options, return_grad=with_gradient)
        losses.append(found[0] if with_gradient else found)
        gradients.append(found[1] if with_gradient else None)
    log_probs = -np.stack(losses, axis=1)
    share = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    risk = (share * given.risks).sum(axis=1)
    if not with_gradient:
        return risk
    total = np.zeros_like(batch.logits)
    weights = (share * (risk[:, None] - given.risks)).astype(np.float32)
    for i in range(COUNT):
        gradients[i] *= weights[:, i, None, None]
        total += gradients[i]
    return risk, total


def torch_risk(given: Candidates, dtype: str):
    """Return the logits of PyTorch and the loss as a function of them, batch first."""
    import torch

    batch = given.batch
    logits = torch.from_numpy(batch.logits).to(getattr(torch, dtype)).requires_grad_(True)
    lengths = torch.from_numpy(batch.lengths.astype(np.int64))
    candidates = [
        tuple(torch.from_numpy(each[:, i].copy()) for each in (given.labels, given.lengths)) for i in range(COUNT)
    ]
    risks = torch.from_numpy(given.risks).to(logits.dtype)

    def loss(x, reduction="sum"):
        log_probs = x.log_softmax(-1).swapaxes(0, 1)
        options = {"blank": batch.blank, "reduction": "none"}
        losses = [torch.nn.functional.ctc_loss(log_probs, y.clip(0), lengths, n, **options) for y, n in candidates]
        risk = (torch.softmax(-torch.stack(losses, 1), 1) * risks).sum(1)
        return risk if reduction == "none" else risk.sum()

    return logits, loss


def torch_result(given: Candidates, dtype: str) -> Result:
    """Compute losses and gradient in PyTorch."""
    logits, loss = torch_risk(given, dtype)
    losses = loss(logits, "none")
    losses.sum().backward()
    return losses.detach().numpy().astype(np.float64), logits.grad.numpy()


def our_calls(given: Candidates, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    out = np.empty_like(given.batch.logits)
    common = {"reduction": "sum", "num_threads": threads}
    return {
        "grad_out": lambda: ours(given, grad_out=out, **common),
        "fresh": lambda: ours(given, return_grad=True, **common),
        "loss": lambda: ours(given, **common),
    }


def rows(folder: Path | None) -> list[Row]:
    """List synthetic workloads and real emissions with many frames or classes."""
    some = [_row(name, made(name), False) for name in WORKLOADS]
    return some + [_row(name, searched(name, folder), True) for name in real_data.NAMES]


def _row(name: str, given: Candidates, real: bool) -> Row:
    def calls(threads: int) -> Calls:
        of = {
            OURS: our_calls(given, threads),
            TORCH: peers.torch_calls(*torch_risk(given, "float32"), threads),
            NUMPY: {
                "fresh": lambda: one_by_one(given, True, threads),
                "loss": lambda: one_by_one(given, False, threads),
            },
        }
        return {(side, mode): of[side][mode] for mode in MODES for side in of if mode in of[side]}

    def results(scale: int):
        scaled = given.scaled(scale)
        return {
            OURS: lambda: ours(scaled, reduction="none", return_grad=True),
            TORCH: lambda: torch_result(scaled, "float32"),
            NUMPY: lambda: one_by_one(scaled),
        }

    shape = (*given.batch.shape[:3], given.labels.shape[2])
    return Row(name, shape, real, calls, results, lambda scale: torch_result(given.scaled(scale), "float64"))
