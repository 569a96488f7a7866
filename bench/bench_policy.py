"""asv benchmarks of the reward-weighted losses."""

from bench import sides_policy
from bench.timed import _Timed


class ClippedPolicy(_Timed):
    """Vocabularies and small action spaces in float32, with every term, at one and two threads."""

    params = (list(sides_policy.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        self.calls = sides_policy.calls(workload, threads)
