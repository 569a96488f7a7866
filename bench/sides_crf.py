"""The linear-chain CRF by each side: fastseqloss, and pytorch-crf on PyTorch."""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastseqloss as fsl
from bench import contest
from bench.contest import OURS, Call

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import real_data

TORCHCRF = "pytorch-crf"
WORKLOADS = {  # B, T, K
    "entities": (32, 50, 10),
    "speech45": (64, 100, 45),
    "states128": (16, 400, 128),
}
LONG = {"long": (2, 10_000, 10)}  # for the errors only
MODES = {
    "gradient": "loss and all gradients, that of the emissions in a preallocated array (pytorch-crf: kept)",
    "loss": "the loss alone",
    "decode": "best path",
}
N_BEST = 10
GRADIENT_LIMIT = 2e-6  # of the emissions' gradient; of the parameters' relative to its size, if above 1
LOSS_LIMIT = 1e-6  # times max(1, |loss|)


@dataclass(frozen=True)
class Batch:
    """Emissions [B, T, K] and tags [B, T] with their lengths; transitions, starts, ends."""

    emissions: np.ndarray
    tags: np.ndarray
    lengths: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        """Arguments of `crf_loss`."""
        return self.emissions, self.tags, self.transitions, self.lengths

    @property
    def ends(self) -> dict[str, np.ndarray]:
        """Starts and ends, by their names."""
        return {"start": self.start, "end": self.end}


class Result(NamedTuple):
    """Losses, gradient of the emissions, and those of the parameters in one row."""

    losses: np.ndarray
    emissions: np.ndarray
    parameters: np.ndarray


def random_batch(shape: tuple[int, int, int]) -> Batch:
    """Draw float32 scores from N(0, 1) and uniform tags, full lengths."""
    b, t, k = shape
    rng = np.random.default_rng(0)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    tags = rng.integers(0, k, (b, t))
    return Batch(normal(b, t, k), tags, np.full(b, t), normal(k, k), normal(k), normal(k))


def real_batch(repeats: int = 8) -> Batch:
    """Load the scores of a trained tagger, several times over."""
    real = real_data.crf()
    none = np.zeros(len(real.transitions), np.float32)
    emissions, tags, lengths = (np.concatenate([x] * repeats) for x in real[:3])
    return Batch(emissions, tags, lengths, real.transitions, none, none)


def batches() -> dict[str, Batch]:
    """Make the three synthetic workloads and the real one."""
    return {name: random_batch(shape) for name, shape in WORKLOADS.items()} | {"tagger, real": real_batch()}


def our_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    grad = np.zeros_like(batch.emissions)
    common = {"reduction": "sum", "num_threads": threads} | batch.ends
    potentials = batch.emissions, batch.transitions, batch.lengths
    return {
        "gradient": lambda: fsl.crf_loss(*batch.arguments, grad_out=grad, **common),
        "loss": lambda: fsl.crf_loss(*batch.arguments, **common),
        "decode": lambda: fsl.crf_decode(*potentials, num_threads=threads, **batch.ends),
        "n best": lambda: fsl.crf_decode(*potentials, n_best=N_BEST, num_threads=threads, **batch.ends),
    }


def our_result(batch: Batch) -> Result:
    """Compute losses and gradients in fastseqloss."""
    loss, grad = fsl.crf_loss(*batch.arguments, **batch.ends, reduction="none", return_grad=True)
    return Result(loss, grad.emissions, np.concatenate([g.ravel() for g in grad[1:]]))


def torchcrf_module(batch: Batch, dtype: str):
    """Return pytorch-crf's module, with leaf, tags and mask in its time-major layout."""
    import torch
    import torchcrf

    warnings.filterwarnings("ignore", "where received a uint8 condition tensor", UserWarning)
    kind = getattr(torch, dtype)
    module = torchcrf.CRF(batch.emissions.shape[2]).to(kind)
    with torch.no_grad():
        module.transitions.copy_(torch.from_numpy(batch.transitions))
        module.start_transitions.copy_(torch.from_numpy(batch.start))
        module.end_transitions.copy_(torch.from_numpy(batch.end))
    emissions = torch.from_numpy(batch.emissions).to(kind).swapaxes(0, 1)
    emissions = emissions.clone(memory_format=torch.contiguous_format).requires_grad_(True)
    tags = torch.from_numpy(np.ascontiguousarray(batch.tags.T))
    mask = torch.arange(emissions.shape[0])[:, None] < torch.from_numpy(np.asarray(batch.lengths))
    return module, emissions, tags, mask


