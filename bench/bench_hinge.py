"""asv benchmarks of the hinge losses."""

from bench import sides_steps
from bench.timed import _Elementwise
from fastseqloss.steps.registry import SIGNS


class Hinge(_Elementwise):
    """Arrays larger than the caches, at one and two threads."""

    params = (
        sides_steps.names(lambda row: row.targets == SIGNS or (row.parameter and row.parameter.name == "margin")),
        [1, 2],
    )
