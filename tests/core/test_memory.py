"""Memory: none is lost, and where there is none that is said."""

import sys
import sysconfig

import pytest

from processes import printed
from thoroughness import thorough

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, to limit and to count memory")

# Every public function, and errors on the way. With PYTHONMALLOC=malloc the C library counts all of it, a few kilobytes
# among them that are free, but kept for the next allocation.
LEAKS = """
import ctypes, gc, resource, sys, tracemalloc
import numpy as np
import fastseqloss as fsl
from public_calls import public_calls

class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]

mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)

def in_use():
    gc.collect()
    if mallinfo is None:
        return 0
    mallinfo.restype = Counts
    counts = mallinfo()
    return counts.uordblks + counts.hblkhd

def fails(error, function, *arguments, **keywords):
    def call(threads):
        try:
            function(*arguments, **keywords, num_threads=threads)
        except error:
            return
        raise AssertionError(function)
    return call

x, y = np.zeros((3, 6, 5), np.float32), np.zeros((3, 6), np.float32)
fixed = np.zeros((3, 6, 5), np.float32)
fixed.flags.writeable = False
gradient = {{"return_grad": True}}
calls = public_calls(3, 8, 5) | {{
    "a label too large": fails(ValueError, fsl.ctc_loss, x, [[1, 5]] * 3, **gradient),
    "too many labels": fails(ValueError, fsl.ctc_loss, x, [[1] * 6] * 3, infeasible="raise", **gradient),
    "a shape": fails(ValueError, fsl.ctc_align, y[0], [1, 2]),
    "a target too large": fails(ValueError, fsl.softmax_cross_entropy, x, np.full((3, 6), 5), **gradient),
    "a target that is no share": fails(ValueError, fsl.binary_cross_entropy, y, y + 2, **gradient),
    "found before writing": fails(ValueError, fsl.hinge_loss, y, y, grad_out=np.zeros_like(y)),
    "a gradient that is read-only": fails(ValueError, fsl.multiclass_hinge_loss, x, y.astype(int), grad_out=fixed),
    "a tag too large": fails(ValueError, fsl.crf_loss, x, np.full((3, 6), 5), np.zeros((5, 5)), **gradient),
    "a type": fails(TypeError, fsl.policy_gradient_loss, x, y, y, **gradient),
    "lengths": fails(ValueError, fsl.mse_loss, y, y, [7, 6, 6], **gradient),
    "threads": fails(ValueError, lambda num_threads: fsl.mse_loss(y, y, num_threads=0)),
}}

def rounds(n, threads):
    for call in calls.values():
        for _ in range(n):
            call(threads)

from fastseqloss._core import threads
threads.processors, threads.LEAST_WORK = (lambda: 2), 0
gc.freeze()
n = {n}
for threads in (1, 2):
    rounds(n // 5, threads)
resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, call in calls.items():
    grown = []
    for _ in range(12):  # Python's own caches fill up, for some thousand calls: what is lost is lost every time
        before = in_use()
        for i in range(n):
            call(1 + i % 2)
        grown.append(in_use() - before)
        if grown[-1] < 16 * n + 8000:
            break
    else:
        raise AssertionError(name, grown)
tracemalloc.start()
grown = []
for _ in range(8):  # caches again
    before = tracemalloc.get_traced_memory()[0]
    rounds(n // 5, 2)
    gc.collect()
    grown.append(tracemalloc.get_traced_memory()[0] - before)
    if grown[-1] < 8000:
        break
else:
    raise AssertionError(grown)
if {report}:
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    print(len(calls), "calls,", 3 * n, "times each: traced", grown[-1], "bytes, resident", resident, "KiB")
print("done")
"""


@needs_linux
@pytest.mark.parametrize("n", [50, thorough(120)])
def test_no_memory_is_lost(n):
    code = LEAKS.format(n=n, report=False)
    # Free-threaded Python allocates for itself whatever it is told.
    options = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"PYTHONMALLOC": "malloc"}
    assert printed(code, timeout=300, **options) == "done"


