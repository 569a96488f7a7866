"""Losses of JAX arrays: against NumPy's, optax's, differences; compiled, mapped, differentiated."""

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


def test_constants_have_gradient_zero():
    x, weight = scores(B, T, 4), jnp.asarray(WEIGHT)
    gradient = jax.grad(lambda w: fsj.softmax_cross_entropy(x, TAGS, sample_weight=w))(weight)
    assert not gradient.any()
    loss = lambda p: fsj.ctc_loss(scores(B, T, V), p, *PADDED[1:]).sum()  # noqa: E731
    assert not jax.grad(loss)(jnp.asarray(PADDED[0])).any()


def test_no_second_derivatives():
    loss = lambda x: fsj.ctc_loss(x, *PADDED)[:1].sum()  # noqa: E731
    x = scores(B, T, V)
    with pytest.raises(ValueError, match="Pure callbacks do not support JVP"):
        jax.jacrev(jax.grad(loss))(x)
    with pytest.raises(TypeError, match="forward-mode autodiff"):
        jax.jvp(loss, (x,), (x,))


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
    from fastseqloss import _callback

    hosts = set()
    real = _callback.apply

    def spy(host, *arguments):
        hosts.add(host)
        return real(host, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_callback, "apply", spy)
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
    from fastseqloss import _arguments

    x = scores(B, T, 4, dtype=dtype)
    array = _arguments.as_array("logits", x)
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
])  # fmt: skip
def test_errors_while_tracing(error, message, call):
    with pytest.raises(error, match=message):
        call()


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
