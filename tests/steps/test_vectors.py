"""Losses of a vector of scores and a vector of targets at each step: divergence, sparsemax, cosine, labels."""

import re
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import HALF, KINDS, scores_like
from fastseqloss.steps.registry import INDICATORS, NUMBERS, VECTORS
from reference import steps as reference
from step_cases import FLOATS, LAYOUTS, REDUCTIONS, assert_gradient, assert_same, assert_within, reducings
from thoroughness import examples, spread

every_loss = pytest.mark.parametrize("name", VECTORS)
BY_TARGETS = [name for name, row in VECTORS.items() if row.targets != INDICATORS]
every_loss_by_targets = pytest.mark.parametrize("name", BY_TARGETS)
WAYS = [(a, b, way) for a in KINDS for b in KINDS for way in ("forward", "reverse")]
FORMS = {  # options of each loss
    "kl_divergence": [
        {"input": a, "target_input": b, "direction": way} | ({"temperature": 1.5} if "logits" in (a, b) else {})
        for a, b, way in WAYS
    ],
    "sparsemax": [{}],
    "cosine_distance": [{}],
    "multilabel_margin": [{}, {"margin": 0.3}],
}
SOME = [(name, form) for name, forms in FORMS.items() for form in forms[:: 5 if len(forms) > 5 else 1]]
some_forms = pytest.mark.parametrize(("name", "form"), SOME)


def batch(rng, name, shape, form=None, dtypes=(np.float64, np.float64), scale=1.0):
    """Scores and targets of the kinds that the options name."""
    x, y = rng.normal(scale=scale, size=(2, *shape))
    form = form or {}
    if name == "kl_divergence":
        given = form.get("input", "logits"), form.get("target_input", "probs")
        x, y = (scores_like(a, kind, dtype) for a, kind, dtype in zip((x, y), given, dtypes, strict=True))
    elif name == "sparsemax":
        y = scores_like(y, "probs")
    elif name == "multilabel_margin":
        y = rng.random(shape) < rng.choice([0.05, 0.5, 0.9])
    return x.astype(dtypes[0]), y.astype(dtypes[1])


def call(name, *arguments, **options):
    return getattr(fsl, VECTORS[name].function)(*arguments, **options)


def by_both(name, *arguments, **options):
    return call(name, *arguments, **options, with_respect_to=(VECTORS[name].scores, "targets"))


def expected(name, x, y, counts, reducing, form):
    """The reduced loss and its gradients by the reference; `size` is that of what the gradients add up."""
    wide = [a[counts] if a.dtype.kind in "iu" else a[counts].astype(np.longdouble) for a in (x, y)]
    with np.errstate(all="ignore"):
        found = reference.OF_VECTORS[VECTORS[name].function](*wide, **form)
    losses = np.zeros(counts.shape, np.longdouble)
    losses[counts] = found[0]
    answers = []
    for slopes in found[1:]:
        every = np.zeros(x.shape, np.longdouble)
        every[counts] = slopes
        steps = reference.Steps(losses, every, counts.astype(np.longdouble), np.abs(every))
        answers.append(reference.reduce(steps, **reducing))
    return answers[0][0], answers[0][1], answers[1][1]


@st.composite
def problems(draw, name):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(1, most)) for most in (4, 5, 2)[: draw(st.integers(1, 3))])
    width = draw(st.sampled_from((1, 2, 3, 7, 16, 33, 150, 300)))
    form = draw(st.sampled_from(FORMS[name]))
    dtypes = draw(st.sampled_from(FLOATS)), draw(st.sampled_from(FLOATS))
    x, y = batch(rng, name, (*shape, width), form, dtypes, draw(st.sampled_from((0.1, 1.0, 10.0))))
    if name == "sparsemax" and draw(st.booleans()):
        y = rng.integers(0, width, shape)
    lengths = rng.integers(0, shape[1] + 1, shape[0]) if len(shape) > 1 and draw(st.booleans()) else None
    mask = rng.random(shape) < 0.7 if draw(st.booleans()) else None
    counts = reference.counting(shape, lengths, mask)
    for array in (x, y):
        array[~counts] = -7 if array.dtype.kind in "iu" else np.nan
    return x, y, counts, form, {"lengths": lengths, "mask": mask}, draw(reducings(counts, (len(shape),)))


