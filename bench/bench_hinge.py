"""asv benchmarks of the hinge losses."""

from bench.timed import _Elementwise


class Hinge(_Elementwise):
    """Arrays larger than the caches, at one and two threads."""

    params = (["hinge", "squared_hinge", "multiclass_hinge"], [1, 2])
