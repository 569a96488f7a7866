"""asv benchmarks of the reward-weighted losses, and of returns and advantages."""

from functools import partial

import numpy as np

import fastseqloss as fsl
from bench import sides_policy
from bench.timed import _Timed


class ClippedPolicy(_Timed):
    """Vocabularies and small action spaces in float32, with every term, at one and two threads."""

    params = (list(sides_policy.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        self.calls = sides_policy.calls(workload, threads)


class Returns:
    """Returns and advantages of long rollouts of several episodes, with a discount for each step."""

    params = (["generalized_advantages", "n_step_returns", "vtrace_returns", "retrace_returns", "group_advantages"],)
    param_names = ("function",)

    def setup(self, name):
        rng = np.random.default_rng(0)
        rewards, *values = rng.normal(size=(4, 64, 2048))
        if name == "group_advantages":
            self.call = partial(fsl.group_advantages, rewards)
            return
        n_values = {"vtrace_returns": 2, "retrace_returns": 3}.get(name, 1)
        options = {"discount": rng.random((64, 2048)), "done": rng.random((64, 2048)) < 0.01}
        options |= {"n": 5} if name == "n_step_returns" else {}
        self.call = partial(getattr(fsl, name), rewards, *values[:n_values], **options)

    def time_call(self, _):
        self.call()
