"""Losses of the table as functions of JAX arrays: values, gradients and errors of the NumPy functions."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest

pytestmark = pytest.mark.peers

from adapter_cases import (  # noqa: E402
    arguments,
    assert_described,
    batch_of_one,
    differentiable,
    every_loss,
    every_loss_by_targets,
    every_reduction,
    every_way,
    in_turn,
    numpy_answer,
    reducing,
    some_losses,
    variants,
    with_distributions,
)
from jax_cases import AT_RUN_TIME, FLOATS, assert_close, fsj, jax, jnp, test_util  # noqa: E402


def split(row, given, names=None) -> tuple[dict, dict]:
    """Arguments to differentiate by, as arrays of JAX, and the others."""
    names = [name for name in names or row.scores if name in given]
    rest = {name: value for name, value in given.items() if name not in names}
    return {name: jnp.asarray(given[name]) for name in names}, rest


def bound(row, rest, **options):
    """The loss as a function of a dictionary of scores."""
    return lambda scores: getattr(fsj, row.name)(**scores, **rest, **options)


@every_reduction
def test_as_numpy(row, reduction):
    tolerance = 1e-13 if row.of_labels else 1e-14  # JAX reduces the losses of sequences
    for given in variants(row):
        scores, rest = split(row, given)
        loss, pullback = jax.vjp(jax.jit(bound(row, rest, **reducing(row, reduction))), scores)
        value, expected = numpy_answer(row, given, **reducing(row, reduction))
        assert_close(loss, value, tolerance)
        slope = jnp.linspace(-1, 2, max(loss.size, 1)).reshape(loss.shape) if not row.shares_scores else 1 + 0 * loss
        for name, gradient in pullback(slope)[0].items():
            ahead = np.asarray(slope)[None] if reduction == "step_mean" else np.asarray(slope)
            spread = ahead.reshape(ahead.shape + (1,) * (gradient.ndim - ahead.ndim))
            assert_close(gradient, expected[name] * spread if not row.shares_scores else expected[name], tolerance)
        assert_close(bound(row, rest, **reducing(row, reduction))(scores), loss, tolerance)


@every_way
def test_mapped(row, reduction):
    """Mapped axes, whatever becomes of them: as one call after the other."""
    for given in variants(row):
        scores, rest = split(row, given)
        twice = {name: jnp.stack([x, x * 0.5]) for name, x in scores.items()}
        loss = bound(row, rest, **reducing(row, reduction))
        losses, gradients = jax.vmap(jax.value_and_grad(lambda x, loss=loss: loss(x).sum()))(twice)
        for i in range(2):
            once = {name: x[i] for name, x in twice.items()}
            value, gradient = jax.value_and_grad(lambda x, loss=loss: loss(x).sum())(once)
            assert_close(losses[i], value, 1e-13)
            for name, array in gradient.items():
                assert_close(gradients[name][i], array, 1e-13)


@every_loss
def test_mapped_with_all_arguments(row):
    """All arrays of sequences are mapped, too, so that a function of one batch becomes one of several."""
    given = arguments(row)
    mapped = [name for name, value in given.items()
              if name not in (*row.static, *row.shared) and isinstance(value, np.ndarray)]  # fmt: skip
    rest = {name: value for name, value in given.items() if name not in mapped}
    twice = [np.stack([given[name], given[name][::-1]]) for name in mapped]
    apart = reducing(row, "none" if "none" in row.reductions else "per_sequence")

    def one(*arrays):
        return getattr(fsj, row.name)(**dict(zip(mapped, arrays, strict=True)), **rest, **apart)

    losses = jax.jit(jax.vmap(one))(*twice)
    for i in range(2):
        assert_close(losses[i], one(*(array[i] for array in twice)), 1e-13)


@every_reduction
def test_mapped_over_nothing(row, reduction):
    """Axes of length 0, alone and next to others."""
    scores, rest = split(row, arguments(row))
    loss = bound(row, rest, **reducing(row, reduction))
    shape = loss(scores).shape
    for ahead in ((0,), (2, 0), (0, 2)):
        mapped, slopes = loss, jax.grad(lambda x: loss(x).sum())
        for _ in ahead:
            mapped, slopes = jax.vmap(mapped), jax.vmap(slopes)
        none = {name: jnp.zeros((*ahead, *x.shape)) for name, x in scores.items()}
        assert np.asarray(mapped(none)).shape == (*ahead, *shape)
        for name, gradient in jax.jit(slopes)(none).items():
            assert np.asarray(gradient).shape == none[name].shape
    first = next(iter(scores))
    partly = jax.vmap(lambda x: loss(scores | {first: x}))
    assert np.asarray(partly(jnp.zeros((0, *scores[first].shape)))).shape == (0, *shape)


@every_reduction
def test_cotangents_of_python_and_numpy(row, reduction):
    scores, rest = split(row, arguments(row))
    loss, pullback = jax.vjp(bound(row, rest, **reducing(row, reduction)), scores)
    slopes = [np.full(loss.shape, 2.0)] if loss.ndim else [2.0, np.float64(2.0), np.array(2.0)]
    expected = pullback(jnp.full(loss.shape, 2.0))[0]
    for slope in slopes:
        for name, gradient in pullback(slope)[0].items():
            assert_close(gradient, expected[name], 0)


@every_way
def test_some_scores_alone(row, reduction):
    """Scores that are not differentiated, such as a frozen layer, change no gradient of the others."""
    scores, rest = split(row, arguments(row))
    loss, pullback = jax.vjp(bound(row, rest, **reducing(row, reduction)), scores)
    slope = np.linspace(-1, 2, max(loss.size, 1)).reshape(loss.shape)
    expected = pullback(slope)[0]
    for name in scores:
        others = {other: value for other, value in scores.items() if other != name}
        alone = jax.vjp(bound(row, rest | others, **reducing(row, reduction)), {name: scores[name]})[1]
        assert_close(alone(slope)[0][name], expected[name], 1e-13)


@some_losses
def test_dtypes_that_numpy_lacks(row):
    """Integers of 2 and 4 bits, floats of 4 to 8 bits; no random keys."""
    function, given = getattr(fsj, row.name), arguments(row)
    expected = function(**given)
    for name, value in given.items():
        if name in (*row.scores, *row.static) or not isinstance(value, np.ndarray):
            continue
        if value.dtype.kind in "iu":
            for dtype in ("int4", "uint4", *(["uint2"] if hasattr(ml_dtypes, "uint2") else [])):  # from 0.5 on
                if value.min() >= 0 and value.max() <= int(jnp.iinfo(dtype).max):
                    assert_close(function(**given | {name: jnp.asarray(value, dtype)}), expected, 0)
        elif value.dtype.kind == "f" and not (row.by_targets and name == "targets"):
            small = jnp.asarray(value, "float8_e4m3fn")
            assert_close(function(**given | {name: small}), function(**given | {name: small.astype("float32")}), 0)
        if value.ndim and not (row.by_targets and name == "targets"):
            keys = jax.random.split(jax.random.key(0), value.shape)
            with pytest.raises(TypeError, match=rf"{name} has dtype key<fry>; allowed: dtypes of NumPy"):
                function(**given | {name: keys})
    if "sample_weight" in row.parameters:
        weight = jnp.ones(3, "float8_e5m2")
        assert_close(function(**given, sample_weight=weight), function(**given, sample_weight=np.ones(3)), 0)


@in_turn("dtype", lambda *_: FLOATS)
def test_dtypes(row, dtype):
    given = {name: jnp.asarray(value, dtype) if name in row.scores else value
             for name, value in arguments(row).items()}  # fmt: skip
    scores, rest = split(row, given)
    loss, gradients = jax.value_and_grad(lambda scores: bound(row, rest)(scores).sum())(scores)
    wide = {name: np.asarray(x, np.float64 if dtype == "float64" else np.float32) for name, x in scores.items()}
    value, expected = numpy_answer(row, given | wide)
    assert loss.dtype == ("float64" if dtype == "float64" else "float32")
    assert_close(loss, np.sum(value), 1e-13 if dtype == "float64" else 1e-6)
    for name, gradient in gradients.items():
        assert gradient.dtype == dtype
        assert_close(gradient, expected[name], 1e-13 if dtype == "float64" else 2 * float(jnp.finfo(dtype).eps))


@every_way
def test_check_grads(row, reduction):
    scores, rest = split(row, differentiable(row))
    call = jax.jit(bound(row, rest, **reducing(row, reduction)))
    test_util.check_grads(call, (scores,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@every_loss_by_targets
@pytest.mark.parametrize("alone", [False, True])
def test_gradients_by_targets(row, alone):
    given = with_distributions(row, arguments(row))
    names = ("targets",) if alone else (*row.scores, "targets")
    for reduction in row.reductions:
        scores, rest = split(row, given, names)
        loss, pullback = jax.vjp(jax.jit(bound(row, rest, reduction=reduction)), scores)
        value, expected = numpy_answer(row, given, reduction=reduction)
        assert_close(loss, value, 0)
        gradients = pullback(jnp.ones_like(loss))[0]
        for name in names:
            assert_close(gradients[name], expected[name], 1e-14)
    smooth = scores | {"targets": 0.1 + 0.8 * jnp.asarray(np.random.default_rng(0).random(scores["targets"].shape))}
    test_util.check_grads(bound(row, rest), (smooth,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    mapped = jax.vmap(jax.grad(lambda x: bound(row, rest, reduction="none")(x).sum()))(
        {name: jnp.stack([x, x]) for name, x in smooth.items()}
    )
    once = jax.grad(lambda x: bound(row, rest, reduction="none")(x).sum())(smooth)
    for name in names:
        assert_close(mapped[name][1], once[name], 1e-14)
    with pytest.raises(ValueError, match=r"targets has shape .*; allowed: .*\(3, "):
        getattr(fsj, row.name)(**given | {"targets": given["targets"][:2]})


@every_loss
def test_other_derivatives(row):
    scores, rest = split(row, arguments(row))
    loss = bound(row, rest)
    with pytest.raises(TypeError, match=r"first derivatives in reverse mode only|forward-mode"):
        jax.jvp(loss, (scores,), (scores,))
    total = lambda x: sum(g.sum() for g in jax.grad(loss)(x).values())  # noqa: E731
    with pytest.raises(TypeError, match="first derivatives in reverse mode only"):
        jax.grad(total)(scores)


@every_loss
def test_errors_name_the_argument(row):
    function, given = getattr(fsj, row.name), arguments(row)
    for name in row.scores:
        if name in given:
            with pytest.raises(TypeError, match=f"{name} has dtype int64; allowed: float16"):
                function(**given | {name: given[name].astype(int)})
    bad, shown = (np.zeros((3, 1)), "3, 1") if row.axes == 0 else (np.zeros(()), "")
    with pytest.raises(ValueError, match=rf"{row.scores[0]} has shape \({shown}\); allowed: "):
        function(**given | {row.scores[0]: bad})
    weight = {"sample_weight": np.ones(3)} if "sample_weight" in row.parameters else {}
    floats = weight | {
        name: value for name, value in given.items()
        if name in row.arrays and isinstance(value, np.ndarray) and value.dtype.kind == "f"
        and not (name == "targets" and row.by_targets)}  # fmt: skip
    for name, value in floats.items():
        with pytest.raises(TypeError, match=f"{name} is differentiated, and the loss has no derivative by it here"):
            jax.grad(lambda x, name=name: function(**given | {name: x}))(jnp.asarray(value))
    for name in row.required - {*row.scores, *row.static}:
        if row.by_targets and name == "targets":
            continue
        with pytest.raises(TypeError, match=f"{name} is None; allowed: an array"):
            function(**given | {name: None})
    with pytest.raises(TypeError, match=f"^{row.name} has no argument 'nonsense'"):
        function(**given, nonsense=1)
    with pytest.raises(AT_RUN_TIME, match="num_threads"):
        jax.block_until_ready(function(**given, num_threads=0))
    if "reduction" not in row.parameters:
        return
    with pytest.raises(ValueError, match="reduction is 'x'"):
        function(**given, reduction="x")
    with pytest.raises(AT_RUN_TIME, match="normalizer"):
        jax.block_until_ready(function(**given, reduction="sum", normalizer=-1.0))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        function(**given, sample_weight=np.ones(7))
    with pytest.raises(TypeError, match="normalizer is traced by JAX"):
        jax.jit(lambda n: function(**given, reduction="sum", normalizer=n))(2.0)


@every_loss
def test_masks_and_lengths(row):
    """Masks are also integers of 0 and 1, and lengths of a batch of one arrays without axes."""
    function = getattr(fsj, row.name)
    for given in variants(row):
        if "mask" not in given:
            continue
        expected = function(**given)
        for dtype in ("uint8", "int8", "int32", "int64"):
            mask = jnp.asarray(given["mask"], dtype)
            assert_close(function(**given | {"mask": mask}), expected, 0)
            with pytest.raises(AT_RUN_TIME, match=r"mask\[0, [\d, ]+\] is 2; allowed: 0 and 1"):
                jax.block_until_ready(function(**given | {"mask": 2 * mask}))
    one = batch_of_one(row)
    expected = function(**one)
    for name in row.per_sequence & one.keys():
        for value in (jnp.asarray(one[name][0]), int(one[name][0])):
            assert_close(function(**one | {name: value}), expected, 0)


@every_loss
def test_numbers_are_not_rounded(row):
    """A parameter that is a number stays one of float64 if the scores are of float32."""
    function, given = getattr(fsj, row.name), arguments(row, "float32")
    for name in row.shared:
        if row.parameters[name].default in (None, 0.5) and name in ("q", "pos_weight"):
            value, _ = row.function(**given, **{name: 0.3}, return_grad=True)
            jax.config.update("jax_enable_x64", False)
            assert function(**given, **{name: 0.3}) == np.float32(value)


@every_loss
def test_signature_and_docstring(row):
    assert_described(row, getattr(fsj, row.name))


def test_forms_of_clip():
    given = arguments(fsj.losses.LOSSES["clipped_policy_loss"])
    call = partial(fsj.clipped_policy_loss, **given)
    right = call(clip=(0.1, 0.3))
    for form in (list, np.array, jnp.array):
        assert call(clip=form((0.1, 0.3))) == right
    with pytest.raises(TypeError, match=r"clip is \{0: 1\}; allowed: a number, or two"):
        call(clip={0: 1})
