"""ctc_loss where things vanish: no batch, no frames, no labels, no probability, no numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import KINDS, Case, assert_same_loss, cases, random_case, scores_like
from reference import ctc as reference

REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
DTYPES = (np.float32, np.float64)


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | options
    return fsl.ctc_loss(*case.arguments, **case.options, **options)


# ---- nothing there ------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, []])
def test_empty_batch(reduction, weight):
    loss, gradient = fsl.ctc_loss(
        np.zeros((0, 5, 4), np.float32),
        np.zeros((0, 3), int),
        np.zeros(0, int),
        np.zeros(0, int),
        reduction=reduction,
        sample_weight=weight,
        return_grad=True,
    )
    assert gradient.shape == (0, 5, 4)
    assert gradient.dtype == np.float32
    assert np.shape(loss) == ((0,) if reduction == "none" else ())
    assert np.sum(loss) == 0


def test_empty_batch_of_lists():
    assert fsl.ctc_loss(np.zeros((0, 5, 4)), []) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_frames(level, kind):
    """Without frames the empty string is certain and any other impossible."""
    loss, gradient = fsl.ctc_loss(np.zeros((2, 0, 4)), [[], [1]], input=kind, reduction="none", return_grad=True)
    np.testing.assert_array_equal(loss, [0, np.inf])
    assert gradient.shape == (2, 0, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_no_labels(level, kind, dtype, scale):
    """Only blanks: the loss is minus the sum of the blank's log-probabilities."""
    logits = np.random.default_rng(1).normal(scale=scale, size=(2, 30, 5))
    scores = scores_like(logits, kind, dtype)
    case = Case(scores, [np.zeros(0, int)] * 2, np.array([30, 17]), 2, kind)
    loss, gradient = run(case)
    case.check(loss, gradient)
    blanks = reference.log_emissions(scores, kind)[:, :, 2]
    expected = [-blanks[0].sum(), -blanks[1, :17].sum()]
    np.testing.assert_allclose(loss, np.array(expected, float), rtol=1e-6)
    assert isinstance(fsl.ctc_loss(scores[0], [], blank=2, input=kind), float)


