"""Children of processes that have used threads: their calls return, and are right."""

import os
import sys

import pytest

from processes import printed_by_file
from thoroughness import thorough

METHODS = ["spawn"]
if sys.platform != "win32":
    METHODS = ["fork", thorough("spawn"), thorough("forkserver")]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# The parent has run threads of its own before there are children, and solves again after them. Hanging ends at a time
# limit.
PROGRAM = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import fastseqloss as fsl
from fastseqloss._core import threads
from fastseqloss._kernels import parallel
from public_calls import public_calls

threads.processors, threads.LEAST_WORK = (lambda: 64), 0
parallel.threads.always_help(True)
workers = parallel.threads.workers

def had(n):
    # Workers of a region and at work after a call with n threads; a build without OpenMP has one.
    return (n if parallel.threads.openmp() else 1, 0)
calls = public_calls(12, 30, 9)

def solve(threads=None):
    return {name: [array.tobytes() for array in call(threads)] for name, call in calls.items()}

def child(threads=None):
    default = fsl.get_num_threads()
    answers = solve(threads)
    return default, workers(), answers

def put(queue, threads):
    queue.put(child(threads))

def in_fork(work):
    # The exit status of a child that does some work, -1 if it does not end in a minute.
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    for _ in range(6000):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1

def main():
{body}

if __name__ == "__main__":
    expected = solve(1)
    assert solve(4) == expected and workers() == had(4)
    main()
    assert solve(4) == expected and workers() == had(4)
    print("done")
"""


def run(folder, body):
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    assert printed_by_file(folder, PROGRAM.replace("{body}", lines)) == "done"


@pytest.mark.parametrize("method", METHODS)
def test_processes(tmp_path, method):
    """Forked children are single-threaded unless they say otherwise; others are processes like any."""
    body = """
context = multiprocessing.get_context("METHOD")
queue = context.Queue()
for threads in (None, 4):
    children = [context.Process(target=put, args=(queue, threads)) for _ in range(2)]
    for process in children:
        process.start()
    for _ in children:
        default, after, answers = queue.get(timeout=120)
        assert answers == expected
        assert default == 1 if "METHOD" == "fork" else default >= 1
        assert after == had(default if threads is None else 4), after
    for process in children:
        process.join(60)
        assert process.exitcode == 0
"""
    run(tmp_path, body.replace("METHOD", method))


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_pools(tmp_path, method):
    body = """
with multiprocessing.get_context("METHOD").Pool(2) as pool:
    for threads in (None, 4):
        for default, after, answers in pool.map_async(child, [threads] * 6).get(timeout=120):
            assert answers == expected
"""
    run(tmp_path, body.replace("METHOD", method))


# Programs of one process: each begins and ends with calls of the parent on several threads.
FORKS = {
    # Each generation may have several workers, and leaves its parent's alone.
    "children_of_children": """
def grandchild():
    return 0 if child()[::2] == (1, expected) else 3

def middle():
    fsl.set_num_threads(3)
    if solve() != expected or workers() != had(3):
        return 4
    status = in_fork(grandchild)
    return status if status or solve() == expected else 5

assert in_fork(middle) == 0
""",
    # Children of children, each with threads of its own by `num_threads` alone.
    "generations": """
def generation(left):
    if child(4) != (1, had(4), expected):
        return 3
    return in_fork(lambda: generation(left - 1)) if left else 0

assert in_fork(lambda: generation(3)) == 0
""",
    # The thread that forks has had several workers, and so has the main thread, which its children do not have.
    "fork_by_another_thread": """
statuses = []

def forks():
    if solve(4) == expected:
        for threads in (None, 4):
            statuses.append(in_fork(lambda: 0 if child(threads) == (1, had(threads or 1), expected) else 3))

thread = threading.Thread(target=forks)
thread.start()
thread.join()
assert statuses == [0, 0]
""",
    # None goes back to OpenMP's own number in a child.
    "none_goes_back_to_openmp_in_a_child": """
before = fsl.get_num_threads()

def work():
    if fsl.get_num_threads() != 1:
        return 3
    fsl.set_num_threads(None)
    return 0 if fsl.get_num_threads() == before else 4

assert in_fork(work) == 0
""",
}


@needs_fork
def test_forks(tmp_path):
    again = "assert solve(4) == expected and workers() == had(4)"
    run(tmp_path, "\n".join(f"# {name}\n{body}\n{again}" for name, body in FORKS.items()))


@needs_fork
@pytest.mark.parametrize("children", [2, thorough(10)])
def test_fork_while_other_threads_call(tmp_path, children):
    """The child is born in the middle of their calls, which it knows nothing of."""
    body = """
over, failed = threading.Event(), []

def busy():
    while not over.is_set():
        if solve(4) != expected:
            failed.append(True)

others = [threading.Thread(target=busy) for _ in range(3)]
for thread in others:
    thread.start()
statuses = [in_fork(lambda: 0 if child(threads)[2] == expected else 3) for threads in (1, 4) for _ in range(N)]
over.set()
for thread in others:
    thread.join()
assert statuses == [0] * 2 * N and not failed
"""
    run(tmp_path, body.replace("N", str(children)))


@pytest.mark.thorough
@needs_fork
def test_fork_by_a_handler_in_the_middle_of_a_call(tmp_path):
    """Parent and child both end the call, the child on one thread until it is told otherwise."""
    body = """
from long_calls import call_with_signal
children = []
loss, gradient = call_with_signal(signal.SIGUSR1, lambda number, frame: children.append(os.fork()), 4)
assert (loss == loss[0]).all() and (gradient == gradient[0]).all()
if children == [0]:
    assert workers() == (1, 0), workers()
    os._exit(0 if child(4)[1:] == (had(4), expected) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
"""
    run(tmp_path, body)
