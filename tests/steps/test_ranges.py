"""Finite numbers at the ends of their ranges: losses and gradients are right, or infinite of the right sign; no NaN."""

import re
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF
from fastseqloss.recurrent import GRU, LSTM, RNN, Adam, Embedding, Linear, clip_grad_norm
from step_cases import DTYPES, FLOATS

STEPS, WIDTHS = (2, 4), (1, 2, 5, 20, 300)
REDUCING = [
    {"reduction": "sum", "normalizer": 1e-39},
    {"reduction": "sum", "normalizer": 1e-300, "sample_weight": [1e308, 1.0]},
    {"reduction": "sum", "sample_weight": [1e39, 1e-320]},
    {"reduction": "none", "sample_weight": [1e308, 5e-324]},
    {"reduction": "per_sequence", "sample_weight": [1e39, 1e39]},
    {"reduction": "mean", "sample_weight": [1e308, 1e308]},
    {"reduction": "sequence_mean", "sample_weight": [1e-320, 1e300]},
]
reducing = pytest.mark.parametrize("reducing", REDUCING)
dtypes = pytest.mark.parametrize("dtype", FLOATS)


def ends(rng, dtype, shape):
    """Numbers of a dtype, mostly the largest and smallest it has."""
    info = ml_dtypes.finfo(dtype)
    most, least = float(info.max), float(info.smallest_subnormal)
    return rng.choice([0, 1, -1, most, -most, most / 2, least, 100, -100], shape).astype(dtype)


def assert_no_nan(loss, gradient):
    assert not np.isnan(loss).any()
    assert not np.isnan(gradient.astype(np.float64)).any()


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


@pytest.mark.parametrize("width", WIDTHS)
@dtypes
@reducing
def test_no_nan_from_finite_numbers(level, dtype, reducing, width):
    for seed in range(2):
        for name, call in calls(np.random.default_rng(seed), dtype, width).items():
            loss, gradient = call(return_grad=True, **reducing)
            assert not np.isnan(loss).any(), name
            assert not np.isnan(gradient.astype(np.float64)).any(), name


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, *HALF])
def test_a_scale_beyond_float32_gives_the_gradient_of_float64(level, dtype, dense, width):
    """What is finite is right: a small probability times a large scale."""
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


# ---- rewards ------------------------------------------------------------------------------------


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_returns_and_advantages_of_large_rewards(level, discount):
    """Exact up to a unit: the same as of rewards 2^-30 as large, infinite where that is beyond the range."""
    rng = np.random.default_rng(0)
    most = np.finfo(np.float64).max
    for _ in range(50):
        rewards, values = rng.choice([0, most, -most, most / 4, 1.0], (2, 3, 5))
        final = rng.choice([0, most, -most], 3)
        options = {"discount": discount}
        for large, small in (
            (
                fsl.discounted_returns(rewards, final_values=final, **options),
                fsl.discounted_returns(rewards * 2.0**-30, final_values=final * 2.0**-30, **options),
            ),
            (
                fsl.generalized_advantages(rewards, values, final_values=final, **options),
                fsl.generalized_advantages(
                    rewards * 2.0**-30, values * 2.0**-30, final_values=final * 2.0**-30, **options
                ),
            ),
        ):
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(large, small * 2.0**30, rtol=1e-14, atol=1)


@pytest.mark.parametrize("sharpness", [1e-308, 1.0, 1e308])
@reducing
@dtypes
def test_expected_risk_at_the_ends(dtype, reducing, sharpness):
    rng = np.random.default_rng(0)
    if reducing["reduction"] not in ("none", "sum", "mean"):
        reducing = reducing | {"reduction": "mean"}
    for _ in range(20):
        risks = rng.choice([0, 1, -1, 1.7e308, -1.7e308, 1e-300], (2, 6))
        scores = ends(rng, dtype, (2, 6))
        assert_no_nan(*fsl.expected_risk_loss(scores, risks, sharpness=sharpness, return_grad=True, **reducing))


