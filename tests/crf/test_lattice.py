"""Potentials that break a lattice of plain float64 numbers: each must be found out and gone around."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import assert_within, random_case
from reference import crf as reference_crf
from thoroughness import spread

INF = np.inf


def check(case):
    """Loss, gradients, marginals and best paths agree with the reference."""
    options = {"reduction": "none"} | case.ends
    loss, gradients = fsl.crf_loss(*case.arguments, **options, return_grad=True)
    case.check(loss, gradients)
    assert_within(fsl.crf_loss(*case.arguments, **options), loss, 1e-12 + case.rounding, "loss alone")
    unary, pairwise = fsl.crf_marginals(*case.potentials, **case.ends, pairwise=True)
    totals = fsl.crf_log_partition(*case.potentials, **case.ends)
    _, scores = fsl.crf_decode(*case.potentials, **case.ends)
    allowed = 1e-6 + case.rounding if case.emissions.dtype == np.float32 else 1e-12 + case.rounding
    for b, n in enumerate(case.lengths):
        total, nodes, steps = reference_crf.forward_backward(case.emissions[b, :n], *case.parameters)
        np.testing.assert_allclose(unary[b, :n], nodes, atol=allowed)
        np.testing.assert_allclose(pairwise[b, : max(n - 1, 0)], steps, atol=allowed)
        assert_within(totals[b], float(total), 1e-12 + case.rounding, "log-partition")
        _, best = reference_crf.viterbi(case.emissions[b, :n], *case.parameters)
        assert_within(scores[b], float(best), 1e-12 + case.rounding, "score")


def case_of(shape, seed=0, scale=1.0, dtype=np.float64):
    return random_case(np.random.default_rng(seed), shape, scale=scale, dtype=dtype, full=True)


@pytest.mark.parametrize("n_tags", [8, 30])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_left_to_right(level, n_tags, scale):
    """From each tag to itself or to the next: alphas of later tags fall without bound."""
    case = case_of((3, 120, n_tags), scale=scale)
    i, j = np.indices((n_tags, n_tags))
    case.transitions[(j != i) & (j != i + 1)] = -INF
    case.start[1:] = -INF
    case.end[:-1] = -INF
    case.tags[:] = np.minimum(np.arange(120) // (120 // n_tags), n_tags - 1)
    check(case)


@pytest.mark.parametrize("gain", [1.0, 10.0, 300.0])
def test_dominating_component_that_cannot_end(level, gain):
    """Half the tags outweigh the rest by e^(gain T), but no path may end there."""
    case = case_of((4, 150, 10))
    case.transitions[:5, 5:] = case.transitions[5:, :5] = -INF
    case.emissions[:, :, :5] += gain
    case.end[:5] = -INF
    case.tags = case.tags % 5 + 5
    check(case)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("penalty", "gain"),
    spread([160.0, 170.0, 240.0, 340.0, 1e3, 1e4, 1e6], [0.0, 5.0, 1.0, 20.0, 80.0], every=5),
)
def test_penalised_component_that_pays_in_the_end(level, penalty, gain):
    """A penalty does not forbid: over 200 steps, the other component compensates for it, or nearly."""
    case = case_of((3, 200, 9), dtype=np.float32)
    case.transitions[:5, 5:] = case.transitions[5:, :5] = -penalty
    case.emissions[0, :, 5:] += gain
    case.emissions[1, 50:150, 5:] += 2 * gain
    case.start[5:] = -INF
    check(case)


@pytest.mark.parametrize("penalty", [200.0, 1e4, 1e9])
@pytest.mark.parametrize("only", [False, True])
def test_penalised_emissions(level, penalty, only):
    case = case_of((4, 40, 12))
    case.emissions[:, 3:30, 4:] -= penalty
    if only:  # the others forbidden at one step
        case.emissions[:, 10, :4] = -INF
    check(case)


def test_start_and_stop_tags(level):
    """Two of the tags stand for the ends, as in many tutorials: forbidden by -10000 rather than -inf."""
    case = case_of((6, 30, 11), scale=3.0)
    case.transitions[:, 9] = case.transitions[10, :] = -10_000
    case.start[:] = np.where(np.arange(11) == 9, 0, -10_000)
    case.tags = case.tags % 9
    check(case)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e30, 1e300])
def test_potentials_of_any_size(level, size):
    case = case_of((4, 12, 6))
    case.emissions[0] *= size
    case.emissions[1, 4:7] *= size
    case.transitions[2] *= size
    check(case)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 50.0, 170.0, 400.0, 1e4]),
    st.sampled_from([-INF, -1e4, -400.0, -180.0, -100.0]),
    st.sampled_from([0.2, 0.6, 0.9]),
)
def test_sparse_transitions(level, seed, scale, barrier, share):
    rng = np.random.default_rng(seed)
    case = random_case(rng, (5, 25, 7), scale=scale)
    case.transitions[rng.random((7, 7)) < share] = barrier
    case.emissions[rng.random(case.emissions.shape) < 0.05] = -INF
    case.end[rng.random(7) < 0.3] = barrier
    check(case)
