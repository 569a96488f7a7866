"""The number of threads of a call, the settings that determine it, and its lack of effect on results."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastseqloss as fsl
from fastseqloss._core import threads
from fastseqloss._kernels import parallel
from processes import MANY, printed, python
from public_calls import public_calls, public_names
from thoroughness import thorough

CALLS = public_calls(24, 120, 11)
needs_openmp = pytest.mark.skipif(parallel.threads.openmp() == 0, reason="built without OpenMP")
needs_gnu = pytest.mark.skipif(
    "gomp" not in parallel.threads.openmp_runtime(), reason="GNU's runtime shows its settings"
)

# A call with work for any number of threads; what it prints is how many a region has had.
CALL = """
import numpy as np, fastseqloss as fsl
from fastseqloss._kernels import parallel
def call(**options):
    fsl.ctc_loss(np.zeros((16, 500, 30)), np.ones((16, 50), int), **options)
    print(parallel.threads.workers()[0])
"""


@pytest.fixture
def forced(monkeypatch):
    """Several threads, however little there is to do."""
    monkeypatch.setattr(threads, "LEAST_WORK", 0)


def same(answers, expected):
    assert len(answers) == len(expected)
    for answer, wanted in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer, wanted)


# ---- results ------------------------------------------------------------------------------


def test_every_public_function_is_called():
    assert set(CALLS) == public_names()


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_threads(name, forced):
    expected = CALLS[name](1)
    for n in (2, 3, 8, 64):
        same(CALLS[name](n), expected)


@pytest.mark.parametrize("repeats", [1, thorough(6)])
def test_python_threads(forced, repeats):
    """Eight of them call everything at once on the same read-only arrays, with one to four threads each."""
    names = list(CALLS)
    expected = {name: CALLS[name](1) for name in names}
    start = threading.Barrier(8)

    def caller(number):
        start.wait(60)
        order = np.random.default_rng(number).permutation(np.repeat(names, repeats))
        for i, name in enumerate(order):
            same(CALLS[name](1 + (number + i) % 4), expected[name])
        return len(order)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(caller, range(8), timeout=300)) == [repeats * len(names)] * 8


def test_cores_are_shared(forced):
    """Six callers with four threads each are six at work, with the further workers of one of them, and not 24."""
    code = (
        MANY
        + """
import threading, time
import numpy as np, fastseqloss as fsl
from fastseqloss._kernels import parallel
x, labels = np.zeros((64, 300, 30)), np.ones((64, 50), int)
most, over = [], threading.Event()
def watch():
    while not most or not over.is_set():
        most.append(parallel.threads.workers())
        time.sleep(1e-3)
def caller():
    for _ in range(5):
        fsl.ctc_loss(x, labels, num_threads=4)
watcher = threading.Thread(target=watch)
callers = [threading.Thread(target=caller) for _ in range(6)]
watcher.start()
for thread in callers: thread.start()
for thread in callers: thread.join()
over.set()
watcher.join()
print(max(workers for workers, running in most), max(running for workers, running in most))
print(parallel.threads.workers())
"""
    )
    seen, last = printed(code).splitlines()
    workers, running = seen.split()
    assert 1 <= int(workers) <= 4
    assert int(running) <= 6 + 3
    assert last.endswith(", 0)")


# ---- who says how many --------------------------------------------------------------------


@needs_openmp
def test_numbers_said_in_python():
    said = "call(num_threads=2); fsl.set_num_threads(3); call(); fsl.set_num_threads(9); call(num_threads=4)"
    assert printed(MANY + CALL + said, OMP_NUM_THREADS="5").split() == ["2", "3", "4"]


@needs_openmp
@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        thorough({"OMP_NUM_THREADS": "3"}, 3),
        thorough({"OMP_NUM_THREADS": "1"}, 1),
        thorough({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "6", "OMP_THREAD_LIMIT": "2"}, 2),
    ],
)
def test_numbers_said_in_the_environment(environment, threads):
    assert printed(MANY + CALL + "call()", **environment) == str(threads)


@needs_openmp
@pytest.mark.parametrize("interface", ["None", thorough("'openmp'")])
def test_threadpoolctl_limits_calls(interface):
    """It finds the runtime among others."""
    code = f"""
import os, threadpoolctl
files = [os.path.realpath(found["filepath"]) for found in threadpoolctl.threadpool_info()]
print(os.path.realpath(parallel.threads.openmp_runtime()) in files)
call(num_threads=2)
with threadpoolctl.threadpool_limits(1, user_api={interface}):
    call()
with threadpoolctl.threadpool_limits(3, user_api={interface}):
    call()
call()
"""
    assert printed(MANY + CALL + code, OMP_NUM_THREADS="5").split() == ["True", "2", "2", "3", "5"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_limits_calls():
    """The affinity is that of the calling thread, even if it was changed after the first call."""
    code = """
import os
from fastseqloss._core import threads
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
call(num_threads=8)
fsl.set_num_threads(8)
call()
print(threads.processors())
"""
    assert printed(CALL + code, OMP_NUM_THREADS="5").split() == ["1", "1", "1"]


@needs_openmp
def test_quota_limits_calls():
    code = """
