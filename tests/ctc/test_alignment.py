"""ctc_align: the best path, its score, its ties, its spans, its options."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import HALF, KINDS, Case, cases, random_case, random_tokens, scores_like
from fastseqloss._core import levels
from reference import alignment as reference_alignment
from reference import ctc as reference
from reference.alignment import states_of
from thoroughness import thorough

ctc_alignment = importlib.import_module("fastseqloss.ctc.alignment")

THREADS = st.sampled_from((1, 2, 4))
FLOATS = (np.float32, np.float64, *HALF)


def align(case, **options):
    return fsl.ctc_align(*case.arguments, **case.options, **options)


def assert_same(actual, expected):
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def tolerance(case, log_probs):
    """Tolerance: 1e-9 for float64, 1e-6 of the loss for float32, plus the rounding of T scores."""
    finite = np.abs(log_probs[np.isfinite(log_probs)]).max(initial=0)
    unavoidable = np.finfo(np.float64).eps * float(finite) * (len(log_probs) + 4)
    return (1e-9 if case.scores.dtype == np.float64 else 1e-6) + unavoidable


def check(case, alignment):
    """Every path spells its labels, is as probable as any, and is described rightly."""
    blank = case.blank % case.scores.shape[2]
    for b, (labels, n) in enumerate(zip(case.tokens, case.lengths, strict=True)):
        path, tokens, log_prob, frame_log_probs = (column[b] for column in alignment)
        assert not (path[n:] != -1).any()
        assert not (tokens[n:] != -1).any()
        assert not frame_log_probs[n:].any()
        log_probs = reference.log_emissions(case.scores[b, :n], case.kind)
        best = -np.inf if n or len(labels) else 0.0
        if n:
            states = states_of(labels, blank)
            best = reference_alignment.best_score(log_probs[:, states], states)
        if best == -np.inf:
            assert log_prob == -np.inf
            assert np.all(path == -1)
            assert not frame_log_probs.any()
            continue
        bound = tolerance(case, log_probs)
        assert log_prob == pytest.approx(float(best), rel=bound, abs=bound)
        np.testing.assert_array_equal(fsl.ctc_collapse(path[:n], blank), labels)
        labelled = tokens[:n] >= 0
        assert np.all(path[:n][~labelled] == blank)
        np.testing.assert_array_equal(np.asarray(labels, int)[tokens[:n][labelled]], path[:n][labelled])
        np.testing.assert_array_equal(np.unique(tokens[:n][labelled]), np.arange(len(labels)))
        expected = log_probs[np.arange(n), path[:n]].astype(np.float64)
        np.testing.assert_allclose(frame_log_probs[:n], expected, rtol=bound, atol=bound)
        assert expected.sum() == pytest.approx(float(best), rel=1e-12, abs=1e-12 + bound * 1e-3)


# ---- values -------------------------------------------------------------------------------


@given(cases(), THREADS)
def test_is_a_best_path(level, case, threads):
    check(case, align(case, num_threads=threads))


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0)))
def test_half_precision(level, case):
    check(case, align(case))


@pytest.mark.parametrize("kind", ["logits", thorough("log_probs"), thorough("probs")])
@pytest.mark.parametrize(
    "shape", [(2, 700, 30, 300), thorough((1, 2500, 5, 900)), (1, 3000, 12, 10), thorough((1, 1500, 700, 1400))]
)
def test_checkpoints_and_cones(level, kind, shape):
    """Sequences too large for all of q to be kept: tight and loose ones."""
    case = random_case(np.random.default_rng(shape[1]), shape, kind=kind, full=True, repeats=0.05)
    check(case, align(case))


@given(
    st.integers(33, 90),
    st.integers(0, 120),
    st.sampled_from((0.1, 1.0, 10.0, 100.0, 1e4)),
    st.sampled_from((0.0, 5.0, 40.0)),
    st.integers(0, 2**32 - 1),
)
def test_states_that_are_left_out(level, count, spare, scale, confidence, seed):
    """From models that are sure of the path to those that are sure of another one; tight and loose."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, (1, 2 * count + spare, 9, count), scale=scale, full=True)
    needed = count + int((np.diff(case.tokens[0]) == 0).sum())
    case.lengths[0] = min(needed + spare, case.lengths[0])
    states = states_of(case.tokens[0], case.blank)
    uniform = np.zeros((case.lengths[0], len(states)))
    _, path = reference_alignment.first_best_path(uniform, states)
    frames = rng.random(case.lengths[0]) < 0.9
    sure = np.arange(case.lengths[0])[frames]
    case.scores[0, sure, states[path][frames]] += confidence * scale
    case.scores[0, case.lengths[0] :] = np.nan
    check(case, align(case))


