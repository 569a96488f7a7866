"""asv benchmarks of the regression losses."""

from bench.timed import _Elementwise


class Regression(_Elementwise):
    """Arrays larger than the caches, at one and two threads."""

    params = (["mse", "mae", "huber", "quantile"], [1, 2])
