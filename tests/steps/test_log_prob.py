"""Log-probabilities of sequences: the negative of a cross-entropy, with a slope of its own for each sequence."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from cases import HALF, KINDS
from reference import ctc as reference
from reference import steps as reference_steps
from step_cases import (
    DTYPES,
    FLOATS,
    LAYOUTS,
    SCALES,
    THREADS,
    Capsule,
    Foreign,
    LogProbCase,
    assert_gradient,
    assert_same,
    ends,
    random_case,
    shapes,
)
from thoroughness import examples

SLOPES = (0.0, 1.0, -0.5, 3.0, -1e-3)
X = np.random.default_rng(0).normal(size=(3, 5, 7))
Y = np.random.default_rng(1).integers(0, 7, (3, 5))
LENGTHS = np.array([5, 0, 3])


@st.composite
def problems(draw, dtypes=DTYPES, scales=SCALES, kinds=KINDS, smooth=False):
    """Random batches; steps that do not count are NaN or junk."""
    shape = draw(shapes("softmax_cross_entropy", 1 if smooth else 0, 12 if smooth else 2100))
    dtype = draw(st.sampled_from(dtypes))
    case = random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        "softmax_cross_entropy",
        shape,
        dtype=dtype,
        scale=draw(st.sampled_from(scales)) if dtype not in HALF else 1.0,
        impossible=0.0 if smooth else draw(st.sampled_from((0.0, 0.0, 0.1, 0.7))),
        lengths=draw(st.booleans()),
        holes=draw(st.sampled_from((0.0, 0.3))),
        ignored=draw(st.sampled_from((0.0, 0.3))),
        input=draw(st.sampled_from(kinds)),
        ignore_index=draw(st.sampled_from((-100, 0, 2**40))),
    )
    reducing = {"average": draw(st.booleans())}
    if draw(st.booleans()):
        batch = shape[:-1][:1]
        slopes = draw(st.lists(st.sampled_from(SLOPES), min_size=max([1, *batch]), max_size=max([1, *batch])))
        reducing["slopes"] = np.resize(slopes, batch)
    return log_probs(case, reducing)


def log_probs(case, reducing):
    return LogProbCase("sequence_log_prob", case.scores, case.targets, case.lengths, case.mask, case.options, reducing)


@given(case=problems(dtypes=FLOATS), threads=st.sampled_from(THREADS))
@examples(3)
def test_matches_reference(level, case, threads):
    log_prob, gradient = case.run(num_threads=threads)
    case.check(log_prob, gradient)
    assert_same([case.run(return_grad=False, slopes=None)], [log_prob])


@given(case=problems(dtypes=(np.float64,), scales=(1.0,), kinds=("logits", "log_probs"), smooth=True))
def test_gradient_is_the_central_difference(case):
    _, gradient = case.run()
    slopes, alone = case.reducing.pop("slopes", 1.0), case.scores

    def objective(x):
        case.scores = x
        return float(np.sum(slopes * case.run(return_grad=False)))

    numeric = reference.central_differences(objective, np.where(np.isnan(alone), 0.5, alone), 1e-6)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("average", [False, True])
def test_as_cross_entropy(level, kind, average):
    """Also for the gradient, in float64 to 1e-12."""
    case = random_case(
        np.random.default_rng(2), "softmax_cross_entropy", (4, 9, 40), holes=0.2, ignored=0.2, input=kind
    )
    given = {"lengths": case.lengths, "mask": case.mask, "input": kind}
    loss, unit = fsl.softmax_cross_entropy(
        case.scores, case.targets, **given, reduction="per_sequence", return_grad=True
    )
    slopes = np.array([2.0, -0.3, 0.0, 1e3])
    share = 1 / np.maximum(case.counts.sum(axis=1), 1) if average else np.ones(4)
    log_prob, gradient = fsl.sequence_log_prob(case.scores, case.targets, **given, average=average, slopes=slopes)
    np.testing.assert_allclose(log_prob, -loss * share, rtol=1e-12)
    np.testing.assert_allclose(gradient, -(slopes * share)[:, None, None] * unit, rtol=1e-12, atol=1e-12)


def test_gradient_of_a_preference_loss():
    """DPO of two pairs of sequences, beside central differences of the whole."""
    rng = np.random.default_rng(3)
    x, y, reference_log_prob = rng.normal(size=(4, 5, 7)), rng.integers(0, 7, (4, 5)), -rng.random(4)
    lengths = [5, 4, 2, 3]

    def margins(log_prob):
        chosen, rejected = (log_prob - reference_log_prob).reshape(2, 2)
        return 0.1 * (chosen - rejected)

    def objective(x):
        return float(np.log1p(np.exp(-margins(fsl.sequence_log_prob(x, y, lengths)))).mean())

    slope = -0.1 / (1 + np.exp(margins(fsl.sequence_log_prob(x, y, lengths)))) / 2
    _, gradient = fsl.sequence_log_prob(x, y, lengths, slopes=np.concatenate([slope, -slope]))
    np.testing.assert_allclose(reference.central_differences(objective, x, 1e-6), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layout", [*LAYOUTS, Foreign, Capsule])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_layouts(layout, dtype):
    x, slopes = X.astype(dtype), np.array([2.0, 0.0, -1.0])
    expected = fsl.sequence_log_prob(x, Y, LENGTHS, slopes=slopes)
    for array in (x, Y, slopes):
        array.flags.writeable = layout is Capsule  # NumPy exports no read-only memory
    found = fsl.sequence_log_prob(layout(x), layout(Y), LENGTHS, slopes=layout(slopes))
    assert_same(found, expected)
    out = layout(np.full_like(x, 7)) if layout not in (Foreign, Capsule) else np.full_like(x, 7)
    log_prob, gradient = fsl.sequence_log_prob(x, Y, LENGTHS, slopes=slopes, grad_out=out)
    assert gradient is out
    assert_same((log_prob, gradient), expected)
    own = np.array(x)
    assert fsl.sequence_log_prob(own, Y, LENGTHS, slopes=slopes, grad_out=own)[1] is own
    assert_same([own], [expected[1]])
    X.flags.writeable = Y.flags.writeable = True


def test_threads_and_neighbours_do_not_change_a_bit(level):
    rng = np.random.default_rng(4)
    case = random_case(rng, "softmax_cross_entropy", (9, 700, 31), dtype=np.float32, holes=0.1)
    slopes = rng.normal(size=9)
    given = {"lengths": case.lengths, "mask": case.mask, "average": True}
    one = fsl.sequence_log_prob(case.scores, case.targets, **given, slopes=slopes, num_threads=1)
    assert_same(fsl.sequence_log_prob(case.scores, case.targets, **given, slopes=slopes, num_threads=4), one)
    for b in (0, 4, 8):
        alone = {key: value[b : b + 1] for key, value in given.items() if key != "average"} | {"average": True}
        found = fsl.sequence_log_prob(case.scores[b : b + 1], case.targets[b : b + 1], **alone, slopes=slopes[b])
        assert_same(found, (one[0][b : b + 1], one[1][b : b + 1]))


# ---- edges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 4, 3), (3, 4, 17), (3, 4, 80)])
def test_slopes_of_0(level, dtype, shape):
    """They do not change the log-probabilities, and make the gradient 0 even if these are infinite or NaN."""
    x = np.random.default_rng(5).normal(size=shape).astype(dtype)
    y = np.zeros(shape[:2], int)
    x[0, 1, 0], x[1, 2, 1] = -np.inf, np.nan
    expected = fsl.sequence_log_prob(x, y)
    assert expected[0] == -np.inf
    assert np.isnan(expected[1])
    for average in (False, True):  # the second slope underflows when it is divided
        slopes = [0.0, 0.0, 5e-324 if average else 0.0]
        log_prob, gradient = fsl.sequence_log_prob(x, y, slopes=slopes, average=average)
        assert_same([log_prob], [fsl.sequence_log_prob(x, y, average=average)])
        assert not gradient.astype(np.float64).any()


@pytest.mark.parametrize("slope", [1e39, 1e308, -1e308, 1e-39, 5e-324])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [1, 3, 40, 300])
def test_slopes_at_the_ends_of_the_range(level, slope, dtype, width):
    x = ends(np.random.default_rng(width), dtype, (2, 3, width))
    y = np.random.default_rng(6).integers(0, width, (2, 3))
    log_prob, gradient = fsl.sequence_log_prob(x, y, slopes=[slope, 1.0])
    assert_same([log_prob], [fsl.sequence_log_prob(x, y)])
    assert not np.isnan(gradient.astype(np.float64)).any()


@pytest.mark.parametrize("slope", [1e36, 1e39, -1e300, 1e-39, 5e-324])
@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_beyond_float32(level, slope, dtype):
    """A finite derivative is right: a small probability times a large slope."""
    for width in (1, 3, 40, 300):
        x = np.random.default_rng(width).normal(scale=10, size=(1, 3, width)).astype(dtype)
        y = np.zeros((1, 3), int)
        _, gradient = fsl.sequence_log_prob(x, y, slopes=[slope])
        _, expected = reference_steps.sequence_log_prob(x, y, slopes=np.array([slope]))
        relative = 1e-4 if dtype == np.float32 else 1e-10  # of exponentials of large differences
        tolerance = relative * np.abs(expected) + float(np.finfo(dtype).smallest_subnormal)
        tolerance[..., 0] += 4 * np.finfo(dtype).eps * np.abs(slope)  # of p - 1
        assert_gradient(gradient, expected.astype(np.float64), tolerance.astype(np.float64))


def test_without_steps():
    for shape in ((0, 3, 4), (2, 0, 4), (0, 0, 1)):
        log_prob, gradient = fsl.sequence_log_prob(
            np.zeros(shape), np.zeros(shape[:2], int), slopes=np.ones(shape[0]), average=True
        )
        np.testing.assert_array_equal(log_prob, np.zeros(shape[0]))
        assert gradient.shape == shape
    log_prob, gradient = fsl.sequence_log_prob(X, np.full(Y.shape, -100), average=True, return_grad=True)
    assert log_prob.tolist() == [0, 0, 0]
    assert not gradient.any()


def test_one_step():
    """A row of scores alone, whose slope is a number; rows are sequences of one step."""
    log_prob, gradient = fsl.sequence_log_prob(X[0, 0], Y[0, 0], slopes=2)
    rows = fsl.sequence_log_prob(X[0], Y[0], slopes=[2, 1, 1, 1, 1])
    assert isinstance(log_prob, float)
    assert log_prob == rows[0][0]
    np.testing.assert_array_equal(gradient, rows[1][0])


# ---- errors ---------------------------------------------------------------------------------

WRONG = {
    "logits has shape (); allowed: [..., V]": {"logits": 1.0},
    "logits has shape (3, 5, 0): no classes": {"logits": X[..., :0]},
    "logits has dtype int64; allowed: float16": {"logits": X.astype(int)},
    "targets[1, 2] is 7; allowed: 0 to 6, or -100": {
        "targets": np.where(np.arange(5) == 2, 7, Y),
        "lengths": [1, 5, 5],
    },
    "targets[0, 0] is -1; allowed: 0 to 6, or -100, which is ignore_index; if it is padding": {"targets": Y - Y - 1},
    "targets has dtype float64; allowed: any integer dtype": {"targets": X},
    "targets has dtype float32; allowed: any integer dtype": {"targets": Y.astype(np.float32)},
    "targets has shape (3, 4); allowed: (3, 5)": {"targets": Y[:, :4]},
    "lengths[1] is 6; allowed: 0 to 5": {"lengths": [5, 6, 1]},
    "lengths has shape (2,); allowed: (3,)": {"lengths": [5, 5]},
    "mask has shape (3, 4); allowed: (3, 5)": {"mask": np.ones((3, 4), bool)},
    "mask has dtype float64; allowed: bool": {"mask": np.ones((3, 5))},
    "input is 'scores'; allowed: 'logits'": {"input": "scores"},
    "logits[0, 0, 0] is 2.0; allowed: 0 to 1": {"input": "probs", "logits": np.full(X.shape, 2.0)},
    "ignore_index must be an integer, got float": {"ignore_index": 1.0},
    "average must be a bool, got int": {"average": 1},
    "average must be a bool, got str": {"average": "length"},
    "slopes has shape (2,); allowed: (3,)": {"slopes": [1, 2]},
    "slopes has shape (3, 5); allowed: (3,)": {"slopes": np.ones((3, 5))},
    "slopes has shape (); allowed: (3,)": {"slopes": 1.0},
    "slopes[1] is nan; allowed: finite": {"slopes": [1, np.nan, 2]},
    "slopes[2] is -inf; allowed: finite": {"slopes": [1, 1, -np.inf]},
    "slopes has dtype complex128; allowed: real numbers": {"slopes": np.ones(3, complex)},
    "return_grad must be a bool, got int": {"return_grad": 1},
    "grad_out has shape (3, 5); allowed: (3, 5, 7)": {"grad_out": np.zeros((3, 5))},
    "grad_out has dtype float32; allowed: float64": {"grad_out": X.astype(np.float32)},
    "grad_out overlaps the input": {"grad_out": X[::-1]},
    "num_threads is 0; allowed": {"num_threads": 0},
}


@pytest.mark.parametrize("said", WRONG)
def test_errors(said):
    given = {"logits": X, "targets": Y} | WRONG[said]
    before = X.copy()
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        fsl.sequence_log_prob(**given)
    out = np.full(X.shape, 7.0)
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        fsl.sequence_log_prob(**{"grad_out": out} | given)
    assert (out == 7).all()
    np.testing.assert_array_equal(X, before)
