"""Scores of -inf: classes that are forbidden, at some frames or at all.

The fast path accepts them. Alphas are then 0 at states that are reachable, and such a state may be reached again from
the left, by a value that is far below all others and yet all that reaches the end.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import Case, random_tokens
from ctc.test_fast_path import check, frames_needed, long_batch, one_class_a_frame, random_batch
from reference import alignment as reference_alignment
from reference import ctc as reference
from thoroughness import examples, spread

LN2 = np.log(2)
KINDS = ("logits", "log_probs")
MASKS = ("random", "one path left", "class", "columns", "blank", "spans", "mixed")


def one_alignment(rng, tokens, frames):
    """Classes of an alignment with blanks before and after the labels, which start at a random frame."""
    needed = int(frames_needed(tokens[None])[0])
    classes = np.zeros(frames, int)
    if needed <= frames and len(tokens):
        steps = np.cumsum(1 + (tokens[1:] == tokens[:-1]))
        start = np.sort(rng.integers(0, frames - needed, len(tokens), endpoint=True))
        classes[start + np.concatenate([[0], steps])] = tokens
    return classes


def forbid(rng, scores, tokens, mask):
    """Set some scores to -inf."""
    _, frames, classes = scores.shape
    share = rng.choice([0.003, 0.02, 0.1, 0.3, 0.6, 0.95])
    lost = np.zeros(scores.shape, bool)
    if mask in ("random", "mixed"):
        lost |= rng.random(scores.shape) < min(share, 0.3)
    if mask in ("one path left", "mixed"):
        lost |= rng.random(scores.shape) < share
        for row, y in zip(lost, tokens, strict=True):
            row[np.arange(frames), one_alignment(rng, y, frames)] = False
    if mask == "class":
        lost[:, :, rng.integers(classes)] = True
    if mask == "columns":
        for t in rng.integers(frames, size=2):
            lost[:, t] = rng.random(classes) < 0.7
    if mask in ("blank", "mixed"):
        lost[:, rng.random(frames) < share, 0] = True
    if mask == "spans":
        for t in rng.integers(frames, size=3):
            lost[:, t : t + rng.integers(1, 40), rng.integers(classes)] = True
    return np.where(lost, -np.inf, scores).astype(scores.dtype)


def check_masked(batch_of, mask, seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed + 10**6)
        scores, *arguments = batch_of(seed)
        masked = forbid(rng, scores.astype(rng.choice([scores.dtype, np.float32])), arguments[0], mask)
        with np.errstate(over="ignore"):
            check(masked, *arguments, input=KINDS[seed % 2])


@pytest.mark.parametrize(("mask", "seed"), spread(MASKS, range(0, 64, 8), every=8))
def test_random_batches(level, mask, seed):
    check_masked(random_batch, mask, range(seed, seed + 8))
    check_masked(one_class_a_frame, mask, range(seed, seed + 8))


@pytest.mark.thorough
@pytest.mark.parametrize(("mask", "seed"), spread(MASKS, range(0, 12, 2), every=6))
def test_random_long_batches(level, mask, seed):
    """In two halves."""
    check_masked(long_batch, mask, range(seed, seed + 2))


@st.composite
def small(draw):
    """A sequence that enumeration can serve, of which some scores are -inf; float64, strides of any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, classes, count = draw(st.integers(1, 7)), draw(st.integers(2, 4)), draw(st.integers(0, 3))
    scores = draw(st.sampled_from([0.5, 5.0, 50.0])) * rng.normal(size=(1, frames, classes))
    scores[rng.random(scores.shape) < draw(st.sampled_from([0.1, 0.3, 0.6]))] = -np.inf
    if draw(st.booleans()):
        scores = np.repeat(scores, 3, axis=1)[:, 1::3]
    tokens = random_tokens(rng, count, classes, 0, draw(st.sampled_from([0.0, 1.0]))) if classes > 1 else []
    case = Case(scores, [tokens], np.array([frames]), 0)
    case.kind = draw(st.sampled_from(KINDS))
    return case


@examples(3)
@given(small())
def test_enumeration(level, case):
    labels = case.tokens[0]
    if case.kind == "logits" and np.isneginf(case.scores).all(axis=2).any():
        case.scores[..., 0] = 0
    loss, gradient = fsl.ctc_loss(*case.arguments, **case.options, reduction="none", return_grad=True)
    case.check(loss, gradient)
    probs = np.exp(reference.log_emissions(case.scores[0], case.kind)).astype(np.float64)
    expected = reference_alignment.posteriors_by_enumeration(probs, labels, 0) if np.isfinite(loss[0]) else 0
    posteriors = fsl.ctc_posteriors(*case.arguments, **case.options)
    np.testing.assert_allclose(posteriors[0], expected, rtol=1e-10, atol=1e-12)


# ---- adversaries ----------------------------------------------------------------------------


