"""Compare two threads with one while another program keeps a core busy: python bench/busy.py [blocks] [--idle].

Blocks of calls, of about 60 ms of CPU time each, run on one thread or on two in random order. The wall and CPU times of
all blocks are added. Single calls would be misleading, because the scheduler compensates other programs in later calls.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

import fastseqloss as fsl

SPIN = "import os\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {cpu})\nwhile True: pass"
BLOCK = 0.06  # seconds


def calls(rng: np.random.Generator) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Losses with gradients, as a function of the number of threads."""

    def scores(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=shape).astype(np.float32)
        return x, np.empty_like(x)

    x, g = scores(16, 1000, 32)
    y = rng.integers(1, 32, (16, 150))
    yield "ctc 16, 1000, 32, 150", lambda n, x=x, y=y, g=g: fsl.ctc_loss(x, y, grad_out=g, num_threads=n)
    for shape in ((1024, 8000), (4096, 256)):
        x, g = scores(*shape)
        y = rng.integers(0, shape[1], shape[0])
        yield (
            f"cross-entropy {shape[0]}, {shape[1]}",
            lambda n, x=x, y=y, g=g: fsl.softmax_cross_entropy(x, y, grad_out=g, num_threads=n),
        )
    x, _ = scores(64, 100, 45)
    y, between = rng.integers(0, 45, (64, 100)), scores(45, 45)[0]
    yield "crf 64, 100, 45", lambda n, x=x, y=y: fsl.crf_loss(x, y, between, return_grad=True, num_threads=n)
    x, g = scores(2048, 2048)
    y = scores(2048, 2048)[0]
    yield "mse 2048, 2048", lambda n, x=x, y=y, g=g: fsl.mse_loss(x, y, grad_out=g, num_threads=n)
    x, g = scores(512, 2048)
    y = rng.random((512, 2048)).astype(np.float32)
    yield "binary 512, 2048", lambda n, x=x, y=y, g=g: fsl.binary_cross_entropy(x, y, grad_out=g, num_threads=n)


def measure(call: Callable[[int], object], blocks: int, rng: np.random.Generator) -> np.ndarray:
    """Milliseconds of a call: [one thread, two threads] x [wall, CPU]."""
    call(2)
    began = time.process_time()
    call(1)
    n = max(1, int(BLOCK / max(time.process_time() - began, 1e-6)))
    times = np.zeros((2, 2))
    for threads in rng.permutation([1, 2] * blocks):
        before = np.array([time.perf_counter(), time.process_time()])
        for _ in range(n):
            call(int(threads))
        times[threads - 1] += [time.perf_counter(), time.process_time()] - before
    return times * 1e3 / (blocks * n)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("blocks", nargs="?", type=int, default=20)
    parser.add_argument("--idle", action="store_true", help="no busy program, for comparison")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    spin = None if options.idle else subprocess.Popen([sys.executable, "-c", SPIN.format(cpu={cpus[-1]})])
    try:
        print(f"{'workload':24}{'one thread':>12}{'two':>9}{'ratio':>8}{'CPU ratio':>11}")
        for name, call in calls(rng):
            (one, one_cpu), (two, two_cpu) = measure(call, options.blocks, rng)
            print(f"{name:24}{one:9.2f} ms{two:9.2f}{two / one:8.2f}{two_cpu / one_cpu:11.2f}", flush=True)
    finally:
        if spin is not None:
            spin.kill()
            spin.wait()


if __name__ == "__main__":
    main()
