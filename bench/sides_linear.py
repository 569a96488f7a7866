"""Losses of a linear layer by each side: fastseqloss, PyTorch, and the matrix products alone in NumPy."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import fastseqloss as fsl
from bench import contest, resident
from bench.contest import OURS, TORCH, Call

PRODUCTS, CHUNKED = "three products", "PyTorch, chunked"
WORKLOADS = {  # N, D, V; B, T, D, V, S for CTC
    "words32000": (2048, 768, 32000),
    "words50257": (4096, 256, 50257),
    "CTC": (16, 400, 512, 5000, 60),
}
BFLOAT16 = (512, 768, 32000)
LIMIT = 2e-5  # of the gradients, of which each is divided by its largest element
_SMALL = {3: (64, 16, 300), 5: (2, 30, 8, 12, 3)}  # of the checks and of warm calls, by the length of a shape


@dataclass(frozen=True)
class Batch:
    """Hidden states, a weight, and targets [N] or labels [B, S]."""

    hidden: np.ndarray
    weight: np.ndarray
    targets: np.ndarray

    def astype(self, dtype: np.dtype) -> "Batch":
        """Return the same batch in another type."""
        return Batch(self.hidden.astype(dtype), self.weight.astype(dtype), self.targets)


def batch_of(shape: tuple[int, ...], dtype: np.dtype = np.float32) -> Batch:
    """Make logits of N(0, 1) from hidden states and weights, and random targets."""
    rng = np.random.default_rng(0)
    *steps, features, classes = shape[:-1] if len(shape) == 5 else shape
    hidden = rng.standard_normal((*steps, features), dtype=np.float32)
    weight = rng.standard_normal((classes, features), dtype=np.float32) / np.float32(features**0.5)
    targets = rng.integers(1, classes, (shape[0], shape[4]) if len(shape) == 5 else steps)
    return Batch(hidden.astype(dtype), weight.astype(dtype), targets)


def ours(batch: Batch, **options) -> object:
    """Call fastseqloss."""
    function = fsl.linear_ctc_loss if batch.hidden.ndim == 3 else fsl.linear_cross_entropy
    return function(batch.hidden, batch.weight, batch.targets, **options)


def our_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    frozen = fsl.LinearGradient(np.empty_like(batch.hidden), None, None)
    bias = np.zeros(len(batch.weight), batch.weight.dtype)
    return {
        "gradients": lambda: ours(batch, return_grad=True, num_threads=threads),
        "bias": lambda: ours(batch, bias=bias, return_grad=True, num_threads=threads),
        "softcap": lambda: ours(batch, softcap=30.0, return_grad=True, num_threads=threads),
        "frozen": lambda: ours(batch, grad_out=frozen, num_threads=threads),
        "loss": lambda: ours(batch, num_threads=threads),
    }


def sequence_calls(threads: int) -> dict[str, Call]:
    """List calls of 8 sequences of 128 words, as losses of preferences and of rewards make them."""
    batch, rng = batch_of((1024, 512, 16000)), np.random.default_rng(1)
    hidden, words = batch.hidden.reshape(8, 128, -1), batch.targets.reshape(8, 128)
    slopes, old = rng.uniform(-1, 1, 8), -10 * rng.random((8, 128))
    given = (hidden, batch.weight, words)
    options = {"num_threads": threads, "grad_out": fsl.LinearGradient(*map(np.empty_like, given[:2]), None)}
    return {
        "log_prob": lambda: fsl.linear_sequence_log_prob(*given, num_threads=threads),
        "slopes": lambda: fsl.linear_sequence_log_prob(*given, slopes=slopes, **options),
        "policy": lambda: fsl.linear_policy_loss(*given, slopes, np.full(8, 64), old_log_probs=old, **options),
    }


def products(batch: Batch) -> None:
    """Multiply as a loss of logits in memory has to."""
    hidden = batch.hidden.reshape(-1, batch.hidden.shape[-1])
    logits = np.matmul(hidden, batch.weight.T)
    np.matmul(logits, batch.weight)
    np.matmul(logits.T, hidden)


def torch_loss(batch: Batch, chunked: bool = False) -> Callable:
    """Return the loss of PyTorch, and its tensors with gradients."""
    import torch
    from torch.nn import functional

    hidden, weight = (_tensor(array).requires_grad_(True) for array in (batch.hidden, batch.weight))
    targets = torch.from_numpy(batch.targets)

    def loss():
        if chunked:
            options = torch.nn.LinearCrossEntropyOptions()
            return functional.linear_cross_entropy(hidden, weight, targets, options=options)
        scores = functional.linear(hidden, weight)
        if batch.hidden.ndim == 2:
            return functional.cross_entropy(scores, targets)
        log_probs = functional.log_softmax(scores.transpose(0, 1), -1)
        frames, labels = ((n,) * len(targets) for n in (hidden.shape[1], targets.shape[1]))
        return functional.ctc_loss(log_probs, targets, frames, labels, reduction="sum") / len(targets)

    return loss, (hidden, weight)


def _tensor(array: np.ndarray):
    """Return a tensor; PyTorch does not know bfloat16 of NumPy."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array)


def torch_gradients(batch: Batch, chunked: bool = False) -> Call:
    """Return the call of PyTorch, which returns the gradients."""
    loss, parameters = torch_loss(batch, chunked)

    def call() -> list:
        for parameter in parameters:
            parameter.grad = None
        loss().backward()
        return [parameter.grad for parameter in parameters]

    return call


