"""Transducer losses of JAX arrays: the same as of NumPy's; compiled, mapped and differentiated."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
jax = pytest.importorskip("jax", reason="the extra `peers` installs it")
jnp = jax.numpy
from jax import test_util  # noqa: E402

import fastseqloss.jax as fsj  # noqa: E402
from thoroughness import spread  # noqa: E402

FLOATS = ("float16", "bfloat16", "float32", "float64")
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
LABELS = np.array([[1, 2, 3], [2, 2, 0], [4, 0, 0]])
LENGTHS, COUNTS = np.array([6, 4, 5]), np.array([3, 2, 1])
WEIGHT = np.array([1.0, 0.0, 2.0])
GIVEN = {"labels": LABELS, "logit_lengths": LENGTHS, "label_lengths": COUNTS}
DURATIONS = (0, 1, 3)


@pytest.fixture(autouse=True)
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def scores(*shape, seed=0, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


LOSSES = {
    "rnnt_loss": (fsj.rnnt_loss, {}, ((6, 4, 5),)),
    "hat, modified": (fsj.rnnt_loss, {"blank_model": "hat", "topology": "modified"}, ((6, 4, 5),)),
    "tdt_loss": (fsj.tdt_loss, {"durations": DURATIONS, "sigma": 0.05}, ((6, 4, 5), (6, 4, 3))),
    "rnnt_simple_loss": (fsj.rnnt_simple_loss, {}, ((6, 5), (4, 5))),
}
every_loss = pytest.mark.parametrize(("function", "options", "shapes"), LOSSES.values(), ids=LOSSES)


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


def as_tuple(gradient):
    return (gradient,) if isinstance(gradient, np.ndarray) else gradient


@pytest.mark.parametrize(
    ("name", "dtype", "reduction", "weighted"), spread(LOSSES, FLOATS, REDUCTIONS, [False, True], every=4)
)
def test_as_numpy(name, dtype, reduction, weighted):
    function, options, shapes = LOSSES[name]
    x = [scores(3, *shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    given = GIVEN | options | {"reduction": reduction, "sample_weight": WEIGHT if weighted else None}
    call = partial(function, **given)
    loss = call(*x)
    gradients = jax.grad(lambda *x: call(*x).sum(), range(len(x)))(*x)
    expected, slopes = getattr(fsl, function.__name__)(*x, return_grad=True, **given)
    wide = dtype == "float64"
    assert loss.dtype == ("float64" if wide else "float32")
    close(loss, expected, 1e-13 if wide else 1e-6)
    for gradient, slope in zip(gradients, as_tuple(slopes), strict=True):
        assert gradient.dtype == dtype
        close(gradient, slope, 1e-13 if wide else 2 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(("name", "reduction", "compiled"), spread(LOSSES, REDUCTIONS, [False, True], every=4))
def test_check_grads(name, reduction, compiled):
    function, options, shapes = LOSSES[name]
    call = partial(function, **GIVEN, **options, reduction=reduction)
    x = [scores(3, *shape, seed=i) for i, shape in enumerate(shapes)]
    test_util.check_grads(jax.jit(call) if compiled else call, x, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@every_loss
def test_mapped(function, options, shapes):
    """Sequences become a batch, and so do batches."""
    x = [scores(3, *shape, seed=i) for i, shape in enumerate(shapes)]
    expected, slopes = getattr(fsl, function.__name__)(*x, **GIVEN, **options, reduction="none", return_grad=True)

    def one(x, y, n, m):
        return function(*x, y, n, m, **options)

    losses, gradients = jax.jit(jax.vmap(jax.value_and_grad(one)))(x, LABELS, LENGTHS, COUNTS)
    close(losses, expected)
    for gradient, slope in zip(gradients, as_tuple(slopes), strict=True):
        close(gradient, slope)
    twice = [jnp.stack([a, 2 * a]) for a in x]
    for reduction in REDUCTIONS:
        call = partial(function, **GIVEN, **options, reduction=reduction)
        found = jax.vmap(lambda *x, call=call: call(*x))(*twice)
        close(found, np.stack([call(*x), call(*(2 * a for a in x))]))


def test_pruned():
    x, ranges = scores(1, 4, 2, 5), np.array([[0, 0, 1, 2]])
    loss, gradient = jax.value_and_grad(partial(fsj.rnnt_loss, labels=[[1, 3, 3]], ranges=ranges))(x)
    expected, slope = fsl.rnnt_loss(x, [[1, 3, 3]], ranges=ranges, return_grad=True)
    close(loss, expected)
    close(gradient, slope)


def test_gradient_of_fastemit():
    x = scores(3, 6, 4, 5)
    gradient = jax.grad(partial(fsj.rnnt_loss, **GIVEN, fastemit=0.5))(x)
    close(gradient, fsl.rnnt_loss(x, **GIVEN, fastemit=0.5, return_grad=True)[1])


@pytest.mark.parametrize(("error", "message", "call"), [
    (ValueError, r"logits has shape \(5,\); allowed: \[B, T, U \+ 1, V\]", lambda: fsj.rnnt_loss(scores(5), [1])),
    (ValueError, r"am has shape \(5,\); allowed: \[B, T, V\]", lambda: fsj.rnnt_simple_loss(scores(5), scores(5), [1])),
    (ValueError, r"labels has shape \(1,\); allowed: \(1, n\), n for each sequence",
     lambda: fsj.rnnt_loss(scores(1, 2, 2, 3), [1])),
    (TypeError, "labels is None; allowed: an array", lambda: fsj.rnnt_loss(scores(1, 2, 2, 3), None)),
    (TypeError, "logits has dtype int64", lambda: fsj.rnnt_loss(jnp.ones((1, 2, 2, 3), int), [[1]])),
    (ValueError, "reduction is 'x'", lambda: fsj.rnnt_loss(scores(1, 2, 2, 3), [[1]], reduction="x")),
    (ValueError, "normalizer needs reduction='sum'", lambda: fsj.rnnt_loss(scores(1, 2, 2, 3), [[1]], normalizer=2)),
    (TypeError, "normalizer is traced", lambda: jax.jit(
        lambda n: fsj.rnnt_loss(scores(1, 2, 2, 3), [[1]], reduction="sum", normalizer=n))(2.0)),
    (TypeError, "sample_weight is differentiated", lambda: jax.grad(
        lambda w: fsj.rnnt_loss(scores(1, 2, 2, 3), [[1]], sample_weight=w))(jnp.ones(1))),
    ((jax.errors.JaxRuntimeError, ValueError), r"labels\[0, 0\] is 3; allowed: 0 to 2",
     lambda: jax.block_until_ready(fsj.rnnt_loss(scores(1, 2, 2, 3), [[3]]))),
    ((jax.errors.JaxRuntimeError, ValueError), "durations",
     lambda: jax.block_until_ready(fsj.tdt_loss(scores(1, 2, 2, 3), scores(1, 2, 2, 1), [[1]], durations=[-1]))),
])  # fmt: skip
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_forms_of_durations():
    x, d = scores(6, 4, 5), scores(6, 4, 3)
    right = fsj.tdt_loss(x, d, LABELS[0], durations=DURATIONS)
    for form in (list, np.array, jnp.array):
        assert fsj.tdt_loss(x, d, LABELS[0], durations=form(DURATIONS)) == right
    with pytest.raises(TypeError, match=r"durations is \{0: 1\}; allowed: integers in one dimension"):
        fsj.tdt_loss(x, d, LABELS[0], durations={0: 1})
    with pytest.raises(TypeError, match="durations is traced by JAX"):
        jax.jit(lambda durations: fsj.tdt_loss(x, d, LABELS[0], durations=durations))(jnp.array(DURATIONS))
