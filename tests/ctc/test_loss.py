"""ctc_loss: right values and gradients for every input, dtype, layout, label form and reduction."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import HALF, JUNK, Case, assert_same_loss, cases, random_case
from reference import ctc as reference

THREADS = st.sampled_from((1, 2, 4))
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | options
    return fsl.ctc_loss(*case.arguments, **case.options, **options)


def assert_same(actual, expected):
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


# ---- values -------------------------------------------------------------------------------


@given(cases(), THREADS)
def test_matches_reference(level, case, threads):
    loss, gradient = run(case, num_threads=threads)
    case.check(loss, gradient)
    assert_same_loss(run(case, return_grad=False), loss)


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_half_precision(level, case):
    case.check(*run(case))


@given(cases(smallest=1, largest=(3, 5, 4, 3), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_matches_enumeration(level, case):
    losses, gradient = run(case)
    for b, (loss, n) in enumerate(zip(losses, case.lengths, strict=True)):
        by_definition, slope = reference.ctc_brute_force(case.scores[b, :n], case.tokens[b], case.blank, case.kind)
        assert loss == pytest.approx(by_definition, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(gradient[b, :n], slope, rtol=1e-12, atol=1e-12)


@given(cases(smallest=1, largest=(2, 6, 4, 3), dtypes=(np.float64,), scales=(0.1, 1.0)))
def test_gradient_is_the_central_difference(case):
    def total(scores):
        loss = fsl.ctc_loss(scores, *case.arguments[1:], **case.options, reduction="sum")
        return float(loss)

    loss, gradient = run(case, reduction="sum")
    assume(np.isfinite(loss))
    case.scores[np.isnan(case.scores)] = 0.0
    numeric = reference.central_differences(total, case.scores, 1e-6)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize(("frames", "classes", "count"), [(150, 28, 40), (60, 700, 20), (400, 5, 60)])
def test_larger_shapes(level, dtype, scale, frames, classes, count):
    rng = np.random.default_rng(frames)
    case = random_case(rng, (3, frames, classes, count), dtype=dtype, scale=scale)
    case.check(*run(case, num_threads=2))


@pytest.mark.parametrize("probability", [0.0, 1e-300, 1e-200])
def test_derivative_with_respect_to_a_vanishing_probability(level, probability):
    """The way through such a probability is not taken, yet opening it would change P most."""
    probs = reference.softmax(np.random.default_rng(3).normal(size=(1, 12, 6))).astype(np.float64)
    probs[0, 2:9:2, 1:4] = probability
    probs[0, 5] = probability, 0.2, 0.3, probability, 0.25, 0.25
    case = Case(probs, [np.array([1, 2, 2, 3])], np.array([12]), 0, "probs")
    case.check(*run(case))


# ---- goldens ------------------------------------------------------------------------------


def fixed_probabilities(symbols, frames):
    """The same probability for each symbol at every frame; the last symbol is the blank."""
    return np.tile(list(symbols.values()), (frames, 1)), list(symbols)


HELLO = {"H": 0.6, "E": 0.5, "L": 0.7, "O": 0.8, "-": 0.2}
DEEP = {"D": 0.8, "E": 0.7, "P": 0.9, "-": 0.3}
DIGITS = {"1": 0.9, "2": 0.7, "3": 0.8, "-": 0.2}


@pytest.mark.parametrize(
    ("word", "symbols", "alignment", "probability"),
    [
        ("HELLO", HELLO, "H-E-L-L-O", 1.8816e-4),
        ("HELLO", HELLO, "HE-L-L-O", 9.408e-4),
        ("HELLO", HELLO, "H-E-LL-O", 0.0),  # collapses to HELO
        ("HELO", HELLO, "H-E-LL-O", 9.408e-4),
        ("DEEP", DEEP, "D-E-E-P", 0.8 * 0.7**2 * 0.9 * 0.3**3),
        ("DEEP", DEEP, "DE-E-P", 0.8 * 0.7**2 * 0.9 * 0.3**2),
        ("DEEP", DEEP, "D-EE-P", 0.0),  # collapses to DEP
        ("123", DIGITS, "1-2-3", 0.504 * 0.2**2),
        ("123", DIGITS, "1-23", 0.504 * 0.2),
        ("123", DIGITS, "12-3", 0.504 * 0.2),
    ],
)
def test_one_written_alignment(word, symbols, alignment, probability):
    probs, names = fixed_probabilities(symbols, len(alignment))
    written = np.array([names.index(c) for c in alignment])
    probs[np.arange(len(names)) != written[:, None]] = 0
    labels = [names.index(c) for c in word]
    loss = fsl.ctc_loss(probs, labels, blank=-1, input="probs")
    assert np.exp(-loss) == pytest.approx(probability, rel=1e-12)


@pytest.mark.parametrize(("word", "symbols"), [("HELLO", HELLO), ("DEEP", DEEP), ("123", DIGITS)])
@pytest.mark.parametrize("extra", [-1, 0, 1, 2])
def test_all_alignments(word, symbols, extra):
    """Every alignment counts, not three; with no frame to spare there is only one."""
    shortest = len(word) + sum(a == b for a, b in pairwise(word))
    probs, names = fixed_probabilities(symbols, shortest + extra)
    labels = [names.index(c) for c in word]
    loss, gradient = fsl.ctc_loss(probs, labels, blank=-1, input="probs", return_grad=True)
    expected, slope = reference.ctc_brute_force(probs, labels, -1, "probs")
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12)
    if extra == 0:
        one = np.prod([symbols[c] for c in word]) * symbols["-"] ** (shortest - len(word))
        assert loss == pytest.approx(-np.log(one), rel=1e-13)


# ---- independence -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def large(request):
    """Work enough for several threads, on both paths of the lattice."""
    rng = np.random.default_rng(5)
    case = random_case(rng, (24, 160, 40, 50), dtype=request.param, scale=3.0)
    case.scores[::3] *= 40
    return case


@pytest.mark.parametrize("threads", [2, 3, 4, 64, None])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_threads_do_not_change_a_bit(level, large, threads, reduction):
    expected = run(large, reduction=reduction, num_threads=1)
    assert_same(run(large, reduction=reduction, num_threads=threads), expected)


def test_batch_mates_do_not_change_a_bit(level, large):
    losses, gradient = run(large, num_threads=2)
    for b, n in enumerate(large.lengths):
        alone, slope = run(large.sequence(b))
        assert_same([alone, slope[0]], [losses[b : b + 1], gradient[b, :n]])
    order = np.random.default_rng(0).permutation(len(losses))
    mixed = Case(large.scores[order], [large.tokens[b] for b in order], large.lengths[order], large.blank)
    assert_same(run(mixed, num_threads=2), [losses[order], gradient[order]])


@given(cases())
def test_negative_blank_counts_from_the_end(case):
    loss = run(case)
    classes = case.scores.shape[2]
    case.blank = case.blank - classes if case.blank >= 0 else case.blank + classes
    assert_same(run(case), loss)


# ---- layouts ------------------------------------------------------------------------------


def time_major(x):
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


def strided(x):
    """Every axis a slice of something larger, the class axis too."""
    larger = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    view = larger[1::2, 1::2, 1::2]
    view[...] = x
    return view


def reversed_memory(x):
    return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]


def fortran(x):
    return np.asfortranarray(x)


def unaligned(x):
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape) if x.size else x
    view[...] = x
    return view


LAYOUTS = (np.copy, time_major, strided, reversed_memory, fortran, unaligned)
FLOATS = (np.float32, np.float64, *HALF)


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0)), st.sampled_from(LAYOUTS), st.booleans())
def test_layouts(level, case, layout, read_only):
    expected = run(case)
    case.scores = layout(case.scores)
    before = case.scores.copy()
    case.scores.flags.writeable = not read_only
    assert_same(run(case), expected)
    assert_same([case.scores], [before])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_broadcast_scores(dtype):
    """One row of scores stands for every frame of every sequence: strides of 0."""
    row = np.random.default_rng(0).normal(size=6).astype(dtype)
    labels = [[1, 2], [3], []]
    broadcast = np.broadcast_to(row, (3, 7, 6))
    expected = fsl.ctc_loss(broadcast.copy(), labels, reduction="none", return_grad=True)
    assert_same(fsl.ctc_loss(broadcast, labels, reduction="none", return_grad=True), expected)


@given(
    cases(dtypes=FLOATS, scales=(1.0, 10.0, 1e2)),
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    THREADS,
)
def test_grad_out(level, case, layout, out_layout, threads):
    loss, gradient = run(case)
    case.scores = layout(case.scores)
    out = out_layout(np.full_like(gradient, np.nan))
    returned = run(case, grad_out=out, return_grad=False, num_threads=threads)
    assert returned[1] is out
    assert_same(returned, [loss, gradient])
    if out_layout is strided:
        out[...] = np.nan
        assert np.isnan(out.base.astype(np.float64)).all()  # nothing written in between


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), THREADS)
def test_gradient_over_the_input(level, case, layout, threads):
    """grad_out may be the scores: the general path must still find the overwritten scores."""
    loss, gradient = run(case)
    case.scores = layout(case.scores)
    returned = run(case, grad_out=case.scores, num_threads=threads)
    assert returned[1] is case.scores
    assert_same(returned, [loss, gradient])


def test_gradient_over_the_input_by_an_equal_view():
    scores = np.random.default_rng(0).normal(size=(2, 6, 4))
    expected = fsl.ctc_loss(scores, [[1, 2], [3]], return_grad=True)
    assert_same(fsl.ctc_loss(scores, [[1, 2], [3]], grad_out=scores[:]), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_foreign_byte_order(dtype):
    scores = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(dtype)
    labels = np.array([[1, 2], [3, 1]])
    expected = fsl.ctc_loss(scores, labels, return_grad=True)
    foreign = scores.astype(scores.dtype.newbyteorder())
    loss, gradient = fsl.ctc_loss(foreign, labels.astype(">i4"), return_grad=True)
    assert gradient.dtype == foreign.dtype
    assert_same([loss, gradient], expected)


class Foreign:
    """An object that is not an array but can be converted to one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        assert not copy
        return self.array if dtype is None else self.array.astype(dtype)


