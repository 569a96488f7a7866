"""asv benchmarks of soft-DTW."""

import numpy as np

from bench import sides_soft_dtw


class SoftDTW:
    """The workloads of the comparison, at one and two threads."""

    params = (list(sides_soft_dtw.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 120

    def setup(self, workload, threads):
        self.calls = sides_soft_dtw.our_calls(sides_soft_dtw.WORKLOADS[workload], threads)

    def time_gradient(self, workload, threads):
        self.calls["gradient"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()

    def time_band(self, workload, threads):
        self.calls["band"]()

    def time_series(self, workload, threads):
        self.calls["series"]()

    def time_divergence(self, workload, threads):
        self.calls["divergence"]()


class SoftDTWAccuracy:
    """Largest error of the posteriors."""

    params = tuple(sides_soft_dtw.WORKLOADS)
    param_names = ("workload",)

    def setup(self, workload):
        shape = sides_soft_dtw.WORKLOADS[workload]
        self.costs, self.gamma = sides_soft_dtw.costs_of(shape)[:1], shape[3]

    def track_error(self, workload):
        exact = sides_soft_dtw.exact_posteriors(self.costs, self.gamma)
        return float(np.abs(sides_soft_dtw.our_posteriors(self.costs, self.gamma) - exact).max())

    track_error.unit = "1"