# For workspaces of hundreds of threads, and too little memory for them.
STARVED = """
import resource
import numpy as np, fastseqloss as fsl
from fastseqloss._core import threads
from fastseqloss._kernels import parallel
threads.processors, threads.LEAST_WORK = (lambda: 10_000), 0
parallel.threads.always_help(True)
rng = np.random.default_rng(0)
wide, classes = np.zeros((400, 1, 30_000), np.float32), np.zeros((400, 1), int)
numbers = np.zeros((400, 1))
long, labels = np.broadcast_to(np.float32(0), (400, 2000, 4)), np.ones((400, 400), int)
nodes = np.broadcast_to(np.zeros(4, np.float32), (400, 1000, 401, 4))
tags, between = np.zeros((400, 2000), int), np.zeros((4, 4))
lengths = np.full(400, 9)
lengths[7] = 2000
small, few = rng.normal(size=(80, 60, 7)).astype(np.float32), rng.integers(1, 7, (80, 9))
expected = fsl.ctc_loss(small, few, return_grad=True, num_threads=1)

def starve(left):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + left, resource.RLIM_INFINITY))
"""

CALLS = """
calls = {
    "ctc, classes": lambda: fsl.ctc_loss(wide, [[1]] * 400, num_threads=400),
    "ctc, lattice": lambda: fsl.ctc_loss(long, labels, infeasible="zero", num_threads=400),
    "posteriors": lambda: fsl.ctc_posteriors(wide, [[1]] * 400, num_threads=400),
    "confidences": lambda: fsl.ctc_confidences(wide, [[1]] * 400, num_threads=400),
    "align, classes": lambda: fsl.ctc_align(wide, [[1]] * 400, num_threads=400),
    "transducer, classes": lambda: fsl.rnnt_loss(wide[:, None], [[]] * 400, num_threads=400),
    "transducer, lattice": lambda: fsl.rnnt_loss(nodes, labels, num_threads=400),
    "transducer, path": lambda: fsl.rnnt_align(nodes, labels, num_threads=400),
    "transducer, durations": lambda: fsl.tdt_loss(nodes, nodes, labels, durations=[0, 1, 2, 3], num_threads=400),
    "cross entropy": lambda: fsl.softmax_cross_entropy(wide, classes, num_threads=400),
    "nll": lambda: fsl.nll_loss(wide, classes, num_threads=400),
    "hinge": lambda: fsl.multiclass_hinge_loss(wide, classes, num_threads=400),
    "policy": lambda: fsl.policy_gradient_loss(wide, classes, numbers, num_threads=400),
    "crf": lambda: fsl.crf_loss(long, tags, between, lengths, num_threads=400),
    "crf, partition": lambda: fsl.crf_log_partition(long, between, lengths, num_threads=400),
    "soft-DTW": lambda: fsl.soft_dtw_loss(long[:, :, :1], long[:, :, :1], num_threads=400),
    "structured hinge": lambda: fsl.structured_hinge_loss(long, tags, between, lengths, num_threads=400),
}
"""


@needs_linux
def test_no_memory_for_a_workspace():
    """MemoryError, and all is well as soon as there is memory again."""
    code = """
for name, call in calls.items():
    starve(32 << 20)
    message = "no error"
    try:
        call()
    except MemoryError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert message.startswith("no memory for a workspace"), (name, message)
    again = fsl.ctc_loss(small, few, return_grad=True, num_threads=3)
    assert again[0] == expected[0] and np.array_equal(again[1], expected[1]), name
print("done")
"""
    assert printed(STARVED + CALLS + code) == "done"


@needs_linux
def test_no_memory_for_threads():
    """If threads cannot be started, the call runs without them."""
    code = """
starve(16 << 20)
again = fsl.ctc_loss(small, few, return_grad=True, num_threads=60)
assert again[0] == expected[0] and np.array_equal(again[1], expected[1])
workers = parallel.threads.workers()[0]
assert workers < 60, workers
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fsl.ctc_loss(small, few, return_grad=True, num_threads=60)
assert parallel.threads.workers()[0] == (60 if parallel.threads.openmp() else 1)
print("done")
"""
    assert printed(STARVED + code) == "done"


@pytest.mark.thorough
@needs_linux
def test_pages_of_a_workspace_are_kept():
    """A call after another takes no memory from the system, even a workspace that allocators would return to it."""
    code = """
import resource
import numpy as np
import fastseqloss as fsl

logits = np.zeros((1, 1500, 801, 2), np.float32)
gradient, labels = np.empty_like(logits), np.ones((1, 800), int)
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fsl.rnnt_loss(logits, labels, grad_out=gradient, num_threads=1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""
    first, *later = map(int, printed(code).split())
    assert sum(later) < first / 10, (first, later)
