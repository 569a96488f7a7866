"""The transducer losses by each side: fastseqloss, PyTorch with one `logcumsumexp` a frame, NumPy, and a copy."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

import fastseqloss as fsl
from bench import contest, peers
from bench.contest import MODES, NUMPY, OURS, TORCH, TRAFFIC, Call, Calls, Limits, Result, Row

LIMITS = Limits(gradient={1: 2e-6, 10: 2e-6}, loss=2e-7)
SIMPLE_LIMITS = Limits(gradient={1: 1e-6, 10: 1e-6, 30: 1e-6})
WORKLOADS = {  # B, T, U, V
    "words1024": (8, 200, 40, 1024),
    "short128": (16, 150, 20, 128),
    "words500": (4, 400, 100, 500),
    "recording1024": (1, 1500, 200, 1024),
    "words5000": (2, 200, 30, 5000),
    "char28": (16, 200, 30, 28),
}
LONG = {"3000 frames": (1, 3000, 300, 32), "6000 frames": (1, 6000, 600, 16)}  # for the errors only
ALONE = {"recording1024"}  # no peer: PyTorch keeps several arrays of the size of the logits, 5 GB in all
SIMPLE = {name: WORKLOADS[name] for name in ("words1024", "words500", "short128", "recording1024")}


@dataclass(frozen=True)
class Batch:
    """Logits [B, T, U + 1, V] and labels [B, U], all of full length, blank 0."""

    logits: np.ndarray
    labels: np.ndarray

    def scaled(self, scale: int) -> "Batch":
        """Return the same batch with its logits multiplied."""
        return replace(self, logits=self.logits * np.float32(scale)) if scale != 1 else self


@lru_cache(1)  # the largest has 1.2 GB
def random_batch(shape: tuple[int, int, int, int]) -> Batch:
    """Make float32 logits from N(0, 1) and uniform labels."""
    b, t, u, v = shape
    rng = np.random.default_rng(0)
    return Batch(rng.standard_normal((b, t, u + 1, v), dtype=np.float32), rng.integers(1, v, (b, u)))


def rows() -> list[Row]:
    """List the synthetic workloads and the long sequences, of which only the errors are of interest."""
    made = [_row(name, shape, name not in ALONE) for name, shape in WORKLOADS.items()]
    return made + [replace(_row(name, shape, True), calls=None) for name, shape in LONG.items()]


def _row(name: str, shape: tuple[int, ...], with_peers: bool) -> Row:
    sides: dict[str, Callable[[Batch, int], dict[str, Call]]] = {OURS: our_calls}
    if with_peers:
        sides[TORCH] = torch_calls
    sides[TRAFFIC] = copy_calls

    def calls(threads: int) -> Calls:
        of = {side: make(random_batch(shape), threads) for side, make in sides.items()}
        return {(side, mode): of[side][mode] for mode in MODES for side in sides if mode in of[side]}

    def results(scale: int) -> dict[str, Callable[[], Result]]:
        scaled = random_batch(shape).scaled(scale)
        found = {OURS: lambda: our_rnnt(scaled, reduction="none", return_grad=True)}
        return found | ({TORCH: lambda: torch_result(scaled, "float32")} if with_peers else {})

    def reference(scale: int) -> Result:
        return torch_result(random_batch(shape).scaled(scale), "float64")

    b, t, u, v = shape
    work = {"frame": b * t, "logit": b * t * (u + 1) * v}
    return Row(name, shape, False, calls, results, reference if with_peers else None, work)


def our_rnnt(batch: Batch, **options):
    """Call ``fastseqloss.rnnt_loss`` on a batch."""
    return fsl.rnnt_loss(batch.logits, batch.labels, **options)


def our_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    grad = np.zeros_like(batch.logits)
    common = {"reduction": "sum", "num_threads": threads}
    return {
        "grad_out": lambda: our_rnnt(batch, grad_out=grad, **common),
        "fresh": lambda: our_rnnt(batch, return_grad=True, **common),
        "loss": lambda: our_rnnt(batch, **common),
    }


def copy_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """Copy the logits to an array that exists, on one thread."""
    room = np.zeros_like(batch.logits)
    return {"grad_out": lambda: np.copyto(room, batch.logits)}


def torch_rnnt(batch: Batch, dtype: str):
    """Return the leaf and the loss as a function of it: the best that plain PyTorch does.

    Along the labels of a frame, alpha(u) = logaddexp(a(u), alpha(u - 1) + y(u - 1)) with the sums c of y is
    c + logcumsumexp(a - c): one call for each frame.
    """
    import torch

    leaf = torch.from_numpy(batch.logits).to(getattr(torch, dtype)).clone().requires_grad_(True)
    labels = torch.from_numpy(batch.labels)

    def loss(x, reduction="sum"):
        log_probs = x.log_softmax(-1)
        index = labels[:, None, :, None].expand(-1, x.shape[1], -1, 1)
        of_blank, of_label = log_probs[..., 0], log_probs[:, :, :-1].gather(3, index)[..., 0]
        sums = torch.nn.functional.pad(of_label, (1, 0)).cumsum(2).unbind(1)
        blanks = of_blank.unbind(1)
        alpha = sums[0]
        for blank, along in zip(blanks, sums[1:], strict=False):
            alpha = along + torch.logcumsumexp(alpha + blank - along, 1)
        losses = -(alpha[:, -1] + blanks[-1][:, -1])
        return losses if reduction == "none" else losses.sum()

    return leaf, loss


def torch_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of PyTorch; gradients are fresh, which is faster for it."""
    calls = peers.torch_calls(*torch_rnnt(batch, "float32"), threads)
    return {mode: call for mode, call in calls.items() if mode != "grad_out"} | {"grad_out": calls["fresh"]}