def calls(shape: tuple[int, ...], threads: int) -> contest.Calls:
    """List the calls of all sides; BLAS and PyTorch have the same number of threads."""
    import torch
    from threadpoolctl import ThreadpoolController

    torch.set_num_threads(threads)
    blas, batch = ThreadpoolController(), batch_of(shape)

    def confined(call: Call) -> Call:
        def run() -> None:
            with blas.limit(limits=threads, user_api="blas"):
                call()

        return run

    made = {(OURS, mode): confined(call) for mode, call in our_calls(batch, threads).items()}
    made[PRODUCTS, "gradients"] = confined(partial(products, batch))
    made[TORCH, "gradients"] = torch_gradients(batch)
    if len(shape) == 3:
        made[CHUNKED, "gradients"] = torch_gradients(batch, chunked=True)
    return made


def compare(options: argparse.Namespace, memory: Callable[[str, str], str]) -> int:
    """Print the tables; return 1 if our errors exceed the limit. `memory` measures a side in a process of its own."""
    chosen = {name: shape for name, shape in WORKLOADS.items() if not options.only or name in options.only}
    if not chosen:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    if not options.accuracy_only:
        for threads in options.threads:
            _timing_table(chosen, threads, options)
        print("- gradients: loss and gradients of hidden states and weight; three products: those of NumPy alone,")
        print("  logits in fresh memory; others: with a bias, with a soft cap, by hidden states alone, no gradient")
        print("- each time is the minimum over the rounds\n")
        _memory_table(chosen, memory)
        if not options.only:
            _half_table(options)
    return _error_table()


def _timing_table(chosen: dict[str, tuple], threads: int, options: argparse.Namespace) -> None:
    lines = []
    for name, shape in chosen.items():
        timings = contest.alternate(calls(shape, threads), options, threads)
        best = {key: timing.best for key, timing in timings.items()}
        own = best[OURS, "gradients"]
        line = {"workload": name, "shape": ",".join(map(str, shape))}
        line |= {mode: contest.milliseconds(seconds) for (side, mode), seconds in best.items() if side == OURS}
        line |= {PRODUCTS: contest.milliseconds(best[PRODUCTS, "gradients"])}
        line |= {"over the products": contest.times(own / best[PRODUCTS, "gradients"])}
        for side in (TORCH, CHUNKED):
            seconds = best.get((side, "gradients"))
            line |= {side: "", f"{side} ratio": ""}
            if seconds is not None:
                line |= {side: contest.milliseconds(seconds), f"{side} ratio": contest.times(seconds / own)}
        lines.append(line)
    print(f"\n### Linear losses, float32, {threads} thread{'s' if threads > 1 else ''}, {contest.unit(options)}\n")
    contest.print_table(lines)


def _memory_table(chosen: dict[str, tuple], memory: Callable[[str, str], str]) -> None:
    lines = []
    for name, shape in chosen.items():
        *steps, features, classes = shape[:-1] if len(shape) == 5 else shape
        rows = int(np.prod(steps))
        line = {
            "workload": name,
            "logits": f"{rows * classes * 4 / 1e6:.0f}",
            "gradients": f"{(rows + classes) * features * 4 / 1e6:.0f}",
        }
        for side in (OURS, TORCH, CHUNKED):
            known = side != CHUNKED or len(shape) == 3
            line[side] = f"{int(memory(name, side)) / 1e6:.0f}" if known else ""
        lines.append(line)
    print("\n### Increase of the resident memory during a call, its gradients included, MB\n")
    contest.print_table(lines)


def growth(name: str, side: str) -> int:
    """Return the increase of the peak memory during one call with gradients, in bytes."""
    import torch

    torch.set_num_threads(1)
    shape = WORKLOADS[name]
    make = {
        OURS: lambda batch: partial(ours, batch, return_grad=True, num_threads=1),
        TORCH: torch_gradients,
        CHUNKED: partial(torch_gradients, chunked=True),
    }[side]
    make(batch_of(_SMALL[len(shape)]))()
    return resident.growth(make(batch_of(shape)))


def _half_table(options: argparse.Namespace) -> None:
    import ml_dtypes

    batch = batch_of(BFLOAT16, ml_dtypes.bfloat16)
    made = {
        (OURS, "gradients"): partial(ours, batch, return_grad=True, num_threads=1),
        (CHUNKED, "gradients"): torch_gradients(batch, chunked=True),
        (TORCH, "gradients"): torch_gradients(batch),
    }
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        rounds = argparse.Namespace(cpu_time=options.cpu_time, seconds=0.0, least=1)
        best = {side: timing.best for (side, _), timing in contest.alternate(made, rounds, 1).items()}
    lines = [{"": side, "milliseconds": contest.milliseconds(seconds),
              "ratio": contest.times(seconds / best[OURS])} for side, seconds in best.items()]  # fmt: skip
    print(f"\n### linear cross-entropy of bfloat16, {','.join(map(str, BFLOAT16))}, loss and gradients, 1 thread\n")
    contest.print_table(lines)


def _error_table() -> int:
    """Compare gradients of small batches with those of the logits in memory, in float64."""
    lines, passed = [], 0
    for name, shape in WORKLOADS.items():
        batch = batch_of(_SMALL[len(shape)])
        exact = torch_gradients(batch.astype(np.float64))()
        sides = {OURS: ours(batch, return_grad=True)[1][:2], TORCH: torch_gradients(batch)()}
        errors = {side: max(map(_error, found, exact)) for side, found in sides.items()}
        passed += errors[OURS] <= LIMIT  # false for NaN
        lines.append({"workload": name} | {side: f"{error:.0e}" for side, error in errors.items()})
    print("\n### Linear losses: largest errors of float32 gradients of small batches against PyTorch in float64\n")
    contest.print_table(lines)
    print(f"accuracy: {passed} passed, {len(lines) - passed} failed; relative to the largest element; limit {LIMIT:g}")
    return int(passed < len(lines))


def _error(found, exact) -> float:
    exact = exact.numpy()
    return float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())