@every_loss
@examples(1.0)
@given(data=st.data())
def test_matches_reference(level, name, data):
    x, y, counts, form, options, reducing = data.draw(problems(name))
    wanted, *slopes = expected(name, x, y, counts, reducing, form)
    loss, gradient = call(name, x, y, **options, **form, **reducing, return_grad=True)
    scale = np.abs(np.where(np.isfinite(wanted), wanted, 0)).max(initial=0) + 1
    single = name == "kl_divergence" and np.float64 not in (x.dtype, y.dtype)  # computed in float32
    weight = max(1, np.abs(reducing.get("sample_weight", 1)).max())
    assert_within(loss, wanted, (3e-6 if single else 1e-12) * scale * weight, "loss")
    found = {VECTORS[name].scores: gradient}
    if name in BY_TARGETS and y.dtype.kind != "i":
        again, both = by_both(name, x, y, **options, **form, **reducing)
        np.testing.assert_array_equal(again, loss)
        np.testing.assert_array_equal(both[0], gradient)
        found["targets"] = both.targets
    for (side, gradient), slope in zip(found.items(), slopes, strict=False):
        array = y if side == "targets" else x
        assert (gradient.dtype, gradient.shape) == (array.dtype, array.shape)
        assert not gradient[~counts].any()
        size = np.where(np.isfinite(slope), np.abs(slope), 0).astype(float)
        epsilon = 3e-6 if single else 1e-12 if array.dtype != np.float32 else 2e-7
        least = (3e-7 if single else 1e-13) * scale
        assert_gradient(gradient, slope.astype(float), epsilon * (size + 0.1 * size.max(initial=0)) + least)
    np.testing.assert_array_equal(call(name, x, y, **options, **form, **reducing), loss)


@pytest.mark.parametrize(("chosen", "reduction"), spread(SOME, REDUCTIONS, every=7))
def test_central_differences(chosen, reduction):
    name, form = chosen
    rng, step = np.random.default_rng(1), 1e-6
    x, y = batch(rng, name, (3, 3, 4), form)
    options = {"lengths": [3, 2, 0], "reduction": reduction, "sample_weight": [1.0, 0.5, 2.0]} | form
    if name in BY_TARGETS:
        _, gradients = by_both(name, x, y, **options)
    else:
        gradients = (call(name, x, y, **options, return_grad=True)[1],)
    for k, gradient in enumerate(gradients):
        for at in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy(), y.copy()]
                moved[k][at] += sign * step
                ends.append(np.sum(call(name, *moved, **options)))
            assert gradient[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=2e-8)


@some_forms
def test_bits_depend_on_nothing_else(level, name, form):
    """Neither on threads, layouts and neighbours, nor on where gradients are written and which are wanted."""
    x, y = batch(np.random.default_rng(1), name, (3, 40, 130), form, (np.float32, np.float32))
    options = {"reduction": "none"} | form
    loss, gradient = call(name, x, y, **options, return_grad=True, num_threads=1)
    for layout in LAYOUTS:
        assert_same(call(name, layout(x), layout(y), **options, return_grad=True, num_threads=4), [loss, gradient])
    alone = call(name, x[1:2], y[1:2], **options, return_grad=True)
    assert_same([alone[0][0], alone[1][0]], [loss[1], gradient[1]])
    weighted = call(name, x, y, **options, sample_weight=np.ones((3, 40)), return_grad=True)
    assert_same(weighted, [loss, gradient])
    out = np.empty_like(x)
    assert call(name, x, y, **options, grad_out=out)[1] is out
    assert_same([out], [gradient])
    over = x.copy()
    call(name, over, y, **options, grad_out=over)
    assert_same([over], [gradient])
    targets = y.copy()
    call(name, x, targets, **options, grad_out=targets)  # the array of the targets, which are read before
    assert_same([targets], [gradient])


