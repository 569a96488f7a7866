"""Compare fastseqloss with its peers and print markdown tables.

    python bench/compare.py ctc [--data DIR] [--threads 1 2] [--only NAME ...] [--quick]
    python bench/compare.py ctc --accuracy-only
    python bench/compare.py cross_entropy ...    the same options
    python bench/compare.py log_prob ...         the same options
    python bench/compare.py elementwise ...      regression, likelihoods, hinge, binary: with NumPy and memory traffic
    python bench/compare.py vectors ...          divergences, sparsemax, cosine distance, labels
    python bench/compare.py crf ...              the same options
    python bench/compare.py ctc_crf ...          the same options; with the dense form, and 3 GB of memory
    python bench/compare.py policy ...           the same options
    python bench/compare.py risk ...             the same options; and a call of ctc_loss for each candidate, as NumPy
    python bench/compare.py ranking ...          the same options; with rax if it is installed, and memory
    python bench/compare.py transducer ...       the same options
    python bench/compare.py linear ...           the same options; memory, and bfloat16
    python bench/compare.py soft_dtw ...         the same options; with the peers that are installed
    python bench/compare.py adapters ...         PyTorch tensors and JAX arrays: [--threads] [--only] [--quick]
    python bench/compare.py overhead [--only NAME ...] [--quick]
    python bench/compare.py memory [--data DIR]
    python bench/compare.py align [--data DIR] [--only NAME ...] [--quick]
    python bench/compare.py decode ...           the same options; with the peers that are installed

All sides run in random order in this process, on the same values, each in its preferred memory
layout: batch first for fastseqloss and optax, time first for PyTorch.

To add a loss, write one function that passes a list of rows to `contest.compare`.
"""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import (
    contest,
    peers,
    resident,
    sides_adapters,
    sides_align,
    sides_crf,
    sides_ctc,
    sides_ctc_crf,
    sides_decode,
    sides_linear,
    sides_log_prob,
    sides_policy,
    sides_ranking,
    sides_risk,
    sides_short,
    sides_soft_dtw,
    sides_steps,
    sides_transducer,
    sides_vectors,
)
from bench.contest import OURS, TORCH, print_table
from fastseqloss._core import levels

SHORT = sides_short.CTC
RECORDING = (1, 33270, 5, 1264)  # the nanopore read of --data, or random logits of its shape


def ctc(options: argparse.Namespace) -> int:
    """Time and check the CTC loss on six workloads and on real emissions."""
    return contest.compare(sides_ctc.rows(options.data), sides_ctc.LIMITS, options)


def cross_entropy(options: argparse.Namespace) -> int:
    """Time and check the softmax cross-entropy on long, short and real rows; time its other forms on one."""
    status = contest.compare(sides_steps.cross_entropy_rows(options.data), sides_steps.LIMITS, options)
    name = next(iter(sides_steps.CROSS_ENTROPY))
    if not options.accuracy_only and name in (options.only or [name]):
        _print_forms(sides_steps.CROSS_ENTROPY[name], options)
    return status


def _print_forms(shape: tuple[int, ...], options: argparse.Namespace) -> None:
    """Print the times of a copy and of several calls of the cross-entropy, on one thread."""
    calls, before = sides_steps.forms(shape)
    timings = contest.alternate(calls, options, 1, before)
    copy, plain = (timings[key].best for key in (("np.copyto", "float32"), ("grad_out", "float32")))
    lines = [
        {
            "": form,
            "dtype": dtype,
            contest.unit(options): contest.milliseconds(timing.best),
            "relative to the copy": contest.times(timing.best / copy),
            "relative to float32": contest.times(timing.best / plain),
        }
        for (form, dtype), timing in timings.items()
    ]
    print(f"\n### softmax_cross_entropy on {','.join(map(str, shape))}, loss and gradient, 1 thread\n")
    print_table(lines)


