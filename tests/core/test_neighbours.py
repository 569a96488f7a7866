"""In one process, or in the workers, of libraries that start threads and processes themselves."""

import pytest

from processes import printed, printed_by_file
from thoroughness import thorough

# Work for many threads; what it returns: threads by default, workers of a region and at work, losses.
WORKER = """
import os, threading
import numpy as np

def work(seed):
    import fastseqloss as fsl
    from fastseqloss._core import threads
    from fastseqloss._kernels import parallel
    threads.LEAST_WORK = 0
    x = np.random.default_rng(seed).normal(size=(16, 200, 20))
    losses = fsl.ctc_loss(x, np.full((16, 30), 3), reduction="none")
    return fsl.get_num_threads(), parallel.threads.workers(), losses.tolist()

def check(answers):
    import fastseqloss as fsl
    for seed, (_, _, losses) in enumerate(answers):
        x = np.random.default_rng(seed).normal(size=(16, 200, 20))
        assert losses == fsl.ctc_loss(x, np.full((16, 30), 3), reduction="none", num_threads=1).tolist()

def cpus():
    from fastseqloss._core import threads
    return threads.processors()

"""


@pytest.mark.parametrize("backend", [thorough("loky"), thorough("multiprocessing")])
def test_joblib_processes(tmp_path, backend):
    """All workers together have no more threads than there are CPUs."""
    code = f"""
import joblib
if __name__ == "__main__":
    n = cpus()
    answers = joblib.Parallel(n_jobs=n, backend={backend!r})(joblib.delayed(work)(seed) for seed in range(3 * n))
    check(answers)
    assert all(threads == 1 and workers == 1 for threads, (workers, _), _ in answers), answers
    if {backend!r} == "loky":
        with joblib.parallel_config({backend!r}, inner_max_num_threads=1):
            answers = joblib.Parallel(n_jobs=2)(joblib.delayed(work)(seed) for seed in range(4))
        assert all(threads == 1 for threads, _, _ in answers), answers
    print("done")
"""
    assert printed_by_file(tmp_path, WORKER + code) == "done"


def test_joblib_threads(tmp_path):
    """Threads that call share the cores: as many are at work as for one call alone."""
    code = """
import joblib
if __name__ == "__main__":
    from fastseqloss._core import threads
    threads.processors = lambda: 4
    threads.runtime = type("Four", (), {"openmp": lambda: 201511, "openmp_threads": lambda: 4})
    answers = joblib.Parallel(n_jobs=4, backend="threading")(joblib.delayed(work)(seed) for seed in range(16))
    check(answers)
    assert all(threads == 4 and workers <= 4 and running <= 4 for threads, (workers, running), _ in answers), answers
    print("done")
"""
    assert printed_by_file(tmp_path, WORKER + code) == "done"


@pytest.mark.corpus
def test_dask_processes(tmp_path):
    pytest.importorskip("distributed", reason="the extra `corpus` installs it")
    code = """
from distributed import Client, LocalCluster
if __name__ == "__main__":
    n = cpus()
    with LocalCluster(n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None,
                      host="127.0.0.1") as cluster, Client(cluster) as client:
        answers = client.gather(client.map(work, range(3 * n)))
    check(answers)
    assert all(threads == 1 and workers == 1 for threads, (workers, _), _ in answers), answers
    print("done")
"""
    assert printed_by_file(tmp_path, WORKER + code) == "done"


@pytest.mark.corpus
def test_dask_threads(tmp_path):
    """Tasks on the threads of one worker: those at work are never more than the tasks, or than one call asks for."""
    pytest.importorskip("distributed", reason="the extra `corpus` installs it")
    code = """
import dask
from distributed import Client, LocalCluster
if __name__ == "__main__":
    from fastseqloss._core import threads
    threads.processors = lambda: 4
    threads.runtime = type("Four", (), {"openmp": lambda: 201511, "openmp_threads": lambda: 4})
    with LocalCluster(n_workers=1, threads_per_worker=4, processes=False,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        answers = client.gather(client.map(work, range(16)))
    check(answers)
    more = dask.compute(*(dask.delayed(work)(seed) for seed in range(16)), scheduler="threads", num_workers=4)
    check(more)
    for threads, (workers, running), _ in [*answers, *more]:
        assert threads == 4 and workers <= 4 and running <= 4, (workers, running)
    print("done")
"""
    assert printed_by_file(tmp_path, WORKER + code) == "done"


OURS = "import numpy as np, fastseqloss as fsl"
THEIRS = "import torch; torch.set_num_threads(2)"


@pytest.mark.peers
@pytest.mark.parametrize("imports", [(OURS, THEIRS), (THEIRS, OURS)], ids=["before", "after"])
def test_pytorch_in_the_same_process(imports):
    """Two OpenMP runtimes, in turns and at once, whoever was first; results are what they are alone.

    Where PyTorch's is the one that this library was built with there is scikit-learn's besides.
    """
    pytest.importorskip("torch", reason="the extra `peers` installs it")
    code = """
import threading
from fastseqloss._core import threads
threads.processors, threads.LEAST_WORK = (lambda: 64), 0
x = np.random.default_rng(0).normal(size=(16, 200, 20))
labels = np.full((16, 30), 3)
from sklearn.metrics import pairwise_distances_argmin
points = np.random.default_rng(0).normal(size=(3000, 8))
square = torch.arange(300 * 300, dtype=torch.float64).reshape(300, 300) / 9e4

def ours(threads=3):
    loss, gradient = fsl.ctc_loss(x, labels, return_grad=True, reduction="none", num_threads=threads)
    return loss.tobytes() + gradient.tobytes()

def theirs():
    nearest = pairwise_distances_argmin(points, points[:200])
    return torch.softmax(square @ square, -1).sum().item() + square.sin().sum().item() + nearest.sum()

def several(function, wrong, n=20):
    expected = function()
    wrong.extend(i for i in range(n) if function() != expected)

alone = ours(1)
assert ours() == alone
first = theirs()
for _ in range(5):
    assert ours() == alone and theirs() == first
wrong = []
threads = [threading.Thread(target=several, args=(function, wrong)) for function in (ours, theirs, ours)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong
fsl.set_num_threads(None)
import threadpoolctl
with threadpoolctl.threadpool_limits(1):
    assert fsl.get_num_threads() == 1 and torch.get_num_threads() == 1
    assert ours(None) == alone
print("done")
"""
    assert printed("\n".join(imports) + code, warnings="default", timeout=300) == "done"
