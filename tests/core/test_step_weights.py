"""Weights of steps, masks of features and averages at each step, on numbers that one can add in the head."""

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, X
from reference.steps import CLASSIFICATION, ELEMENTWISE, NAMES
from step_cases import REDUCTIONS, Case, assert_same, random_case, time_major, weights_of
from thoroughness import spread

# Absolute differences of three sequences of 1, 2 and 0 of at most 3 steps; what is beyond them must not be read.
NAN = np.nan
PREDICTIONS = np.array([[6.0, NAN, NAN], [1.0, 2.0, NAN], [NAN, NAN, NAN]])
LENGTHS = np.array([1, 2, 0])
COUNTS = np.arange(3) < LENGTHS[:, None]
WEIGHT = np.array([[2.0, NAN, -1.0], [1.0, 3.0, np.inf], [NAN, NAN, NAN]])
MEANS = ("none", "per_sequence", "step_mean", "sum", "mean")  # for which weights of sequences may be spread to steps


@pytest.mark.parametrize(
    ("options", "loss", "shares"),
    [
        ({"reduction": "step_mean"}, [7 / 2, 2, 0], [[1 / 2, 0, 0], [1 / 2, 1, 0], [0, 0, 0]]),
        ({"reduction": "step_mean", "sample_weight": [1, 3, 2]}, [9 / 4, 2, 0], [[1 / 4, 0, 0], [3 / 4, 1, 0], 0]),
        ({"reduction": "step_mean", "sample_weight": WEIGHT}, [13 / 3, 2, 0], [[2 / 3, 0, 0], [1 / 3, 1, 0], 0]),
        ({"reduction": "none", "sample_weight": WEIGHT}, [[12, 0, 0], [1, 6, 0], [0, 0, 0]], [2, [1, 3, 0], 0]),
        ({"reduction": "per_sequence", "sample_weight": WEIGHT}, [12, 7, 0], [2, [1, 3, 0], 0]),
        ({"reduction": "sum", "sample_weight": WEIGHT}, 19, [2, [1, 3, 0], 0]),
        ({"reduction": "mean", "sample_weight": WEIGHT}, 19 / 6, [2 / 6, [1 / 6, 3 / 6, 0], 0]),
        ({"reduction": "sequence_mean", "sample_weight": WEIGHT}, (6 + 7 / 4) / 3, [1 / 3, [1 / 12, 1 / 4, 0], 0]),
        ({"reduction": "batch_mean", "sample_weight": WEIGHT}, 19 / 3, [2 / 3, [1 / 3, 1, 0], 0]),
        ({"reduction": "sum", "normalizer": 2, "sample_weight": WEIGHT}, 19 / 2, [1, [0.5, 1.5, 0], 0]),
    ],
    ids=str,
)
def test_weights_of_steps_by_name(level, options, loss, shares):
    actual, gradient = fsl.mae_loss(PREDICTIONS, np.zeros((3, 3)), LENGTHS, return_grad=True, **options)
    np.testing.assert_allclose(actual, loss, rtol=1e-15)
    each = np.array([np.broadcast_to(row, 3) for row in shares])
    np.testing.assert_allclose(gradient, each * COUNTS, rtol=1e-15)
    assert isinstance(actual, float) if np.ndim(loss) == 0 else type(actual) is np.ndarray


# Two sequences of two steps of three features; of the four steps, one lacks a feature and one lacks all.
FEATURES = np.array([[[3.0, 6.0, NAN], [NAN, NAN, NAN]], [[9.0, 0.0, 3.0], [12.0, 3.0, 3.0]]])


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"reduction": "none"}, [[3, 0], [4, 6]]),
        ({"reduction": "per_sequence"}, [3, 10]),
        ({"reduction": "step_mean"}, [21 / 5, 18 / 3]),
        ({"reduction": "sum"}, 13),
        ({"reduction": "mean"}, 39 / 8),
        ({"reduction": "sequence_mean"}, (9 / 2 + 30 / 6) / 2),
        ({"reduction": "batch_mean"}, 13 / 2),
        ({"reduction": "mean", "sample_weight": [2, 1]}, (2 * 9 + 30) / (2 * 2 + 6)),
        ({"reduction": "sequence_mean", "sample_weight": [2, 1]}, (2 * 9 / 2 + 30 / 6) / 3),
        ({"reduction": "mean", "sample_weight": [[2, NAN], [1, 0]]}, (2 * 9 + 12) / (2 * 2 + 3)),
        ({"reduction": "none", "sample_weight": [[2, NAN], [1, 0]]}, [[6, 0], [4, 0]]),
        ({"reduction": "mean", "lengths": [1, 1]}, 21 / 5),
    ],
    ids=str,
)
def test_missing_features_by_name(level, options, loss):
    """The loss of a step stays a third of a sum; averages count features."""
    x, mask = FEATURES, ~np.isnan(FEATURES)
    actual = fsl.mae_loss(x, np.zeros(x.shape), mask=mask, **options)
    np.testing.assert_allclose(actual, loss, rtol=1e-15)
    x = np.where(mask, x, 1e300)
    assert_same([fsl.mae_loss(x, np.where(mask, 0, NAN), mask=mask, **options)], [actual])


