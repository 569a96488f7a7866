"""Long pairs are paused between strips, for signals, and resumed by any worker."""

import os
import signal

import numpy as np
import pytest

import fastseqloss as fsl
from processes import MANY, printed
from thoroughness import thorough

SERIES = """
import os, signal, threading, time
import numpy as np, fastseqloss as fsl
from fastseqloss._kernels import parallel
rng = np.random.default_rng(0)
"""

# Pairs of some tenths of a second: more than a region lasts.
PAUSED = """
x, y = rng.normal(size=({pairs}, 1100, 60)), rng.normal(size=({pairs}, 1000, 60))
def call(threads):
    return fsl.soft_dtw_loss(x, y, [1100, 700, 900][:{pairs}], [1000, 1000, 64][:{pairs}], reduction="none",
                             return_grad=True, divergence={divergence}, num_threads=threads)
loss, grad = call(1)
parts = [fsl.soft_dtw_loss(x[b], y[b], n, m, return_grad=True, divergence={divergence}, num_threads=1)
         for b, (n, m) in enumerate(list(zip([1100, 700, 900], [1000, 1000, 64]))[:{pairs}])]
for threads in (2, 3):
    other, other_grad = call(threads)
    assert np.array_equal(loss, other)
    assert all(np.array_equal(a, b) for a, b in zip(grad, other_grad))
assert all(np.array_equal(loss[b], part[0]) for b, part in enumerate(parts))
assert all(np.array_equal(grad.x[b], part[1].x) for b, part in enumerate(parts))
print("works")
"""

STOPPED = """
n = 200000  # hours of work, in one pair
x, y = np.zeros((1, n, 3)), np.zeros((1, n, 3))
signal.signal(signal.SIGINT, signal.default_int_handler)
begun = threading.Event()
def stop():
    while parallel.threads.workers()[1] == 0:
        time.sleep(1e-3)
    os.kill(os.getpid(), signal.SIGINT)
watcher = threading.Thread(target=stop)
watcher.start()
try:
    fsl.soft_dtw_loss(x, y, num_threads={threads}, band={band})
except KeyboardInterrupt:
    print("stopped", parallel.threads.workers()[1])
watcher.join()
assert fsl.soft_dtw_loss(x[:, :9], y[:, :9], gamma=0) == 0
"""


@pytest.mark.parametrize(
    ("pairs", "divergence"), [(1, True), thorough(1, False), thorough(3, False), thorough(3, True)]
)
def test_bits_do_not_depend_on_pauses(pairs, divergence):
    assert printed(MANY + SERIES + PAUSED.format(pairs=pairs, divergence=divergence)) == "works"


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("threads", [thorough(1), 3])
def test_a_signal_ends_a_call_on_one_pair(threads):
    code = MANY + SERIES + STOPPED.format(threads=threads, band=None)
    assert printed(code) == "stopped 0"


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that signals")
def test_a_handler_may_call_in_the_middle_of_a_pair():
    code = """
x, y = rng.normal(size=(2, 1100, 60)), rng.normal(size=(2, 1000, 60))
expected = fsl.soft_dtw_loss(x, y, reduction="none", return_grad=True)
inner = []
def handler(number, frame):
    inner.append(fsl.soft_dtw_loss(x[:1, :50], y[:1, :50], reduction="none", num_threads=3))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.05)
loss, grad = fsl.soft_dtw_loss(x, y, reduction="none", return_grad=True, num_threads=3)
signal.setitimer(signal.ITIMER_REAL, 0)
assert inner and np.array_equal(loss, expected[0]) and np.array_equal(grad.x, expected[1].x)
assert all(np.array_equal(other, inner[0]) for other in inner)
print("works")
"""
    assert printed(MANY + SERIES + code) == "works"


@pytest.mark.thorough
def test_costs_that_are_paused_give_the_same_bits():
    """A large array of costs, in several regions, beside its pairs one by one."""
    rng = np.random.default_rng(1)
    costs = rng.uniform(size=(2, 3000, 2500)).astype(np.float32)
    loss, grad = fsl.soft_dtw_cost(costs, gamma=0.1, reduction="none", return_grad=True, num_threads=2)
    for b in range(2):
        alone, own = fsl.soft_dtw_cost(costs[b], gamma=0.1, return_grad=True, num_threads=1)
        assert alone == loss[b]
        assert np.array_equal(own, grad[b])
