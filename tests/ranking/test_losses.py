"""Losses over lists against direct sums over pairs and orders."""

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from processes import python
from ranking_cases import NAMES, OPTIONS, REDUCTIONS, WEIGHTED, random_case
from reference.ranking import PAIRS, TARGETS
from step_cases import LAYOUTS
from thoroughness import spread, thorough

every_loss = pytest.mark.parametrize("name", NAMES)
SCORES, RELEVANCE = np.array([0.5, 2.0, -1.0, 1.0]), np.array([2, 0, 1, 1])


@every_loss
@given(data=st.data())
def test_random_lists(name, level, data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(0, 12)))
    case = random_case(
        rng, name, shape, dtype=draw(st.sampled_from([np.float64, np.float32])),
        scale=draw(st.sampled_from([0.3, 1, 5])), levels=draw(st.sampled_from([0, 1, 2, 5])),
        lengths=draw(st.booleans()), holes=draw(st.sampled_from([0, 0.3])),
        weighted=name in WEIGHTED and draw(st.booleans()), **draw(st.sampled_from(OPTIONS.get(name, [{}]))),
    )  # fmt: skip
    case.reducing = {"reduction": draw(st.sampled_from(REDUCTIONS[name]))}
    if draw(st.booleans()):
        case.reducing["sample_weight"] = rng.choice([0.0, 0.5, 2.0], shape[0])
    loss, gradient = case.run(return_grad=True)
    case.check(loss, gradient)
    assert gradient.shape == shape
    assert not gradient[~case.counting()].any()
    np.testing.assert_array_equal(case.run(), loss)


@pytest.mark.parametrize(
    ("name", "n", "levels"), spread(NAMES, [31, 79, 130, 400], [2, 5, 8, 9, 40, 0], every=4)
)  # sorting by comparisons and by bytes, sums for a few levels and for many, portions of lanes and their rests
def test_longer_lists(name, n, levels, level):
    rng = np.random.default_rng(n + levels)
    for dtype in (np.float32, np.float64):
        for options in OPTIONS.get(name, [{}]):
            case = random_case(rng, name, (2, n), dtype=dtype, levels=levels, weighted=name in WEIGHTED, **options)
            case.check(*case.run(return_grad=True))
    case.reducing = {"reduction": "mean"}
    case.check(*case.run(return_grad=True))


@every_loss
@pytest.mark.parametrize("scale", [100.0, 1e3, 1e5])
def test_scores_far_apart(name, scale, level):
    """Beyond the range of an exponential, and of products of them."""
    rng = np.random.default_rng(3)
    for weighted in (False, True):
        for options in OPTIONS.get(name, [{}]):
            if options.get("regularization"):
                continue  # the penalty is large, and the reference no better
            case = random_case(rng, name, (3, 11), scale=scale, weighted=weighted and name in WEIGHTED, **options)
            case.check(*case.run(return_grad=True), tolerance=1e-10)


