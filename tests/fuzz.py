"""Throws arguments of every kind at every public function: a right answer or a documented exception, nothing else.

``python tests/fuzz.py --calls 1000000 --seed 0`` works in a child process, which it starts again behind a call that
crashed or hung. ``--only ctc_loss`` keeps to one function, ``--adapters`` to `fastseqloss.torch` and `fastseqloss.jax`;
``--call 1234`` makes one call again, and shows it.
"""

import argparse
import faulthandler
import importlib
import json
import mmap
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

import fastseqloss as fsl
import fuzz_wrongs
from fastseqloss._adapters.table import LOSSES
from fuzz_calls import SELDOM, STRATEGIES, Call
from fuzz_judge import Violation, attempt
from processes import use_threads

ADAPTERS = (
    "torch.CRF", "torch.CTCLoss", "torch.CrossEntropyLoss", "torch.cross_entropy", "torch.ctc_loss",
    "torch.ctc_loss_from_logits", "torch.forced_align", "torch.merge_tokens", "jax.ctc_loss",
    *(f"{module}.{name}" for module in ("torch", "jax") for name in LOSSES),
)  # fmt: skip
RECURRENT = tuple(f"recurrent.{name}" for name in fsl.recurrent.__all__)
NAMES = (*STRATEGIES, *RECURRENT, *ADAPTERS)


def make(source: random.Random, name: str) -> Call:
    """A call of that function; the requirements of adapters are imported only for them."""
    if name in STRATEGIES:
        return fuzz_wrongs.make(source, name)
    return importlib.import_module(f"fuzz_{name.split('.')[0]}").make(source, name)


# ---- many calls -------------------------------------------------------------------------------


def names_of(options: argparse.Namespace) -> list[str]:
    """Functions to choose from; those that take long, or are soon tested, seldom."""
    if options.only:
        return [options.only]
    if options.adapters:
        return [*ADAPTERS]
    return [name for name in (*STRATEGIES, *RECURRENT) for _ in range(1 if name in SELDOM else 30)]


def nth(seed: int, i: int, names: list[str]) -> tuple[random.Random, str]:
    """The source of chance of call i, and its function."""
    source = random.Random((seed << 40) + i)
    return source, source.choice(names)


def work(options: argparse.Namespace) -> None:
    """In the child: make calls, write the current position to a file, and errors to standard output."""
    faulthandler.enable()
    if "san" not in os.environ.get("LD_PRELOAD", ""):  # whose shadow memory takes all addresses
        room = (12 if options.adapters or options.only in ADAPTERS else 4) << 30
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    if options.threads > 1:
        use_threads(options.threads)
    names, tally, told = names_of(options), Counter(), time.monotonic()
    with open(options.progress, "r+b") as file, mmap.mmap(file.fileno(), 8) as progress:
        for i in range(options.first, options.calls):
            progress[:] = i.to_bytes(8, "little")
            source, name = nth(options.seed, i, names)
            try:
                tally[name, attempt(make(source, name), source)] += 1
            except Violation as violation:
                tally[name, "violation"] += 1
                source, name = nth(options.seed, i, names)
                said = f"{violation}\n  in {make(source, name)}"
                print(json.dumps({"call": i, "name": name, "violation": said}), flush=True)
            except Exception:
                said = f"the fuzzer failed\n{traceback.format_exc()}"
                print(json.dumps({"call": i, "name": name, "violation": said}), flush=True)
            if time.monotonic() - told > 5 or i == options.calls - 1:
                told = time.monotonic()
                print(json.dumps({"tally": [(*key, n) for key, n in tally.items()]}), flush=True)
                tally.clear()


