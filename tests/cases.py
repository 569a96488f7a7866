"""CTC problems for the tests, and how closely an answer must agree with the reference."""

from dataclasses import dataclass
from functools import cached_property

import hypothesis.strategies as st
import ml_dtypes
import numpy as np

from reference import ctc as reference

KINDS = ("logits", "log_probs", "probs")
SCALES = (0.1, 1.0, 10.0, 1e2, 1e4)
HALF = (np.float16, ml_dtypes.bfloat16)
JUNK = -77  # a label that no class has, for the padding


@dataclass
class Case:
    """A batch. Scores are NaN in the padding, padded labels JUNK: neither may ever be read."""

    scores: np.ndarray  # [B, T, V]
    tokens: list[np.ndarray]
    lengths: np.ndarray
    blank: int
    kind: str = "logits"

    @property
    def label_lengths(self) -> np.ndarray:
        return np.array([len(y) for y in self.tokens], np.int64)

    @property
    def labels(self) -> np.ndarray:
        padded = np.full((len(self.tokens), max([0, *self.label_lengths])), JUNK)
        for row, y in zip(padded, self.tokens, strict=True):
            row[: len(y)] = y
        return padded

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.scores, self.labels, self.lengths, self.label_lengths

    @property
    def options(self) -> dict:
        return {"blank": self.blank, "input": self.kind}

    @cached_property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Loss [B] of each sequence and the gradient of their sum."""
        return reference.ctc_batch(self.scores, self.tokens, self.lengths, self.blank, self.kind)

    def sequence(self, b: int) -> "Case":
        """Sequence b as a batch of one, without its padding."""
        n = self.lengths[b : b + 1]
        return Case(self.scores[b : b + 1, : n[0]], self.tokens[b : b + 1], n, self.blank, self.kind)

    def check(self, loss: np.ndarray, gradient: np.ndarray) -> None:
        """The answer for reduction "none" is right, and 0 in the padding."""
        assert (loss.dtype, loss.shape) == (np.float64, self.lengths.shape)
        assert (gradient.dtype, gradient.shape) == (self.scores.dtype, self.scores.shape)
        padding = np.arange(self.scores.shape[1]) >= self.lengths[:, None]
        assert not gradient[padding].any()
        assert_close(loss, gradient, *self.expected, self.scores, self.kind)

    def check_entropy(self, entropy: np.ndarray, gradient: np.ndarray, tolerance: float = 1e-11) -> None:
        """The answer of `ctc_entropy` for reduction "none" is right, and 0 in the padding."""
        assert (entropy.dtype, entropy.shape) == (np.float64, self.lengths.shape)
        assert (gradient.dtype, gradient.shape) == (self.scores.dtype, self.scores.shape)
        assert (entropy >= 0).all()
        expected, slope = reference.entropy_batch(self.scores, self.tokens, self.lengths, self.blank, self.kind)
        np.testing.assert_allclose(entropy, expected, rtol=tolerance, atol=tolerance)
        wide, rounding = gradient.astype(np.float64), {2: 2.0**-8, 4: 2.0**-22, 8: tolerance}[gradient.dtype.itemsize]
        assert not wide[np.arange(wide.shape[1]) >= self.lengths[:, None]].any()
        if self.kind == "probs":  # as exact as the derivative with respect to the log-probability
            inside = np.abs(slope) < float(ml_dtypes.finfo(gradient.dtype).max) / 2
            p = np.where(inside, self.scores, 0).astype(np.float64)
            wide, slope = (np.where(p > 0, x * p, x) for x in (np.where(inside, wide, 0), np.where(inside, slope, 0)))
        np.testing.assert_allclose(wide, slope, rtol=rounding, atol=rounding if rounding > 1e-3 else tolerance)


def assert_close(loss, gradient, expected_loss, expected_gradient, scores, kind) -> None:
    """Loss and gradient agree with the reference as closely as the dtype of the scores promises.

    float32: loss within 1e-6 max(1, |loss|), gradient within 2e-6 for scores of order 1 and 1e-5
    beyond. float64: 1e-12, plus what no float64 arithmetic avoids: x - max rounds to eps |x|, and
    a path adds up T of those differences. Half precision: as float32, then rounded to the dtype. A
    derivative with respect to probabilities goes as 1/p: the same figures relative to its size.
    """
    wide = scores.astype(np.float64)
    largest = np.abs(wide[np.isfinite(wide)]).max(initial=0) if kind != "probs" else 0
    loss_tolerance = tolerance = 1e-12
    unavoidable = np.finfo(np.float64).eps * largest * (scores.shape[-2] + 4)
    if scores.dtype != np.float64:
        loss_tolerance, tolerance = 1e-6, 2e-6 if largest < 10 else 1e-5
    _assert_within(loss, expected_loss, loss_tolerance, unavoidable, 0, "loss")
    # A derivative with respect to a probability near 0 may leave the range of the dtype.
    gradient, largest = gradient.astype(np.float64), float(ml_dtypes.finfo(scores.dtype).max)
    beyond = np.abs(expected_gradient) >= largest
    assert np.all(np.abs(gradient[beyond]) > 1e-3 * largest)
    gradient, expected_gradient = (np.where(beyond, 0, g) for g in (gradient, expected_gradient))
    rounding = {np.dtype(np.float16): 2.0**-11, np.dtype(ml_dtypes.bfloat16): 2.0**-8}.get(scores.dtype, 0)
    _assert_within(gradient, expected_gradient, tolerance, unavoidable, rounding, "gradient")


def assert_same_loss(actual, expected) -> None:
    """Losses with and without a gradient: other blocks, the same numbers but for rounding."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def _assert_within(actual, expected, tolerance, unavoidable, rounding, name) -> None:
    """|actual - expected| <= tolerance max(1, |expected|) + unavoidable + rounding |expected|."""
    size = np.where(np.isfinite(expected), np.maximum(1, np.abs(expected)), 1)
    np.testing.assert_allclose(
        actual / size, expected / size, rtol=rounding, atol=tolerance + unavoidable, err_msg=name
    )


