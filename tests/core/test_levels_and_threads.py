"""Instruction sets and threads: what the machine does must not show in the numbers."""

import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

import fastseqloss as fsl
from cases import random_case
from fastseqloss._core import cgroup, levels, threads
from fastseqloss._kernels import parallel
from long_calls import ever_longer, is_in_the_middle
from processes import printed, python
from thoroughness import thorough

PROCESSORS = threads.processors  # before the tests have their way with it
CPUS = min(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    cgroup.cpu_quota() or sys.maxsize,
    sys.maxsize if parallel.threads.openmp() else 1,
)


@pytest.fixture(scope="module")
def work():
    """A batch on which several threads are used."""
    case = random_case(np.random.default_rng(0), (16, 120, 40, 30), dtype=np.float32)
    return case


def solve(work, **options):
    return fsl.ctc_loss(*work.arguments, reduction="none", return_grad=True, **options)


# ---- instruction sets ---------------------------------------------------------------------


def test_the_best_level_is_the_default(monkeypatch):
    assert levels.available_levels()
    code = "from fastseqloss._core import levels, threads; print(levels.level)"
    assert printed(code, FASTSEQLOSS_ISA="") == levels.available_levels()[0]


@pytest.mark.parametrize("level", levels.available_levels())
def test_level_by_environment(level):
    code = "from fastseqloss.ctc.loss import _kernel; from fastseqloss._core.levels import level\n"
    code += "print(level, _kernel.__name__)"
    name, module = printed(code, FASTSEQLOSS_ISA=level).split()
    assert name == level
    assert module.endswith(f"ctc.loss_{level}")


@pytest.mark.parametrize("wanted", [thorough("x86_64_v9"), thorough("avx2"), thorough("V3"), "../ctc"])
def test_unknown_level(wanted):
    process = python("import fastseqloss", FASTSEQLOSS_ISA=wanted)
    assert process.returncode != 0
    message = process.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ")
    for said in ("FASTSEQLOSS_ISA", repr(wanted), *levels.available_levels()):
        assert said in message


def test_source_that_is_not_compiled(tmp_path):
    package = Path(fsl.__file__).parent
    shutil.copytree(package, tmp_path / "fastseqloss", ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.c"))
    process = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fastseqloss")
    message = process.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: {tmp_path / 'fastseqloss'} has no extension modules for Python ")


def test_levels_agree(work):
    """Up to rounding: they are the same source."""
    module = sys.modules["fastseqloss.ctc.loss"]
    answers = []
    for level in levels.available_levels():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_kernel", levels.load("ctc.loss", level))
            answers.append(solve(work))
    for loss, gradient in answers:
        np.testing.assert_allclose(loss, answers[0][0], rtol=1e-6)
        np.testing.assert_allclose(gradient, answers[0][1], atol=1e-6)


# ---- show_config --------------------------------------------------------------------------


def test_show_config(capsys, restored):
    fsl.show_config()
    shown = capsys.readouterr().out
    assert f"fastseqloss {fsl.__version__}" in shown
    for said in (levels.level, "compiler", "OpenMP", "threads", np.__version__):
        assert said in shown
    file = io.StringIO()
    fsl.show_config(file)
    assert file.getvalue() == shown
    assert capsys.readouterr().out == ""


def test_info_command(capsys, restored):
    process = subprocess.run(
        [sys.executable, "-m", "fastseqloss", "info"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    fsl.show_config()
    for line in capsys.readouterr().out.splitlines():
        assert line in process.stdout


# ---- number of threads --------------------------------------------------------------------


@pytest.fixture
def restored(monkeypatch):
    """The CPUs that there are; the default after the test."""
    monkeypatch.setattr(threads, "processors", PROCESSORS)
    yield
    fsl.set_num_threads(None)


def test_set_num_threads(restored):
    default = fsl.get_num_threads()
    assert 1 <= default <= CPUS
    fsl.set_num_threads(1)
    assert fsl.get_num_threads() == 1
    fsl.set_num_threads(np.int64(2))
    assert fsl.get_num_threads() == min(2, CPUS)
    fsl.set_num_threads(10_000)
    assert fsl.get_num_threads() == CPUS
    fsl.set_num_threads(None)
    assert fsl.get_num_threads() == default


@pytest.mark.parametrize("threads", [0, -1, -(2**70)])
def test_number_of_threads_out_of_range(restored, threads):
    with pytest.raises(ValueError, match=f"num_threads is {threads}; allowed: 1"):
        fsl.set_num_threads(threads)
    assert 1 <= fsl.get_num_threads() <= CPUS


@pytest.mark.parametrize("threads", [1.5, "2", True, [1]])
def test_number_of_threads_of_a_wrong_type(restored, threads):
    with pytest.raises(TypeError, match=r"num_threads must be an integer.*" + type(threads).__name__):
        fsl.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1, thorough(2), thorough(64)])
def test_openmp_environment(threads):
    code = "import fastseqloss as fsl; print(fsl.get_num_threads())"
    assert int(printed(code, OMP_NUM_THREADS=str(threads))) == min(threads, CPUS)


def test_threadpoolctl(restored):
    default = fsl.get_num_threads()
    with threadpoolctl.threadpool_limits(limits=1):
        assert fsl.get_num_threads() == 1
    assert fsl.get_num_threads() == default
    with threadpoolctl.threadpool_limits(limits=1, user_api="openmp"):
        assert fsl.get_num_threads() == 1
        fsl.set_num_threads(2)
        assert fsl.get_num_threads() == min(2, CPUS)  # what was set by name counts first


def test_a_call_leaves_the_number_of_threads_alone(work):
    """Neither our default nor OpenMP's own setting, which other libraries share."""

    def openmp():
        return [p["num_threads"] for p in threadpoolctl.threadpool_info()]

    before = fsl.get_num_threads(), openmp()
    for n in (1, 2, 64):
        solve(work, num_threads=n)
        assert (fsl.get_num_threads(), openmp()) == before


# ---- concurrency --------------------------------------------------------------------------


def test_concurrent_calls(work):
    """Python threads, each with threads of its own, give bitwise what one call gives."""
    expected = solve(work, num_threads=1)
    answers = [[] for _ in range(6)]
    start = threading.Barrier(len(answers))

    def caller(mine, threads):
        start.wait()
        for _ in range(5):
            mine.append(solve(work, num_threads=threads))

    callers = [threading.Thread(target=caller, args=(mine, 1 + i % 3)) for i, mine in enumerate(answers)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for mine in answers:
        assert len(mine) == 5
        for answer in mine:
            for a, b in zip(answer, expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_the_gil_is_released():
    """Python code in another thread runs in the middle of a call, and sees what is written and what is not."""
    for scores, labels, gradient in ever_longer():
        options = {"grad_out": gradient, "num_threads": 1}
        caller = threading.Thread(target=fsl.ctc_loss, args=(scores, labels), kwargs=options)
        caller.start()
        is_seen = False
        while caller.is_alive():
            is_seen = is_seen or is_in_the_middle(gradient)
        caller.join()
        if is_seen:
            return
    pytest.fail("no other thread has run in the middle of a call")


def test_numpy_is_enough():
    """Importing the library and computing a loss loads none of the optional packages."""
    code = (
        "import sys, numpy as np, fastseqloss as fsl\n"
        "fsl.ctc_loss(np.zeros((2, 2)), [1], return_grad=True)\n"
        "optional = {'matplotlib', 'sklearn', 'tqdm', 'scipy', 'ml_dtypes', 'threadpoolctl'}\n"
        "print(sorted(optional & set(sys.modules)))"
    )
    assert printed(code) == "[]"