@every_loss_by_targets
def test_arrays_given_for_gradients(name):
    x, y = batch(np.random.default_rng(2), name, (3, 4, 5))
    loss, both = by_both(name, x, y)
    outs = np.empty_like(x), np.empty_like(y)
    found = by_both(name, x, y, grad_out=outs)
    assert found[0] == loss
    assert all(a is b for a, b in zip(found[1], outs, strict=True))
    assert_same(outs, both)
    alone = call(name, x, y, with_respect_to=("targets",), grad_out=(None, outs[1]))[1]
    assert alone[0] is None
    assert alone.targets is outs[1]
    assert_same([outs[1]], [both.targets])
    for layout in LAYOUTS:
        assert_same(by_both(name, layout(x), layout(y))[1], both)
    in_place = by_both(name, x, y, grad_out=(x, y))[1]
    assert in_place[0] is x
    assert_same(in_place, both)


@every_loss
@pytest.mark.parametrize("dtype", [*HALF, np.float32, np.dtype(">f8")])
def test_dtypes(name, dtype):
    """Computed in float64 and rounded once, but for divergences of float32 and half precision."""
    x, y = (a.astype(dtype) for a in batch(np.random.default_rng(3), name, (2, 3, 5)))
    loss, gradient = call(name, x, y, return_grad=True)
    wide = call(name, x.astype(np.float64), y.astype(np.float64), return_grad=True)
    assert gradient.dtype == dtype
    if name == "kl_divergence" and gradient.itemsize < 8:
        assert loss == pytest.approx(wide[0], rel=1e-6)
        again = call(name, x.astype(np.float32), y.astype(np.float32), return_grad=True)
        assert loss == again[0]
        np.testing.assert_allclose(again[1], wide[1], rtol=1e-5, atol=1e-7)
        wide = again
    assert loss == wide[0]
    assert_same([gradient], [wide[1].astype(dtype)])


@every_loss
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_sequences_that_share_memory(name, dtype):
    """Arrays with an axis of stride 0 give the same as copies."""
    x, y = (a.astype(dtype) for a in batch(np.random.default_rng(12), name, (1, 3, 9)))
    both = [np.broadcast_to(a, (2, 3, 9)) for a in (x, y)]
    assert_same(
        call(name, *both, reduction="none", return_grad=True),
        call(name, *(a.copy() for a in both), reduction="none", return_grad=True),
    )


# ---- ends of the range --------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS])
def test_impossible_classes_of_a_divergence(kinds):
    """0 log 0 is 0, and a class that the other distribution excludes makes the loss inf."""
    p, q = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.25, 0.25, 0.5, 0.0])
    with np.errstate(divide="ignore"):
        of_p, of_q = (np.log(a) if kind != "probs" else a for a, kind in zip((p, q), kinds, strict=True))
    options = {"input": kinds[0], "target_input": kinds[1], "reduction": "none"}
    loss, gradient = by_both("kl_divergence", of_p[None], of_q[None], **options, direction="reverse")
    assert loss[0] == pytest.approx(np.log(2), rel=1e-15)
    assert not np.isnan(gradient.logits).any()
    by_q = {"probs": [-2, -2, 0, 0], "log_probs": [-0.5, -0.5, 0, 0], "logits": [-0.25, -0.25, 0.5, 0]}[kinds[1]]
    np.testing.assert_allclose(gradient.targets[0], by_q, rtol=1e-14, atol=1e-15)
    by_p = {
        "probs": [np.log(2) + 1, np.log(2) + 1, -np.inf, np.inf],
        "log_probs": [(np.log(2) + 1) / 2] * 2 + [0, 0],
        "logits": [0, 0, 0, 0],
    }[kinds[0]]
    np.testing.assert_allclose(gradient.logits[0], by_p, rtol=1e-14, atol=1e-15)
    loss, gradient = by_both("kl_divergence", of_p[None], of_q[None], **options, direction="forward")
    assert loss[0] == np.inf
    assert not np.isnan(gradient.logits).any()
    assert not np.isnan(gradient.targets).any()


def test_divergence_of_nearly_equal_distributions():
    """No rounding of large terms, and no negative divergence of two softmaxes."""
    rng = np.random.default_rng(0)
    x, d = rng.normal(size=(50, 40)) * 5, rng.normal(size=(50, 40))
    p = reference.log_softmax(x.astype(np.longdouble))[0]
    for size in (0, 1e-3, 1e-5):
        y = x + size * d
        loss = fsl.kl_divergence(x, y, target_input="logits", reduction="none")
        q = reference.log_softmax(y.astype(np.longdouble))[0]
        np.testing.assert_allclose(loss, (np.exp(q) * (q - p)).sum(axis=1), rtol=1e-6, atol=2e-15)
        assert (loss >= 0).all()
        assert (fsl.kl_divergence(x, y, target_input="logits", direction="reverse", reduction="none") >= 0).all()


