"""Transducers: problems whose paths were enumerated once, to the digits that were printed."""

import numpy as np
import pytest

import fastseqloss as fsl
import transducer_goldens as goldens

PRINTED = 5.1e-9  # eight digits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_hand(level, dtype):
    loss, gradient = fsl.rnnt_loss(goldens.A.astype(dtype), goldens.A_LABELS, return_grad=True)
    exact = 1e-15 if dtype == np.float64 else 1e-7
    assert loss == pytest.approx(goldens.A_LOSS, rel=exact)
    np.testing.assert_allclose(gradient, goldens.A_GRADIENT, atol=exact)
    blank, label = fsl.rnnt_posteriors(goldens.A.astype(dtype), goldens.A_LABELS)
    assert label[0, 0] == pytest.approx(goldens.A_LABEL_AT_ONCE, rel=exact)
    assert blank[0, 0] == pytest.approx(1 - goldens.A_LABEL_AT_ONCE, rel=2 * exact)


@pytest.mark.parametrize("name", goldens.GOLDENS)
def test_variants(level, name):
    golden = goldens.GOLDENS[name]
    scores = goldens.scores(golden.options)
    loss, gradient = fsl.rnnt_loss(scores, goldens.B_LABELS, **golden.options, return_grad=True)
    assert loss == pytest.approx(golden.loss, rel=2e-15)
    if golden.first:
        np.testing.assert_allclose(gradient[0, 0], golden.first, atol=PRINTED)
    if golden.size:
        assert np.abs(gradient).sum() == pytest.approx(golden.size, rel=2e-14)


def test_posteriors(level):
    blank, label = fsl.rnnt_posteriors(goldens.B, goldens.B_LABELS)
    np.testing.assert_allclose(blank[0], goldens.B_BLANK_0, atol=PRINTED)
    np.testing.assert_allclose(label[0], goldens.B_LABEL_0, atol=PRINTED)


@pytest.mark.parametrize("golden", goldens.TDT)
def test_tdt(level, golden):
    loss, gradient = fsl.tdt_loss(
        goldens.B,
        goldens.DURATION_LOGITS,
        goldens.B_LABELS,
        durations=goldens.DURATIONS,
        sigma=golden.sigma,
        return_grad=True,
    )
    assert loss == pytest.approx(golden.loss, rel=2e-15)
    of_tokens, of_durations = gradient
    np.testing.assert_allclose(of_tokens[0, 0][: len(golden.first)], golden.first, atol=PRINTED)
    assert np.abs(of_tokens).sum() == pytest.approx(golden.size, rel=2e-14)
    if golden.first_durations:
        np.testing.assert_allclose(of_durations[0, 0], golden.first_durations, atol=PRINTED)
        assert np.abs(of_durations).sum() == pytest.approx(golden.size_durations, rel=2e-14)


def test_additive_joiner(level):
    loss, (am, lm) = fsl.rnnt_simple_loss(goldens.AM, goldens.LM, goldens.B_LABELS, return_grad=True)
    assert loss == pytest.approx(goldens.SIMPLE_LOSS, rel=2e-15)
    np.testing.assert_allclose(am[0], goldens.SIMPLE_FIRST, atol=PRINTED)
    sizes = np.abs(am).sum(), np.abs(lm).sum()
    assert sizes == pytest.approx(goldens.SIMPLE_SIZES, rel=2e-14)