def torch_result(batch: Batch, dtype: str) -> Result:
    """Compute losses and gradient in PyTorch, one sequence at a time, which needs less memory."""
    losses, gradient = [], np.empty(batch.logits.shape, dtype)
    for b in range(len(batch.labels)):
        leaf, loss = torch_rnnt(Batch(batch.logits[b : b + 1], batch.labels[b : b + 1]), dtype)
        own = loss(leaf)
        own.backward()
        losses.append(own.item())
        gradient[b] = leaf.grad[0].numpy()
    return np.array(losses), gradient


# ---- the additive joiner ------------------------------------------------------------------


@dataclass(frozen=True)
class Simple:
    """Scores am [B, T, V] and lm [B, U + 1, V], and labels [B, U]."""

    am: np.ndarray
    lm: np.ndarray
    labels: np.ndarray

    def scaled(self, scale: int) -> "Simple":
        """Return the same batch with its scores multiplied."""
        return Simple(self.am * np.float32(scale), self.lm * np.float32(scale), self.labels)


def random_simple(shape: tuple[int, int, int, int]) -> Simple:
    """Make float32 scores from N(0, 1) and uniform labels."""
    b, t, u, v = shape
    rng = np.random.default_rng(0)
    am, lm = (rng.standard_normal((b, n, v), dtype=np.float32) for n in (t, u + 1))
    return Simple(am, lm, rng.integers(1, v, (b, u)))


def simple_rows() -> list[Row]:
    """List the workloads of the additive joiner, beside the plain form in NumPy."""
    return [_simple_row(name, random_simple(shape), shape) for name, shape in SIMPLE.items()]


def _simple_row(name: str, batch: Simple, shape: tuple[int, ...]) -> Row:
    def calls(threads: int) -> Calls:
        from threadpoolctl import ThreadpoolController

        blas = ThreadpoolController()
        options = {"reduction": "sum", "return_grad": True, "num_threads": threads}

        def confined(call: Call) -> Call:
            def run() -> None:
                with blas.limit(limits=threads, user_api="blas"):
                    call()

            return run

        return {
            (OURS, "fresh"): confined(lambda: fsl.rnnt_simple_loss(batch.am, batch.lm, batch.labels, **options)),
            (NUMPY, "fresh"): confined(lambda: numpy_simple(batch, np.float32)),
        }

    def result(scale: int, compute: Callable[[Simple], tuple]) -> Result:
        sizes = [np.abs(g).max() for g in numpy_simple(batch.scaled(scale), np.float64)[1]]
        losses, gradients = compute(batch.scaled(scale))
        return losses, np.concatenate([(g / size).ravel() for g, size in zip(gradients, sizes, strict=True)])

    def ours(scaled: Simple) -> tuple:
        return fsl.rnnt_simple_loss(scaled.am, scaled.lm, scaled.labels, reduction="none", return_grad=True)

    def results(scale: int) -> dict[str, Callable[[], Result]]:
        return {
            OURS: lambda: result(scale, ours),
            NUMPY: lambda: result(scale, lambda scaled: numpy_simple(scaled, np.float32)),
        }

    def reference(scale: int) -> Result:
        return result(scale, lambda scaled: numpy_simple(scaled, np.float64))

    return Row(name, shape, False, calls, results, reference)