class Capsule:
    """A tensor of another library, which speaks DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_foreign_arrays():
    scores = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    labels, lengths, counts = np.array([[1, 2], [3, 0]]), np.array([6, 5]), np.array([2, 1])
    expected = fsl.ctc_loss(scores, labels, lengths, counts, return_grad=True)
    for kind in (Foreign, Capsule):
        foreign = (kind(x) for x in (scores, labels, lengths, counts))
        assert_same(fsl.ctc_loss(*foreign, return_grad=True), expected)
    assert_same(fsl.ctc_loss(memoryview(scores), labels, lengths, counts, return_grad=True), expected)
    nested = scores.astype(np.float64).tolist()
    loss = fsl.ctc_loss(nested, labels.tolist(), lengths.tolist(), counts.tolist())
    assert loss == pytest.approx(expected[0], rel=1e-6)


# ---- label forms --------------------------------------------------------------------------

INTEGERS = [np.dtype(c) for c in "bBhHiIlLqQ"]


@given(cases(largest=(4, 12, 8, 5)), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_padded_labels_of_any_integer_type(case, dtype, length_dtype):
    expected = run(case)
    labels = case.labels.astype(dtype)
    before = labels.copy()
    lengths, counts = (x.astype(length_dtype) for x in (case.lengths, case.label_lengths))
    loss = fsl.ctc_loss(case.scores, labels, lengths, counts, **case.options, reduction="none", return_grad=True)
    assert_same(loss, expected)
    np.testing.assert_array_equal(labels, before)


@given(cases(), st.sampled_from(["concatenated", "list", "arrays", "strided", "read-only"]))
def test_other_label_forms(case, form):
    expected = run(case)
    counts = case.label_lengths
    if form == "concatenated":
        labels = np.concatenate([*case.tokens, np.zeros(0, np.int64)]).astype(np.int64)
    elif form == "list":
        labels, counts = [y.tolist() for y in case.tokens], None
    elif form == "arrays":
        labels = [y.astype(np.int16) for y in case.tokens]
    else:
        labels = np.repeat(np.repeat(case.labels, 2, axis=0), 3, axis=1)[::2, ::3]
        labels.flags.writeable = form == "strided"
    loss = fsl.ctc_loss(
        case.scores,
        labels,
        case.lengths,
        counts,
        **case.options,
        reduction="none",
        return_grad=True,
    )
    assert_same(loss, expected)


@given(cases(smallest=1, largest=(3, 9, 6, 4)))
def test_lengths_default_to_full(case):
    case = case.sequence(0)
    expected = run(case)
    arguments = case.scores, case.labels
    assert_same(fsl.ctc_loss(*arguments, **case.options, return_grad=True), expected)


def test_label_padding_is_never_read():
    """0, the blank itself, or anything else may fill the labels."""
    scores = np.random.default_rng(0).normal(size=(1, 8, 5))
    expected = fsl.ctc_loss(scores, [[1, 1]], return_grad=True)
    for filler in (0, 4, 5, -1, JUNK, 2**40):
        labels = np.array([[1, 1, filler, filler]])
        assert_same(fsl.ctc_loss(scores, labels, None, [2], return_grad=True), expected)


# ---- one sequence -------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(case=cases(smallest=1, largest=(1, 9, 6, 4)), with_lengths=st.booleans())
def test_single_sequence_gives_a_scalar(reduction, case, with_lengths):
    case = case if with_lengths else case.sequence(0)
    lengths = [int(case.lengths[0]), int(case.label_lengths[0])] if with_lengths else []
    expected = run(case, reduction=reduction)
    loss, gradient = fsl.ctc_loss(
        case.scores[0],
        case.tokens[0],
        *lengths,
        **case.options,
        reduction=reduction,
        return_grad=True,
    )
    assert np.ndim(loss) == 0
    assert isinstance(loss, float)  # which numpy.float64 is
    assert gradient.shape == case.scores.shape[1:]
    assert_same([loss, gradient], [np.squeeze(expected[0]), expected[1][0]])


# ---- reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@given(case=cases(kinds=("logits", "log_probs"), scales=(1.0, 10.0)), seed=st.integers(0, 99))
def test_reductions(reduction, weighted, case, seed):
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], len(case.lengths)) if weighted else None
    options = {"reduction": reduction, "sample_weight": weight}
    loss, gradient = run(case, **options)
    expected, slope = reference.reduce(*case.expected, case.label_lengths, reduction, weight)
    if reduction != "none":
        assert isinstance(loss, float)
    tolerance = 1e-12 if case.scores.dtype == np.float64 else 3e-6
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, slope, atol=20 * tolerance, rtol=0)
    assert_same_loss(run(case, return_grad=False, **options), loss)


def test_mean_is_the_default():
    scores = np.random.default_rng(0).normal(size=(3, 6, 4))
    labels = [[1, 2], [3], []]
    losses = fsl.ctc_loss(scores, labels, reduction="none")
    assert fsl.ctc_loss(scores, labels) == pytest.approx(losses.mean(), rel=1e-14)


@given(cases(smallest=2, kinds=("logits",), scales=(1.0,)), st.floats(0.5, 1e3))
def test_micro_batches_add_up(case, normalizer):
    """Each part of a batch divided by the whole batch's normalizer, they sum to the whole."""
    options = {"reduction": "sum", "normalizer": normalizer}
    whole, gradient = run(case, **options)
    parts = [run(case.sequence(b), **options) for b in range(len(case.lengths))]
    assert whole == pytest.approx(sum(loss for loss, _ in parts), rel=1e-13, abs=1e-13)
    for b, (_, slope) in enumerate(parts):
        np.testing.assert_allclose(slope[0], gradient[b, : case.lengths[b]], rtol=1e-6, atol=1e-13)
    total, slope = run(case, reduction="sum")
    assert whole == pytest.approx(total / normalizer, rel=1e-13)
    np.testing.assert_allclose(gradient, slope / normalizer, rtol=1e-6, atol=1e-7)
