"""Soft-DTW of series and of costs: right values for every dtype, layout, band and reduction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import ctc as reference_ctc
from reference import soft_dtw as reference
from soft_dtw_cases import HALF, cases, random_case

THREADS = st.sampled_from((1, 2, 4))
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
FLOATS = (np.float32, np.float64, *HALF)
SMALL = {"smallest": 1, "largest": (2, 5, 5, 3), "dtypes": (np.float64,), "scales": (0.5,), "gammas": (0.3, 1.0)}


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | case.options | options
    return fsl.soft_dtw_loss(*case.arguments, **options)


def flat(result):
    """Loss and gradients in one list."""
    return [result[0], *result[1]] if isinstance(result[1], tuple) else list(result)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- values -------------------------------------------------------------------------------

X, Y = np.array([0.0, 1, 2, 4])[:, None], np.array([0.0, 2, 2, 3, 5])[:, None]


def test_goldens_of_costs(level):
    """Values from the enumeration of the five paths."""
    costs = np.array([[0.0, 1, 4], [1, 0, 1]])
    loss, posteriors = fsl.soft_dtw_cost(costs, return_grad=True)
    assert loss == pytest.approx(0.253133741152899, abs=5e-16)
    expected = [[1, 0.351831490771, 0.003192770452], [0.174319360159, 0.822487869389, 1]]
    np.testing.assert_allclose(posteriors, expected, rtol=0, atol=5e-13)
    assert fsl.soft_dtw_cost(costs, gamma=0.1) == pytest.approx(0.999986380948506, abs=5e-16)


def test_goldens_of_series(level):
    """Values from the enumeration of the 129 paths."""
    loss, grad = fsl.soft_dtw_loss(X, Y, return_grad=True)
    assert loss == pytest.approx(0.594091158134509, abs=5e-16)
    expected = [-0.066744447389, -1.058786658653, -1.183013667314, -0.831250373273]
    np.testing.assert_allclose(grad.x[:, 0], expected, rtol=0, atol=5e-13)
    loss, grad = fsl.soft_dtw_loss(X, Y, divergence=True, return_grad=True)
    assert loss == pytest.approx(2.171804016090373, abs=1e-15)
    expected = [0.408916159255, -1.054862709868, -1.575957204357, -0.917891391660]
    np.testing.assert_allclose(grad.x[:, 0], expected, rtol=0, atol=5e-13)


@given(cases(), THREADS)
def test_loss_matches_reference(level, case, threads):
    loss, gradients = run(case, num_threads=threads)
    case.check(loss, gradients)
    np.testing.assert_array_equal(run(case, return_grad=False), loss)


@given(cases(), THREADS)
def test_divergence_matches_reference(level, case, threads):
    loss, gradients = run(case, divergence=True, num_threads=threads)
    case.check(loss, gradients, reference.divergence)
    np.testing.assert_array_equal(run(case, divergence=True, return_grad=False), loss)


@given(cases(dtypes=HALF, scales=(0.1, 1.0)), st.booleans())
def test_half_precision(level, case, divergence):
    case.check(*run(case, divergence=divergence), reference.divergence if divergence else reference.series_loss)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shape", [(3, 70, 65, 1), (2, 130, 200, 3), (2, 64, 128, 9), (1, 300, 300, 2), (9, 20, 30, 40)]
)
@pytest.mark.parametrize("gamma", [0.01, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_larger_shapes(level, shape, gamma, dtype):
    case = random_case(np.random.default_rng(shape[1]), shape, gamma=gamma, dtype=dtype)
    case.check(*run(case))


@given(cases(dtypes=(np.float64,)))
def test_series_and_their_costs_agree(level, case):
    """One kernel computes the costs along diagonals, the other reads them."""
    loss, gradients = run(case)
    costs = case.costs
    totals, posteriors = fsl.soft_dtw_cost(
        costs, case.lengths_x, case.lengths_y, **case.options, reduction="none", return_grad=True
    )
    np.testing.assert_allclose(totals, loss, rtol=1e-12, atol=1e-12 * (1 + case.scale))
    found = fsl.soft_dtw_posteriors(*case.arguments, **case.options)
    allowed = 1e-12 + 1e-13 * case.scale / case.gamma
    np.testing.assert_allclose(found, posteriors, atol=allowed)
    x, y = np.nan_to_num(case.x), np.nan_to_num(case.y)
    apart = posteriors[..., None] * (x[:, :, None] - y[:, None])
    np.testing.assert_allclose(gradients.x, 2 * apart.sum(2), atol=allowed * (1 + case.scale) * 10)
    np.testing.assert_allclose(gradients.y, -2 * apart.sum(1), atol=allowed * (1 + case.scale) * 10)
    outside = np.isnan(costs)
    assert not posteriors[outside].any()
    assert not found[outside].any()


@given(cases(**SMALL), st.booleans())
def test_gradients_are_the_central_differences(case, divergence):
    _, gradients = run(case, reduction="sum", divergence=divergence)
    x, y = np.nan_to_num(case.x), np.nan_to_num(case.y)
    options = case.options | {"reduction": "sum", "divergence": divergence}
    for k, series in enumerate((x, y)):

        def total(z, k=k):
            pair = (z, y) if k == 0 else (x, z)
            return fsl.soft_dtw_loss(*pair, case.lengths_x, case.lengths_y, **options)

        numeric = reference_ctc.central_differences(total, series, 1e-6)
        np.testing.assert_allclose(numeric, gradients[k], rtol=1e-6, atol=1e-6)


@given(cases(**SMALL))
def test_posteriors_are_the_central_differences(case):
    costs = np.nan_to_num(case.costs)
    lengths = case.lengths_x, case.lengths_y
    _, posteriors = fsl.soft_dtw_cost(costs, *lengths, **case.options, reduction="sum", return_grad=True)
    numeric = reference_ctc.central_differences(
        lambda c: fsl.soft_dtw_cost(c, *lengths, **case.options, reduction="sum"), costs, 1e-6
    )
    np.testing.assert_allclose(numeric, posteriors, rtol=1e-6, atol=1e-6)


@given(cases(smallest=1, dtypes=(np.float64,), gammas=(0.0,)))
def test_dynamic_time_warping(level, case):
    """gamma 0: the cost of the best path, and the gradient of that path."""
    losses, gradients = run(case)
    cells = fsl.soft_dtw_posteriors(*case.arguments, **case.options)
    for b, (n, m) in enumerate(zip(case.lengths_x, case.lengths_y, strict=True)):
        costs = case.costs[b, :n, :m]
        expected = reference.best_cost(np.where(np.isnan(costs), np.inf, costs))
        assert losses[b] == pytest.approx(expected, rel=1e-13)
        assert reference.is_path(cells[b, :n, :m])
        x, y = case.pair(b)
        apart = cells[b, :n, :m, None] * (x[:, None] - y[None])
        np.testing.assert_allclose(gradients.x[b, :n], 2 * apart.sum(1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradients.y[b, :m], -2 * apart.sum(0), rtol=1e-12, atol=1e-12)


@given(cases(), st.sampled_from((0.0, 0.1, 1.0)))
def test_divergence_of_equal_series_is_zero(level, case, gamma):
    """To the last bit, and so are its gradients."""
    loss, gradients = fsl.soft_dtw_loss(
        case.x, case.x.copy(), case.lengths_x, case.lengths_x, gamma=gamma, band=case.band, divergence=True,
        reduction="none", return_grad=True,
    )  # fmt: skip
    assert not loss.any()
    assert not gradients.x.any()
    assert not gradients.y.any()


@given(cases(dtypes=(np.float64,)), st.booleans())
def test_exchange_of_the_series(level, case, divergence):
    loss, gradients = run(case, divergence=divergence)
    swapped, others = fsl.soft_dtw_loss(
        case.y, case.x, case.lengths_y, case.lengths_x, **case.options, divergence=divergence, reduction="none",
        return_grad=True,
    )  # fmt: skip
    allowed = 1e-11 * (1 + case.scale) * (1 + 1 / case.gamma)
    np.testing.assert_allclose(swapped, loss, rtol=1e-11, atol=1e-12 * (1 + case.scale))
    np.testing.assert_allclose(others.x, gradients.y, atol=allowed)
    np.testing.assert_allclose(others.y, gradients.x, atol=allowed)


def test_close_series_far_from_zero():
    """Costs are differences squared: an offset costs no digit that the series have."""
    rng = np.random.default_rng(0)
    x, y = np.rint(rng.normal(scale=1e4, size=(2, 40, 3))), np.rint(rng.normal(scale=1e4, size=(2, 30, 3)))
    expected = fsl.soft_dtw_loss(x / 1e6, y / 1e6, gamma=1e-3, return_grad=True)
    moved = fsl.soft_dtw_loss((x + 2**50) * 2.0**-20, (y + 2**50) * 2.0**-20, gamma=1e-3, return_grad=True)
    again = fsl.soft_dtw_loss(x * 2.0**-20, y * 2.0**-20, gamma=1e-3, return_grad=True)
    assert moved[0] == again[0] == pytest.approx(expected[0], abs=1e-1)
    assert_same(flat(moved), flat(again))


def test_series_of_two_dtypes(level):
    case = random_case(np.random.default_rng(1), (3, 9, 8, 2))
    case.x = case.x.astype(np.float32)
    loss, gradients = run(case)
    assert (gradients.x.dtype, gradients.y.dtype) == (np.float32, np.float64)
    case.check(loss, gradients)
    assert fsl.soft_dtw_posteriors(*case.arguments).dtype == np.float64


# ---- independence -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, 30], ids=["no band", "band"])
def large(request):
    """Work enough for several threads; strips whose shares are not kept."""
    return random_case(np.random.default_rng(5), (13, 150, 140, 3), dtype=np.float32, band=request.param)


@pytest.mark.parametrize("threads", [2, 3, 64, None])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("divergence", [False, True])
def test_threads_do_not_change_a_bit(level, large, threads, reduction, divergence):
    options = {"reduction": reduction, "divergence": divergence}
    assert_same(flat(run(large, num_threads=threads, **options)), flat(run(large, num_threads=1, **options)))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_costs_nor_posteriors(level, large, threads):
    costs = large.costs
    for call in (
        lambda n: fsl.soft_dtw_cost(costs, *large.arguments[2:], **large.options, return_grad=True, num_threads=n),
        lambda n: (fsl.soft_dtw_posteriors(*large.arguments, **large.options, num_threads=n),),
    ):
        assert_same(call(threads), call(1))


def test_batch_mates_do_not_change_a_bit(level, large):
    for divergence in (False, True):
        losses, gradients = run(large, divergence=divergence)
        for b in range(len(losses)):
            x, y = large.pair(b)
            loss, slopes = fsl.soft_dtw_loss(
                x, y, **large.options, divergence=divergence, reduction="none", return_grad=True
            )
            assert loss == losses[b]
            assert_same(slopes, [gradients.x[b, : len(x)], gradients.y[b, : len(y)]])


# ---- layouts ------------------------------------------------------------------------------


def time_major(x):
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


def strided(x):
    larger = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    view = larger[(slice(1, None, 2),) * x.ndim]
    view[...] = x
    return view


def reversed_memory(x):
    return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]


LAYOUTS = (np.copy, time_major, strided, reversed_memory, np.asfortranarray)


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.booleans())
def test_layouts(level, case, layout, other, read_only):
    expected, posteriors = run(case), fsl.soft_dtw_posteriors(*case.arguments, **case.options)
    costs = case.costs.astype(case.x.dtype)
    lengths = case.arguments[2:]
    totals = fsl.soft_dtw_cost(costs, *lengths, **case.options, return_grad=True)
    case.x, case.y, costs = layout(case.x), other(case.y), layout(costs)
    for array in (case.x, case.y, costs):
        array.flags.writeable = not read_only
    assert_same(flat(run(case)), flat(expected))
    np.testing.assert_array_equal(fsl.soft_dtw_posteriors(*case.arguments, **case.options), posteriors)
    assert_same(fsl.soft_dtw_cost(costs, *lengths, **case.options, return_grad=True), totals)


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), THREADS, st.booleans())
def test_grad_out(level, case, layout, threads, divergence):
    options = {"divergence": divergence, "num_threads": threads}
    expected = run(case, **options)
    outs = fsl.SoftDTWGradient(*(layout(np.full_like(a, np.nan)) for a in (case.x, case.y)))
    loss, gradients = run(case, grad_out=outs, return_grad=False, **options)
    assert gradients.x is outs.x
    assert gradients.y is outs.y
    assert_same([loss, *gradients], flat(expected))
    for k in (0, 1):
        one = [None, None]
        one[k] = np.full_like((case.x, case.y)[k], np.nan)
        loss, gradients = run(case, grad_out=tuple(one), **options)
        assert gradients[1 - k] is None
        assert_same([loss, gradients[k]], [expected[0], expected[1][k]])


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), THREADS, st.booleans())
def test_gradients_over_the_inputs(level, case, layout, threads, divergence):
    expected = run(case, divergence=divergence)
    case.x, case.y = layout(case.x), layout(case.y)
    outs = fsl.SoftDTWGradient(case.x, case.y)
    assert_same(flat(run(case, grad_out=outs, num_threads=threads, divergence=divergence)), flat(expected))


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), THREADS)
def test_posteriors_over_the_costs(level, case, layout, threads):
    costs = case.costs.astype(case.x.dtype)
    options = case.options | {"reduction": "none", "return_grad": True}
    expected = fsl.soft_dtw_cost(costs, *case.arguments[2:], **options)
    out = layout(costs)
    loss, gradient = fsl.soft_dtw_cost(out, *case.arguments[2:], **options, grad_out=out, num_threads=threads)
    assert gradient is out
    assert_same([loss, gradient], expected)


def test_large_costs_are_overwritten(level):
    """Strips whose shares are computed again read costs that have not been overwritten."""
    costs = np.random.default_rng(0).normal(size=(1, 400, 390)) ** 2
    expected = fsl.soft_dtw_cost(costs, return_grad=True)
    assert_same(fsl.soft_dtw_cost(costs, grad_out=costs), expected)


def test_one_series_for_all():
    """A series that is repeated without a copy, as for an average."""
    case = random_case(np.random.default_rng(2), (4, 9, 8, 2), full=True)
    center = np.broadcast_to(case.x[0], case.x.shape)
    expected = run(case.take([0]))
    case.x = center
    loss, gradients = run(case)
    assert loss[0] == expected[0][0]
    assert gradients.x.shape == center.shape
    assert_same([gradients.x[0]], [expected[1].x[0]])


@given(cases(smallest=1, largest=(1, 8, 8, 3)), st.sampled_from(REDUCTIONS))
def test_single_pair(level, case, reduction):
    expected = run(case, reduction=reduction)
    lengths = int(case.lengths_x[0]), int(case.lengths_y[0])
    options = case.options | {"reduction": reduction, "return_grad": True}
    loss, gradients = fsl.soft_dtw_loss(case.x[0], case.y[0], *lengths, **options)
    assert isinstance(loss, float)
    assert_same([loss, *gradients], [np.squeeze(expected[0]), expected[1].x[0], expected[1].y[0]])
    posteriors = fsl.soft_dtw_posteriors(case.x[0], case.y[0], *lengths, **case.options)
    np.testing.assert_array_equal(posteriors, fsl.soft_dtw_posteriors(*case.arguments, **case.options)[0])
    loss, gradient = fsl.soft_dtw_cost(case.costs[0], *lengths, **options)
    assert isinstance(loss, float)
    assert gradient.shape == posteriors.shape


# ---- reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@given(case=cases(dtypes=(np.float64,)), seed=st.integers(0, 99))
def test_reductions(reduction, weighted, case, seed):
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], len(case.lengths_x)) if weighted else None
    loss, gradients = run(case, reduction=reduction, sample_weight=weight)
    losses, slopes = run(case)
    counts = np.maximum(case.lengths_x, case.lengths_y)
    for gradient, slope in zip(gradients, slopes, strict=True):
        expected, reduced = reference_ctc.reduce(losses, slope, counts, reduction, weight)
        np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradient, reduced, rtol=1e-12, atol=1e-12)
    costs = case.costs
    options = case.options | {"reduction": reduction, "sample_weight": weight}
    found = fsl.soft_dtw_cost(costs, *case.arguments[2:], **options)
    np.testing.assert_allclose(found, loss, rtol=1e-11, atol=1e-11 * (1 + case.scale))


@given(cases(smallest=2, dtypes=(np.float64,)), st.floats(0.5, 1e3))
def test_micro_batches_add_up(case, normalizer):
    options = {"reduction": "sum", "normalizer": normalizer}
    whole, gradients = run(case, **options)
    parts = [run(case.take(slice(b, b + 1)), **options) for b in range(len(case.lengths_x))]
    assert whole == pytest.approx(sum(loss for loss, _ in parts), rel=1e-12, abs=1e-12)
    for b, (_, slopes) in enumerate(parts):
        assert_same([gradients.x[b], gradients.y[b]], [slopes.x[0], slopes.y[0]])
