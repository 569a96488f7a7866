"""Losses of JAX arrays are those of NumPy arrays, and of optax."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl
from jax_cases import (
    FLOATS,
    LABEL_LENGTHS,
    LABELS,
    LENGTHS,
    PADDED,
    SEQUENCE_REDUCTIONS,
    STEP_REDUCTIONS,
    TAGS,
    WEIGHT,
    B,
    S,
    T,
    V,
    assert_close,
    fsj,
    jax,
    jnp,
    paddings,
    scores,
)
from thoroughness import spread

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(("reduction", "dtype"), spread(SEQUENCE_REDUCTIONS, FLOATS, every=2))
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


@pytest.mark.parametrize(("reduction", "dtype"), spread(STEP_REDUCTIONS, FLOATS, every=4))
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