def test_expected_risk_of_scores_as_far_apart_as_can_be():
    most = np.finfo(np.float64).max
    loss, gradient = fsl.expected_risk_loss([[most, -most]], [[0.0, 1.0]], sharpness=1 / most, return_grad=True)
    assert loss == pytest.approx(1 / (1 + np.exp(2)), rel=1e-12)
    loss, gradient = fsl.expected_risk_loss([[0.0, -2000.0, 0.0]], [[most, -most, most]], return_grad=True)
    assert loss == most
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_divergence_of_policies_far_apart(level, dtype):
    """At a log-ratio of 100 the gradient is that of the expression: beyond float32, infinite, of the right sign."""
    logits = np.array([[[0.0, 100.0, 100.0, -100.0]]], dtype)
    ref = [[-np.log(2.0)]]
    options = {"ref_log_probs": ref, "kl_coef": 1.0, "return_grad": True}
    loss, gradient = fsl.policy_gradient_loss(logits, [[0]], [0.0], **options)
    assert loss == pytest.approx(np.exp(100.0), rel=1e-5)
    exact = np.exp(100.0) * np.array([-1, 0.5, 0.5, 0.5 * np.exp(-200.0)])
    if dtype == np.float64:
        np.testing.assert_allclose(gradient[0, 0], exact, rtol=1e-12)
    else:
        np.testing.assert_array_equal(gradient[0, 0].astype(float), [-np.inf, np.inf, np.inf, 0.0])
    bounded = np.minimum(ref, -fsl.softmax_cross_entropy(logits, [[0]], reduction="none") + 5)
    _, gradient = fsl.policy_gradient_loss(logits, [[0]], [0.0], **(options | {"ref_log_probs": bounded}))
    slope = np.exp(5.0) - 1
    np.testing.assert_allclose(gradient[0, 0, :2].astype(float), [-slope, slope / 2], rtol=1e-2)


# ---- sums of losses -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, *HALF])
def test_weighted_sum_with_weights_beyond_float32(dtype):
    x = np.linspace(-1, 1, 6).astype(dtype).reshape(1, 2, 3)
    y = np.where(x > 0, x, x + 1)
    mse, mae = partial(fsl.mse_loss, targets=y), partial(fsl.mae_loss, targets=y)
    terms = [(1e39, mse), (-1e39, mse), (1.0, mae)]
    for weights in ((1e39, -1e39, 1.0), (1e-60, 1.0, 0.0)):
        terms = list(zip(weights, (mse, mse, mae), strict=True))
        loss, gradient = fsl.weighted_sum(terms)(x, return_grad=True)
        assert_no_nan(loss, gradient)
        alone = weights[1] * mse(x) if weights[2] == 0 else mae(x)
        assert np.isfinite(loss)
        assert loss == pytest.approx(alone, rel=1e-6) or weights[2]


def test_weighted_sum_of_losses_whose_sum_is_beyond_the_range():
    terms = [(1.0, lambda x: (1e308, x)), (1.0, lambda x: (1e308, x)), (-1.0, lambda x: (1.5e308, x))]
    assert fsl.weighted_sum(terms[:2])(np.zeros(1)) == np.inf
    assert fsl.weighted_sum(terms)(np.zeros(1)) == pytest.approx(5e307)


def test_weighted_sum_into_what_a_later_term_reads():
    x, y = np.arange(6.0).reshape(1, 2, 3), np.ones((1, 2, 3))
    first = partial(fsl.mae_loss, targets=np.zeros((1, 2, 3)))

    def bound(s, *, return_grad=False, grad_out=None):
        return fsl.mse_loss(s, held[0], return_grad=return_grad, grad_out=grad_out)

    for make in (
        lambda g: partial(fsl.mse_loss, targets=g),
        lambda g: fsl.weighted_sum([(2.0, partial(fsl.mse_loss, targets=g[:, :]))]),
        lambda g: bound,
    ):
        held = [y.copy()]
        expected = fsl.weighted_sum([(1.0, first), (1.0, make(held[0]))])(x, return_grad=True)
        out = held[0] = y.copy()
        loss, gradient = fsl.weighted_sum([(1.0, first), (1.0, make(out))])(x, grad_out=out)
        assert gradient is out
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


