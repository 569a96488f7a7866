"""softmax_cross_entropy, nll_loss and binary_cross_entropy: every width of row, and where numbers end."""

from functools import cache

import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF, KINDS
from reference import steps as reference_steps
from step_cases import DTYPES, FLOATS, Case, assert_gradient, assert_same, assert_within, random_case
from thoroughness import spread

EVERY = {"reduction": "none", "return_grad": True}


# ---- rows of every width --------------------------------------------------------------------

VARIANTS = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1, "class_weight": True, "z_loss": 1e-3},
    "distributions": {"target_dtype": np.float32, "class_weight": True},
    "log_probs": {"input": "log_probs", "label_smoothing": 0.2},
    "probs": {"input": "probs", "target_dtype": np.float64},
}


def row_case(variant, width, dtype):
    options = dict(VARIANTS[variant])
    rng = np.random.default_rng(width)
    if options.pop("class_weight", False):
        options["class_weight"] = rng.uniform(0, 2, width)
    rows = 150 if width <= 70 else 11
    return random_case(rng, "softmax_cross_entropy", (rows, width), dtype=dtype, scale=3.0, holes=0.03, **options)


@pytest.mark.parametrize(("variant", "dtype"), spread(VARIANTS, DTYPES, every=2))
def test_rows_of_every_short_width(level, variant, dtype):
    """1 to 70 classes, in numbers that fill several blocks of rows and leave a rest."""
    for width in range(1, 71):
        case = row_case(variant, width, dtype)
        case.check(*case.run())


@pytest.mark.parametrize(("variant", "dtype"), spread(VARIANTS, FLOATS, every=2))
def test_longer_rows(level, variant, dtype):
    for width in (71, 127, 128, 129, 255, 256, 257, 511, 1025, 4097):
        case = row_case(variant, width, dtype)
        case.check(*case.run())


@pytest.mark.parametrize("dtype", HALF)
def test_short_rows_in_half_precision(level, dtype):
    for width in range(1, 71, 3):
        case = row_case("smoothed", width, dtype)
        case.check(*case.run())


@pytest.mark.parametrize("dtype", [np.float32, HALF[1]])
def test_the_widest_rows(level, dtype):
    case = random_case(
        np.random.default_rng(0), "softmax_cross_entropy", (2, 262_144), dtype=dtype, label_smoothing=0.1
    )
    case.check(*case.run())


