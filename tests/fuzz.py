"""Throws arguments of every kind at every public function: a right answer or a documented exception, nothing else.

``python tests/fuzz.py --calls 1000000 --seed 0`` works in a child process, which it starts again behind a call that
crashed or hung. ``--only ctc_loss`` keeps to one function; ``--call 1234`` makes one call again, and shows it.
"""

import argparse
import copy
import faulthandler
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
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

import fastseqloss as fsl
import fuzz_answers
from fuzz_calls import SELDOM, STRATEGIES, Call, make, parameters
from fuzz_values import Capsule, Foreign, plain
from step_cases import CLASSIFICATION

EXPECTED = (ValueError, TypeError, MemoryError)
NO_ARRAYS = ("show_config", "get_num_threads", "set_num_threads", "check_grad")
SAID = r"(is|are|has|have|must|needs|need|shares|overlaps|add|and|adds|returned)\b"


# What NumPy says where an array would have more bytes than there are addresses.
TOO_LARGE = ("array is too big", "Maximum allowed dimension exceeded", "Maximum allowed size exceeded")


class Violation(AssertionError):
    """What may not happen."""


# ---- one call ---------------------------------------------------------------------------------


def attempt(call: Call, random: Any) -> str:
    """Make a call; return how it ended, "right" or the name of an exception, or raise Violation."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return _judged(call, random)
        except Violation:
            raise
        except Exception as error:
            if str(error).startswith(TOO_LARGE):  # what is compared with it cannot be made
                return "too large"
            raise Violation(f"{type(error).__name__}: {error}") from error


def _judged(call: Call, random: Any) -> str:
    clean = {name: _plain(value) for name, value in call.arguments.items()}
    case = copy.deepcopy(call.case) if call.case is not None and not call.wrongs and random.random() < 0.1 else None
    watched = _Watched(call)
    try:
        result = call.run()
    except EXPECTED as error:
        _judge_error(call, error)
        watched.check_all()
        return type(error).__name__
    except Exception as error:
        raise Violation(f"{type(error).__name__}: {error}") from error
    try:
        watched.check_inputs()
        if call.name == "weighted_sum":
            return _judge_sum(call, result, random)
        _judge_result(call, result, clean)
        if case is not None:
            fuzz_answers.check(call, case, result, clean)
    except Violation:
        raise
    except AssertionError as error:
        raise Violation(str(error)) from error
    return "right"


def _judge_error(call: Call, error: Exception, names: tuple[str, ...] = ()) -> None:
    if isinstance(error, MemoryError) or str(error).startswith(TOO_LARGE):
        return
    if type(error) not in EXPECTED:
        raise Violation(f"{type(error).__name__}: {error}") from error
    names = names or parameters(call.name)
    if any(note.startswith("in ") for note in getattr(error, "__notes__", ())):
        return  # of a term, which is named
    if not re.search(rf"(^|\W)({'|'.join(names)})(\[[^\]]*\]|\.\w+)*,? (\(.*\) )?{SAID}", str(error)):
        raise Violation(f"{type(error).__name__} names no argument: {error}") from error
    if not call.wrongs:
        raise Violation(f"{type(error).__name__} for a valid call: {error}") from error


def _plain(value: Any) -> Any:
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else plain(value)


def _judge_result(call: Call, result: Any, clean: dict[str, Any]) -> None:
    options = {}
    has_gradient = "grad_out" in parameters(call.name)
    given = call.arguments.get("grad_out")
    if has_gradient:
        wanted = given is not None or bool(call.arguments.get("return_grad", False))
        assert isinstance(result, tuple) == wanted, "gradient or none"
        options = {"grad_out": None, "return_grad": wanted}
        if wanted:
            _judge_gradient(call, result[1], clean)
    if call.name.startswith("plot.") or call.name in NO_ARRAYS:
        return
    huge = [v for v in call.arguments.values() if isinstance(v, np.ndarray) and v.nbytes > 10**8]
    if not huge:
        again = call.function(**clean | options)
        assert_same(result, again, "of plain arrays")
        if has_gradient and options["return_grad"]:
            loss = call.function(**clean | {"grad_out": None, "return_grad": False})
            assert_same(result[0], loss, "without gradient", 1e-12)
    if not _may_be_nan(call, clean):
        for values in leaves(result):
            assert not np.isnan(np.asarray(values, np.float64)).any(), f"NaN: {values}"


def leaves(result: Any) -> list[Any]:
    """The numbers that a result is made of."""
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [] if result is None else [result]


def assert_same(result: Any, expected: Any, which: str, rtol: float = 0.0) -> None:
    """Equal to the bit, but for sums over a batch: the memory of an array decides in which order they are added."""
    found, wanted = leaves(result), leaves(expected)
    assert len(found) == len(wanted), f"{which}: {len(found)} results, not {len(wanted)}"
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{which}: shape {a.shape}, not {b.shape}"
        assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("="), f"{which}: dtype {a.dtype}, not {b.dtype}"
        a, b = a.astype(np.float64), b.astype(np.float64)
        allowed = max(rtol, 1e-12 if a.ndim == 0 else 0)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(a - b) <= allowed * np.maximum(1, np.maximum(np.abs(a), np.abs(b)))
        good = (a == b) | (np.isnan(a) & np.isnan(b)) | near
        assert good.all(), f"{which}: {a[~good][:3]}, not {b[~good][:3]}"


def _judge_gradient(call: Call, gradient: Any, clean: dict[str, Any]) -> None:
    """Of the right type, in the right place, and 0 where nothing counts."""
    outs = call.arguments.get("grad_out")
    if isinstance(gradient, fsl.CRFGradient):
        gradients = dict(zip(gradient._fields, gradient, strict=True))
        outs = dict(zip(gradient._fields, outs if isinstance(outs, tuple) else (outs, None, None, None), strict=True))
        assert (gradient.start is None, gradient.end is None) == tuple(clean.get(k) is None for k in ("start", "end"))
    else:
        name = next(iter(call.arguments))
        gradients, outs = {name: gradient}, {name: outs}
    for name, found in gradients.items():
        if found is None:
            continue
        given = np.asarray(clean[name])
        assert isinstance(found, np.ndarray), f"gradient of {name} is a {type(found).__name__}"
        assert found.shape == given.shape, f"gradient of {name} has shape {found.shape}"
        assert found.dtype.newbyteorder("=") == given.dtype, f"gradient of {name} has dtype {found.dtype}"
        assert outs[name] is None or found is outs[name], f"gradient of {name} is not in grad_out"
    if call.name == "ctc_loss" or call.name in fuzz_answers.CRF:
        counted = fuzz_answers.frames_that_count(clean)
    elif call.name in STEP_LOSSES:
        counted = fuzz_answers.steps_that_count(clean, call.name in CLASSIFICATION or "policy" in call.name)
    else:
        return
    found = next(iter(gradients.values()))
    if counted is not None and found.size < 10**6:
        assert not np.asarray(found)[~counted].astype(np.float64).any(), "gradient where nothing counts"


STEP_LOSSES = {name for name in STRATEGIES if "grad_out" in parameters(name)} - {"ctc_loss", "expected_risk_loss"}
STEP_LOSSES -= set(fuzz_answers.CRF)


def _may_be_nan(call: Call, clean: dict[str, Any]) -> bool:
    """Whether the definition gives NaN, or overflows: only where there are numbers that are not finite, or enormous."""
    if not call.wrongs:
        return call.name == "check_grad"
    if clean.get("input") == "probs" and {"input", next(iter(clean))} & {*call.wrongs}:  # below 0, above 1
        return True
    for name, value in clean.items():
        try:
            numbers = np.asarray(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.dtype.kind not in "fiubV" or numbers.dtype.names:
            continue
        if numbers.size > 10**6:
            return True
        with np.errstate(all="ignore"):
            numbers = np.asarray(numbers, np.float64)
        if name == "clip" or not (np.abs(numbers) < 1e30).all():
            return True
        if name in call.wrongs and numbers.ndim == 0 and 0 < abs(numbers) < 1e-30:
            return True
    return False


def _judge_sum(call: Call, loss: Any, random: Any) -> str:
    """What `weighted_sum` returned, called in turn."""
    rng, dtype = np.random.default_rng(random.getrandbits(32)), random.choice((np.float32, np.float64))
    x = rng.normal(size=(2, 3)).astype(dtype)
    options: dict[str, Any] = random.choice(({}, {"return_grad": True}, {"grad_out": x.copy()}, {"grad_out": x}))
    repr(loss)
    try:
        result = loss(x, **options)
    except EXPECTED as error:
        _judge_error(call, error, (r"terms\[\d+\]", "scores", "grad_out"))
        return type(error).__name__
    if options:
        total, gradient = result
        assert isinstance(total, float)
        assert isinstance(gradient, np.ndarray)
        assert (gradient.shape, gradient.dtype) == (x.shape, x.dtype)
    else:
        assert isinstance(result, float)
    return "right"


class _Watched:
    """The memory of all arguments as it was before a call."""

    def __init__(self, call: Call) -> None:
        self.outs = []
        self.rooms = []
        for name, value in call.arguments.items():
            for array in value if type(value) in (list, tuple, fsl.CRFGradient) else (value,):
                array = array.array if isinstance(array, (Foreign, Capsule)) else array
                if isinstance(array, np.ndarray):
                    if name == "grad_out":
                        self.outs.append((array, np.array(array) if array.nbytes < 10**6 else None))
                    room = array
                    while isinstance(room.base, np.ndarray):
                        room = room.base
                    room = room.view(np.ndarray)  # a masked array would show what it fills in
                    if room.nbytes < 10**6:
                        self.rooms.append((name, room, room.tobytes()))

    def check_all(self) -> None:
        """Nothing at all has been written."""
        for name, room, before in self.rooms:
            if room.tobytes() != before:
                raise Violation(f"{name} was written to, and then an exception raised")

    def check_inputs(self) -> None:
        """Nothing has been written but to grad_out, and nothing beside that."""
        gradients = [(out, np.array(out)) for out, _ in self.outs]
        for out, before in self.outs:
            if out.flags.writeable and before is not None and not np.ma.isMaskedArray(out):
                out[...] = before
        changed = [name for name, room, before in self.rooms if room.tobytes() != before]
        for out, gradient in gradients:
            if out.flags.writeable and not np.ma.isMaskedArray(out):
                out[...] = gradient
        assert not changed, f"changed: {changed}"


# ---- many calls -------------------------------------------------------------------------------


def names_of(only: str | None) -> list[str]:
    """Functions to choose from; those that take long, or are soon tested, seldom."""
    if only:
        return [only]
    return [name for name in STRATEGIES for _ in range(1 if name in SELDOM else 30)]


def nth(seed: int, i: int, names: list[str]) -> tuple[random.Random, str]:
    """The source of chance of call i, and its function."""
    source = random.Random((seed << 40) + i)
    return source, source.choice(names)


def work(options: argparse.Namespace) -> None:
    """In the child: make calls, write where we are into a file, and what was wrong to standard output."""
    faulthandler.enable()
    if "san" not in os.environ.get("LD_PRELOAD", ""):  # whose shadow memory takes all addresses
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    if options.threads > 1:
        fsl._runtime.threads_for = lambda num_threads, work, items: max(1, min(options.threads, items))
    names, tally = names_of(options.only), Counter()
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
            if i % 5000 == 4999 or i == options.calls - 1:
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
    """Take what the child has written since."""
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
    parser.add_argument("--only", choices=sorted(STRATEGIES), help="one function")
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
        source, name = nth(options.seed, options.call, names_of(options.only))
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
