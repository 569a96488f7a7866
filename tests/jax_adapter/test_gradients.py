"""Losses of JAX arrays: against NumPy's, optax's, differences; compiled, mapped, differentiated."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
jax = pytest.importorskip("jax", reason="the extra `peers` installs it")
jnp = jax.numpy
from jax import test_util  # noqa: E402

import fastseqloss.jax as fsj  # noqa: E402

B, T, V, S = 3, 8, 5, 3
FLOATS = ("float16", "bfloat16", "float32", "float64")
AT_RUN_TIME = (jax.errors.JaxRuntimeError, ValueError)  # which of them is up to how JAX runs a program
SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
STEP_REDUCTIONS = ("none", "per_sequence", "sum", "mean", "sequence_mean", "batch_mean")


@pytest.fixture(autouse=True)
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def scores(*shape, seed=0, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


LABELS = np.array([[1, 2, 2], [3, 4, 1], [2, 1, 3]])
LENGTHS, LABEL_LENGTHS = np.array([8, 5, 0]), np.array([3, 2, 0])
TAGS = np.random.default_rng(1).integers(0, 4, (B, T))
WEIGHT = np.array([1.0, 0.5, 2.0])


def paddings(lengths, width):
    return (np.arange(width) >= np.asarray(lengths)[:, None]).astype(np.float32)


PADDED = paddings(LENGTHS, T), LABELS, paddings(LABEL_LENGTHS, S)


def assert_close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


# ---- as NumPy's, as optax's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", SEQUENCE_REDUCTIONS)
def test_ctc_as_numpy(reduction, dtype):
    x = scores(B, T, V, dtype=dtype)
    call = partial(fsj.ctc_loss_with_lengths, labels=LABELS, logit_lengths=LENGTHS, label_lengths=LABEL_LENGTHS)
    loss = call(x, reduction=reduction)
    gradient = jax.grad(lambda x: call(x, reduction=reduction).sum())(x)
    expected = fsl.ctc_loss(x, LABELS, LENGTHS, LABEL_LENGTHS, reduction=reduction, return_grad=True)
    wide = dtype == "float64"
    assert loss.dtype == ("float64" if wide else "float32")
    assert gradient.dtype == dtype
    assert_close(loss, expected[0], 1e-14 if wide else 1e-6)
    # Losses are reduced by JAX, so that a gradient in half precision is rounded once more.
    assert_close(gradient, expected[1], 1e-15 if wide else 2 * float(jnp.finfo(dtype).eps))


def test_ctc_options():
    x = scores(B, T, V)
    log_probs = jax.nn.log_softmax(x)
    expected = fsl.ctc_loss(x, LABELS - 1, [8, 5, 1], LABEL_LENGTHS, blank=-1, reduction="none")
    given = {"blank": -1, "reduction": "none", "num_threads": 1}
    for kind, array in (("logits", x), ("log_probs", log_probs), ("probs", jnp.exp(log_probs))):
        loss = fsj.ctc_loss_with_lengths(array, LABELS - 1, [8, 5, 1], LABEL_LENGTHS, input=kind, **given)
        assert_close(loss, expected)
    infeasible = partial(fsj.ctc_loss_with_lengths, x, LABELS, [8, 2, 8], reduction="none")
    assert infeasible()[1] == np.inf
    assert infeasible(infeasible="zero")[1] == 0


def test_as_optax():
    optax = pytest.importorskip("optax", reason="the extra `peers` installs it")
    for blank in (0, V - 1):
        labels = LABELS if blank == 0 else LABELS - 1
        x, label_lengths = scores(B, T, V), [3, 2, 1]
        padded = paddings([8, 5, 3], T), labels, paddings(label_lengths, S)

        def total(loss, x, padded=padded, blank=blank):
            return (loss(x, *padded, blank_id=blank) * WEIGHT).sum()

        ours, theirs = (jax.value_and_grad(partial(total, f))(x) for f in (fsj.ctc_loss, optax.losses.ctc_loss))
        assert_close(ours[0], theirs[0], 1e-10)
        assert_close(ours[1], theirs[1], 1e-10)
        assert fsj.ctc_loss(x, *padded, blank).shape == (B,)


@pytest.mark.parametrize("kind", ["float32", "int32", "bool"])
def test_paddings(kind):
    x = scores(B, T, V)
    padded = PADDED[0].astype(kind), LABELS, PADDED[2].astype(kind)
    expected = fsl.ctc_loss(x, LABELS, LENGTHS, LABEL_LENGTHS, reduction="none")
    assert_close(fsj.ctc_loss(x, *padded), expected)
    poisoned = x.at[1, 5:].set(jnp.nan)  # padding is not read
    assert_close(fsj.ctc_loss(poisoned, *padded), expected)
    assert not np.isnan(jax.grad(lambda x: fsj.ctc_loss(x, *padded).sum())(poisoned)).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
def test_cross_entropy_as_numpy(reduction, dtype):
    x = scores(B, T, 4, dtype=dtype)
    options = {"class_weight": np.arange(1.0, 5), "label_smoothing": 0.1, "reduction": reduction}
    options |= {"sample_weight": WEIGHT, "lengths": LENGTHS, "mask": np.random.default_rng(0).random((B, T)) < 0.7}
    loss = fsj.softmax_cross_entropy(x, TAGS, **options)
    gradient = jax.grad(lambda x: fsj.softmax_cross_entropy(x, TAGS, **options).sum())(x)
    expected = fsl.softmax_cross_entropy(x, TAGS, **options, return_grad=True)
    assert gradient.dtype == dtype
    assert_close(loss, expected[0], 1e-14 if dtype == "float64" else 1e-6)
    assert_close(gradient, expected[1], 0)


@pytest.mark.parametrize("reduction", SEQUENCE_REDUCTIONS)
@pytest.mark.parametrize("ends", [False, True])
def test_crf_as_numpy(reduction, ends):
    x, a = scores(B, T, 4), scores(4, 4)
    options = {"lengths": LENGTHS, "reduction": reduction, "sample_weight": WEIGHT}
    if ends:
        options |= {"start": scores(4, seed=1), "end": scores(4, seed=2)}
    expected = fsl.crf_loss(x, TAGS, a, **options, return_grad=True)
    assert_close(fsj.crf_loss(x, TAGS, a, **options), expected[0])
    gradients = jax.grad(lambda x, a: fsj.crf_loss(x, TAGS, a, **options).sum(), (0, 1))(x, a)
    assert_close(gradients[0], expected[1].emissions)
    assert_close(gradients[1], expected[1].transitions)


# ---- gradients, compiled or not --------------------------------------------------------------------------------


def check(function, *arguments):
    test_util.check_grads(function, arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    for plain, compiled in zip(
        jax.tree.leaves(jax.vjp(function, *arguments)[0]), jax.tree.leaves(jax.jit(function)(*arguments)), strict=True
    ):
        assert_close(plain, compiled)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("reduction", SEQUENCE_REDUCTIONS)
def test_check_grads_ctc(reduction, compiled):
    loss = partial(
        fsj.ctc_loss_with_lengths, labels=LABELS, logit_lengths=LENGTHS, label_lengths=LABEL_LENGTHS,
        reduction=reduction,
    )  # fmt: skip
    check(jax.jit(loss) if compiled else loss, scores(B, T, V))
    check(partial(loss, input="log_probs"), jax.nn.log_softmax(scores(B, T, V)))
    padded = lambda x: fsj.ctc_loss(x, *PADDED)  # noqa: E731
    check(jax.jit(padded) if compiled else padded, scores(B, T, V))


@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
def test_check_grads_cross_entropy(reduction):
    check(lambda x: fsj.softmax_cross_entropy(x, TAGS, LENGTHS, z_loss=0.01, reduction=reduction), scores(B, T, 4))


@pytest.mark.parametrize("reduction", SEQUENCE_REDUCTIONS)
@pytest.mark.parametrize("ends", [False, True])
def test_check_grads_crf(reduction, ends):
    def loss(x, a, start=None, end=None):
        return fsj.crf_loss(x, TAGS, a, LENGTHS, start=start, end=end, reduction=reduction)

    check(loss, scores(B, T, 4), scores(4, 4), *([scores(4, seed=1), scores(4, seed=2)] if ends else []))


def check_by_targets(x, q, **options):
    """The gradients by logits and distributions, of what is returned in any order."""
    loss = partial(fsj.softmax_cross_entropy, **options)
    check(loss, x, q)
    check(lambda q: loss(x, q), q)
    check(lambda x: loss(x, q), x)


DISTRIBUTIONS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "mask": {"lengths": LENGTHS, "mask": np.random.default_rng(0).random((B, T)) < 0.7},
    "weights": {"class_weight": np.array([1.0, 0.0, 3.0, 0.5]), "sample_weight": WEIGHT},
    "smoothing": {"label_smoothing": 0.1, "z_loss": 0.01, "class_weight": np.arange(1.0, 5), "lengths": LENGTHS},
}


@pytest.mark.parametrize("given", DISTRIBUTIONS)
@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
def test_gradient_by_distributions(reduction, given):
    q = jax.nn.softmax(scores(B, T, 4, seed=1))
    check_by_targets(scores(B, T, 4), q, reduction=reduction, **DISTRIBUTIONS[given])


@pytest.mark.parametrize("kind", ["log_probs", "probs"])
def test_gradient_by_distributions_of_probabilities(kind):
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.0, (B, T, 4)))  # far from 0, for central differences
    options = {"input": kind, "label_smoothing": 0.2, "reduction": "sum", "normalizer": 3.0}
    targets = jax.nn.softmax(scores(B, T, 4, seed=1))
    check_by_targets(x if kind == "probs" else jnp.log(x), targets, **options)


def test_gradient_by_distributions_at_the_edges():
    """Padding is not read, a weight of 0 counts nothing, a class that is masked out costs without bounds."""
    x, q = scores(B, T, 4), jax.nn.softmax(scores(B, T, 4, seed=1))
    by_targets = jax.grad(lambda q, x, **kw: fsj.softmax_cross_entropy(x, q, reduction="sum", **kw))
    poisoned = by_targets(q, x.at[1, 5:].set(jnp.nan), lengths=LENGTHS)
    assert not poisoned[1, 5:].any()
    assert_close(poisoned[1, :5], -jax.nn.log_softmax(x[1, :5]))
    masked = by_targets(q, x.at[0, 0, 2].set(-jnp.inf), class_weight=np.array([1.0, 1, 0, 1]))
    assert masked[0, 0, 2] == 0
    assert by_targets(q, x.at[0, 0, 2].set(-jnp.inf))[0, 0, 2] == np.inf
    assert not by_targets(q, x.at[0, 0].set(-jnp.inf))[0, 0].any()
    assert np.isnan(by_targets(q, x.at[0, 0, 1].set(jnp.nan))[0, 0]).all()
    assert by_targets(jnp.zeros((0, T, 4)), jnp.zeros((0, T, 4))).shape == (0, T, 4)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("bfloat16", "float16"), ("float64", "float32")])
def test_dtypes_of_distributions(dtypes):
    x, q = scores(B, T, 4, dtype=dtypes[0]), jax.nn.softmax(scores(B, T, 4, seed=1)).astype(dtypes[1])
    gradients = jax.grad(lambda x, q: fsj.softmax_cross_entropy(x, q, reduction="sum"), (0, 1))(x, q)
    assert tuple(gradient.dtype.name for gradient in gradients) == dtypes
    exact = -jax.nn.log_softmax(x.astype("float64"))
    assert_close(gradients[1], exact, 2 * float(jnp.finfo(dtypes[1]).eps))


@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
def test_mapped_gradient_by_distributions(reduction):
    x, q = scores(2, B, T, 4), jax.nn.softmax(scores(2, B, T, 4, seed=1))
    gradient = jax.grad(lambda q, x: fsj.softmax_cross_entropy(x, q, LENGTHS, reduction=reduction).sum())
    for axes, given in (((0, 0), q), ((None, 0), q[0])):
        mapped = jax.jit(jax.vmap(gradient, axes))(given, x)
        for i in range(2):
            assert_close(mapped[i], gradient(q[0] if axes[0] is None else q[i], x[i]))


def test_only_what_is_differentiated_is_computed(monkeypatch):
    calls = count_calls(monkeypatch, "_softmax_cross_entropy")
    x, q = scores(B, T, 4), jax.nn.softmax(scores(B, T, 4, seed=1))
    jax.block_until_ready(jax.grad(fsj.softmax_cross_entropy)(x, q))
    assert len(calls) == 1
    jax.block_until_ready(jax.grad(fsj.softmax_cross_entropy, 1)(x, q))
    assert len(calls) == 3  # the loss, and the weight of each class of each step


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_half_precision_is_rounded_after_scaling(kind, compiled):
    """What scaling a loss is for: entries below what the dtype holds are there once they are scaled."""
    rng = np.random.default_rng(0)
    wide, many = jnp.asarray(rng.normal(size=(64, 8000)), kind), rng.integers(0, 8000, 64)
    # So sure of one path that gradients are some 1e-7, which float16 has in steps of 6e-8.
    path = np.array([1, 1, 0, 2, 2, 3, 0, 4])
    x = jnp.asarray(16 * (np.arange(V) == path[:, None]) + rng.random((T, V)), kind)
    tagged = jnp.asarray(16 * (np.arange(4) == TAGS[..., None]) + rng.random((B, T, 4)), kind)
    losses = {
        "classes": (lambda x: fsj.softmax_cross_entropy(x, many), wide),
        "distributions": (lambda q: fsj.softmax_cross_entropy(wide, q), jax.nn.softmax(wide)),
        "ctc": (lambda x: fsj.ctc_loss_with_lengths(x, np.arange(1, V)), x),
        "crf": (lambda x: fsj.crf_loss(x, TAGS, jnp.zeros((4, 4))), tagged),
        "each": (lambda a: fsj.crf_loss(tagged, TAGS, a, reduction="none").sum(), scores(4, 4, dtype=kind)),
    }
    for name, (loss, given) in losses.items():
        scaled = jax.grad(lambda x, loss=loss: loss(x) * 2.0**12)
        gradient = (jax.jit(scaled) if compiled else scaled)(given)
        exact = scaled(given.astype("float64"))
        assert gradient.dtype == kind
        wrong = jnp.abs(gradient.astype("float64") - exact).sum() / jnp.abs(exact).sum()
        assert wrong < float(jnp.finfo(kind).eps), name
        assert not ((gradient == 0) & (jnp.abs(exact) > float(jnp.finfo(kind).tiny))).any(), name


def differentiated():
    """Every float that a loss depends on and has no derivative by."""
    x, z, q = scores(B, T, V), scores(B, T, 4), jax.nn.softmax(scores(B, T, 4, seed=1))
    paddings, label_paddings = jnp.asarray(PADDED[0]), jnp.asarray(PADDED[2])
    weight, classes = jnp.asarray(WEIGHT), jnp.arange(1.0, 5)
    labels = LABELS
    yield "logit_paddings", paddings, lambda p: fsj.ctc_loss(x, p, labels, label_paddings).sum()
    yield "label_paddings", label_paddings, lambda p: fsj.ctc_loss(x, paddings, labels, p).sum()
    yield "labels", labels.astype(float), lambda y: fsj.ctc_loss_with_lengths(x, y)
    yield "logit_lengths", LENGTHS.astype(float), lambda n: fsj.ctc_loss_with_lengths(x, labels, n)
    for targets in (TAGS, q):
        step = partial(fsj.softmax_cross_entropy, z, targets)
        yield "sample_weight", weight, lambda w, step=step: step(sample_weight=w)
        yield "class_weight", classes, lambda w, step=step: step(class_weight=w)
        yield "mask", jnp.ones((B, T)), lambda m, step=step: step(mask=m)
        yield "lengths", LENGTHS.astype(float), lambda n, step=step: step(n)
    for reduction in SEQUENCE_REDUCTIONS:
        crf = partial(fsj.crf_loss, z, TAGS, scores(4, 4), reduction=reduction)
        yield "sample_weight", weight, lambda w, crf=crf: crf(sample_weight=w).sum()
        yield "mask", jnp.ones((B, T)), lambda m, crf=crf: crf(mask=m).sum()


@pytest.mark.parametrize("way", ["grad", "compiled", "mapped", "looped", "forwards", "both"])
def test_no_derivative_is_silently_0(way):
    ways = {
        "grad": jax.grad,
        "compiled": lambda f: jax.jit(jax.grad(jax.jit(f))),
        "mapped": lambda f: lambda w: jax.grad(lambda w: jax.vmap(f)(w).sum())(jnp.stack([w, w])),
        "looped": lambda f: jax.grad(lambda w: jax.lax.scan(lambda c, _: (c + f(w), None), 0.0, None, 2)[0]),
        "forwards": lambda f: lambda w: jax.jvp(f, (w,), (w,)),
        "both": lambda f: jax.value_and_grad(jax.checkpoint(f)),
    }
    for name, value, loss in differentiated():
        with pytest.raises(TypeError, match=rf"{name} is differentiated.*stop_gradient\({name}\)"):
            ways[way](loss)(jnp.asarray(value))


def test_constants_beside_what_is_differentiated():
    """Constants of floats that pass through compiled, looped and checkpointed programs are no error."""
    x, padded = scores(2, B, T, V), tuple(map(jnp.asarray, PADDED))

    @jax.jit
    def total(x, p, y, q):
        step = jax.checkpoint(lambda x, p, q: fsj.ctc_loss(x, (p > 0).astype(float), y, q).sum())
        return jax.lax.scan(lambda c, one: (c + step(one, p, q), p), 0.0, x)[0]

    gradient = jax.jit(jax.grad(total))(x, *padded)
    for i in range(2):
        assert_close(gradient[i], jax.grad(lambda x: fsj.ctc_loss(x, *padded).sum())(x[i]))
    stopped = jax.grad(lambda w: fsj.softmax_cross_entropy(x[0], TAGS, class_weight=jax.lax.stop_gradient(w)))
    assert not stopped(jnp.ones(V)).any()


def test_no_second_derivatives():
    """Nor a derivative of the gradient by anything that the gradient depends on."""
    x, z, a, q = scores(B, T, V), scores(B, T, 4), scores(4, 4), jax.nn.softmax(scores(B, T, 4, seed=1))
    losses = (
        (lambda x: fsj.ctc_loss(x, *PADDED)[:1].sum(), x),
        (lambda z: fsj.softmax_cross_entropy(z, TAGS), z),
        (lambda a: fsj.crf_loss(z, TAGS, a), a),
        (lambda a: fsj.crf_loss(z, TAGS, a, reduction="none").sum(), a),
    )
    for loss, at in losses:
        for twice in (jax.hessian, lambda f: jax.jacrev(jax.grad(f)), lambda f: jax.jit(jax.jacfwd(jax.grad(f)))):
            with pytest.raises(TypeError, match="first derivatives in reverse mode only"):
                twice(loss)(at)
        for forwards in (jax.jacfwd, lambda f: lambda x: jax.jvp(jax.jit(f), (x,), (x,))):
            with pytest.raises(TypeError, match="forward-mode"):
                forwards(loss)(at)
    for first, second in ((0, 1), (1, 0)):
        mixed = jax.jacrev(jax.grad(fsj.softmax_cross_entropy, first), second)
        with pytest.raises(TypeError, match="first derivatives in reverse mode only"):
            mixed(z, q)
    assert_close(jax.grad(lambda s: jax.grad(lambda z: s * fsj.softmax_cross_entropy(z, TAGS))(z)[0, 0, 0])(2.0),
                 jax.grad(fsj.softmax_cross_entropy)(z, TAGS)[0, 0, 0])  # fmt: skip


# ---- mapped ------------------------------------------------------------------------------------------------------


def count_calls(monkeypatch, name):
    calls = []
    real = getattr(fsj, name)

    def counted(*arguments, **options):
        calls.append(np.shape(arguments[0] if arguments else next(iter(options.values()))))
        return real(*arguments, **options)

    monkeypatch.setattr(fsj, name, counted)
    return calls


def test_mapped_sequences_become_a_batch(monkeypatch):
    calls = count_calls(monkeypatch, "_ctc_loss")
    x = scores(B, T, V)
    one = lambda x, y, n, m: fsj.ctc_loss_with_lengths(x, y, n, m, reduction="none")  # noqa: E731
    losses = jax.vmap(one)(x, LABELS, LENGTHS, LABEL_LENGTHS)
    gradients = jax.jit(jax.vmap(jax.grad(one)))(x, LABELS, LENGTHS, LABEL_LENGTHS)
    assert calls == [(B, T, V)] * 2
    expected = fsl.ctc_loss(x, LABELS, LENGTHS, LABEL_LENGTHS, reduction="none", return_grad=True)
    assert_close(losses, expected[0])
    assert_close(gradients, expected[1])


def test_mapped_batches_become_one(monkeypatch):
    """Mapped twice, over different axes, some operands not at all."""
    calls = count_calls(monkeypatch, "_ctc_loss")
    x = scores(2, B, T, V, 4)
    twice = jax.vmap(jax.vmap(lambda x: fsj.ctc_loss(x, *PADDED), in_axes=3), in_axes=0)
    losses = twice(x)
    assert calls == [(2 * 4 * B, T, V)]
    gradient = jax.grad(lambda x: (twice(x) * WEIGHT).sum())(x)
    for i in range(2):
        for j in range(4):
            part = x[i, ..., j]
            expected = fsl.ctc_loss(part, LABELS, LENGTHS, LABEL_LENGTHS, reduction="none")
            assert_close(losses[i, j], expected)
            weighted = fsl.ctc_loss(
                part, LABELS, LENGTHS, LABEL_LENGTHS, reduction="sum", sample_weight=WEIGHT, return_grad=True
            )[1]
            assert_close(gradient[i, ..., j], weighted)


@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
def test_mapped_cross_entropy(reduction, monkeypatch):
    calls = count_calls(monkeypatch, "_softmax_cross_entropy")
    x, targets = scores(2, B, T, 4), np.random.default_rng(0).integers(0, 4, (2, B, T))
    weight = np.arange(1.0, 5)
    loss = lambda x, y: fsj.softmax_cross_entropy(x, y, LENGTHS, class_weight=weight, reduction=reduction)  # noqa: E731
    results = jax.vmap(loss)(x, targets)
    assert len(calls) == (1 if reduction in ("none", "per_sequence") else 2)
    gradients = jax.vmap(jax.grad(lambda x, y: loss(x, y).sum()))(x, targets)
    for i in range(2):
        expected = fsl.softmax_cross_entropy(
            x[i], targets[i], LENGTHS, class_weight=weight, reduction=reduction, return_grad=True
        )
        assert_close(results[i], expected[0])
        assert_close(gradients[i], expected[1])
    several = jax.vmap(
        lambda w: fsj.softmax_cross_entropy(x[0], targets[0], class_weight=w, reduction=reduction)
    )(jnp.stack([weight, weight + 1]))  # fmt: skip
    for i in range(2):
        assert_close(
            several[i], fsl.softmax_cross_entropy(x[0], targets[0], class_weight=weight + i, reduction=reduction)
        )


@pytest.mark.parametrize("reduction", SEQUENCE_REDUCTIONS)
def test_mapped_crf(reduction):
    """Each has gradients of its own, of parameters it shares with nobody or with all."""
    x, a, end = scores(2, B, T, 4), scores(2, 4, 4), scores(4)
    slope = jnp.array([1.0, -2.0, 0.5]) if reduction == "none" else 1.0

    def loss(x, a, end):
        return (fsj.crf_loss(x, TAGS, a, LENGTHS, end=end, reduction=reduction) * slope).sum()

    for axes, transitions in (((0, 0, None), a), ((0, None, None), a[0])):
        gradients = jax.vmap(jax.grad(loss, (0, 1, 2)), in_axes=axes)(x, transitions, end)
        for i in range(2):
            given = transitions if axes[1] is None else transitions[i]
            alone = jax.grad(loss, (0, 1, 2))(x[i], given, end)
            for mapped, single in zip(gradients, alone, strict=True):
                assert_close(mapped[i], single)


def test_scan():
    """Inside a loop that is compiled."""
    xs = scores(4, B, T, V)
    _, losses = jax.lax.scan(lambda c, x: (c, fsj.ctc_loss(x, *PADDED).sum()), 0.0, xs)
    assert_close(losses, [fsj.ctc_loss(x, *PADDED).sum() for x in xs])


def test_compiled_once():
    """Equal calls are one program."""
    hosts = set()
    real = fsj.apply

    def spy(host, *arguments):
        hosts.add(host)
        return real(host, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsj, "apply", spy)
        for _ in range(2):
            fsj.ctc_loss(scores(B, T, V), *PADDED)
            fsj.softmax_cross_entropy(scores(B, T, 4), TAGS)
    assert len(hosts) == 2


def test_large_arrays_compiled():
    """A network, a loss and its gradient in one program, with arrays large enough for JAX to work on asynchronously."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(16, 300, 64)), "float32")
    weight = jnp.asarray(rng.normal(size=(64, 256)), "float32")
    labels = rng.integers(1, 256, (16, 40))
    step = jax.jit(jax.value_and_grad(lambda w: fsj.ctc_loss_with_lengths(x @ w, labels)))
    first = None
    for _ in range(5):
        loss, gradient = step(weight)
        first = loss if first is None else first
        weight = weight - 0.02 * gradient
    assert loss < first


