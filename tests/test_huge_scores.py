"""Scores of any size, mixed: paths that cross finfo.min, 1e30 and 0.3 are told apart by the 0.3.

Against sums of fractions. What every path has in common must cancel exactly, in whatever order it comes.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastseqloss as fsl
import reference_exact as exact

SIZES = (0.0, 1e6, 1e9, 1e12, 1e15, 1e30)
MASKS = (-1e9, -1e12, -1e15, -1e30, float(np.finfo(np.float32).min))


def scores(draw, shape, dtype):
    """Sums of a few numbers of very different sizes; -inf, and the ends of the range."""
    low = float(np.finfo(dtype).min)
    small = st.floats(-3, 3, width=16)
    one = st.one_of(
        small,
        st.builds(lambda a, b, c: a * b + c, st.sampled_from(SIZES), st.sampled_from([-2, -1, -1, -1, 1]), small),
        st.sampled_from([low, low / 2, low / 4, -np.inf]),
    )
    # Few different numbers, so that paths meet that differ by little.
    pool = draw(st.lists(one, min_size=1, max_size=5))
    picks = draw(st.lists(st.sampled_from(pool), min_size=math.prod(shape), max_size=math.prod(shape)))
    extra = draw(st.lists(small, min_size=math.prod(shape), max_size=math.prod(shape)))
    small_ones = np.array([e if abs(x) < 1e12 else 0 for x, e in zip(picks, extra, strict=True)])
    return (np.array(picks) + small_ones).reshape(shape).astype(dtype)


def tolerance(dtype):
    return 2e-6 if dtype == np.float32 else 2e-8


def assert_loss(found, right, absolute=1e-8):
    assert found == pytest.approx(right, rel=1e-11, abs=absolute)


@st.composite
def ctc_problems(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    kind = draw(st.sampled_from(["logits", "log_probs", "probs"]))
    frames, classes = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    labels = draw(st.lists(st.integers(1, classes - 1), max_size=min(frames, 3)))
    x = scores(draw, (frames, classes), dtype)
    if kind == "probs":
        x = np.exp(-np.abs(np.clip(x.astype(float), -700, 700))).astype(dtype)
    return x, labels, kind


@settings(max_examples=100, deadline=None)
@given(ctc_problems())
def test_ctc(problem):
    x, labels, kind = problem
    if kind == "logits":
        assume((x > -np.inf).any(axis=1).all())
    right = exact.ctc(x, labels, kind)
    loss, gradient = fsl.ctc_loss(x, labels, input=kind, return_grad=True)
    posteriors = fsl.ctc_posteriors(x, labels, input=kind)
    assert_loss(loss, right.loss, tolerance(x.dtype))  # the softmax of float32 is computed in float32
    assert loss == fsl.ctc_loss(x, labels, input=kind)
    assert np.abs(posteriors - right.states).max() <= tolerance(x.dtype)
    known = ~np.isnan(right.gradient)
    size = np.maximum(np.abs(right.gradient[known]), 1)
    with np.errstate(over="ignore"):
        expected = right.gradient[known].astype(x.dtype)
    close = np.abs(gradient[known] - expected) <= tolerance(x.dtype) * size
    assert (close | (gradient[known] == expected)).all()


@settings(max_examples=100, deadline=None)
@given(ctc_problems())
def test_ctc_align(problem):
    x, labels, kind = problem
    if kind == "logits":
        assume((x > -np.inf).any(axis=1).all())
    right = exact.ctc(x, labels, kind)
    found = fsl.ctc_align(x, labels, input=kind)
    if not right.scores or found.log_prob == -np.inf:
        # No path, or one whose log-probability float64 does not hold.
        best = max(right.scores.values(), default=None)
        norm = sum((exact.log_normalizer(row)[0] for row in x), Fraction(0)) if kind == "logits" else 0
        assert best is None or exact.rounded(best - norm) < -1e308
        assert found.log_prob == -np.inf
        return
    states = np.where(found.token_index < 0, 0, 2 * found.token_index + 1)
    for t, token in enumerate(found.token_index):
        if token < 0:
            states[t] = 2 * (found.token_index[:t].max(initial=-1) + 1)
    assert max(right.scores.values()) - right.scores[tuple(states)] <= 1e-8


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["logits", "log_probs"])
def test_ctc_with_a_masked_label(mask, dtype, kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(dtype)
    x[:, 2] = mask
    labels = [1, 2, 3]
    posteriors = fsl.ctc_posteriors(x, labels, input=kind)
    # The mask is paid once: as if it were so high that float64 has no trouble, and still crossed but once.
    x[:, 2] = -1000
    right = fsl.ctc_posteriors(x, labels, input=kind)
    assert np.abs(posteriors - right).max() <= tolerance(dtype)


@pytest.mark.parametrize("frames", [2, 7, 300])
def test_ctc_beyond_float64(frames):
    x = np.full((frames, 3), np.finfo(np.float64).min)
    x[:, 0] = np.log(np.arange(1, frames + 1))
    loss, gradient = fsl.ctc_loss(x, [1, 2], input="log_probs", return_grad=True)
    assert loss == np.inf
    right = fsl.ctc_posteriors(np.where(x < -1e300, -600, x), [1, 2], input="log_probs")
    assert np.abs(fsl.ctc_posteriors(x, [1, 2], input="log_probs") - right).max() < 1e-12
    assert np.abs(gradient[:, 1] + right[:, 1]).max() < 1e-12


def test_ctc_long_with_checkpoints():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 30))
    labels = rng.integers(1, 30, 120)
    x[:, labels[60]] = -700
    right = fsl.ctc_posteriors(x, labels, input="log_probs")
    x[:, labels[60]] = -1e30
    found = fsl.ctc_posteriors(x, labels, input="log_probs")
    assert np.abs(found - right).max() < 1e-9


@st.composite
def transducer_problems(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    kind = draw(st.sampled_from(["logits", "log_probs", "probs"]))
    hat = kind == "logits" and draw(st.booleans())
    frames, count, classes = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(2, 4))
    labels = draw(st.lists(st.integers(1, classes - 1), min_size=count, max_size=count))
    topology = draw(st.sampled_from(["regular", "modified"]))
    x = scores(draw, (frames, count + 1, classes), dtype)
    if kind == "probs":
        x = np.exp(-np.abs(np.clip(x.astype(float), -700, 700))).astype(dtype)
    return x, labels, kind, topology, hat


@settings(max_examples=200, deadline=None)
@given(transducer_problems())
def test_rnnt(problem):
    x, labels, kind, topology, hat = problem
    right = exact.rnnt(x, labels, kind, topology, hat)
    options = {"input": kind, "topology": topology, "blank_model": "hat" if hat else "softmax"}
    loss, gradient = fsl.rnnt_loss(x, labels, **options, return_grad=True)
    assert_loss(loss, right.loss, tolerance(x.dtype))
    assert loss == fsl.rnnt_loss(x, labels, **options)
    blank, label = fsl.rnnt_posteriors(x, labels, **options)
    assert np.abs(blank - right.by_blank).max() <= tolerance(x.dtype)
    assert np.abs(label - right.by_label).max() <= tolerance(x.dtype)
    known = ~np.isnan(right.gradient) & (not hat)
    with np.errstate(over="ignore"):
        expected = right.gradient[known].astype(x.dtype)
    allowed = 2 * tolerance(x.dtype) * np.maximum(np.abs(right.gradient[known]), 1)
    assert ((np.abs(gradient[known] - expected) <= allowed) | (gradient[known] == expected)).all()
    over = x.copy()
    fsl.rnnt_loss(over, labels, **options, grad_out=over)
    np.testing.assert_array_equal(over, gradient)


@settings(max_examples=200, deadline=None)
@given(transducer_problems())
def test_rnnt_align(problem):
    x, labels, kind, topology, hat = problem
    right = exact.rnnt(x, labels, kind, topology, hat)
    found = fsl.rnnt_align(x, labels, input=kind, topology=topology, blank_model="hat" if hat else "softmax")
    best = max(right.scores.values(), default=None)
    if best is None:
        assert found.log_prob == -np.inf
        assert (found.frames == -1).all()
        return
    assert found.log_prob == pytest.approx(exact.rounded(best), rel=1e-11, abs=tolerance(x.dtype))
    of_labels = [tuple(arc.t for arc in path if arc.kind == 1) for path in right.scores]
    taken = [s for frames, s in zip(of_labels, right.scores.values(), strict=True) if frames == tuple(found.frames)]
    assert len(taken) == 1
    assert best - taken[0] <= tolerance(x.dtype)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("blank_model", ["softmax", "hat"])
def test_rnnt_with_a_mask_that_every_path_crosses(mask, dtype, blank_model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4, 5)).astype(dtype)
    x[:, 1, 2] = mask
    found = fsl.rnnt_posteriors(x, [1, 2, 3], blank_model=blank_model)
    x[:, 1, 2] = -500
    right = fsl.rnnt_posteriors(x, [1, 2, 3], blank_model=blank_model)
    for a, b in zip(found, right, strict=True):
        assert np.abs(a - b).max() <= tolerance(dtype)


@st.composite
def crf_problems(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    frames, tags = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    emissions = scores(draw, (frames, tags), dtype)
    rest = [scores(draw, shape, np.float64) for shape in ((tags, tags), (tags,), (tags,))]
    given_tags = draw(st.lists(st.integers(0, tags - 1), min_size=frames, max_size=frames))
    return emissions, *rest, given_tags


@settings(max_examples=100, deadline=None)
@given(crf_problems())
def test_crf(problem):
    emissions, transitions, start, end, tags = problem
    right = exact.crf(emissions, transitions, start, end)
    assert_loss(fsl.crf_log_partition(emissions, transitions, start=start, end=end), right.log_partition)
    unary, pairwise = fsl.crf_marginals(emissions, transitions, start=start, end=end, pairwise=True)
    assert np.abs(unary - right.unary).max() <= tolerance(emissions.dtype)
    assert np.abs(pairwise - right.pairwise).max(initial=0) <= tolerance(emissions.dtype)
    loss, gradient = fsl.crf_loss(emissions, tags, transitions, start=start, end=end, return_grad=True)
    if tuple(tags) not in right.scores:
        assert loss == np.inf
        return
    below = max(right.scores.values()) - right.scores[tuple(tags)]
    assert_loss(loss, exact.rounded(below + Fraction(right.log_sum)))
    expected = right.unary.copy()
    expected[np.arange(len(tags)), tags] -= 1
    assert np.abs(gradient.emissions - expected).max() <= tolerance(emissions.dtype)
    counts = right.pairwise.sum(axis=0)
    np.add.at(counts, (tags[:-1], tags[1:]), -1)
    assert np.abs(gradient.transitions - counts).max() <= 1e-7
    assert np.abs(gradient.start - expected[0]).max() <= 1e-7
    assert np.abs(gradient.end - expected[-1]).max() <= 1e-7


@settings(max_examples=100, deadline=None)
@given(crf_problems())
def test_best_paths_of_a_crf(problem):
    emissions, transitions, start, end, tags = problem
    right = exact.crf(emissions, transitions, start, end)
    path, score = fsl.crf_decode(emissions, transitions, start=start, end=end)
    if not right.scores:
        assert score == -np.inf
        return
    best = max(right.scores.values())
    assert best - right.scores[tuple(path)] <= 1e-6
    assert score == pytest.approx(exact.rounded(best), rel=1e-12, abs=1e-6)
    cost = 1.0 - np.eye(len(start))
    margin = fsl.structured_hinge_loss(emissions, tags, transitions, start=start, end=end)
    if tuple(tags) not in right.scores:
        assert margin == np.inf
        return
    beaten = max(s + sum(Fraction(cost[y, k]) for y, k in zip(tags, p, strict=True)) for p, s in right.scores.items())
    assert margin == pytest.approx(exact.rounded(beaten - right.scores[tuple(tags)]), rel=1e-12, abs=1e-6)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("place", ["transitions", "emissions", "start", "end"])
def test_crf_with_a_mask_that_every_path_crosses(mask, place):
    rng = np.random.default_rng(2)
    parts = {
        "emissions": rng.normal(size=(12, 3)),
        "transitions": rng.normal(size=(3, 3)),
        "start": rng.normal(size=3),
        "end": rng.normal(size=3),
    }
    masked = {name: part.copy() for name, part in parts.items()}
    parts[place] = parts[place] * 0
    # All the same, and of transitions and emissions beside some that are forbidden.
    masked[place] = np.full_like(parts[place], mask)
    if place == "emissions":
        masked[place][3:], parts[place][3:] = 0.5, 0.5
        masked[place][1, 0], parts[place][1, 0] = -np.inf, -np.inf
    if place == "transitions":
        masked[place][0, 1], parts[place][0, 1] = -np.inf, -np.inf
    found, right = fsl.crf_marginals(**masked, pairwise=True), fsl.crf_marginals(**parts, pairwise=True)
    for a, b in zip(found, right, strict=True):
        assert np.abs(a - b).max() < 1e-9
    assert list(fsl.crf_decode(**masked)[0]) == list(fsl.crf_decode(**parts)[0])
