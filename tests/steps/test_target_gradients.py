"""Gradients by targets of every loss that has one: central differences, and the forms in which they are returned."""

import inspect
import re
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from reference.steps import ELEMENTWISE
from step_cases import LOSSES as ROWS
from step_cases import REDUCTIONS, Case, parameter_values, random_case, rows_of, weights_of
from thoroughness import spread, thorough

BY_TARGETS = {
    name: row
    for name, row in ROWS.items()
    if "with_respect_to" in inspect.signature(getattr(fsl, row.function)).parameters
}
MORE = {
    "softmax_cross_entropy": [
        {"label_smoothing": 0.3, "class_weight": [0.5, 1.0, 0.0, 2.0, 1e3]},
        {"z_loss": 0.2, "class_weight": [1e-120, 1e-120, 2e-120, 0.0, 1e-120]},
        {"input": "log_probs"},
        {"input": "probs", "label_smoothing": 1.0},
    ]
}
every_loss = pytest.mark.parametrize("name", BY_TARGETS)


def options_of(name: str) -> list[dict]:
    """The options that select the loss, with each value of its parameter."""
    row = BY_TARGETS[name]
    values = parameter_values(row, np.random.default_rng(0), (4, 3, 5))
    return [dict(row.options), *(row.options | {row.parameter.name: value} for value in values), *MORE.get(name, [])]


def case_of(name: str, options: dict, **more) -> Case:
    rng = np.random.default_rng(0)
    return random_case(rng, BY_TARGETS[name].function, (4, 3, 5), target_dtype=np.float64, holes=0.3, **options, **more)


def by_both(case: Case, **options):
    first = rows_of(case.name)[0].scores
    return case.run(with_respect_to=(first, "targets"), **options)


def inside(targets: np.ndarray) -> np.ndarray:
    """Targets away from the ends of their range."""
    return np.where(np.isnan(targets), targets, 0.2 + 0.6 * np.clip(targets, 0, 1))


@every_loss
@pytest.mark.parametrize("reduction", [way if way == "sequence_mean" else thorough(way) for way in REDUCTIONS])
def test_central_differences(name, reduction):
    for options in options_of(name):
        case = case_of(name, options).reduced(reduction=reduction, sample_weight=np.array([1.0, 0.5, 0.0, 3.0]))
        if BY_TARGETS[name].targets != "numbers":
            case.targets = inside(case.targets)
        loss, gradient = by_both(case)
        plain, first = case.run(return_grad=True)
        np.testing.assert_array_equal(loss, plain)
        np.testing.assert_array_equal(gradient[0], first)
        assert_central_differences(case, gradient.targets)


def assert_central_differences(case: Case, gradient: np.ndarray, step: float = 1e-6) -> None:
    assert not gradient[~case.counts].any()
    right = case.targets.copy()
    for at in np.ndindex(case.targets.shape):
        ends = []
        for sign in (1, -1):
            case.targets = right.copy()
            case.targets[at] += sign * step
            ends.append(np.sum(case.run(return_grad=False)))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert gradient[at] == pytest.approx(slope, rel=1e-6, abs=2e-8)


@pytest.mark.parametrize(("name", "reduction"), spread(BY_TARGETS, ["mean", "step_mean"], every=2))
def test_weights_of_steps_and_masks_of_features(name, reduction):
    options = options_of(name)[0]
    of_features = BY_TARGETS[name].function in ELEMENTWISE
    case = case_of(name, options, of_features=of_features)
    for ndim in (2, 3) if of_features else (2,):
        weight = weights_of(np.random.default_rng(1), case.counts, ndim)
        weighted = case.reduced(reduction=reduction, sample_weight=weight)
        if BY_TARGETS[name].targets != "numbers":
            weighted.targets = inside(weighted.targets)
        assert_central_differences(weighted, by_both(weighted)[1].targets)


@every_loss
def test_what_is_requested(name):
    case = case_of(name, options_of(name)[0])
    first = rows_of(case.name)[0].scores
    both = by_both(case)[1]
    assert type(both).__name__ in ("RegressionGradient", "CrossEntropyGradient")
    assert both._fields == (first, "targets")
    alone = case.run(with_respect_to=("targets",), return_grad=False)[1]
    assert alone[0] is None
    np.testing.assert_array_equal(alone.targets, both.targets)
    alone = case.run(with_respect_to=[first])[1]
    assert alone.targets is None
    np.testing.assert_array_equal(alone[0], both[0])


@every_loss
def test_arrays_given_for_gradients(name):
    """The arguments themselves, arrays apart, or one of them."""
    case = case_of(name, options_of(name)[0])
    first, both = rows_of(case.name)[0].scores, by_both(case)[1]
    outs = np.empty_like(case.scores), np.empty_like(case.targets)
    given = by_both(case, grad_out=outs)[1]
    for out, array, right in zip(outs, given, both, strict=True):
        assert out is array
        np.testing.assert_array_equal(array, right)
    given = by_both(case, grad_out=type(both)(None, outs[1]))[1]
    np.testing.assert_array_equal(given[0], both[0])
    message = f"grad_out.{first} is given, but with_respect_to has no '{first}'; allowed: None"
    with pytest.raises(ValueError, match=message):
        case.run(with_respect_to=("targets",), grad_out=(outs[0], None))
    with pytest.raises(ValueError, match=r"grad_out\.targets shares memory with grad_out"):
        by_both(case, grad_out=(outs[0], outs[0]))
    with pytest.raises(ValueError, match=rf"grad_out\.{first} shares memory with targets; allowed: {first} itself"):
        by_both(case, grad_out=(case.targets, None))
    with pytest.raises(TypeError, match=r"grad_out must be a .*Gradient, or a tuple of 2"):
        by_both(case, grad_out=outs[0])
    in_place = by_both(case, grad_out=(case.scores, case.targets))[1]
    assert in_place[0] is case.scores
    for array, right in zip(in_place, both, strict=True):
        np.testing.assert_array_equal(array, right)


