"""asv benchmarks of the regression losses."""

from bench import sides_steps
from bench.timed import _Elementwise
from fastseqloss.steps.registry import COUNTS, NUMBERS


class Regression(_Elementwise):
    """Arrays larger than the caches, at one and two threads."""

    params = (sides_steps.names(lambda row: row.targets in (COUNTS, NUMBERS)), [1, 2])
