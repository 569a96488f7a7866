"""Short calls in the usual form, which compiled code computes: same results and errors as in the general way."""

import numpy as np
import pytest

import fastseqloss as fsl
from fastseqloss._kernels import short_calls
from fastseqloss.ctc import loss as ctc
from fastseqloss.steps import classification, focal, margin, pointwise, registry

GENERAL = np.int64(1)  # a number of threads that only the general way reads
SPECIAL = [-np.inf, np.inf, np.nan, 0.0, 1e-42, 1e30, -1e30]
INTEGERS = [np.dtype(kind) for kind in ("i8", "i4", "u1", ">i8", "u8")]


def outcome(call, *arguments, **options):
    """Return type, value and gradient of a result, or type and message of an error."""
    try:
        result = call(*arguments, **options)
    except (ValueError, TypeError) as error:
        return type(error), str(error)
    parts = result if isinstance(result, tuple) else (result,)
    return [(type(part), np.asarray(part).dtype, np.shape(part), np.asarray(part).tobytes()) for part in parts]


def same_both_ways(call, *arguments, grad=False, **options):
    """Check that both ways have the same outcome, arrays for gradients included; return it."""
    given = [{**options, "num_threads": threads} for threads in (None, GENERAL)]
    outs = [None, None]
    if grad:
        outs = [np.full(arguments[0].shape, 7, arguments[0].dtype) for _ in given]
        for each, out in zip(given, outs, strict=True):
            each["grad_out"] = out
    copies = [tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments) for _ in given]
    short, general = (outcome(call, *copy, **each) for copy, each in zip(copies, given, strict=True))
    assert short == general
    np.testing.assert_array_equal(*outs)
    return short


def scores_of(rng, shape):
    """Scores of either dtype, of any size, a few of them out of the ordinary; in one of several layouts."""
    x = rng.normal(size=shape).astype(rng.choice(["f4", "f8"])) * rng.choice([1, 30, 1000])
    if rng.random() < 0.2:
        x[rng.random(shape) < 0.1] = rng.choice(SPECIAL)
    layout = rng.random()
    if layout < 0.05:
        return np.asfortranarray(x)
    if layout < 0.1:
        return np.repeat(x, 2, -1)[..., ::2]
    return x.astype(">f4") if layout < 0.12 else x


def integers_of(rng, values, spoilt):
    """Integers of any dtype; now and then one out of range, or of another shape or kind."""
    dtype = INTEGERS[rng.choice(len(INTEGERS), p=[0.4, 0.3, 0.1, 0.1, 0.1])]
    values = np.array(values)
    if rng.random() < 0.2:
        values.reshape(-1)[rng.integers(values.size)] = rng.choice(spoilt)
    values = values.astype(dtype if values.min() >= 0 else "i8")
    form = rng.random()
    if form < 0.05:
        return values.tolist()
    if form < 0.1:
        return values[..., None]
    return values.astype(float) if form < 0.13 else values


def options_of(rng, usual, others):
    """Options: mostly the usual ones."""
    chosen = {name: values[rng.integers(len(values))] for name, values in usual.items() if rng.random() < 0.5}
    if rng.random() < 0.3:
        name = list(others)[rng.integers(len(others))]
        chosen[name] = others[name][rng.integers(len(others[name]))]
    return chosen


# Options of every loss, and values that the general way reads.
USUAL = {"reduction": ["none", "sum", "mean"], "return_grad": [True, False]}
OTHERS = {
    "reduction": ["sequence_mean", "median", None, np.str_("sum")],
    "return_grad": [1, np.True_, None],
    "normalizer": [2.0],
    "sample_weight": [[1.0, 2.0, 0.5], 3.0],
}


def test_ctc():
    rng = np.random.default_rng(0)
    usual = USUAL | {"blank": [0, 4], "input": ["logits", "log_probs", "probs"], "infeasible": ["inf", "zero"]}
    others = OTHERS | {"blank": [-1, 5, True, 2.0, np.int64(0)], "input": ["scores", 1], "infeasible": ["raise", 0]}
    errors = 0
    for _ in range(400):
        batch, n_frames, width = int(rng.integers(1, 4)), int(rng.integers(1, 12)), int(rng.integers(1, 5))
        single = batch == 1 and rng.random() < 0.5
        lengths = [rng.integers(0, most + 1, batch) for most in (n_frames, width)]
        arrays = [rng.integers(1, 4, (batch, width))[0 if single else slice(None)], *lengths]
        given = [integers_of(rng, array, [0, 4, -1, 12, 100]) for array in arrays]
        given = [None if k and rng.random() < 0.3 else array for k, array in enumerate(given)]
        x = scores_of(rng, (n_frames, 5) if single else (batch, n_frames, 5))
        found = same_both_ways(fsl.ctc_loss, x, *given, grad=rng.random() < 0.5, **options_of(rng, usual, others))
        errors += isinstance(found, tuple)
    assert 60 < errors < 340


OWN = {  # options of each loss of classes: usual ones, and others
    "softmax_cross_entropy": (
        {"input": ["logits", "log_probs"], "z_loss": [0, 0.0]},
        {"input": ["probs", "scores"], "label_smoothing": [0.1, False, 2.0], "z_loss": [0.1, "0"]},
    ),
    "nll_loss": ({}, {}),
    "multiclass_hinge_loss": ({"margin": [1, 0.5]}, {"margin": [-1.0, True]}),
    "softmax_focal_loss": ({"gamma": [0, 2.0]}, {"gamma": [-1.0, "2"]}),
}


