"""Masks with holes: the steps outside are never read, and their neighbours meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import HALF, assert_same, random_case

FLOATS = (np.float64, np.float32, *HALF)


@st.composite
def problems(draw, dtypes=FLOATS):
    """A case whose sequences are full, a mask, and the same case with the steps within the mask moved together."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 4)))
    case = random_case(rng, shape, dtype=draw(st.sampled_from(dtypes)), full=True)
    mask = rng.random(shape[:2]) < draw(st.sampled_from((0.3, 0.7)))
    case.emissions[~mask], case.tags[~mask] = np.nan, -100
    lengths = mask.sum(axis=1)
    emissions, tags = np.full_like(case.emissions, np.nan), np.full_like(case.tags, -100)
    for b, n in enumerate(lengths):
        emissions[b, :n], tags[b, :n] = case.emissions[b, mask[b]], case.tags[b, mask[b]]
    return case, mask, (emissions, tags, lengths)


@given(problems(), st.sampled_from((fsl.crf_loss, fsl.structured_hinge_loss)), st.sampled_from((1, 2)))
def test_losses_and_gradients(level, problem, function, threads):
    case, mask, (emissions, tags, lengths) = problem
    for reduction in ("none", "mean", "sequence_mean"):
        options = {"reduction": reduction, "return_grad": True, "num_threads": threads} | case.ends
        loss, gradients = function(case.emissions, case.tags, case.transitions, mask=mask, **options)
        expected, slopes = function(emissions, tags, case.transitions, lengths, **options)
        assert_same([loss, *gradients[1:]], [expected, *slopes[1:]])
        assert gradients.emissions.dtype == case.emissions.dtype
        assert not gradients.emissions[~mask].any()
        for b, n in enumerate(lengths):
            assert_same([gradients.emissions[b, mask[b]]], [slopes.emissions[b, :n]])


@given(problems())
def test_paths_marginals_and_scores(level, problem):
    case, mask, (emissions, tags, lengths) = problem
    given, moved = (case.emissions, case.transitions), (emissions, case.transitions, lengths)
    for n_best in (None, 3):
        path, score = fsl.crf_decode(*given, mask=mask, **case.ends, n_best=n_best)
        expected = fsl.crf_decode(*moved, **case.ends, n_best=n_best)
        assert_same([score], [expected.score])
        for b, n in enumerate(lengths):
            assert_same([path[b][..., mask[b]]], [expected.tags[b][..., :n]])
            assert np.all(path[b][..., ~mask[b]] == -1)
    unary, pairwise = fsl.crf_marginals(*given, mask=mask, **case.ends, pairwise=True)
    nodes, steps = fsl.crf_marginals(*moved, **case.ends, pairwise=True)
    assert pairwise.shape == steps.shape
    for b, n in enumerate(lengths):
        assert_same([unary[b, mask[b]]], [nodes[b, :n]])
        assert not unary[b, ~mask[b]].any()
        earlier = np.flatnonzero(mask[b])[:-1]
        assert_same([pairwise[b, earlier]], [steps[b, : max(n - 1, 0)]])
        assert not np.delete(pairwise[b], earlier, axis=0).any()
    assert_same([fsl.crf_log_partition(*given, mask=mask, **case.ends)], [fsl.crf_log_partition(*moved, **case.ends)])
    for normalize in (False, True):
        options = {"normalize": normalize} | case.ends
        assert_same(
            [fsl.crf_score(case.emissions, case.tags, case.transitions, mask=mask, **options)],
            [fsl.crf_score(emissions, tags, case.transitions, lengths, **options)],
        )


@given(problems(dtypes=(np.float64, np.float32)), st.booleans())
def test_gradients_in_given_arrays(level, problem, over_the_input):
    case, mask, _ = problem
    arguments = (case.emissions, case.tags, case.transitions)
    options = {"mask": mask, "reduction": "sum"} | case.ends
    expected, slopes = fsl.crf_loss(*arguments, **options, return_grad=True)
    out = case.emissions if over_the_input else np.full_like(case.emissions, 7)
    loss, gradients = fsl.crf_loss(*arguments, **options, grad_out=out)
    assert gradients.emissions is out
    assert_same([loss, *gradients], [expected, *slopes])


def test_single_sequences():
    case = random_case(np.random.default_rng(0), (1, 6, 3), full=True)
    mask = np.array([False, True, False, True, True, False])
    kept = case.emissions[0, mask], case.tags[0, mask], case.transitions
    loss, gradients = fsl.crf_loss(
        case.emissions[0], case.tags[0], case.transitions, mask=mask, **case.ends, return_grad=True
    )
    expected, slopes = fsl.crf_loss(*kept, **case.ends, return_grad=True)
    assert_same([loss, gradients.emissions[mask], *gradients[1:]], [expected, *slopes])
    path = fsl.crf_decode(case.emissions[0], case.transitions, mask=mask, **case.ends)
    assert_same([path.tags[mask], path.score], fsl.crf_decode(kept[0], kept[2], **case.ends))
    assert path.tags[~mask].tolist() == [-1] * 3


def test_the_first_wrong_tag_is_named_at_its_own_position():
    mask = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])
    tags = np.array([[0, -100, 1, -100], [-100, 1, -100, -100]])
    with pytest.raises(
        ValueError, match=r"tags\[1, 3\] is -100; allowed: 0 to 1; if it is padding, pass lengths or mask"
    ):
        fsl.crf_loss(np.zeros((2, 4, 2)), tags, np.zeros((2, 2)), mask=mask)
    with pytest.raises(ValueError, match=r"tags\[2\] is 9; allowed: 0 to 1"):
        fsl.crf_loss(np.zeros((4, 2)), [0, -100, 9, -100], np.zeros((2, 2)), mask=mask[0])


def test_a_mask_without_holes_copies_nothing():
    case = random_case(np.random.default_rng(0), (3, 5, 4), full=True)
    mask = np.arange(5) < np.array([[5], [2], [0]])
    _, gradients = fsl.crf_loss(
        case.emissions, case.tags, case.transitions, mask=mask, grad_out=case.emissions, reduction="sum"
    )
    assert gradients.emissions is case.emissions