# ---- arrays, errors, imports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_functions_take_jax_arrays(dtype, monkeypatch):
    """Read-only views of the same memory, and no copy."""
    from fastseqloss._core import arrays

    x = scores(B, T, 4, dtype=dtype)
    array = arrays.as_array("logits", x)
    assert not array.flags.writeable
    assert array.ctypes.data == x.unsafe_buffer_pointer()
    tags, lengths = jnp.asarray(TAGS), jnp.asarray(LENGTHS)
    loss, gradient = fsl.softmax_cross_entropy(x, tags, lengths, return_grad=True)
    expected = fsl.softmax_cross_entropy(array.copy(), TAGS, LENGTHS, return_grad=True)
    assert loss == expected[0]
    assert isinstance(gradient, np.ndarray)
    np.testing.assert_array_equal(gradient.astype("float64"), expected[1].astype("float64"))
    assert fsl.crf_loss(x, tags, jnp.zeros((4, 4)), lengths) == fsl.crf_loss(array, TAGS, np.zeros((4, 4)), LENGTHS)
    with pytest.raises(TypeError, match="grad_out must be a NumPy array, got ArrayImpl"):
        fsl.softmax_cross_entropy(x, tags, grad_out=x)


def test_numpy_functions_refuse_tracers():
    with pytest.raises(TypeError, match=r"logits is traced by JAX and has no values yet; call fastseqloss\.jax"):
        jax.jit(lambda x: fsl.ctc_loss(x, LABELS))(scores(B, T, V))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("message", "changed"), [
    (r"labels\[1, 0\] is 9; allowed: 0 to 4, except 0", {"labels": np.array([[1, 2, 2], [9, 4, 1], [2, 1, 3]])}),
    (r"logit_lengths\[0\] is 9; allowed: 0 to 8", {"logit_lengths": [9, 5, 0]}),
    (r"label_lengths has shape \(2,\)", {"label_lengths": np.array([1, 2])}),
    ("input is 'x'; allowed", {"input": "x"}),
    ("blank is 5; allowed: -5 to 4", {"blank": 5}),
])  # fmt: skip
def test_errors_at_run_time(message, changed, compiled):
    options = {"labels": LABELS, "logit_lengths": LENGTHS, "label_lengths": LABEL_LENGTHS} | changed
    call = partial(fsj.ctc_loss_with_lengths, **options)
    with pytest.raises(AT_RUN_TIME, match=message):
        jax.block_until_ready((jax.jit(call) if compiled else call)(scores(B, T, V)))


