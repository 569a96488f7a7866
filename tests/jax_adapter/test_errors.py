"""Arrays of JAX in functions for NumPy, errors at run time and while tracing, options."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl
from jax_cases import (
    AT_RUN_TIME,
    FLOATS,
    LABEL_LENGTHS,
    LABELS,
    LENGTHS,
    PADDED,
    TAGS,
    WEIGHT,
    B,
    T,
    V,
    assert_close,
    fsj,
    jax,
    jnp,
    scores,
)
from thoroughness import thorough

pytestmark = pytest.mark.peers


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


@pytest.mark.parametrize("left_out", range(3))
def test_paddings_and_labels_are_required(left_out):
    given = [None if i == left_out else array for i, array in enumerate(PADDED)]
    name = ("logit_paddings", "labels", "label_paddings")[left_out]
    with pytest.raises(TypeError, match=f"{name} is None; allowed: an array"):
        fsj.ctc_loss(scores(B, T, V), *given)


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


@pytest.mark.parametrize("one", [5, *map(thorough, (np.int32(5), np.array(5), np.array([5]))), jnp.asarray(5), [5]])
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
        (
            r"sample_weight is not an array for JAX",
            lambda: fsj.softmax_cross_entropy(z, TAGS, sample_weight=[[1.0, 2.0], [1.0]]),
        ),
        (
            r"sample_weight has shape \(2, 7\); allowed: \(3,\) or ",
            lambda: fsj.softmax_cross_entropy(z, TAGS, sample_weight=np.ones((2, 7))),
        ),
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


def test_lists_that_contain_themselves():
    endless = [1]
    endless.append(endless)
    with pytest.raises(ValueError, match="lengths is nested too deeply; allowed: an array"):
        fsj.softmax_cross_entropy(scores(B, T, 4), TAGS, endless)
