"""The CTC loss by each side: fastseqloss, PyTorch, optax."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import fastseqloss as fsl
from bench import peers
from bench.contest import MODES, OPTAX, OURS, TORCH, Call, Limits, Result, Row

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import real_data

LIMITS = Limits(gradient={1: 2e-6, 10: 1e-5})
WORKLOADS = {  # B, T, V, S
    "warp28": (64, 150, 28, 40),
    "warp5000": (64, 150, 5000, 40),
    "char32": (16, 1000, 32, 150),
    "bpe1024": (16, 400, 1024, 60),
    "ocr6625": (64, 80, 6625, 20),
    "long": (1, 12000, 32, 1500),
}


@dataclass(frozen=True)
class Batch:
    """Logits [B, T, V] and labels [B, S], with their lengths."""

    logits: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    label_lengths: np.ndarray
    blank: int

    @property
    def shape(self) -> tuple[int, ...]:
        """B, T, V, S."""
        return (*self.logits.shape, self.labels.shape[1])

    def scaled(self, scale: int) -> "Batch":
        """Return the same batch with its logits multiplied."""
        return replace(self, logits=self.logits * np.float32(scale))

    def astype(self, dtype: type) -> "Batch":
        """Return the same batch with its logits in another dtype."""
        return replace(self, logits=self.logits.astype(dtype))


def random_batch(shape: tuple[int, int, int, int]) -> Batch:
    """Make float32 logits from N(0, 1), uniform labels, full lengths, blank 0."""
    b, t, v, s = shape
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((b, t, v), dtype=np.float32)
    labels = rng.integers(1, v, (b, s), dtype=np.int32)
    return Batch(logits, np.full(b, t, np.int32), labels, np.full(b, s, np.int32), 0)


def real_batch(name: str, folder: Path | None) -> Batch:
    """Load real emissions: the extract in the tests, or the complete file from ``folder``.

    Log-probabilities are used as logits, so that all sides do the same work.
    """
    return Batch(*real_data.load(name, folder)[:5])


def rows(folder: Path | None) -> list[Row]:
    """List the six synthetic workloads and the real emissions."""
    made = [_row(name, random_batch(shape), False) for name, shape in WORKLOADS.items()]
    return made + [_row(name, real_batch(name, folder), True) for name in real_data.NAMES]


def _row(name: str, batch: Batch, real: bool) -> Row:
    sides: dict[str, Callable[[Batch, int], dict[str, Call]]]
    sides = {OURS: our_calls, TORCH: torch_calls}
    if importlib.util.find_spec("optax"):
        sides[OPTAX] = optax_calls

    def calls(threads: int) -> dict[tuple[str, str], Call]:
        of = {side: make(batch, threads) for side, make in sides.items()}
        return {(side, mode): of[side][mode] for mode in MODES for side in sides if mode in of[side]}

    def results(scale: int) -> dict[str, Callable[[], Result]]:
        scaled = batch.scaled(scale)
        found = {
            OURS: lambda: our_ctc(scaled, reduction="none", return_grad=True),
            TORCH: lambda: torch_result(scaled, "float32"),
        }
        return found | ({OPTAX: lambda: optax_result(scaled)} if OPTAX in sides else {})

    def reference(scale: int) -> Result:
        return torch_result(batch.scaled(scale), "float64")

    frames = int(batch.lengths.sum())
    work = {"frame": frames, "logit": frames * batch.logits.shape[2]}
    return Row(name, batch.shape, real, calls, results, reference, work)


def our_ctc(batch: Batch, **options):
    """Call ``fastseqloss.ctc_loss`` on a batch."""
    return fsl.ctc_loss(batch.logits, batch.labels, batch.lengths, batch.label_lengths, blank=batch.blank, **options)


def our_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    grad = np.zeros_like(batch.logits)
    common = {"reduction": "sum", "num_threads": threads}
    return {
        "grad_out": lambda: our_ctc(batch, grad_out=grad, **common),
        "fresh": lambda: our_ctc(batch, return_grad=True, **common),
        "loss": lambda: our_ctc(batch, **common),
    }


def torch_ctc(batch: Batch, dtype: str):
    """Return the leaf in PyTorch's preferred time-major layout, and the loss as a function of it."""
    import torch
    from torch.nn import functional

    logits = torch.from_numpy(batch.logits).to(getattr(torch, dtype)).swapaxes(0, 1)
    logits = logits.clone(memory_format=torch.contiguous_format).requires_grad_(True)
    arrays = (batch.labels, batch.lengths, batch.label_lengths)
    labels, lengths, label_lengths = (torch.from_numpy(a.astype(np.int64)) for a in arrays)

    def loss(x, reduction="sum"):
        log_probs = functional.log_softmax(x, -1)
        return functional.ctc_loss(log_probs, labels, lengths, label_lengths, blank=batch.blank, reduction=reduction)

    return logits, loss


def torch_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of PyTorch."""
    return peers.torch_calls(*torch_ctc(batch, "float32"), threads)


def torch_result(batch: Batch, dtype: str) -> Result:
    """Compute losses and gradient in PyTorch."""
    logits, loss = torch_ctc(batch, dtype)
    losses = loss(logits, reduction="none")
    losses.sum().backward()
    return losses.detach().numpy().astype(np.float64), logits.grad.swapaxes(0, 1).numpy()


def optax_ctc(batch: Batch):
    """Return the jitted loss, the jitted loss with gradient, and the logits."""
    import jax
    import jax.numpy as jnp
    import optax

    def padding(lengths: np.ndarray, size: int):
        return jnp.asarray(np.arange(size) >= lengths[:, None], jnp.float32)

    logit_padding = padding(batch.lengths, batch.logits.shape[1])
    label_padding = padding(batch.label_lengths, batch.labels.shape[1])
    labels = jnp.asarray(batch.labels)

    def loss(x):
        each = optax.ctc_loss(x, logit_padding, labels, label_padding, blank_id=batch.blank)
        return each.sum(), each

    gradient = jax.value_and_grad(loss, has_aux=True)
    return jax.jit(loss), jax.jit(gradient), jnp.asarray(batch.logits)


def optax_calls(batch: Batch, _threads: int) -> dict[str, Call]:
    """List the timed calls of optax, on the CPUs of the process."""
    return peers.jax_calls(*optax_ctc(batch))


def optax_result(batch: Batch) -> Result:
    """Compute losses and gradient in optax."""
    _, gradient, logits = optax_ctc(batch)
    (_, losses), grad = gradient(logits)
    return np.asarray(losses, np.float64), np.asarray(grad)
