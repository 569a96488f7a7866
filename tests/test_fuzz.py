"""Public functions return correct answers or raise documented errors for random arguments: a short run of `fuzz`."""

import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
import fuzz
import fuzz_calls
import fuzz_judge
import fuzz_values
import fuzz_wrongs
from fuzz_calls import STRATEGIES
from thoroughness import examples, thorough

QUICK = [name for name in STRATEGIES if not name.startswith("plot.") and name != "show_config"]


@pytest.fixture(autouse=True)
def _restored():
    yield
    fsl.set_num_threads(None)


@pytest.fixture(autouse=True, scope="module")
def _beyond_any_memory():
    """Smaller sizes need a limit of memory, which child processes have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz_values, "HUGE", [size for size in fuzz_values.HUGE if size >= 2**52])
        yield


def test_every_public_function_is_thrown_at():
    assert set(STRATEGIES) == set(fuzz_calls.functions())
    assert set(fuzz.RECURRENT) == {f"recurrent.{name}" for name in fsl.recurrent.__all__}


@pytest.mark.peers
def test_every_function_of_the_adapters_is_thrown_at():
    pytest.importorskip("jax", reason="the extra `peers` installs it")
    pytest.importorskip("torch", reason="the extra `peers` installs it")
    import fastseqloss.jax
    import fastseqloss.torch

    modules = {"torch": fastseqloss.torch, "jax": fastseqloss.jax}
    every = {
        f"{key}.{name}"
        for key, module in modules.items()
        for name in module.__all__
        if not is_dataclass(getattr(module, name))  # a result
    }
    assert set(fuzz.ADAPTERS) == every


def throw(name, calls):
    for i in range(calls):
        source, _ = fuzz.nth(99, i, [name])
        fuzz.attempt(fuzz.make(source, name), source)


@pytest.mark.parametrize("calls", [8, thorough(40)])
@pytest.mark.parametrize("name", [*STRATEGIES, *fuzz.RECURRENT])
def test_seeded_calls(name, calls):
    throw(name, calls // 5 if name.startswith("plot.") else calls)


@pytest.mark.peers
@pytest.mark.parametrize("calls", [15, thorough(50)])
@pytest.mark.parametrize("name", [name for name in fuzz.ADAPTERS if name.startswith("torch.")])
def test_seeded_calls_of_torch(name, calls):
    pytest.importorskip("torch", reason="the extra `peers` installs it")
    throw(name, calls)


@pytest.mark.peers
@pytest.mark.parametrize("calls", [3, thorough(6)])
@pytest.mark.parametrize("name", [name for name in fuzz.ADAPTERS if name.startswith("jax.")])
def test_seeded_calls_of_jax(name, calls):
    jax = pytest.importorskip("jax", reason="the extra `peers` installs it")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        throw(name, calls)
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("calls", [8, thorough(20)])
@pytest.mark.parametrize("name", QUICK)
def test_absurd_sizes(name, calls):
    """Every axis of one length is extremely long, in all arguments."""
    for i in range(calls):
        source, _ = fuzz.nth(98, i, [name])
        call = STRATEGIES[name](source)
        fuzz_wrongs.stretch(source, call)
        fuzz.attempt(call, source)


@examples(2.5)
@given(st.sampled_from(QUICK), st.randoms(use_true_random=False))
def test_calls_that_shrink(name, source):
    fuzz.attempt(fuzz.make(source, name), source)


def run(*arguments):
    command = [sys.executable, Path(fuzz.__file__), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.thorough
def test_command_line():
    done = run("--calls", 20, "--seed", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 calls" in done.stdout
    assert "0 violations" in done.stdout


@pytest.mark.thorough
def test_one_call_again():
    done = run("--only", "mse_loss", "--call", 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mse_loss(predictions=")


# ---- the fuzzer finds known errors -----------------------------------------------


class Broken(fuzz_calls.Call):
    """A call of a function that is not as it should be."""

    broken = staticmethod(lambda x, *, grad_out=None: 0.0)

    @property
    def function(self):
        return self.broken


def raises(error):
    def function(x):
        raise error

    return function


def keeps(x):
    return x[:1]


def negative(x):
    raise MemoryError("no memory for a workspace of -8 bytes")


def writes(x):
    x[0] = 3
    return 0.0


def warns(x):
    return np.float64(1e308) * 10


def forgets_nothing(x, calls=[]):  # noqa: B006
    calls.append(1)
    return float(len(calls))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises(IndexError("x is 3")), "IndexError"),
        (raises(SystemError("x is 3")), "SystemError"),
        (raises(OverflowError("x is 3")), "OverflowError"),
        (raises(ValueError("something is wrong")), "names no argument"),
        (raises(np.exceptions.AxisError("rewards is 3")), "AxisError"),
        (raises(ValueError("rewards is 3")), "for a valid call"),
        (writes, "changed: .*rewards"),
        (negative, "negative size"),
        (warns, "RuntimeWarning"),
        (forgets_nothing, "of plain arrays"),
        (lambda x: np.nan, "NaN"),
    ],
)
def test_what_is_found(function, said, monkeypatch):
    monkeypatch.setattr(Broken, "broken", staticmethod(lambda rewards: function(rewards)))
    call = Broken("discounted_returns", {"rewards": np.zeros(2)})
    with pytest.raises(fuzz.Violation, match=said):
        fuzz.attempt(call, fuzz.nth(0, 0, ["discounted_returns"])[0])


def test_results_that_share_memory_with_arguments():
    call = Broken("discounted_returns", {"rewards": np.ones(2)})
    with pytest.raises(AssertionError, match="a result changes with the arguments"):
        fuzz_judge._Watched(call).check_alone(keeps(call.first))


def test_what_was_written_before_an_exception(monkeypatch):
    def function(rewards):
        rewards[0] = 3
        raise ValueError("rewards is 3")

    monkeypatch.setattr(Broken, "broken", staticmethod(function))
    call = Broken("discounted_returns", {"rewards": np.zeros(2)}, wrongs=["rewards"])
    with pytest.raises(fuzz.Violation, match="rewards was written to"):
        fuzz.attempt(call, fuzz.nth(0, 0, ["discounted_returns"])[0])


CRASH = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import fuzz
original = fuzz.attempt
def attempt(call, random):
    number = int.from_bytes(progress[:], "little")
    if number == 5:
        os.abort()
    if number == 9:
        signal.pause()
    return original(call, random)
fuzz.attempt = attempt
real = fuzz.mmap.mmap
def mapped(*arguments):
    global progress
    progress = real(*arguments)
    return progress
fuzz.mmap.mmap = mapped
fuzz.__file__ = __file__
sys.exit(fuzz.main())
"""


@pytest.mark.thorough
def test_survives_a_crash_and_a_call_without_end(tmp_path):
    script = tmp_path / "crash.py"
    script.write_text(CRASH.format(tests=str(Path(fuzz.__file__).parent)))
    command = [sys.executable, script, "--calls", "20", "--patience", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--call 5 ?: the process ended with -6" in done.stdout
    assert "Fatal Python error: Aborted" in done.stdout
    assert "--call 9 ?: no end after 5.0 s" in done.stdout
    assert "to number 20" in done.stdout
    assert "2 violations" in done.stdout