@pytest.mark.parametrize("name", ["kl_divergence", "sparsemax", "multilabel_margin"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(name, bad):
    """They spoil their own step alone."""
    x, y = batch(np.random.default_rng(4), name, (2, 3, 5))
    right = call(name, x, y, reduction="none", return_grad=True)
    x[1, 1, 2] = bad
    y[1, 1, :2] = [0, 1]  # a label and another class, whatever the random ones are
    loss, gradient = call(name, x, y, reduction="none", return_grad=True)
    assert np.isnan(loss[1, 1])
    assert np.isnan(gradient[1, 1]).all()
    loss[1, 1], gradient[1, 1] = right[0][1, 1], right[1][1, 1]
    assert_same([loss, gradient], right)


def test_rows_of_logits_that_are_all_impossible():
    x = np.full((1, 3), -np.inf)
    for function, targets in ((fsl.kl_divergence, [[0.5, 0.5, 0]]), (fsl.sparsemax_loss, [1])):
        loss, gradient = function(x, targets, return_grad=True)
        assert loss == np.inf
        assert not gradient.any()
    loss, gradient = fsl.kl_divergence(x, [[0.5, 0.5, 0]], direction="reverse", return_grad=True)
    assert loss == np.inf
    assert not gradient.any()
    loss, gradient = fsl.multilabel_margin_loss(x, [[0, 1, 0]], return_grad=True)
    assert loss == 0
    assert not gradient.any()


def test_classes_that_are_masked_out():
    """Classes with scores of -inf have the effect of absent classes."""
    x = np.random.default_rng(5).normal(size=(4, 6))
    less = np.concatenate([x, np.full((4, 2), -np.inf)], axis=1)
    pad = partial(np.pad, pad_width=((0, 0), (0, 2)))
    labels = np.array([0, 5, 3, 3])
    assert_same(
        fsl.sparsemax_loss(less, labels, return_grad=True),
        [(found := fsl.sparsemax_loss(x, labels, return_grad=True))[0], pad(found[1])],
    )
    soft = np.random.default_rng(6).dirichlet(np.ones(6), 4)
    loss, gradient = fsl.kl_divergence(less, pad(soft), return_grad=True)
    right = fsl.kl_divergence(x, soft, return_grad=True)
    np.testing.assert_allclose(loss, right[0], rtol=1e-14)
    np.testing.assert_allclose(gradient, pad(right[1]), rtol=1e-13, atol=1e-16)
    ones = np.eye(6)[labels]
    loss, gradient = fsl.multilabel_margin_loss(less, pad(ones), reduction="sum", return_grad=True)
    right = fsl.multilabel_margin_loss(x, ones, reduction="sum", return_grad=True)
    np.testing.assert_allclose(loss * 8, right[0] * 6, rtol=1e-14)
    np.testing.assert_allclose(gradient * 8, pad(right[1]) * 6, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e150, 1e300])
def test_cosine_of_vectors_of_any_length(scale):
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 3, 8))
    loss, gradient = by_both("cosine_distance", x, y, reduction="none")
    tiny = scale < 1e-310
    found = by_both("cosine_distance", x * scale, y, reduction="none")
    np.testing.assert_allclose(found[0], loss, rtol=1e-2 if tiny else 1e-13)
    rtol, atol = (0.1, 1e-3) if tiny else (1e-13, 0)
    np.testing.assert_allclose(found[1].targets, gradient.targets, rtol=rtol, atol=atol)
    if not tiny:
        np.testing.assert_allclose(found[1].predictions * scale, gradient.predictions, rtol=1e-12)
    assert np.isfinite(found[0]).all()


