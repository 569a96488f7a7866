"""structured_hinge_loss: the worst violation over all paths, and the subgradient it gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import HALF, assert_same, assert_within, cases, random_case
from reference import crf as reference_crf
from reference import ctc as reference

REDUCTIONS = ("none", "sum", "mean", "sequence_mean")


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | case.ends | options
    return fsl.structured_hinge_loss(*case.arguments, **options)


def random_cost(seed, n_tags):
    cost = np.random.default_rng(seed).exponential(size=(n_tags, n_tags))
    np.fill_diagonal(cost, 0)
    return cost


def hamming(case):
    return 1 - np.eye(case.transitions.shape[0])


@given(cases(smallest=1, largest=(3, 5, 4), scales=(0.1, 1.0, 10.0)), st.none() | st.integers(0, 99))
def test_matches_enumeration(level, case, seed):
    cost = hamming(case) if seed is None else random_cost(seed, case.transitions.shape[0])
    losses, _ = run(case, cost="hamming" if seed is None else cost)
    for b, n in enumerate(case.lengths):
        emissions, tags = case.emissions[b, :n], case.tags[b, :n]
        own = reference_crf.path_score(tags, emissions, *case.parameters)
        if own == -np.inf:
            assert losses[b] == np.inf
            continue
        paths, scores = reference_crf.all_paths(emissions, *case.parameters)
        violations = scores + cost[tags, paths].sum(axis=1) - own
        assert_within(losses[b], max(0.0, float(violations.max())), 1e-12 + case.rounding, "loss")


@given(cases(dtypes=(np.float32, np.float64, *HALF), forbidden=(0.0,)), st.sampled_from((1, 2, 4)))
def test_matches_reference(level, case, threads):
    """Ties aside, which emissions in half precision have."""
    case.emissions += np.linspace(0, 0.01, case.emissions.size).reshape(case.emissions.shape).astype(case.start.dtype)
    losses, gradients = run(case, num_threads=threads)
    expected, _ = reference_crf.batch(reference_crf.hinge, case, hamming(case))
    assert_within(losses, expected, 1e-12 + case.rounding, "loss")
    assert np.all(losses >= 0)
    if case.emissions.dtype == np.float64 and case.rounding < 1e-10:
        case.check(losses, gradients, reference_crf.hinge, hamming(case))
    np.testing.assert_array_equal(run(case, return_grad=False), losses)


@given(cases(smallest=1, largest=(3, 6, 5), dtypes=(np.float64,), scales=(1.0,), forbidden=(0.0, 0.1)))
def test_gradients_are_the_central_differences(case):
    """Almost everywhere the maximum is attained once, and the loss linear around."""
    _, gradients = run(case, reduction="sum")
    losses = run(case, return_grad=False)
    counted = np.where(np.isfinite(losses), 1.0, 0.0)
    case.emissions[np.isnan(case.emissions)] = 0
    for name, gradient in gradients._asdict().items():
        x = getattr(case, name)
        finite = np.isfinite(x)

        def total(values, name=name, x=x, finite=finite):
            changed = np.where(finite, values, x)
            arguments = {"emissions": case.emissions, "transitions": case.transitions, **case.ends, name: changed}
            options = {"reduction": "sum", "sample_weight": counted}
            return fsl.structured_hinge_loss(tags=case.tags, lengths=case.lengths, **arguments, **options)

        numeric = reference.central_differences(total, np.where(finite, x, 0), 1e-7)
        np.testing.assert_allclose(numeric[finite], gradient[finite], atol=1e-5)


@given(cases(smallest=1, largest=(3, 4, 4), dtypes=(np.float64,), scales=(0.1, 1.0), forbidden=(0.0, 0.1)))
def test_softmax_margin(case):
    """crf_loss with the cost in the emissions, the soft form of this loss and a bound of it."""
    cost = random_cost(len(case.tags), case.transitions.shape[0])
    padding = np.isnan(case.emissions)
    own, emissions = np.where(padding[..., 0], 0, case.tags), np.where(padding, 0, case.emissions)

    def losses_of(x, **options):
        return fsl.crf_loss(x + cost[own], case.tags, case.transitions, case.lengths, **case.ends, **options)

    losses, gradients = losses_of(emissions, reduction="none", return_grad=True)
    path = fsl.crf_decode(*case.potentials, **case.ends).tags
    margins, _ = run(case, cost=cost)
    for b, n in enumerate(case.lengths):
        if losses[b] == np.inf:
            continue
        y = case.tags[b, :n]
        paths, scores = reference_crf.all_paths(emissions[b, :n], *case.parameters)
        total = np.logaddexp.reduce((scores + cost[y, paths].sum(axis=1)).astype(float))
        expected = total - float(reference_crf.path_score(y, emissions[b, :n], *case.parameters))
        assert_within(losses[b], expected, 1e-12, "loss")
        assert losses[b] >= margins[b] - 1e-12
        assert margins[b] >= cost[y, path[b, :n]].sum() - 1e-12
    finite = np.isfinite(emissions)
    counted = np.isfinite(losses).astype(float)

    def total_of(x):
        return losses_of(np.where(finite, x, emissions), reduction="sum", sample_weight=counted)

    numeric = reference.central_differences(total_of, np.where(finite, emissions, 0), 1e-6)
    np.testing.assert_allclose(numeric[finite], gradients.emissions[finite], rtol=1e-6, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 6))
def test_zero_exactly_when_separated_by_the_margin(level, seed, frames, n_tags):
    """Scores of whole numbers, the true tags ahead by the margin, and by one less."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, (4, frames, n_tags), full=True)
    case.transitions, case.start, case.end = (np.zeros_like(p) for p in case.parameters)
    case.emissions = rng.integers(-9, 9, case.emissions.shape).astype(float)
    others = np.where(np.arange(n_tags) == case.tags[..., None], -np.inf, case.emissions).max(axis=2)
    at = (*np.indices(case.tags.shape), case.tags)
    case.emissions[at] = others + 1
    losses, gradients = run(case)
    assert not losses.any()
    assert not any(g.any() for g in gradients)
    case.emissions[at] -= 1
    losses, gradients = run(case)
    np.testing.assert_array_equal(losses, np.full(4, frames))
    assert np.all(gradients.emissions[at] == -1)