# ---- recurrent layers and training ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM, Linear, Embedding])
def test_what_changes_between_forward_and_backward_changes_nothing(kind):
    rng = np.random.default_rng(0)
    layer = kind(4, 3, rng=0, dtype=np.float64)
    x = rng.integers(0, 4, (2, 5)) if kind is Embedding else rng.normal(size=(2, 5, 4))
    lengths = np.array([5, 3])
    given = (x,) if kind is Linear else (x, lengths)
    grad = rng.normal(size=(2, 5, 3))
    kept = grad.copy()
    hidden = layer.forward(*given)
    expected, expected_input = layer.backward(grad)
    hidden = layer.forward(*given)
    x[...], lengths[...], hidden[...] = 1, 1, 7
    for name, parameter in layer.parameters.items():
        parameter += 1
        layer.parameters[name] = parameter.astype(np.float32)
    gradients, grad_input = layer.backward(grad)
    np.testing.assert_array_equal(grad, kept)
    for name, gradient in expected.items():
        np.testing.assert_array_equal(gradients[name], gradient)
    if expected_input is not None:
        np.testing.assert_array_equal(grad_input, expected_input)


def overlapping():
    room = np.ones((4, 6))
    return [(room, room), (room, room[:2]), (room[:3], room[2:]), (room[:, ::2], room[:, 2:4]), (room, room.T)]


@pytest.mark.parametrize("pair", overlapping())
def test_arrays_that_share_memory_are_not_changed_twice(pair):
    arrays = {"b": pair[0], "a": pair[1]}
    kept = pair[0].copy()
    for call in (lambda: clip_grad_norm(arrays, 0.1), lambda: Adam(arrays)):
        with pytest.raises(ValueError, match=r"\['a'\] shares memory with .*\['b'\]"):
            call()
    np.testing.assert_array_equal(pair[0], kept)
    strided = np.lib.stride_tricks.as_strided(np.ones(4), (2, 3), (8, 8))
    for call in (lambda: clip_grad_norm({"a": strided}, 0.1), lambda: Adam({"a": strided})):
        with pytest.raises(ValueError, match=r"\['a'\] has elements that share memory"):
            call()


def test_arrays_side_by_side_are_apart():
    room = np.ones((4, 6))
    apart = {"a": room[:, ::2], "b": room[:, 1::2]}
    assert clip_grad_norm(apart, np.inf) == pytest.approx(np.sqrt(24))
    adam = Adam(apart, 0.5)
    adam.step({"a": np.ones((4, 3)), "b": -np.ones((4, 3))})
    np.testing.assert_allclose(room, [[0.5, 1.5] * 3] * 4, rtol=1e-6)


def test_adam_reads_gradients_before_it_changes_parameters():
    first, second = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    adam, other = (Adam({"a": a, "b": b}, 0.1) for a, b in ((first, second), (first.copy(), second.copy())))
    for _ in range(3):
        other.step({"a": first.copy(), "b": first.copy()})
        adam.step({"a": first, "b": first})
        np.testing.assert_array_equal(second, other.parameters["b"])


@pytest.mark.parametrize("wrong", ["read-only", "shape", "betas", "epsilon", "missing", "matrix", "masked"])
def test_adam_changes_all_or_nothing(wrong):
    first, second = np.ones(2), np.ones((2, 2))
    adam = Adam({"a": first, "b": second}, 0.1)
    gradients = {"a": np.ones(2), "b": np.ones((2, 2))}
    if wrong == "read-only":
        second.flags.writeable = False
    elif wrong == "shape":
        adam.parameters["b"], gradients["b"] = np.ones(3), np.ones(3)
    elif wrong in ("betas", "epsilon"):
        setattr(adam, wrong, -1)
    elif wrong == "missing":
        adam.parameters["c"] = gradients["c"] = np.ones(1)
    else:
        gradients["b"] = second.view(np.matrix) if wrong == "matrix" else np.ma.masked_array(second)
    with pytest.raises(TypeError if wrong in ("matrix", "masked") else ValueError, match=r"allowed|share the names"):
        adam.step(gradients)
    assert adam.steps == 0
    assert np.all(first == 1)
    assert np.all(second == 1)


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_matrices_and_masked_arrays_are_not_arrays(kind):
    odd = np.ones((2, 3), np.float32).view(kind)
    layer = Linear(2, 3)
    layer.parameters["weight"] = odd
    for call in (
        lambda: Adam({"a": odd}),
        lambda: clip_grad_norm({"a": odd}, 1.0),
        lambda: layer.forward(np.ones((1, 2))),
    ):
        with pytest.raises(TypeError, match="allowed: a plain NumPy array"):
            call()