@every_loss
@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_offsets(name, offset, level):
    """A common offset of the scores causes no errors beyond the rounding of its addition."""
    if name == "top1_max_loss":
        return  # whose loss depends on it
    rng = np.random.default_rng(4)
    case = random_case(rng, name, (2, 40), weighted=name in WEIGHTED)
    case.scores = np.round(case.scores * 2**20) / 2**20
    loss, gradient = case.run(return_grad=True)
    case.scores = case.scores + offset
    moved = case.run(return_grad=True)
    np.testing.assert_allclose(moved[0], loss, rtol=1e-13)
    np.testing.assert_allclose(moved[1], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("margin", [0.25, 0.1])
def test_pairs_apart_by_the_margin(margin, level):
    """Slope 0 at the kink, or the rounded difference decides, for both items of a pair."""
    rng = np.random.default_rng(5)
    case = random_case(rng, "pairwise_hinge_loss", (3, 60), margin=margin)
    case.scores = rng.integers(0, 9, (3, 60)) * margin + 1e6
    loss, gradient = case.run(return_grad=True)
    case.check(loss, gradient, tolerance=1e-9)
    np.testing.assert_array_equal(gradient, case.expected()[1])


@pytest.mark.parametrize("levels", [3, 30])  # sums for a few levels and for many
@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_outliers_cost_the_other_items_no_digits(margin, levels, level):
    """Such as the scores of excluded items, which are -1e30 in many models."""
    rng = np.random.default_rng(5)
    scores, relevance = rng.normal(size=40), rng.integers(0, levels, 40)
    options = {"margin": margin, "reduction": "sum", "return_grad": True}
    loss, gradient = fsl.pairwise_hinge_loss(scores, relevance, **options)
    for low, high in ([-1e30], []), ([], [1e16]), ([-1.7e308, -1e9], [1e10, 1e300]):
        # in the right order, so that no pair with an outlier has a loss
        best = [levels + k for k in range(len(high))]
        worst = [k - len(low) for k in range(len(low))]
        found, slopes = fsl.pairwise_hinge_loss([*low, *scores, *high], [*worst, *relevance, *best], **options)
        np.testing.assert_allclose(found, loss, rtol=1e-9)
        np.testing.assert_array_equal(slopes[len(low) : len(low) + 40], gradient)


@pytest.mark.parametrize("name", ["pairwise_hinge_loss", "pairwise_logistic_loss", "list_mle_loss"])
@pytest.mark.parametrize(("dtype", "first"), [("i8", 2**53), ("i8", -(2**63)), ("u8", 2**64 - 4)])
def test_relevance_beyond_the_integers_of_float64(name, dtype, first):
    """Such as times in nanoseconds."""
    relevance = np.array([1, 3, 0, 2])
    large = np.array([first + int(y) for y in relevance], dtype)
    loss, gradient = getattr(fsl, name)(SCORES, large, return_grad=True)
    right = getattr(fsl, name)(SCORES, relevance, return_grad=True)
    assert loss == right[0]
    np.testing.assert_array_equal(gradient, right[1])


@every_loss
def test_finite_differences(name):
    rng = np.random.default_rng(6)
    for options in OPTIONS.get(name, [{}]):
        if "lambda_weight" in options:
            continue  # weights are constants
        case = random_case(rng, name, (2, 9), lengths=True, holes=0.2, weighted=name in WEIGHTED, **options)
        case.reducing = {"reduction": "mean"}
        inside = case.counting()
        case.scores[~inside] = 0.0
        case.scores[:, 1] += 0.3  # without a tie

        def loss(x, return_grad=False, case=case, inside=inside):
            return case.run(scores=np.where(inside, x, np.nan), return_grad=return_grad)

        assert fsl.check_grad(loss, case.scores) < 1e-6


# ---- worked numbers -------------------------------------------------------------------------------------

MASKED, WEIGHT = {"mask": [1, 1, 0, 1]}, {"item_weight": [1, 2, 3, 0.5]}
GOLDENS = [
    ("pairwise_hinge_loss", {}, 10, [-2, 3, -1, 0]),
    ("pairwise_hinge_loss", MASKED, 6, [-2, 2, 0, 0]),
    ("pairwise_hinge_loss", WEIGHT, 17, [-2, 4.5, -3, 0.5]),
    ("pairwise_logistic_loss", {}, 7.238752579237576,
     [-1.622459331202, 2.501207181646, -0.770148603016, -0.108599247428]),
    ("pairwise_logistic_loss", MASKED, 3.988751949681082, [-1.440033807395, 1.548633054824, 0, -0.108599247428]),
    ("pairwise_logistic_loss", WEIGHT, 12.679296438625949,
     [-1.622459331202, 4.040826145976, -2.675296856661, 0.256930041887]),
    ("pairwise_logistic_loss", {"lambda_weight": "dcg"}, 20.221738471916616,
     [-5.658605353546, 8.153985858528, -2.068120200647, -0.427260304335]),
    ("pairwise_logistic_loss", {"lambda_weight": "ndcg"}, 4.895202697270174,
     [-1.369813986465, 1.973886351245, -0.500642790853, -0.103429573927]),
    ("list_softmax_loss", {}, 8.980727592343424, [-1.456044336826, 2.437840150396, -0.878627085762, -0.103168727807]),
    ("list_softmax_loss", MASKED, 5.393106352323835, [-1.579266850502, 1.885595157635, 0, -0.306328307134]),
    ("list_softmax_loss", WEIGHT, 15.223500439472208,
     [-1.252060963136, 3.352030206794, -2.833112242923, 0.733142999265]),
    ("list_mle_loss", {}, 6.657455802372265, [-0.864011084206, 2.045903128927, -0.934537744481, -0.247354300239]),
    ("list_mle_loss", MASKED, 3.277630471626168, [-0.859755616834, 1.359590297842, 0, -0.499834681008]),
    ("bpr_max_loss", {}, 1.365069113001259, [-0.671303553756, 0.613458355166, -0.056807130573, 0.114652329163]),
    ("bpr_max_loss", {"regularization": 1}, 4.481222651095983,
     [-0.671303553756, 4.058448011790, -0.201362437646, 0.084510897171]),
    ("top1_max_loss", {}, 1.652715471665044, [-0.171426107169, 0.258643389699, -0.034532847682, 0.085382124719]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "loss", "gradient"), GOLDENS)
def test_worked_numbers(name, options, loss, gradient, level):
    truth = 0 if name in TARGETS else RELEVANCE
    found = getattr(fsl, name)(SCORES, truth, **options, reduction="sum", return_grad=True)
    np.testing.assert_allclose(found[0], loss, rtol=1e-14)
    np.testing.assert_allclose(found[1], gradient, rtol=0, atol=1e-12)


def test_averages():
    scores = np.stack([SCORES, [0.1, 0.2, 0.3, 0.4]])
    relevance = np.stack([RELEVANCE, [0, 0, 0, 1]])
    found = {way: fsl.pairwise_hinge_loss(scores, relevance, reduction=way) for way in REDUCTIONS[PAIRS[0]]}
    np.testing.assert_allclose(found["per_sequence"], [10, 2.4])
    assert round(found["mean"], 12) == 1.55
    assert round(found["sequence_mean"], 12) == 1.4
    assert round(found["sum"], 12) == 12.4
    assert fsl.pairwise_hinge_loss(scores, relevance, reduction="sum", normalizer=4) == pytest.approx(3.1)


def test_targets_far_below_the_negatives():
    loss, gradient = fsl.bpr_max_loss([-80.0, 1, 2, 3], 0, return_grad=True)
    assert round(loss, 3) == 82.309
    assert gradient[0] == -1
    for dtype in (np.float32, np.float64):
        loss, gradient = fsl.bpr_max_loss(np.array([-1000.0, -999, -998, -2000], dtype), 0, return_grad=True)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 63.5, 64.5, -1e3, 1e5])