@given(cases(scales=(10.0, 1e3), forbidden=(0.0,)), st.floats(1.0, 3.0))
def test_never_negative_and_zero_on_the_best_path(level, case, ahead):
    """The tagged path is added up like the best one, so rounding has no effect."""
    for b, n in enumerate(case.lengths):
        best = fsl.crf_decode(*case.sequence(b).potentials, **case.ends)
        case.tags[b, :n] = best.tags[0]
        case.emissions[b, np.arange(n), case.tags[b, :n]] += case.emissions.dtype.type(ahead)
    losses, gradients = run(case)
    assert not losses.any()
    assert not any(g.any() for g in gradients)


def test_a_path_that_is_forbidden():
    case = random_case(np.random.default_rng(0), (3, 6, 4), full=True)
    case.transitions[1, 2] = -np.inf
    case.tags[1, 2:4] = 1, 2
    losses, gradients = run(case)
    assert losses[1] == np.inf
    assert not gradients.emissions[1].any()
    rest, slopes = run(case.take([0, 2]))
    np.testing.assert_array_equal(losses[[0, 2]], rest)
    assert_same(slopes[1:], gradients[1:])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("threads", [2, 3, None])
def test_independence(level, reduction, threads):
    case = random_case(np.random.default_rng(5), (70, 50, 21), dtype=np.float32)
    case.emissions[3] = np.nan
    expected = run(case, reduction=reduction, num_threads=1)
    result = run(case, reduction=reduction, num_threads=threads)
    assert_same([result[0], *result[1]], [expected[0], *expected[1]])
    if reduction == "none":
        for b, n in enumerate(case.lengths):
            alone, slopes = run(case.sequence(b))
            assert_same([alone, slopes.emissions[0]], [result[0][b : b + 1], result[1].emissions[b, :n]])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_and_weights(reduction):
    case = random_case(np.random.default_rng(2), (5, 9, 6))
    losses, gradients = run(case)
    weight = np.array([0.0, 1.0, 2.0, 0.5, 1.0])
    loss, slopes = run(case, reduction=reduction, sample_weight=weight)
    expected, slope = reference.reduce(losses, gradients.emissions, case.lengths, reduction, weight)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(slopes.emissions, slope, rtol=1e-13)
    half, _ = run(case, reduction="sum", normalizer=2.0)
    assert half == pytest.approx(losses.sum() / 2)


@pytest.mark.parametrize("cost", ["hamming", None])
def test_gradients_over_the_inputs(cost):
    case = random_case(np.random.default_rng(2), (5, 9, 6), dtype=np.float32)
    cost = random_cost(1, 6) if cost is None else cost
    expected = run(case, cost=cost)
    outs = fsl.CRFGradient(case.emissions, *case.parameters)
    result = run(case, cost=cost, grad_out=outs)
    assert all(a is b for a, b in zip(result[1], outs, strict=True))
    assert_same([result[0], *result[1]], [expected[0], *expected[1]])


@pytest.mark.parametrize(
    ("cost", "error", "said"),
    [
        ("hinge", ValueError, "cost is 'hinge'; allowed: 'hamming'"),
        (np.zeros((3, 4)), ValueError, r"cost has shape \(3, 4\); allowed: \(4, 4\)"),
        (-np.ones((4, 4)), ValueError, r"cost\[0, 0\] is -1.0; allowed: finite, 0 or more"),
        (np.full((4, 4), np.inf), ValueError, r"cost\[0, 0\] is inf"),
        (np.ones((4, 4)), ValueError, r"cost\[0, 0\] is 1.0; allowed: 0 on the diagonal"),
        (np.zeros((4, 4), complex), TypeError, "cost has dtype complex128"),
    ],
)
def test_wrong_costs(cost, error, said):
    case = random_case(np.random.default_rng(0), (2, 5, 4))
    with pytest.raises(error, match=said):
        run(case, cost=cost)