@given(st.integers(33, 80), st.integers(0, 60), st.sampled_from((1, 3, 30)), st.booleans(), st.integers(0, 2**32 - 1))
def test_ties_of_longer_sequences(level, count, spare, size, impossible, seed):
    rng = np.random.default_rng(seed)
    labels = random_tokens(rng, count, 6, 0, 0.2)
    frames = count + int((np.diff(labels) == 0).sum()) + spare
    log_probs = -size * rng.integers(0, 3, (frames, 6)).astype(float)
    if impossible:
        log_probs[rng.random(log_probs.shape) < 0.03] = -np.inf
    states = states_of(labels, 0)
    score, path = reference_alignment.first_best_path(log_probs[:, states], states)
    found = fsl.ctc_align(log_probs, labels, input="log_probs")
    assert found.log_prob == score
    if score > -np.inf:
        np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))


@pytest.mark.parametrize("spare", [0, 1, 7, 100])
@pytest.mark.parametrize("count", [40, 700])
def test_hardly_a_frame_to_spare(level, count, spare):
    """All but the path itself is out of reach; with checkpoints too."""
    rng = np.random.default_rng(count + spare)
    labels = 1 + np.arange(count) % 3
    log_probs = -rng.integers(0, 3, (count + spare, 4)).astype(float)
    states = states_of(labels, 0)
    score, path = reference_alignment.first_best_path(log_probs[:, states], states)
    found = fsl.ctc_align(log_probs, labels, input="log_probs")
    assert found.log_prob == score
    np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))


def test_silence_before_a_mismatch(level):
    """A long end that costs nothing says little about the rest."""
    rng = np.random.default_rng(0)
    labels = random_tokens(rng, 60, 6, 0, 0.1)
    log_probs = -40.0 * rng.integers(0, 3, (900, 6))
    log_probs[400:, 0] = 0
    log_probs[400:, 1:] = -30
    states = states_of(labels, 0)
    score, path = reference_alignment.first_best_path(log_probs[:, states], states)
    found = fsl.ctc_align(log_probs, labels, input="log_probs")
    assert found.log_prob == score
    np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))


def test_nan_behind_a_mismatch(level):
    """It is seen though the first attempts end before they come to it."""
    scores = np.full((400, 5), -50.0)
    scores[:, 4] = 0
    scores[3, 0] = np.nan
    found = fsl.ctc_align(scores, [1, 2, 3] * 30, input="log_probs")
    assert np.isnan(found.log_prob)
    assert np.all(found.path == -1)


small_scores = st.sampled_from((-np.inf, -3.0, -2.0, -1.0, 0.0))


@given(st.data(), st.integers(1, 6), st.integers(2, 3), st.sampled_from((np.float32, np.float64)))
def test_ties_and_values_by_enumeration(level, data, frames, classes, dtype):
    """Small integers, whose sums are exact: of the best paths the first in lexicographic order."""
    rows = st.lists(small_scores, min_size=classes, max_size=classes)
    log_probs = np.array(data.draw(st.lists(rows, min_size=frames, max_size=frames)), dtype)
    blank = data.draw(st.integers(0, classes - 1))
    allowed = [c for c in range(classes) if c != blank]
    labels = data.draw(st.lists(st.sampled_from(allowed), max_size=4))
    states = states_of(labels, blank)
    score, path = reference_alignment.best_path_by_enumeration(log_probs[:, states], states)
    found = fsl.ctc_align(log_probs, labels, blank=blank, input="log_probs")
    assert found.log_prob == score
    if score > -np.inf:
        np.testing.assert_array_equal(found.path, states[path])
        np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))
        np.testing.assert_array_equal(found.frame_log_probs, log_probs[np.arange(frames), states[path]])