def watch(options: argparse.Namespace) -> tuple[Counter, list[dict[str, Any]], int]:
    """In the parent: start a child, again after each crash; return the tally, the findings, and where it got to."""
    tally: Counter = Counter()
    findings: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        progress, output = os.path.join(folder, "progress"), os.path.join(folder, "output")
        first, began = options.first, time.monotonic()
        while first < options.calls and (not options.seconds or time.monotonic() - began < options.seconds):
            with open(progress, "wb") as file:
                file.write(NOT_BEGUN.to_bytes(8, "little"))
            command = [sys.executable, os.path.abspath(__file__), "--child", "--progress", progress]
            command += ["--first", str(first)]
            command += ["--calls", str(options.calls), "--seed", str(options.seed), "--threads", str(options.threads)]
            command += ["--only", options.only] if options.only else []
            command += ["--adapters"] if options.adapters else []
            with open(output, "w") as out, open(output) as lines, open(os.path.join(folder, "error"), "w+") as errors:
                child = subprocess.Popen(command, stdout=out, stderr=errors)
                ended = ""
                while child.poll() is None and not ended:
                    ended = _wait(child, progress, options, began)
                    _record(lines, tally, findings)
                with open(progress, "rb") as file:
                    at = int.from_bytes(file.read(8), "little")
                if not ended and child.returncode:
                    ended = f"the process ended with {child.returncode}"
                if ended == TIME_IS_UP:
                    return tally, findings, first if at == NOT_BEGUN else at
                if at == NOT_BEGUN:
                    errors.seek(0)
                    raise RuntimeError(f"the fuzzer does not start: {errors.read()}")
                if ended:
                    errors.seek(0)
                    findings.append({"call": at, "name": "?", "violation": f"{ended}\n{errors.read()[-6000:]}"})
                    _show(findings[-1])
                first = at + 1
    return tally, findings, options.calls


TIME_IS_UP = "time is up"
NOT_BEGUN = 2**64 - 1  # instead of the number of a call


def _wait(child: subprocess.Popen, progress: str, options: argparse.Namespace, began: float) -> str:
    """Wait some seconds for the child, or kill it; return why. One call may take as long as `options.patience`."""
    last, since = NOT_BEGUN, time.monotonic()
    until = since + 5
    while child.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
        with open(progress, "rb") as file:
            at = int.from_bytes(file.read(8), "little")
        if at != last or at == NOT_BEGUN:
            last, since = at, time.monotonic()
            until = min(until, since + 5)
        else:
            until = max(until, since + options.patience + 1)  # it may hang: go on watching
        if options.seconds and time.monotonic() - began > options.seconds:
            child.kill()
            child.wait()
            return TIME_IS_UP
        if time.monotonic() - since > options.patience:
            child.send_signal(6)  # faulthandler says where it was
            child.wait()
            return f"no end after {options.patience} s"
    return ""


def _whole(file: TextIO) -> Iterator[str]:
    """Lines of a file that grows, without the last one while it is being written."""
    while line := file.readline():
        if not line.endswith("\n"):
            file.seek(file.tell() - len(line.encode()))
            return
        yield line


def _record(lines: TextIO, tally: Counter, findings: list[dict[str, Any]]) -> None:
    """Read the output of the child since the last call."""
    for text in _whole(lines):
        line = json.loads(text)
        if "tally" in line:
            for name, outcome, n in line["tally"]:
                tally[name, outcome] += n
            continue
        findings.append(line)
        key = re.sub(r"[\d.e+-]+|\[.*?\]|'.*?'", "#", line["violation"].split("\n")[0])
        tally["kinds", f"{line['name']}: {key}"] += 1
        if tally["kinds", f"{line['name']}: {key}"] <= 2:
            _show(line)


def _show(line: dict[str, Any]) -> None:
    print(f"--call {line['call']} {line['name']}: {line['violation']}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--only", choices=sorted(NAMES), help="one function")
    parser.add_argument("--adapters", action="store_true", help="losses of PyTorch and JAX, which must be installed")
    parser.add_argument("--call", type=int, help="make this one call, in this process, and show it")
    parser.add_argument("--threads", type=int, default=1, help="so many of them, though there is little to do")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    parser.add_argument("--patience", type=float, default=60, help="seconds that one call may take")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--progress", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work(options)
        return 0
    if options.call is not None:
        faulthandler.enable()
        source, name = nth(options.seed, options.call, names_of(options))
        state = source.getstate()
        print(make(source, name), flush=True)
        source.setstate(state)
        print(attempt(make(source, name), source))
        return 0
    began = time.monotonic()
    tally, findings, done = watch(options)
    seconds = time.monotonic() - began
    for name in sorted({name for name, _ in tally} - {"kinds"}):
        print(f"{name:<26}", ", ".join(f"{n} {what}" for (of, what), n in sorted(tally.items()) if of == name))
    for (of, what), n in sorted(tally.items()):
        if of == "kinds":
            print(f"{n:6d} x {what}")
    counted = sum(n for (of, _), n in tally.items() if of != "kinds")
    print(f"{counted} calls tallied, to number {done}, in {seconds:.0f} s: {len(findings)} violations")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