def test_penalty_of_large_scores(offset, dtype, level):
    """The slope of the penalty has differences of squares, which must not cancel."""
    scores = np.array([0, 1.5, -2, 3, 2.5, -0.5]) + offset
    x = scores[1:].astype(np.longdouble)
    q = np.exp(x - x.max())
    q /= q.sum()
    slopes = q * [2 * own + (q * (own - x) * (own + x)).sum() for own in x]
    results = [fsl.bpr_max_loss(scores.astype(dtype), 0, regularization=r, return_grad=True) for r in (0, 1)]
    (plain, gradient), (loss, with_penalty) = results
    rtol = 1e-6 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(loss, plain + float((q * x**2).sum()), rtol=rtol)
    right = gradient[1:] + slopes.astype(float)
    np.testing.assert_allclose(with_penalty[1:], right, rtol=0, atol=rtol * np.abs(right).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_negatives_of_any_finite_score(dtype, level):
    most = np.finfo(dtype).max
    for size in (1e10, 2e19, 1e30, float(most)):
        scores = np.array([0, size, -size, 1], dtype)
        loss, gradient = fsl.bpr_max_loss(scores, 0, regularization=0.5, return_grad=True)
        assert loss == pytest.approx(float(scores[1]) + 0.5 * (float(scores[1]) * float(scores[1])))
        np.testing.assert_allclose(gradient[1:], [1 + scores[1], 0, 0], rtol=1e-6, atol=1)
        loss, gradient = fsl.top1_max_loss(scores, 0, return_grad=True)
        assert loss == 2
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relevance_of_any_finite_size_gives_no_nan(dtype, level):
    for scores in ([0.3, 0.1], [0.3, -1000.0], [0.1, -np.inf], [1e30, -1e30]):
        for relevance in ([1e300, 0], [0, 1e300], [1.5e308, 1.5e308]):
            for weight in (None, [1e300, 1e10]):
                options = {"item_weight": weight, "return_grad": True}
                loss, gradient = fsl.list_softmax_loss(np.array(scores, dtype), relevance, **options)
                assert loss >= 0
                assert not np.isnan(gradient).any()


def test_small_losses_keep_their_digits():
    """As 1 + u rounds off small numbers, and log(1 - u) near 1 does."""
    loss, gradient = fsl.pairwise_logistic_loss([50.0, 0, 1], [1, 0, 0], reduction="sum", return_grad=True)
    np.testing.assert_allclose(loss, np.exp(-50) + np.exp(-49), rtol=1e-12)
    np.testing.assert_allclose(gradient, [-loss, np.exp(-50), np.exp(-49)], rtol=1e-12)
    loss, gradient = fsl.bpr_max_loss([50.0, 0, 0], 0, return_grad=True)
    np.testing.assert_allclose(loss, np.exp(-50), rtol=1e-12)
    np.testing.assert_allclose(gradient, [-np.exp(-50), np.exp(-50) / 2, np.exp(-50) / 2], rtol=1e-12)


# ---- items that do not count --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TARGETS])
def test_no_pairs(name):
    for relevance in ([1, 1, 1, 1], [0, 0, 0, 0]):
        loss, gradient = getattr(fsl, name)(SCORES, relevance, return_grad=True)
        if name in PAIRS or (name == "list_softmax_loss" and not any(relevance)):
            assert loss == 0
            assert not gradient.any()
    loss, gradient = getattr(fsl, name)(np.zeros((2, 0)), np.zeros((2, 0)), return_grad=True)
    assert loss == 0
    assert gradient.shape == (2, 0)


@every_loss
def test_one_item(name):
    truth = [0] if name in TARGETS else [[3]]
    loss, gradient = getattr(fsl, name)([[0.7]], truth, return_grad=True)
    assert (loss, gradient.tolist()) == (0, [[0]])


@every_loss
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_score_that_is_not_finite(name, value, level):
    """Other lists are as they were; none of the numbers of the list is silently wrong."""
    rng = np.random.default_rng(7)
    case = random_case(rng, name, (3, 20))
    if name in TARGETS:
        case.truth[:] = 5
    each = REDUCTIONS[name][0]
    clean = case.run(return_grad=True, reduction=each)
    case.scores[1, 4] = value
    loss, gradient = case.run(return_grad=True, reduction=each)
    np.testing.assert_array_equal(loss[[0, 2]], clean[0][[0, 2]])
    np.testing.assert_array_equal(gradient[[0, 2]], clean[1][[0, 2]])
    if value == -np.inf and name not in (*PAIRS, "list_mle_loss"):  # probability 0
        assert loss[1] == np.inf if name == "list_softmax_loss" and case.truth[1, 4] else np.isfinite(loss[1])
        assert np.isfinite(gradient[1]).all()
    else:
        assert np.isnan(loss[1])
        assert np.isnan(gradient[1]).any()
    weighted = case.run(return_grad=True, reduction="sum", sample_weight=[1, 0, 1])
    np.testing.assert_allclose(weighted[0], loss[[0, 2]].sum())
    assert not weighted[1][1].any()


# ---- arrays, threads, batches ---------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_layouts(name, dtype):
    rng = np.random.default_rng(8)
    case = random_case(rng, name, (3, 17), dtype=dtype, holes=0.2, weighted=name in WEIGHTED)
    case.scores.flags.writeable = False
    loss, gradient = case.run(return_grad=True)
    assert gradient.dtype == dtype
    case.check(loss, gradient)
    for layout in LAYOUTS:
        changed = {key: layout(value) for key, value in case.arguments.items() if np.ndim(value) == 2}
        out = layout(np.zeros_like(case.scores))
        found = case.run(**changed, grad_out=out)
        assert found[1] is out
        np.testing.assert_array_equal(found[0], loss)
        np.testing.assert_array_equal(np.asarray(out), gradient)
    x = case.scores.copy()
    assert case.run(scores=x, grad_out=x)[1] is x
    np.testing.assert_array_equal(x, gradient)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_list_repeated(name, dtype):
    """Lists that share their memory."""
    scores = np.broadcast_to(SCORES.astype(dtype), (3, 4))
    truth = [0, 1, 2] if name in TARGETS else np.broadcast_to(RELEVANCE, (3, 4))
    each = REDUCTIONS[name][0]
    found = getattr(fsl, name)(scores, truth, reduction=each, return_grad=True)
    expected = getattr(fsl, name)(scores.copy(), truth, reduction=each, return_grad=True)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "f2", "f4", ">f4", "?"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in TARGETS])