def test_cosine_of_zeros_and_of_nearly_equal_vectors():
    x, y = np.zeros((3, 4)), np.ones((3, 4))
    y[1] = 0
    loss, gradient = by_both("cosine_distance", x, y, reduction="none")
    assert loss.tolist() == [1, 1, 1]
    assert not gradient.predictions.any()
    assert not gradient.targets.any()
    assert fsl.cosine_distance_loss(np.zeros((2, 0)), np.zeros((2, 0))) == 1
    rng = np.random.default_rng(8)
    a = rng.normal(size=(5, 9))
    for size in (1e-3, 1e-7, 1e-12):
        b = a * 3 + size * rng.normal(size=a.shape)
        loss = fsl.cosine_distance_loss(a, b, reduction="none")
        wide = [w.astype(np.longdouble) for w in (a, b)]
        u, v = (w / np.linalg.norm(w, axis=1, keepdims=True) for w in wide)
        np.testing.assert_allclose(loss, ((u - v) ** 2).sum(axis=1) / 2, rtol=1e-3 if size < 1e-8 else 1e-8)
        np.testing.assert_allclose(loss, reference.cosine_distance_loss(*wide)[0].astype(float), atol=1e-15)


def test_sparsemax_with_ties_and_many_classes():
    """Thousands of equal scores share; one far above takes all."""
    loss, gradient = fsl.sparsemax_loss(np.zeros((1, 4096)), [7], return_grad=True)
    np.testing.assert_allclose(gradient + np.eye(1, 4096, 7), 1 / 4096, rtol=1e-12)
    assert loss == pytest.approx((1 - 1 / 4096) / 2, rel=1e-12)
    x = np.linspace(0, 1, 3000)[None] ** 3
    p = fsl.sparsemax_loss(x, [0], return_grad=True)[1] + np.eye(1, 3000)
    np.testing.assert_allclose(p, reference.sparsemax(x.astype(np.longdouble)).astype(float), atol=1e-15)
    assert fsl.sparsemax_loss(np.array([[3.0, 2.0, 1.0]]), [0]) == 0
    assert fsl.sparsemax_loss(np.array([[1e300, 0.0]]), [1]) == pytest.approx(1e300)


@pytest.mark.parametrize("labels", [1, 63, 64, 65, 150, 235, 299, 300])
def test_few_and_many_labels(labels):
    """Pairs are visited, or sorted: the same loss and gradient."""
    rng = np.random.default_rng(labels)
    y = np.argsort(np.argsort(rng.random((3, 300)))) < labels
    for x in (rng.normal(size=(3, 300)), 1e6 + rng.normal(size=(3, 300)), rng.integers(0, 3, (3, 300)) + 0.0):
        loss, gradient = fsl.multilabel_margin_loss(x, y, reduction="none", return_grad=True)
        wanted, slopes, _ = reference.multilabel_margin_loss(x.astype(np.longdouble), y)
        np.testing.assert_allclose(loss, wanted.astype(float), rtol=1e-12)
        np.testing.assert_array_equal(gradient, slopes.astype(float))


# ---- errors ---------------------------------------------------------------------------------------

X, SOFT = np.zeros((2, 3, 4)), np.full((2, 3, 4), 0.25)
ONES = SOFT * 4


