"""ctc_align with a star, a label that matches anything: one score, or one for each frame."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import JUNK, KINDS, cases, scores_like
from reference import alignment as reference_alignment
from reference import ctc as reference
from reference.alignment import states_of

SCORES = np.random.default_rng(0).normal(size=(2, 6, 5))
LOG_PROBS = st.sampled_from((0.0, -0.3, -2.0, -7.5, -np.inf))


def with_star(log_probs, star_log_prob):
    """Log-probabilities with those of a star, one number or [T], as a further class."""
    column = np.broadcast_to(star_log_prob, len(log_probs))
    return np.concatenate([log_probs, column[:, None]], axis=1)


def assert_same(actual, expected):
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@given(
    cases(smallest=1, largest=(1, 12, 6, 4), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)),
    st.sampled_from((-1, 17, 2**40)),
    st.sampled_from((0.0, -1.0, None)),
    st.data(),
)
def test_star_is_a_class_of_given_probability(level, case, star, star_log_prob, data):
    """The star is as good as a further class with that log-probability at each frame."""
    n, classes = case.lengths[0], case.scores.shape[2]
    assume(n > 0)
    labels = case.tokens[0].tolist()
    for _ in range(data.draw(st.integers(0, 2))):
        labels.insert(data.draw(st.integers(0, len(labels))), star)
    if star_log_prob is None:
        star_log_prob = np.array(data.draw(st.lists(LOG_PROBS, min_size=int(n), max_size=int(n))))
    found = fsl.ctc_align(case.scores[0, :n], labels, **case.options, star=star, star_log_prob=star_log_prob)
    log_probs = reference.log_emissions(case.scores[0, :n], case.kind).astype(np.float64)
    further = [classes if c == star else c for c in labels]
    blank = case.blank % classes
    expected = fsl.ctc_align(with_star(log_probs, star_log_prob), further, blank=blank, input="log_probs")
    assert found.log_prob == pytest.approx(expected.log_prob, rel=1e-12, abs=1e-10)
    if found.log_prob > -np.inf:
        tokens = found.token_index[found.token_index >= 0]
        np.testing.assert_array_equal(np.unique(tokens), np.arange(len(labels)))
        assert [span.label for span in found.spans()] == labels


@pytest.mark.parametrize("kind", ["logits", "log_probs"])
def test_star_takes_a_frame_where_no_class_is_possible(level, kind):
    scores = np.zeros((3, 3))
    scores[1] = -np.inf
    found = fsl.ctc_align(scores, [1, -1, 2], star=-1, star_log_prob=-2.0, input=kind)
    np.testing.assert_array_equal(found.path, [1, -1, 2])
    assert found.frame_log_probs[1] == -2
    assert np.isfinite(found.log_prob)


def test_star_covers_what_is_not_transcribed():
    said = [0, 1, 0, 2, 2, 0, 3, 1, 0, 2]
    logits = 8 * np.eye(4)[said]
    found = fsl.ctc_align(logits, [1, -1, 3, 1, 2], star=-1)
    spans = found.spans()
    assert [(s.label, s.start, s.end) for s in spans] == [
        (1, 1, 2),
        (-1, 2, 6),
        (3, 6, 7),
        (1, 7, 8),
        (2, 9, 10),
    ]
    assert spans[1].log_prob == 0
    assert np.all(found.path[2:6] == -1)
    assert np.all(found.token_index[2:6] == 1)


def test_star_in_the_padding_is_not_read():
    labels = np.array([[1, JUNK], [-1, 2]])
    padded = fsl.ctc_align(SCORES, labels, None, [1, 2], star=-1)
    listed = fsl.ctc_align(SCORES, [[1], [-1, 2]], star=-1)
    assert_same(padded, listed)


# ---- a score for each frame ---------------------------------------------------------------


@given(cases(smallest=1, largest=(3, 12, 6, 4)), st.sampled_from((0.0, -1.0, -30.0)))
def test_equal_scores_are_one_score(level, case, star_log_prob):
    """The same bits; the padding is not read."""
    case.tokens[0] = np.append(case.tokens[0], -1)
    one = fsl.ctc_align(*case.arguments, **case.options, star=-1, star_log_prob=star_log_prob)
    each = np.full(case.scores.shape[:2], star_log_prob)
    each[np.arange(each.shape[1]) >= case.lengths[:, None]] = np.nan
    assert_same(fsl.ctc_align(*case.arguments, **case.options, star=-1, star_log_prob=each), one)


@given(
    st.data(),
    st.integers(1, 5),
    st.integers(2, 3),
    st.sampled_from(("logits", "log_probs")),
    st.sampled_from((np.float32, np.float64)),
)
def test_paths_by_enumeration(level, data, frames, classes, kind, dtype):
    """Small integers, whose sums are exact: of the best paths the first in lexicographic order."""
    small = st.sampled_from((-np.inf, -3.0, -2.0, -1.0, 0.0))
    rows = st.lists(small, min_size=classes + 1, max_size=classes + 1)
    log_probs = np.array(data.draw(st.lists(rows, min_size=frames, max_size=frames)))
    labels = data.draw(st.lists(st.sampled_from([*range(1, classes), classes]), max_size=3))
    given_to, star = log_probs[:, :classes].astype(dtype), log_probs[:, classes].astype(dtype)
    if kind == "logits":  # a class that never occurs makes the sum of the row 1, to the last bit of float32
        given_to = np.append(given_to - 200, np.zeros((frames, 1), dtype), axis=1)
        log_probs[:, :classes] -= 200
        log_probs[:, classes] -= 200
        star = star - 200
    states = states_of(labels, 0)
    score, path = reference_alignment.best_path_by_enumeration(log_probs[:, states], states)
    labels = [-1 if c == classes else c for c in labels]
    found = fsl.ctc_align(given_to, labels, input=kind, star=-1, star_log_prob=star)
    assert found.log_prob == score
    if score > -np.inf:
        np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))
        np.testing.assert_array_equal(found.frame_log_probs, log_probs[np.arange(frames), states[path]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_sequences_with_checkpoints(level, dtype):
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 9, 400)
    labels[::7] = 9
    log_probs = -rng.integers(0, 4, (1800, 10)).astype(dtype)
    states = states_of(labels, 0)
    score, path = reference_alignment.first_best_path(log_probs[:, states].astype(float), states)
    found = fsl.ctc_align(
        log_probs[:, :9], np.where(labels == 9, -1, labels), input="log_probs", star=-1, star_log_prob=log_probs[:, 9]
    )
    assert found.log_prob == score
    np.testing.assert_array_equal(found.token_index, np.where(path % 2 == 1, path // 2, -1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_and_single_sequences(level, kind, threads):
    """Each sequence has its own scores, on any number of threads, with priors."""
    rng = np.random.default_rng(1)
    scores = scores_like(rng.normal(size=(40, 60, 7)), kind)
    labels = rng.integers(1, 7, (40, 9))
    labels[:, 4] = -1
    lengths, star = rng.integers(30, 61, 40), np.log(rng.random((40, 60)))
    options = {"input": kind, "star": -1, "label_prior": rng.normal(size=7)}
    together = fsl.ctc_align(scores, labels, lengths, star_log_prob=star, num_threads=threads, **options)
    for b, n in enumerate(lengths):
        alone = fsl.ctc_align(scores[b, :n], labels[b], star_log_prob=star[b, :n], **options)
        assert_same(alone, [x[b] if x.ndim == 1 else x[b, :n] for x in together])


@pytest.mark.parametrize("kind", ["logits", "log_probs"])
def test_exact_sums(level, kind):
    """All paths cross scores of -1e15, so that only exact sums tell 0.25 from 0.5."""
    scores = np.full((4, 3), -1e15)
    if kind == "logits":
        scores = np.append(scores, np.zeros((4, 1)), axis=1)
    found = fsl.ctc_align(scores, [1, -1, 2], star=-1, input=kind, star_log_prob=[-9, -1e15, -1e15 + 0.5, -1e15])
    assert found.path[2] == -1
    moved = fsl.ctc_align(scores, [1, -1, 2], star=-1, input=kind, star_log_prob=[-9, -1e15, -1e15 - 0.5, -1e15])
    assert moved.path[2] != -1


def test_frames_without_a_star():
    """-inf excludes the star; if the labels require it, there is no path."""
    probs = np.full((4, 3), 0.3)
    star = np.array([0.0, 0.0, -np.inf, -np.inf])
    np.testing.assert_array_equal(fsl.ctc_align(probs, [-1], input="probs", star=-1, star_log_prob=star).path[2:], 0)
    none = fsl.ctc_align(probs, [1, -1], input="probs", star=-1, star_log_prob=[0, -np.inf, -np.inf, -np.inf])
    assert none.log_prob == -np.inf
    assert np.all(none.path == -1)


@pytest.mark.parametrize(
    ("kind", "said", "star_log_prob"),
    [
        (ValueError, r"star_log_prob has shape \(6,\); allowed: \(2, 6\), or a number", np.zeros(6)),
        (ValueError, r"star_log_prob has shape \(2, 5\)", np.zeros((2, 5))),
        (ValueError, r"star_log_prob has shape \(0,\)", []),
        (ValueError, r"star_log_prob\[1, 3\] is nan; allowed: 0 or less; -inf", [[0] * 6, [0, 0, 0, np.nan, 0, 0]]),
        (ValueError, r"star_log_prob\[0, 0\] is 0.5", np.full((2, 6), 0.5)),
        (ValueError, r"star_log_prob\[0, 5\] is inf", [[0] * 5 + [np.inf], [0] * 6]),
        (TypeError, "star_log_prob has dtype complex128; allowed: real numbers", np.zeros((2, 6), complex)),
        (TypeError, "star_log_prob must be a number, got NoneType", None),
        (ValueError, "star_log_prob is -inf", np.array(-np.inf)),
        (ValueError, "star_log_prob is 1", np.array(1)),
    ],
)
@pytest.mark.parametrize("star", [-1, None])
def test_errors(kind, said, star_log_prob, star):
    with pytest.raises(kind, match=said):
        fsl.ctc_align(SCORES, [[1, 2], [3]], star=star, star_log_prob=star_log_prob)


def test_errors_of_one_sequence():
    with pytest.raises(ValueError, match=r"star_log_prob\[2\] is 1.0"):
        fsl.ctc_align(SCORES[0], [1], star=-1, star_log_prob=[0, 0, 1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"star_log_prob has shape \(1, 6\); allowed: \(6,\)"):
        fsl.ctc_align(SCORES[0], [1], star=-1, star_log_prob=np.zeros((1, 6)))
