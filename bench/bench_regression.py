"""asv benchmarks of the regression losses."""

from bench import sides_steps
from bench.timed import _Elementwise, _Timed
from fastseqloss.steps.registry import COUNTS, NUMBERS


class Regression(_Elementwise):
    """Arrays larger than the caches, at one and two threads."""

    params = (sides_steps.names(lambda row: row.targets in (COUNTS, NUMBERS)), [1, 2])


class Gaussian(_Timed):
    """Predicted means and logarithms of variances, at one and two threads."""

    params = ([1, 2],)
    param_names = ("threads",)

    def setup(self, threads):
        batch = sides_steps.GAUSSIAN.batch(sides_steps.MEANS_AND_VARIANCES)
        self.calls = sides_steps.our_calls(sides_steps.GAUSSIAN, batch, threads)