def reached_again(seed):
    """A label far ahead of its left neighbour is lost; its blank, lost before, is reached again from that neighbour."""
    rng = np.random.default_rng(seed)
    bits, before, after = rng.uniform(2, 60), int(rng.integers(12)), int(rng.integers(1, 5))
    wait = int(rng.integers(10, max(11, 2200 / bits)))
    tokens = np.arange(before + 2) % 2 + 1
    last = tokens[-1]
    first = np.full((before + 1, 3), -3.0)
    first[np.arange(before), tokens[:before]] = 0
    waiting = np.full((wait, 3), -bits)
    waiting[:, last] = 0
    no_blank = np.array([[-np.inf, -bits, -bits]])
    no_blank[0, last] = 0
    between = -rng.uniform(0, 60, (after, 3))
    blank_alone, label_alone = np.full((2, 1, 3), -np.inf)
    blank_alone[0, 0] = label_alone[0, last] = 0
    log2 = np.concatenate([first, waiting, no_blank, between, blank_alone, label_alone])
    return LN2 * (log2 + rng.uniform(-1, 0, log2.shape))[None], tokens[None]


def overtaken(seed):
    """Labels that no path has reached, since their classes were forbidden, beside others that are far ahead."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 60))
    tokens = random_tokens(rng, count, 6, 0, rng.choice([0.0, 0.3]))
    frames = int(frames_needed(tokens[None])[0] + rng.integers(0, 4 * count))
    log2 = -rng.choice([1.0, 20.0, 100.0, 300.0]) * rng.random((frames, 6))
    for _ in range(rng.integers(1, 6)):
        t = rng.integers(frames)
        lost = rng.permutation(6)[: rng.integers(1, 6)]
        log2[t : t + rng.integers(1, 12), lost] = -np.inf
    return LN2 * log2[None], tokens[None]


@pytest.mark.parametrize(("family", "seed"), spread([reached_again, overtaken], range(0, 1000, 50), every=20))
def test_adversaries(level, family, seed):
    for offset in range(50):
        scores, tokens = family(seed + offset)
        check(scores, tokens, input=KINDS[offset % 2])


@pytest.mark.parametrize("count", [60, 150])
def test_labels_that_no_path_reaches_for_long(level, count):
    """The first label is forbidden: beta of the others, whose alpha is 0, grows with the number of paths."""
    scores = 0.01 * np.random.default_rng(0).normal(size=(1, 2000, 4))
    scores[:, :1500, 1] = -np.inf
    check(scores, np.array([[1, *[2, 3] * count]]))


# ---- a batch as users have it ---------------------------------------------------------------


def usual(rng, shape, dtype=np.float32):
    batch, frames, classes, count = shape
    scores = (3 * rng.normal(size=(batch, frames, classes))).astype(dtype)
    return scores, np.stack([random_tokens(rng, count, classes - 1, 0, 0.0) for _ in range(batch)])


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_sequences_and_their_mates(level, kind):
    """The class of a label is forbidden, everywhere or where every path needs it."""
    scores, tokens = usual(np.random.default_rng(0), (4, 300, 12, 40))
    loss, gradient = fsl.ctc_loss(scores, tokens, reduction="none", return_grad=True, input=kind)
    forbidden = scores.copy()
    forbidden[1, :, tokens[1, 20]] = -np.inf
    forbidden[2, :260, tokens[2, 0]] = -np.inf
    for threads in (1, 3):
        options = {"reduction": "none", "return_grad": True, "input": kind, "num_threads": threads}
        other, slope = fsl.ctc_loss(forbidden, tokens, **options)
        np.testing.assert_array_equal(other[::3], loss[::3])
        np.testing.assert_array_equal(slope[::3], gradient[::3])
        assert other[1] == np.inf
        assert not slope[1].any()
        posteriors = fsl.ctc_posteriors(forbidden, tokens, input=kind, num_threads=threads)
        assert not posteriors[1].any()
        np.testing.assert_allclose(posteriors[::3].sum(axis=2), 1, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 200, 20, 30), (3, 1500, 9, 200), (2, 120, 70, 25)])
def test_threads_and_batch_mates_change_no_bit(level, shape):
    rng = np.random.default_rng(1)
    scores, tokens = usual(rng, shape)
    scores[rng.random(scores.shape) < 0.02] = -np.inf
    expected = fsl.ctc_loss(scores, tokens, reduction="none", return_grad=True, num_threads=1)
    posteriors = fsl.ctc_posteriors(scores, tokens, num_threads=1)
    time_major = np.ascontiguousarray(scores.swapaxes(0, 1)).swapaxes(0, 1)
    for threads in (1, 2, 5):
        for x in (scores, time_major):
            found = fsl.ctc_loss(x, tokens, reduction="none", return_grad=True, num_threads=threads)
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
            np.testing.assert_array_equal(fsl.ctc_posteriors(x, tokens, num_threads=threads), posteriors)
    for b, x in enumerate(scores):
        alone = fsl.ctc_loss(x[None], tokens[b : b + 1], reduction="none", return_grad=True)
        np.testing.assert_array_equal(alone[0][0], expected[0][b])
        np.testing.assert_array_equal(alone[1][0], expected[1][b])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_posteriors_are_those_of_the_gradient(level, dtype):
    rng = np.random.default_rng(2)
    scores, tokens = usual(rng, (8, 150, 28, 40), dtype)
    scores[rng.random(scores.shape) < 0.05] = -np.inf
    by_class = np.zeros(scores.shape)
    for row, posteriors, y in zip(by_class, fsl.ctc_posteriors(scores, tokens, input="log_probs"), tokens, strict=True):
        np.subtract.at(row.T, reference_alignment.states_of(y, 0), posteriors.T)
    gradient = fsl.ctc_loss(scores, tokens, input="log_probs", reduction="sum", return_grad=True)[1]
    np.testing.assert_allclose(gradient, by_class, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)