def test_dtypes_of_relevance(name, dtype):
    relevance = np.array([[1, 0, 1, 1], [0, 0, 1, 0]])
    scores = np.stack([SCORES, SCORES]).astype(np.float32)
    expected = getattr(fsl, name)(scores, relevance.astype(float), return_grad=True)
    found = getattr(fsl, name)(scores, relevance.astype(dtype), return_grad=True)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7)
    np.testing.assert_array_equal(found[1], expected[1])


def test_gradient_in_the_memory_of_the_relevance():
    rng = np.random.default_rng(9)
    scores, relevance = rng.normal(size=(2, 5, 7)).astype(np.float32)
    relevance = np.abs(relevance)
    expected = fsl.list_softmax_loss(scores, relevance, return_grad=True)
    loss, gradient = fsl.list_softmax_loss(scores, relevance, grad_out=relevance)
    assert gradient is relevance
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


@every_loss
@pytest.mark.parametrize("threads", [2, 5, thorough(16)])
def test_threads_and_neighbours(name, threads):
    """The same bits for any number of threads, and for a list alone."""
    rng = np.random.default_rng(10)
    each = REDUCTIONS[name][0]
    case = random_case(rng, name, (40, 300), dtype=np.float32, lengths=True, holes=0.1, weighted=name in WEIGHTED)
    loss, gradient = case.run(num_threads=1, return_grad=True, reduction=each)
    found = case.run(num_threads=threads, return_grad=True, reduction=each)
    np.testing.assert_array_equal(found[0], loss)
    np.testing.assert_array_equal(found[1], gradient)
    for b in (0, 17):
        alone = {key: value[b : b + 1] for key, value in case.arguments.items() if np.ndim(value)}
        found = case.run(**alone, return_grad=True, reduction=each)
        np.testing.assert_array_equal(found[0], loss[b : b + 1])
        np.testing.assert_array_equal(found[1], gradient[b : b + 1])


