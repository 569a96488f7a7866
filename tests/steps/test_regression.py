"""The losses of real numbers, mse_loss and its like: worked numbers, kinks, and targets of any dtype."""

import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF
from fastseqloss.steps.registry import NUMBERS
from step_cases import DTYPES, FLOATS, TARGETS, Case, assert_same
from thoroughness import spread

EVERY = {"reduction": "none", "return_grad": True}
REGRESSION = [name for name, targets in TARGETS.items() if targets == NUMBERS]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "options", "loss", "gradient"),
    [
        ("mse_loss", {}, [9, 0.25, 0, 4], [-6, 1, 0, 4]),
        ("mae_loss", {}, [3, 0.5, 0, 2], [-1, 1, 0, 1]),
        ("huber_loss", {}, [2.5, 0.125, 0, 1.5], [-1, 0.5, 0, 1]),
        ("huber_loss", {"delta": 2.0}, [4, 0.125, 0, 2], [-2, 0.5, 0, 2]),
        ("huber_loss", {"delta": 0.25}, [0.71875, 0.09375, 0, 0.46875], [-0.25, 0.25, 0, 0.25]),
        ("quantile_loss", {}, [1.5, 0.25, 0, 1], [-0.5, 0.5, 0, 0.5]),
        ("quantile_loss", {"q": 0.75}, [2.25, 0.125, 0, 0.5], [-0.75, 0.25, 0, 0.25]),
    ],
)
def test_worked_numbers(level, name, options, loss, gradient, dtype):
    """Differences of -3, 0.5, 0 and 2; a derivative of 0 where there is none."""
    predictions, targets = np.array([1, 2.5, 4, 1], dtype), np.array([4.0, 2, 4, -1])
    assert_same(getattr(fsl, name)(predictions, targets, **options, **EVERY), [loss, gradient])


@pytest.mark.parametrize("name", REGRESSION)
def test_a_step_is_the_mean_over_its_features(level, name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 4, 5, 6))
    run = getattr(fsl, name)
    steps, gradient = run(x, y, **EVERY)
    numbers, slope = run(x.ravel(), y.ravel(), **EVERY)
    np.testing.assert_allclose(steps, numbers.reshape(3, 4, 30).mean(axis=2), rtol=1e-13)
    np.testing.assert_allclose(gradient, slope.reshape(x.shape) / 30, rtol=1e-13)


@pytest.mark.parametrize(("name", "features"), spread(REGRESSION, [1, 2, 3, 7, 16, 63, 64, 65, 1000, 5001], every=2))
def test_features_of_every_width(level, name, features):
    rng = np.random.default_rng(features)
    x, y = rng.normal(size=(2, 3, 11, features))
    for dtype in DTYPES:
        case = Case(name, x.astype(dtype), y, np.array([11, 0, 6]))
        case.scores[1:, 6:] = np.nan
        case.check(*case.run())


@pytest.mark.parametrize("name", REGRESSION)
def test_targets_are_not_rounded_to_the_predictions(level, name):
    """Differences that vanish in the dtype of the predictions."""
    for predictions, targets in (
        (np.ones(5, np.float32), 1 + 1e-9 * np.arange(1.0, 6)),
        (np.full(5, 2**24, np.float32), 2**24 + np.arange(-2, 3, dtype=np.int64)),
        (np.full(5, 2048, np.float16), 2048 + np.arange(-2, 3, dtype=np.int16)),
        (np.full(5, 2048, np.float16), np.float32(2048) + np.arange(-2, 3, dtype=np.float32) / 8),
        (np.zeros(5, np.float16), np.array([1e5, 7e4, -1e5, 65521, 1.0])),
    ):
        case = Case(name, predictions, targets)
        loss, gradient = case.run()
        np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=1e-6)
        case.check(loss, gradient)