def test_a_missing_feature_costs_only_itself(level):
    """A missing feature no longer makes the loss NaN or excludes its step."""
    rng = np.random.default_rng(0)
    x, y, mask = rng.normal(size=(4, 9, 5)), rng.normal(size=(4, 9, 5)), rng.random((4, 9, 5)) < 0.7
    loss, gradient = fsl.mse_loss(np.where(mask, x, NAN), y, mask=mask, return_grad=True)
    assert loss == pytest.approx(((x - y)[mask] ** 2).mean(), rel=1e-14)
    np.testing.assert_allclose(gradient, np.where(mask, 2 * (x - y) / mask.sum(), 0), rtol=1e-13, atol=1e-16)


def case_of(name, *, dtype=np.float64, shape=(5, 7, 6), **options) -> Case:
    case = random_case(np.random.default_rng(len(name)), name, shape, dtype=dtype, holes=0.2, **options)
    if name in CLASSIFICATION:
        case.options["class_weight"] = np.linspace(0.5, 2, shape[-1])
    return case


def run(case, reduction, weight=None):
    return case.reduced(reduction=reduction, sample_weight=weight).run()


def assert_close(actual, expected):
    for found, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("name", "reduction"), spread(NAMES, REDUCTIONS, every=2))
def test_weights_of_sequences_spread_to_steps(level, name, reduction):
    """Equal but for averages over sequences, which weights of steps do not weight."""
    case, weight = case_of(name), np.array([0.5, 0.0, 2.0, 3.0, 1.0])
    shapes = [(5, 7)] if name in CLASSIFICATION else [(5, 7), (5, 7, 6)]
    for shape in shapes:
        each = np.broadcast_to(weight.reshape(5, *(1,) * (len(shape) - 1)), shape)
        if reduction in MEANS:
            assert_close(run(case, reduction, each), run(case, reduction, weight))
        elif reduction == "batch_mean":
            loss, gradient = run(case, reduction, weight)
            assert_close(run(case, reduction, each), (loss * weight.sum() / 5, gradient * weight.sum() / 5))
        else:
            assert_close(run(case, reduction, each), _by_sequence(case, weight))


def _by_sequence(case, weight):
    """The mean over all sequences of the averages of those that have a weight."""
    loss, gradient = run(case, "sequence_mean", (weight > 0).astype(float))
    share = (weight > 0).sum() / len(weight)
    return loss * share, gradient * share


@pytest.mark.parametrize(("name", "reduction"), spread(NAMES, REDUCTIONS, every=2))
def test_weights_of_0_and_1_are_a_mask(level, name, reduction):
    case = case_of(name)
    kept = np.random.default_rng(1).random((5, 7)) < 0.6
    masked = Case(name, case.scores, case.targets, case.lengths, case.mask & kept, case.options)
    assert_close(run(case, reduction, kept), run(masked, reduction))
    if name in ELEMENTWISE:
        kept = np.random.default_rng(1).random((5, 7, 6)) < 0.6
        masked.mask = case.mask[..., None] & kept
        assert_close(run(case, reduction, kept), run(masked, reduction))