@pytest.mark.parametrize(("message", "changed"), [
    (r"logit_paddings\[0, 1\] is 0\.0; allowed: 1, after padding", {0: np.array([[1.0, 0] + [1] * 6] * B)}),
    (r"logit_paddings\[0, 2\] is 0\.5; allowed: 0 and 1", {0: np.array([[0, 0, 0.5] + [1] * 5] * B)}),
    (r"label_paddings has shape \(3, 2\); allowed: \(3, 3\)", {2: np.zeros((B, 2))}),
])  # fmt: skip
def test_errors_of_paddings(message, changed):
    padded = [changed.get(i, value) for i, value in enumerate(PADDED)]
    with pytest.raises(AT_RUN_TIME, match=message):
        jax.block_until_ready(fsj.ctc_loss(scores(B, T, V), *padded))


@pytest.mark.parametrize(("error", "message", "call"), [
    (TypeError, "logits has dtype int64; allowed: float16", lambda: fsj.ctc_loss(jnp.ones((B, T, V), int), *PADDED)),
    (ValueError, r"logits has shape \(8, 5\); allowed: \[B, T, V\]", lambda: fsj.ctc_loss(scores(T, V), *PADDED)),
    (ValueError, r"logits has shape \(5,\)", lambda: fsj.ctc_loss_with_lengths(scores(V), LABELS)),
    (ValueError, r"labels has shape \(9,\)", lambda: fsj.ctc_loss_with_lengths(scores(B, T, V), LABELS.reshape(-1))),
    (ValueError, "reduction is 'x'", lambda: fsj.ctc_loss_with_lengths(scores(B, T, V), LABELS, reduction="x")),
    (ValueError, r"logits has shape \(\)", lambda: fsj.softmax_cross_entropy(1.0, 1)),
    (ValueError, r"emissions has shape \(5,\)", lambda: fsj.crf_loss(scores(V), TAGS, scores(V, V))),
    (TypeError, "transitions has dtype int64", lambda: fsj.crf_loss(scores(B, T, 4), TAGS, np.zeros((4, 4), int))),
    (ValueError, "blank_id is 5; allowed: -5 to 4", lambda: fsj.ctc_loss(scores(B, T, V), *PADDED, 5)),
    (TypeError, "logits is not an array for JAX: ", lambda: fsj.ctc_loss("mean", *PADDED)),
    (ValueError, "logits is not an array for JAX: ", lambda: fsj.softmax_cross_entropy([[1.0], [2.0, 3.0]], [0, 0])),
    (TypeError, "targets is not an array for JAX: ", lambda: fsj.softmax_cross_entropy(scores(B, T, 4), {"mean"})),
    (ValueError, "targets is not an array for JAX: ", lambda: fsj.softmax_cross_entropy(scores(V), 2**70)),
    (ValueError, "lengths is not an array for JAX: ",
     lambda: fsj.crf_loss(scores(B, T, 4), TAGS, scores(4, 4), np.ma.array([1, 2, 3]))),
    *((ValueError, r"reduction is \[?.*1.*; allowed: 'none'", partial(call, reduction=value))
      for value in ([1], np.ones(2)) for call in (
          partial(fsj.ctc_loss_with_lengths, np.zeros((1, T, V)), np.ones((1, 2), int)),
          partial(fsj.softmax_cross_entropy, np.zeros((2, 2)), np.ones(2, int)),
          partial(fsj.crf_loss, np.zeros((1, T, 2)), np.ones((1, T), int), np.zeros((2, 2))))),
])  # fmt: skip
def test_errors_while_tracing(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("ignored", [0, 3, np.int64(7)])
def test_ignore_index_beside_distributions(ignored):
    q = jax.nn.softmax(scores(B, T, 4))
    for call in (fsj.softmax_cross_entropy, jax.jit(partial(fsj.softmax_cross_entropy, ignore_index=ignored))):
        given = {"ignore_index": ignored} if call is fsj.softmax_cross_entropy else {}
        with pytest.raises(ValueError, match=rf"ignore_index is {ignored}; allowed with distributions: below 0"):
            call(q, q, **given)
    assert fsj.softmax_cross_entropy(q, q, ignore_index=-1).shape == ()


@pytest.mark.parametrize(("name", "call"), [
    ("normalizer", lambda v: fsj.softmax_cross_entropy(scores(B, T, 4), TAGS, reduction="sum", normalizer=v)),
    ("normalizer", lambda v: fsj.crf_loss(scores(B, T, 4), TAGS, scores(4, 4), reduction="sum", normalizer=v)),
    ("label_smoothing", lambda v: fsj.softmax_cross_entropy(scores(B, T, 4), TAGS, label_smoothing=v)),
    ("z_loss", lambda v: fsj.softmax_cross_entropy(scores(B, T, 4), TAGS, z_loss=v)),
    ("blank", lambda v: fsj.ctc_loss_with_lengths(scores(B, T, V), LABELS, blank=v)),
    ("blank_id", lambda v: fsj.ctc_loss(scores(B, T, V), *PADDED, v)),
    ("num_threads", lambda v: fsj.ctc_loss(scores(B, T, V), *PADDED, num_threads=v)),
])  # fmt: skip
def test_options_are_known_when_traced(name, call):
    number = 0 if "blank" in name else 1 if name == "num_threads" else 0.5
    for value in (np.asarray(number), jnp.asarray(number)):
        assert_close(call(value), call(number), 0)
    for transform in (jax.jit, jax.grad):
        with pytest.raises(TypeError, match=f"{name} is traced by JAX; allowed: a value that is known"):
            transform(call)(jnp.asarray(float(number)))
    with pytest.raises(TypeError, match=rf"{name} is \[1\]; allowed: one value"):
        call([1])


def test_integers_that_jax_would_wrap_around():
    """Without 64 bits JAX makes 1 of 2**32 + 1."""
    jax.config.update("jax_enable_x64", False)
    x, wrong = jnp.zeros((B, T, V)), LABELS.astype(np.int64)
    wrong[1, 2] += 2**32
    with pytest.raises(ValueError, match=r"labels\[1, 2\] is 4294967297; allowed: integers of int32"):
        fsj.ctc_loss_with_lengths(x, wrong)
    with pytest.raises(ValueError, match=r"targets\[0, 0\] is 4294967296; allowed: integers of int32"):
        fsj.softmax_cross_entropy(x, np.full((B, T), 2**32))
    assert_close(
        fsj.ctc_loss_with_lengths(x, LABELS.astype(np.uint64)), fsl.ctc_loss(np.zeros((B, T, V)), LABELS), 1e-6
    )


@pytest.mark.parametrize("one", [5, np.int32(5), np.array(5), np.array([5]), jnp.asarray(5), [5]])
def test_one_length(one):
    """A number, an array without axes, and an array [1] mean the same for one sequence and for a batch of one."""
    x, z, a, weight = scores(1, T, V), scores(1, T, 4), scores(4, 4), np.array(2.0)
    losses = (
        (lambda x, y, n: fsj.ctc_loss_with_lengths(x, y, n, 2, reduction="sequence_mean"), x, LABELS[:1]),
        (lambda z, y, n: fsj.crf_loss(z, y, a, n, sample_weight=weight, reduction="none"), z, TAGS[:1]),
    )
    steps = (lambda z, y, n: fsj.softmax_cross_entropy(z, y, n, sample_weight=weight), z, TAGS[:1])
    for loss, x, y in (*losses, steps):
        batched = loss(x, y, [5])
        for call in (loss, jax.jit(loss)):
            assert_close(call(x, y, one), batched, 0)
        mapped = jax.vmap(lambda x, y, n, loss=loss: loss(x, y, n))
        assert_close(mapped(x[None], y[None], jnp.asarray(one).reshape(1)), batched[None], 0)
    for loss, x, y in losses:
        assert_close(loss(x[0], y[0], one), loss(x, y, [5]).sum(), 1e-15)


def test_one_length_for_several():
    x, z = scores(B, T, V), scores(B, T, 4)
    for message, call in (
        (r"logit_lengths has shape \(\); allowed: \(3,\)", lambda: fsj.ctc_loss_with_lengths(x, LABELS, 5)),
        (r"lengths has shape \(1,\); allowed: \(3,\)", lambda: fsj.softmax_cross_entropy(z, TAGS, [5])),
        (r"sample_weight has shape \(\)", lambda: fsj.crf_loss(z, TAGS, scores(4, 4), sample_weight=2.0)),
        (r"lengths has shape \(2,\); allowed: a number", lambda: fsj.crf_loss(z[0], TAGS[0], scores(4, 4), [5, 5])),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64"])
def test_masks_of_0_and_1(kind):
    mask = np.arange(T) < np.array([8, 5, 1])[:, None]
    x, a = scores(B, T, 4), scores(4, 4)
    for loss in (partial(fsj.softmax_cross_entropy, x, TAGS), partial(fsj.crf_loss, x, TAGS, a)):
        for given in (mask.astype(kind), jnp.asarray(mask, kind)):
            assert_close(loss(mask=given), loss(lengths=[8, 5, 1]), 1e-15)
            assert_close(jax.jit(lambda m, loss=loss: loss(mask=m))(given), loss(lengths=[8, 5, 1]), 1e-15)


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_arrays_of_numpy_changed_after_the_call(reduction):
    """JAX may keep the memory of an array that is aligned to 64 bytes."""
    x, a = scores(B, T, 4), scores(4, 4)
    room = np.zeros(TAGS.size + 8, np.int64)
    start = -room.ctypes.data % 64 // 8
    tags, weight = room[start : start + TAGS.size].reshape(B, T), WEIGHT.copy()
    tags[...] = TAGS
    loss, pullback = jax.vjp(lambda x: fsj.crf_loss(x, tags, a, reduction=reduction, sample_weight=weight), x)
    tags[...], weight[...] = 0, 0
    expected = fsl.crf_loss(x, TAGS, a, reduction=reduction, sample_weight=WEIGHT, return_grad=True)
    assert_close(loss, expected[0])
    assert_close(pullback(jnp.ones_like(loss))[0], expected[1].emissions)


# ---- programs that wait for nothing, and on several devices ---------------------------------------------------------


def test_operands_are_arrays_of_numpy(monkeypatch):
    """Not of JAX, whose values would have to be waited for; and nobody can write to them."""
    seen = []
    real = fsj._ctc_loss

    def spy(*arrays, **options):
        seen.extend((type(array), array.flags.writeable) for array in arrays)
        return real(*arrays, **options)

    monkeypatch.setattr(fsj, "_ctc_loss", spy)
    for call in (fsj.ctc_loss, jax.jit(fsj.ctc_loss)):
        call(scores(B, T, V), *PADDED).block_until_ready()
    with jax.disable_jit():
        fsj.ctc_loss(scores(B, T, V), *PADDED).block_until_ready()
    assert len(seen) == 3 * 4
    assert seen[::4] == [(np.ndarray, False)] * 3
    assert all(kind is np.ndarray for kind, _ in seen)


def run_child(code, **environment):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=os.environ | environment)


# Arrays of some MB, in loops that do not wait: JAX then computes on the threads of its pool.
LOOPS = """
import os, threading
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
import jax, jax.numpy as jnp, numpy as np
import fastseqloss as fsl, fastseqloss.jax as fsj

rng = np.random.default_rng(0)
start = rng.normal(size=(8, 200, 400)).astype(np.float32)
labels, tags = rng.integers(1, 400, (8, 30)), rng.integers(0, 400, (8, 200))
paddings, label_paddings = np.zeros((8, 200), np.float32), np.zeros((8, 30), np.float32)
wide = np.float32(0.01) * rng.normal(size=(400, 400)).astype(np.float32)
soft = jax.nn.softmax(jnp.asarray(start))

def looped(x):
    return jax.lax.scan(lambda total, _: (total + fsj.ctc_loss_with_lengths(x, labels), None), 0.0, None, 3)[0] / 3

losses = {
    "padded": lambda x: fsj.ctc_loss(x, paddings, labels, label_paddings).mean(),
    "looped": looped,
    "mapped": lambda x: jax.vmap(fsj.ctc_loss_with_lengths)(x, labels).mean(),
    "distributions": lambda x: fsj.softmax_cross_entropy(x @ wide, soft),
    "crf": lambda x: fsj.crf_loss(x[:, :, :50], tags % 50, wide[:50, :50], reduction="none").mean(),
}

def train(name):
    step = jax.value_and_grad(losses[name])
    for compiled in (jax.jit(step), step):
        x = jnp.asarray(start)
        for _ in range(8):
            loss, gradient = compiled(x)
            x = x - 0.1 * gradient
    results[name] = float(loss)

results = {}
"""


def test_one_cpu():
    run_child(LOOPS.replace("CPUS", "1") + """
for name in losses:
    train(name)
y = start.copy()
for _ in range(8):
    loss, gradient = fsl.ctc_loss(y, labels, return_grad=True)
    y -= np.float32(0.1) * gradient
for name in ("padded", "looped", "mapped"):
    assert abs(results[name] - loss) < 1e-4 * loss, (name, results, loss)
""")  # fmt: skip


def test_two_threads_on_two_cpus():
    run_child(LOOPS.replace("CPUS", "2") + """
threads = [threading.Thread(target=train, args=(name,)) for name in ("padded", "distributions")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(results) == 2 and all(np.isfinite(loss) for loss in results.values()), results
""")  # fmt: skip


def test_jax_without_the_callback_of_numpy_arrays():
    """A version of JAX that has lost it: a warning, and right results."""
    run_child("""
import warnings
import jax, jax.numpy as jnp
from jax.interpreters import mlir
if "emit_python_callback" in vars(mlir):
    del mlir.emit_python_callback
assert not hasattr(mlir, "emit_python_callback")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastseqloss.jax as fsj
assert any("does not support JAX" in str(w.message) and w.category is RuntimeWarning for w in caught), caught
x, labels = jnp.zeros((2, 3, 2)), jnp.array([[1], [1]])
value, gradient = jax.jit(jax.value_and_grad(fsj.ctc_loss_with_lengths))(x, labels, jnp.array([3, 1]))
assert gradient[1, 0, 1] == -0.25
assert jax.vmap(jax.grad(fsj.ctc_loss_with_lengths))(x, labels).shape == x.shape
""")  # fmt: skip


SHARDED = """
from functools import partial
import jax, jax.numpy as jnp, numpy as np
import fastseqloss.jax as fsj
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x, y = jnp.asarray(rng.normal(size=(8, 9, 5))), jnp.asarray(rng.integers(1, 5, (8, 3)))
n, tags = jnp.asarray(rng.integers(7, 10, 8)), jnp.asarray(rng.integers(0, 5, (8, 9)))
w, a = jnp.asarray(rng.normal(size=(5, 5))), jnp.asarray(rng.normal(size=(5, 5)))
paddings = lambda n: (jnp.arange(9) >= n[:, None]).astype(float)
losses = {
    "ctc": lambda w, a, x, y, n, tags: fsj.ctc_loss_with_lengths(x @ w, y, n, reduction="none"),
    "padded": lambda w, a, x, y, n, tags: fsj.ctc_loss(x @ w, paddings(n), y, jnp.zeros(y.shape)),
    "mapped": lambda w, a, x, y, n, tags: jax.vmap(fsj.ctc_loss_with_lengths)(x @ w, y, n),
    "classes": lambda w, a, x, y, n, tags: fsj.softmax_cross_entropy(x @ w, tags, n, reduction="sum"),
    "distributions": lambda w, a, x, y, n, tags: fsj.softmax_cross_entropy(
        x @ w, jax.nn.softmax(x @ a), n, reduction="per_sequence"
    ),
    "crf": lambda w, a, x, y, n, tags: fsj.crf_loss(x @ w, tags, a, n, start=a[0], reduction="sum"),
    "each": lambda w, a, x, y, n, tags: fsj.crf_loss(x @ w, tags, a, n, reduction="none"),
    "replicated": lambda w, a, x, y, n, tags: x.sum() * fsj.crf_loss(w[None], jnp.zeros((1, 5), int), a),
}
meshes = Mesh(np.array(jax.devices()), ("d",)), Mesh(np.array(jax.devices()).reshape(2, 2), ("d", "m"))
assert len(jax.devices()) == 4
data = x, y, n, tags

def close(got, want, name):
    for g, h in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-10, atol=1e-10, err_msg=name)

for name, loss in losses.items():
    plain = lambda w, a, *data: loss(w, a, *data).sum()
    want = jax.value_and_grad(plain, (0, 1, 2))(w, a, *data)
    for mesh in meshes:
        rows = P(mesh.axis_names)
        mapped = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), rows, rows, rows, rows))

        @partial(mapped, out_specs=P())
        def outside(w, a, *data):
            return jax.lax.psum(loss(w, a, *data).sum(), mesh.axis_names)

        @partial(mapped, out_specs=(P(), (P(), P(), rows)))
        def inside(w, a, x, *data):
            total = lambda w, a, x: jax.lax.psum(loss(w, a, x, *data).sum(), mesh.axis_names)
            return jax.value_and_grad(total, (0, 1, 2))(w, a, x)

        close(jax.jit(outside)(w, a, *data), want[0], name)
        close(jax.jit(jax.value_and_grad(outside, (0, 1, 2)))(w, a, *data), want, name)
        close(jax.jit(inside)(w, a, *data), want, name)
    sharded = [jax.device_put(array, NamedSharding(meshes[0], P("d"))) for array in data]
    close(jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(w, a, *sharded), want, name)
"""


def test_sharded():
    """Inside `shard_map` with its checks, differentiated outside and inside of it; and compiled for several devices."""
    run_child(SHARDED, XLA_FLAGS="--xla_force_host_platform_device_count=4")


def test_imports():
    code = """
import fastseqloss, sys
assert "jax" not in sys.modules
from fastseqloss import jax as ours
import jax
assert jax is not ours and hasattr(jax, "Array") and ours is sys.modules["fastseqloss.jax"]
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