def scores_like(logits: np.ndarray, kind: str, dtype: type = np.float64) -> np.ndarray:
    """The same model output as logits, log-probabilities or probabilities, rounded to `dtype`.

    Probabilities so small that 1/p leaves the range of the dtype become 0.
    """
    if kind == "logits":
        return logits.astype(dtype)
    if kind == "log_probs":
        return reference.log_softmax(logits).astype(dtype)
    probs = reference.softmax(logits).astype(np.float64)
    smallest = {np.float64: 1e-300, np.float32: 1e-30}.get(dtype, 1e-4)
    return np.where(probs < smallest, 0, probs).astype(dtype)


def random_tokens(rng: np.random.Generator, count: int, classes: int, blank: int, repeats: float) -> np.ndarray:
    """Labels, each equal to the one before with probability `repeats` (and by chance)."""
    allowed = np.delete(np.arange(classes), blank)
    tokens = rng.choice(allowed, count if len(allowed) else 0)
    for i in range(1, len(tokens)):
        if rng.random() < repeats:
            tokens[i] = tokens[i - 1]
    return tokens


def random_case(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    *,
    blank: int = 0,
    kind: str = "logits",
    dtype: type = np.float64,
    scale: float = 1.0,
    repeats: float = 0.2,
    full: bool = False,
) -> Case:
    """A random problem of B, T, V, S at most; `full` makes every sequence as long as that."""
    batch, frames, classes, count = shape
    logits = rng.normal(scale=scale, size=(batch, frames, classes))
    lengths = np.full(batch, frames) if full else rng.integers(0, frames, batch, endpoint=True)
    counts = np.full(batch, count) if full else rng.integers(0, count, batch, endpoint=True)
    scores = scores_like(logits, kind, dtype)
    scores[np.arange(frames) >= lengths[:, None]] = np.nan
    tokens = [random_tokens(rng, n, classes, blank, repeats) for n in counts]
    return Case(scores, tokens, lengths, blank, kind)


@st.composite
def cases(
    draw,
    *,
    kinds=KINDS,
    dtypes=(np.float64, np.float32),
    scales=SCALES,
    smallest=0,
    largest=(4, 14, 8, 6),
):
    """Random problems of at least `smallest` sequences and at most `largest` B, T, V, S.

    The numbers come from a seed, which shrinks well enough.
    """
    batch, frames, classes, count = (
        draw(st.integers(low, high)) for low, high in zip((smallest, 0, 1, 0), largest, strict=True)
    )
    return random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        (batch, frames, classes, count),
        blank=draw(st.integers(-classes, classes - 1)),
        kind=draw(st.sampled_from(kinds)),
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from(scales)),
        repeats=draw(st.sampled_from((0.0, 0.3, 1.0))),
        full=draw(st.booleans()),
    )
