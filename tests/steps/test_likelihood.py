"""Likelihoods of forecasts: predicted variances, counts and amounts; the ends of their ranges."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import HALF
from reference import steps as reference
from step_cases import FLOATS, LAYOUTS, REDUCTIONS, assert_gradient, assert_same, assert_within, reducings
from thoroughness import examples, thorough

NAMES = ("predictions", "targets", "variance")
INPUTS = ("variance", "log_variance")
kinds = pytest.mark.parametrize("kind", INPUTS)


def batch(rng, shape, kind, dtype=np.float64, other=None, scale=1.0):
    """Predictions, targets, and variances of which some are below the least one."""
    x, y, s = rng.normal(scale=scale, size=(3, *shape))
    v = s * 3 if kind == "log_variance" else np.where(rng.random(shape) < 0.2, rng.choice([0, 1e-9]), np.exp(s))
    return x.astype(dtype), y.astype(other or dtype), v.astype(other or dtype)


def expected(x, y, v, counts, reducing, **options):
    """The reduced loss, and its gradients, by the reference."""
    features = max(int(np.prod(x.shape[2:])), 1)
    wide = [
        np.where(counts.reshape(counts.shape + (1,) * (x.ndim - counts.ndim)), a, 1).astype(np.longdouble)
        for a in (x, y, v)
    ]
    loss, *gradients = reference.gaussian_nll_loss(*wide, **options)
    found, sums = [], None
    for gradient in gradients:
        gradient = np.where(counts.reshape(counts.shape + (1,) * (x.ndim - counts.ndim)), gradient, 0) / features
        by_step = np.where(counts, loss.reshape(*counts.shape, -1).mean(axis=-1), 0)
        steps = reference.Steps(by_step, gradient, counts.astype(np.longdouble), np.abs(gradient))
        sums, gradient = reference.reduce(steps, **reducing)
        found.append(gradient)
    return sums, found


@examples(1.0)
@given(data=st.data())
def test_gaussian_matches_reference(level, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    kind, dtype = data.draw(st.sampled_from(INPUTS)), data.draw(st.sampled_from(FLOATS))
    other = data.draw(st.sampled_from((None, np.float32, np.float64)))
    shape = tuple(data.draw(st.integers(1, most)) for most in (4, 5, 3)[: data.draw(st.integers(1, 3))])
    x, y, v = batch(rng, shape, kind, dtype, other)
    lengths = rng.integers(0, shape[1] + 1, shape[0]) if len(shape) > 1 and data.draw(st.booleans()) else None
    mask = rng.random(shape[:2]) < 0.7 if data.draw(st.booleans()) else None
    options = {"full": data.draw(st.booleans()), "eps": data.draw(st.sampled_from((1e-6, 0.5)))}
    counts = reference.counting(shape[:2], lengths, mask)
    reducing = data.draw(reducings(counts, (2,) if len(shape) > 1 else ()))
    for array in (x, y, v):
        array[~counts] = np.nan
    call = {"lengths": lengths, "mask": mask, "input": kind} | options | reducing
    loss, gradient = fsl.gaussian_nll_loss(x, y, v, **call, with_respect_to=(*NAMES,))
    wanted, slopes = expected(x, y, v, counts, reducing, input=kind, **options)
    narrow = dtype != np.float64 or (other or dtype) != np.float64
    single = 1e-5 if narrow else 1e-12
    size = np.abs(np.where(np.isfinite(wanted), wanted, 0)).max(initial=0) + 1
    assert_within(loss, wanted, single * size * 30, "loss")
    for name, slope, array in zip(NAMES, (slopes[0], slopes[2], slopes[1]), (x, y, v), strict=True):
        found = getattr(gradient, name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        tolerance = single * (np.abs(slope).astype(float) + np.abs(slope).max(initial=0) * 1e-3 + 1e-3)
        assert_gradient(found, slope.astype(float), tolerance)
    assert fsl.gaussian_nll_loss(x, y, v, **call, return_grad=True)[1].targets is None
    np.testing.assert_array_equal(fsl.gaussian_nll_loss(x, y, v, **call), loss)


@kinds
@pytest.mark.parametrize("reduction", [way if way == "sequence_mean" else thorough(way) for way in REDUCTIONS])
def test_gaussian_central_differences(kind, reduction):
    rng, step = np.random.default_rng(0), 1e-6
    arrays = dict(zip(NAMES, batch(rng, (3, 4, 2), kind), strict=True))
    arrays["variance"] += 0.0 if kind == "log_variance" else 0.1
    options = {"lengths": [4, 2, 0], "input": kind, "reduction": reduction, "sample_weight": [1.0, 0.5, 2.0]}
    _, gradient = fsl.gaussian_nll_loss(**arrays, **options, with_respect_to=NAMES)
    for name, array in arrays.items():
        for at in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = array.copy()
                moved[at] += sign * step
                ends.append(np.sum(fsl.gaussian_nll_loss(**arrays | {name: moved}, **options)))
            assert getattr(gradient, name)[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


@kinds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_bits_depend_on_nothing_else(level, kind, dtype):
    """Neither on threads, layouts and neighbours, nor on where the gradients are written."""
    x, y, v = batch(np.random.default_rng(1), (7, 600, 3), kind, dtype)
    call = {"input": kind, "reduction": "none", "return_grad": True}
    loss, gradient = fsl.gaussian_nll_loss(x, y, v, **call, num_threads=1)
    for layout in LAYOUTS:
        found = fsl.gaussian_nll_loss(*map(layout, (x, y, v)), **call, num_threads=4)
        assert_same([found[0], *found[1][:2]], [loss, *gradient[:2]])
    alone = fsl.gaussian_nll_loss(x[3:4], y[3:4], v[3:4], **call)
    assert_same([alone[0][0], alone[1].variance[0]], [loss[3], gradient.variance[3]])
    outs = np.empty_like(x), np.empty_like(v)
    assert_same(fsl.gaussian_nll_loss(x, y, v, input=kind, reduction="none", grad_out=outs)[1][:2], gradient[:2])
    only = fsl.gaussian_nll_loss(x, y, v, input=kind, reduction="none", grad_out=(None, outs[1], None))[1]
    assert only.predictions is None
    assert only.variance is outs[1]
    by_targets = fsl.gaussian_nll_loss(x, y, v, input=kind, reduction="none", with_respect_to=("targets",))[1]
    np.testing.assert_array_equal(by_targets.targets, -gradient.predictions)
    found = fsl.gaussian_nll_loss(x, y, v, input=kind, reduction="none", grad_out=(x, v))[1]
    assert found.predictions is x
    assert found.variance is v
    assert_same([x, v], gradient[:2])


def test_small_variances_count_as_the_least_one(level):
    """In the loss and in the derivatives, which are those at the least variance, as in PyTorch."""
    for dtype in (np.float32, np.float64):
        x, y = np.array([1.0, 1.0], dtype), np.array([0.5, 1.0], dtype)
        found = fsl.gaussian_nll_loss(x, y, np.array([0, 1e-3], dtype), eps=0.25, reduction="none", return_grad=True)
        least = fsl.gaussian_nll_loss(x, y, np.full(2, 0.25, dtype), reduction="none", return_grad=True)
        assert_same([found[0], *found[1][:2]], [least[0], *least[1][:2]])
        logs = np.array([-1e30, -9], dtype)
        found = fsl.gaussian_nll_loss(x, y, logs, input="log_variance", eps=0.25, reduction="none", return_grad=True)
        np.testing.assert_allclose(found[0], least[0], rtol=1e-6)
        np.testing.assert_allclose(found[1].variance, least[1].variance * 0.25, rtol=1e-6)


ENDS = [0, 1, -1, 3e38, -3e38, 1e30, -1e30, 1e-45, 100, -100]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, *HALF])
def test_no_nan_from_finite_numbers(level, dtype):
    rng = np.random.default_rng(0)
    most = float(ml_dtypes.finfo(dtype).max)
    ends = np.clip(ENDS if dtype == np.float32 else [*ENDS, 1e308, -1e308], -most, most)
    x, y, v = rng.choice(ends, (3, 4, 300)).astype(dtype)
    shares = rng.choice([0, 1, 0.5, 1e-7], x.shape).astype(dtype)
    calls = {
        "log_cosh": lambda **more: fsl.log_cosh_loss(x, y, **more),
        "poisson": lambda **more: fsl.poisson_nll_loss(x, np.abs(y), full=True, **more),
        "rates": lambda **more: fsl.poisson_nll_loss(np.abs(x), np.abs(y), input="rates", **more),
        "tweedie": lambda **more: fsl.tweedie_loss(x, np.abs(y), power=1.01, **more),
        "gaussian": lambda **more: fsl.gaussian_nll_loss(x, y, np.abs(v), eps=1e-300, **more),
        "log gaussian": lambda **more: fsl.gaussian_nll_loss(x, y, v, input="log_variance", eps=1e-300, **more),
        "focal": lambda **more: fsl.binary_focal_loss(x, shares, gamma=0.3, alpha=0.25, **more),
        "no focal": lambda **more: fsl.binary_focal_loss(x, shares, gamma=0, **more),
        "smooth": lambda **more: fsl.binary_cross_entropy(x, shares, label_smoothing=0.1, **more),
        "classes": lambda **more: fsl.softmax_focal_loss(x, rng.integers(0, 300, 4), gamma=0.3, **more),
    }
    for name, call in calls.items():
        by = () if name == "classes" else ("targets",)
        for options in ({"return_grad": True}, *({"with_respect_to": by} for _ in by)):
            with np.errstate(all="ignore"):
                loss, gradient = call(reduction="none", **options)
            assert not np.isnan(loss).any(), name
            for array in gradient if isinstance(gradient, tuple) else (gradient,):
                assert array is None or not np.isnan(array.astype(float)).any(), name


def test_rates_of_0():
    loss, gradient = fsl.poisson_nll_loss([0.0, 0.0], [0, 2], input="rates", reduction="none", return_grad=True)
    assert_same([loss, gradient], [[0, np.inf], [1, -np.inf]])
    loss, gradient = fsl.poisson_nll_loss([-np.inf, -np.inf], [0, 2], reduction="none", return_grad=True)
    assert_same([loss, gradient], [[0, np.inf], [0, -2]])


@pytest.mark.parametrize("name", ["poisson_nll_loss", "tweedie_loss"])
def test_the_best_forecast_is_the_mean(name):
    y = np.random.default_rng(0).poisson(3.0, (1, 4000)).astype(float)
    _, gradient = getattr(fsl, name)(np.full(y.shape, np.log(y.mean())), y, return_grad=True)
    assert abs(gradient.sum()) < 1e-12


@pytest.mark.parametrize("value", [-1.0, -1e-300, np.nan, np.inf])
@pytest.mark.parametrize("name", ["poisson_nll_loss", "tweedie_loss"])
@pytest.mark.parametrize("wanted", [{}, {"return_grad": True}, {"with_respect_to": ("targets",)}])
def test_targets_that_are_no_counts(level, name, value, wanted):
    y = np.ones((2, 3))
    y[1, 2] = value
    x = np.zeros((2, 3))
    for out in (None, x):
        written = {"grad_out": out} if out is not None and "return_grad" in wanted else {}
        with pytest.raises(ValueError, match=rf"targets\[1, 2\] is {value}; allowed: finite, 0 or more"):
            getattr(fsl, name)(x, y, **wanted, **written)
        assert not x.any()
    assert np.isfinite(getattr(fsl, name)(x, y, [3, 2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_negative_rates_and_variances(level, dtype):
    x = np.ones((2, 3), dtype)
    bad = x.copy()
    bad[1, 2] = -0.5
    with pytest.raises(ValueError, match=r"predictions\[1, 2\] is -0.5; allowed: 0 or more"):
        fsl.poisson_nll_loss(bad, x, input="rates")
    for wanted in ({}, {"grad_out": (x, None)}, {"with_respect_to": ("targets",)}):
        with pytest.raises(ValueError, match=r"variance\[1, 2\] is -0.5; allowed: 0 or more"):
            fsl.gaussian_nll_loss(x, x * 2, bad, **wanted)
        assert (x == 1).all()
    assert np.isfinite(fsl.gaussian_nll_loss(x, x, bad, [3, 2]))
    assert np.isfinite(fsl.gaussian_nll_loss(x, x, bad, input="log_variance"))


@pytest.mark.parametrize(
    ("error", "message", "changed"),
    [
        (ValueError, r"variance has shape \(2, 1\); allowed: \(2, 3\)", {"variance": np.ones((2, 1))}),
        (ValueError, r"targets has shape \(3,\); allowed: \(2, 3\)", {"targets": np.ones(3)}),
        (TypeError, "variance has dtype int64; allowed: float16", {"variance": np.ones((2, 3), int)}),
        (ValueError, "input is 'std'; allowed: 'variance', 'log_variance'", {"input": "std"}),
        (ValueError, "eps is 0.0; allowed: finite, 1e-300 or more", {"eps": 0.0}),
        (ValueError, "eps is -1.0; allowed", {"eps": -1.0}),
        (TypeError, "full must be a bool", {"full": 1}),
        (TypeError, "return_grad must be a bool", {"return_grad": 1}),
        (TypeError, "grad_out must be a GaussianGradient, or a tuple of 3", {"grad_out": np.ones((2, 3))}),
        (ValueError, "grad_out has 1 arrays; allowed", {"grad_out": (np.ones((2, 3)),)}),
        (ValueError, r"grad_out\.variance has shape", {"grad_out": (None, np.ones(3))}),
        (ValueError, r"grad_out\.targets is given, but with_respect_to has no 'targets'",
         {"grad_out": (None, None, np.ones((2, 3))), "with_respect_to": ("variance",)}),
        (TypeError, "targets has dtype int64; allowed: float16",
         {"targets": np.ones((2, 3), int), "with_respect_to": ("targets",)}),
        (ValueError, "with_respect_to has 'lengths'; allowed", {"with_respect_to": ("lengths",)}),
        (ValueError, "lengths", {"lengths": [4, 1]}),
    ],
)  # fmt: skip
def test_gaussian_errors(error, message, changed):
    given = {"predictions": np.ones((2, 3)), "targets": np.ones((2, 3)), "variance": np.ones((2, 3))}
    with pytest.raises(error, match=message):
        fsl.gaussian_nll_loss(**given | changed)


def test_other_options():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="input is 'logs'; allowed: 'log_rates', 'rates'"):
        fsl.poisson_nll_loss(x, x, input="logs")
    with pytest.raises(TypeError, match="full must be a bool"):
        fsl.poisson_nll_loss(x, x, full=None)
    with pytest.raises(ValueError, match=r"alpha is 1\.5; allowed: from 0 to 1"):
        fsl.binary_focal_loss(x, x, alpha=1.5)
    with pytest.raises(ValueError, match=r"label_smoothing is 2\.0; allowed: from 0 to 1"):
        fsl.binary_cross_entropy(x, x, label_smoothing=2.0)