from fastseqloss._core import threads
threads.cpu_quota = lambda: 2
openmp = {"openmp": lambda: 201511, "openmp_threads": parallel.threads.openmp_threads}
threads.runtime = type("Many", (), {"processors": lambda: 64, **openmp})
call(num_threads=8)
print(fsl.get_num_threads())
"""
    assert printed(CALL + code, OMP_NUM_THREADS="5").split() == ["2", "2"]


def test_small_work_stays_on_one_thread():
    code = "fsl.mse_loss(np.zeros((8, 9)), np.ones((8, 9)), num_threads=8); print(parallel.threads.workers()[0])"
    assert printed(CALL + "from fastseqloss._core import threads\nthreads.processors = lambda: 64\n" + code) == "1"


# ---- the runtime --------------------------------------------------------------------------


@needs_gnu
@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ({}, "PASSIVE"),
        thorough({"OMP_WAIT_POLICY": "active"}, "ACTIVE"),
        thorough({"OMP_WAIT_POLICY": "passive"}, "PASSIVE"),
        thorough({"GOMP_SPINCOUNT": "1000"}, "1000"),
    ],
)
def test_threads_wait_asleep(said, policy):
    """Unless the user has said otherwise, and the environment is left as it was, in Python and in C."""
    code = """
import ctypes, os
before = dict(os.environ)
import fastseqloss
assert dict(os.environ) == before
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
value = getenv(b"OMP_WAIT_POLICY")
assert (value and value.decode()) == before.get("OMP_WAIT_POLICY"), value
"""
    unsaid = {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": None, "KMP_LIBRARY": None}
    process = python(code, **{**unsaid, **said}, OMP_DISPLAY_ENV="verbose")
    assert process.returncode == 0, process.stderr
    name = "GOMP_SPINCOUNT" if "GOMP_SPINCOUNT" in said else "OMP_WAIT_POLICY"
    assert f"{name} = '{policy}'" in process.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux, which lists threads")
@needs_openmp
def test_threads_of_the_process():
    """As many as the call asked for, and no more after a hundred calls."""
    code = """
import os
before = len(os.listdir("/proc/self/task"))
for _ in range(100):
    call(num_threads=3)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert printed(MANY + CALL + code).split()[-1] == "2"


# ---- signals ------------------------------------------------------------------------------

# A call that its handler's exception ends in the middle; the calls after it are right.
INTERRUPTED = """
import signal
from long_calls import call_with_signal
rng = np.random.default_rng(0)
few = {{"logits": rng.normal(size=(50, 500, 8)), "labels": rng.integers(1, 8, (50, 240))}}
few |= {{"return_grad": True, "reduction": "none"}}
expected = fsl.ctc_loss(**few)
def stop(number, frame):
    raise {exception}
try:
    call_with_signal({number}, {handler}, {threads})
except {exception}:
    print("stopped", parallel.threads.workers()[1])
for threads in (1, {threads}):
    again = fsl.ctc_loss(**few, num_threads=threads)
    assert all(np.array_equal(a, b) for a, b in zip(again, expected))
print("works")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("threads", [thorough(1), 3])
@pytest.mark.parametrize(
    ("exception", "handler", "number"),
    [
        ("KeyboardInterrupt", "signal.default_int_handler", "signal.SIGINT"),
        thorough("TimeoutError", "stop", "signal.SIGUSR1"),
    ],
)
def test_a_signal_ends_a_long_call(threads, exception, handler, number):
    """The exception of a handler ends the call before the last sequence has begun, and the next call works."""
    code = INTERRUPTED.format(threads=threads, exception=exception, handler=handler, number=number)
    assert printed(MANY + CALL + code).splitlines() == ["stopped 0", "works"]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_handler_may_call_too():
    """Losses in a signal's handler, in the middle of a call: both are right."""
    code = """
import signal
from long_calls import call_with_signal
rng = np.random.default_rng(0)
few = {"logits": rng.normal(size=(9, 500, 8)), "labels": rng.integers(1, 8, (9, 240)), "reduction": "none"}
expected = fsl.ctc_loss(**few)
inner = []
def handler(number, frame):
    inner.append(fsl.ctc_loss(**few, num_threads=3))
loss, gradient = call_with_signal(signal.SIGALRM, handler, 3)
assert len(inner) == 1 and np.array_equal(inner[0], expected)
assert (loss == loss[0]).all() and (gradient == gradient[0]).all()
print("works")
"""
    assert printed(MANY + CALL + code) == "works"


@pytest.mark.skipif(parallel.threads.openmp() != 0, reason="built with OpenMP")
def test_one_thread_without_openmp(forced):
    fsl.set_num_threads(8)
    try:
        assert fsl.get_num_threads() == threads.threads_for(8, 1e9, 100) == 1
    finally:
        fsl.set_num_threads(None)


def test_show_config_says_how_many(capsys):
    fsl.show_config()
    assert f"threads  {fsl.get_num_threads()} of 64 CPUs" in capsys.readouterr().out
