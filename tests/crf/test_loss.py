"""CRF loss, marginals, log-partition, decoding: right values for every dtype, layout and reduction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import HALF, Case, assert_same, assert_within, cases, random_case, tolerance
from reference import crf as reference_crf
from reference import ctc as reference
from thoroughness import spread, thorough

THREADS = st.sampled_from((1, 2, 4))
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
FLOATS = (np.float32, np.float64, *HALF)


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | case.ends | options
    return fsl.crf_loss(*case.arguments, **options)


def flat(result):
    """Loss and gradients in one list."""
    return [result[0], *result[1]]


# ---- values -------------------------------------------------------------------------------


@given(cases(), THREADS)
def test_loss_matches_reference(level, case, threads):
    loss, gradients = run(case, num_threads=threads)
    case.check(loss, gradients)
    np.testing.assert_allclose(run(case, return_grad=False), loss, rtol=1e-12, atol=1e-12 + case.rounding)


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_half_precision(level, case):
    case.check(*run(case))


@given(cases(smallest=1, largest=(3, 5, 4), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_matches_enumeration(level, case):
    """Loss, marginals, best path: by their definitions, over all K^T paths."""
    losses, _ = run(case)
    unary, pairwise = fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True)
    paths, best = fsl.crf_decode(*case.potentials, **case.ends)
    totals = fsl.crf_log_partition(*case.potentials, **case.ends)
    for b, n in enumerate(case.lengths):
        every, scores = reference_crf.all_paths(case.emissions[b, :n], *case.parameters)
        assert_within(best[b], float(scores.max()), 1e-12, "score")
        if scores.max() == -np.inf:
            assert losses[b] == np.inf
            assert totals[b] == -np.inf
            assert not unary[b].any()
            continue
        shares = np.exp(scores - scores.max())
        log_total = float(np.log(shares.sum()) + scores.max())
        shares = (shares / shares.sum()).astype(float)
        own = reference_crf.path_score(case.tags[b, :n], case.emissions[b, :n], *case.parameters)
        assert_within(totals[b], log_total, 1e-12, "log-partition")
        assert_within(losses[b], float(log_total - own), 1e-12, "loss")
        for t in range(n):
            expected = [shares[every[:, t] == k].sum() for k in range(unary.shape[2])]
            np.testing.assert_allclose(unary[b, t], expected, atol=1e-12)
        for t in range(n - 1):
            expected = np.zeros(pairwise.shape[2:])
            np.add.at(expected, (every[:, t], every[:, t + 1]), shares)
            np.testing.assert_allclose(pairwise[b, t], expected, atol=1e-12)
        chosen = (every == paths[b, :n]).all(axis=1)
        np.testing.assert_allclose(float(scores[chosen][0]), best[b], rtol=1e-12, atol=1e-12)
        assert not unary[b, n:].any()
        assert not pairwise[b, max(n - 1, 0) :].any()


@given(cases(scales=(0.1, 1.0, 10.0, 1e3)), THREADS)
def test_marginals(level, case, threads):
    unary, pairwise = fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True, num_threads=threads)
    assert_same([fsl.crf_marginals(*case.potentials, **case.ends)], [unary])
    assert unary.dtype == pairwise.dtype == case.emissions.dtype
    allowed = tolerance(unary.dtype) + case.rounding
    totals = fsl.crf_log_partition(*case.potentials, **case.ends, num_threads=threads)
    for b, n in enumerate(case.lengths):
        total, nodes, steps = reference_crf.forward_backward(case.emissions[b, :n], *case.parameters)
        np.testing.assert_allclose(unary[b, :n], nodes, atol=allowed)
        np.testing.assert_allclose(pairwise[b, : max(n - 1, 0)], steps[: max(n - 1, 0)], atol=allowed)
        assert_within(totals[b], float(total), 1e-12 + case.rounding, "log-partition")
        forbidden = np.broadcast_to(case.transitions == -np.inf, pairwise[b].shape)
        assert not pairwise[b][forbidden].any()


@given(cases(), THREADS)
def test_decode(level, case, threads):
    paths, scores = fsl.crf_decode(*case.potentials, **case.ends, num_threads=threads)
    assert paths.dtype == np.int64
    for b, n in enumerate(case.lengths):
        path, best = reference_crf.viterbi(case.emissions[b, :n], *case.parameters)
        assert_within(scores[b], float(best), 1e-12 + case.rounding, "score")
        assert np.all(paths[b, n:] == -1)
        if best == -np.inf:
            assert np.all(paths[b] == -1)
            continue
        own = reference_crf.path_score(paths[b, :n], case.emissions[b, :n], *case.parameters)
        assert_within(float(own), float(best), 1e-12 + case.rounding, "score of the path")
        assert len(path) == n


@given(cases(smallest=1, scales=(1.0,), forbidden=(0.0,)), THREADS)
def test_decode_settles_ties_by_the_smallest_tag(level, case, threads):
    """Scores that are small integers add up exactly, and tie often."""
    case.emissions, case.transitions = np.rint(case.emissions), np.rint(case.transitions)
    start, end = np.rint(case.start), np.rint(case.end)
    paths, _ = fsl.crf_decode(*case.potentials, start=start, end=end, num_threads=threads)
    for b, n in enumerate(case.lengths):
        expected, _ = reference_crf.viterbi(case.emissions[b, :n], case.transitions, start, end)
        np.testing.assert_array_equal(paths[b, :n], expected)


@given(cases(smallest=1, largest=(2, 5, 3), dtypes=(np.float64,), scales=(0.1, 1.0), forbidden=(0.0,)))
def test_gradients_are_the_central_differences(case):
    _, gradients = run(case, reduction="sum")
    case.emissions[np.isnan(case.emissions)] = 0
    for name, gradient in gradients._asdict().items():

        def total(x, name=name):
            arguments = {"emissions": case.emissions, "transitions": case.transitions, **case.ends, name: x}
            return fsl.crf_loss(tags=case.tags, lengths=case.lengths, **arguments, reduction="sum")

        numeric = reference.central_differences(total, getattr(case, name), 1e-6)
        np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "scale", "dtype"),
    spread([(9, 40, 45), (3, 30, 64), (2, 12, 130), (50, 7, 3)], [1.0, 10.0], [np.float32, np.float64], every=2),
)
def test_larger_shapes(level, shape, scale, dtype):
    case = random_case(np.random.default_rng(shape[2]), shape, dtype=dtype, scale=scale)
    case.check(*run(case, num_threads=2))


@pytest.mark.parametrize("dtype", [np.float32, thorough(np.float64)])
def test_long_sequences(dtype):
    """float32 within 2e-6 of float64 over ten thousand steps; the loss to its last digits."""
    case = random_case(np.random.default_rng(0), (1, 10_000, 6), dtype=dtype, full=True)
    case.check(*run(case))
    wide = Case(case.emissions.astype(float), case.tags, *(p.astype(float) for p in case.parameters), case.lengths)
    loss, gradients = run(case)
    expected, slopes = run(wide)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=2e-6 if dtype == np.float32 else 1e-12)


# ---- independence -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def large(request):
    """Work enough for several threads; potentials clamped, and sequences on the general path."""
    case = random_case(np.random.default_rng(5), (70, 60, 21), dtype=request.param)
    case.emissions[::5] *= 100
    case.emissions[::9, ::3, ::2] = -np.inf
    case.transitions[:3, 4:9] = -1e4
    return case


@pytest.mark.parametrize("threads", [2, 3, 4, 64, None])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_threads_do_not_change_a_bit(level, large, threads, reduction):
    expected = run(large, reduction=reduction, num_threads=1)
    assert_same(flat(run(large, reduction=reduction, num_threads=threads)), flat(expected))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_marginals_nor_paths(level, large, threads):
    for function in (fsl.crf_marginals, fsl.crf_log_partition, lambda *a, **k: fsl.crf_decode(*a, **k).tags):
        expected = function(*large.potentials, **large.ends, num_threads=1)
        assert_same([function(*large.potentials, **large.ends, num_threads=threads)], [expected])


def test_batch_mates_do_not_change_a_bit(level, large):
    losses, gradients = run(large, num_threads=2)
    totals = fsl.crf_log_partition(*large.potentials, **large.ends)
    for b, n in enumerate(large.lengths):
        alone = large.sequence(b)
        loss, slopes = run(alone)
        assert_same([loss, slopes.emissions[0]], [losses[b : b + 1], gradients.emissions[b, :n]])
        assert fsl.crf_log_partition(*alone.potentials, **large.ends)[0] == totals[b]
    for size in (2, 3, 5, 12):
        part = large.take(np.random.default_rng(size).permutation(70)[:size])
        loss, slopes = run(part)
        for b in range(size):
            alone, slope = run(part.sequence(b))
            assert_same([alone[0], slope.emissions[0]], [loss[b], slopes.emissions[b, : part.lengths[b]]])


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


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0)), st.sampled_from(LAYOUTS), st.booleans())
def test_layouts(level, case, layout, read_only):
    expected = run(case)
    decoded = fsl.crf_decode(*case.potentials, **case.ends)
    case.emissions, case.transitions = layout(case.emissions), strided(case.transitions)
    case.emissions.flags.writeable = not read_only
    case.transitions.flags.writeable = not read_only
    assert_same(flat(run(case)), flat(expected))
    assert_same(fsl.crf_decode(*case.potentials, **case.ends), decoded)


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0, 1e2)), st.sampled_from(LAYOUTS), THREADS)
def test_grad_out(level, case, layout, threads):
    expected = run(case)
    out = layout(np.full_like(case.emissions, np.nan))
    loss, gradients = run(case, grad_out=out, return_grad=False, num_threads=threads)
    assert gradients.emissions is out
    assert_same([loss, *gradients], flat(expected))
    outs = fsl.CRFGradient(out, *(np.full_like(p, np.nan) for p in case.parameters))
    loss, gradients = run(case, grad_out=outs, return_grad=False)
    assert all(a is b for a, b in zip(gradients, outs, strict=True))
    assert_same([loss, *gradients], flat(expected))


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0, 1e3)), st.sampled_from(LAYOUTS), THREADS)
def test_gradients_over_the_inputs(level, case, layout, threads):
    expected = run(case)
    case.emissions = layout(case.emissions)
    outs = fsl.CRFGradient(case.emissions, *case.parameters)
    assert_same(flat(run(case, grad_out=outs, num_threads=threads)), flat(expected))


def test_parameters_may_have_types_of_their_own(level):
    case = random_case(np.random.default_rng(1), (5, 9, 7), dtype=np.float32, parameter_dtype=np.float64)
    case.check(*run(case))


def test_start_and_end_may_be_left_out():
    case = random_case(np.random.default_rng(1), (5, 9, 7))
    case.start[:], case.end[:] = 0, 0
    expected = run(case)
    loss, gradients = fsl.crf_loss(*case.arguments, reduction="none", return_grad=True)
    assert gradients[2:] == (None, None)
    assert_same([loss, *gradients[:2]], flat(expected)[:3])


@given(cases(smallest=1))
def test_a_mask_says_the_lengths(case):
    mask = np.arange(case.emissions.shape[1]) < case.lengths[:, None]
    expected = run(case)
    masked = fsl.crf_loss(*case.arguments[:3], mask=mask, reduction="none", return_grad=True, **case.ends)
    assert_same(flat(masked), flat(expected))
    single = fsl.crf_decode(case.emissions[0], case.transitions, mask=mask[0], **case.ends)
    assert_same(single, [x[0] for x in fsl.crf_decode(*case.potentials, **case.ends)])


@given(cases(smallest=1, largest=(1, 8, 6)), st.sampled_from(REDUCTIONS))
def test_single_sequence(case, reduction):
    n = int(case.lengths[0])
    expected = run(case, reduction=reduction)
    options = {"reduction": reduction, "return_grad": True} | case.ends
    loss, gradients = fsl.crf_loss(case.emissions[0], case.tags[0], case.transitions, n, **options)
    assert isinstance(loss, float)
    assert_same([loss, *gradients], [np.squeeze(expected[0]), expected[1].emissions[0], *expected[1][1:]])
    assert isinstance(fsl.crf_log_partition(case.emissions[0], case.transitions, n), float)
    unary, pairwise = fsl.crf_marginals(case.emissions[0], case.transitions, n, pairwise=True)
    batch = fsl.crf_marginals(*case.potentials, pairwise=True)
    assert_same([unary, pairwise], [x[0] for x in batch])


# ---- reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@given(case=cases(scales=(1.0, 10.0)), seed=st.integers(0, 99))
def test_reductions(reduction, weighted, case, seed):
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], len(case.lengths)) if weighted else None
    loss, gradients = run(case, reduction=reduction, sample_weight=weight)
    losses, slope = [], np.zeros(case.emissions.shape)
    for b, n in enumerate(case.lengths):
        one, slopes = reference_crf.loss(case.emissions[b, :n], case.tags[b, :n], *case.parameters)
        losses.append(one)
        slope[b, :n] = slopes.emissions
    expected, slope = reference.reduce(np.array(losses), slope, case.lengths, reduction, weight)
    allowed = 1e-12 + case.rounding
    assert_within(loss, expected, 10 * allowed, "loss")
    np.testing.assert_allclose(gradients.emissions, slope, atol=allowed + 4 * tolerance(case.emissions.dtype))
    # What a sequence adds to the parameters' gradients adds up over its steps.
    finite = np.isfinite(losses)
    steps = gradients.emissions.astype(float).sum(axis=(1, 2))
    assert np.all(np.abs(steps[finite]) < 1e-4)
    np.testing.assert_allclose(run(case, reduction=reduction, sample_weight=weight, return_grad=False), loss)


@given(cases(smallest=2, scales=(1.0,)), st.floats(0.5, 1e3))
def test_micro_batches_add_up(case, normalizer):
    options = {"reduction": "sum", "normalizer": normalizer}
    whole, gradients = run(case, **options)
    parts = [run(case.take(slice(b, b + 1)), **options) for b in range(len(case.lengths))]
    assert whole == pytest.approx(sum(loss for loss, _ in parts), rel=1e-13, abs=1e-13)
    for k in (1, 2, 3):
        total = sum(np.asarray(slopes[k], float) for _, slopes in parts)
        np.testing.assert_allclose(gradients[k], total, rtol=1e-5, atol=1e-5)
