"""Adversaries of the fast lattice: emissions and shapes that its fixed exponents cannot hold.

Each problem either passes the fast path's validity check and is right, or fails it and goes the
general path; no answer may tell which. Emissions are given as powers of two.
"""

from functools import cache, lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import Case, assert_same_loss, random_case, random_tokens
from thoroughness import examples, spread, thorough

# Around the limits of float64 and of the check, and the sums of a few frames at these limits.
POWERS = (0, 10, 50, 90, 99, 101, 130, 240, 300, 460, 700, 1000, 1074, 2000)
LN2 = np.log(2)


def batch(problems, dtype=np.float64):
    """One case of several (log2 emissions [T, V], tokens), blank 0; classes they lack are -inf."""
    frames, classes = np.max([x.shape for x, _ in problems], axis=0)
    scores = np.full((len(problems), frames, classes), np.nan, dtype)
    for row, (log2, _) in zip(scores, problems, strict=True):
        row[: len(log2)] = -np.inf
        row[: len(log2), : log2.shape[1]] = log2 * LN2
    return Case(scores, [y for _, y in problems], np.array([len(x) for x, _ in problems]), 0)


def spell(rng, count, classes, repeats):
    """Labels over all classes but the blank 0 and the last, which belongs to no label."""
    tokens = random_tokens(rng, count, classes - 1, 0, repeats)
    return tokens, len(tokens) + np.count_nonzero(tokens[1:] == tokens[:-1])


def noise(rng, frames, classes):
    return rng.normal(size=(frames, classes))


def tight(power):
    """T = S + repeats + 0..3, with blanks, labels, some labels, or all but a foreign class tiny."""
    rng = np.random.default_rng(power)
    for spare in range(4):
        for repeats in (0.0, 0.4):
            for small in (slice(0, 1), slice(1, -1), slice(0, -1), slice(1, 6)):
                tokens, shortest = spell(rng, 20, 12, repeats)
                log2 = noise(rng, shortest + spare, 12)
                log2[:, small] -= power
                yield log2, tokens


def silence(power):
    """Many frames in which every label is tiny, then none to spare; and in reverse."""
    rng = np.random.default_rng(power)
    for spare in range(3):
        tokens, shortest = spell(rng, 18, 9, 0.2)
        for quiet in (5, 40, 130):
            log2 = noise(rng, quiet + shortest + spare, 9)
            log2[:quiet, 1:] -= power
            yield log2, tokens
            yield log2[::-1], tokens
            yield np.roll(log2, quiet // 2, axis=0), tokens


def frontier(power):
    """Staying behind is free; then all but the foremost state is forbidden: it carries the mass."""
    rng = np.random.default_rng(power)
    for blocked in (3, 7, 12, 19):
        tokens = rng.permutation(np.arange(1, 25))
        log2 = noise(rng, len(tokens) + 6, 26)
        log2[:, 1:-1] -= power
        log2[blocked] = -np.inf
        log2[blocked, tokens[blocked]] = 0.0
        yield log2, tokens
        backwards = log2[::-1].copy()
        yield backwards, tokens[::-1]


def stragglers(power):
    """The reverse: the states in front hold nearly all mass, then only the hindmost goes on."""
    rng = np.random.default_rng(power)
    for blocked in (10, 17, 30):
        tokens = rng.permutation(np.arange(1, 17))
        log2 = noise(rng, 50, 18)
        log2[:blocked, 0] -= power
        log2[blocked] = -np.inf
        log2[blocked, tokens[0]] = -5.0
        yield log2, tokens


def periodic(power):
    """A tiny frame now and then, in every phase to the frames at which exponents are refreshed."""
    rng = np.random.default_rng(power)
    for period in (1, 2, 3, 4, 5, 8, 15, 16, 17, 33):
        for small in (slice(0, 1), slice(1, -1)):
            tokens, shortest = spell(rng, 25, 9, 0.3)
            log2 = noise(rng, shortest + 12, 9)
            log2[period - 1 :: period, small] -= power
            yield log2, tokens


def alternating(power):
    """Frames of huge and of small contrast by turns."""
    rng = np.random.default_rng(power)
    for spare in (0, 5, 60):
        for step in (2, 3, 7):
            tokens, shortest = spell(rng, 20, 9, 0.2)
            log2 = 0.1 * noise(rng, shortest + spare, 9)
            log2[::step] *= 5 * power
            yield log2, tokens


def dominated(power):
    """A class that is not a label has all of the probability, in all frames or in some."""
    rng = np.random.default_rng(power)
    for share in (0.1, 0.5, 1.0):
        for spare in (0, 3, 40):
            tokens, shortest = spell(rng, 15, 7, 0.2)
            log2 = noise(rng, shortest + spare, 7)
            log2[rng.random(len(log2)) < share, -1] += power
            yield log2, tokens


def peaky(power):
    """A confident model: right, wrong by shifted labels, or wrong altogether."""
    rng = np.random.default_rng(power)
    for shift in (0, 1, 5):
        tokens, _ = spell(rng, 20, 9, 0.2)
        alignment = np.repeat(np.stack([tokens, np.zeros(20, int)], axis=1).ravel(), 2)
        log2 = noise(rng, len(alignment), 9)
        log2[np.arange(len(log2)), alignment] += power
        yield log2, np.roll(tokens, shift)
        yield log2, random_tokens(rng, 30, 8, 0, 0.2)


def seesaw(power):
    """The blank is improbable in the first part, and the labels are improbable in the second."""
    rng = np.random.default_rng(power)
    for spare in (0, 2, 15):
        for turn in (5, 15, 25):
            tokens, shortest = spell(rng, 30, 12, 0.1)
            log2 = noise(rng, shortest + spare, 12)
            log2[:turn, 0] -= power
            log2[turn:, 1:-1] -= power
            yield log2, tokens
            yield log2[::-1], tokens


def single_path(power):
    """Exactly one alignment is possible, at wildly different prices from frame to frame."""
    rng = np.random.default_rng(power)
    for _ in range(4):
        tokens, _ = spell(rng, 20, 9, 0.0)
        alignment = np.repeat(np.stack([tokens, np.zeros(20, int)], axis=1).ravel(), 2)
        log2 = np.full((len(alignment), 9), -np.inf)
        log2[np.arange(len(log2)), alignment] = -rng.uniform(0, power, len(log2))
        log2[:, -1] = 0.0
        yield log2, tokens


FAMILIES = (
    tight,
    silence,
    frontier,
    stragglers,
    periodic,
    alternating,
    dominated,
    peaky,
    seesaw,
    single_path,
)


@cache  # the oracle's answer serves every level
def problem(family, power, dtype, kind):
    case = batch(list(family(power)), dtype)
    case.kind = kind
    return case


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("family", "power", "scores"),
    spread(FAMILIES, POWERS, product(["logits", "log_probs"], [np.float32, np.float64]), every=len(POWERS)),
)
def test_adversary(level, family, power, scores):
    kind, dtype = scores
    case = problem(family, power, dtype, kind)
    options = {**case.options, "reduction": "none"}
    loss, gradient = fsl.ctc_loss(*case.arguments, **options, return_grad=True)
    case.check(loss, gradient)
    assert_same_loss(fsl.ctc_loss(*case.arguments, **options), loss)
    over = case.scores.copy()
    fsl.ctc_loss(over, *case.arguments[1:], **options, grad_out=over, num_threads=2)
    np.testing.assert_array_equal(over, gradient)


