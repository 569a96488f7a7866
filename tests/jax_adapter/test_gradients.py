"""Gradients of JAX arrays: against differences, by distributions, compiled or not; nothing is silently 0."""

from functools import partial

import numpy as np
import pytest

from jax_cases import (
    LABEL_LENGTHS,
    LABELS,
    LENGTHS,
    PADDED,
    SEQUENCE_REDUCTIONS,
    STEP_REDUCTIONS,
    TAGS,
    WEIGHT,
    B,
    T,
    V,
    assert_close,
    count_calls,
    fsj,
    jax,
    jnp,
    scores,
    test_util,
)
from thoroughness import spread

pytestmark = pytest.mark.peers


def check(function, *arguments):
    test_util.check_grads(function, arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    for plain, compiled in zip(
        jax.tree.leaves(jax.vjp(function, *arguments)[0]), jax.tree.leaves(jax.jit(function)(*arguments)), strict=True
    ):
        assert_close(plain, compiled)


@pytest.mark.parametrize(("reduction", "compiled"), spread(SEQUENCE_REDUCTIONS, [False, True], every=2))
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


@pytest.mark.parametrize(("reduction", "ends"), spread(SEQUENCE_REDUCTIONS, [False, True], every=2))
def test_check_grads_crf(reduction, ends):
    def loss(x, a, start=None, end=None):
        return fsj.crf_loss(x, TAGS, a, LENGTHS, start=start, end=end, reduction=reduction)

    check(loss, scores(B, T, 4), scores(4, 4), *([scores(4, seed=1), scores(4, seed=2)] if ends else []))


def check_by_targets(x, q, **options):
    """Gradients with respect to logits and distributions, in any order of the results."""
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


@pytest.mark.parametrize(("reduction", "given"), spread(STEP_REDUCTIONS, DISTRIBUTIONS, every=5))
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
    calls = count_calls(monkeypatch, "softmax_cross_entropy")
    x, q = scores(B, T, 4), jax.nn.softmax(scores(B, T, 4, seed=1))
    jax.block_until_ready(jax.grad(fsj.softmax_cross_entropy)(x, q))
    assert len(calls) == 1
    jax.block_until_ready(jax.grad(fsj.softmax_cross_entropy, 1)(x, q))
    assert len(calls) == 2


@pytest.mark.parametrize(("kind", "compiled"), spread(["float16", "bfloat16"], [False, True], every=2))
def test_half_precision_is_rounded_after_scaling(kind, compiled):
    """With a scaled loss, entries below the range of the dtype are not lost."""
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
