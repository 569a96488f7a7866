"""asv benchmarks of losses of a vector of scores and a vector of targets at each step."""

from bench import sides_steps, sides_vectors
from bench.timed import _Timed


class Vectors(_Timed):
    """Divergences, sparsemax, cosine distance and labels, of many and few classes, at one and two threads."""

    params = (list(sides_vectors.workloads()), [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        loss, shape = sides_vectors.workloads()[workload]
        self.calls = sides_steps.our_calls(loss, loss.batch(shape), threads)