def adam_by_hand(gradients, rate, betas, epsilon):
    """Run Adam from 0 in extended range: sizes as multiples of the largest gradient."""
    mean = square = np.zeros(gradients.shape[1:], np.longdouble)
    parameter = np.zeros(gradients.shape[1:], np.longdouble)
    first, second = map(np.longdouble, betas)
    for k, gradient in enumerate(gradients.astype(np.longdouble), 1):
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient * gradient
        parameter -= rate * (mean / (1 - first**k)) / (np.sqrt(square / (1 - second**k)) + np.longdouble(epsilon))
    return parameter


@pytest.mark.parametrize("epsilon", [1e-8, 1e-50, 1e-300])
@pytest.mark.parametrize(("dtype", "sizes"), [(np.float32, (3e38, 1e20, 1e-30)), (np.float64, (1e308, 1e160, 1e-200))])
def test_adam_with_finite_gradients_of_any_size(dtype, sizes, epsilon):
    """Right in every entry, from the first step on and after steps of ordinary size."""
    if np.finfo(np.longdouble).maxexp <= 1024:
        sizes = tuple(min(size, 1e150) for size in sizes)
    for size in sizes:
        large = np.random.default_rng(0).uniform(-1, 1, (6, 4)) * [size, 1, 1e-3, 0]
        gradients = np.concatenate([np.full((2, 4), [1, 1, -1, 0]), large]).astype(dtype)
        for given in (gradients, gradients[2:]):
            parameter = np.zeros(4, dtype)
            adam = Adam({"p": parameter}, 0.1, epsilon=epsilon)
            for gradient in given:
                adam.step({"p": gradient})
            expected = adam_by_hand(given, 0.1, (0.9, 0.999), epsilon).astype(np.float64)
            np.testing.assert_allclose(parameter, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1e-320, 1e39, 1e308])
@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.999, 0.0), (0.9, np.nextafter(1, 0)), (np.nextafter(1, 0), 0.9)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_makes_no_nan(dtype, rate, betas):
    most = np.finfo(dtype).max
    parameter = np.zeros(5, dtype)
    adam = Adam({"p": parameter}, rate, betas=betas, epsilon=5e-324)
    for sign in (1, 1, 1):
        adam.step({"p": np.array([sign * most, -most, np.finfo(dtype).tiny, 0, 1], dtype)})
        assert not np.isnan(parameter).any()
    adam.steps = 10**9
    adam.step({"p": np.array([most, -most, 0, 0, 1], dtype)})
    assert not np.isnan(parameter).any()


def test_a_float64_gradient_of_a_float32_parameter():
    parameter = np.zeros(2, np.float32)
    adam = Adam({"p": parameter}, 0.1)
    for _ in range(3):
        adam.step({"p": np.array([1e200, 1.0])})
    np.testing.assert_allclose(parameter, -0.3, rtol=1e-5)


def test_clip_grad_norm_of_a_unit_that_float32_does_not_hold():
    for size in (1e-300, 1e300):
        gradients = {"a": np.array([3 * size, 4 * size]), "b": np.zeros(2, np.float32), "c": np.float32([0, 1e-30])}
        norm = clip_grad_norm(gradients, 1e-310)
        assert norm == pytest.approx(5 * size if size > 1 else 1e-30)
        assert not any(np.isnan(gradient).any() for gradient in gradients.values())
        assert not gradients["b"].any()
