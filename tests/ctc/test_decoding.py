"""ctc_greedy_decode, ctc_collapse, ctc_alignment_log_prob."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import HALF, KINDS, cases, random_case
from reference import alignment as reference_alignment
from reference import ctc as reference

THREADS = st.sampled_from((1, 2, 4))


def decode(case, **options):
    return fsl.ctc_greedy_decode(case.scores, case.lengths, **case.options, **options)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def check(case, decoded):
    blank = case.blank % case.scores.shape[2]
    for b, n in enumerate(case.lengths):
        labels, log_prob = reference_alignment.greedy(case.scores[b, :n], blank, case.kind)
        count = decoded.label_lengths[b]
        assert decoded.labels[b, :count].tolist() == labels
        assert np.all(decoded.labels[b, count:] == -1)
        bound = 1e-12 if case.scores.dtype == np.float64 else 1e-6
        assert decoded.log_prob[b] == pytest.approx(log_prob, rel=bound, abs=bound * max(1, n))
    assert decoded.labels.shape[1] == max([0, *decoded.label_lengths])


@given(cases(dtypes=(np.float32, np.float64, *HALF), scales=(0.1, 1.0, 10.0)), THREADS)
def test_greedy(level, case, threads):
    check(case, decode(case, num_threads=threads))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_greedy_with_many_classes(level, kind, dtype):
    case = random_case(np.random.default_rng(0), (3, 40, 997, 0), kind=kind, dtype=dtype)
    check(case, decode(case))


@pytest.mark.parametrize("name", real_data.NAMES)
def test_greedy_on_real_emissions(level, name):
    data = real_data.load(name, padding=np.nan)
    options = {"blank": data.blank, "input": data.kind}
    decoded = fsl.ctc_greedy_decode(data.emissions, data.lengths, **options)
    for b, n in enumerate(data.lengths):
        expected = reference.collapse(data.emissions[b, :n].argmax(axis=1).tolist(), data.blank)
        assert decoded.labels[b, : decoded.label_lengths[b]].tolist() == expected
    # The greedy path is the best of all paths, and therefore of those that spell the same labels.
    alignment = fsl.ctc_align(data.emissions, decoded.labels, data.lengths, decoded.label_lengths, **options)
    np.testing.assert_allclose(alignment.log_prob, decoded.log_prob, rtol=1e-6, atol=1e-6)


def test_first_of_equal_classes():
    decoded = fsl.ctc_greedy_decode(np.zeros((2, 7, 40)), blank=3)
    assert_same(decoded[:2], [[[0], [0]], [1, 1]])
    np.testing.assert_allclose(decoded.log_prob, 7 * np.log(1 / 40), rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stays_in_its_sequence(level, kind, value):
    scores = np.random.default_rng(0).dirichlet(np.ones(40), (3, 9))
    expected = fsl.ctc_greedy_decode(scores, input=kind)
    scores[1, 4, 2] = value
    found = fsl.ctc_greedy_decode(scores, input=kind)
    assert np.isnan(found.log_prob[1])
    assert found.label_lengths[1] == 0
    assert found.spans()[1] == []
    for column, padding in zip((found.labels, *found[3:], found.confidences), (-1, -1, -1, 0, 0), strict=True):
        assert np.all(column[1] == padding)
    for b in (0, 2):
        n = found.label_lengths[b]
        assert found.log_prob[b] == expected.log_prob[b]
        np.testing.assert_array_equal(found.labels[b, :n], expected.labels[b, :n])


def test_negative_probability():
    assert np.isnan(fsl.ctc_greedy_decode([[0.5, 0.6, -0.1]], input="probs").log_prob)


def test_impossible_frame():
    scores = np.zeros((4, 3))
    scores[2] = -np.inf
    assert fsl.ctc_greedy_decode(scores).log_prob == -np.inf
    assert fsl.ctc_greedy_decode(scores, input="log_probs").log_prob == -np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_of_no_possible_class_the_first_is_taken(level, dtype, kind, classes):
    scores = np.full((2, classes), 0 if kind == "probs" else -np.inf, dtype)
    decoded = fsl.ctc_greedy_decode(scores, input=kind, blank=-1)
    assert decoded.labels.tolist() == [0] * (classes > 1)
    assert decoded.log_prob == -np.inf


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_single_sequence_and_layouts(case):
    expected = decode(case)
    alone = fsl.ctc_greedy_decode(case.scores[0], int(case.lengths[0]), **case.options)
    assert isinstance(alone.label_lengths, int)
    assert isinstance(alone.log_prob, float)
    assert_same(alone, [x[0] for x in expected])
    case.scores = np.ascontiguousarray(case.scores.swapaxes(0, 1)).swapaxes(0, 1)
    case.scores.flags.writeable = False
    assert_same(decode(case), expected)


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4)])
def test_nothing_to_decode(shape):
    decoded = fsl.ctc_greedy_decode(np.zeros(shape))
    assert decoded.labels.shape == (shape[0], 0)
    assert_same(decoded[1:3], [np.zeros(shape[0])] * 2)
    assert_same(decoded[3:], [np.zeros((shape[0], 0))] * 3)
    assert decoded.confidences.shape == (shape[0], 0)
    assert decoded.spans() == [[]] * shape[0]


def runs(scores, blank, kind):
    """Label, first frame, last frame and log-probabilities of each run of the best classes."""
    log_probs = reference.log_emissions(scores, kind)
    classes = scores.argmax(axis=1).tolist() if len(scores) else []
    found, before = [], blank
    for t, best in enumerate(classes):
        if best != blank:
            if best != before:
                found.append((best, t, []))
            found[-1][2].append(log_probs[t, best])
        before = best
    return [(label, first, first + len(values), values) for label, first, values in found]


@given(cases(dtypes=(np.float32, np.float64, *HALF), scales=(0.1, 1.0, 10.0)), THREADS)
def test_spans(level, case, threads):
    """Frames, sums and confidences of the labels, of arrays and of lists."""
    decoded, blank = decode(case, num_threads=threads), case.blank % case.scores.shape[2]
    bound = 1e-12 if case.scores.dtype == np.float64 else 1e-6
    assert decoded.frames.shape == decoded.labels.shape == decoded.confidences.shape
    for b, spans in enumerate(decoded.spans()):
        expected = runs(case.scores[b, : case.lengths[b]], blank, case.kind)
        n = decoded.label_lengths[b]
        assert [span[:3] for span in spans] == [run[:3] for run in expected]
        assert decoded.labels[b, :n].tolist() == [span.label for span in spans]
        assert decoded.frames[b, :n].tolist() == [span.start for span in spans]
        assert decoded.end_frames[b, :n].tolist() == [span.end for span in spans]
        assert decoded.label_log_probs[b, :n].tolist() == [span.log_prob for span in spans]
        for span, confidence, (*_, values) in zip(spans, decoded.confidences[b], expected, strict=False):
            assert span.log_prob == pytest.approx(float(sum(values)), rel=bound, abs=bound * len(values))
            assert confidence == pytest.approx(np.exp(span.mean_log_prob), rel=1e-15)
            assert 0 <= confidence <= 1 + bound
        padding = [x[b, n:] for x in (decoded.frames, decoded.end_frames)]
        assert_same(padding, [np.full(len(padding[0]), -1)] * 2)
        assert not decoded.confidences[b, n:].any()
        assert not decoded.label_log_probs[b, n:].any()


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_spans_of_one_sequence_are_one_list(case):
    alone = fsl.ctc_greedy_decode(case.scores[0], int(case.lengths[0]), **case.options)
    expected = decode(case)
    assert alone.spans() == expected.spans()[0]
    assert_same(alone.confidences, expected.confidences[0])


def test_spans_of_many_frames_lose_no_digits():
    frames = 10**6
    [span] = fsl.ctc_greedy_decode(np.broadcast_to([-5.0, -0.1], (frames, 2)), input="log_probs").spans()
    assert span.log_prob == float(Fraction(-0.1) * frames)


def test_spans_are_those_of_alignment():
    data = real_data.load("speech_hama_real")
    options = {"blank": data.blank, "input": data.kind}
    decoded = fsl.ctc_greedy_decode(data.emissions, data.lengths, **options)
    aligned = fsl.ctc_align(data.emissions, decoded.labels, data.lengths, decoded.label_lengths, **options)
    for found, expected in zip(decoded.spans(), aligned.spans(), strict=True):
        assert [span[:3] for span in found] == [span[:3] for span in expected]
        np.testing.assert_allclose([s[3:] for s in found], [s[3:] for s in expected], rtol=1e-6, atol=1e-6)


def test_repr_is_short():
    decoded = fsl.ctc_greedy_decode(np.eye(3)[[1, 0, 2]], input="probs")
    assert repr(decoded) == (
        "GreedyDecoding(labels=int64 [2], label_lengths=2, log_prob=0.0, frames=int64 [2], end_frames=int64 [2], "
        "label_log_probs=float64 [2])"
    )
    for result in (fsl.ctc_align(np.zeros((9, 999, 3)), [[1]] * 9), fsl.rnnt_align(np.zeros((9, 9, 2, 3)), [[1]] * 9)):
        assert len(repr(result)) < 200
        assert repr(result).startswith(f"{type(result).__name__}({result._fields[0]}=int64 [9, ")


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, "logits has shape", {"logits": np.zeros(3)}),
        (TypeError, "logits has dtype", {"logits": np.zeros((2, 3), int)}),
        (ValueError, "blank is 5", {"blank": 5}),
        (ValueError, "input is 'p'", {"input": "p"}),
        (ValueError, r"logit_lengths\[1\] is 7", {"logit_lengths": [6, 7]}),
        (TypeError, "logit_lengths has dtype", {"logit_lengths": [1.0, 2.0]}),
    ],
)
def test_greedy_errors(kind, said, wrong):
    with pytest.raises(kind, match=said):
        fsl.ctc_greedy_decode(**{"logits": np.zeros((2, 6, 5))} | wrong)


# ---- collapse -----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 3))
def test_collapse(path, blank):
    labels = fsl.ctc_collapse(path, blank)
    assert labels.dtype == np.int64
    assert labels.tolist() == reference.collapse(path, blank)


@pytest.mark.parametrize(
    ("kind", "said", "arguments"),
    [
        (ValueError, r"alignment\[2\] is -1", ([1, 0, -1], 0)),
        (ValueError, "alignment has shape", ([[1, 0]], 0)),
        (TypeError, "alignment has dtype", ([1.0], 0)),
        (ValueError, "blank is -1; allowed: 0 or more", ([1], -1)),
        (TypeError, "blank must be an integer", ([1], "-")),
    ],
)
def test_collapse_errors(kind, said, arguments):
    with pytest.raises(kind, match=said):
        fsl.ctc_collapse(*arguments)


# ---- alignments by hand -------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_alignment_log_prob(frames, classes, count, seed):
    rng = np.random.default_rng(seed)
    log_probs = rng.normal(size=(count, frames, classes))
    alignments = rng.integers(0, classes, (count, frames))
    at = np.take_along_axis(log_probs, alignments[:, :, None], axis=2)[:, :, 0]
    found = fsl.ctc_alignment_log_prob(log_probs, alignments)
    assert (found.dtype, found.shape) == (np.float64, (count,))
    np.testing.assert_allclose(found, at.sum(axis=1), rtol=1e-12, atol=1e-12)
    if count and frames:
        shared = fsl.ctc_alignment_log_prob(log_probs[0], alignments)
        np.testing.assert_allclose(shared[0], found[0], rtol=1e-12)
        constant = fsl.ctc_alignment_log_prob(log_probs[0, 0], alignments)
        expected = log_probs[0, 0][alignments].sum(axis=1)
        np.testing.assert_allclose(constant, expected, rtol=1e-12, atol=1e-12)


def test_alignment_log_prob_of_the_best_path():
    rng = np.random.default_rng(0)
    log_probs = reference.log_softmax(rng.normal(size=(3, 8, 5))).astype(np.float64)
    aligned = fsl.ctc_align(log_probs, [[1, 2], [3], [4, 4]], input="log_probs")
    found = fsl.ctc_alignment_log_prob(log_probs, aligned.path)
    np.testing.assert_allclose(found, aligned.log_prob, rtol=1e-14)


def test_alignments_of_different_lengths():
    log_probs = np.log([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    found = np.exp(fsl.ctc_alignment_log_prob(log_probs, [[], [1], [0, 1], [0, 1, 1]]))
    np.testing.assert_allclose(found, [1, 0.5, 0.4, 0.04])


def test_impossible_alignment():
    found = fsl.ctc_alignment_log_prob(np.array([0.0, -np.inf], np.float32), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(found, [0, -np.inf])
    found = fsl.ctc_alignment_log_prob(np.array([-1e308, -np.inf, np.inf]), [[0, 0], [1, 2]])
    np.testing.assert_array_equal(found, [-np.inf, np.nan])


@pytest.mark.parametrize(
    ("kind", "said", "log_probs", "alignments"),
    [
        (ValueError, r"alignments\[1\]\[0\] is 3; allowed: 0 to 2", np.zeros(3), [[1], [3]]),
        (ValueError, r"alignments\[0\]\[1\] is -1", np.zeros(3), [[1, -1]]),
        (ValueError, r"alignments\[1\] has 3 frames; allowed: 2 or less", np.zeros((2, 3)), [[1], [1] * 3]),
        (ValueError, "alignments has 1 rows; allowed: 2", np.zeros((2, 2, 3)), [[1]]),
        (ValueError, r"alignments\[0\] has shape \(\)", np.zeros(3), [1, 2]),
        (TypeError, r"alignments\[0\] has dtype", np.zeros(3), [[0.5]]),
        (TypeError, "alignments must be", np.zeros(3), 1),
        (ValueError, r"log_probs has shape \(\)", 0.0, [[1]]),
        (ValueError, r"log_probs has shape \(0,\)", np.zeros(0), [[1]]),
        (TypeError, "log_probs has dtype", np.zeros(3, complex), [[1]]),
    ],
)
def test_alignment_log_prob_errors(kind, said, log_probs, alignments):
    with pytest.raises(kind, match=said):
        fsl.ctc_alignment_log_prob(log_probs, alignments)
