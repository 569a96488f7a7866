"""Scores of any size, against sums of fractions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from huge_scores import MASKS, assert_loss, scores, tolerance
from reference import exact
from thoroughness import examples


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


@examples(1)
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


@examples(1)
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