@pytest.mark.parametrize("name", NAMES)
def test_full_masks_of_features_are_masks_of_steps(level, name):
    if name in CLASSIFICATION:
        return
    case = case_of(name)
    for reduction in REDUCTIONS:
        expected = run(case, reduction)
        whole = Case(name, case.scores, case.targets, case.lengths, np.repeat(case.mask[..., None], 6, 2), case.options)
        assert_close(run(whole, reduction), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_step_of_weight_zero_does_not_count_whatever_its_loss(level, name, poison):
    case = case_of(name, shape=(3, 4, 5), lengths=False)
    case.mask = None
    case.scores[...] = np.random.default_rng(0).uniform(0.1, 0.9, case.scores.shape)
    case.targets = np.ones_like(case.targets)
    weight = np.ones((3, 4))
    weight[1, 2] = 0
    for reduction in REDUCTIONS:
        case.scores[1, 2] = 0.5
        expected = run(case, reduction, weight)
        case.scores[1, 2] = poison
        assert_same(run(case, reduction, weight), expected)
        assert not expected[1][1, 2].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_weights_that_are_all_zero(level, name, ndim):
    """The loss is 0 by definition, as for weights of sequences."""
    case = case_of(name)
    weight = np.zeros(case.scores.shape[: min(ndim, case.scores.ndim - (name in CLASSIFICATION))])
    for reduction in REDUCTIONS:
        loss, gradient = run(case, reduction, weight)
        assert not np.any(loss)
        assert not gradient.any()


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e200, 1.7e308])
@pytest.mark.parametrize("reduction", ["mean", "sequence_mean", "step_mean"])
def test_averages_by_extreme_weights_of_steps(reduction, size):
    """Weights all alike are no weights: neither their sum nor its reciprocal overflows."""
    for loss in (fsl.mse_loss, fsl.softmax_cross_entropy):
        targets = X + 1 if loss is fsl.mse_loss else CLASSES
        weight = np.full((2, 3), size)
        with np.errstate(all="raise"):
            weighted = loss(X, targets, reduction=reduction, sample_weight=weight, return_grad=True)
        assert_close(weighted, loss(X, targets, reduction=reduction, return_grad=True))
    with np.errstate(all="raise"):
        for weight in ([1.0, 1e-310], np.full(X.shape, size)):
            fsl.mse_loss(X, X + 1, sample_weight=weight, mask=np.ones(X.shape, bool), reduction="sum", return_grad=True)


def test_sums_of_both_signs_that_overflow():
    """Finite losses times weights whose products overflow."""
    x, actions = np.zeros((1, 4, 2)), np.zeros((1, 4), int)
    advantages = np.array([[1e300, 1e300, -1e300, -1e300]])
    for reduction in ("sum", "per_sequence"):
        options = {"reduction": reduction, "sample_weight": np.full((1, 4), 1e300)}
        assert np.all(fsl.policy_gradient_loss(x, actions, advantages, **options) == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, bool])
@pytest.mark.parametrize("name", ["mse_loss", "softmax_cross_entropy"])
def test_weights_of_steps_of_any_real_dtype(name, dtype):
    case, weight = case_of(name), np.random.default_rng(2).integers(0, 2, (5, 7))
    expected = run(case, "mean", weight.astype(float))
    for form in (weight.astype(dtype), weight.tolist(), time_major(weight.astype(dtype))):
        assert_same(run(case, "mean", form), expected)


@pytest.mark.parametrize(("name", "dtype"), spread(NAMES, [np.float32, np.float64, np.float16], every=3))
def test_threads_neighbours_and_layouts_change_no_bit(level, name, dtype):
    case = random_case(np.random.default_rng(3), name, (37, 90, 31), dtype=dtype, holes=0.1)
    for ndim in (2,) if name in CLASSIFICATION else (2, 3):
        rng = np.random.default_rng(ndim)
        counts = case.counts if ndim == 2 else np.repeat(case.counts[..., None], 31, 2)
        weight = weights_of(rng, counts, ndim)
        for reduction in ("none", "mean", "step_mean", "sum"):
            weighted = case.reduced(reduction=reduction, sample_weight=weight)
            expected = weighted.run(num_threads=1)
            assert_same(weighted.run(num_threads=3), expected)
            weighted.scores, weighted.targets = time_major(case.scores), time_major(case.targets)
            assert_same(weighted.run(), expected)
        alone = case.reduced(reduction="none", sample_weight=weight).sequence(5).run()
        loss, gradient = case.reduced(reduction="none", sample_weight=weight).run()
        assert_same(alone, [loss[5:6], gradient[5:6]])
