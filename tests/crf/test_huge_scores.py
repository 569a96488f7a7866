"""Scores of any size, against sums of fractions.

What every path has in common must cancel exactly, in whatever order it comes.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from huge_scores import MASKS, assert_loss, scores, tolerance
from reference import exact
from thoroughness import examples


@st.composite
def crf_problems(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    frames, tags = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    emissions = scores(draw, (frames, tags), dtype)
    rest = [scores(draw, shape, np.float64) for shape in ((tags, tags), (tags,), (tags,))]
    given_tags = draw(st.lists(st.integers(0, tags - 1), min_size=frames, max_size=frames))
    return emissions, *rest, given_tags


@examples(1.7)
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


@examples(1.7)
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