def log_prob(options: argparse.Namespace) -> int:
    """Time and check the log-probabilities of sequences, with slopes for their gradients."""
    return contest.compare(sides_log_prob.rows(), sides_log_prob.LIMITS, options)


def elementwise(options: argparse.Namespace) -> int:
    """Time and check regression, hinge and binary cross-entropy losses; compare them with memory traffic."""
    return contest.compare(sides_steps.elementwise_rows(), sides_steps.LIMITS, options) | contest.compare(
        sides_steps.power_rows(), sides_steps.POWER_LIMITS, options
    )


def vectors(options: argparse.Namespace) -> int:
    """Time and check losses of a vector of scores and a vector of targets at each step."""
    return contest.compare(sides_vectors.rows(), sides_vectors.LIMITS, options)


def crf(options: argparse.Namespace) -> int:
    """Time and check the CRF: loss and gradient, loss alone, decoding."""
    return sides_crf.compare(options)


def ctc_crf(options: argparse.Namespace) -> int:
    """Time and check the CTC-CRF: loss and gradient, loss alone, decoding."""
    return sides_ctc_crf.compare(options)


def policy(options: argparse.Namespace) -> int:
    """Time and check the clipped policy loss with entropy and divergence."""
    return contest.compare(sides_policy.rows(), sides_policy.LIMITS, options)


def risk(options: argparse.Namespace) -> int:
    """Time and check the expected risk of label sequences by CTC."""
    return contest.compare(sides_risk.rows(options.data), sides_risk.LIMITS, options)


def ranking(options: argparse.Namespace) -> int:
    """Time and check losses over lists; measure the memory of a call."""
    return sides_ranking.compare(options)


def transducer(options: argparse.Namespace) -> int:
    """Time and check the transducer losses; measure the working memory and the gain of a second thread."""
    if options.side:
        print(sides_transducer.growth_in_place(options.side))
        return 0
    status = sides_transducer.compare(options)
    if not options.accuracy_only:
        names = [name for name in sides_transducer.WORKLOADS if name in (options.only or sides_transducer.WORKLOADS)]
        lines = []
        for name in names:
            command = [sys.executable, __file__, "transducer", "--side", name]
            lines.append(sides_transducer.memory_line(name, resident.printed_by(command)))
        print("\n### Working memory of rnnt_loss, gradient written over the logits, 1 thread\n")
        print_table(lines)
    return status


def soft_dtw(options: argparse.Namespace) -> int:
    """Time and check soft-DTW: costs with posteriors, costs alone, a band, series, divergences."""
    return sides_soft_dtw.compare(options)


def linear(options: argparse.Namespace) -> int:
    """Time and check losses of a linear layer; measure the memory of a call, and bfloat16."""
    if options.side:
        name, side = options.side.split("=")
        print(sides_linear.growth(name, side))
        return 0

    def memory(name: str, side: str) -> str:
        return resident.printed_by([sys.executable, __file__, "linear", "--side", f"{name}={side}"])

    return sides_linear.compare(options, memory)


def adapters(options: argparse.Namespace) -> int:
    """Time the overhead of the adapters for PyTorch and JAX in a short call, and whole training steps."""
    return sides_adapters.compare(options)


def overhead(options: argparse.Namespace) -> int:
    """Measure short calls of every family on one thread; and of CTC, the cost beyond the arithmetic.

    The arithmetic is the time that each of 100 further sequences of the same shape adds.
    """
    chosen = sides_short.calls()
    if options.only:
        chosen = {key: sides for key, sides in chosen.items() if key[0] in options.only}
    lines = []
    for (name, shape), sides in chosen.items():
        best = {side: min(contest.microseconds(call, options.seconds) for call in made) for side, made in sides.items()}
        cells = {side: f"{best[side]:.1f}" if side in best else "" for side in (OURS, TORCH, sides_crf.TORCHCRF)}
        lines.append({"": name, "shape": shape} | cells)
    print("\n### Short calls, float32, 1 thread, microseconds of CPU time\n")
    print_table(lines)
    if not options.only or "ctc_loss" in options.only:
        _print_fixed_cost(options)
    return 0


