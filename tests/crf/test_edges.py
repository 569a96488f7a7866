"""The CRF where things vanish: no batch, no steps, one tag, no path, no numbers."""

import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from crf_cases import assert_same, cases, random_case

REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
LOSSES = (fsl.crf_loss, fsl.structured_hinge_loss)


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | case.ends | options
    return fsl.crf_loss(*case.arguments, **options)


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(0, 5, 4), (0, 0, 1), (3, 0, 4)])
def test_nothing_there(function, reduction, shape):
    emissions = np.zeros(shape, np.float32)
    tags = np.zeros(shape[:2], int)
    transitions = np.zeros((shape[2], shape[2]))
    loss, gradients = function(emissions, tags, transitions, reduction=reduction, return_grad=True)
    assert gradients.emissions.shape == shape
    assert not gradients.transitions.any()
    assert np.shape(loss) == (shape[:1] if reduction == "none" else ())
    assert np.sum(loss) == 0
    unary, pairwise = fsl.crf_marginals(emissions, transitions, pairwise=True)
    assert unary.shape == shape
    assert pairwise.shape == (shape[0], max(shape[1] - 1, 0), shape[2], shape[2])
    assert not fsl.crf_log_partition(emissions, transitions).any()
    paths, score = fsl.crf_decode(emissions, transitions)
    assert paths.shape == shape[:2]
    assert not score.any()


@pytest.mark.parametrize("function", LOSSES)
def test_lengths_of_zero(level, function):
    case = random_case(np.random.default_rng(0), (3, 4, 5), dtype=np.float32, full=True)
    lengths = [4, 0, 2]
    case.emissions[1] = np.nan
    loss, gradients = function(*case.arguments[:3], lengths, reduction="none", return_grad=True)
    assert loss[1] == 0
    assert not gradients.emissions[1].any()
    assert fsl.crf_log_partition(*case.potentials[:2], lengths)[1] == 0
    paths, score = fsl.crf_decode(*case.potentials[:2], lengths)
    assert score[1] == 0
    assert np.all(paths[1] == -1)


def test_one_tag(level):
    """The only path is certain."""
    case = random_case(np.random.default_rng(0), (3, 6, 1))
    loss, gradients = run(case)
    np.testing.assert_allclose(loss, 0, atol=1e-14)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_path_at_all(level, dtype):
    case = random_case(np.random.default_rng(0), (4, 6, 5), dtype=dtype, full=True)
    case.emissions[1, 3] = -np.inf
    case.emissions[2] = -np.inf
    loss, gradients = run(case)
    np.testing.assert_array_equal(loss[1:3], np.inf)
    assert not gradients.emissions[1:3].any()
    rest, slopes = run(case.take([0, 3]))
    np.testing.assert_array_equal(loss[[0, 3]], rest)
    # Gradients summed over the batch: the order of additions depends on its size.
    rounding = np.finfo(dtype).eps
    for with_others, alone in zip(gradients[1:], slopes[1:], strict=True):
        np.testing.assert_allclose(with_others, alone, rtol=4 * rounding, atol=rounding)
    unary, pairwise = fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True)
    assert not unary[1:3].any()
    assert not pairwise[1:3].any()
    np.testing.assert_array_equal(fsl.crf_log_partition(*case.potentials, **case.ends)[1:3], -np.inf)
    paths, score = fsl.crf_decode(*case.potentials, **case.ends)
    np.testing.assert_array_equal(score[1:3], -np.inf)
    assert np.all(paths[1:3] == -1)


def test_every_transition_forbidden(level):
    emissions = np.zeros((2, 3, 4))
    transitions = np.full((4, 4), -np.inf)
    loss, gradients = fsl.crf_loss(
        emissions, np.zeros((2, 3), int), transitions, [3, 1], reduction="none", return_grad=True
    )
    np.testing.assert_allclose(loss, [np.inf, np.log(4)])
    assert not gradients.transitions.any()


@given(cases(smallest=1, forbidden=(0.3,)))
def test_forbidden_transitions_get_no_gradient(level, case):
    _, gradients = run(case)
    assert not gradients.transitions[case.transitions == -np.inf].any()
    for gradient in gradients:
        assert not np.isnan(gradient).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("function", LOSSES)