def test_only_the_blank_class(level):
    loss, gradient = fsl.ctc_loss(np.full((1, 4, 1), 7.0), [[]], return_grad=True)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((1, 4, 1)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_are_all_zero(reduction, dtype):
    case = random_case(np.random.default_rng(0), (3, 8, 5, 3), dtype=dtype)
    loss, gradient = run(case, reduction=reduction, sample_weight=np.zeros(3))
    assert np.all(loss == 0)
    assert np.all(gradient == 0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weight_zero_removes_an_impossible_sequence(reduction):
    """A sequence of weight 0 with loss inf is ignored; 0 times inf does not produce NaN."""
    scores = np.random.default_rng(0).normal(size=(3, 3, 5))
    labels = [[1, 2, 3, 4], [1, 2], [3]]
    weight = np.array([0.0, 2.0, 1.0])
    options = {"reduction": reduction, "return_grad": True}
    loss, gradient = fsl.ctc_loss(scores, labels, sample_weight=weight, **options)
    rest, slope = fsl.ctc_loss(scores[1:], labels[1:], sample_weight=weight[1:], **options)
    np.testing.assert_allclose(loss, [0, *rest] if reduction == "none" else rest, rtol=1e-14)
    np.testing.assert_allclose(gradient, [np.zeros((3, 5)), *slope], rtol=1e-14)


# ---- too short ----------------------------------------------------------------------------

SHORT = [[1, 2, 3], [1, 1], [2, 2], [], [3]]
SHORT_LENGTHS = [2, 2, 3, 0, 1]
SHORT_POSSIBLE = [False, False, True, True, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_infeasible(level, kind, dtype):
    scores = scores_like(np.random.default_rng(0).normal(size=(5, 3, 4)), kind, dtype)
    options = {"reduction": "none", "return_grad": True, "input": kind}
    loss, gradient = fsl.ctc_loss(scores, SHORT, SHORT_LENGTHS, **options)
    np.testing.assert_array_equal(np.isfinite(loss), SHORT_POSSIBLE)
    assert np.all(loss[:2] == np.inf)
    assert not gradient[:2].any()
    zero, same = fsl.ctc_loss(scores, SHORT, SHORT_LENGTHS, infeasible="zero", **options)
    np.testing.assert_array_equal(zero, np.where(SHORT_POSSIBLE, loss, 0))
    np.testing.assert_array_equal(same, gradient)


@pytest.mark.parametrize("reduction", ["sum", "mean", "sequence_mean"])
def test_infeasible_in_a_reduction(reduction):
    scores = np.random.default_rng(0).normal(size=(5, 3, 4))
    arguments = scores, SHORT, SHORT_LENGTHS
    options = {"reduction": reduction, "return_grad": True}
    loss, gradient = fsl.ctc_loss(*arguments, **options)
    assert loss == np.inf
    zero, same = fsl.ctc_loss(*arguments, infeasible="zero", **options)
    losses = fsl.ctc_loss(*arguments, infeasible="zero", reduction="none")
    expected, _ = reference.reduce(losses, gradient, [len(y) for y in SHORT], reduction)
    assert zero == pytest.approx(expected, rel=1e-14)
    np.testing.assert_array_equal(same, gradient)
    assert np.isfinite(gradient).all()


def test_infeasible_raises_naming_the_sequences():
    scores = np.random.default_rng(0).normal(size=(5, 3, 4))
    out = np.full(scores.shape, 9.0)
    with pytest.raises(ValueError, match=r"(?s)\b0\b.*\b1\b"):
        fsl.ctc_loss(scores, SHORT, SHORT_LENGTHS, infeasible="raise", grad_out=out)
    assert np.all(out == 9)
    assert np.isfinite(fsl.ctc_loss(scores[2:], SHORT[2:], SHORT_LENGTHS[2:], infeasible="raise"))


@given(cases(largest=(6, 8, 4, 6)))
def test_ctc_feasible(case):
    expected = [bool(reference.feasible(y, n)) for y, n in zip(case.tokens, case.lengths, strict=True)]
    _, labels, lengths, counts = case.arguments
    concatenated = np.concatenate([*case.tokens, np.zeros(0, np.int64)]).astype(np.int64)
    for form in (labels, concatenated, [y.tolist() for y in case.tokens]):
        possible = fsl.ctc_feasible(form, lengths, counts)
        assert possible.dtype == bool
        np.testing.assert_array_equal(possible, np.array(expected, bool))
    for b, tokens in enumerate(case.tokens):
        for form in (tokens, tokens.tolist(), tuple(tokens.tolist())):
            assert fsl.ctc_feasible(form, lengths[b]) is expected[b]
        assert fsl.ctc_feasible(labels[b], np.array(lengths[b]), int(counts[b])) is expected[b]
        assert fsl.ctc_feasible([tokens], int(lengths[b])).tolist() == [expected[b]]


# ---- probability zero ---------------------------------------------------------------------


@given(cases(smallest=1, scales=(1.0, 10.0)), st.floats(0.02, 0.9), st.integers(0, 2**32 - 1))
def test_impossible_classes(level, case, share, seed):
    """Classes masked with probability 0, here and there, up to whole rows."""
    rng = np.random.default_rng(seed)
    nothing = 0.0 if case.kind == "probs" else -np.inf
    case.scores[rng.random(case.scores.shape) < share] = nothing
    case.scores[rng.random(case.scores.shape[:2]) < 0.02] = nothing
    loss, gradient = run(case)
    case.check(loss, gradient)
    assert not np.isnan(loss).any()
    assert not np.isnan(gradient).any()
    in_place = run(case, grad_out=case.scores)
    np.testing.assert_array_equal(in_place[1], gradient)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("infeasible", ["inf", "zero", "raise"])
def test_a_row_without_any_probability(level, kind, dtype, infeasible):
    """Such a sequence is impossible, though not too short: inf, 0 if asked for, never an error."""
    case = random_case(np.random.default_rng(4), (3, 9, 5, 3), kind=kind, dtype=dtype, full=True)
    clean, slope = run(case)
    case.scores[1, 4] = 0 if kind == "probs" else -np.inf
    loss, gradient = run(case, infeasible=infeasible)
    expected = 0 if infeasible == "zero" else np.inf
    np.testing.assert_array_equal(loss, [clean[0], expected, clean[2]])
    np.testing.assert_array_equal(gradient, [slope[0], np.zeros((9, 5)), slope[2]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_path_left(level, dtype):
    """Masks that leave a single alignment: its probability is the product of its emissions."""
    rng = np.random.default_rng(2)
    alignment = np.array([0, 3, 3, 0, 3, 1, 1, 2, 0, 0, 4, 0])
    log_probs = np.full((1, 12, 5), -np.inf, dtype)
    kept = rng.uniform(-300, 0, 12).astype(dtype)
    log_probs[0, np.arange(12), alignment] = kept
    case = Case(log_probs, [np.array([3, 3, 1, 2, 4])], np.array([12]), 0, "log_probs")
    loss, gradient = run(case)
    assert loss[0] == pytest.approx(-kept.sum(dtype=float), rel=1e-13)
    np.testing.assert_allclose(gradient[0], -np.eye(5)[alignment], atol=1e-6)


# ---- not numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("position", [(0, 1), (5, 2), (8, 0)])
def test_not_a_number_hits_its_own_sequence_only(level, kind, dtype, poison, scale, position):
    logits = np.random.default_rng(4).normal(scale=scale, size=(3, 12, 5))
    scores = scores_like(logits, kind, dtype)
    case = Case(scores, [np.array([1, 2, 1])] * 3, np.array([12, 9, 12]), 0, kind)
    clean, slope = run(case)
    scores[1][position] = poison
    loss, gradient = run(case, num_threads=2)
    np.testing.assert_array_equal(loss, [clean[0], np.nan, clean[2]])
    np.testing.assert_array_equal(gradient[[0, 2]], slope[[0, 2]])
    assert np.isnan(gradient[1, :9]).any()
    assert not gradient[1, 9:].any()
    assert_same_loss(run(case, return_grad=False), loss)


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_a_number_in_a_class_without_label(level, dtype):
    """It still poisons the softmax of its row."""
    scores = np.random.default_rng(4).normal(size=(2, 12, 5)).astype(dtype)
    scores[0, 3, 4] = np.nan
    loss, gradient = fsl.ctc_loss(scores, [[1, 2], [1, 2]], reduction="none", return_grad=True)
    np.testing.assert_array_equal(np.isnan(loss), [True, False])
    assert np.isnan(gradient[0, 3]).any()
    assert not np.isnan(gradient[1]).any()


# ---- confident and huge -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [5.0, 15.0, 30.0, 60.0, 500.0])
@pytest.mark.parametrize("classes", [5, 6625])
def test_confident_model(level, dtype, margin, classes):
    """Thousands of tiny exponentials beside a 1 still count, and a loss never rounds below 0."""
    rng = np.random.default_rng(0)
    alignment = np.array([0, 1, 1, 0, 1, 2, 3, 0])
    scores = rng.normal(size=(1, 8, classes)).astype(dtype)
    scores[0, np.arange(8), alignment] += dtype(margin)
    case = Case(scores, [np.array([1, 1, 2, 3])], np.array([8]), 0)
    loss, gradient = run(case)
    case.check(loss, gradient)
    assert loss[0] >= 0


@given(cases(kinds=("logits",), largest=(4, 10, 4, 3)))
def test_loss_is_never_negative(level, case):
    assert np.all(run(case, return_grad=False) >= 0)


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 3e38), (np.float64, 1e307)])
def test_huge_logits(level, dtype, huge):
    rng = np.random.default_rng(0)
    scores = rng.choice([-huge, -1.0, 0.0, 1.0, huge], (4, 7, 4)).astype(dtype)
    tokens = [np.array([1, 2]), np.array([1]), np.array([3, 3]), np.zeros(0, int)]
    case = Case(scores, tokens, np.full(4, 7), 0)
    loss, gradient = run(case)
    np.testing.assert_allclose(loss, case.expected[0], rtol=1e-6)
    assert not np.isnan(gradient).any()
    in_place = run(case, grad_out=scores)
    np.testing.assert_array_equal(in_place[1], gradient)


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_probabilities(level, dtype):
    tiny = float(np.finfo(dtype).smallest_subnormal)
    rng = np.random.default_rng(0)
    scores = rng.choice([0.0, 3 * tiny, 0.5], (4, 9, 4)).astype(dtype)
    scores[:, :, 0] = 3 * tiny
    tokens = [np.array([1, 2]), np.array([1]), np.array([3, 3]), np.array([1, 2, 3])]
    case = Case(scores, tokens, np.full(4, 9), 0, "probs")
    np.testing.assert_allclose(run(case, return_grad=False), case.expected[0], rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-250, 1e-30, 1e30, 1e250])
def test_probabilities_need_not_be_normalised(level, factor):
    """Scaling frames shifts the loss and leaves the rest alone."""
    probs = reference.softmax(np.random.default_rng(0).normal(size=(2, 9, 5))).astype(np.float64)
    probs[0, ::3] *= factor
    probs[1, 2:5] *= factor
    case = Case(probs, [np.array([2, 1, 1]), np.array([1, 2, 4])], np.full(2, 9), 0, "probs")
    case.check(*run(case))


@pytest.mark.parametrize(("largest", "smallest"), [(1.0, 1e-307), (1e25, 1e-290), (1e200, 1e-250)])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_probabilities_over_the_whole_range(level, largest, smallest, frames):
    """The quotient of two numbers may underflow; the smaller one must be used."""
    probs = np.tile([largest, smallest, largest, 0.0], (1, frames, 1))
    tokens = [np.array([1])]
    if frames == 5:
        probs[0, 1:4, 1] = 0.0
    case = Case(probs, tokens, np.array([frames]), 0, "probs")
    case.check(*run(case))


@pytest.mark.parametrize(
    ("probs", "tokens"),
    [
        ([[1e-31, 1e-15, 1e-33], [1e-9, 1e-18, 1e-3], [1e-16, 1e-13, 1e-22]], [1, 2]),
        (
            [
                [1e-33, 1e-15, 1e-15],
                [1e-28, 1e-10, 1e-28],
                [1e-16, 1e-16, 1e-25],
                [1e-6, 1e-15, 1.0],
            ],
            [2, 1],
        ),
    ],
)
def test_rows_of_small_probabilities(level, probs, tokens):
    """Posteriors of 2^-120 and less still make a derivative: it is their quotient by p."""
    probs = np.array([probs])
    case = Case(probs, [np.array(tokens)], np.array(probs.shape[1:2]), 0, "probs")
    case.check(*run(case))