@pytest.mark.parametrize("name", real_data.NAMES)
def test_score_of_the_plain_viterbi_on_real_emissions(level, name):
    data = real_data.load(name, padding=np.nan)
    scores = data.emissions.astype(np.float64)
    arguments = data.labels, data.lengths, data.label_lengths
    found = fsl.ctc_align(scores, *arguments, blank=data.blank, input=data.kind)
    for b, n in enumerate(data.lengths):
        labels = data.labels[b, : data.label_lengths[b]]
        log_probs = reference.log_emissions(scores[b, :n], data.kind).astype(np.float64)
        score, path = reference_alignment.viterbi(log_probs, labels, data.blank)
        assert found.log_prob[b] == pytest.approx(score, rel=0, abs=1e-9)
        np.testing.assert_array_equal(fsl.ctc_collapse(found.path[b, :n], data.blank), labels)
        np.testing.assert_array_equal(found.path[b, :n], path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_agree_on_the_path(level, dtype):
    """Scores relative to the best class of a frame are the same numbers on every instruction set."""
    case = random_case(np.random.default_rng(8), (4, 300, 20, 60), dtype=dtype)
    path = align(case).path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctc_alignment, "_kernel", levels.load("ctc.alignment", levels.available_levels()[-1]))
        np.testing.assert_array_equal(path, align(case).path)


# ---- independence and layouts -------------------------------------------------------------


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def large(request):
    rng = np.random.default_rng(5)
    return random_case(rng, (24, 400, 40, 120), dtype=request.param, scale=3.0)


@pytest.mark.parametrize("threads", [2, 3, 64, None])
def test_threads_do_not_change_a_bit(level, large, threads):
    assert_same(align(large, num_threads=threads), align(large, num_threads=1))


def test_batch_mates_do_not_change_a_bit(level, large):
    together = align(large, num_threads=2)
    for b, n in enumerate(large.lengths):
        alone = align(large.sequence(b))
        assert_same([x[0] for x in alone], [x[b] if x.ndim == 1 else x[b, :n] for x in together])


def layouts(x):
    """The same array in other memory orders."""
    yield np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    larger = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    larger[1::2, 1::2, 1::2] = x
    yield larger[1::2, 1::2, 1::2]
    yield np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0)))
def test_layouts(level, case):
    expected = align(case)
    for scores in layouts(case.scores):
        case.scores = scores
        scores.flags.writeable = False
        assert_same(align(case), expected)


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_single_sequence(case):
    arguments = case.scores[0], case.labels[0], int(case.lengths[0]), int(case.label_lengths[0])
    alone = fsl.ctc_align(*arguments, **case.options)
    assert isinstance(alone.log_prob, float)
    together = align(case)
    assert_same(alone, [x[0] for x in together])
    assert [alone.spans()] == together.spans()


@given(cases(), st.sampled_from(["concatenated", "list"]))
def test_label_forms(case, form):
    expected = align(case)
    labels = [y.tolist() for y in case.tokens]
    if form == "concatenated":
        labels = np.concatenate([*case.tokens, np.zeros(0, np.int64)]).astype(np.int64)
    assert_same(fsl.ctc_align(case.scores, labels, case.lengths, case.label_lengths, **case.options), expected)


# ---- spans --------------------------------------------------------------------------------


