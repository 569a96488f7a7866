"""Losses under vmap and scan, and in compiled programs."""

import numpy as np
import pytest

import fastseqloss as fsl
from fastseqloss.jax import functions
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
)

pytestmark = pytest.mark.peers


def test_mapped_sequences_become_a_batch(monkeypatch):
    calls = count_calls(monkeypatch, "ctc_loss")
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
    calls = count_calls(monkeypatch, "ctc_loss")
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
    calls = count_calls(monkeypatch, "softmax_cross_entropy")
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
    """Each sequence has separate gradients, of separate or shared parameters."""
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
        for module in (fsj, functions):
            patch.setattr(module, "apply", spy)
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