def test_short_rows_alone_and_in_a_batch(level):
    """A row has the same bits in any company and layout, in place, and with and without the gradient."""
    rng = np.random.default_rng(1)
    for width in (7, 8, 9, 12, 16, 23, 32, 40, 64, 100, 255, 256):
        x = rng.normal(scale=3, size=(77, width)).astype(np.float32)
        x[rng.random(x.shape) < 0.05] = -np.inf
        x[5] = -np.inf
        targets = rng.integers(0, width, 77)
        targets[[0, 9, 10, 11, 12, 13, 14, 15, 16, 76]] = -100
        options = {"class_weight": rng.uniform(0, 2, width), "z_loss": 1e-2, "reduction": "none", "ignore_index": -100}
        loss, gradient = fsl.softmax_cross_entropy(x, targets, return_grad=True, **options)
        assert_same([fsl.softmax_cross_entropy(x, targets, **options)], [loss])
        for rows in (slice(3, 4), slice(8, 30), slice(None, None, -2)):
            part = fsl.softmax_cross_entropy(x[rows], targets[rows], return_grad=True, **options)
            assert_same(part, [loss[rows], gradient[rows]])
        wide = np.full((77, width + 5), np.nan, np.float32)
        wide[:, 2 : width + 2] = x
        spaced = wide[:, 2 : width + 2]
        assert_same(fsl.softmax_cross_entropy(spaced, targets, grad_out=spaced, **options), [loss, gradient])
        assert np.isnan(wide[:, [0, 1, -3, -2, -1]]).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_short_rows_keep_poison_to_themselves(level, poison):
    for width in (8, 20, 33, 64):
        for place in (0, width // 2, width - 1):
            x = np.random.default_rng(0).normal(size=(19, width)).astype(np.float32)
            clean = fsl.softmax_cross_entropy(x, np.zeros(19, int), reduction="none", return_grad=True)
            x[6, place] = poison
            loss, gradient = fsl.softmax_cross_entropy(x, np.zeros(19, int), reduction="none", return_grad=True)
            assert np.isnan(loss[6])
            assert np.isnan(gradient[6]).any()
            others = np.arange(19) != 6
            assert_same([loss[others], gradient[others]], [clean[0][others], clean[1][others]])


# ---- confident and huge ---------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "width"), spread(DTYPES, [2, 5, 28, 64, 65, 1000, 6625], every=2))
def test_confident_model(level, dtype, width):
    """Tiny exponentials beside a 1 still count: 1e-6 of a loss of 1e-8. Scores are such that x - max is exact."""
    for margin in (5, 15, 25, 30):
        case = confident_case(dtype, width, margin)
        expected, slope = reference_steps.reduce(case.steps, "none")
        loss, gradient = case.run()
        np.testing.assert_allclose(loss, expected.astype(float), rtol=1e-6, atol=1e-14)
        np.testing.assert_allclose(case.run(return_grad=False), expected.astype(float), rtol=1e-6, atol=1e-14)
        np.testing.assert_allclose(gradient, slope.astype(float), rtol=0, atol=2e-7)
        assert case.run(reduction="mean", return_grad=False) == pytest.approx(float(expected.mean()), rel=1e-6)
        assert np.all(loss >= 0)


@cache  # the oracle's answer serves every level
def confident_case(dtype, width, margin):
    rng = np.random.default_rng(width)
    scores = (np.round(rng.normal(size=(2, 20, width)) * 256) / 256).astype(dtype)
    targets = rng.integers(0, width, (2, 20))
    np.put_along_axis(scores, targets[..., None], dtype(margin), -1)
    return Case("softmax_cross_entropy", scores, targets)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 5, 64, 300])
def test_loss_is_never_negative(level, dtype, width):
    rng = np.random.default_rng(width)
    for scale in (1e-3, 1.0, 100.0, 1e4):
        scores = rng.normal(scale=scale, size=(500, width)).astype(dtype)
        for targets in (scores.argmax(axis=1), rng.integers(0, width, 500)):
            assert np.all(fsl.softmax_cross_entropy(scores, targets, reduction="none") >= 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_class_is_certain(level, dtype):
    loss, gradient = fsl.softmax_cross_entropy(np.full((9, 1), 7, dtype), np.zeros(9, int), **EVERY)
    assert not loss.any()
    assert not gradient.any()


@pytest.mark.parametrize(("dtype", "huge"), [(np.float16, 6e4), (np.float32, 3e38), (np.float64, 8e307)])
@pytest.mark.parametrize("width", [4, 65, 300])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.5])
def test_huge_logits(level, dtype, huge, width, label_smoothing):
    """x - max may leave the range of the dtype; the loss does not leave that of float64."""
    rng = np.random.default_rng(0)
    scores = rng.choice([-huge, -1.0, 0.0, 1.0, huge], (50, width)).astype(dtype)
    options = {"label_smoothing": label_smoothing}
    case = Case("softmax_cross_entropy", scores, rng.integers(0, width, 50), options=options)
    loss, gradient = case.run()
    np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient.astype(float), case.steps.gradient.astype(float), atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1e3, -1e3, 1e5])
def test_a_large_offset_costs_nothing(level, dtype, offset):
    """A sum of q_c x_c in float32 would lose the difference from the offset."""
    rng = np.random.default_rng(1)
    scores = (rng.normal(size=(60, 50)) + offset).astype(dtype)
    options = {"label_smoothing": 0.3, "class_weight": rng.uniform(0.5, 2, 50)}
    for targets in (rng.integers(0, 50, 60), rng.dirichlet(np.ones(50), 60)):
        case = Case("softmax_cross_entropy", scores, targets, options=options)
        loss, gradient = case.run()
        case.check(loss, gradient)
        tolerance = 1e-6 if dtype == np.float32 else 1e-11
        np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=tolerance)