@given(cases(smallest=1))
def test_spans(case):
    alignment = align(case)
    spans = alignment.spans()
    assert len(spans) == len(case.tokens)
    for b, found in enumerate(spans):
        if alignment.log_prob[b] == -np.inf:
            assert found == []
            continue
        assert [span.label for span in found] == case.tokens[b].tolist()
        for i, span in enumerate(found):
            frames = np.flatnonzero(alignment.token_index[b] == i)
            assert (span.start, span.end) == (frames[0], frames[-1] + 1)
            total = alignment.frame_log_probs[b, frames].sum()
            assert span.log_prob == pytest.approx(total, rel=1e-12, abs=1e-12)
            assert span.mean_log_prob == pytest.approx(total / len(frames), rel=1e-12, abs=1e-12)
            assert {type(x) for x in span} == {int, float}


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4)])
def test_spans_of_nothing(shape):
    alignment = fsl.ctc_align(np.zeros(shape), [[]] * shape[0])
    assert alignment.path.shape == shape[:2]
    assert alignment.spans() == [[]] * shape[0]
    assert not np.any(alignment.log_prob)


# ---- impossible and impure ----------------------------------------------------------------


@pytest.mark.parametrize(("policy", "value"), [("inf", -np.inf), ("zero", 0.0)])
def test_infeasible(level, policy, value):
    scores = np.zeros((3, 3, 4))
    scores[2, 1] = -np.inf  # a frame of probability 0
    labels = [[1, 1, 2], [1, 2, 3], [1]]
    found = fsl.ctc_align(scores, labels, infeasible=policy)
    np.testing.assert_array_equal(found.path, [[-1] * 3, [1, 2, 3], [-1] * 3])
    np.testing.assert_array_equal(found.log_prob[[0, 2]], value)
    assert found.log_prob[1] == pytest.approx(3 * np.log(0.25))


def test_infeasible_raises():
    with pytest.raises(ValueError, match=r"logit_lengths\[1\] is 3; allowed: 4 .* sequences: 1, 2"):
        fsl.ctc_align(np.zeros((3, 3, 4)), [[1], [1, 1, 2], [2] * 3], infeasible="raise")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_in_its_sequence(level, kind, value):
    logits = np.random.default_rng(0).normal(size=(3, 9, 5))
    scores = scores_like(logits, kind)
    expected = fsl.ctc_align(scores, [[1, 2]] * 3, input=kind)
    scores[1, 4, 2] = value
    found = fsl.ctc_align(scores, [[1, 2]] * 3, input=kind)
    assert_same([x[::2] for x in found], [x[::2] for x in expected])
    assert np.isnan(found.log_prob[1])
    assert np.all(found.path[1] == -1)
    scores[1, 4, 2] = 0.1
    scores[1, 4, 3] = value  # of a class that does not occur: only a softmax must read it
    found = fsl.ctc_align(scores, [[1, 2]] * 3, input=kind)
    assert np.isnan(found.log_prob[1]) == (kind == "logits")


def test_negative_probability():
    probs = np.full((4, 3), 1 / 3)
    probs[2, 1] = -1e-3
    assert np.isnan(fsl.ctc_align(probs, [1], input="probs").log_prob)


@pytest.mark.parametrize(("policy", "value"), [("inf", -np.inf), ("zero", 0.0)])
def test_log_probability_beyond_float64(level, policy, value):
    """The best path is well defined, its probability is not: never NaN."""
    found = fsl.ctc_align(np.array([[-1e308, -1e308, 1e308]] * 3), [1], infeasible=policy)
    assert found.log_prob == value
    assert np.all(found.path == -1)
    assert np.all(found.token_index == -1)
    assert not found.frame_log_probs.any()


# ---- prior --------------------------------------------------------------------------------


@given(
    cases(smallest=1, largest=(2, 12, 6, 4), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)),
    st.sampled_from((0.0, 0.3, 1.0)),
)
def test_prior_is_subtracted_when_paths_are_compared(level, case, scale):
    prior = np.log(np.random.default_rng(1).dirichlet(np.ones(case.scores.shape[2])))
    found = align(case, label_prior=prior, prior_scale=scale)
    blank = case.blank % case.scores.shape[2]
    for b, n in enumerate(case.lengths):
        if n == 0 or found.log_prob[b] == -np.inf:
            continue
        log_probs = reference.log_emissions(case.scores[b, :n], case.kind).astype(np.float64)
        adjusted = log_probs - scale * prior
        states = states_of(case.tokens[b], blank)
        best = reference_alignment.best_score(adjusted[:, states], states)
        path = found.path[b, :n]
        assert adjusted[np.arange(n), path].sum() == pytest.approx(float(best), rel=1e-10, abs=1e-10)
        own = log_probs[np.arange(n), path].sum()
        assert found.log_prob[b] == pytest.approx(own, rel=1e-10, abs=1e-10)
        np.testing.assert_array_equal(fsl.ctc_collapse(path, blank), case.tokens[b])