def _print_fixed_cost(options: argparse.Namespace) -> None:
    """Print the time of a short CTC call without its arithmetic."""
    _, t, v, s = SHORT
    one, many = (sides_ctc.random_batch((b, t, v, s)) for b in (1, 101))
    lines = []
    for side, calls in ((OURS, sides_ctc.our_calls), (TORCH, sides_ctc.torch_calls)):
        for mode, call in calls(one, 1).items():
            total = contest.microseconds(call, options.seconds)
            further = (contest.microseconds(calls(many, 1)[mode], options.seconds) - total) / 100
            lines.append(
                {
                    "": f"{side}, {mode}",
                    "call": f"{total:.1f}",
                    "arithmetic": f"{further:.1f}",
                    "overhead": f"{total - further:.1f}",
                }
            )
    print(f"\n### ctc_loss, B,T,V,S = {','.join(map(str, SHORT))}, float32, 1 thread, microseconds of CPU time\n")
    print_table(lines)


def memory(options: argparse.Namespace) -> int:
    """Measure the increase of the resident memory during one CTC call on a long recording, and on an hour of speech.

    Each side runs in a separate process; its input, and the gradient of fastseqloss, are resident before the call.
    """
    if options.side in sides_align.HOUR_CALLS:
        print(_hour_growth(options.side))
        return 0
    if options.side:
        print(_growth(options.side, _recording(options.data)))
        return 0
    lines = []
    for side in (OURS, TORCH):
        arguments = ["memory", "--side", side]
        arguments += ["--data", str(options.data)] if options.data else []
        grown = int(resident.printed_by([sys.executable, __file__, *arguments]))
        lines.append({"": side, "working memory, MB": f"{grown / 1e6:.1f}"})
    print(f"\n### B,T,V,S = {','.join(map(str, RECORDING))}, float32, loss and gradient\n")
    print_table(lines)
    lines = []
    for name in sides_align.HOUR_CALLS:
        found = resident.printed_by([sys.executable, __file__, "memory", "--side", name]).split()
        seconds, grown = map(float, found)
        lines.append({"": name, "working memory, MB": f"{grown / 1e6:.0f}", "CPU time, s": f"{seconds:.1f}"})
    print(f"\n### An hour of speech, B,T,V,S = {','.join(map(str, sides_align.HOUR))}, float32, 1 thread\n")
    print_table(lines)
    return 0


def align(options: argparse.Namespace) -> int:
    """Compare times and scores of forced alignment with the usual NumPy loop, and align an hour of speech."""
    if options.side:
        print(_align_hour(options.side))
        return 0
    lines, ratios, worst = [], [], 0.0
    names = [name for name in sides_align.NAMES if name in (options.only or sides_align.NAMES)]
    if not names:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    for kind in sides_align.MODES:
        for name in names:
            batch = sides_align.emissions(name, options.data, kind)
            line, ratio = _align_row(batch, kind, options)
            ratios.append(ratio)
            worst = max(worst, difference := sides_align.score_difference(batch, kind))
            lines.append({"emissions": name, "from": kind} | line | {"difference in float64": f"{difference:.0e}"})
    print("\n### Forced alignment of real emissions, float32, 1 thread, milliseconds\n")
    print_table(lines)
    print(f"ratio: {contest.geometric_mean(ratios):.0f}x in the geometric mean, {min(ratios):.0f}x at least\n")
    print(f"An hour of speech, B,T,V,S = {','.join(map(str, sides_align.HOUR))}, on 1 thread, CPU time:\n")
    for side in ("ctc_align", "ctc_align_windows"):
        hour = resident.printed_by([sys.executable, __file__, "align", "--side", side])
        seconds, grown, peak = map(float, hour.split())
        print(f"- {side}: {seconds:.1f} s, {grown / 1e6:.0f} MB more than before the call, {peak / 1e6:.0f} MB in all")
        worst = max(worst, peak - 2e9)
    return int(worst > 1e-9)