@st.composite
def wild(draw):
    """Every emission a power of two drawn from a small palette, few frames to spare."""
    palette = draw(st.lists(st.sampled_from([*POWERS, np.inf]), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, count = draw(st.integers(2, 8)), draw(st.integers(0, 25))
    spare, jitter = draw(st.integers(0, 5)), draw(st.sampled_from([0.0, 1.0, 20.0]))
    problems = []
    for _ in range(4):
        tokens = random_tokens(rng, count, classes, 0, draw(st.sampled_from([0.0, 0.5])))
        frames = count + np.count_nonzero(tokens[1:] == tokens[:-1]) + spare
        log2 = -rng.choice([0.0, *palette], (frames, classes + draw(st.integers(0, 1))))
        problems.append((log2 + jitter * noise(rng, *log2.shape), tokens))
    return batch(problems, draw(st.sampled_from([np.float32, np.float64])))


@examples(3.3)
@given(wild(), st.sampled_from(["logits", "log_probs", "probs"]))
def test_wild_emissions(level, case, kind):
    case.kind = kind
    if kind == "probs":
        smallest = -650 if case.scores.itemsize == 8 else -65
        case.scores = np.exp(np.where(case.scores < smallest, -np.inf, np.minimum(case.scores, 0)))
    case.check(*fsl.ctc_loss(*case.arguments, **case.options, reduction="none", return_grad=True))


def test_source_far_below_its_own_floor(level):
    """T = S: one alignment, each of its emissions 2^-399; staying behind is free."""
    free = [(0, 2), (0, 1), (2,), (0,)]
    log2 = np.full((4, 3), -399.0)
    for row, classes in zip(log2, free, strict=True):
        row[list(classes)] = 0
    case = batch([(log2, np.array([1, 2, 1, 2]))])
    case.kind = "log_probs"
    loss, gradient = fsl.ctc_loss(*case.arguments, **case.options, return_grad=True)
    assert loss == pytest.approx(4 * 399 * LN2, rel=1e-14)
    np.testing.assert_allclose(gradient, -np.eye(3)[None, [1, 2, 1, 2]], rtol=1e-13)


@lru_cache
def long_sequence(count, scale, dtype):
    rng = np.random.default_rng(1)
    return random_case(rng, (1, 3000, 32, count), dtype=dtype, scale=scale, full=True)


@pytest.mark.parametrize(
    ("count", "scale", "dtype"),
    [
        (60, 10.0, np.float32),
        *(thorough(300, scale, np.float32) for scale in (1.0, 10.0, 30.0)),
        *(thorough(300, scale, np.float64) for scale in (1.0, 10.0, 30.0)),
    ],
)
def test_no_drift_over_long_sequences(level, count, scale, dtype):
    case = long_sequence(count, scale, dtype)
    loss, gradient = fsl.ctc_loss(*case.arguments, reduction="none", return_grad=True)
    case.check(loss, gradient)


def test_ordinary_batch_mates_of_an_adversary(level):
    """The sequence that needs the general path takes it; the others do not change by a bit."""
    ordinary = random_case(np.random.default_rng(0), (6, 80, 12, 20), full=True)
    usual = [(x / LN2, y) for x, y in zip(ordinary.scores, ordinary.tokens, strict=True)]
    hard = [x for power in (240, 2000) for x in list(tight(power))[:3]]
    case = batch([x for pair in zip(usual, hard, strict=True) for x in pair])
    loss, gradient = fsl.ctc_loss(*case.arguments, reduction="none", return_grad=True)
    case.check(loss, gradient)
    for b, n in enumerate(case.lengths):
        alone = case.sequence(b)
        expected = fsl.ctc_loss(*alone.arguments, reduction="none", return_grad=True)
        np.testing.assert_array_equal(loss[b], expected[0][0])
        np.testing.assert_array_equal(gradient[b, :n], expected[1][0])
