"""The reduction table of the per-step losses: each convention by name, on numbers that one can add in the head."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from fastseqloss._core.reduction import finish_sequences
from reference import steps as reference_steps
from reference.steps import NAMES
from step_cases import FLOATS, LAYOUTS, REDUCTIONS, Case, assert_same, cases, random_case
from thoroughness import examples, spread

# Absolute differences of three sequences of 1, 2 and 0 of at most 3 steps; what is beyond them must not be read.
PREDICTIONS = np.array([[6.0, np.nan, np.nan], [1.0, 2.0, np.nan], [np.nan, np.nan, np.nan]])
TARGETS = np.zeros((3, 3))
LENGTHS = np.array([1, 2, 0])
WEIGHT = np.array([1.0, 3.0, 2.0])


def mae(**options):
    return fsl.mae_loss(PREDICTIONS, TARGETS, LENGTHS, return_grad=True, **options)


@pytest.mark.parametrize(
    ("options", "loss", "shares"),
    [
        ({"reduction": "none"}, [[6, 0, 0], [1, 2, 0], [0, 0, 0]], [1, 1, 1]),
        ({"reduction": "per_sequence"}, [6, 3, 0], [1, 1, 1]),
        ({"reduction": "sum"}, 9, [1, 1, 1]),
        ({"reduction": "mean"}, 9 / 3, [1 / 3, 1 / 3, 0]),
        ({}, 9 / 3, [1 / 3, 1 / 3, 0]),
        ({"reduction": "sequence_mean"}, (6 / 1 + 3 / 2 + 0) / 3, [1 / 3, 1 / 6, 0]),
        ({"reduction": "batch_mean"}, 9 / 3, [1 / 3, 1 / 3, 0]),
        ({"reduction": "sum", "normalizer": 18}, 9 / 18, [1 / 18, 1 / 18, 0]),
        ({"reduction": "none", "sample_weight": WEIGHT}, [[6, 0, 0], [3, 6, 0], [0, 0, 0]], [1, 3, 2]),
        ({"reduction": "per_sequence", "sample_weight": WEIGHT}, [6, 9, 0], [1, 3, 2]),
        ({"reduction": "sum", "sample_weight": WEIGHT}, 15, [1, 3, 2]),
        ({"reduction": "mean", "sample_weight": WEIGHT}, 15 / 7, [1 / 7, 3 / 7, 0]),
        ({"reduction": "sequence_mean", "sample_weight": WEIGHT}, (6 + 3 * 1.5) / 6, [1 / 6, 3 / 12, 0]),
        ({"reduction": "batch_mean", "sample_weight": WEIGHT}, 15 / 6, [1 / 6, 3 / 6, 0]),
        ({"reduction": "sum", "normalizer": 0.5, "sample_weight": WEIGHT}, 30, [2, 6, 0]),
    ],
    ids=str,
)
def test_each_by_name(level, options, loss, shares):
    actual, gradient = mae(**options)
    np.testing.assert_allclose(actual, loss, rtol=1e-15)
    counts = np.arange(3) < LENGTHS[:, None]
    np.testing.assert_allclose(gradient, np.array(shares)[:, None] * counts, rtol=1e-15)
    assert isinstance(actual, float) if np.ndim(loss) == 0 else type(actual) is np.ndarray
    np.testing.assert_array_equal(mae(**options)[0], actual)


def test_batch_mean_differs_from_mean(level):
    """Divisors: 9 over 3 sequences, 9 over 4 steps."""
    predictions = np.array([[6.0, 0, 0], [1.0, 2.0, 0], [0, 0, 0]])
    lengths = np.array([2, 2, 0])
    run = {r: fsl.mae_loss(predictions, TARGETS, lengths, reduction=r) for r in ("mean", "batch_mean", "sequence_mean")}
    assert run == pytest.approx({"mean": 9 / 4, "batch_mean": 9 / 3, "sequence_mean": (3 + 1.5) / 3})


# Two sequences of two steps over two classes; softmax of 0 costs log 2 at each.
WEIGHTED = {"class_weight": np.array([1.0, 3.0])}
CLASSES = np.array([[0, 1], [1, -100]])


@pytest.mark.parametrize("name", reference_steps.CLASSIFICATION)
@pytest.mark.parametrize(
    ("reduction", "sample_weight", "factor"),
    [
        ("sum", None, 7),
        ("mean", None, 7 / 7),
        ("sequence_mean", None, (4 / 4 + 3 / 3) / 2),
        ("batch_mean", None, 7 / 2),
        ("mean", [1, 5], (4 + 15) / (4 + 15)),
        ("sequence_mean", [1, 5], (1 + 5) / 6),
        ("batch_mean", [1, 5], (4 + 15) / 6),
        ("sum", [1, 5], 4 + 15),
        ("per_sequence", None, [4, 3]),
        ("none", [1, 5], [[1, 3], [15, 0]]),
    ],
)
def test_class_weights_are_in_the_divisor(level, name, reduction, sample_weight, factor):
    """As in PyTorch: the average divides by the weights of the targets, not by their number."""
    scores = np.full((2, 2, 2), -1.0 if name == "nll_loss" else 0.0)
    one = {"softmax_cross_entropy": np.log(2), "softmax_focal_loss": np.log(2) / 4}.get(name, 1.0)
    loss = getattr(fsl, name)(scores, CLASSES, reduction=reduction, sample_weight=sample_weight, **WEIGHTED)
    np.testing.assert_allclose(loss, one * np.array(factor), rtol=1e-14)


def test_class_weights_of_distributions_are_not(level):
    scores, targets = np.zeros((2, 2, 2)), np.full((2, 2, 2), 0.5)
    options = WEIGHTED | {"lengths": [2, 1]}
    for reduction, factor in (("sum", 6), ("mean", 2), ("sequence_mean", 2), ("batch_mean", 3)):
        loss = fsl.softmax_cross_entropy(scores, targets, reduction=reduction, **options)
        assert loss == pytest.approx(factor * np.log(2), rel=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sequence_mean"])
def test_targets_that_all_weigh_nothing(level, reduction):
    """A divisor of 0 makes a loss of 0, whatever the smoothing adds to the steps."""
    scores = np.random.default_rng(0).normal(size=(2, 3, 2))
    options = {"class_weight": [0.0, 1.0], "label_smoothing": 0.5, "z_loss": 0.1, "reduction": reduction}
    loss, gradient = fsl.softmax_cross_entropy(scores, np.zeros((2, 3), int), return_grad=True, **options)
    assert loss == 0
    assert not gradient.any()


def test_leading_axes_are_batch_and_time(level):
    """Further axes belong to the time step; [N, V] is N sequences of one step."""
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(3, 4, 5, 6)), rng.integers(0, 6, (3, 4, 5))
    mask = rng.random((3, 4, 5)) < 0.7
    lengths = np.array([4, 2, 1])
    losses = fsl.softmax_cross_entropy(scores, targets, lengths, mask=mask, reduction="none")
    counts = mask & (np.arange(4)[:, None] < lengths[:, None, None])
    assert not losses[~counts].any()
    run = {r: fsl.softmax_cross_entropy(scores, targets, lengths, mask=mask, reduction=r) for r in REDUCTIONS}
    np.testing.assert_allclose(run["per_sequence"], losses.sum(axis=(1, 2)), rtol=1e-14)
    assert run["mean"] == pytest.approx(losses.sum() / counts.sum(), rel=1e-14)
    assert run["batch_mean"] == pytest.approx(losses.sum() / 3, rel=1e-14)
    by_sequence = losses.sum(axis=(1, 2)) / counts.sum(axis=(1, 2))
    assert run["sequence_mean"] == pytest.approx(by_sequence.mean(), rel=1e-14)
    flat = scores.reshape(-1, 6), targets.ravel()
    each = fsl.softmax_cross_entropy(*flat, reduction="none")
    assert each.shape == (60,)
    for reduction in ("mean", "sequence_mean", "batch_mean"):
        assert fsl.softmax_cross_entropy(*flat, reduction=reduction) == pytest.approx(each.mean(), rel=1e-14)
    assert_same([fsl.softmax_cross_entropy(*flat, reduction="per_sequence")], [each])


@pytest.mark.parametrize("name", NAMES)
def test_sequence_mean_is_the_mean_of_means(level, name):
    """The convention of losses averaged over time first, then over the batch."""
    case = random_case(np.random.default_rng(4), name, (5, 7, 3))
    case.lengths = np.maximum(case.lengths, 1)
    case.scores[...] = np.random.default_rng(5).normal(size=case.scores.shape)
    if name not in reference_steps.CLASSIFICATION:
        case.targets[...] = 1.0
    else:
        case.targets[...] = 1
    means = []
    for b in range(5):
        n = case.lengths[b]
        means.append(getattr(fsl, name)(case.scores[b : b + 1, :n], case.targets[b : b + 1, :n]))
    assert case.reduced(reduction="sequence_mean").run()[0] == pytest.approx(np.mean(means), rel=1e-13)


# ---- parts that add up ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@examples(0.5)
@given(data=st.data())
def test_micro_batches_add_up(name, data):
    """Each part of a batch divided by what the whole batch is divided by, they sum to its mean."""
    case = data.draw(cases(name, dtypes=(np.float64,), scales=(1.0,), smallest=1))
    if case.scores.ndim == 1:  # nothing to take apart, or options of the axis that would be
        return
    weight = case.reducing.get("sample_weight")
    count = case.steps.weight
    s = np.nan_to_num(np.ones(len(count)) if weight is None else weight, nan=0.0, posinf=0.0)
    divisor = float(np.sum(s.reshape(s.shape + (1,) * (count.ndim - s.ndim)) * count))
    if divisor == 0:
        return
    mean, gradient = case.reduced(reduction="mean", sample_weight=weight).run()
    part = case.reduced(reduction="sum", normalizer=divisor, sample_weight=weight)
    parts = [part.sequence(b).run() for b in range(len(count))]
    assert mean == pytest.approx(sum(loss for loss, _ in parts), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(np.concatenate([slope for _, slope in parts]), gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalizer", [2, np.float32(2), np.int64(2), 2.0])
def test_any_real_number_normalizes(normalizer):
    assert mae(reduction="sum", normalizer=normalizer)[0] == 4.5


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, bool])
def test_sample_weight_of_any_real_dtype(dtype):
    weight = np.array([1, 0, 1])
    assert_same(mae(sample_weight=weight.astype(dtype)), mae(sample_weight=weight.astype(float)))
    assert_same(mae(sample_weight=weight.tolist()), mae(sample_weight=weight.astype(float)))


# ---- infinite losses ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_infinite_step_in_each_reduction(level, dtype):
    scores = np.array([[[0, -np.inf], [0, 0]], [[0, 0], [0, 0]]], dtype)
    case = Case("softmax_cross_entropy", scores, np.array([[1, 0], [0, 1]]))
    for reduction in REDUCTIONS:
        case.reducing = {"reduction": reduction}
        loss, gradient = case.run()
        case.check(loss, gradient)
        assert np.isinf(loss).any()
        assert np.isfinite(gradient).all()
        assert not np.isnan(loss).any()


def test_many_losses_add_up_as_exactly_as_numpy_adds_them():
    rng = np.random.default_rng(0)
    for n in (0, 1, 511, 513, 100_000):
        losses, weight = rng.random(n), rng.choice([0.0, 0.5, 1.0], n)
        losses[weight == 0] = np.nan
        total = finish_sequences("sum", losses, weight, single=False)
        assert total == pytest.approx(math.fsum(losses[weight > 0] * weight[weight > 0]), rel=1e-14)
        weighted = finish_sequences("none", losses, weight, single=False)
        np.testing.assert_array_equal(weighted, np.where(weight > 0, losses, 0) * weight)


@pytest.mark.parametrize(
    ("name", "shape"), spread(NAMES, [(7, 33, 3), (5, 300, 1), (3, 2900, 5), (600, 3, 2), (1, 4100, 4)], every=2)
)
def test_no_bit_depends_on_where_in_memory_a_batch_lies(name, shape):
    rng = np.random.default_rng(5)
    for lengths, reduction in ((False, "mean"), (False, "sum"), (True, "mean"), (False, "sequence_mean")):
        case = random_case(rng, name, shape, dtype=np.float32, lengths=lengths).reduced(reduction=reduction)
        expected = case.run()
        scores, targets = case.scores, case.targets
        for layout in LAYOUTS:
            case.scores = layout(scores)
            assert_same(case.run(), expected)
            case.targets = layout(targets)
            assert_same(case.run(), expected)
            case.scores, case.targets = scores, targets