def decode(options: argparse.Namespace) -> int:
    """Time beam searches of real emissions, and add up the log-probabilities of what they find."""
    return sides_decode.compare(options)


def _align_row(batch: sides_ctc.Batch, kind: str, options: argparse.Namespace) -> tuple[dict[str, str], float]:
    timings = contest.alternate(sides_align.calls(batch, kind, 1), options, 1)
    ours, peer = timings[OURS, kind].best, timings[sides_align.NUMPY, kind].best
    cells = {OURS: contest.milliseconds(ours), sides_align.NUMPY: contest.milliseconds(peer)}
    return {"B,T,V,S": ",".join(map(str, batch.shape))} | cells | {"ratio": f"{peer / ours:.0f}x"}, peer / ours


def _align_hour(name: str) -> str:
    """Return the seconds of the call, the increase of the peak memory in bytes, and the peak."""
    return f"{_hour_growth(name)} {resident.status('VmHWM')}"


def _hour_growth(name: str) -> str:
    """Return the seconds of CPU time of a call on the hour of speech, and the increase of the peak memory in bytes."""
    prepare = sides_align.HOUR_CALLS[name]
    prepare(sides_ctc.random_batch(SHORT))()
    call = prepare(sides_align.hour())
    start = time.process_time()
    grown = resident.growth(call)
    return f"{time.process_time() - start} {grown}"


def _recording(folder: Path | None) -> sides_ctc.Batch:
    if folder is None:
        return sides_ctc.random_batch(RECORDING)
    return sides_ctc.real_batch("nanopore_chiron_long", folder)


def _growth(side: str, batch: sides_ctc.Batch) -> int:
    """Return the increase of the peak memory during one call, in bytes."""
    calls = {OURS: sides_ctc.our_calls, TORCH: sides_ctc.torch_calls}[side]
    calls(sides_ctc.random_batch(SHORT), 1)["grad_out"]()
    return resident.growth(calls(batch, 1)["grad_out"])


def machine() -> str:
    """Describe the software and hardware."""
    versions = [f"Python {platform.python_version()}"]
    for name in (
        "fastseqloss",
        "numpy",
        "torch",
        "pytorch-crf",
        "optax",
        "jax",
        "pysdtw",
        "rax",
        "soft-dtw",
        "tslearn",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join([*versions, f"level {levels.level}", f"{os.cpu_count()} CPUs"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    commands = {
        "adapters": adapters,
        "align": align,
        "crf": crf,
        "ctc": ctc,
        "ctc_crf": ctc_crf,
        "cross_entropy": cross_entropy,
        "decode": decode,
        "elementwise": elementwise,
        "vectors": vectors,
        "log_prob": log_prob,
        "overhead": overhead,
        "linear": linear,
        "memory": memory,
        "policy": policy,
        "ranking": ranking,
        "risk": risk,
        "transducer": transducer,
        "soft_dtw": soft_dtw,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=commands, help="what to measure")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with the complete real emissions; default: the extracts in tests/data",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="workloads to run")
    parser.add_argument(
        "--passes",
        type=int,
        default=1,
        metavar="N",
        help="times to repeat all rows of ctc and step losses, for busy hosts",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures; no errors of the others")
    parser.add_argument(
        "--accuracy-only",
        action="store_true",
        help="errors only; the exit status is 1 if they exceed the limits",
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure CPU time: for one thread on a busy machine",
    )
    parser.add_argument("--verbose", action="store_true", help="medians and rounds, on stderr")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cpu_time and options.threads != [1]:
        parser.error("--cpu-time compares sides on one thread: add --threads 1")
    options.run = commands[options.command]
    options.seconds, options.least = (0.2, 1) if options.quick else (1.5, 3)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = parse(arguments)
    if not options.side:
        print(machine())
    with peers.extras_named():
        return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