def changed(array, value):
    array = array.copy()
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(("name", "error", "message", "options"), [
    ("kl_divergence", ValueError, "targets[1, 2, 3] is -0.5; allowed: finite, 0 or more",
     {"targets": changed(SOFT, -0.5)}),
    ("kl_divergence", ValueError, "targets[1, 2, 3] is inf; allowed: finite, 0 or more",
     {"targets": changed(SOFT, np.inf)}),
    ("kl_divergence", ValueError, "logits[1, 2, 3] is 1.5; allowed: 0 to 1, or input='logits'",
     {"scores": changed(SOFT, 1.5), "input": "probs"}),
    ("kl_divergence", TypeError, "targets has dtype int64; allowed: float16", {"targets": ONES.astype(np.int64)}),
    ("kl_divergence", ValueError, "targets has shape (2, 3); allowed: (2, 3, 4)", {"targets": SOFT[..., 0]}),
    ("kl_divergence", ValueError, "target_input is 'p'; allowed: 'logits', 'log_probs', 'probs'",
     {"target_input": "p"}),
    ("kl_divergence", ValueError, "direction is 'backward'; allowed: 'forward', 'reverse'",
     {"direction": "backward"}),
    ("kl_divergence", ValueError, "temperature is 0; allowed: from 1e-30 to 1e+30", {"temperature": 0}),
    ("kl_divergence", ValueError, "temperature is 2.0, but it does not apply to 'probs' and 'probs'; allowed: 1",
     {"temperature": 2.0, "input": "probs"}),
    ("kl_divergence", ValueError, "with_respect_to has 'x'", {"with_respect_to": ("x",)}),
    ("kl_divergence", ValueError, "logits has shape (2, 0): no classes", {"scores": np.zeros((2, 0))}),
    ("sparsemax", ValueError, "targets[1, 2] is 4; allowed: 0 to 3", {"targets": np.full((2, 3), 4) * [[0], [1]] *
     [0, 0, 1]}),
    ("sparsemax", ValueError, "ignore_index is 2, but it does not apply to targets that are distributions",
     {"ignore_index": 2}),
    ("sparsemax", ValueError, "targets has shape (2, 3) and dtype float64; allowed: integers of shape (2, 3), or",
     {"targets": SOFT[..., 0]}),
    ("sparsemax", TypeError, "with_respect_to has 'targets', and integers, such as class labels, have no gradient",
     {"targets": np.zeros((2, 3), int), "with_respect_to": ("targets",)}),
    ("cosine_distance", ValueError, "targets has shape (2, 3, 3); allowed: (2, 3, 4)", {"targets": SOFT[..., 1:]}),
    ("cosine_distance", TypeError, "targets has dtype complex128", {"targets": SOFT.astype(complex)}),
    ("cosine_distance", TypeError, "integers, such as class labels, have no gradient",
     {"targets": ONES.astype(np.int8), "with_respect_to": ("predictions", "targets")}),
    ("cosine_distance", ValueError, "mask has shape (2, 3, 4); allowed: (2, 3)", {"mask": np.ones((2, 3, 4), bool)}),
    ("multilabel_margin", ValueError, "targets[1, 2, 3] is 0.5; allowed: 0 or 1", {"targets": changed(ONES, 0.5)}),
    ("multilabel_margin", ValueError, "targets[1, 2, 3] is -1; allowed: 0 or 1",
     {"targets": changed(ONES.astype(np.int16), -1)}),
    ("multilabel_margin", ValueError, "targets[1, 2, 3] is nan; allowed: 0 or 1", {"targets": changed(ONES, np.nan)}),
    ("multilabel_margin", ValueError, "targets has shape (2, 3); allowed: (2, 3, 4)",
     {"targets": np.zeros((2, 3), int)}),
    ("multilabel_margin", ValueError, "margin is -1; allowed: finite, 0 or more", {"margin": -1}),
])  # fmt: skip
def test_errors(name, error, message, options):
    """In case of an error, nothing has been written."""
    given = {"scores": X, "targets": ONES if VECTORS[name].targets in (INDICATORS, NUMBERS) else SOFT} | options
    scores, targets = given.pop("scores"), given.pop("targets")
    with pytest.raises(error, match=re.escape(message)):
        call(name, scores, targets, **given)
    if "with_respect_to" not in options:
        out = np.full_like(scores, 7)
        with pytest.raises(error, match=re.escape(message)):
            call(name, scores, targets, **given, grad_out=out)
        assert (out == 7).all()


@every_loss
def test_what_does_not_count_is_not_checked(name):
    x, y = batch(np.random.default_rng(9), name, (2, 3, 4))
    x[1, 2], y[1, 2] = np.nan, -3
    assert np.isfinite(call(name, x, y, [3, 2]))
    assert np.isfinite(call(name, x, y, mask=np.arange(6).reshape(2, 3) < 5))


@every_loss
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 4), (4,)])
def test_empty_batches_and_single_rows(name, shape):
    x, y = batch(np.random.default_rng(10), name, shape)
    loss, gradient = call(name, x, y, return_grad=True)
    assert gradient.shape == shape
    assert np.isfinite(loss) if x.size else loss == 0
    none = call(name, x, y, reduction="none")
    assert np.shape(none) == shape[:-1]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32, ml_dtypes.bfloat16, ">f8"])
def test_indicators_of_any_dtype(dtype):
    x, y = batch(np.random.default_rng(11), "multilabel_margin", (2, 3, 9))
    assert fsl.multilabel_margin_loss(x, y.astype(dtype)) == fsl.multilabel_margin_loss(x, y)