# ---- probability zero -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [2, 5, 64, 130])
def test_target_on_a_masked_class(level, dtype, width):
    """The loss is inf, and the gradient is the softmax minus the target, as always."""
    scores = np.random.default_rng(0).normal(size=(40, width)).astype(dtype)
    scores[:, 0] = -np.inf
    case = Case("softmax_cross_entropy", scores, np.zeros(40, int))
    loss, gradient = case.run()
    assert np.all(loss == np.inf)
    assert np.all(gradient[:, 0] == -1)
    case.check(loss, gradient)
    case = Case("softmax_cross_entropy", scores, np.ones(40, int))
    loss, gradient = case.run()
    assert np.isfinite(loss).all()
    assert not gradient[:, 0].any()
    case.check(loss, gradient)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [1, 2, 5, 64, 130])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_a_step_without_any_class(level, dtype, width, z_loss):
    """Loss inf, gradient 0, and nothing of it in the other steps."""
    scores = np.random.default_rng(0).normal(size=(40, width)).astype(dtype)
    targets = np.arange(40) % width
    clean, slope = fsl.softmax_cross_entropy(scores, targets, z_loss=z_loss, **EVERY)
    scores[7] = -np.inf
    loss, gradient = fsl.softmax_cross_entropy(scores, targets, z_loss=z_loss, **EVERY)
    assert loss[7] == np.inf
    assert not gradient[7].any()
    others = np.arange(40) != 7
    assert_same([loss[others], gradient[others]], [clean[others], slope[others]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_times_infinity_is_zero(level, kind, dtype):
    """Classes that have no probability and are not wanted cost nothing, by whatever their q is 0."""
    nothing = 0.0 if kind == "probs" else -np.inf
    scores = np.array([[nothing, 0.25, 0.5], [nothing, 0.5, 0.25]], dtype)
    distribution = np.array([[0, 0.5, 0.5], [0.0, 1.0, 0.0]])
    weight = np.array([0.0, 1.0, 1.0])
    for targets, options in (
        (np.array([1, 2]), {}),
        (distribution, {}),
        (np.array([1, 2]), {"label_smoothing": 0.3, "class_weight": weight}),
        (distribution + 1, {"class_weight": weight}),
    ):
        case = Case("softmax_cross_entropy", scores, targets, options={"input": kind, **options})
        loss, gradient = case.run()
        assert np.isfinite(loss).all()
        assert not gradient[:, 0].any()
        case.check(loss, gradient)
    smoothed = Case("softmax_cross_entropy", scores, np.array([1, 2]), options={"input": kind, "label_smoothing": 0.3})
    loss, gradient = smoothed.run()
    assert np.all(loss == np.inf)
    smoothed.check(loss, gradient)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wanted_class_without_probability(level, dtype):
    loss, gradient = fsl.softmax_cross_entropy(np.array([[0, 1]], dtype), [0], input="probs", **EVERY)
    assert_same([loss, gradient], [[np.inf], [[-np.inf, 0]]])
    for run in (fsl.nll_loss, lambda *args, **more: fsl.softmax_cross_entropy(*args, input="log_probs", **more)):
        loss, gradient = run(np.array([[-np.inf, 0]], dtype), [0], **EVERY)
        assert_same([loss, gradient], [[np.inf], [[-1, 0]]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [2, 3, 17, 64, 300])
def test_plus_infinity_is_not_a_number(level, dtype, width):
    scores = np.random.default_rng(0).normal(size=(30, width)).astype(dtype)
    targets = np.zeros(30, int)
    clean, slope = fsl.softmax_cross_entropy(scores, targets, **EVERY)
    scores[11, width - 1] = np.inf
    loss, gradient = fsl.softmax_cross_entropy(scores, targets, **EVERY)
    assert np.isnan(loss[11])
    assert np.isnan(gradient[11].astype(float)).any()
    others = np.arange(30) != 11
    assert_same([loss[others], gradient[others]], [clean[others], slope[others]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_that_do_not_matter(level, dtype):
    """Only the target's is read: the others may be anything, -inf too."""
    log_probs = np.array([[-1.5, -np.inf, 3.0]], dtype)
    loss, gradient = fsl.nll_loss(log_probs, [0], **EVERY)
    assert_same([loss, gradient], [[1.5], [[-1, 0, 0]]])


# ---- meaning of the options ------------------------------------------------------------------


def test_one_step_alone_gives_a_float():
    scores = np.array([1.0, 2.0, 0.5])
    expected = np.log(np.exp(scores).sum()) - 2.0
    for reduction in ("none", "sum", "mean", "sequence_mean", "batch_mean"):
        loss, gradient = fsl.softmax_cross_entropy(scores, 1, reduction=reduction, return_grad=True)
        assert isinstance(loss, float)
        assert loss == pytest.approx(expected, rel=1e-14)
        assert gradient.shape == (3,)
    loss = fsl.softmax_cross_entropy(scores, [0.0, 1.0, 0.0], reduction="none")
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, rel=1e-14)
    assert fsl.softmax_cross_entropy(scores, -100) == 0


def test_targets_as_distributions_of_one_class(level):
    """One-hot distributions are integer targets, but for what the averages divide by."""
    rng = np.random.default_rng(0)
    scores, targets, weight = rng.normal(size=(4, 5, 6)), rng.integers(0, 6, (4, 5)), rng.random(6)
    options = {"label_smoothing": 0.2, "class_weight": weight, "return_grad": True}
    a = fsl.softmax_cross_entropy(scores, targets, reduction="none", **options)
    b = fsl.softmax_cross_entropy(scores, np.eye(6)[targets], reduction="none", **options)
    np.testing.assert_allclose(a[0], b[0], rtol=1e-13)
    np.testing.assert_allclose(a[1], b[1], atol=1e-14)
    total = a[0].sum()
    mean = fsl.softmax_cross_entropy(scores, targets, **options)[0]
    assert mean == pytest.approx(total / weight[targets].sum(), rel=1e-13)
    assert fsl.softmax_cross_entropy(scores, np.eye(6)[targets], **options)[0] == pytest.approx(total / 20, rel=1e-13)


def test_nll_is_cross_entropy_of_log_probabilities():
    case = random_case(np.random.default_rng(0), "nll_loss", (4, 5, 6), holes=0.2, class_weight=np.arange(6.0))
    same = Case("softmax_cross_entropy", case.scores, case.targets, case.lengths, case.mask)
    same.options = {"input": "log_probs", "class_weight": np.arange(6.0)}
    assert_same(same.run(), case.run())


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_steps_are_never_counted_nor_read(level, kind):
    """Nor smoothed, nor part of any average."""
    rng = np.random.default_rng(0)
    case = random_case(rng, "softmax_cross_entropy", (4, 6, 5), lengths=False, input=kind, label_smoothing=0.3)
    kept = rng.random((4, 6)) < 0.6
    case.targets[~kept] = 2**40
    case.scores[~kept] = np.nan
    case.options["ignore_index"] = 2**40
    for reduction in ("sum", "mean", "sequence_mean", "batch_mean"):
        case.reducing = {"reduction": reduction}
        ignoring = case.run()
        targets = np.where(kept, case.targets, 0)
        masked = Case(case.name, case.scores, targets, None, kept, case.options, case.reducing)
        assert_same(ignoring, masked.run())


@pytest.mark.parametrize("value", [0, 3, -1])
def test_ignore_index_may_be_a_class(level, value):
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
    targets[targets == 0] = value
    loss, gradient = fsl.softmax_cross_entropy(scores, targets, ignore_index=value, **EVERY)
    np.testing.assert_array_equal(loss == 0, targets == value)
    np.testing.assert_array_equal((gradient == 0).all(axis=1), targets == value)


def test_z_loss_pulls_the_logarithm_of_the_sum_to_zero(level):
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
    weight = np.array([0.0, 1.0, 2.0, 3.0])
    lse = np.log(np.exp(scores).sum(axis=1))
    for options in ({}, {"class_weight": weight, "label_smoothing": 0.1}):  # the term itself is not weighted
        plain, with_z = (
            fsl.softmax_cross_entropy(scores, targets, reduction="none", z_loss=z, **options) for z in (0.0, 0.25)
        )
        np.testing.assert_allclose(with_z - plain, 0.25 * lse**2, rtol=1e-11)


def test_distributions_are_not_rounded_to_the_scores(level):
    scores = np.array([[0.0, 50.0]], np.float32)
    targets = np.array([[1e-9, 1.0 - 1e-9]])
    loss = fsl.softmax_cross_entropy(scores, targets, reduction="none")
    assert loss[0] == pytest.approx(50e-9, rel=1e-6)
    loss = fsl.softmax_cross_entropy(scores.astype(np.float16), targets, reduction="none")
    assert loss[0] == pytest.approx(50e-9, rel=1e-6)


def test_perplexity_is_the_exponential_of_the_mean():
    scores, targets = np.zeros((3, 4, 8)), np.zeros((3, 4), int)
    assert np.exp(fsl.softmax_cross_entropy(scores, targets)) == pytest.approx(8, rel=1e-14)


# ---- binary -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_is_stable_at_large_logits(level, dtype):
    """Exact in the tails: softplus(-x) is exp(-x) there, not 0; at 1e4 the loss is the logit."""
    x = np.array([-1e4, -200.0, -90.0, -40.0, -20.0, -1e-6, 0.0, 1e-6, 20.0, 40.0, 90.0, 200.0, 1e4])
    for y in (0.0, 1.0, 0.5, 1e-12):
        case = Case("binary_cross_entropy", x.astype(dtype), np.full(x.shape, y))
        loss, gradient = case.run()
        tolerance = 1e-6 if dtype == np.float32 else 1e-13
        np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=tolerance, atol=1e-37)
        case.check(loss, gradient)


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_at_infinite_logits(level, dtype):
    x = np.array([np.inf, np.inf, -np.inf, -np.inf, np.inf, -np.inf], dtype)
    y = np.array([1, 0, 1, 0, 0.5, 0.5])
    loss, gradient = fsl.binary_cross_entropy(x, y, **EVERY)
    assert_same([loss, gradient], [[0, np.inf, np.inf, 0, np.inf, np.inf], [0, 1, -1, 0, 0.5, -0.5]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_at_probabilities_of_zero_and_one(level, dtype):
    p = np.array([0, 0, 1, 1, 0, 1], dtype)
    y = np.array([0, 1, 0, 1, 0.5, 0.5])
    loss, gradient = fsl.binary_cross_entropy(p, y, input="probs", **EVERY)
    infinite = [0, np.inf, np.inf, 0, np.inf, np.inf]
    assert_same([loss, gradient], [infinite, [1, -np.inf, np.inf, -1, -np.inf, np.inf]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_at_probabilities_near_zero_and_one(level, dtype):
    """log(1 - p) must not round to 0 for small p: it is log1p(-p)."""
    near_one = 1 - np.finfo(dtype).eps * np.array([0.5, 1, 100])
    p = np.concatenate([[1e-30, 1e-12, 1e-7, 1e-3], near_one]).astype(dtype)
    for y in (0.0, 1.0, 0.25):
        case = Case("binary_cross_entropy", p, np.full(p.shape, y), options={"input": "probs"})
        loss, gradient = case.run()
        np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=1e-6 if dtype == np.float32 else 1e-12)
        np.testing.assert_allclose(gradient, case.steps.gradient.astype(float), rtol=1e-6)


def test_positive_weight(level):
    """One for all, or one for each entry of the last axis."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4, 5)), rng.choice([0.0, 1.0, 0.3], (3, 4, 5))
    weight = np.array([0.0, 0.5, 1.0, 2.0, 10.0])
    for pos_weight in (0.0, 2, 3.5, np.float32(0.5), weight, weight.tolist(), weight.astype(np.float32)):
        case = Case("binary_cross_entropy", x, y, options={"pos_weight": pos_weight})
        case.check(*case.run())
    case = Case("binary_cross_entropy", x[..., 0], y[..., 0], options={"pos_weight": weight[:4]})
    case.check(*case.run())


def test_binary_of_float32_logits(level):
    """Sizes around those of the pieces; the sum and the mean agree with the single losses, for targets of any type."""
    rng = np.random.default_rng(0)
    for size in (1, 7, 127, 128, 129, 511, 512, 513, 2049, 9000):
        for scale in (1.0, 30.0):
            x = rng.normal(scale=scale, size=(1, size)).astype(np.float32)
            for y in (rng.integers(0, 2, x.shape), rng.random(x.shape), rng.random(x.shape, np.float32)):
                case = Case("binary_cross_entropy", x, y)
                loss, gradient = case.run()
                case.check(loss, gradient)
                exact = case.steps.loss.astype(float).ravel()
                # exp(-|x|) in float32 has an error of 1.25 |x| 2^-24.
                assert (np.abs(np.ravel(loss) - exact) <= exact * (3e-7 + 7.5e-8 * np.abs(x[0])) + 1e-36).all()
                for reduction, total in (("sum", exact.sum()), ("mean", exact.mean())):
                    found, slope = fsl.binary_cross_entropy(x, y, reduction=reduction, return_grad=True)
                    assert found == pytest.approx(total, rel=2e-7)
                    assert fsl.binary_cross_entropy(x, y, reduction=reduction) == found
                    wanted = case.steps.gradient.astype(float) * (1 if reduction == "sum" else 1 / size)
                    np.testing.assert_allclose(slope, wanted.reshape(x.shape), atol=2e-7 * np.abs(wanted).max(), rtol=0)


def test_binary_of_targets_beyond_float32(level):
    """A tiny target counts beside an infinite logit, and no other element changes."""
    x = np.array([[-np.inf, 3.0, -1.0, np.inf, 0.0]], np.float32)
    y = np.array([[1e-300, 0.25, 1.0, 1 - 1e-15, 1e-300]])
    loss, gradient = fsl.binary_cross_entropy(x, y, reduction="none", return_grad=True)
    assert_same([loss[0, 0], loss[0, 3]], [np.inf, np.inf])
    exact = fsl.binary_cross_entropy(x[:, 1:3], y[:, 1:3].astype(np.float32), reduction="none", return_grad=True)
    assert_same([loss[:, 1:3], gradient[:, 1:3]], exact)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-25, 1e25, 1e200])
def test_binary_of_any_scale(level, scale):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, 700)).astype(np.float32), rng.integers(0, 2, (1, 700))
    loss, gradient = fsl.binary_cross_entropy(x[0], y, reduction="sum", normalizer=1 / scale, return_grad=True)
    plain, slope = fsl.binary_cross_entropy(x[0], y, reduction="sum", return_grad=True)
    assert loss == pytest.approx(plain * scale)
    with np.errstate(over="ignore", under="ignore"):
        wanted = (slope.astype(np.float64) * scale).astype(np.float32)
    np.testing.assert_allclose(gradient, wanted, rtol=2e-7, atol=2e-45)


def test_binary_targets_of_two_classes():
    x, y = np.array([0.3, -2.0]), np.array([True, False])
    expected = np.log1p(np.exp([-0.3, -2.0]))
    np.testing.assert_allclose(fsl.binary_cross_entropy(x, y, reduction="none"), expected, rtol=1e-14)
    np.testing.assert_allclose(fsl.binary_cross_entropy(x, y.astype(np.int8), reduction="none"), expected, rtol=1e-14)


def test_it_is_the_softmax_of_two_classes(level):
    rng = np.random.default_rng(0)
    x, y = rng.normal(scale=5, size=(4, 50)), rng.integers(0, 2, (4, 50))
    two = np.stack([np.zeros_like(x), x], axis=-1)
    binary = fsl.binary_cross_entropy(x, y, **EVERY)
    softmax = fsl.softmax_cross_entropy(two, y, **EVERY)
    assert_within(binary[0], softmax[0], 1e-14, "loss")
    assert_gradient(binary[1], softmax[1][..., 1], 1e-15)
