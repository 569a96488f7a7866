"""Rows, timings in random order, errors and markdown tables of all comparisons."""

import argparse
import contextlib
import gc
import math
import os
import random
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

OURS, TORCH, OPTAX, NUMPY = "fastseqloss", "PyTorch", "optax", "NumPy"
RATIO = "ratio: the other library's time divided by that of fastseqloss"
TRAFFIC = "memory traffic"  # a lower bound, not a peer
SIDES = (TORCH, OPTAX, NUMPY, TRAFFIC)
MODES = {
    "grad_out": "loss and gradient, the gradient written to a preallocated array",
    "fresh": "loss and gradient, the gradient in a newly allocated array",
    "loss": "the loss alone",
}
Call = Callable[[], object]
Calls = dict[tuple[str, str], Call]
Result = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Limits:
    """Limits of our errors, relative to the true value if that exceeds 1."""

    gradient: dict[int, float]  # by scale of the scores
    loss: float = 1e-6


@dataclass(frozen=True)
class Row:
    """One line of the tables: a workload, and how each side computes it."""

    name: str
    shape: tuple[int, ...]
    real: bool
    calls: Callable[[int], Calls] | None  # threads -> {(side, mode): call}; None: errors only
    results: Callable[[int], dict[str, Callable[[], Result]]]  # scale -> {side: () -> (losses, gradient)}
    reference: Callable[[int], Result] | None  # scale -> (losses, gradient), by a peer in float64; None: times only
    work: dict[str, int] | None = None  # number of frames, logits and so on, by the name of one


@dataclass(frozen=True)
class Timing:
    """Seconds per call over a number of rounds."""

    best: float
    median: float
    rounds: int


def compare(rows: list[Row], limits: Limits, options: argparse.Namespace, reference: str = TORCH) -> int:
    """Print the tables that the options select; return 1 if our errors exceed the limits."""
    if options.only:
        rows = [row for row in rows if row.name in options.only]
    if not rows:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    timed = [row for row in rows if row.calls]
    if timed and not options.accuracy_only:
        for threads in options.threads:
            columns = timing_table(timed, threads, options)
        print_legend(columns)
    return error_table(rows, limits, options, reference)


def alternate(
    calls: Calls, options: argparse.Namespace, threads: int, before: Calls | None = None
) -> dict[tuple[str, str], Timing]:
    """Time the calls in random order, for about a second per kind of call and a minimum number of rounds.

    The function in ``before`` for a call runs before it, untimed, because a call may overwrite its input.

    All sides share ``threads`` CPUs, because JAX's pool has a thread for each CPU.

    The threads of an OpenMP runtime may spin for some milliseconds after a region, and a thread of JAX's pool may free
    the memory of a call after its return. Each call waits until the threads of the others are idle.
    """
    clock = time.process_time if options.cpu_time else time.perf_counter
    before = before or {}
    for call in (*before.values(), *calls.values()):
        call()
    seconds: dict = {name: [] for name in calls}
    order = random.Random(0)
    end = time.perf_counter() + options.seconds * len({mode for _, mode in calls})
    rounds = 0
    gc.disable()
    with confine(threads):
        while rounds < options.least or time.perf_counter() < end:
            for name in order.sample(list(calls), len(calls)):
                if name in before:
                    before[name]()
                settle()
                start = clock()
                calls[name]()
                seconds[name].append(clock() - start)
            rounds += 1
    gc.enable()
    return {k: Timing(min(v), statistics.median(v), rounds) for k, v in seconds.items()}


def settle() -> None:
    """Sleep for a moment, and again while other threads of this process work for a tenth of the time.

    A long pause would cool the caches and the clock of the processor, and double the time of a short call.
    """
    pause = 2e-4  # seconds
    for _ in range(1000):
        before = time.process_time() - time.thread_time()
        time.sleep(pause)
        if time.process_time() - time.thread_time() - before < 0.1 * pause:
            return