def test_prior_lengthens_labels():
    """A model that mostly emits blanks: without their prior they no longer win every close call."""
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.55, 0.45], [0.95, 0.05]])
    (plain,) = fsl.ctc_align(probs, [1], input="probs").spans()
    prior = np.log(probs.mean(axis=0))
    (sharp,) = fsl.ctc_align(probs, [1], input="probs", label_prior=prior).spans()
    assert (plain.start, plain.end) == (2, 3)
    assert (sharp.start, sharp.end) == (1, 4)


# ---- errors -------------------------------------------------------------------------------

SCORES = np.random.default_rng(0).normal(size=(2, 6, 5))


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, r"labels\[1\]\[0\] is 5; allowed: 0 to 4, except 0, .* blank$", {"labels": [[1], [5]]}),
        (
            ValueError,
            r"labels\[1\]\[0\] is 5; .* blank, or -1, which is the star",
            {"labels": [[-1], [5]], "star": -1},
        ),
        (ValueError, r"labels\[0\]\[0\] is -1", {"labels": [[-1], [2]]}),
        (ValueError, r"star is 4; allowed: .* 0 to 4", {"star": 4}),
        (ValueError, f"star is {2**63}", {"star": 2**63}),
        (ValueError, f"star is {2**63 - 1}", {"labels": [np.array([2**64 - 1], np.uint64), [1]], "star": 2**63 - 1}),
        (TypeError, "star must be an integer, got float", {"star": -1.0}),
        (TypeError, "star must be an integer, got bool", {"star": True}),
        (ValueError, "star_log_prob is 0.5; allowed: finite, 0 or less", {"star_log_prob": 0.5}),
        (ValueError, "star_log_prob is -inf", {"star_log_prob": -np.inf}),
        (TypeError, "star_log_prob must be a number", {"star_log_prob": "0"}),
        (ValueError, r"prior_scale is -1; allowed: finite, 0 or more", {"prior_scale": -1}),
        (ValueError, "prior_scale is nan", {"prior_scale": np.nan}),
        (ValueError, r"label_prior has shape \(4,\); allowed: \(5,\)", {"label_prior": np.zeros(4)}),
        (ValueError, r"label_prior\[3\] is -inf", {"label_prior": [0, 0, 0, -np.inf, 0]}),
        (
            ValueError,
            r"label_prior\[1\] is 1e\+300; allowed: .* scaled by 1e\+300",
            {"label_prior": [0, 1e300, 0, 0, 0], "prior_scale": 1e300},
        ),
        (TypeError, "label_prior has dtype", {"label_prior": ["a"] * 5}),
        (ValueError, "input is 'scores'", {"input": "scores"}),
        (ValueError, "infeasible is 'ignore'", {"infeasible": "ignore"}),
        (ValueError, r"logit_lengths\[1\] is 7; allowed: 0 to 6", {"logit_lengths": [6, 7]}),
        (ValueError, "blank is 5", {"blank": 5}),
        (ValueError, "logits has shape", {"logits": np.zeros(3)}),
        (TypeError, "logits has dtype", {"logits": np.zeros((2, 6, 5), int)}),
        (ValueError, "num_threads is 0", {"num_threads": 0}),
    ],
)
def test_errors(kind, said, wrong):
    arguments = {"logits": SCORES, "labels": [[1, 2], [3]]} | wrong
    with pytest.raises(kind, match=said):
        fsl.ctc_align(**arguments)


def test_case_has_its_blank_anywhere():
    case = Case(SCORES, [np.array([0, 1]), np.array([2])], np.array([6, 4]), -1)
    case.scores[1, 4:] = np.nan
    check(case, align(case))