def test_nan_stays_in_its_sequence(level, bad, function):
    case = random_case(np.random.default_rng(1), (9, 7, 11), dtype=np.float32, full=True)
    expected, slopes = function(*case.arguments, reduction="none", return_grad=True)
    totals = fsl.crf_log_partition(*case.potentials)
    case.emissions[4, 3, 2] = bad
    loss, gradients = function(*case.arguments, reduction="none", return_grad=True)
    others = np.arange(9) != 4
    assert np.isnan(loss[4])
    assert np.isnan(gradients.emissions[4]).all()
    assert np.isnan(gradients.transitions).all()
    assert_same([loss[others], gradients.emissions[others]], [expected[others], slopes.emissions[others]])
    assert np.isnan(fsl.crf_log_partition(*case.potentials)[4])
    assert_same([fsl.crf_log_partition(*case.potentials)[others]], [totals[others]])
    unary, pairwise = fsl.crf_marginals(*case.potentials, pairwise=True)
    assert np.isnan(unary[4]).all()
    assert np.isnan(pairwise[4]).all()
    assert not np.isnan(unary[others]).any()
    paths, score = fsl.crf_decode(*case.potentials)
    assert np.isnan(score[4])
    assert np.all(paths[4] == -1)


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weight_zero_takes_a_sequence_out(function, reduction):
    """The sequence may contain NaN or a forbidden path."""
    case = random_case(np.random.default_rng(1), (4, 5, 6), full=True)
    case.emissions[1] = np.nan
    case.emissions[2, 1] = -np.inf
    weight = np.array([1.0, 0.0, 0.0, 2.0])
    options = {"reduction": reduction, "return_grad": True}
    loss, gradients = function(*case.arguments, sample_weight=weight, **options)
    rest, slopes = function(*case.take([0, 3]).arguments, sample_weight=weight[[0, 3]], **options)
    np.testing.assert_allclose(loss, [rest[0], 0, 0, rest[1]] if reduction == "none" else rest, rtol=1e-14)
    np.testing.assert_allclose(gradients.transitions, slopes.transitions, rtol=1e-13, atol=1e-15)
    assert not gradients.emissions[1:3].any()


@pytest.mark.parametrize("function", LOSSES)
def test_weights_that_are_all_zero(function):
    case = random_case(np.random.default_rng(1), (4, 5, 6))
    loss, gradients = function(*case.arguments, sample_weight=np.zeros(4), return_grad=True)
    assert loss == 0
    assert not any(g.any() for g in gradients if g is not None)


def test_confident_scores_give_a_loss_near_zero(level):
    """A loss of 1e-13 keeps its digits where log-partition and score are both large."""
    emissions = np.zeros((1, 50, 4))
    emissions[..., 1] = 1000.0
    emissions[0, 20, 2] = 970.0
    loss = fsl.crf_loss(emissions, np.ones((1, 50), int), np.zeros((4, 4)))
    assert loss == pytest.approx(np.exp(-30.0), rel=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_to_small_types_raises_nothing(dtype):
    """Gradients underflow where they are delivered, whatever NumPy is told to make of that elsewhere."""
    case = random_case(np.random.default_rng(0), (3, 5, 4), dtype=dtype, scale=40.0, step_scale=40.0)
    loss, gradients = run(case)
    out = fsl.CRFGradient(*(np.zeros_like(x) for x in (case.emissions, *case.parameters)))
    pairs = fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True)
    with np.errstate(all="raise"):
        assert_same(run(case)[1], gradients)
        assert run(case, grad_out=out)[0].tolist() == loss.tolist()
        assert_same(out, gradients)
        assert_same(fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True), pairs)


def test_sums_of_scores_that_overflow():
    case = random_case(np.random.default_rng(0), (3, 5, 4), full=True)
    expected = run(case)
    case.emissions[1, 0] = 1.7e308
    start = np.full(4, 1.7e308)
    loss, gradients = run(case, start=start)
    assert fsl.crf_decode(*case.potentials, start=start).score[1] == np.inf
    case.emissions[1, 0] = 0  # all paths had this in common
    right, right_gradients = run(case, start=np.zeros(4))
    np.testing.assert_allclose(loss, right, rtol=1e-12)
    for found, expected_gradient in zip(gradients, right_gradients, strict=True):
        np.testing.assert_allclose(found, expected_gradient, atol=1e-12)
    case.emissions[1] = 1.7e308
    assert not np.isfinite(fsl.crf_decode(*case.potentials).score[1])
    loss, gradients = run(case)
    np.testing.assert_array_equal(loss[[0, 2]], expected[0][[0, 2]])
    assert np.isfinite(gradients.emissions).all()
