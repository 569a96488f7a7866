"""Finite numbers at the ends of their ranges: losses and gradients are right, or infinite of the right sign; no NaN."""

import re
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF
from step_cases import DTYPES, FLOATS, REDUCING, ends
from thoroughness import spread

STEPS, WIDTHS = (2, 4), (1, 2, 5, 20, 300)
reducing = pytest.mark.parametrize("reducing", REDUCING)
dtypes = pytest.mark.parametrize("dtype", FLOATS)


def calls(rng, dtype, width):
    """Return every step loss, bound to scores at the ends of their range, by name."""
    shape = (*STEPS, width)
    x, y, classes = ends(rng, dtype, shape), ends(rng, np.float64, shape), rng.integers(0, width, STEPS)
    shares = rng.choice([0, 1, 0.5, 1e-300], shape)
    probs = rng.choice([0, 1, 0.5, 1e-6, 6e-8], shape).astype(dtype)
    weight = rng.choice([0, 1e-150, 1, 1e150], width)
    gains, old, ref = (rng.choice([0, 1, -1, 1e308, -1e308, 1e-300, 100, -100], STEPS) for _ in range(3))
    heavy = {"entropy_coef": 1e308, "kl_coef": 1e308, "ref_log_probs": ref}
    found = {
        "hinge": partial(fsl.hinge_loss, x, np.where(y > 0, 1, -1), margin=1e308),
        "squared hinge": partial(fsl.hinge_loss, x, np.where(y > 0, 1, -1), squared=True),
        "multiclass hinge": partial(fsl.multiclass_hinge_loss, x, classes, class_weight=weight, margin=1e308),
        "mse": partial(fsl.mse_loss, x, y),
        "mae": partial(fsl.mae_loss, x, y),
        "huber": partial(fsl.huber_loss, x, y, delta=1e308),
        "small huber": partial(fsl.huber_loss, x, y, delta=1e-320),
        "quantile": partial(fsl.quantile_loss, x, y, q=1e-320),
        "quantiles": partial(fsl.quantile_loss, x, y, q=rng.choice([1e-320, 0.5, 1 - 1e-16], width)),
        "binary": partial(fsl.binary_cross_entropy, x, shares, pos_weight=1e308),
        "binary probs": partial(fsl.binary_cross_entropy, probs, shares, pos_weight=1e-320, input="probs"),
        "nll": partial(fsl.nll_loss, -np.abs(x), classes, class_weight=weight),
        "policy": partial(fsl.policy_gradient_loss, x, classes, gains),
        "heavy policy": partial(fsl.policy_gradient_loss, x, classes, gains, **heavy),
        "clipped": partial(fsl.clipped_policy_loss, x, classes, old, gains),
        "heavy clipped": partial(fsl.clipped_policy_loss, x, classes, old, gains, **heavy),
    }
    for name, targets in (("classes", classes), ("distributions", shares)):
        options = {"class_weight": weight, "label_smoothing": 0.1}
        for kind, scores in (("logits", x), ("probs", probs), ("log_probs", -np.abs(x))):
            call = partial(fsl.softmax_cross_entropy, scores, targets, input=kind)
            found |= {f"{kind}, {name}": call, f"weighted {kind}, {name}": partial(call, **options)}
        found[f"z, {name}"] = partial(fsl.softmax_cross_entropy, x, targets, z_loss=1e300, class_weight=weight)
    return found


@pytest.mark.parametrize(("width", "dtype", "reducing"), spread(WIDTHS, FLOATS, REDUCING, every=4))
def test_no_nan_from_finite_numbers(level, width, dtype, reducing):
    for seed in range(2):
        for name, call in calls(np.random.default_rng(seed), dtype, width).items():
            loss, gradient = call(return_grad=True, **reducing)
            assert not np.isnan(loss).any(), name
            assert not np.isnan(gradient.astype(np.float64)).any(), name


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, *HALF])
def test_a_scale_beyond_float32_gives_the_gradient_of_float64(level, dtype, dense, width):
    """Finite results are correct: a small probability times a large scale."""
    rng = np.random.default_rng(width)
    x = rng.normal(scale=20, size=(*STEPS, width)).astype(dtype)
    targets = rng.dirichlet(np.ones(width), STEPS) if dense else rng.integers(0, width, STEPS)
    options = {"reduction": "sum", "normalizer": 1e-40, "return_grad": True, "z_loss": 1e-3}
    gains = [[1e30, -1e30, 1, 0]] * 2
    actions = rng.integers(0, width, STEPS)
    for loss in (
        partial(fsl.softmax_cross_entropy, targets=targets, **options),
        partial(fsl.policy_gradient_loss, actions=actions, advantages=gains, entropy_coef=0.1, reduction="sum",
                normalizer=1e-20, return_grad=True),
    ):  # fmt: skip
        _, gradient = loss(x)
        _, exact = loss(x.astype(np.float64))
        most = float(ml_dtypes.finfo(dtype).max)
        small = np.abs(exact) < most / 2
        # float32 has no exponentials below 1e-38.
        found, wanted = gradient.astype(np.float64), exact * (np.abs(exact) > 1e-30 * np.abs(exact).max())
        tolerance = 1e-5 if dtype == np.float32 else 1e-2
        worth = small & (np.abs(wanted) > 1)
        np.testing.assert_allclose(found[worth], wanted[worth], rtol=tolerance, atol=1e3)
        beyond = np.abs(wanted) > 2 * most
        assert np.all(found[beyond] == np.copysign(np.inf, exact[beyond]))


