"""Losses of a linear layer: those of the logits in memory, for every option; finite differences; known values."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
import linear_cases
from linear_cases import HALF, NAMES, OF_LAYER, assert_near
from step_cases import REDUCTIONS
from thoroughness import examples

SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
RNG = np.random.default_rng(0)


@st.composite
def head_options(draw):
    options = {}
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from((0.25, 1.0, 3.0)))
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from((0.5, 5.0, 30.0, 1e6)))
    options["chunk"] = draw(st.sampled_from((None, 1, 2, 3, 7, 100)))
    return options


@st.composite
def reducings(draw, steps, reductions):
    """Reductions with weights of sequences, or of steps of this shape."""
    reducing = {"reduction": draw(st.sampled_from(reductions))}
    if reducing["reduction"] == "sum" and draw(st.booleans()):
        reducing["normalizer"] = draw(st.sampled_from((0.5, 7)))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        shape = draw(st.sampled_from((steps[:1] or (1,), steps))) if len(steps) > 1 else steps or (1,)
        reducing["sample_weight"] = rng.choice((0.0, 0.25, 1.0, 3.0), shape)
    return reducing


@st.composite
def layers(draw, dtypes=(np.float64,)):
    return {
        "dtype": draw(st.sampled_from(dtypes)),
        "weight_dtype": draw(st.sampled_from(dtypes)),
        "bias": draw(st.booleans()),
        "size": draw(st.sampled_from((0.1, 1.0, 10.0))),
    }


@st.composite
def cross_entropies(draw, dtypes=(np.float64,)):
    sizes = [draw(st.integers(0, most)) for most in (4, 5, 3)[: draw(st.integers(0, 3))]]
    n_classes = draw(st.sampled_from((1, 2, 3, 5, 9, 40, 2050)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    options = draw(head_options()) | draw(reducings(tuple(sizes), REDUCTIONS))
    for name, values in {
        "class_weight": [rng.choice([0.0, 0.25, 1.0, 3.0], n_classes), 1e-100 * rng.random(n_classes) + 1e-100],
        "label_smoothing": (0.0, 0.1, 1.0),
        "z_loss": (0.0, 1e-4, 0.3),
        "ignore_index": (-100, -1, 0, n_classes - 1),
    }.items():
        if draw(st.booleans()):
            options[name] = draw(st.sampled_from(values))
    return linear_cases.cross_entropy(
        rng,
        (*sizes, draw(st.integers(1, 6))),
        n_classes,
        lengths=draw(st.booleans()),
        mask=draw(st.booleans()),
        ignored=draw(st.sampled_from((0.0, 0.3, 1.0))),
        given=draw(layers(dtypes)),
        **options,
    )


@st.composite
def ctc_problems(draw, dtypes=(np.float64,)):
    batch, frames, n_labels = (draw(st.integers(0, most)) for most in (5, 9, 4))
    n_classes = draw(st.sampled_from((1, 2, 3, 5, 9, 2050)))
    options = draw(head_options()) | draw(reducings((batch,), SEQUENCE_REDUCTIONS))
    options["blank"] = draw(st.integers(-n_classes, n_classes - 1))
    options["infeasible"] = draw(st.sampled_from(("inf", "zero")))
    return linear_cases.ctc(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        (batch, frames, draw(st.integers(1, 6))),
        n_classes,
        n_labels,
        lengths=draw(st.booleans()),
        given=draw(layers(dtypes)),
        **options,
    )


@given(st.one_of(cross_entropies(), ctc_problems()))
@examples(2)
def test_as_in_memory(level, case):
    loss, gradients = case.run()
    case.check(loss, gradients)
    np.testing.assert_array_equal(case.run(return_grad=False), loss)


@given(st.one_of(cross_entropies((np.float32, np.float64, *HALF)), ctc_problems((np.float32, np.float64, *HALF))))
def test_dtypes(level, case):
    case.check(*case.run())


def test_known_values():
    hidden = np.array([[1.0, 0.0], [0.0, 2.0]])
    weight = np.array([[0.0, 0.0], [np.log(2), 0.0], [0.0, np.log(3) / 2]])
    loss, gradient = fsl.linear_cross_entropy(hidden, weight, [1, 2], return_grad=True)
    assert loss == pytest.approx((np.log(2) + np.log(5 / 3)) / 2, rel=1e-15)
    assert_near(gradient.weight, [[1 / 8, 1 / 5], [-1 / 4, 1 / 5], [1 / 8, -2 / 5]], 1e-15)
    expected = [[-np.log(2) / 4, np.log(3) / 16], [np.log(2) / 10, -np.log(3) / 10]]
    assert_near(gradient.hidden, expected, 1e-15)
    assert gradient.bias is None


OPTIONS = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "capped": {"softcap": 2.0},
    "both": {"scale": 1.7, "softcap": 1.5},
}
ENTROPY = {"label_smoothing": 0.1, "z_loss": 0.05, "class_weight": np.array([1.0, 0.5, 2.0, 1.0, 0.3])}


@pytest.mark.parametrize("argument", OF_LAYER)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(level, name, options, argument):
    rng = np.random.default_rng(3)
    if name == "linear_ctc_loss":
        case = linear_cases.ctc(rng, (3, 6, 4), 5, 2, chunk=8, lengths=False, **options)
    else:
        case = linear_cases.cross_entropy(rng, (3, 4, 4), 5, lengths=True, chunk=2, **options, **ENTROPY)
    arguments = case.arguments | {"hidden": case.wide("hidden")}

    def loss_of(value, return_grad=False):
        result = case.run(**arguments | {argument: value}, return_grad=return_grad)
        return (result[0], getattr(result[1], argument)) if return_grad else result

    error = fsl.check_grad(lambda x: loss_of(x, return_grad=True), arguments[argument])
    assert error < 1e-7


def test_a_temperature_of_capped_logits():
    """Half the temperature of logits within 30: a cap and a scale of two times as much."""
    arguments = linear_cases.layer(RNG, (6, 3), 7, size=9.0)
    hidden, weight, bias = arguments.values()
    targets = RNG.integers(0, 7, 6)
    found = fsl.linear_cross_entropy(hidden, weight, targets, bias=bias, scale=2.0, softcap=60.0)
    logits = 30 * np.tanh((hidden @ weight.T + bias) / 30)
    assert_near(found, fsl.softmax_cross_entropy(2 * logits, targets), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_classes(name):
    """A bias of -inf: the loss of this target is inf, other gradients are finite."""
    rng = np.random.default_rng(1)
    case = linear_cases.ctc(rng, (3, 5, 4), 6, 2, lengths=False)
    if name == "linear_cross_entropy":
        case = linear_cases.cross_entropy(rng, (3, 5, 4), 6)
    case.arguments["bias"][5] = -np.inf
    case.arguments["targets" if name == "linear_cross_entropy" else "labels"][0, 0] = 5
    losses, gradients = case.run(reduction="none")
    assert losses[0].max() == np.inf
    assert np.isfinite(losses[1:]).any()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    expected, _ = case.expected(reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_nan_in_a_step():
    """NaN in one hidden state: its loss and gradient, and those of weight and bias; no other step."""
    case = linear_cases.cross_entropy(np.random.default_rng(2), (4, 3), 5)
    case.hidden[1, 0] = np.nan
    losses, gradient = case.run(reduction="none")
    assert np.isnan(losses).tolist() == [False, True, False, False]
    assert np.isnan(gradient.hidden).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(gradient.weight).all()
    assert np.isnan(gradient.bias).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_counts(name):
    rng = np.random.default_rng(4)
    if name == "linear_ctc_loss":
        case = linear_cases.ctc(rng, (3, 5, 4), 6, 2, sample_weight=np.zeros(3))
    else:
        case = linear_cases.cross_entropy(rng, (3, 5, 4), 6, ignored=1.0)
    loss, gradients = case.run()
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


def test_without_features():
    """Hidden states of no features: the logits are the bias."""
    bias = RNG.normal(size=4)
    loss, gradient = fsl.linear_cross_entropy(
        np.zeros((3, 0)), np.zeros((4, 0)), [0, 1, 2], bias=bias, return_grad=True
    )
    expected, slope = fsl.softmax_cross_entropy(np.tile(bias, (3, 1)), [0, 1, 2], return_grad=True)
    assert loss == pytest.approx(expected)
    assert_near(gradient.bias, slope.sum(axis=0), 1e-12)
    assert (gradient.hidden.shape, gradient.weight.shape) == ((3, 0), (4, 0))


def test_one_sequence_of_ctc():
    case = linear_cases.ctc(np.random.default_rng(5), (1, 9, 4), 6, 3, lengths=False)
    batch, of_batch = case.run()
    single, of_single = case.run(hidden=case.hidden[0], labels=case.arguments["labels"][0])
    assert (type(single), single) == (float, batch)
    np.testing.assert_array_equal(of_single.hidden, of_batch.hidden[0])


def test_forms_of_labels():
    case = linear_cases.ctc(np.random.default_rng(6), (3, 9, 4), 6, 3, lengths=False)
    labels = case.arguments["labels"]
    expected = case.run(return_grad=False)
    assert case.run(labels=list(labels), return_grad=False) == expected
    assert case.run(labels=labels.reshape(-1), label_lengths=[3, 3, 3], return_grad=False) == expected