@every_loss
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.dtype(">f8")])
@pytest.mark.parametrize("other", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_dtypes(name, dtype, other):
    """The gradient by targets has their dtype and precision, whatever that of the scores."""
    case = case_of(name, options_of(name)[0])
    case.scores, case.targets = case.scores.astype(dtype), case.targets.astype(other)
    gradient = by_both(case)[1]
    assert (gradient[0].dtype, gradient.targets.dtype) == (dtype, other)
    case.scores, case.targets = case.scores.astype(np.float64), case.targets.astype(np.float64)
    right = by_both(case)[1].targets
    tolerance = max(float(ml_dtypes.finfo(other).eps), 1e-15)
    np.testing.assert_allclose(gradient.targets.astype(np.float64), right, rtol=2 * tolerance, atol=tolerance)


@every_loss
@pytest.mark.parametrize(("error", "message", "options"), [
    (TypeError, r"with_respect_to is 'targets'; allowed: a tuple of one or more of '\w+', 'targets'",
     {"with_respect_to": "targets"}),
    (TypeError, "with_respect_to is 1; allowed", {"with_respect_to": 1}),
    (ValueError, "with_respect_to has 'lengths'; allowed", {"with_respect_to": ("targets", "lengths")}),
    (ValueError, r"with_respect_to is \(\); allowed", {"with_respect_to": ()}),
    (ValueError, r"with_respect_to is \('targets', 'targets'\); allowed", {"with_respect_to": ("targets", "targets")}),
    (ValueError, "sample_weight has shape", {"with_respect_to": ("targets",), "sample_weight": [1.0]}),
])  # fmt: skip
def test_errors(name, error, message, options):
    with pytest.raises(error, match=message):
        case_of(name, options_of(name)[0]).run(**options)


@every_loss
def test_errors_of_arguments(name):
    """They are those of a call without gradients by targets."""
    case = case_of(name, options_of(name)[0])
    loss = partial(getattr(fsl, case.name), **case.options)
    first = rows_of(case.name)[0].scores
    for scores, targets, options in (
        (np.zeros(()), np.zeros(()), {}),
        (case.scores, case.targets[:1], {}),
        (case.scores, case.targets, {"reduction": "x"}),
        (case.scores, case.targets, {"lengths": [9, 9, 9, 9]}),
    ):
        messages = []
        for wanted in (None, ("targets",), (first, "targets")):
            with pytest.raises(ValueError, match=r"(has shape|is)") as caught:
                loss(scores, targets, **options, with_respect_to=wanted)
            messages.append(str(caught.value))
        assert len(set(messages)) == 1


@every_loss
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_have_no_gradient(name, dtype):
    case = case_of(name, options_of(name)[0])
    targets = np.ones(case.scores.shape, dtype)
    message = (
        f"targets has dtype {targets.dtype}; allowed: float16, bfloat16, float32 or float64, because with_respect_to "
        "has 'targets', and integers, such as class labels, have no gradient"
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        getattr(fsl, case.name)(case.scores, targets, **case.options, with_respect_to=("targets",))


def test_ends_of_probabilities():
    """Terms of weight 0 are 0, and infinite slopes have the right sign."""
    by = {"with_respect_to": ("targets",), "reduction": "none"}
    gradient = fsl.softmax_cross_entropy([[0.0, -np.inf]], [[1.0, 0.0]], class_weight=[0.0, 1.0], **by)[1]
    assert gradient.targets.tolist() == [[0.0, np.inf]]
    gradient = fsl.softmax_cross_entropy(np.full((1, 2), -np.inf), [[1.0, 0.0]], **by)[1]
    assert gradient.targets.tolist() == [[0.0, 0.0]]
    gradient = fsl.binary_cross_entropy([[0.0, 1.0]], [[0.5, 0.5]], input="probs", **by)[1]
    assert gradient.targets.tolist() == [[np.inf, -np.inf]]
    gradient = fsl.binary_cross_entropy([[-np.inf, np.inf]], [[0.5, 0.5]], pos_weight=0.0, **by)[1]
    assert gradient.targets.tolist() == [[0.0, -np.inf]]
    gradient = fsl.binary_cross_entropy([[800.0, -800.0]], [[0.5, 0.5]], **by)[1]
    assert gradient.targets.tolist() == [[-800.0, 800.0]]


def test_smoothing_of_the_whole_target():
    """Targets without a share in the loss have the gradient 0, whatever the scores."""
    options = {"label_smoothing": 1.0, "with_respect_to": ("targets",), "input": "log_probs"}
    gradient = fsl.softmax_cross_entropy([[0.0, -np.inf]], [[1.0, 0.0]], **options)[1]
    assert gradient.targets.tolist() == [[0.0, 0.0]]
