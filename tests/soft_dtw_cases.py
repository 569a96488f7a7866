"""Soft-DTW problems for the tests, and how closely an answer must agree with the reference."""

from dataclasses import dataclass, replace

import hypothesis.strategies as st
import ml_dtypes
import numpy as np

from reference import soft_dtw as reference

HALF = (np.float16, ml_dtypes.bfloat16)


@dataclass
class Case:
    """A batch. Series are NaN in the padding, costs too: neither may ever be read."""

    x: np.ndarray  # [B, N, D]
    y: np.ndarray  # [B, M, D]
    lengths_x: np.ndarray
    lengths_y: np.ndarray
    gamma: float = 1.0
    band: int | None = None

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.x, self.y, self.lengths_x, self.lengths_y

    @property
    def options(self) -> dict:
        return {"gamma": self.gamma, "band": self.band}

    @property
    def costs(self) -> np.ndarray:
        """Squared distances [B, N, M] in float64, NaN in the padding and outside the band."""
        x, y = (a.astype(np.float64) for a in (self.x, self.y))
        costs = ((x[:, :, None] - y[:, None]) ** 2).sum(axis=-1)
        i, j = np.indices(costs.shape[1:])
        costs[:, np.abs(i - j) > self.width] = np.nan
        return costs

    @property
    def width(self) -> int:
        return max(self.x.shape[1], self.y.shape[1]) if self.band is None else self.band

    def pair(self, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Both series of a pair, without padding."""
        return self.x[b, : self.lengths_x[b]], self.y[b, : self.lengths_y[b]]

    def take(self, pairs) -> "Case":
        """Some of the pairs, in the order asked for."""
        arrays = ("x", "y", "lengths_x", "lengths_y")
        return replace(self, **{name: getattr(self, name)[pairs] for name in arrays})

    def expected(self, function=reference.series_loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses [B], and the gradients of their sum."""
        losses, slope_x, slope_y = np.zeros(len(self.x)), np.zeros(self.x.shape), np.zeros(self.y.shape)
        for b, (n, m) in enumerate(zip(self.lengths_x, self.lengths_y, strict=True)):
            losses[b], slope_x[b, :n], slope_y[b, :m] = function(*self.pair(b), self.gamma, self.band)
        return losses, slope_x, slope_y

    @property
    def scale(self) -> float:
        """The largest cost of a pair."""
        sizes = [np.abs(a[np.isfinite(a)].astype(float)).max(initial=0) for a in (self.x, self.y)]
        return 4 * self.x.shape[2] * max(sizes) ** 2

    def check(self, losses, gradients, function=reference.series_loss) -> None:
        """The answer for reduction "none" is right, and 0 in the padding."""
        expected, *slopes = self.expected(function)
        assert (losses.dtype, losses.shape) == (np.float64, self.lengths_x.shape)
        steps = self.x.shape[1] + self.y.shape[1]
        # A path adds up that many costs; their sum divided by gamma is rounded before it is exponentiated.
        rounding = 8 * np.finfo(float).eps * (self.scale + self.gamma) * (steps + 4)
        np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=rounding)
        for given, lengths, gradient, slope in zip(
            (self.x, self.y), (self.lengths_x, self.lengths_y), gradients, slopes, strict=True
        ):
            assert (gradient.dtype, gradient.shape) == (given.dtype, given.shape)
            padding = np.arange(given.shape[1]) >= lengths[:, None]
            assert not gradient[padding].any()
            size = max(1.0, np.abs(slope).max(initial=0))
            allowed = tolerance(given.dtype) + rounding / self.gamma
            np.testing.assert_allclose(gradient.astype(float), slope, rtol=0, atol=allowed * size)


def tolerance(dtype) -> float:
    """Allowed error of a gradient, relative to its largest entry."""
    widest = {"float64": 1e-12, "float32": 1e-7, "float16": 2.0**-11, "bfloat16": 2.0**-8}
    return widest[np.dtype(dtype).name]


def random_case(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    *,
    dtype: type = np.float64,
    scale: float = 1.0,
    gamma: float = 1.0,
    band: int | None = None,
    full: bool = False,
) -> Case:
    """A random problem of B, N, M, D; lengths are 1 at least, as far apart as the band allows."""
    batch, rows, columns, features = shape
    x = (scale * rng.normal(size=(batch, rows, features))).astype(dtype)
    y = (scale * rng.normal(size=(batch, columns, features))).astype(dtype)
    lengths_x, lengths_y = np.full(batch, rows), np.full(batch, columns)
    if not full:
        lengths_x = rng.integers(1, rows, batch, endpoint=True)
        lengths_y = rng.integers(1, columns, batch, endpoint=True)
    if band is not None:
        lengths_x, lengths_y = np.minimum(lengths_x, lengths_y + band), np.minimum(lengths_y, lengths_x + band)
    for series, lengths in ((x, lengths_x), (y, lengths_y)):
        series[np.arange(series.shape[1]) >= lengths[:, None]] = np.nan
    return Case(x, y, lengths_x, lengths_y, gamma, band)


@st.composite
def cases(
    draw,
    *,
    dtypes=(np.float64, np.float32),
    scales=(0.1, 1.0, 10.0),
    gammas=(1e-3, 0.1, 1.0, 30.0),
    bands=(None, None, 0, 1, 2, 5),
    smallest=0,
    largest=(3, 12, 12, 5),
):
    """Random problems of at least `smallest` pairs and at most `largest` B, N, M, D. The numbers come from a seed."""
    shape = tuple(draw(st.integers(low, high)) for low, high in zip((smallest, 1, 1, 1), largest, strict=True))
    return random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        shape,
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from(scales)),
        gamma=draw(st.sampled_from(gammas)),
        band=draw(st.sampled_from(bands)),
        full=draw(st.booleans()),
    )