def torchcrf_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of pytorch-crf."""
    import torch

    torch.set_num_threads(threads)
    module, emissions, tags, mask = torchcrf_module(batch, "float32")
    emissions.grad = torch.zeros_like(emissions)

    def gradient() -> None:
        emissions.grad.zero_()
        module.zero_grad()
        (-module(emissions, tags, mask=mask)).backward()

    def loss() -> None:
        with torch.no_grad():
            module(emissions, tags, mask=mask)

    def decode() -> None:
        with torch.no_grad():
            module.decode(emissions, mask=mask)

    return {"gradient": gradient, "loss": loss, "decode": decode}


def torchcrf_result(batch: Batch, dtype: str) -> Result:
    """Compute losses and gradients in pytorch-crf."""
    module, emissions, tags, mask = torchcrf_module(batch, dtype)
    losses = -module(emissions, tags, mask=mask, reduction="none")
    losses.sum().backward()
    parameters = (module.transitions, module.start_transitions, module.end_transitions)
    gradients = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    return Result(losses.detach().numpy(), emissions.grad.swapaxes(0, 1).numpy(), gradients)


def compare(options: argparse.Namespace) -> int:
    """Print the tables; return 1 if our errors exceed the limits."""
    chosen = batches()
    long = {name: random_batch(shape) for name, shape in LONG.items()}
    if options.only:
        chosen, long = ({k: v for k, v in group.items() if k in options.only} for group in (chosen, long))
    if not chosen and not long:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    if not options.accuracy_only and chosen:
        for threads in options.threads:
            timing_table(chosen, threads, options)
        print(f"- {contest.RATIO}; each time is the minimum over the rounds")
    return error_table(chosen | long, [OURS] if options.quick else [OURS, TORCHCRF])


def timing_table(chosen: dict[str, Batch], threads: int, options: argparse.Namespace) -> None:
    """Print milliseconds and ratios of every workload at one thread count."""
    lines = []
    for name, batch in chosen.items():
        sides = {OURS: our_calls(batch, threads), TORCHCRF: torchcrf_calls(batch, threads)}
        calls = {(side, mode): made[mode] for mode in MODES for side, made in sides.items()}
        calls[OURS, "n best"] = sides[OURS]["n best"]
        timings = contest.alternate(calls, options, threads)
        line = {"workload": name, "B, T, K": ", ".join(map(str, batch.emissions.shape))}
        frames = int(np.sum(batch.lengths))
        work = {"frame": frames, "logit": frames * batch.emissions.shape[2]}
        for mode in MODES:
            ours, peer = timings[OURS, mode].best, timings[TORCHCRF, mode].best
            line |= {
                f"{mode}: {OURS}": contest.milliseconds(ours),
                **contest.nanoseconds(mode, ours, work),
                f"{mode}: {TORCHCRF}": contest.milliseconds(peer),
                f"{mode}: ratio": f"{peer / ours:.1f}x",
            }
        ranked = timings[OURS, "n best"].best
        line[f"decode: {N_BEST} best paths"] = (
            f"{contest.milliseconds(ranked)}, {ranked / timings[OURS, 'decode'].best:.1f}x one"
        )
        lines.append(line)
    unit = "milliseconds of CPU time" if options.cpu_time else "milliseconds"
    print(f"\n### CRF, float32, {threads} thread{'s' if threads > 1 else ''}, {unit}\n")
    contest.print_modes(lines, MODES)


def error_table(chosen: dict[str, Batch], sides: list[str]) -> int:
    """Print the errors of the sides; return 1 if ours exceed the limits."""
    lines, passed = [], 0
    for name, batch in chosen.items():
        exact = torchcrf_result(batch, "float64")
        line = {"workload": name}
        for side in sides:
            result = our_result(batch) if side == OURS else torchcrf_result(batch, "float32")
            found = [relative_error(a, b, part) for part, a, b in zip(Result._fields, result, exact, strict=True)]
            line |= {f"{part}: {side}": f"{e:.1e}" for part, e in zip(Result._fields, found, strict=True)}
            if side == OURS:
                passed += found[0] <= LOSS_LIMIT and max(found[1:]) <= GRADIENT_LIMIT  # false for NaN
        lines.append(line)
    print("\n### CRF: largest errors of the float32 results, relative to pytorch-crf in float64\n")
    contest.print_table(lines)
    print(f"- losses, and gradients of parameters: divided by max(1, size); limits {LOSS_LIMIT:g}, {GRADIENT_LIMIT:g}")
    print(f"- gradients of emissions: absolute, the loss summed over the batch; limit {GRADIENT_LIMIT:g}\n")
    print(f"accuracy: {passed} passed, {len(chosen) - passed} failed")
    return int(passed < len(chosen))


def relative_error(actual: np.ndarray, exact: np.ndarray, part: str) -> float:
    """Return the largest error; for sums over steps, relative to their size if above 1."""
    size = 1.0 if part == "emissions" else np.maximum(1.0, np.abs(exact))
    return float(np.max(np.abs(actual - exact) / size))
