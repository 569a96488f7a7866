"""Scores of any size, against sums of fractions.

What every path has in common must cancel exactly, in whatever order it comes.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastseqloss as fsl
from huge_scores import MASKS, assert_loss, scores, tolerance
from reference import exact
from thoroughness import examples


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


@examples(1.7)
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


@examples(1.7)
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
