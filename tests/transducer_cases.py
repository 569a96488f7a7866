"""Transducer problems for the tests, and how closely an answer must agree with the reference."""

from dataclasses import dataclass, replace
from functools import cached_property

import hypothesis.strategies as st
import numpy as np

import cases as ctc_cases
from cases import HALF, JUNK, assert_close
from reference import transducer as reference

__all__ = ["HALF", "Case", "TDTCase", "additive", "cases", "random_case", "random_ranges", "random_tdt", "tdt_cases"]

SCALES = (0.1, 1.0, 10.0, 1e2, 1e4)
VARIANTS = (  # input, blank_model, topology
    ("logits", "softmax", "regular"),
    ("logits", "softmax", "modified"),
    ("logits", "hat", "regular"),
    ("logits", "hat", "modified"),
    ("log_probs", "softmax", "regular"),
    ("log_probs", "softmax", "modified"),
    ("probs", "softmax", "regular"),
)


@dataclass
class Case:
    """A batch. Scores are NaN in the padding, padded labels JUNK: neither may ever be read."""

    scores: np.ndarray  # [B, T, U + 1, V], or [B, T, R, V] with ranges
    tokens: list[np.ndarray]
    lengths: np.ndarray
    blank: int
    kind: str = "logits"
    blank_model: str = "softmax"
    topology: str = "regular"
    fastemit: float = 0.0
    ranges: np.ndarray | None = None  # [B, T]

    @property
    def label_lengths(self) -> np.ndarray:
        return np.array([len(y) for y in self.tokens], np.int64)

    @property
    def labels(self) -> np.ndarray:
        """As wide as the scores, or as the longest labels if these are pruned."""
        width = max([0, *self.label_lengths]) if self.ranges is not None else self.scores.shape[2] - 1
        padded = np.full((len(self.tokens), width), JUNK)
        for row, y in zip(padded, self.tokens, strict=True):
            row[: len(y)] = y
        return padded

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.scores, self.labels, self.lengths, self.label_lengths

    @property
    def lattice_options(self) -> dict:
        """Options of the loss, the posteriors and the alignment."""
        return {
            "blank": self.blank,
            "input": self.kind,
            "blank_model": self.blank_model,
            "topology": self.topology,
        }

    @property
    def options(self) -> dict:
        return self.lattice_options | {"fastemit": self.fastemit, "ranges": self.ranges}

    @property
    def reference_options(self) -> dict:
        return {name: getattr(self, name) for name in ("blank", "kind", "blank_model", "topology")}

    def inside(self, b: int) -> tuple[slice, slice]:
        """Frames and columns of sequence b that are no padding."""
        columns = self.scores.shape[2] if self.ranges is not None else len(self.tokens[b]) + 1
        return slice(int(self.lengths[b])), slice(min(columns, len(self.tokens[b]) + 1))

    def own(self, b: int) -> np.ndarray:
        """The scores of sequence b without its padding."""
        return self.scores[b][self.inside(b)]

    def own_ranges(self, b: int) -> np.ndarray | None:
        return None if self.ranges is None else self.ranges[b, : self.lengths[b]]

    def solve(self, b: int, **options) -> tuple[float, np.ndarray]:
        """Loss and gradient of sequence b by the reference."""
        more = {"fastemit": self.fastemit, "ranges": self.own_ranges(b)}
        return reference.rnnt(self.own(b), self.tokens[b], **self.reference_options | more | options)

    @cached_property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Loss [B] of each sequence and the gradient of their sum."""
        losses, gradient = np.zeros(len(self.tokens)), np.zeros(self.scores.shape)
        for b in range(len(self.tokens)):
            losses[b], gradient[b][self.inside(b)] = self.solve(b)
        return losses, gradient

    def sequence(self, b: int) -> "Case":
        """Sequence b as a batch of one, without its padding."""
        ranges = self.own_ranges(b)
        return replace(
            self,
            scores=self.own(b)[None],
            tokens=self.tokens[b : b + 1],
            lengths=self.lengths[b : b + 1],
            ranges=None if ranges is None else ranges[None],
        )

    def check(self, loss: np.ndarray, gradient: np.ndarray) -> None:
        """The answer for reduction "none" is right, and 0 in the padding."""
        assert (loss.dtype, loss.shape) == (np.float64, self.lengths.shape)
        assert (gradient.dtype, gradient.shape) == (self.scores.dtype, self.scores.shape)
        padding = np.ones(self.scores.shape[:3], bool)
        for b in range(len(self.tokens)):
            padding[b][self.inside(b)] = False
        assert not gradient[padding].astype(np.float64).any()
        # As of CTC: a path of T + U arcs adds up that many differences of scores.
        frames, columns, classes = self.scores.shape[1:]
        flat = self.scores.reshape(len(loss), frames * columns, classes)
        assert_close(
            loss, gradient.reshape(flat.shape), self.expected[0], self.expected[1].reshape(flat.shape), flat, self.kind
        )


def random_case(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    *,
    blank: int = 0,
    variant: tuple[str, str, str] = VARIANTS[0],
    dtype: type = np.float64,
    scale: float = 1.0,
    fastemit: float = 0.0,
    forbidden: float = 0.0,
    width: int | None = None,
    full: bool = False,
) -> Case:
    """A random problem of B, T, U, V at most; `forbidden` is the share of scores of -inf, `width` that of ranges."""
    batch, frames, count, classes = shape
    lengths = np.full(batch, frames) if full else rng.integers(0, frames, batch, endpoint=True)
    count = count if classes > 1 else 0
    counts = np.full(batch, count) if full else rng.integers(0, count, batch, endpoint=True)
    tokens = [ctc_cases.random_tokens(rng, n, classes, blank % classes, 0.2) for n in counts]
    ranges = None
    if width is not None:
        counts = np.minimum(counts, np.maximum(lengths - 1, 0) * (width - 1) + width - 1)
        tokens = [y[:n] for y, n in zip(tokens, counts, strict=True)]
        ranges = random_ranges(rng, lengths, counts, frames, width)
    columns = (count + 1) if width is None else width
    logits = rng.normal(scale=scale, size=(batch, frames, columns, classes))
    logits[rng.random(logits.shape) < forbidden] = -np.inf
    case = Case(ctc_cases.scores_like(logits, variant[0], dtype), tokens, lengths, blank, *variant, fastemit, ranges)
    for b in range(batch):
        outside = np.ones((frames, columns), bool)
        outside[case.inside(b)] = False
        case.scores[b][outside] = np.nan
    return case


def random_ranges(rng, lengths, counts, frames: int, width: int) -> np.ndarray:
    """First columns [B, T] of bands of a width: from 0 to the last column, by fewer than the width at a time."""
    ranges = np.zeros((len(lengths), frames), np.int64)
    for row, n, count in zip(ranges, lengths, counts, strict=True):
        last = max(count + 1 - width, 0)
        for t in range(1, n):
            least = max(row[t - 1], last - (n - 1 - t) * (width - 1))
            row[t] = rng.integers(least, min(row[t - 1] + width - 1, last), endpoint=True)
        row[n:] = JUNK
    return ranges


@st.composite
def cases(
    draw,
    *,
    variants=VARIANTS,
    dtypes=(np.float64, np.float32),
    scales=SCALES,
    forbidden=(0.0, 0.0, 0.1, 0.4),
    fastemit=(0.0, 0.0, 0.25),
    widths=(None,),
    smallest=0,
    largest=(4, 8, 5, 8),
):
    """Random problems of at least `smallest` sequences and at most `largest` B, T, U, V.

    The numbers come from a seed, which shrinks well enough.
    """
    shape = tuple(draw(st.integers(low, high)) for low, high in zip((smallest, 0, 0, 1), largest, strict=True))
    variant = draw(st.sampled_from(variants))
    return random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        shape,
        blank=draw(st.integers(-shape[3], shape[3] - 1)),
        variant=variant,
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from(scales)),
        fastemit=draw(st.sampled_from(fastemit)),
        forbidden=draw(st.sampled_from(forbidden)),
        width=draw(st.sampled_from(widths)),
        full=draw(st.booleans()),
    )


def additive(rng, case: Case, dtype=np.float64, scale=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores am [B, T, V] and lm [B, U + 1, V] for the labels of a case, NaN in the padding."""
    batch, frames, columns, classes = case.scores.shape
    am, lm = (rng.normal(scale=scale, size=(batch, n, classes)).astype(dtype) for n in (frames, columns))
    for b, n in enumerate(case.lengths):
        am[b, n:], lm[b, len(case.tokens[b]) + 1 :] = np.nan, np.nan
    return am, lm