@pytest.mark.parametrize("name", OWN)
def test_losses_of_classes(name):
    rng = np.random.default_rng(len(name))
    usual = USUAL | {"ignore_index": [-100, 1, 7]} | OWN[name][0]
    others = OTHERS | {"ignore_index": [True, 2**63, 2.0], "class_weight": [np.ones(4), np.ones(3)]} | OWN[name][1]
    errors = 0
    for _ in range(200):
        shape = tuple(rng.integers(1, 4, rng.integers(4)))
        options = options_of(rng, usual, others)
        if len(shape) > 1 and rng.random() < 0.5:
            options["lengths"] = integers_of(rng, rng.integers(0, shape[1] + 1, shape[0]), [-1, 12])
        if rng.random() < 0.3:
            options["mask"] = np.array(rng.random(shape) < 0.7, rng.choice(["?", "i8"]))
        targets = integers_of(rng, rng.integers(0, 4, shape), [-1, 4, 7, -100, 100])
        found = same_both_ways(
            getattr(fsl, name), scores_of(rng, (*shape, 4)), targets, grad=rng.random() < 0.5, **options
        )
        errors += isinstance(found, tuple)
    assert 30 < errors < 170


LOSSES = {name: row for name, row in registry.LOSSES.items() if not row.of_classes and row.allowed == registry.NUMBERS}
TARGETS = {registry.SIGNS: [-1, 1], registry.SHARES: [0, 1, 0.5], registry.COUNTS: [0, 1, 7]}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_numbers(name):
    rng = np.random.default_rng(len(name))
    row = LOSSES[name]
    usual, others = dict(USUAL), dict(OTHERS)
    if row.parameter:
        usual[row.parameter.name] = [1.0, 0.5, 1.5]
        others[row.parameter.name] = [1, -1.0, 0.0, np.nan, 10**400, "1"]
    if name == "binary":
        usual["label_smoothing"] = [0.0, 0.1]
    for _ in range(60):
        shape = tuple(rng.integers(1, 5, rng.integers(1, 4)))
        targets = rng.choice(TARGETS.get(row.targets, [-2.5, 0, 1, 30]), shape).astype(rng.choice(["f4", "f8"]))
        if rng.random() < 0.2:
            targets = targets.astype(rng.choice(["f2", "i4", "?", "i1", ">f8"]))
        elif rng.random() < 0.2:
            targets.reshape(-1)[rng.integers(targets.size)] = rng.choice([-3, 2, np.nan, np.inf])
        same_both_ways(
            getattr(fsl, row.function),
            scores_of(rng, shape),
            targets,
            grad=rng.random() < 0.5,
            **row.options,
            **options_of(rng, usual, others),
        )


# ---- the calls themselves ------------------------------------------------------------------

X, TAGS = np.zeros((2, 6, 5), np.float32), np.ones((2, 6), np.int64)
COMPUTED = {
    "ctc": (fsl.ctc_loss, ctc, "as_lattice", X, TAGS[:, :2].copy(), np.array([6, 5]), np.array([2, 1])),
    "ctc of one sequence": (fsl.ctc_loss, ctc, "as_lattice", X[0], TAGS[0, :2]),
    "cross-entropy": (fsl.softmax_cross_entropy, classification, "prepare_rows", X, TAGS, np.array([6, 5])),
    "log-probabilities": (fsl.nll_loss, classification, "prepare_rows", X, TAGS),
    "margin": (fsl.multiclass_hinge_loss, margin, "prepare_rows", X, TAGS),
    "focal": (fsl.softmax_focal_loss, focal, "prepare_rows", X, TAGS),
    "hinge": (fsl.hinge_loss, pointwise, "_prepare", X, X + 1),
    "squares": (fsl.mse_loss, pointwise, "_prepare", X[0, 0], X[0, 0]),
    "binary": (fsl.binary_cross_entropy, pointwise, "_prepare", X[0], X[0]),
}


@pytest.mark.parametrize("call", COMPUTED)
def test_usual_calls_are_computed(call, monkeypatch):
    function, module, general, x, *others = COMPUTED[call]
    monkeypatch.setattr(module, general, None)
    for options in ({}, {"return_grad": True}, {"grad_out": np.empty_like(x)}, {"reduction": "sum"}):
        function(x, *others, **options)


def test_long_calls_are_not():
    """Since several threads would be faster."""
    x, tags = np.zeros((200, 100, 30)), np.ones((200, 10), int)
    found = short_calls.ctc_loss(
        ctc._kernel.entry, ctc.COSTS, 3e5, x, tags, None, None, 0, "logits", "inf", "mean", False, None, None
    )
    assert found is None


@pytest.mark.parametrize("place", ["scores", "targets"])
def test_gradient_in_the_memory_of_an_argument(place):
    """The general way copies what it overwrites."""
    x, y = np.full(8, 1e300), np.full(8, -1.0)
    expected, grad = fsl.hinge_loss(x, y, return_grad=True)
    out = x if place == "scores" else y
    loss, found = fsl.hinge_loss(x, y, grad_out=out)
    assert loss == expected
    assert found is out
    np.testing.assert_array_equal(found, grad)


def test_gradients_that_cannot_be_written():
    x, tags, out = np.zeros((4, 3)), np.array([1, 2]), np.empty((4, 3))
    for wrong in (out[:3], out.astype("f4"), np.asfortranarray(out), out.tolist()):
        same_both_ways(fsl.ctc_loss, x, tags, grad_out=wrong)
    out.flags.writeable = False
    same_both_ways(fsl.ctc_loss, x, tags, grad_out=out)
