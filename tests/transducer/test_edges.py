"""Scores that are infinite or NaN, empty batches, padding, layouts of arrays and forms of labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import ctc as reference_ctc
from thoroughness import spread
from transducer_cases import HALF, VARIANTS, cases, random_case

THREADS = st.sampled_from((1, 2, 4))
FLOATS = (np.float32, np.float64, *HALF)
WIDTHS = (None, None, 2)


def run(case, **options):
    return fsl.rnnt_loss(*case.arguments, **case.options, **{"reduction": "none", "return_grad": True} | options)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


# ---- nothing to do ------------------------------------------------------------------------


def test_empty_batch():
    loss, gradient = fsl.rnnt_loss(np.zeros((0, 4, 3, 5), np.float32), np.zeros((0, 2), int), return_grad=True)
    assert loss == 0
    assert gradient.shape == (0, 4, 3, 5)
    assert gradient.dtype == np.float32
    assert fsl.rnnt_loss(np.zeros((0, 4, 3, 5)), [], reduction="none").shape == (0,)
    assert fsl.rnnt_posteriors(np.zeros((0, 4, 3, 5)), []).blank.shape == (0, 4, 3)
    assert fsl.rnnt_align(np.zeros((0, 4, 3, 5)), []).frames.shape == (0, 0)


@pytest.mark.parametrize("topology", ["regular", "modified"])
def test_no_frames(topology):
    x = np.zeros((2, 0, 3, 4))
    options = {"reduction": "none", "topology": topology}
    assert list(fsl.rnnt_loss(x, [[1], []], **options)) == [np.inf] * 2
    assert list(fsl.rnnt_loss(x, [[1], []], **options, infeasible="zero")) == [0] * 2
    assert list(fsl.rnnt_align(x, [[1], []], topology=topology).log_prob) == [-np.inf] * 2
    # Some sequences without frames, among others.
    x = np.zeros((2, 3, 2, 4))
    loss, gradient = fsl.rnnt_loss(x, [[1], [1]], [3, 0], **options, return_grad=True)
    assert np.isfinite(loss[0])
    assert loss[1] == np.inf
    assert gradient[0].any()
    assert not gradient[1].any()


def test_one_class():
    """Only the blank: probability 1."""
    loss, gradient = fsl.rnnt_loss(np.full((2, 3, 1, 1), 5.0), [[], []], return_grad=True)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_weight_zero_leaves_a_sequence_out(reduction, broken):
    case = random_case(np.random.default_rng(0), (3, 5, 2, 4), full=True)
    case.scores[1] = broken
    loss, gradient = run(case, reduction=reduction, sample_weight=[1.0, 0.0, 2.0])
    assert np.isfinite(loss).all()
    assert not gradient[1].any()
    assert gradient[::2].any()


# ---- infinite scores, NaN -----------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probability_zero(level, variant, dtype):
    """A sequence that cannot be: loss inf or 0, gradient 0, whatever the others are."""
    case = random_case(np.random.default_rng(1), (3, 6, 3, 5), variant=variant, dtype=dtype, full=True)
    nothing = 0.0 if case.kind == "probs" else -np.inf
    case.scores[1, :, :, case.tokens[1][1]] = nothing
    loss, gradient = run(case)
    assert loss[1] == np.inf
    assert not gradient[1].any()
    assert np.isfinite(loss[::2]).all()
    assert run(case, infeasible="zero")[0][1] == 0
    blank, label = fsl.rnnt_posteriors(*case.arguments, **case.lattice_options)
    assert not blank[1].any()
    assert not label[1].any()
    aligned = fsl.rnnt_align(*case.arguments, **case.lattice_options)
    assert aligned.log_prob[1] == -np.inf
    assert (aligned.frames[1] == -1).all()
    assert fsl.rnnt_align(*case.arguments, **case.lattice_options, infeasible="zero").log_prob[1] == 0


def test_a_node_of_nothing_is_avoided(level):
    """Its probabilities are 0: as if the node were not there."""
    case = random_case(np.random.default_rng(2), (1, 6, 3, 5), full=True)
    case.scores[0, 2, 1] = -np.inf
    case.check(*run(case))


@pytest.mark.parametrize(
    ("broken", "variant", "classes", "dtype"),
    spread([np.nan, np.inf], VARIANTS[:5], [4, 30, 300], FLOATS, every=3),
)
def test_nan_stays_in_its_sequence(level, broken, variant, classes, dtype):
    case = random_case(np.random.default_rng(3), (3, 6, 2, classes), variant=variant, dtype=dtype, full=True)
    expected = run(case)
    case.scores[1, 3, 1, case.blank if variant[0] != "logits" else -1] = broken
    loss, gradient = run(case)
    assert np.isnan(loss[1])
    assert np.isnan(gradient[1, 3].astype(float)).any()
    assert_same([loss[::2], gradient[::2]], [expected[0][::2], expected[1][::2]])
    assert np.isnan(run(case, return_grad=False)[1])
    aligned = fsl.rnnt_align(*case.arguments, **case.lattice_options)
    assert np.isnan(aligned.log_prob[1])
    assert (aligned.frames[1] == -1).all()


def test_negative_probability():
    case = random_case(np.random.default_rng(4), (2, 5, 2, 4), variant=("probs", "softmax", "regular"), full=True)
    case.scores[0, 1, 1, 0] = -0.25
    assert np.isnan(run(case)[0][0])
    case.scores[0, 1, 1] = np.abs(case.scores[0, 1, 1])
    case.scores[0, 1, 1, next(c for c in range(1, 4) if c != case.tokens[0][1])] = -0.25
    assert np.isfinite(run(case)[0]).all()  # a class that does not occur


def test_nodes_that_no_alignment_passes_are_not_read(level):
    case = random_case(np.random.default_rng(5), (1, 6, 3, 5), variant=("logits", "softmax", "modified"), full=True)
    loss, gradient = run(case)
    t, u = np.indices((6, 4))
    outside = (u > t) | (u < t - 3)
    case.scores[0][outside] = np.nan
    assert_same(run(case), [loss, gradient])
    assert not gradient[0][outside].any()


# ---- layouts ------------------------------------------------------------------------------


def axes_swapped(x):
    return np.ascontiguousarray(x.transpose(2, 1, 0, 3)).transpose(2, 1, 0, 3)


def strided(x):
    larger = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    view = larger[1::2, 1::2, 1::2, 1::2]
    view[...] = x
    return view


def rows_apart(x):
    """The class axis contiguous, the others not."""
    larger = np.full([*(2 * n + 1 for n in x.shape[:3]), x.shape[3] + 3], np.nan, x.dtype)
    view = larger[1::2, 1::2, 1::2, 2:-1]
    view[...] = x
    return view


def reversed_memory(x):
    return np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]


def unaligned(x):
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape) if x.size else x
    view[...] = x
    return view


LAYOUTS = (np.copy, axes_swapped, strided, rows_apart, reversed_memory, np.asfortranarray, unaligned)


@given(
    cases(dtypes=FLOATS, scales=(1.0, 10.0), widths=WIDTHS), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), THREADS
)
def test_layouts(level, case, layout, out_layout, threads):
    loss, gradient = run(case)
    case.scores = layout(case.scores)
    case.scores.flags.writeable = False
    assert_same(run(case), [loss, gradient])
    out = out_layout(np.full_like(gradient, np.nan))
    returned = run(case, grad_out=out, return_grad=False, num_threads=threads)
    assert returned[1] is out
    assert_same(returned, [loss, gradient])
    if out_layout in (strided, rows_apart):
        out[...] = np.nan
        assert np.isnan(out.base.astype(np.float64)).all()  # nothing written in between


@given(cases(dtypes=FLOATS, widths=WIDTHS), st.sampled_from(LAYOUTS), THREADS)
def test_gradient_over_the_input(level, case, layout, threads):
    expected = run(case)
    case.scores = layout(case.scores)
    returned = run(case, grad_out=case.scores, num_threads=threads)
    assert returned[1] is case.scores
    assert_same(returned, expected)


def test_broadcast_scores():
    x = np.broadcast_to(np.random.default_rng(0).normal(size=6), (3, 7, 3, 6))
    labels = [[1, 2], [3], []]
    expected = fsl.rnnt_loss(x.copy(), labels, reduction="none", return_grad=True)
    assert_same(fsl.rnnt_loss(x, labels, reduction="none", return_grad=True), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_foreign_byte_order(dtype):
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 4)).astype(dtype)
    labels = np.array([[1, 2], [3, 1]])
    expected = fsl.rnnt_loss(x, labels, return_grad=True)
    foreign = x.astype(x.dtype.newbyteorder())
    loss, gradient = fsl.rnnt_loss(foreign, labels.astype(">i4"), return_grad=True)
    assert gradient.dtype == foreign.dtype
    assert_same([loss, gradient], expected)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("classes", [5, 40, 300])
@pytest.mark.parametrize("variant", VARIANTS[:4])
def test_half_precision_is_rounded_once(level, dtype, classes, variant):
    """The same as float32, but for the rounding of the gradient."""
    case = random_case(np.random.default_rng(6), (2, 7, 3, classes), variant=variant, dtype=dtype)
    loss, gradient = run(case)
    case.scores = case.scores.astype(np.float32)
    expected, slope = run(case)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    smallest = 2.0**-24 if dtype == np.float16 else 1e-38
    np.testing.assert_allclose(gradient.astype(float), slope, rtol=2.0**-8, atol=smallest + 1e-7)


# ---- labels and single sequences ----------------------------------------------------------


@given(cases(widths=WIDTHS), st.sampled_from(["concatenated", "list", "arrays", "column"]))
def test_forms_of_labels(case, form):
    expected = run(case)
    counts = case.label_lengths
    if form == "concatenated":
        labels = np.concatenate([*case.tokens, np.zeros(0, np.int64)]).astype(np.int64)
    elif form == "list":
        labels, counts = [y.tolist() for y in case.tokens], None
    elif form == "arrays":
        labels, counts = [y.astype(np.int16) for y in case.tokens], None
    else:
        labels, counts = np.empty(len(case.tokens), object), None
        labels[:] = [y.tolist() for y in case.tokens]
    options = case.options | {"reduction": "none", "return_grad": True}
    assert_same(fsl.rnnt_loss(case.scores, labels, case.lengths, counts, **options), expected)


@given(cases(smallest=1, widths=WIDTHS))
def test_a_single_sequence(case):
    loss, gradient = run(case)
    for b, y in enumerate(case.tokens):
        options = case.options | {"ranges": None if case.ranges is None else case.ranges[b]}
        labels = case.labels[b]
        alone, slope = fsl.rnnt_loss(
            case.scores[b], labels, case.lengths[b], len(y), **options, reduction="none", return_grad=True
        )
        assert isinstance(alone, float)
        assert_same([alone, slope], [loss[b], gradient[b]])


# ---- posteriors ---------------------------------------------------------------------------


@given(cases(scales=(0.1, 1.0, 10.0), fastemit=(0.0,), widths=(None, 3)), THREADS)
def test_posteriors(level, case, threads):
    """Frames of blanks add up to 1, and so do labels; with logits they are the gradient's entries."""
    options = case.lattice_options | {"ranges": case.ranges}
    blank, label = fsl.rnnt_posteriors(*case.arguments, **options, num_threads=threads)
    assert blank.dtype == label.dtype == case.scores.dtype
    assert blank.shape == label.shape == case.scores.shape[:3]
    loss, _ = run(case)
    small = 1e-5 if case.scores.dtype == np.float32 else 1e-11
    for b, n in enumerate(case.lengths):
        if not np.isfinite(loss[b]):
            assert not blank[b].any()
            assert not label[b].any()
            continue
        assert abs(label[b].sum() - len(case.tokens[b])) < small
        steps = blank[b].sum() + (label[b].sum() if case.topology == "modified" else 0)
        assert abs(steps - n) < small * max(1, n)
        assert not blank[b, n:].any()


@pytest.mark.parametrize("dtype", HALF)
def test_posteriors_of_half_precision(dtype):
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(dtype)
    found = fsl.rnnt_posteriors(x, [[1, 2], [3, 3]])
    expected = fsl.rnnt_posteriors(x.astype(np.float32), [[1, 2], [3, 3]])
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(float), b, rtol=2.0**-8, atol=1e-7)


# ---- a vanishing loss ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_certain_model(level, dtype):
    """p - 1 of a probability near 1 keeps its digits, and the loss is not negative."""
    x = np.zeros((8, 3, 300), dtype)
    x[..., 0] = 30
    for u, t in enumerate((2, 5)):
        x[t, u, 0], x[t, u, u + 1] = 0, 30
    loss, gradient = fsl.rnnt_loss(x, [1, 2], return_grad=True)
    log_probs = reference_ctc.log_softmax(x.astype(np.float64))
    assert 0 < loss < 1e-8
    rows = gradient.astype(float)
    assert rows[0, 0, 0] == pytest.approx(np.expm1(float(log_probs[0, 0, 0])), rel=1e-4)