@pytest.mark.thorough
def test_a_signal_ends_the_pairs_of_one_long_list():
    code = """
import os, signal, threading
import numpy as np
import fastseqloss as fsl
rng = np.random.default_rng(0)
scores, relevance = rng.normal(size=(2, 2, 400_000))
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    fsl.pairwise_logistic_loss(scores, relevance)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = python(code)
    assert done.stdout.split() == ["interrupted"], done.stderr


@pytest.mark.thorough
def test_pauses_change_no_bit():
    """A list with several portions of pairs, in several regions."""
    rng = np.random.default_rng(11)
    scores, relevance = rng.normal(size=(2, 3, 25_000))
    one = fsl.pairwise_logistic_loss(scores, relevance, num_threads=1, return_grad=True, reduction="per_sequence")
    alone = fsl.pairwise_logistic_loss(scores[2], relevance[2], return_grad=True, reduction="per_sequence")
    several = fsl.pairwise_logistic_loss(scores, relevance, num_threads=3, return_grad=True, reduction="per_sequence")
    np.testing.assert_array_equal(several[0], one[0])
    np.testing.assert_array_equal(several[1], one[1])
    assert alone[0] == one[0][2]
    np.testing.assert_array_equal(alone[1], one[1][2])


# ---- errors ---------------------------------------------------------------------------------------------

GIVEN = (np.zeros((2, 3)), np.ones((2, 3)))
ERRORS = [
    (r"scores has shape \(\); allowed: \[B, N\], or \[N\] for one list", (1.0, 1.0), {}),
    (r"scores has dtype int64", (np.ones((2, 3), int), GIVEN[1]), {}),
    (r"relevance has shape \(3,\); allowed: \(2, 3\)", (GIVEN[0], np.ones(3)), {}),
    (r"relevance\[1, 2\] is nan; allowed: finite", (GIVEN[0], [[0, 0, 0], [0, 0, np.nan]]), {}),
    (r"relevance\[0, 1\] is inf; allowed: finite", (GIVEN[0], np.float32([[0, np.inf, 0], [0, 0, 0]])), {}),
    (r"relevance has dtype complex128; allowed: real numbers", (GIVEN[0], GIVEN[1] * 1j), {}),
    (r"lengths\[1\] is 4; allowed: 0 to 3", GIVEN, {"lengths": [3, 4]}),
    (r"mask has shape \(3,\); allowed: \(2, 3\)", GIVEN, {"mask": [1, 1, 1]}),
    (r"sample_weight\[0\] is -1.0; allowed: finite, 0 or more", GIVEN, {"sample_weight": [-1, 1]}),
    (r"reduction is 'batch_mean'; allowed", GIVEN, {"reduction": "batch_mean"}),
    (r"normalizer needs reduction='sum'", GIVEN, {"normalizer": 3}),
    (r"num_threads is 0; allowed: 1 or more", GIVEN, {"num_threads": 0}),
    (r"grad_out has shape \(3, 2\); allowed: \(2, 3\)", GIVEN, {"grad_out": np.zeros((3, 2))}),
]
OF_ONE = [
    ("pairwise_hinge_loss", r"margin is -1; allowed: finite, 0 or more", GIVEN, {"margin": -1}),
    ("pairwise_hinge_loss", r"item_weight\[0, 2\] is -1; allowed: finite, 0 or more", GIVEN,
     {"item_weight": [[0, 0, -1], [0, 0, 0]]}),
    ("pairwise_logistic_loss", r"item_weight has shape \(2,\); allowed: \(2, 3\)", GIVEN, {"item_weight": [1, 1]}),
    ("pairwise_logistic_loss", r"lambda_weight is 'x'; allowed: 'dcg', 'ndcg'", GIVEN, {"lambda_weight": "x"}),
    ("pairwise_logistic_loss", r"relevance\[0, 0\] is 1000.0; allowed: 0 to 500, with lambda_weight",
     (GIVEN[0], 1000 * GIVEN[1]), {"lambda_weight": "dcg"}),
    ("list_softmax_loss", r"relevance\[1, 0\] is -1; allowed: finite, 0 or more", (GIVEN[0], [[0, 1, 0], [-1, 0, 0]]),
     {}),
    ("bpr_max_loss", r"targets\[1\] is 3; allowed: 0 to 2, an item that counts", (GIVEN[0], [0, 3]), {}),
    ("bpr_max_loss", r"targets\[0\] is 2; allowed: 0 to 2, an item that counts", (GIVEN[0], [2, 0]),
     {"lengths": [2, 3]}),
    ("top1_max_loss", r"targets\[1\] is -1; allowed", (GIVEN[0], [0, -1]), {}),
    ("top1_max_loss", r"targets has shape \(2, 3\); allowed: \(2,\), an item of each list",
     (GIVEN[0], np.ones((2, 3), int)), {}),
    ("top1_max_loss", r"targets has dtype float64; allowed: any integer dtype", (GIVEN[0], [0.0, 1.0]), {}),
    ("bpr_max_loss", r"regularization is -1; allowed: finite, 0 or more", (GIVEN[0], [0, 1]), {"regularization": -1}),
]  # fmt: skip
CALLS = [(name, *error) for name in NAMES for error in ERRORS] + OF_ONE


@pytest.mark.parametrize(("name", "said", "arguments", "options"), CALLS)
def test_errors(name, said, arguments, options):
    if name in TARGETS and arguments[1] is GIVEN[1]:
        arguments = (arguments[0], [0, 1])
    elif name in TARGETS and said.startswith("relevance"):
        return
    out = options.get("grad_out", np.full((2, 3), 7.0))
    with pytest.raises((ValueError, TypeError), match=said):
        getattr(fsl, name)(*arguments, **{"grad_out": out} | options)
    assert out[0, 0] in (7, 0)
    if "grad_out" not in options:
        assert (out == 7).all()


def test_errors_behind_a_mask_are_no_errors():
    """Masked items are not read."""
    scores = np.array([[1.0, np.nan, 0.5]])
    options = {"mask": [[1, 0, 1]], "reduction": "sum", "return_grad": True}
    for name in (*PAIRS, "list_softmax_loss", "list_mle_loss"):
        weight = {"item_weight": [[1, np.nan, 1]]} if name in WEIGHTED else {}
        loss, gradient = getattr(fsl, name)(scores, [[1, np.inf, 0]], **weight, **options)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
