"""tdt_loss and rnnt_simple_loss against the oracles, against the enumeration, and against central differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import assert_same_loss
from reference import ctc as reference_ctc
from reference import transducer as reference
from thoroughness import spread, thorough
from transducer_cases import DURATIONS, HALF, additive, random_case, random_tdt, tdt_cases

THREADS = st.sampled_from((1, 2, 4))


def run(case, **options):
    return fsl.tdt_loss(*case.arguments, **case.options, **{"reduction": "none", "return_grad": True} | options)


def same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, float), np.asarray(b, float))


# ---- durations ----------------------------------------------------------------------------


@given(tdt_cases(), THREADS)
def test_tdt_matches_reference(level, case, threads):
    loss, gradient = run(case, num_threads=threads)
    case.check(loss, gradient)
    assert_same_loss(run(case, return_grad=False), loss)


@given(tdt_cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_tdt_in_half_precision(level, case):
    case.check(*run(case))


@given(tdt_cases(smallest=1, largest=(2, 5, 3, 4), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_tdt_matches_enumeration(level, case):
    loss, gradient = run(case)
    case.check(loss, gradient, solver=reference.by_enumeration)


@pytest.mark.parametrize(("durations", "sigma"), spread(DURATIONS, [0.0, 0.2], every=2))
def test_gradients_of_tdt_are_central_differences(durations, sigma):
    case = random_tdt(np.random.default_rng(1), (1, 12, 2, 3), durations, sigma=sigma, full=True)
    arguments = case.arguments[2:]
    loss, gradient = run(case, reduction="sum")
    assert np.isfinite(loss)
    for i in range(2):
        given = list(case.arguments[:2])

        def total(x, i=i, given=given):
            given[i] = x
            return fsl.tdt_loss(*given, *arguments, **case.options, reduction="sum")

        numeric = reference_ctc.central_differences(total, case.arguments[i], 1e-6)
        np.testing.assert_allclose(numeric, gradient[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("scale", "on_blank"), [thorough(1, 0), thorough(10, 0), (1e6, 0), (1, 20)])
def test_long_sequences_of_tdt(level, scale, on_blank):
    case = random_tdt(np.random.default_rng(2), (1, 400, 60, 8), (0, 1, 2, 3, 4), dtype=np.float32, full=True)
    case.logits *= np.float32(scale)
    case.logits[..., 0] += np.float32(on_blank)
    loss, gradient = run(case)
    exact = case.solve(0)
    case.check(loss, gradient, [exact])
    assert np.abs(gradient[0] - exact.logits).max() <= 2e-6


@pytest.mark.parametrize("threads", [2, 3, 64, None])
def test_tdt_is_independent_of_threads_and_batch(level, threads):
    for dtype in (np.float32, np.float64):
        case = random_tdt(np.random.default_rng(3), (7, 30, 9, 130), (0, 1, 2, 4), dtype=dtype)
        loss, (tokens, durations) = run(case, num_threads=1)
        found, gradient = run(case, num_threads=threads)
        same([found, *gradient], [loss, tokens, durations])
        for b, n in enumerate(case.lengths):
            y = case.tokens[b]
            own = (slice(b, b + 1), slice(n), slice(len(y) + 1))
            alone, slopes = fsl.tdt_loss(
                case.logits[own], case.duration_logits[own], [y], **case.options, reduction="none", return_grad=True
            )
            same([alone, *slopes], [loss[b : b + 1], tokens[own], durations[own]])


# ---- the additive joiner ------------------------------------------------------------------


def random_scores(rng, shape, dtype=np.float64, scale=1.0, full=False):
    """am [B, T, V] and lm [B, U + 1, V], and the case of lengths and labels."""
    case = random_case(rng, shape, full=full)
    return *additive(rng, case, dtype, scale), case


def simple(am, lm, case, **options):
    options = {"reduction": "none", "return_grad": True} | options
    return fsl.rnnt_simple_loss(am, lm, *case.arguments[1:], **options)


def check_simple(am, lm, case, loss, gradient, allowed, **options):
    for b, (n, y) in enumerate(zip(case.lengths, case.tokens, strict=True)):
        exact, *slopes = reference.simple(am[b, :n], lm[b, : len(y) + 1], y, **options)
        assert loss[b] == pytest.approx(exact, rel=allowed, abs=allowed)
        for found, slope, rows in zip(gradient, slopes, (n, len(y) + 1), strict=True):
            size = np.abs(slope).max(initial=0)
            rounding = 1e-15  # of sums of occupancies, which are of the order of 1
            assert np.abs(found[b, :rows] - slope).max(initial=0) <= allowed * size + rounding
            assert not found[b, rows:].any()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([0.1, 1.0, 10.0, 30.0, 100.0, 1e4]),
    THREADS,
)
def test_simple_matches_reference(level, seed, dtype, scale, threads):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers([1, 0, 0, 2], [4, 9, 6, 9]))
    am, lm, case = random_scores(rng, shape, dtype, scale)
    loss, gradient = simple(am, lm, case, num_threads=threads)
    check_simple(am, lm, case, loss, gradient, 1e-6 if dtype == np.float32 else 1e-10)
    assert_same_loss(simple(am, lm, case, return_grad=False), loss)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_simple_of_larger_shapes(level, dtype, scale):
    """For large scores, am and lm disagree: the product underflows, and the sum is computed directly."""
    am, lm, case = random_scores(np.random.default_rng(4), (2, 60, 15, 128), dtype, scale, full=True)
    check_simple(am, lm, case, *simple(am, lm, case), 1e-6 if dtype == np.float32 else 1e-10)


def test_simple_is_the_loss_of_the_sums():
    am, lm, case = random_scores(np.random.default_rng(5), (3, 9, 4, 6), full=True)
    loss, gradient = simple(am, lm, case)
    expected, whole = fsl.rnnt_loss(
        am[:, :, None] + lm[:, None], *case.arguments[1:], reduction="none", return_grad=True
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient[0], whole.sum(axis=2), atol=1e-12)
    np.testing.assert_allclose(gradient[1], whole.sum(axis=1), atol=1e-12)


def test_gradients_of_the_additive_joiner_are_central_differences():
    am, lm, case = random_scores(np.random.default_rng(6), (2, 5, 3, 4), full=True)
    _, gradient = simple(am, lm, case, reduction="sum")
    options = {"reduction": "sum", "return_grad": False}
    for found, numeric in (
        (gradient[0], reference_ctc.central_differences(lambda x: simple(x, lm, case, **options), am, 1e-6)),
        (gradient[1], reference_ctc.central_differences(lambda x: simple(am, x, case, **options), lm, 1e-6)),
    ):
        np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_simple_is_independent_of_threads_and_batch(level, threads):
    for dtype in (np.float32, np.float64):
        am, lm, case = random_scores(np.random.default_rng(7), (6, 40, 9, 130), dtype)
        loss, gradient = simple(am, lm, case, num_threads=1)
        found, slopes = simple(am, lm, case, num_threads=threads)
        same([found, *slopes], [loss, *gradient])
        for b, (n, y) in enumerate(zip(case.lengths, case.tokens, strict=True)):
            parts = am[b : b + 1, :n], lm[b : b + 1, : len(y) + 1]
            alone, own = fsl.rnnt_simple_loss(*parts, [y], reduction="none", return_grad=True)
            same([alone, own[0][0], own[1][0]], [loss[b : b + 1], gradient[0][b, :n], gradient[1][b, : len(y) + 1]])