@pytest.mark.parametrize("name", REGRESSION)
def test_differences_beyond_the_dtype(level, name):
    """Losses are float64: neither the difference nor its square overflows."""
    predictions = np.array([3e38, -3e38, 1e-30, 6e4], np.float32)
    targets = np.array([-3e38, 3e38, -1e-30, -6e4], np.float32)
    case = Case(name, predictions, targets)
    loss, gradient = case.run()
    np.testing.assert_allclose(loss, case.steps.loss.astype(float), rtol=1e-6)
    case.check(loss, gradient)


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_predictions(level, name, dtype):
    predictions, targets = np.array([np.inf, -np.inf, 0, 1], dtype), np.array([0, 0.0, 0, 0])
    loss, gradient = getattr(fsl, name)(predictions, targets, **EVERY)
    np.testing.assert_array_equal(np.isinf(loss), [True, True, False, False])
    limit = {"mse_loss": np.inf, "quantile_loss": 0.5}.get(name, 1)
    assert_same([gradient[:2]], [[limit, -limit]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("delta", [0.3, 1.0, 1e-3, 50.0])
def test_huber_around_delta(level, dtype, delta):
    """Loss and derivative are continuous there, and the outer branch is a straight line."""
    x = np.nextafter(dtype(delta), dtype([0, delta, 100])) * dtype(1)
    x = np.concatenate([x, -x, x * 4]).astype(dtype)
    case = Case("huber_loss", x, np.zeros(9), options={"delta": delta})
    case.check(*case.run())


def test_huber_of_a_large_delta_is_half_the_square(level):
    x, y = np.random.default_rng(0).normal(size=(2, 4, 30))
    a, b = fsl.huber_loss(x, y, delta=1e6, **EVERY), fsl.mse_loss(x, y, **EVERY)
    np.testing.assert_allclose(a[0], b[0] / 2, rtol=1e-14)
    np.testing.assert_allclose(a[1], b[1] / 2, rtol=1e-14)


def test_quantile_of_each_feature(level):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 4, 5))
    q = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    for given in (q, q.tolist(), q.astype(np.float32)):
        case = Case("quantile_loss", x, y, options={"q": given})
        case.check(*case.run())
    each = [fsl.quantile_loss(x[..., i], y[..., i], q=q[i], reduction="none") for i in range(5)]
    np.testing.assert_allclose(fsl.quantile_loss(x, y, q=q, reduction="none"), np.mean(each, axis=0), rtol=1e-13)


def test_the_best_constant_is_the_quantile():
    """The minimum over constants is at the value below which a share q of the targets lies."""
    y = np.random.default_rng(0).normal(size=2001)
    candidates = np.sort(y)
    for q in (0.1, 0.5, 0.9):
        losses = [fsl.quantile_loss(np.full(y.shape, c), y, q=q) for c in candidates[::20]]
        best = candidates[::20][np.argmin(losses)]
        assert best == pytest.approx(np.quantile(y, q), abs=0.05)


@pytest.mark.parametrize("dtype", HALF)
def test_every_number_of_half_precision_is_read_right(level, dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    number = (bits & 0x7FFF) <= np.array(np.inf, dtype).view(np.uint16)
    loss = fsl.mae_loss(bits.view(dtype), np.zeros(2**16, np.float32), reduction="none")
    assert_same([loss[number]], [np.abs(bits.view(dtype)[number].astype(np.float64))])
    assert np.isnan(loss[~number]).all()


@pytest.mark.parametrize("dtype", HALF)
def test_gradients_are_rounded_to_the_nearest_half(level, dtype):
    """At each number, in the middle between two, where the even one is nearest, and just beside the middle."""
    bits = np.arange(2**16, dtype=np.uint16)
    finite = (bits & 0x7FFF) < np.array(np.inf, dtype).view(np.uint16)
    halves = np.sort(bits[finite].view(dtype).astype(np.float64))
    middles = ((halves[1:] + halves[:-1]) / 2).astype(np.float32)
    beside = np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(np.inf))
    wanted = np.concatenate([halves.astype(np.float32), middles, *beside])
    wanted = wanted[np.abs(wanted) >= np.finfo(np.float32).smallest_normal * 4]
    _, gradient = fsl.mse_loss(np.zeros(len(wanted), dtype), -wanted / 2, **EVERY)
    assert_same([gradient], [wanted.astype(dtype)])


def test_losses_of_wide_steps_on_any_number_of_threads(level):
    """The features of a step may lie in two parts of a sequence, which several workers go through."""
    x, y = np.random.default_rng(5).normal(size=(2, 2, 300, 1500))
    alone = fsl.mse_loss(x, y, reduction="none", num_threads=1)
    np.testing.assert_allclose(alone, np.mean((x - y) ** 2, axis=2), rtol=1e-12)
    for _ in range(30):
        assert_same([fsl.mse_loss(x, y, reduction="none", num_threads=4)], [alone])


@pytest.mark.parametrize("name", ["mae_loss", "quantile_loss", "hinge_loss"])
def test_float32_has_the_rounded_gradient_of_float64(level, name):
    """Slopes of a few values are selected in float32, with the bits of a selection in float64."""
    rng = np.random.default_rng(0)
    options = {"quantile_loss": ("q", (0.1, 1 / 3, 0.9)), "hinge_loss": ("margin", (0.1, 1.0, 1e-46, 1e39))}.get(name)
    for size in (1, 127, 129, 3000):
        x, y = rng.choice([0.0, 0.1, -0.1, 1.0, -1.0, 1e-45, 3e38, -3e38, 2.5], (2, 1, size)).astype(np.float32)
        y = np.where(y > 0, 1, -1).astype(np.float32) if name == "hinge_loss" else y
        for value in options[1] if options else (None,):
            call = {"reduction": "mean", "return_grad": True} | ({options[0]: value} if options else {})
            loss, gradient = getattr(fsl, name)(x, y, **call)
            wide, slope = getattr(fsl, name)(x.astype(np.float64), y.astype(np.float64), **call)
            assert loss == pytest.approx(wide, rel=1e-14)
            np.testing.assert_array_equal(gradient, slope.astype(np.float32))
