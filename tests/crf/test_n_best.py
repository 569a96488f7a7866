"""The N best paths: by enumeration of all paths, with ties, in every form of the arguments."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import assert_same, cases, random_case
from fastseqloss.crf.exact_paths import exact_paths
from reference import crf as reference_crf


def ranked(emissions, *parameters, n_best):
    """Best paths [N, T] and scores, by sorting all of them: equal scores by the last tag, then the tag before, ..."""
    if len(emissions) == 0:
        return np.zeros((1, 0), int), np.zeros(1)
    paths, scores = reference_crf.all_paths(emissions, *parameters)
    order = np.lexsort((*paths.T, -scores))
    order = order[scores[order] > -np.inf][:n_best]
    return paths[order], scores[order].astype(float)


def check(case, n_best, **options):
    tags, scores = fsl.crf_decode(*case.potentials, **case.ends, n_best=n_best, **options)
    assert (tags.shape, scores.shape) == ((*case.tags.shape[:1], n_best, case.tags.shape[1]), (len(tags), n_best))
    for b, n in enumerate(case.lengths):
        paths, expected = ranked(case.emissions[b, :n], *case.parameters, n_best=n_best)
        found = len(paths)
        np.testing.assert_allclose(scores[b, :found], expected, rtol=1e-13, atol=1e-13 + case.rounding)
        assert np.all(scores[b, found:] == -np.inf)
        assert np.all(tags[b, found:] == -1)
        assert np.all(tags[b, :, n:] == -1)
        assert len(np.unique(tags[b, :found, :n], axis=0)) == found
        np.testing.assert_array_equal(tags[b, :found, :n], paths)


SMALL = {"smallest": 1, "largest": (6, 5, 4), "scales": (0.1, 1.0, 10.0)}


@given(cases(**SMALL, dtypes=(np.float64, np.float32)), st.integers(2, 40), st.sampled_from((1, 2)))
def test_matches_enumeration(level, case, n_best, threads):
    check(case, n_best, num_threads=threads)


@given(cases(**SMALL), st.sampled_from((2, 7, 40)))
def test_ties_go_by_the_last_tags(level, case, n_best):
    """Scores that are small integers add up exactly, and tie often."""
    for array in (case.emissions, *case.parameters):
        np.rint(array, out=array)
    check(case, n_best)


def test_all_paths_tie(level):
    tags, scores = fsl.crf_decode(np.zeros((3, 2)), np.zeros((2, 2)), n_best=8)
    np.testing.assert_array_equal(tags[:, ::-1] @ [4, 2, 1], range(8))
    assert not scores.any()


@given(cases(smallest=1, scales=(0.1, 1.0, 10.0)), st.sampled_from((2, 5)), st.sampled_from((1, 2, 4)))
def test_the_first_path_is_the_best_one(level, case, n_best, threads):
    tags, scores = fsl.crf_decode(*case.potentials, **case.ends, n_best=n_best, num_threads=threads)
    assert_same((tags[:, 0], scores[:, 0]), fsl.crf_decode(*case.potentials, **case.ends))
    with np.errstate(invalid="ignore"):
        assert not (np.diff(scores, axis=1) > 0).any()


@pytest.mark.parametrize("n_best", [None, 1])
def test_one_path_has_no_axis_of_its_own(level, n_best):
    case = random_case(np.random.default_rng(0), (5, 7, 6))
    expected = fsl.crf_decode(*case.potentials, **case.ends)
    assert_same(fsl.crf_decode(*case.potentials, **case.ends, n_best=n_best), expected)
    single = fsl.crf_decode(case.emissions[0], case.transitions, int(case.lengths[0]), **case.ends, n_best=n_best)
    assert_same(single, (expected.tags[0], expected.score[0]))
    assert isinstance(single.score, float)


def test_single_sequences_and_batches(level):
    case = random_case(np.random.default_rng(1), (9, 30, 21), dtype=np.float32)
    tags, scores = fsl.crf_decode(*case.potentials, **case.ends, n_best=12, num_threads=2)
    for b, n in enumerate(case.lengths):
        alone = fsl.crf_decode(case.emissions[b], case.transitions, int(n), **case.ends, n_best=12)
        assert_same(alone, (tags[b], scores[b]))


def test_more_paths_than_there_are(level):
    transitions = np.array([[0.0, -np.inf], [0.0, 1.0]])
    tags, scores = fsl.crf_decode(np.zeros((3, 2)), transitions, n_best=6)
    assert tags.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0], [-1] * 3, [-1] * 3]
    assert scores.tolist() == [2, 1, 0, 0, -np.inf, -np.inf]


def test_sequences_without_paths(level):
    emissions = np.zeros((4, 3, 2))
    emissions[1, 1] = -np.inf
    emissions[2, 0, 1] = np.nan
    tags, scores = fsl.crf_decode(emissions, np.zeros((2, 2)), [3, 3, 3, 0], n_best=3)
    assert np.all(tags[1:] == -1)
    assert np.all(scores[1] == -np.inf)
    assert np.isnan(scores[2]).all()
    assert scores[3].tolist() == [0, -np.inf, -np.inf]
    assert fsl.crf_decode(np.zeros((2, 0, 3)), np.zeros((3, 3)), n_best=2).score.tolist() == [[0, -np.inf]] * 2
    assert fsl.crf_decode(np.zeros((0, 4, 3)), np.zeros((3, 3)), n_best=2).tags.shape == (0, 2, 4)


@pytest.mark.parametrize("scale", [2.0**34, 1e25, 1e300])
def test_huge_scores_are_ranked_without_rounding(level, scale):
    """Float64 sums lose the second terms, which decide between paths of equal first ones."""
    rng = np.random.default_rng(3)
    large = rng.integers(-1, 2, (3, 4, 3)) * scale
    emissions = np.where(rng.random(large.shape) < 0.5, large, rng.integers(-3, 4, large.shape))
    transitions = np.where(rng.random((3, 3)) < 0.3, -scale, rng.integers(-2, 3, (3, 3)))
    emissions[:, 1] -= scale  # every path has a huge score
    tags, scores = fsl.crf_decode(emissions, transitions, n_best=6)
    assert_same((tags[:, 0], scores[:, 0]), fsl.crf_decode(emissions, transitions))
    varying = np.tile(transitions, (3, 4, 1, 1))
    varying[:, 0] = np.nan
    assert_same((tags, scores), fsl.crf_decode(emissions, varying, n_best=6))
    assert_same((tags[:, 0], scores[:, 0]), fsl.crf_decode(emissions, varying))
    for b in range(3):
        every = []
        for path in np.ndindex(3, 3, 3, 3):
            terms = [emissions[b, t, y] for t, y in enumerate(path)] + [transitions[pair] for pair in pairwise(path)]
            every.append((-sum(map(int, terms)), path[::-1]))
        assert [tuple(path[::-1]) for path in tags[b].tolist()] == [path for _, path in sorted(every)[:6]]


@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_of_every_step(dtype, n_best):
    """Scores that every path has change no path; with holes and padding of NaN."""
    rng = np.random.default_rng(4)
    emissions, transitions = rng.integers(-8, 9, (2, 5, 3)).astype(dtype), rng.integers(-8, 9, (2, 5, 3, 3))
    transitions = transitions.astype(dtype)
    mask = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0]], bool)
    emissions[~mask] = transitions[~mask] = np.nan
    options = {"mask": mask, "n_best": n_best}
    expected = fsl.crf_decode(emissions, transitions, **options)
    for large in (1e20, -1e20, 2.0**900):
        for end in (0.0, large, -large):
            ends = {"start": np.full(3, large), "end": np.full(3, end)}
            found = fsl.crf_decode(emissions, transitions, **ends, **options)
            np.testing.assert_array_equal(found.tags, expected.tags)
            if end == -large:
                np.testing.assert_array_equal(found.score, expected.score)


@given(cases(**SMALL, dtypes=(np.float64,)), st.sampled_from((1, 3, 20)))
def test_exact_arithmetic_matches_enumeration(case, n_best):
    for b, n in enumerate(case.lengths):
        if n:
            tags, scores = exact_paths(case.emissions[b, :n], *case.parameters, n_best)
            paths, expected = ranked(case.emissions[b, :n], *case.parameters, n_best=n_best)
            np.testing.assert_array_equal(np.reshape(tags, paths.shape), paths)
            np.testing.assert_allclose(scores, expected, rtol=1e-15, atol=1e-15 + case.rounding)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (0, ValueError, "n_best is 0; allowed: 1 to 4096, or None"),
        (-3, ValueError, "n_best is -3; allowed"),
        (4097, ValueError, "n_best is 4097; allowed"),
        (2.0, TypeError, "n_best must be an integer, got float"),
        (True, TypeError, "n_best must be an integer, got bool"),
        ("2", TypeError, "n_best must be an integer, got str"),
    ],
)
def test_wrong_numbers_of_paths(value, kind, said):
    with pytest.raises(kind, match=said):
        fsl.crf_decode(np.zeros((3, 2)), np.zeros((2, 2)), n_best=value)