@contextlib.contextmanager
def confine(threads: int) -> Iterator[None]:
    """Keep this process on ``threads`` CPUs, on Linux."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    _pin(set(sorted(cpus)[:threads]))
    try:
        yield
    finally:
        _pin(cpus)


def _pin(cpus: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)


def timing_table(rows: list[Row], threads: int, options: argparse.Namespace) -> list[str]:
    """Print milliseconds and ratios of every row at one thread count, and the mean ratios; return the columns."""
    lines: list[dict[str, str]] = []
    ratios: dict[str, dict[str, float]] = {}
    found: dict[str, dict[tuple[str, str], Timing]] = {row.name: {} for row in rows}
    for _ in range(options.passes):
        for row in rows:
            timings = found[row.name]
            for key, timing in alternate(row.calls(threads), options, threads).items():
                timings[key] = min(timings.get(key, timing), timing, key=lambda timing: timing.best)
                if options.verbose:
                    print(f"{row.name}, {threads} threads, {' '.join(key)}: {timing}", file=sys.stderr)
    for row in rows:
        cells, ratios[row.name] = _timing_cells(found[row.name], row.work or {})
        lines.append({"workload": row.name, "shape": ",".join(map(str, row.shape))} | cells)
    for title, real in (("synthetic", False), ("real", True)):
        group = [ratios[row.name] for row in rows if row.real == real]
        if group:
            keys = dict.fromkeys(key for r in group for key in r)
            means = {key: geometric_mean(r[key] for r in group if key in r) for key in keys}
            cells = {key: f"**{times(mean)}**" for key, mean in means.items()}
            lines.append({"workload": f"**geometric mean, {title}**"} | cells)
    print(f"\n### float32, {threads} thread{'s' if threads > 1 else ''}, {unit(options)}\n")
    print_modes(lines, MODES)
    return list(lines[0])


def _timing_cells(timings: dict, work: dict[str, int]) -> tuple[dict[str, str], dict[str, float]]:
    """Lay out the timings of one row: for each mode ours, in all and for each unit of work; each peer and its ratio."""
    cells, ratios = {}, {}
    for mode in (mode for mode in MODES if (OURS, mode) in timings):
        ours = timings[OURS, mode].best
        cells[f"{mode}: {OURS}"] = milliseconds(ours)
        cells |= nanoseconds(mode, ours, work)
        for side in (side for side in SIDES if (side, mode) in timings):
            peer = timings[side, mode].best
            # PyTorch adds to an existing gradient, which must be zeroed first; if a fresh one is faster,
            # its time counts in both columns.
            if mode == "grad_out" and (side, "fresh") in timings:
                peer = min(peer, timings[side, "fresh"].best)
            key = f"{mode}: {side} ratio"
            ratios[key] = ours / peer if side == TRAFFIC else peer / ours
            cells |= {f"{mode}: {side}": milliseconds(peer), key: times(ratios[key])}
    return cells, ratios


def print_legend(columns: list[str]) -> None:
    """Explain the columns of a timing table."""
    print(f"- {RATIO}; each time is the minimum over the rounds")
    if f"grad_out: {TRAFFIC}" in columns:
        print(f"- {TRAFFIC}: one NumPy call that reads and writes the same number of arrays")
        print(f"- {TRAFFIC} ratio: the time of fastseqloss divided by that of this call")


def error_table(rows: list[Row], limits: Limits, options: argparse.Namespace, reference: str = TORCH) -> int:
    """Print the errors of every side, or of ours alone, by scale of the scores; return 1 if ours exceed the limits."""
    lines = []
    passed = failed = 0
    for row in (row for row in rows if row.reference):
        for scale, limit in limits.gradient.items():
            exact = row.reference(scale)
            sides = row.results(scale)
            errors = {k: _errors(sides[k](), *exact) for k in ([OURS] if options.quick else sides)}
            of_gradient, of_loss = errors[OURS]
            good = of_gradient <= limit and of_loss <= limits.loss  # false for NaN
            passed, failed = passed + good, failed + (not good)
            lines.append(
                {"workload": row.name, "scale": str(scale)}
                | {f"gradient: {side}": f"{e[0]:.1e}" for side, e in errors.items()}
                | {f"loss: {side}": f"{e[1]:.1e}" for side, e in errors.items()}
                | ({} if good else {"": "over"})
            )
    if not lines:
        return 0
    print(f"\n### Largest errors of the float32 results, relative to {reference} in float64\n")
    print_table(lines)
    allowed = ", ".join(f"{limit:g} at scale {scale}" for scale, limit in limits.gradient.items())
    print(f"- gradient: of the summed loss, divided by max(1, |gradient|); limit {allowed}")
    print(f"- loss: divided by max(1, loss); limit {limits.loss:g}\n")
    print(f"accuracy: {passed} passed, {failed} failed")
    return int(failed > 0)


def _errors(result: Result, losses: np.ndarray, gradient: np.ndarray) -> tuple[float, float]:
    of_gradient = np.abs(result[1] - gradient) / np.maximum(1.0, np.abs(gradient))
    of_loss = np.abs(result[0] - losses) / np.maximum(1.0, np.abs(losses))
    return float(np.max(of_gradient)), float(np.max(of_loss))


def microseconds(call: Call, seconds: float) -> float:
    """Return the minimum CPU time of a call over repeated calls, on one CPU."""
    timer = timeit.Timer(call, timer=time.process_time)
    with confine(1):
        number = max(1, timer.autorange()[0] // 20)
        repeats = max(5, int(seconds * 20))
        return min(timer.repeat(repeats, number)) / number * 1e6


def print_modes(lines: list[dict[str, str]], modes: dict[str, str]) -> None:
    """Print a table for each mode, with the columns whose names begin with that of the mode, and its meaning."""
    head = dict.fromkeys(key for line in lines for key in line)
    for mode, meaning in modes.items():
        kept = {key: key.removeprefix(f"{mode}: ") for key in head if ": " not in key or key.startswith(f"{mode}: ")}
        if any(key.startswith(f"{mode}: ") for key in kept):
            print(f"{meaning[0].upper()}{meaning[1:]}:\n")
            print_table([{name: line.get(key, "") for key, name in kept.items()} for line in lines])


def print_table(lines: list[dict[str, str]]) -> None:
    """Print a markdown table whose header is the keys of all lines; numbers are aligned right."""
    head = list(dict.fromkeys(key for line in lines for key in line))
    print("| " + " | ".join(head) + " |")
    print("| --- " + "| ---: " * (len(head) - 1) + "|")
    for line in lines:
        print("| " + " | ".join(line.get(key, "") for key in head) + " |")
    print(flush=True)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the exponential of the mean logarithm."""
    return math.exp(statistics.fmean(map(math.log, values)))


def milliseconds(seconds: float) -> str:
    """Format a time in milliseconds with three digits."""
    return f"{seconds * 1e3:.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.3g}"


def nanoseconds(mode: str, seconds: float, work: dict[str, int]) -> dict[str, str]:
    """Return the columns with the nanoseconds of each unit of work, with three digits."""
    each = {unit: seconds / number * 1e9 for unit, number in work.items()}
    return {f"{mode}: ns per {unit}": f"{ns:.0f}" if ns >= 100 else f"{ns:.3g}" for unit, ns in each.items()}


def times(ratio: float) -> str:
    """Format a ratio, small ones with one more digit."""
    return f"{ratio:.1f}x" if ratio >= 2 else f"{ratio:.2f}x"


def unit(options: argparse.Namespace) -> str:
    """Return the name of the unit of the tables of times."""
    return "milliseconds of CPU time" if options.cpu_time else "milliseconds"
