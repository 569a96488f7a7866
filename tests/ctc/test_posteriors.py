"""ctc_posteriors: occupation probabilities of the states of the lattice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import HALF, cases, random_case, scores_like
from reference import alignment as reference_alignment
from reference import ctc as reference
from reference.alignment import states_of
from thoroughness import thorough

THREADS = st.sampled_from((1, 2, 4))


def run(case, **options):
    return fsl.ctc_posteriors(*case.arguments, **case.options, **options)


def expected_of(case):
    width = 2 * max([0, *case.label_lengths]) + 1
    result = np.zeros((*case.scores.shape[:2], width))
    for b, (labels, n) in enumerate(zip(case.tokens, case.lengths, strict=True)):
        own = reference_alignment.posteriors(case.scores[b, :n], labels, case.blank % case.scores.shape[2], case.kind)
        result[b, :n, : own.shape[1]] = own
    return result


def check(case, posteriors):
    assert posteriors.dtype == case.scores.dtype
    wide = case.scores.astype(np.float64)
    largest = np.abs(wide[np.isfinite(wide)]).max(initial=0) if case.kind != "probs" else 0
    tolerance = 1e-12 + np.finfo(np.float64).eps * largest * (case.scores.shape[1] + 4)
    rounding = np.finfo(np.float16).eps * 8 if case.scores.dtype.itemsize == 2 else 0
    if case.scores.dtype != np.float64:
        tolerance += 1e-6
    np.testing.assert_allclose(posteriors.astype(np.float64), expected_of(case), rtol=rounding, atol=tolerance)


@given(cases(), THREADS)
def test_matches_reference(level, case, threads):
    check(case, run(case, num_threads=threads))


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_half_precision(level, case):
    check(case, run(case))


@given(cases(smallest=1, largest=(2, 6, 4, 3), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_matches_enumeration(level, case):
    posteriors = run(case)
    for b, (labels, n) in enumerate(zip(case.tokens, case.lengths, strict=True)):
        probs = np.exp(reference.log_emissions(case.scores[b, :n], case.kind)).astype(np.float64)
        if n:
            by_definition = reference_alignment.posteriors_by_enumeration(
                probs, labels, case.blank % case.scores.shape[2]
            )
            own = posteriors[b, :n, : 2 * len(labels) + 1]
            np.testing.assert_allclose(own, by_definition, rtol=1e-10, atol=1e-12)


@given(cases(kinds=("logits",), scales=(0.1, 1.0, 10.0, 100.0)))
def test_gradient_is_softmax_less_posteriors(level, case):
    posteriors = run(case).astype(np.float64)
    _, gradient = fsl.ctc_loss(*case.arguments, **case.options, reduction="sum", return_grad=True)
    blank = case.blank % case.scores.shape[2]
    for b, (labels, n) in enumerate(zip(case.tokens, case.lengths, strict=True)):
        if n == 0 or not posteriors[b].any():
            continue
        by_class = reference.softmax(case.scores[b, :n]).astype(np.float64)
        states = states_of(labels, blank)
        np.subtract.at(by_class.T, states, posteriors[b, :n, : len(states)].T)
        bound = 1e-11 if case.scores.dtype == np.float64 else 2e-6
        np.testing.assert_allclose(gradient[b, :n], by_class, rtol=0, atol=bound)


@pytest.mark.parametrize("kind", ["logits", thorough("log_probs"), thorough("probs")])
@pytest.mark.parametrize("scale", [thorough(1.0), 30.0])
@pytest.mark.parametrize("shape", [(3, 150, 28, 40), thorough((1, 1200, 5, 500)), thorough((1, 900, 50, 880))])
def test_larger_shapes(level, kind, scale, shape):
    """On both paths of the lattice, with and without checkpoints, tight and loose."""
    case = random_case(np.random.default_rng(2), shape, kind=kind, scale=scale, full=True, repeats=0)
    posteriors = run(case)
    check(case, posteriors)
    np.testing.assert_allclose(posteriors.sum(axis=2), 1, rtol=1e-9)


@pytest.mark.parametrize("name", real_data.NAMES)
def test_frames_of_real_emissions_add_up_to_one(level, name):
    data = real_data.load(name, padding=np.nan)
    arguments = data.emissions, data.labels, data.lengths, data.label_lengths
    posteriors = fsl.ctc_posteriors(*arguments, blank=data.blank, input=data.kind)
    for row, n, count in zip(posteriors, data.lengths, data.label_lengths, strict=True):
        np.testing.assert_allclose(row[:n].sum(axis=1), 1, rtol=1e-5)
        assert not row[n:].any()
        assert not row[:, 2 * count + 1 :].any()


@pytest.mark.parametrize("threads", [2, 3, None])
def test_threads_and_batch_mates_do_not_change_a_bit(level, threads):
    case = random_case(np.random.default_rng(5), (24, 200, 40, 50), dtype=np.float32, scale=3.0)
    case.scores[::3] *= 40
    expected = run(case, num_threads=1)
    np.testing.assert_array_equal(run(case, num_threads=threads), expected)
    for b, n in enumerate(case.lengths):
        alone = run(case.sequence(b))[0]
        np.testing.assert_array_equal(expected[b, :n, : alone.shape[1]], alone)


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_single_sequence_read_only_and_time_major(case):
    expected = run(case)
    arguments = case.scores[0], case.labels[0], int(case.lengths[0]), int(case.label_lengths[0])
    np.testing.assert_array_equal(fsl.ctc_posteriors(*arguments, **case.options), expected[0])
    case.scores = np.ascontiguousarray(case.scores.swapaxes(0, 1)).swapaxes(0, 1)
    case.scores.flags.writeable = False
    np.testing.assert_array_equal(run(case), expected)


def test_nothing_to_occupy(level):
    scores = np.zeros((3, 3, 4))
    scores[2, 1] = -np.inf
    labels = [[1, 1, 2], [1, 2, 3], [1]]
    for policy in ("inf", "zero"):
        posteriors = fsl.ctc_posteriors(scores, labels, infeasible=policy)
        assert not posteriors[::2].any()
        np.testing.assert_allclose(posteriors[1], np.eye(7)[[1, 3, 5]], atol=1e-15)
    with pytest.raises(ValueError, match=r"infeasible sequences: 0$"):
        fsl.ctc_posteriors(scores, labels, infeasible="raise")


def test_nan_stays_in_its_sequence(level):
    scores = np.random.default_rng(0).normal(size=(3, 9, 5))
    expected = fsl.ctc_posteriors(scores, [[1, 2]] * 3)
    scores[1, 4, 2] = np.nan
    found = fsl.ctc_posteriors(scores, [[1, 2]] * 3)
    np.testing.assert_array_equal(found[::2], expected[::2])
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("shape", "labels", "expected"),
    [((0, 5, 4), [], (0, 5, 1)), ((2, 0, 4), [[], []], (2, 0, 1)), ((2, 3, 4), [[], []], (2, 3, 1))],
)
def test_empty(shape, labels, expected):
    posteriors = fsl.ctc_posteriors(np.zeros(shape), labels)
    assert posteriors.shape == expected
    assert np.all(posteriors == 1)


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, r"labels\[0\]\[1\] is 9", {"labels": [[1, 9], [2]]}),
        (ValueError, r"logit_lengths\[0\] is 7; allowed: 0 to 6", {"logit_lengths": [7, 6]}),
        (ValueError, "input is 'log'", {"input": "log"}),
        (ValueError, "infeasible is 'nan'", {"infeasible": "nan"}),
        (ValueError, "blank is 5", {"blank": 5}),
        (TypeError, "logits has dtype", {"logits": np.zeros((2, 6, 5), int)}),
    ],
)
def test_errors(kind, said, wrong):
    with pytest.raises(kind, match=said):
        fsl.ctc_posteriors(**{"logits": np.zeros((2, 6, 5)), "labels": [[1, 2], [3]]} | wrong)


@pytest.mark.parametrize("probability", [0.0, 1e-300])
def test_vanishing_probabilities(level, probability):
    probs = scores_like(np.random.default_rng(3).normal(size=(1, 12, 6)), "probs")
    probs[0, 2:9:2, 1:4] = probability
    case = random_case(np.random.default_rng(0), (1, 12, 6, 4), kind="probs", full=True, repeats=0)
    case.scores = probs
    check(case, run(case))


def test_posteriors_that_underflow_half_precision():
    x = np.array([[0, 15, 0], [26, 0, 0], [0, 0, 17]], np.float16)
    expected = fsl.ctc_posteriors(x, [1])
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(fsl.ctc_posteriors(x, [1]), expected)
