"""The core shared by all comparisons: rows, timings in turn, errors, markdown tables."""

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

OURS, TORCH, OPTAX = "fastseqloss", "PyTorch", "optax"
MODES = {
    "grad_out": "loss and gradient, the gradient written to a given array",
    "fresh": "loss and gradient, the gradient in a fresh array",
    "loss": "loss only",
}
GRADIENT_LIMIT = {1: 2e-6, 10: 1e-5}  # absolute, by scale of the scores
LOSS_LIMIT = 1e-6  # times max(1, |loss|)

Call = Callable[[], object]
Result = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One line of the tables: a workload, and how each side computes it."""

    name: str
    shape: tuple[int, ...]
    real: bool
    calls: Callable[[int], dict[tuple[str, str], Call]]  # threads -> {(side, mode): call}
    results: Callable[[int], dict[str, Result]]  # scale -> {side: (losses, gradient)}
    reference: Callable[[int], Result]  # scale -> (losses, gradient), by a peer in float64


@dataclass(frozen=True)
class Timing:
    """Seconds per call over a number of rounds."""

    best: float
    median: float
    rounds: int


def compare(rows: list[Row], options: argparse.Namespace) -> int:
    """Print the tables the options ask for; return 1 if our errors are over the limits."""
    if options.only:
        rows = [row for row in rows if row.name in options.only]
    if not rows:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    if not options.accuracy_only:
        for threads in options.threads:
            timing_table(rows, threads, options)
        for mode, meaning in MODES.items():
            print(f"- {mode}: {meaning}")
        print("- a peer's ratio is its time over ours; each time is the minimum over the rounds")
    return error_table(rows)


def alternate(calls: dict, options: argparse.Namespace, threads: int) -> dict:
    """Time the calls in turn, for about a second each way of calling, some rounds at least.

    An OpenMP team spins for some milliseconds after its work is done. With several threads a
    pause before each call keeps the spinning of one side out of the time of the next.
    """
    clock = time.process_time if options.cpu_time else time.perf_counter
    pause = 0.01 if threads > 1 else 0.0
    for call in calls.values():
        call()
    times: dict = {name: [] for name in calls}
    end = time.perf_counter() + options.seconds * len({mode for _, mode in calls})
    rounds = 0
    gc.disable()
    while rounds < options.least or time.perf_counter() < end:
        for name, call in calls.items():
            time.sleep(pause)
            start = clock()
            call()
            times[name].append(clock() - start)
        rounds += 1
    gc.enable()
    return {k: Timing(min(v), statistics.median(v), rounds) for k, v in times.items()}


def timing_table(rows: list[Row], threads: int, options: argparse.Namespace) -> None:
    """Print milliseconds and ratios of every row at one thread count, and the mean ratios."""
    lines: list[dict[str, str]] = []
    ratios: dict[str, dict[str, float]] = {}
    for row in rows:
        calls = row.calls(threads)
        timings = alternate(calls, options, threads)
        if options.verbose:
            for (side, mode), timing in timings.items():
                print(f"{row.name}, {threads} threads, {side} {mode}: {timing}", file=sys.stderr)
        cells, ratios[row.name] = _timing_cells(timings)
        lines.append({"workload": row.name, "shape": ",".join(map(str, row.shape))} | cells)
    for title, real in (("synthetic", False), ("real", True)):
        group = [ratios[row.name] for row in rows if row.real == real]
        if group:
            means = {key: geometric_mean(r[key] for r in group) for key in group[0]}
            lines.append(
                {"workload": f"**geometric mean, {title}**"} | {key: f"**{mean:.1f}x**" for key, mean in means.items()}
            )
    unit = "milliseconds of CPU time" if options.cpu_time else "milliseconds"
    print(f"\n### float32, {threads} thread{'s' if threads > 1 else ''}, {unit}\n")
    print_table(lines)


def _timing_cells(timings: dict) -> tuple[dict[str, str], dict[str, float]]:
    """Lay out the timings of one row: for each mode ours, then each peer and its ratio."""
    cells, ratios = {}, {}
    for mode in MODES:
        ours = timings[OURS, mode].best
        cells[f"{mode}: {OURS}"] = milliseconds(ours)
        for side in (TORCH, OPTAX):
            if (side, mode) in timings:
                peer = timings[side, mode].best
                # A kept PyTorch gradient is zeroed and added to; where a fresh one is quicker,
                # its time counts in both columns.
                if mode == "grad_out":
                    peer = min(peer, timings[side, "fresh"].best)
                key = f"{mode}: {side} ratio"
                cells |= {f"{mode}: {side}": milliseconds(peer), key: f"{peer / ours:.1f}x"}
                ratios[key] = peer / ours
    return cells, ratios


def error_table(rows: list[Row]) -> int:
    """Print the errors of every side at scales 1 and 10; return 1 if ours are over the limits."""
    lines = []
    passed = failed = 0
    for row in rows:
        for scale, limit in GRADIENT_LIMIT.items():
            reference = row.reference(scale)
            errors = {k: _errors(v, *reference) for k, v in row.results(scale).items()}
            of_gradient, of_loss = errors[OURS]
            good = of_gradient <= limit and of_loss <= LOSS_LIMIT  # false for NaN
            passed, failed = passed + good, failed + (not good)
            lines.append(
                {"workload": row.name, "scale": str(scale)}
                | {f"gradient: {side}": f"{e[0]:.1e}" for side, e in errors.items()}
                | {f"loss: {side}": f"{e[1]:.1e}" for side, e in errors.items()}
                | {"": "" if good else "over"}
            )
    print("\n### Largest errors of the float32 results against PyTorch in float64\n")
    print_table(lines)
    print(
        "- gradient: absolute, the loss summed over the batch;"
        f" limit {GRADIENT_LIMIT[1]:g} at scale 1, {GRADIENT_LIMIT[10]:g} at scale 10"
    )
    print(f"- loss: divided by max(1, loss); limit {LOSS_LIMIT:g}\n")
    print(f"accuracy: {passed} passed, {failed} failed")
    return int(failed > 0)


def _errors(result: Result, losses: np.ndarray, gradient: np.ndarray) -> tuple[float, float]:
    of_loss = np.abs(result[0] - losses) / np.maximum(1.0, np.abs(losses))
    return float(np.max(np.abs(result[1] - gradient))), float(np.max(of_loss))


def print_table(lines: list[dict[str, str]]) -> None:
    """Print a markdown table headed by the keys of the first line, numbers aligned right."""
    head = list(lines[0])
    print("| " + " | ".join(head) + " |")
    print("| --- " + "| ---: " * (len(head) - 1) + "|")
    for line in lines:
        print("| " + " | ".join(line.get(key, "") for key in head) + " |")
    print(flush=True)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the exponential of the mean logarithm."""
    return math.exp(statistics.fmean(map(math.log, values)))


def milliseconds(seconds: float) -> str:
    """Write a time in milliseconds with three figures."""
    return f"{seconds * 1e3:.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.3g}"
