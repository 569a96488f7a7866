"""Short calls that the handler computes without Python: which they are, the bits of their results, and their errors."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from fastseqloss._core import threads
from fastseqloss.jax.callback import HostLoss
from jax_cases import (
    AT_RUN_TIME,
    LABEL_LENGTHS,
    LABELS,
    LENGTHS,
    PADDED,
    TAGS,
    WEIGHT,
    B,
    T,
    V,
    call_python,
    fsj,
    jax,
    jnp,
    paddings,
)
from thoroughness import examples

pytestmark = pytest.mark.peers

FLOATS = np.float32, np.float64
INTEGERS = np.int32, np.int64
CTC = LABELS, LENGTHS, LABEL_LENGTHS
MASK = np.arange(T) < LENGTHS[:, None]
X, Z = (np.random.default_rng(0).normal(size=(B, T, n)) for n in (V, 4))


def has_plan(call, *arguments):
    return "plan = " in jax.jit(call).lower(*arguments).as_text()


def loss_and_gradient(call, x):
    """The losses, and the gradient of their sum, from one compiled program."""

    def summed(x):
        loss = call(x)
        return loss.sum(), loss

    gradient, loss = jax.jit(jax.grad(summed, has_aux=True))(x)
    return np.asarray(loss), np.asarray(gradient)


# ---- which calls are short -------------------------------------------------------------------

with_lengths, entropy = fsj.ctc_loss_with_lengths, fsj.softmax_cross_entropy


@pytest.mark.parametrize(("call", "x"), [
    (lambda x: with_lengths(x, LABELS), X),
    *((partial(with_lengths, labels=LABELS, logit_lengths=LENGTHS, label_lengths=LABEL_LENGTHS, **options), X)
      for options in ({}, {"reduction": "none"}, {"reduction": "sequence_mean"},
                      {"reduction": "sum", "normalizer": 2.0}, {"blank": -5}, {"input": "log_probs"},
                      {"input": "probs"}, {"infeasible": "zero"}, {"num_threads": 2})),
    (lambda x: with_lengths(x, LABELS[0], 8, 3), X[0]),
    (lambda x: fsj.ctc_loss(x, *PADDED), X),
    (jax.grad(lambda x: fsj.ctc_loss(x, *PADDED).sum()), X),
    (jax.vmap(lambda x: with_lengths(x, LABELS[0])), X[:1]),
    (jax.vmap(with_lengths), (X, *CTC)),
    (lambda x: entropy(x, TAGS), Z),
    *((partial(entropy, targets=TAGS, **options), Z)
      for options in ({"lengths": LENGTHS}, {"mask": MASK}, {"lengths": LENGTHS, "mask": MASK}, {"ignore_index": 2},
                      {"reduction": "none"}, {"reduction": "sum"}, {"num_threads": 1})),
    (lambda x: entropy(x, 1), Z[0, 0]),
    (lambda x: entropy(jnp.float16(x), TAGS), Z),
    (jax.grad(lambda x: entropy(x, TAGS, LENGTHS)), Z),
    (jax.vmap(partial(entropy, reduction="none")), (Z, TAGS)),
])  # fmt: skip
def test_calls_without_python(call, x, monkeypatch):
    arguments = x if isinstance(x, tuple) else (x,)
    assert has_plan(call, *arguments)
    with monkeypatch.context() as patch:
        call_python(patch)
        expected = jax.block_until_ready(jax.jit(lambda *arguments: call(*arguments))(*arguments))
    jax.clear_caches()
    monkeypatch.setattr(HostLoss, "into", None)  # a call raises TypeError
    np.testing.assert_array_equal(jax.jit(lambda *arguments: call(*arguments))(*arguments), expected)


@pytest.mark.parametrize(("call", "x"), [
    *((partial(with_lengths, labels=LABELS, **options), X)
      for options in ({"sample_weight": WEIGHT}, {"infeasible": "raise"}, {"blank": True}, {"blank": V}, {"input": "x"},
                      {"num_threads": 0}, {"num_threads": True}, {"infeasible": "x"})),
    (lambda x: with_lengths(x, LABELS.astype(np.int16)), X),
    (lambda x: with_lengths(x, LABELS[:, :0]), X),
    (lambda x: with_lengths(x, LABELS), X[:, :0]),
    (lambda x: with_lengths(x, LABELS[:2]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0].astype(int), *PADDED[1:]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0][:, :2], *PADDED[1:]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0], 1, PADDED[2]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0], LABELS[0], PADDED[2]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0], LABELS[None], PADDED[2]), X),
    (lambda x: fsj.ctc_loss(x, PADDED[0], LABELS, 0.0), X),
    (lambda x: with_lengths(x, np.ones((1, 50), int)), np.zeros((1, 5000, 50))),
    (jax.vmap(lambda x: with_lengths(x, LABELS[0])), X),
    *((partial(entropy, targets=TAGS, **options), Z)
      for options in ({"sample_weight": WEIGHT}, {"class_weight": np.ones(4)}, {"label_smoothing": 0.1},
                      {"z_loss": 1.0}, {"label_smoothing": False}, {"input": "log_probs"},
                      {"reduction": "per_sequence"}, {"reduction": "batch_mean"}, {"reduction": "sequence_mean"},
                      {"ignore_index": True},
                      {"ignore_index": 2**63}, {"reduction": "sum", "normalizer": 2.0}, {"mask": MASK.astype(int)})),
    (lambda x: entropy(x, jax.nn.softmax(x)), Z),
    (lambda x: entropy(x, TAGS[:1]), Z),
    (lambda x: entropy(x, np.zeros(200, int)), np.zeros((200, 5000))),
    (jax.vmap(entropy), (Z, TAGS)),
])  # fmt: skip
def test_other_calls(call, x):
    arguments = x if isinstance(x, tuple) else (x,)
    assert not has_plan(call, *arguments)


def test_calls_are_short_if_one_thread_is_enough(monkeypatch):
    call = partial(entropy, targets=TAGS)
    assert has_plan(call, Z)
    jax.clear_caches()
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    assert not has_plan(call, Z)


# ---- the bits of the results -----------------------------------------------------------------

SEEDS, DTYPES = st.integers(0, 2**32 - 1), st.sampled_from(FLOATS)
SPECIAL = [-np.inf, np.inf, np.nan, 0.0, 1e-42, 1e30, -1e30]


def values(rng, shape, dtype, special):
    """Scores, a few of them out of the ordinary."""
    x = rng.normal(size=shape).astype(dtype) * dtype(rng.choice([1, 30, 1000]))
    if special:
        x[rng.random(shape) < 0.1] = rng.choice(SPECIAL if special > 1 else SPECIAL[:1])
    return x


@examples(1.5)
@given(
    seed=SEEDS,
    dtype=DTYPES,
    integers=st.sampled_from(INTEGERS),
    shape=st.sampled_from([(3, 8, 5, 3), (1, 20, 10, 5), (4, 3, 2, 2)]),
    form=st.sampled_from(["lengths", "paddings", "single", "mapped", "full"]),
    blank=st.sampled_from([0, 1, -1]),
    options=st.sampled_from([{}, {"infeasible": "zero"}, {"input": "log_probs"}, {"input": "probs"}]),
    special=st.integers(0, 2),
)
def test_ctc_has_the_bits_of_numpy(seed, dtype, integers, shape, form, blank, options, special):
    rng = np.random.default_rng(seed)
    batch, n_frames, n_classes, width = shape
    x = values(rng, shape[:3], dtype, special)
    if options.get("input") == "probs":
        with np.errstate(all="ignore"):
            x = np.abs(x) % 1
    labels = (rng.integers(1, n_classes, (batch, width)) + blank % n_classes) % n_classes
    frames, lengths = rng.integers(0, n_frames + 1, batch), rng.integers(0, width + 1, batch)
    given = [array.astype(integers) for array in (labels, frames, lengths)]
    if form == "paddings":
        options = {}
        padded = paddings(frames, n_frames), given[0], paddings(lengths, width)
        call = lambda x: fsj.ctc_loss(x, *padded, blank)  # noqa: E731
    else:
        call = partial(with_lengths, blank=blank, reduction="none", **options)
        if form == "full":
            given = given[:1]
        call = {
            "single": lambda x, call=call: call(x[0], *(array[0] for array in given))[None],
            "mapped": lambda x, call=call: jax.vmap(call)(x, *map(jnp.asarray, given)),
        }.get(form, lambda x, call=call: call(x, *given))
    if form == "single":
        x, given = x[:1], [array[:1] for array in given]
    assert has_plan(call, x)
    loss, gradient = fsl.ctc_loss(x, *given, blank=blank, reduction="none", return_grad=True, **options)
    with np.errstate(over="ignore"):
        loss = loss.astype(dtype)
    found = loss_and_gradient(call, x)
    np.testing.assert_array_equal(found[0], loss)
    np.testing.assert_array_equal(found[1], gradient)


@examples(1.5)
@given(
    seed=SEEDS,
    dtype=DTYPES,
    integers=st.sampled_from(INTEGERS),
    shape=st.sampled_from([(3, 8, 5), (2, 3, 4, 3), (7, 300), (600, 2), (2, 9, 40)]),
    reduction=st.sampled_from(["none", "sum", "mean"]),
    padded=st.sampled_from([(), ("lengths",), ("mask",), ("lengths", "mask")]),
    ignore_index=st.sampled_from([-100, 1]),
    special=st.integers(0, 2),
)
def test_cross_entropy_has_the_bits_of_numpy(seed, dtype, integers, shape, reduction, padded, ignore_index, special):
    rng = np.random.default_rng(seed)
    steps = shape[:-1]
    x = values(rng, shape, dtype, special)
    targets = rng.integers(0, shape[-1], steps).astype(integers)
    targets[rng.random(steps) < 0.1] = ignore_index
    options = {"reduction": reduction, "ignore_index": ignore_index}
    if "lengths" in padded and len(steps) > 1:
        options["lengths"] = rng.integers(0, steps[1] + 1, steps[0]).astype(integers)
    if "mask" in padded:
        options["mask"] = rng.random(steps) < 0.7
    call = lambda x: entropy(x, targets, **options)  # noqa: E731
    assert has_plan(call, x)
    loss, gradient = fsl.softmax_cross_entropy(x, targets, return_grad=True, **options)
    with np.errstate(over="ignore"):
        loss = np.asarray(loss).astype(dtype)
    found = loss_and_gradient(call, x)
    np.testing.assert_array_equal(found[0], loss)
    np.testing.assert_array_equal(found[1], gradient)


def test_subnormal_gradients():
    """XLA's threads flush subnormal numbers to zero."""
    x, targets = np.zeros((1000, 4), np.float32), np.zeros(1000, int)
    x[:, 1] = -87  # its probability is a normal number, a thousandth of it is not
    expected = fsl.softmax_cross_entropy(x, targets, return_grad=True)[1]
    assert 0 < expected[0, 1] < np.finfo(np.float32).tiny
    call = lambda x: entropy(x, targets)  # noqa: E731
    assert has_plan(call, x)
    np.testing.assert_array_equal(loss_and_gradient(call, x)[1], expected)


