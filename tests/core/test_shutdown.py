"""Python ends while daemon threads are in the middle of calls."""

import os

import pytest

from processes import MANY, python

# Ending takes long enough for calls to look for signals, and for the stacks of threads that have ended to be unmapped.
ENDS = """
import sys, threading, time
import numpy as np, fastseqloss as fsl
class Slow:
    def __del__(self, sleep=time.sleep): sleep(0.5)
sys.kept = Slow()
rng = np.random.default_rng(0)
x = np.tile(rng.normal(size=(1, 400, 60)).astype(np.float32), (1500, 1, 1))
few, classes = rng.integers(1, 60, (1500, 20)), rng.integers(1, 60, (1500, 400))
between = rng.normal(size=(60, 60))
def work():
    while True: {call}
def wait():
    while True: time.sleep(0.1)
for target in (work, *[wait] * 10): threading.Thread(target=target, daemon=True).start()
time.sleep(0.3)
"""

CALLS = {
    "ctc": "fsl.ctc_loss(x, few, return_grad=True, num_threads=2)",
    "align": "fsl.ctc_align(x, few, num_threads=2)",
    "decode": "fsl.ctc_greedy_decode(x, num_threads=2)",
    "crf": "fsl.crf_loss(x, classes, between, return_grad=True, num_threads=2)",
    "crf decode": "fsl.crf_decode(x, between, num_threads=2)",
    "cross entropy": "fsl.softmax_cross_entropy(x, classes, return_grad=True, num_threads=2)",
    "mse": "fsl.mse_loss(x, x, return_grad=True, num_threads=2)",
    "hinge": "fsl.multiclass_hinge_loss(x, classes, return_grad=True, num_threads=2)",
}


def ends(call):
    process = python(MANY + ENDS.format(call=call))
    assert process.returncode == 0, (process.returncode, process.stderr)


needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="a thread of Windows' that ends leaves its stack to no other"
)


@pytest.mark.thorough
@needs_posix
def test_daemon_thread():
    """One that asks for the GIL then is ended where it stands: no other worker may use its stack any longer."""
    ends(CALLS["ctc"])


@needs_posix
@pytest.mark.thorough
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_daemon_threads_in_every_kernel(call):
    for _ in range(2):
        ends(call)