@pytest.mark.parametrize("width", [3, 40, 300])
@pytest.mark.parametrize("size", [1e-149, 1e-60, 1e39, 1e149])
@pytest.mark.parametrize("dtype", DTYPES)
def test_class_weights_beyond_float32(level, dtype, size, width):
    """A mean is the same whatever the unit of the weights."""
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(*STEPS, width)).astype(dtype), rng.integers(0, width, STEPS)
    weight = rng.random(width) + 0.5
    call = partial(fsl.softmax_cross_entropy, x, targets, label_smoothing=0.2, return_grad=True)
    loss, gradient = call(class_weight=weight * size)
    expected, slope = call(class_weight=weight)
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


# ---- probabilities ------------------------------------------------------------------------------

OUTSIDE = [-1.0, -2e-6, 1 + 2e-6, 2.0, np.inf, -np.inf]


def assert_untouched(message, call, scores, **options):
    """The error is raised before `grad_out` is written, be it the scores themselves."""
    kept = scores.copy()
    for out in (None, np.full_like(scores, 7), scores):
        with pytest.raises(ValueError, match=message):
            call(scores, return_grad=True, grad_out=out, **options)
        assert out is None or np.array_equal(out, kept if out is scores else np.full_like(out, 7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", OUTSIDE)
def test_binary_probabilities_outside_their_range(level, value, dtype):
    probs = np.full((2, 3, 4), 0.5, dtype)
    probs[1, 2, 3] = value
    message = re.escape(f"logits[1, 2, 3] is {probs[1, 2, 3]}; allowed: 0 to 1")
    call = partial(fsl.binary_cross_entropy, targets=np.ones((2, 3, 4)), input="probs")
    assert_untouched(message, call, probs)
    assert np.isfinite(call(probs, lengths=[3, 2]))
    mask = np.ones((2, 3), bool)
    mask[1, 2] = False
    assert np.isfinite(call(probs, mask=mask))


@dtypes
@pytest.mark.parametrize("value", [-1.0, 2.0])
@pytest.mark.parametrize("dense", [False, True])
def test_class_probabilities_outside_their_range(level, value, dense, dtype):
    probs = np.full((2, 3, 4), 0.25, dtype)
    probs[1, 2, 3] = value
    targets = np.full((2, 3, 4), 0.25) if dense else np.zeros((2, 3), int)
    call = partial(fsl.softmax_cross_entropy, targets=targets, input="probs")
    assert_untouched(rf"logits\[1, 2, 3\] is {value:.0f}.*; allowed: 0 to 1", call, probs)
    assert np.isfinite(call(probs, lengths=[3, 2]))
    if not dense:
        targets[1, 2] = -100
        assert np.isfinite(call(probs, targets=targets))


@dtypes
@pytest.mark.parametrize("value", [-0.5, np.inf])
@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
def test_distributions_outside_their_range(level, value, kind, dtype):
    targets = np.full((2, 3, 4), 0.25, dtype)
    targets[1, 2, 3] = value
    call = partial(fsl.softmax_cross_entropy, targets=targets, input=kind)
    assert_untouched(rf"targets\[1, 2, 3\] is {value}; allowed: finite, 0 or more", call, np.full((2, 3, 4), 0.25))
    assert np.isfinite(call(np.full((2, 3, 4), 0.25), lengths=[3, 2]))


@pytest.mark.parametrize("near", [[[1 + 5e-7, -5e-7]], [[1.0, -0.0]]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_outside_by_rounding_counts_as_0_and_1(level, dtype, near):
    near, exact = np.array(near, dtype), np.array([[1.0, 0.0]], dtype)
    for targets in ([[1.0, 0.0]], [[0.5, 0.5]], [[0.0, 1.0]]):
        binary = partial(fsl.binary_cross_entropy, targets=targets, input="probs", reduction="none", return_grad=True)
        classes = partial(fsl.softmax_cross_entropy, targets=targets, input="probs", return_grad=True)
        for call in (binary, classes):
            for found, expected in zip(call(near), call(exact), strict=True):
                np.testing.assert_array_equal(found, expected)
    scores = np.array([[0.3, -0.2]], dtype)
    for found, expected in zip(
        fsl.softmax_cross_entropy(scores, np.minimum(near, 1), return_grad=True),
        fsl.softmax_cross_entropy(scores, exact, return_grad=True),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    for target in (0, 1):
        loss = fsl.softmax_cross_entropy(near, [target], input="probs")
        assert loss == (np.inf if target else 0)


def test_nan_is_no_probability_outside_the_range():
    assert np.isnan(fsl.binary_cross_entropy([np.nan], [1.0], input="probs"))
    assert np.isnan(fsl.softmax_cross_entropy([[np.nan, 0.5]], [0], input="probs"))
