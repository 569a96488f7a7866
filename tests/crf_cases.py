"""CRF problems for the tests, and how closely an answer must agree with the reference."""

from dataclasses import dataclass, replace

import hypothesis.strategies as st
import ml_dtypes
import numpy as np

from reference import crf as reference_crf

HALF = (np.float16, ml_dtypes.bfloat16)
JUNK = -77  # a tag that none is, for the padding


@dataclass
class Case:
    """A batch. Emissions are NaN in the padding, tags JUNK: neither may ever be read."""

    emissions: np.ndarray  # [B, T, K]
    tags: np.ndarray  # [B, T]
    transitions: np.ndarray  # [K, K]
    start: np.ndarray
    end: np.ndarray
    lengths: np.ndarray

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        return self.transitions, self.start, self.end

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.emissions, self.tags, self.transitions, self.lengths

    @property
    def potentials(self) -> tuple[np.ndarray, ...]:
        return self.emissions, self.transitions, self.lengths

    @property
    def ends(self) -> dict[str, np.ndarray]:
        return {"start": self.start, "end": self.end}

    def take(self, sequences) -> "Case":
        """Some of the sequences, in the order asked for."""
        return replace(
            self, emissions=self.emissions[sequences], tags=self.tags[sequences], lengths=self.lengths[sequences]
        )

    def sequence(self, b: int) -> "Case":
        """Sequence b as a batch of one, without its padding."""
        n = int(self.lengths[b])
        return replace(
            self, emissions=self.emissions[b : b + 1, :n], tags=self.tags[b : b + 1, :n], lengths=np.array([n])
        )

    def check(self, losses, gradients, function=reference_crf.loss, *more) -> None:
        """The answer for reduction "none" is right, and 0 in the padding."""
        expected, slopes = reference_crf.batch(function, self, *more)
        assert (losses.dtype, losses.shape) == (np.float64, self.lengths.shape)
        padding = np.arange(self.emissions.shape[1]) >= self.lengths[:, None]
        assert not gradients.emissions[padding].any()
        slack = self.rounding
        assert_within(losses, expected, 1e-12 + slack, "loss")
        inputs = (self.emissions, *self.parameters)
        for name, given, gradient, slope in zip(gradients._fields, inputs, gradients, slopes, strict=True):
            assert (gradient.dtype, gradient.shape) == (given.dtype, given.shape), name
            assert_within(gradient, slope, tolerance(given.dtype) + slack, name)

    @property
    def rounding(self) -> float:
        """Error that no float64 arithmetic avoids: differences of scores round to eps times their size, and a
        path adds up two of them at every step.
        """
        finite = [np.abs(x[np.isfinite(x)], dtype=float).max(initial=0) for x in (self.emissions, *self.parameters)]
        return 4 * np.finfo(float).eps * sum(finite) * (self.emissions.shape[1] + 4)


def tolerance(dtype) -> float:
    """Allowed error of a gradient, relative where it is above 1: that of float32 in the worst case is 2e-6."""
    widest = {"float64": 1e-12, "float32": 1e-6, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return widest[np.dtype(dtype).name]


def assert_within(actual, expected, allowed, name) -> None:
    size = np.where(np.isfinite(expected), np.maximum(1, np.abs(expected)), 1)
    actual = np.asarray(actual).astype(float)
    np.testing.assert_allclose(actual / size, expected / size, rtol=0, atol=allowed, err_msg=name)


def assert_same(actual, expected) -> None:
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, float), np.asarray(b, float))


def random_case(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    dtype: type = np.float64,
    parameter_dtype: type | None = None,
    scale: float = 1.0,
    step_scale: float = 1.0,
    forbidden: float = 0.0,
    full: bool = False,
) -> Case:
    """A random problem; `forbidden` is the share of potentials of -inf."""
    batch, frames, n_tags = shape

    def draw(size, spread):
        x = rng.normal(scale=spread, size=size)
        x[rng.random(size) < forbidden] = -np.inf
        return x

    lengths = np.full(batch, frames) if full else rng.integers(0, frames, batch, endpoint=True)
    padding = np.arange(frames) >= lengths[:, None]
    emissions, tags = draw(shape, scale).astype(dtype), rng.integers(0, n_tags, shape[:2])
    emissions[padding], tags[padding] = np.nan, JUNK
    sizes = ((n_tags, n_tags), (n_tags,), (n_tags,))
    parameters = [draw(size, step_scale).astype(parameter_dtype or dtype) for size in sizes]
    return Case(emissions, tags, *parameters, lengths)


@st.composite
def cases(
    draw,
    *,
    dtypes=(np.float64, np.float32),
    scales=(0.1, 1.0, 10.0, 1e2, 1e3),
    forbidden=(0.0, 0.0, 0.1, 0.5),
    smallest=0,
    largest=(10, 12, 12),
):
    """Random problems of at least `smallest` sequences and at most `largest` B, T, K."""
    low = (smallest, smallest and 1, 1)
    shape = tuple(draw(st.integers(least, most)) for least, most in zip(low, largest, strict=True))
    return random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        shape,
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from(scales)),
        step_scale=draw(st.sampled_from(scales)),
        forbidden=draw(st.sampled_from(forbidden)),
        full=draw(st.booleans()),
    )
