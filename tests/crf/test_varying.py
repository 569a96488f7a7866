"""Transitions of every step: by enumeration, by central differences, and against equal transitions at all steps."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise as neighbours
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from crf_cases import HALF, assert_same, assert_within, random_case, tolerance
from huge_scores import scores as huge_scores
from reference import crf as reference_crf
from reference import ctc as reference
from thoroughness import spread

LOSSES = (fsl.crf_loss, fsl.structured_hinge_loss)


@dataclass
class Problem:
    """A batch with transitions [B, T, K, K], NaN in the padding and at the first step."""

    emissions: np.ndarray
    tags: np.ndarray
    transitions: np.ndarray
    lengths: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def ends(self):
        return {"start": self.start, "end": self.end}

    @property
    def arguments(self):
        return self.emissions, self.tags, self.transitions, self.lengths

    @property
    def potentials(self):
        return self.emissions, self.transitions, self.lengths


def random_problem(seed, shape, dtype=np.float64, between=None, scale=1.0, forbidden=0.0):
    rng = np.random.default_rng(seed)
    case = random_case(rng, shape, dtype=dtype, scale=scale, forbidden=forbidden)
    transitions = rng.normal(scale=scale, size=(*shape, shape[2]))
    transitions[rng.random(transitions.shape) < forbidden] = -np.inf
    transitions[np.arange(shape[1]) >= case.lengths[:, None]] = np.nan
    transitions[:, :1] = np.nan
    transitions = transitions.astype(between or dtype)
    return Problem(case.emissions, case.tags, transitions, case.lengths, case.start, case.end)


@st.composite
def problems(draw, dtypes=(np.float64, np.float32), scales=(0.1, 1.0, 10.0), forbidden=(0.0, 0.1), largest=(4, 5, 4)):
    return random_problem(
        draw(st.integers(0, 2**32 - 1)),
        tuple(draw(st.integers(1, most)) for most in largest),
        draw(st.sampled_from(dtypes)),
        draw(st.sampled_from((None, *dtypes))),
        draw(st.sampled_from(scales)),
        draw(st.sampled_from(forbidden)),
    )


def random_cost(seed, n_tags):
    cost = np.random.default_rng(seed).exponential(size=(n_tags, n_tags))
    np.fill_diagonal(cost, 0)
    return cost


def all_paths(problem, b):
    """All paths of a sequence [N, T] and their scores."""
    n, k = int(problem.lengths[b]), problem.emissions.shape[2]
    paths = np.array(list(np.ndindex(*[k] * n)), int).reshape(k**n, n)
    nodes = reference_crf.node_scores(problem.emissions[b, :n], problem.start, problem.end)
    steps = problem.transitions[b, :n].astype(np.longdouble)
    scores = [
        sum(nodes[t, y] for t, y in enumerate(path))
        + sum(steps[t, i, j] for t, (i, j) in enumerate(neighbours(path), 1))
        for path in paths.tolist()
    ]
    return paths, np.array(scores, np.longdouble)


@given(problems(), st.sampled_from((1, 2)))
def test_matches_enumeration(problem, threads):
    options = {"num_threads": threads} | problem.ends
    losses, gradients = fsl.crf_loss(*problem.arguments, **options, reduction="none", return_grad=True)
    unary, pairwise = fsl.crf_marginals(*problem.potentials, **options, pairwise=True)
    totals, scores = fsl.crf_log_partition(*problem.potentials, **options), fsl.crf_score(*problem.arguments, **options)
    best, ranked = (fsl.crf_decode(*problem.potentials, **options, n_best=n) for n in (1, 5))
    allowed = tolerance(problem.emissions.dtype)
    expected = [np.zeros(np.shape(g)) for g in gradients]
    for b, n in enumerate(problem.lengths):
        if n == 0:
            assert (losses[b], totals[b], scores[b], best.score[b]) == (0, 0, 0, 0)
            continue
        paths, every = all_paths(problem, b)
        order = np.lexsort((*paths.T, -every))
        order = order[every[order] > -np.inf][:5]
        np.testing.assert_array_equal(ranked.tags[b, : len(order), :n], paths[order])
        assert_within(ranked.score[b, : len(order)], every[order].astype(float), 1e-13, "scores")
        assert np.all(ranked.score[b, len(order) :] == -np.inf)
        assert_same([best.tags[b], best.score[b]], [ranked.tags[b, 0], ranked.score[b, 0]])
        own = (paths == problem.tags[b, :n]).all(axis=1)
        assert_within(scores[b], float(every[own][0]), 1e-13, "score")
        if every.max() == -np.inf:
            assert (losses[b], totals[b]) == (np.inf, -np.inf)
            assert not unary[b].any()
            continue
        shares = np.exp(every - every.max())
        total = np.log(shares.sum()) + every.max()
        shares = (shares / shares.sum()).astype(float)
        assert_within(totals[b], float(total), 1e-12, "log-partition")
        assert_within(losses[b], float(total - every[own][0]), 1e-12, "loss")
        nodes, steps = np.zeros(unary.shape[1:]), np.zeros(problem.transitions.shape[1:])
        for path, share in zip(paths, shares, strict=True):
            nodes[np.arange(n), path] += share
            steps[np.arange(1, n), path[:-1], path[1:]] += share
        np.testing.assert_allclose(unary[b], nodes, atol=allowed)
        np.testing.assert_allclose(pairwise[b], steps[1:], atol=allowed)
        if losses[b] == np.inf:
            continue
        y = problem.tags[b, :n]
        nodes[np.arange(n), y] -= 1
        steps[np.arange(1, n), y[:-1], y[1:]] -= 1
        expected[0][b], expected[1][b] = nodes, steps
        expected[2] += nodes[0]
        expected[3] += nodes[n - 1]
    for gradient, slope in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, slope, atol=4 * allowed)


@given(problems(), st.none() | st.integers(0, 99), st.sampled_from((1, 2)))
def test_hinge_matches_enumeration(problem, seed, threads):
    """The best path is attained once, since the scores are random numbers."""
    n_tags = problem.emissions.shape[2]
    cost = 1 - np.eye(n_tags) if seed is None else random_cost(seed, n_tags)
    options = {"cost": "hamming" if seed is None else cost, "num_threads": threads} | problem.ends
    losses, gradients = fsl.structured_hinge_loss(*problem.arguments, **options, reduction="none", return_grad=True)
    expected = [np.zeros(np.shape(g)) for g in gradients]
    for b, n in enumerate(problem.lengths):
        if n == 0:
            assert losses[b] == 0
            continue
        paths, every = all_paths(problem, b)
        y = problem.tags[b, :n]
        own = every[(paths == y).all(axis=1)][0]
        if own == -np.inf:
            assert losses[b] == np.inf
            continue
        violations = every + cost[y, paths].sum(axis=1) - own
        best = paths[violations.argmax()]
        assert_within(losses[b], max(float(violations.max()), 0.0), 1e-12, "loss")
        for path, sign in ((best, 1), (y, -1)):
            expected[0][b, np.arange(n), path] += sign
            expected[1][b, np.arange(1, n), path[:-1], path[1:]] += sign
            expected[2][path[0]] += sign
            expected[3][path[-1]] += sign
    for gradient, slope in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(gradient, slope)


@pytest.mark.parametrize("loss", LOSSES)
@given(problems(dtypes=(np.float64,), scales=(0.1, 1.0), forbidden=(0.0,), largest=(2, 4, 3)))
def test_gradients_are_the_central_differences(loss, problem):
    """The margin is linear almost everywhere."""
    _, gradients = loss(*problem.arguments, **problem.ends, reduction="mean", return_grad=True)
    problem.emissions, problem.transitions = map(np.nan_to_num, (problem.emissions, problem.transitions))
    for name, gradient in gradients._asdict().items():

        def total(x, name=name):
            arguments = {"emissions": problem.emissions, "transitions": problem.transitions, **problem.ends, name: x}
            return loss(tags=problem.tags, lengths=problem.lengths, **arguments)

        numeric = reference.central_differences(total, getattr(problem, name), 1e-6)
        np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("function", "dtype"), spread(LOSSES, (np.float64, np.float32, *HALF), every=2))
def test_equal_transitions_at_all_steps(level, function, dtype):
    case = random_case(np.random.default_rng(0), (6, 30, 9), dtype=dtype, scale=3.0)
    case.transitions[2, 3] = -np.inf
    every = np.broadcast_to(case.transitions, (6, 30, 9, 9))
    options = {"reduction": "none", "return_grad": True} | case.ends
    loss, gradients = function(case.emissions, case.tags, every, case.lengths, **options)
    expected, slopes = function(*case.arguments, **options)
    allowed = tolerance(dtype)
    assert_within(loss, expected, 1e-12, "loss")
    assert gradients.transitions.dtype == dtype
    assert gradients.transitions.shape == every.shape
    totals = gradients._replace(transitions=gradients.transitions.astype(float).sum(axis=(0, 1)))
    for name, gradient, slope in zip(gradients._fields, totals, slopes, strict=True):
        assert_within(gradient, slope.astype(float), 30 * allowed if name == "transitions" else 2 * allowed, name)
    for function, options in (
        (fsl.crf_marginals, {"pairwise": True}),
        (fsl.crf_decode, {}),
        (fsl.crf_decode, {"n_best": 4}),
    ):
        ours = function(case.emissions, every, case.lengths, **case.ends, **options)
        for a, b in zip(ours, function(*case.potentials, **case.ends, **options), strict=True):
            assert_within(a, np.asarray(b).astype(float), 2 * allowed, function.__name__)


@pytest.mark.parametrize("function", LOSSES)
def test_batches_threads_and_layouts_do_not_change_a_bit(function):
    problem = random_problem(0, (9, 40, 11), np.float32)
    options = {"reduction": "none", "return_grad": True} | problem.ends
    loss, gradients = function(*problem.arguments, **options, num_threads=1)
    again, slopes = function(*problem.arguments, **options, num_threads=2)
    assert_same([loss, *gradients], [again, *slopes])
    x, a = (np.ascontiguousarray(z.swapaxes(0, 1)).swapaxes(0, 1) for z in (problem.emissions, problem.transitions))
    again, slopes = function(x, problem.tags, a, problem.lengths, **options)
    assert_same([loss, *gradients], [again, *slopes])
    a = np.asfortranarray(problem.transitions)
    again, slopes = function(problem.emissions, problem.tags, a, problem.lengths, **options)
    assert_same([loss, *gradients], [again, *slopes])
    for b, n in enumerate(problem.lengths):
        alone, own = function(
            problem.emissions[b], problem.tags[b], problem.transitions[b], int(n), **problem.ends, return_grad=True
        )
        assert_same(
            [alone, own.emissions, own.transitions], [loss[b], gradients.emissions[b], gradients.transitions[b]]
        )


@given(problems(dtypes=(np.float64, np.float32)), st.integers(0, 99), st.sampled_from(LOSSES))
def test_holes(problem, seed, function):
    """The transitions into a step within the mask count, whichever step precedes it."""
    rng = np.random.default_rng(seed)
    mask = rng.random(problem.tags.shape) < 0.6
    shape = problem.transitions.shape
    x, a = (rng.normal(size=z.shape).astype(z.dtype) for z in (problem.emissions, problem.transitions))
    tags = rng.integers(0, shape[2], shape[:2])
    x[~mask], a[~mask], tags[~mask] = np.nan, np.nan, -100
    options = {"reduction": "none", "return_grad": True} | problem.ends
    loss, gradients = function(x, tags, a, mask=mask, **options)
    marginals = fsl.crf_marginals(x, a, mask=mask, **problem.ends, pairwise=True)
    scores = fsl.crf_score(x, tags, a, mask=mask, **problem.ends)
    path = fsl.crf_decode(x, a, mask=mask, **problem.ends)
    assert not gradients.emissions[~mask].any()
    assert not gradients.transitions[~mask].any()
    for b, inside in enumerate(mask):
        kept = x[b, inside], tags[b, inside], a[b, inside]
        alone, own = function(*kept, **problem.ends, return_grad=True)
        assert_same(
            [alone, own.emissions, own.transitions],
            [loss[b], gradients.emissions[b, inside], gradients.transitions[b, inside]],
        )
        unary, pairs = fsl.crf_marginals(kept[0], kept[2], **problem.ends, pairwise=True)
        assert_same([unary, pairs], [marginals.unary[b, inside], marginals.pairwise[b, np.flatnonzero(inside)[:-1]]])
        assert_same([path.tags[b, inside], path.score[b]], fsl.crf_decode(kept[0], kept[2], **problem.ends))
        assert fsl.crf_score(*kept, **problem.ends) == scores[b]


@given(problems(), st.sampled_from(LOSSES))
def test_gradients_in_given_arrays(problem, function):
    options = {"reduction": "mean"} | problem.ends
    expected, slopes = function(*problem.arguments, **options, return_grad=True)
    outs = fsl.CRFGradient(problem.emissions, problem.transitions, None, None)
    loss, gradients = function(*problem.arguments, **options, grad_out=outs)
    assert gradients.emissions is problem.emissions
    assert gradients.transitions is problem.transitions
    assert_same([loss, *gradients], [expected, *slopes])


def test_sequences_that_are_not_finite_or_impossible():
    problem = random_problem(1, (5, 4, 3))
    problem.lengths[:] = 4
    x, a = np.nan_to_num(problem.emissions), np.nan_to_num(problem.transitions)
    tags = np.tile([0, 1, 2, 0], (5, 1))
    a[0, 2, 1, 2] = -np.inf  # of the tagged path
    a[1, 2] = -np.inf
    a[2, 3, 0, 0] = np.nan
    x[3, 1, 2] = np.inf
    for function in LOSSES:
        options = {"reduction": "none", "return_grad": True} | problem.ends
        loss, gradients = function(x, tags, a, **options)
        np.testing.assert_array_equal(loss[:4], [np.inf, np.inf, np.nan, np.nan])
        for gradient in gradients[:2]:
            assert not gradient[:2].any()
            assert np.isnan(gradient[2:4, 1:]).all()
            assert np.isfinite(gradient[4]).all()
        assert np.isnan(gradients[2:]).all()
        loss, gradients = function(x, tags, a, **options, sample_weight=[0, 1, 0, 0, 2])
        assert loss[0] == loss[2] == 0
        assert not gradients.transitions[:4].any()
        assert np.isfinite(gradients[2:]).all()
    np.testing.assert_array_equal(fsl.crf_log_partition(x, a)[1:4], [-np.inf, np.nan, np.nan])
    tags, score = fsl.crf_decode(x, a, n_best=2)
    assert np.all(tags[1:4] == -1)
    np.testing.assert_array_equal(score[1:4], [[-np.inf] * 2, [np.nan] * 2, [np.nan] * 2])
    assert not fsl.crf_marginals(x, a)[1].any()


def test_emissions_that_sequences_share():
    """Broadcast arrays, which conversion to float64 copies."""
    problem = random_problem(3, (2, 4, 3))
    x, a = np.float32([0.5, -1.0, 2.0]), np.nan_to_num(problem.transitions)
    shared = np.broadcast_to(x, (2, 4, 3))
    np.testing.assert_array_equal(fsl.crf_log_partition(shared, a), fsl.crf_log_partition(shared.copy(), a))


def test_sums_beyond_float64():
    """Sums are exact; NaN stands for scores that are not finite."""
    x, a = np.full((1, 3, 2), 1e308), np.full((1, 3, 2, 2), 1e308)
    path, score = fsl.crf_decode(x, a)
    assert (path.tolist(), score[0]) == ([[0, 0, 0]], np.inf)
    x[0, 1, 1] = -1e308
    assert fsl.structured_hinge_loss(x, [[0, 0, 0]], a) == 2
    cost = 1e308 * (1 - np.eye(2))
    assert fsl.structured_hinge_loss(x, [[0, 0, 0]], a, cost=cost) == np.inf


def test_signalling_nan():
    """Conversion to float64 warns of them in NumPy."""
    x = np.array([[[0x7D01, 0], [0, 0]], [[0, 0], [0, 0]]], np.uint16).view(np.float16)
    np.testing.assert_array_equal(fsl.crf_decode(x, np.zeros((2, 2, 2, 2))).score, [np.nan, 0])


def test_large_scores_keep_their_digits():
    problem = random_problem(2, (3, 50, 4), scale=1.0)
    shifted = problem.emissions + 2.0**40
    expected = fsl.crf_loss(shifted - 2.0**40, *problem.arguments[1:], **problem.ends, reduction="none")
    loss = fsl.crf_loss(shifted, *problem.arguments[1:], **problem.ends, reduction="none")
    assert_within(loss, expected, 1e-12, "loss")


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 4))
def test_ties_and_exact_zeros_of_the_hinge(seed, frames, n_tags):
    """Scores of whole numbers: the path is that of crf_decode, and a loss of 0 is exact."""
    rng = np.random.default_rng(seed)
    x, a = rng.integers(-1, 2, (1, frames, n_tags)).astype(float), rng.integers(-1, 2, (1, frames, n_tags, n_tags))
    a, tags = a.astype(float), rng.integers(0, n_tags, (1, frames))
    augmented = x + (np.arange(n_tags) != tags[..., None])
    path, best = fsl.crf_decode(augmented, a)
    loss, gradients = fsl.structured_hinge_loss(x, tags, a, reduction="none", return_grad=True)
    np.testing.assert_array_equal(loss, best - fsl.crf_score(x, tags, a))
    expected = np.eye(n_tags)[path] - np.eye(n_tags)[tags]
    np.testing.assert_array_equal(gradients.emissions, expected * (loss[0] > 0))
    loss, gradients = fsl.structured_hinge_loss(augmented * 2 * n_tags, path, a, reduction="none", return_grad=True)
    if loss[0] == 0:
        assert not any(np.any(gradient) for gradient in gradients if gradient is not None)


@st.composite
def huge_problems(draw):
    """Scores of any size whose sums do not overflow."""
    frames, n_tags = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shapes = (frames, n_tags), (frames, n_tags, n_tags), (n_tags,), (n_tags,)
    parts = [huge_scores(draw, shape, np.float32).astype(float) for shape in shapes]
    return *parts, draw(st.lists(st.integers(0, n_tags - 1), min_size=frames, max_size=frames))


@given(huge_problems())
def test_huge_scores_of_the_hinge(problem):
    x, a, start, end, tags = problem
    n_tags = len(start)
    exact = {}
    for path in product(range(n_tags), repeat=len(tags)):
        terms = [x[t, k] for t, k in enumerate(path)] + [start[path[0]], end[path[-1]]]
        terms += [a[t, i, j] for t, (i, j) in enumerate(neighbours(path), 1)]
        if min(terms) > -np.inf:
            exact[path] = sum(map(Fraction, map(float, terms)))
    loss, gradients = fsl.structured_hinge_loss(x, tags, a, start=start, end=end, return_grad=True)
    own = exact.get(tuple(tags))
    if own is None:
        assert loss == np.inf
        assert not gradients.emissions.any()
        return
    margins = {path: score + sum(map(int.__ne__, path, tags)) - own for path, score in exact.items()}
    assert loss == pytest.approx(float(max(margins.values())), rel=1e-12, abs=1e-6)
    if loss > 0:
        found = np.argmax(gradients.emissions + np.eye(n_tags)[tags], axis=1)
        assert max(margins.values()) - margins[tuple(found.tolist())] <= 1e-6


@pytest.mark.parametrize(
    ("shape", "allowed"),
    [
        ((2, 3, 4, 5), r"transitions has shape \(2, 3, 4, 5\); allowed: \(4, 4\), or \(2, 3, 4, 4\) for each step"),
        ((2, 2, 4, 4), r"transitions has shape \(2, 2, 4, 4\); allowed"),
        ((3, 4, 4), r"transitions has shape \(3, 4, 4\); allowed: \(4, 4\), or \(2, 3, 4, 4\) for each step"),
        ((3, 4), r"transitions has shape \(3, 4\); allowed: \(4, 4\)"),
    ],
)
def test_wrong_shapes(shape, allowed):
    for function in (fsl.crf_decode, fsl.crf_marginals, fsl.crf_log_partition):
        with pytest.raises(ValueError, match=allowed):
            function(np.zeros((2, 3, 4)), np.zeros(shape))
    for function in LOSSES:
        with pytest.raises(ValueError, match=allowed):
            function(np.zeros((2, 3, 4)), np.zeros((2, 3), int), np.zeros(shape))


def test_wrong_dtypes():
    with pytest.raises(TypeError, match="transitions has dtype int64; allowed: float16"):
        fsl.crf_decode(np.zeros((2, 3, 4)), np.zeros((2, 3, 4, 4), int))
