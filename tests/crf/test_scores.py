"""Scores and log-probabilities of given paths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import HALF, assert_same, assert_within, cases
from reference import crf as reference_crf


@given(cases(dtypes=(np.float64, np.float32, *HALF)), st.sampled_from((1, 2)))
def test_matches_the_reference(level, case, threads):
    scores = fsl.crf_score(*case.arguments, **case.ends)
    for b, n in enumerate(case.lengths):
        own = reference_crf.path_score(case.tags[b, :n], case.emissions[b, :n].astype(float), *case.parameters)
        assert_within(scores[b], float(own), 1e-13, "score")
    log_probs = fsl.crf_score(*case.arguments, **case.ends, normalize=True, num_threads=threads)
    assert_same([log_probs], [-fsl.crf_loss(*case.arguments, **case.ends, reduction="none")])
    assert not np.signbit(log_probs[log_probs == 0]).any()


@given(cases(smallest=1, scales=(0.1, 1.0, 10.0)))
def test_the_score_of_the_best_path_is_that_of_decoding(level, case):
    tags, best = fsl.crf_decode(*case.potentials, **case.ends)
    kept = best > -np.inf
    if kept.any():
        tags[~kept] = 0
        scores = fsl.crf_score(case.emissions, tags, case.transitions, case.lengths, **case.ends)
        np.testing.assert_allclose(scores[kept], best[kept], rtol=1e-15, atol=1e-15 + case.rounding)


def test_probabilities_of_all_paths_add_up_to_one():
    rng = np.random.default_rng(0)
    emissions, transitions = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    log_probs = [fsl.crf_score(emissions, path, transitions, normalize=True) for path in np.ndindex(3, 3, 3, 3)]
    assert math.fsum(np.exp(log_probs)) == pytest.approx(1, rel=1e-14)


def test_sums_are_not_rounded():
    emissions = np.array([[1e17, 0.0], [1.0, 0.0], [-1e17, 0.0]])
    assert fsl.crf_score(emissions, [0, 0, 0], np.zeros((2, 2))) == 1
    emissions = np.array([[1.7e308, 0.0], [1.7e308, 0.0], [-1.7e308, 0.0]])
    assert fsl.crf_score(emissions, [0, 0, 0], np.zeros((2, 2))) == pytest.approx(1.7e308)
    assert fsl.crf_score(np.abs(emissions), [0, 0, 0], np.zeros((2, 2))) == np.inf


def test_forbidden_empty_and_invalid_paths():
    emissions = np.zeros((4, 2, 2))
    emissions[2, 0, 0] = np.nan
    transitions = np.array([[0.0, -np.inf], [1.0, 0.0]])
    scores = fsl.crf_score(emissions, [[0, 1], [1, 0], [0, 0], [-1, -1]], transitions, [2, 2, 2, 0])
    np.testing.assert_array_equal(scores, [-np.inf, 1, np.nan, 0])
    assert isinstance(fsl.crf_score(emissions[0], [1, 0], transitions), float)
    assert fsl.crf_score(np.zeros((2, 0, 3)), np.zeros((2, 0), int), np.zeros((3, 3))).tolist() == [0, 0]


def test_wrong_options():
    with pytest.raises(TypeError, match="normalize must be a bool, got int"):
        fsl.crf_score(np.zeros((2, 2)), [0, 1], np.zeros((2, 2)), normalize=1)
    with pytest.raises(ValueError, match=r"tags\[1\] is 2; allowed: 0 to 1"):
        fsl.crf_score(np.zeros((2, 2)), [0, 2], np.zeros((2, 2)))