def numpy_simple(batch: Simple, dtype: type) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Losses [B], and gradients of am and lm: products of matrices, and logarithms along anti-diagonals."""
    found = [_numpy_simple(*row, dtype) for row in zip(batch.am, batch.lm, batch.labels, strict=True)]
    losses, am, lm = (np.array(part) for part in zip(*found, strict=True))
    return losses, (am, lm)


def _numpy_simple(am: np.ndarray, lm: np.ndarray, labels: np.ndarray, dtype: type) -> tuple:
    am, lm = am.astype(dtype), lm.astype(dtype)
    top_am, top_lm = am.max(axis=1, keepdims=True), lm.max(axis=1, keepdims=True)
    exp_am, exp_lm = np.exp(am - top_am), np.exp(lm - top_lm)
    sums = np.maximum(exp_am @ exp_lm.T, np.finfo(dtype).tiny)
    log_norm = np.log(sums) + top_am + top_lm.T
    columns = np.arange(len(labels))
    of_blank = am[:, :1] + lm[:, 0] - log_norm
    of_label = am[:, labels] + lm[columns, labels] - log_norm[:, :-1]
    log_p, by_blank, by_label = log_space_occupancies(of_blank, of_label)
    node = by_blank.copy()
    node[:, :-1] += by_label
    share = node / sums
    of_am, of_lm = exp_am * (share @ exp_lm), exp_lm * (share.T @ exp_am)
    of_am[:, 0] -= by_blank.sum(axis=1)
    of_lm[:, 0] -= by_blank.sum(axis=0)
    np.subtract.at(of_am, (slice(None), labels), by_label)
    of_lm[columns, labels] -= by_label.sum(axis=0)
    return -log_p, of_am, of_lm


def log_space_occupancies(of_blank: np.ndarray, of_label: np.ndarray) -> tuple:
    """Log-probability, and the occupancies of the arcs of blanks [T, U + 1] and labels [T, U]."""
    frames, columns = of_blank.shape
    alpha = np.full((frames, columns), -np.inf, of_blank.dtype)
    beta = np.full((frames + 1, columns + 1), -np.inf, of_blank.dtype)
    alpha[0, 0], beta[frames, columns - 1] = 0, 0
    diagonals = []
    for n in range(frames + columns - 1):
        u = np.arange(max(0, n - frames + 1), min(columns, n + 1))
        diagonals.append((n - u, u))
    for t, u in diagonals[1:]:
        ahead, along = t > 0, u > 0
        alpha[t[ahead], u[ahead]] = alpha[t[ahead] - 1, u[ahead]] + of_blank[t[ahead] - 1, u[ahead]]
        t, u = t[along], u[along]
        alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t, u - 1] + of_label[t, u - 1])
    for t, u in reversed(diagonals):
        beta[t, u] = of_blank[t, u] + beta[t + 1, u]
        inside = u < columns - 1
        t, u = t[inside], u[inside]
        beta[t, u] = np.logaddexp(beta[t, u], of_label[t, u] + beta[t, u + 1])
    log_p = beta[0, 0]
    by_blank = np.exp(alpha + of_blank + beta[1:, :-1] - log_p)
    by_label = np.exp(alpha[:, :-1] + of_label + beta[:-1, 1:-1] - log_p)
    return log_p, by_blank, by_label


# ---- tables -------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> int:
    """Print the tables of the losses, of the additive joiner, and of two threads."""
    only = options.only or [*WORKLOADS, *LONG]
    status = contest.compare([row for row in rows() if row.name in only], LIMITS, options)
    simple = [row for row in simple_rows() if row.name in only]
    if simple:
        print("\n## Additive joiner\n\nErrors of gradients are relative to the largest entry.")
        status |= contest.compare(simple, SIMPLE_LIMITS, options, NUMPY)
    if not options.accuracy_only and not options.cpu_time and {1, 2} <= {*options.threads}:
        print_gains([name for name in WORKLOADS if name in only], options)
    return status


def print_gains(names: list[str], options: argparse.Namespace) -> None:
    """Print what a second thread gains, beside the gain of a cross-entropy of the same logits."""
    lines = []
    for name in names:
        line = {"workload": name}
        for loss, call in gain_calls(random_batch(WORKLOADS[name])).items():
            calls = {(OURS, str(n)): partial(call, num_threads=n) for n in (1, 2)}
            timings = contest.alternate(calls, options, 2)
            one, two = (timings[OURS, str(n)].best for n in (1, 2))
            line |= {f"{loss}: 1 thread": contest.milliseconds(one), f"{loss}: gain": contest.times(one / two)}
        lines.append(line)
    print("\n### Gain of a second thread, milliseconds\n")
    contest.print_table(lines)


def gain_calls(batch: Batch) -> dict[str, Callable[..., object]]:
    """List two losses with the gradients of the same logits, functions of `num_threads`."""
    grad = np.zeros_like(batch.logits)
    flat, flat_grad = (x.reshape(-1, x.shape[3]) for x in (batch.logits, grad))
    targets = np.zeros(len(flat), int)
    return {
        "rnnt_loss": partial(our_rnnt, batch, grad_out=grad),
        "softmax_cross_entropy": partial(fsl.softmax_cross_entropy, flat, targets, grad_out=flat_grad),
    }


def memory_line(name: str, printed: str) -> dict[str, str]:
    """Lay out the increase of the memory during a call in place, which `growth_in_place` has printed."""
    logits = 4 * np.prod(np.add(WORKLOADS[name], (0, 0, 1, 0)), dtype=float)
    grown = float(printed)
    return {
        "workload": name,
        "logits, MB": f"{logits / 1e6:.0f}",
        "working memory, MB": f"{grown / 1e6:.1f}",
        "relative to the logits": f"{grown / logits:.1%}",
    }


def growth_in_place(name: str) -> int:
    """Return the increase of the peak memory during one call, the gradient over the logits, in bytes."""
    from bench import resident

    small = random_batch((1, 4, 2, 8))
    our_rnnt(small, grad_out=small.logits, num_threads=1)
    batch = random_batch(WORKLOADS[name])
    return resident.growth(lambda: our_rnnt(batch, grad_out=batch.logits, num_threads=1))