# ---- errors ----------------------------------------------------------------------------------


def changed(array, value, *at):
    array = np.array(array)
    array[at] = value
    return array


BIG = 2**62


@pytest.mark.parametrize(("call", "x"), [
    *((lambda x, value=value: with_lengths(x, changed(LABELS, value, 1, 0), *CTC[1:]), X)
      for value in (0, -1, V, BIG, -BIG)),
    *((lambda x, value=value: with_lengths(x, LABELS, changed(LENGTHS, value, 1), CTC[2]), X)
      for value in (-1, T + 1, BIG, -BIG)),
    *((lambda x, value=value: with_lengths(x, LABELS, LENGTHS, changed(LABEL_LENGTHS, value, 2)), X)
      for value in (-1, 4, BIG, -BIG)),
    (lambda x: with_lengths(x, changed(LABELS, 0, 2, 2)), X),
    *((lambda x, at=at, value=value: fsj.ctc_loss(x, changed(PADDED[0], value, *at), *PADDED[1:]), X)
      for at, value in (((1, 6), 0), ((0, 0), 1), ((2, 2), 0.5), ((0, 7), np.nan), ((1, 2), 2))),
    (lambda x: fsj.ctc_loss(x, *PADDED[:2], changed(PADDED[2], 0, 2, 2)), X),
    *((lambda x, value=value: entropy(x, changed(TAGS, value, 1, 2)), Z) for value in (-1, 4, BIG, -BIG)),
    *((lambda x, value=value: entropy(x, TAGS, changed(LENGTHS, value, 1)), Z) for value in (-1, T + 1, BIG, -BIG)),
    (lambda x: entropy(x, changed(TAGS, 9, 1, 2), mask=MASK), Z),
])  # fmt: skip
def test_errors_are_those_of_python(call, x, monkeypatch):
    def message(monkeypatch=None):
        call_python(monkeypatch) if monkeypatch else jax.clear_caches()
        with pytest.raises(AT_RUN_TIME) as caught:
            jax.block_until_ready(jax.jit(jax.grad(lambda x: call(x).sum()))(x))
        return str(caught.value)

    assert has_plan(call, x)
    text = message()
    assert "ValueError: " in text
    assert text == message(monkeypatch)
    jax.clear_caches()


def test_padding_is_not_checked():
    """Values that are not read may be anything."""
    labels = np.where(np.arange(3) < LABEL_LENGTHS[:, None], LABELS, BIG)
    targets = np.where(MASK, TAGS, -BIG)
    calls = [
        (lambda x: with_lengths(x, labels, *CTC[1:]), lambda x: with_lengths(x, *CTC), X),
        (lambda x: entropy(x, targets, LENGTHS), lambda x: entropy(x, TAGS, LENGTHS), Z),
        (lambda x: entropy(x, targets, mask=MASK), lambda x: entropy(x, TAGS, LENGTHS), Z),
    ]
    for call, expected, x in calls:
        assert has_plan(call, x)
        np.testing.assert_array_equal(loss_and_gradient(call, x)[1], loss_and_gradient(expected, x)[1])