DURATIONS = ((0, 1, 2), (0, 1, 2, 3, 4), (1,), (0, 1), (1, 2), (0, 3), (2, 5))


@dataclass
class TDTCase:
    """A batch for the token-and-duration transducer, padded as a `Case`."""

    logits: np.ndarray  # [B, T, U + 1, V]
    duration_logits: np.ndarray  # [B, T, U + 1, D]
    tokens: list[np.ndarray]
    lengths: np.ndarray
    blank: int
    durations: tuple[int, ...]
    sigma: float = 0.0

    @property
    def label_lengths(self) -> np.ndarray:
        return Case(self.logits, self.tokens, self.lengths, self.blank).label_lengths

    @property
    def labels(self) -> np.ndarray:
        return Case(self.logits, self.tokens, self.lengths, self.blank).labels

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.logits, self.duration_logits, self.labels, self.lengths, self.label_lengths

    @property
    def options(self) -> dict:
        return {"blank": self.blank, "durations": self.durations, "sigma": self.sigma}

    def solve(self, b: int, **options) -> reference.TDT:
        n, columns = self.lengths[b], len(self.tokens[b]) + 1
        own = (x[b, :n, :columns] for x in (self.logits, self.duration_logits))
        return reference.tdt(*own, self.tokens[b], self.durations, blank=self.blank, sigma=self.sigma, **options)

    def check(
        self,
        losses: np.ndarray,
        gradient: tuple[np.ndarray, np.ndarray],
        solutions: list[reference.TDT] | None = None,
        **options,
    ) -> None:
        """The answer for reduction "none" is right, and 0 in the padding; `solutions` by the reference may be given."""
        wide = [x.astype(np.float64) for x in (self.logits, self.duration_logits)]
        expected, slopes = np.zeros(len(self.tokens)), [np.zeros(x.shape) for x in wide]
        for b, n in enumerate(self.lengths):
            found = solutions[b] if solutions else self.solve(b, **options)
            expected[b] = found.loss
            for slope, own in zip(slopes, found[1:], strict=True):
                slope[b, :n, : len(self.tokens[b]) + 1] = own
        largest = max(np.abs(x[np.isfinite(x)]).max(initial=0) for x in wide)
        unavoidable = 2 * np.finfo(float).eps * largest * (sum(self.logits.shape[1:3]) + 4)
        single = self.logits.dtype != np.float64
        size = np.where(np.isfinite(expected), np.maximum(1, expected), 1)
        np.testing.assert_allclose(
            losses / size, expected / size, rtol=0, atol=unavoidable + (1e-6 if single else 1e-12)
        )
        allowed = unavoidable + (1e-12 if not single else 2e-6 if largest < 10 else 1e-5)
        for given, found, slope in zip((self.logits, self.duration_logits), gradient, slopes, strict=True):
            assert (found.dtype, found.shape) == (given.dtype, given.shape)
            half = {2: float(2.0**-8)}.get(given.dtype.itemsize, 0.0)
            np.testing.assert_allclose(found.astype(float), slope, rtol=half, atol=allowed)
            padding = np.ones(given.shape[:3], bool)
            for b, n in enumerate(self.lengths):
                padding[b, :n, : len(self.tokens[b]) + 1] = False
            assert not found[padding].astype(float).any()


def random_tdt(rng, shape, durations, *, dtype=np.float64, scale=1.0, sigma=0.0, full=False, blank=0) -> TDTCase:
    """A random problem of B, T, U, V at most."""
    case = random_case(rng, shape, dtype=dtype, scale=scale, full=full, blank=blank)
    of_durations = rng.normal(scale=scale, size=(*case.scores.shape[:3], len(durations))).astype(dtype)
    of_durations[np.isnan(case.scores[..., 0].astype(np.float64))] = np.nan
    return TDTCase(case.scores, of_durations, case.tokens, case.lengths, blank, durations, sigma)


@st.composite
def tdt_cases(
    draw, *, dtypes=(np.float64, np.float32), scales=(0.1, 1.0, 10.0, 100.0), smallest=0, largest=(3, 8, 5, 6)
):
    shape = tuple(draw(st.integers(low, high)) for low, high in zip((smallest, 0, 0, 1), largest, strict=True))
    return random_tdt(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        shape,
        draw(st.sampled_from(DURATIONS)),
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from(scales)),
        sigma=draw(st.sampled_from((0.0, 0.05))),
        full=draw(st.booleans()),
        blank=draw(st.integers(-shape[3], shape[3] - 1)),
    )
