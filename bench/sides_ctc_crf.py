"""The CTC-CRF by each side: fastseqloss, its dense form with transitions of every step, and a form in PyTorch."""

import argparse
from dataclasses import dataclass

import numpy as np

import fastseqloss as fsl
from bench import contest
from bench.contest import OURS, TORCH, Call

DENSE = "dense"
N_BASES = 4
WORKLOADS = {  # B, T, labels of a state, labels of a sequence
    "256 states": (4, 1000, 4, 400),
    "1024 states": (4, 1000, 5, 400),
}
DENSE_STATES = 256  # at most: transitions of every step and their gradient take 2 GB
MODES = {
    "gradient": "loss and gradient, preallocated in fastseqloss; dense: of tags, with the same number of states",
    "loss": "the loss alone",
    "decode": "best path",
}
GRADIENT_LIMIT = 2e-6
LOSS_LIMIT = 1e-6  # relative


@dataclass(frozen=True)
class Batch:
    """Scores [B, T, K, P] and labels [B, S]."""

    scores: np.ndarray
    labels: np.ndarray

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.scores.shape[2]

    @property
    def table(self) -> np.ndarray:
        """Predecessors [K, P]."""
        states = np.arange(self.n_states)[:, None]
        return np.concatenate((states, np.arange(N_BASES) * (self.n_states // N_BASES) + states // N_BASES), axis=1)


def random_batch(shape: tuple[int, int, int, int]) -> Batch:
    """Draw float32 scores from N(0, 4), as wide as those of a basecaller, and uniform labels."""
    batch, n_frames, word, n_labels = shape
    rng = np.random.default_rng(0)
    scores = 2 * rng.standard_normal((batch, n_frames, N_BASES**word, N_BASES + 1), dtype=np.float32)
    return Batch(scores, rng.integers(1, N_BASES + 1, (batch, n_labels)))


def our_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    grad = np.zeros_like(batch.scores)
    given, common = (batch.scores, batch.labels), {"num_threads": threads}
    return {
        "gradient": lambda: fsl.ctc_crf_loss(*given, grad_out=grad, **common),
        "loss": lambda: fsl.ctc_crf_loss(*given, **common),
        "decode": lambda: fsl.ctc_crf_decode(batch.scores, **common),
    }


def dense_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List calls of the CRF with transitions of every step between all states."""
    size, n_frames, n_states, _ = batch.scores.shape
    emissions = np.zeros((size, n_frames, n_states), np.float32)
    transitions = np.full((*emissions.shape, n_states), -np.inf, np.float32)
    for p in range(N_BASES + 1):
        transitions[:, :, batch.table[:, p], np.arange(n_states)] = batch.scores[..., p]
    tags = np.zeros(emissions.shape[:2], np.int64)
    out = fsl.CRFGradient(np.zeros_like(emissions), np.zeros_like(transitions), None, None)
    common = {"num_threads": threads}
    return {
        "gradient": lambda: fsl.crf_loss(emissions, tags, transitions, grad_out=out, **common),
        "loss": lambda: fsl.crf_loss(emissions, tags, transitions, **common),
        "decode": lambda: fsl.crf_decode(emissions, transitions, **common),
    }


def torch_losses(batch: Batch, scores):
    """Compute losses by sums over gathered predecessors, and over the stays and moves of the labels."""
    import torch

    size, n_frames, n_states, n_arcs = scores.shape
    table, labels = torch.from_numpy(batch.table), torch.from_numpy(batch.labels) - 1
    word = round(np.log(n_states) / np.log(N_BASES))
    n = labels.shape[1] - word + 1
    stays = sum(labels[:, i : n + i] * N_BASES ** (word - 1 - i) for i in range(word)) * n_arcs
    moves = stays[:, 1:] + 1 + labels[:, : n - 1]
    flat = scores.reshape(size, n_frames, -1)
    stay, move = (flat.gather(2, arcs[:, None].expand(-1, n_frames, -1)) for arcs in (stays, moves))
    alpha, spelled = scores.new_zeros(size, n_states), scores.new_full(stays.shape, -1e30)
    spelled[:, 0] = 0
    for t in range(n_frames):
        alpha = torch.logsumexp(scores[:, t] + alpha[:, table], 2)
        here = spelled + stay[:, t]
        spelled = torch.cat([here[:, :1], torch.logaddexp(here[:, 1:], spelled[:, :-1] + move[:, t])], 1)
    return torch.logsumexp(alpha, 1) - spelled[:, -1]


def torch_calls(batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of PyTorch."""
    import torch

    torch.set_num_threads(threads)
    scores = torch.from_numpy(batch.scores).clone().requires_grad_(True)

    def gradient() -> None:
        scores.grad = None
        torch_losses(batch, scores).mean().backward()

    def loss() -> None:
        with torch.no_grad():
            torch_losses(batch, scores)

    return {"gradient": gradient, "loss": loss}


def compare(options: argparse.Namespace) -> int:
    """Print the tables; return 1 if our errors exceed the limits."""
    chosen = {name: random_batch(shape) for name, shape in WORKLOADS.items()}
    if options.only:
        chosen = {name: batch for name, batch in chosen.items() if name in options.only}
    if not chosen:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    if not options.accuracy_only:
        for threads in options.threads:
            timing_table(chosen, threads, options)
        print(f"- {contest.RATIO}; each time is the minimum over the rounds")
    return error_table(chosen)


def timing_table(chosen: dict[str, Batch], threads: int, options: argparse.Namespace) -> None:
    """Print milliseconds and ratios of every workload at one thread count."""
    lines = []
    for name, batch in chosen.items():
        sides = {OURS: our_calls(batch, threads), TORCH: torch_calls(batch, threads)}
        if batch.n_states <= DENSE_STATES:
            sides[DENSE] = dense_calls(batch, threads)
        calls = {(side, mode): call for side, made in sides.items() for mode, call in made.items()}
        timings = contest.alternate(calls, options, threads)
        line = {"workload": name, "B, T, K, P": ", ".join(map(str, batch.scores.shape))}
        frames = batch.scores.shape[0] * batch.scores.shape[1]
        work = {"frame": frames, "arc": frames * batch.scores[0, 0].size}
        for mode in MODES:
            ours = timings[OURS, mode].best
            line |= {f"{mode}: {OURS}": contest.milliseconds(ours), **contest.nanoseconds(mode, ours, work)}
            for side in (DENSE, TORCH):
                if mode == "decode" and side == TORCH:
                    continue
                found = timings.get((side, mode))
                line[f"{mode}: {side}"] = contest.milliseconds(found.best) if found else ""
                line[f"{mode}: {side} ratio"] = f"{found.best / ours:.1f}x" if found else ""
        lines.append(line)
    unit = "milliseconds of CPU time" if options.cpu_time else "milliseconds"
    print(f"\n### CTC-CRF, float32, {threads} thread{'s' if threads > 1 else ''}, {unit}\n")
    contest.print_modes(lines, MODES)


def error_table(chosen: dict[str, Batch]) -> int:
    """Print the errors of both sides in float32; return 1 if ours exceed the limits."""
    import torch

    lines, passed = [], 0
    for name, batch in chosen.items():
        found = {OURS: fsl.ctc_crf_loss(batch.scores, batch.labels, reduction="none", return_grad=True)}
        for side, dtype in ((TORCH, torch.float32), ("exact", torch.float64)):
            scores = torch.from_numpy(batch.scores).to(dtype).requires_grad_(True)
            losses = torch_losses(batch, scores)
            losses.sum().backward()
            found[side] = losses.detach().numpy(), scores.grad.numpy()
        exact, slopes = found.pop("exact")
        line = {"workload": name}
        for side, (losses, gradient) in found.items():
            errors = np.max(np.abs(losses - exact) / exact), np.max(np.abs(gradient - slopes))
            line |= {f"loss: {side}": f"{errors[0]:.1e}", f"gradient: {side}": f"{errors[1]:.1e}"}
            if side == OURS:
                passed += errors[0] <= LOSS_LIMIT and errors[1] <= GRADIENT_LIMIT  # false for NaN
        lines.append(line)
    print("\n### CTC-CRF: largest errors of the float32 results against PyTorch in float64\n")
    contest.print_table(lines)
    print(f"- losses relative, limit {LOSS_LIMIT:g}; gradients absolute, limit {GRADIENT_LIMIT:g}\n")
    print(f"accuracy: {passed} passed, {len(chosen) - passed} failed")
    return int(passed < len(chosen))
