"""ctc_confidences: sums of the posteriors of each label, without an array of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import huge_scores
import real_data
from cases import HALF, KINDS, Case, cases, random_case, scores_like
from reference import alignment as reference_alignment
from reference import ctc as reference
from thoroughness import spread, thorough

FIELDS = ("confidences", "mean_frames", "occupancies", "span_masses")
THREADS = st.sampled_from((1, 2, 4))
APART = 1e8  # distance of scores that the fast path does not accept, and no path crosses


def run(case, **options):
    return fsl.ctc_confidences(*case.arguments, **case.options, **options)


def sums_of(posteriors, spans):
    """The fields of one sequence from posteriors [T, 2 S + 1] and spans [S, 2], by their definitions."""
    of_labels, frames = posteriors[:, 1::2], np.arange(len(posteriors))
    mass = of_labels.sum(axis=0)
    mean = np.where(mass == 0, -1, frames @ of_labels / np.where(mass == 0, 1, mass))
    inside = (spans[:, 0] <= frames[:, None]) & (frames[:, None] < spans[:, 1])
    return of_labels.max(axis=0, initial=0), mean, mass, (of_labels * inside).sum(axis=0)


def check(found, each, counts, tolerance):
    """The fields are those of `each`, posteriors of every sequence, and as documented in the padding."""
    width = max([0, *counts])
    assert found.frames.shape == (len(counts), width, 2)
    assert found.frames.dtype == np.int64
    for b, (posteriors, n) in enumerate(zip(each, counts, strict=True)):
        for name, right in zip(FIELDS, sums_of(posteriors, found.frames[b, :n]), strict=True):
            values = getattr(found, name)
            assert (values.shape, values.dtype) == ((len(counts), width), np.float64)
            np.testing.assert_allclose(values[b, :n], right, rtol=tolerance, atol=tolerance, err_msg=name)
            np.testing.assert_array_equal(values[b, n:], -1 if name == "mean_frames" else 0, err_msg=name)
        np.testing.assert_array_equal(found.frames[b, n:], -1)


def dense(scores, labels, lengths, counts, **options):
    """Posteriors of each sequence in float64, from `ctc_posteriors`."""
    for x, row, frames, n in zip(scores, labels, lengths, counts, strict=True):
        yield fsl.ctc_posteriors(x[:frames].astype(np.float64), row[:n], **options)


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def random_spans(rng, case):
    """Spans of any place and length, a few labels without one, and padding of any values."""
    spans = rng.integers(-9, 99, (len(case.tokens), max([0, *case.label_lengths]) + 1, 2))
    for row, n, count in zip(spans, case.lengths, case.label_lengths, strict=True):
        for i in range(count):
            row[i] = np.sort(rng.choice(n + 1, 2, replace=False)) if n and rng.random() < 0.8 else -1
    return spans


def reference_posteriors(case):
    for x, labels, n in zip(case.scores, case.tokens, case.lengths, strict=True):
        yield reference_alignment.posteriors(x[:n], labels, case.blank % x.shape[1], case.kind)


@given(cases(), THREADS, st.integers(0, 2**32 - 1))
def test_matches_reference(level, case, threads, seed):
    wide = case.scores.astype(np.float64)
    largest = np.abs(wide[np.isfinite(wide)]).max(initial=0) if case.kind != "probs" else 0
    tolerance = 1e-11 + np.finfo(np.float64).eps * largest * (case.scores.shape[1] + 4) ** 2
    tolerance += 1e-8 * (case.scores.dtype == np.float32)
    spans = random_spans(np.random.default_rng(seed), case)
    found = run(case, frames=spans, num_threads=threads)
    check(found, reference_posteriors(case), case.label_lengths, tolerance)
    for row, given_row, n in zip(found.frames, spans, case.label_lengths, strict=True):
        np.testing.assert_array_equal(row[:n], given_row[:n])
    of_best_path = run(case, num_threads=threads)
    check(of_best_path, reference_posteriors(case), case.label_lengths, tolerance)
    aligned = fsl.ctc_align(*case.arguments, **case.options)
    for row, listed in zip(of_best_path.frames, aligned.spans(), strict=True):
        assert row[row[:, 0] >= 0].tolist() == [[span.start, span.end] for span in listed]


@given(cases(smallest=1, largest=(2, 6, 4, 3), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_matches_enumeration(level, case):
    found = run(case)
    by_definition = []
    for x, labels, n in zip(case.scores, case.tokens, case.lengths, strict=True):
        probs = np.exp(reference.log_emissions(x[:n], case.kind)).astype(np.float64)
        blank = case.blank % x.shape[1]
        shares = reference_alignment.posteriors_by_enumeration(probs, labels, blank) if n else np.zeros((0, 1))
        by_definition.append(shares if n else np.zeros((0, 2 * len(labels) + 1)))
    check(found, by_definition, case.label_lengths, 1e-10)
    possible = found.occupancies > 0
    assert (found.occupancies[possible] > 1 - 1e-12).all()  # each path gives each label a frame
    assert (found.span_masses <= found.occupancies + 1e-15).all()


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_half_precision(level, case):
    wide = Case(case.scores.astype(np.float32), case.tokens, case.lengths, case.blank, case.kind)
    assert_same_bits(run(case), run(wide))


def as_kind(data, kind, dtype):
    scores = data.emissions.astype(dtype)
    if kind == data.kind:
        return scores
    return scores_like(scores.astype(np.float64), kind, dtype)


@pytest.mark.parametrize(("name", "kind", "dtype"), spread(real_data.NAMES, KINDS, [np.float64, np.float32], every=3))
def test_real_emissions(level, name, kind, dtype):
    data = real_data.load(name)
    scores = as_kind(data, kind, dtype)
    options = {"blank": data.blank, "input": kind}
    arguments = data.labels, data.lengths, data.label_lengths
    found = fsl.ctc_confidences(scores, *arguments, **options, num_threads=1)
    each = dense(scores, data.labels, data.lengths, data.label_lengths, **options)
    check(found, each, data.label_lengths, 1e-9)
    assert (found.confidences <= 1).all()
    strided = np.asfortranarray(scores.swapaxes(0, 1)).swapaxes(0, 1)
    strided.flags.writeable = False
    assert_same_bits(fsl.ctc_confidences(strided, *arguments, **options, num_threads=2), found)


def forbid(scores, labels, kind):
    """A class that occurs is impossible at a third of the frames; each label has frames of its own left."""
    frames = np.arange(scores.shape[1])
    for c in set(labels[0].tolist()):
        scores[:, (frames + c) % 3 == 0, c] = 0 if kind == "probs" else -np.inf


# Shapes that are run as a whole and in halves, with all classes in a tile and with those that occur.
SHAPES = [(2, 150, 28, 40), (1, 2000, 12, 301), (1, 1500, 90, 400)]


@pytest.mark.parametrize(
    ("shape", "kind", "dtype", "path"),
    spread(SHAPES, KINDS, [np.float64, np.float32], ["fast", "forbidden", "general"], every=6),
)
def test_every_path(level, shape, kind, dtype, path):
    """With any number of threads, the same bits."""
    case = random_case(np.random.default_rng(3), shape, kind=kind, dtype=dtype, blank=3, full=True, repeats=0.1)
    if path == "forbidden":
        forbid(case.scores, case.tokens, kind)
    elif path == "general":  # an emission far above the others, which no path leaves out
        least = 1e-200 if dtype == np.float64 else 1e-30
        case.scores[:, 0] = least if kind == "probs" else -APART
        case.scores[:, 0, 3] = 1 if kind == "probs" else 0
    found = run(case, num_threads=1)
    check(found, dense(*case.arguments, **case.options), case.label_lengths, 1e-8 if dtype == np.float32 else 1e-9)
    assert found.confidences.all() or path == "forbidden"
    for threads in (2, 3):
        assert_same_bits(run(case, num_threads=threads), found)
    alone = run(case.sequence(0))
    assert_same_bits([field[0] for field in alone], [field[0, : alone.frames.shape[1]] for field in found])


@given(st.data(), st.sampled_from((np.float64, np.float32)), st.sampled_from(("logits", "log_probs")))
def test_huge_scores(level, data, dtype, kind):
    """The exact path, and scores that no float64 sum holds."""
    x = huge_scores.scores(data.draw, (6, 4), dtype)
    labels = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    found = fsl.ctc_confidences(x, labels, input=kind)
    posteriors = fsl.ctc_posteriors(x, labels, input=kind).astype(np.float64)
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    for name, right in zip(FIELDS, sums_of(posteriors, found.frames), strict=True):
        np.testing.assert_allclose(getattr(found, name), right, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [3.0, thorough(20.0), thorough(60.0)])
def test_threads_and_batch_mates_do_not_change_a_bit(level, kind, scale):
    case = random_case(np.random.default_rng(5), (12, 200, 40, 50), dtype=np.float32, kind=kind, scale=scale)
    expected = run(case, num_threads=1)
    for threads in (2, 3, None):
        assert_same_bits(run(case, num_threads=threads), expected)
    for b, n in enumerate(case.label_lengths):
        assert_same_bits([field[0] for field in run(case.sequence(b))], [field[b, :n] for field in expected])


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_single_sequence(case):
    expected = run(case)
    arguments = case.scores[0], case.labels[0], int(case.lengths[0]), int(case.label_lengths[0])
    single = fsl.ctc_confidences(*arguments, **case.options)
    assert_same_bits(single, [field[0] for field in expected])
    assert_same_bits(fsl.ctc_confidences(*arguments, **case.options, frames=single.frames), single)


def test_beams(level):
    """The frames of beams are spans, and confidences mean the same."""
    scores = np.random.default_rng(0).normal(size=(3, 12, 5), scale=2)
    beams = fsl.ctc_beam_search(scores, align=True)
    found = fsl.ctc_confidences(scores, beams.labels[:, 0], None, beams.label_lengths[:, 0], frames=beams.frames[:, 0])
    np.testing.assert_allclose(found.confidences, beams.confidences[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(found.frames, beams.frames[:, 0])


def test_no_alignment(level):
    """Too short, or a probability of 0: no confidence, no frame, no span."""
    scores = np.zeros((3, 3, 4))
    scores[2, 1] = -np.inf
    labels = [[1, 1, 2], [1, 2, 3], [1]]
    for policy in ("inf", "zero"):
        found = fsl.ctc_confidences(scores, labels, infeasible=policy)
        for b in (0, 2):
            assert [getattr(found, name)[b].tolist() for name in FIELDS] == [[0] * 3, [-1] * 3, [0] * 3, [0] * 3]
            assert (found.frames[b] == -1).all()
        assert found.frames[1].tolist() == [[0, 1], [1, 2], [2, 3]]
        np.testing.assert_allclose(found.mean_frames[1], [0, 1, 2], atol=1e-15)
        np.testing.assert_allclose(found.occupancies[1], 1, rtol=1e-15)
    given_spans = fsl.ctc_confidences(scores[0], [1, 1, 2], frames=[[0, 1], [1, 2], [2, 3]])
    assert given_spans.frames.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert not given_spans.span_masses.any()
    with pytest.raises(ValueError, match=r"infeasible sequences: 0$"):
        fsl.ctc_confidences(scores, labels, infeasible="raise")


@pytest.mark.parametrize("frames", [9, 4000])
def test_nan_stays_in_its_sequence(level, frames):
    scores = np.random.default_rng(0).normal(size=(3, frames, 5))
    labels = np.tile([1, 2, 3], (3, 3 if frames == 9 else 100))[:, : frames // 9 * 2]
    expected = fsl.ctc_confidences(scores, labels)
    scores[1, 4, 2] = np.nan
    found = fsl.ctc_confidences(scores, labels)
    assert_same_bits([field[::2] for field in found], [field[::2] for field in expected])
    assert all(np.isnan(getattr(found, name)[1]).all() for name in FIELDS)
    assert (found.frames[1] == -1).all()


@pytest.mark.parametrize(
    ("shape", "labels"), [((0, 5, 4), []), ((2, 0, 4), [[], []]), ((2, 3, 4), [[], []]), ((3, 4), []), ((0, 4), [])]
)
@pytest.mark.parametrize("frames", [None, []])
def test_empty(shape, labels, frames):
    found = fsl.ctc_confidences(np.zeros(shape), labels, frames=frames)
    batch = shape[:-2]
    assert [field.shape for field in found] == [(*batch, 0)] * 4 + [(*batch, 0, 2)]


ALLOWED = "0 or more, and above it up to"


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, r"labels\[0\]\[1\] is 9", {"labels": [[1, 9], [2]]}),
        (ValueError, r"logit_lengths\[0\] is 7; allowed: 0 to 6", {"logit_lengths": [7, 6]}),
        (ValueError, "input is 'log'", {"input": "log"}),
        (ValueError, "infeasible is 'nan'", {"infeasible": "nan"}),
        (ValueError, "blank is 5", {"blank": 5}),
        (TypeError, "logits has dtype", {"logits": np.zeros((2, 6, 5), int)}),
        (TypeError, "frames has dtype float64", {"frames": np.zeros((2, 2, 2))}),
        (ValueError, r"frames has shape \(2, 2\); allowed: \(2, 2 or more, 2\)", {"frames": [[0, 1], [1, 2]]}),
        (ValueError, r"frames has shape \(2, 1, 2\)", {"frames": [[[0, 1]], [[1, 2]]]}),
        (ValueError, r"frames has shape \(0,\)", {"frames": []}),
        (
            ValueError,
            rf"frames\[0, 1\] is \[3, 3\]; allowed: {ALLOWED} 6",
            {"frames": [[[0, 1], [3, 3]], [[0, 1]] * 2]},
        ),
        (ValueError, r"frames\[1, 0\] is \[2, 7\]", {"frames": [[[0, 1]] * 2, [[2, 7], [0, 1]]]}),
        (ValueError, r"frames\[0, 0\] is \[-1, 2\]", {"frames": [[[-1, 2]] * 2] * 2}),
        (ValueError, rf"frames\[0, 0\] is \[0, {2**64 - 1}\]", {"frames": np.uint64([[[0, 2**64 - 1]] * 2] * 2)}),
    ],
)
def test_errors(kind, said, wrong):
    with pytest.raises(kind, match=said):
        fsl.ctc_confidences(**{"logits": np.zeros((2, 6, 5)), "labels": [[1, 2], [3]]} | wrong)


def test_error_of_a_single_sequence():
    with pytest.raises(ValueError, match=r"frames\[1\] is \[4, 2\]; .*-1 and -1 for no span"):
        fsl.ctc_confidences(np.zeros((6, 5)), [1, 2], frames=[[0, 1], [4, 2]])
    with pytest.raises(ValueError, match=r"frames has shape \(1, 2, 2\); allowed: \(2 or more, 2\)"):
        fsl.ctc_confidences(np.zeros((6, 5)), [1, 2], frames=[[[0, 1], [4, 5]]])


def test_repr_is_short():
    shown = repr(fsl.ctc_confidences(np.zeros((6, 5)), [1, 2]))
    assert shown.startswith("CTCConfidences(confidences=float64 [2], mean_frames=float64 [2]")
