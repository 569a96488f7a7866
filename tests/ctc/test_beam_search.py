"""ctc_beam_search."""

import itertools
import math
import os
import subprocess
import sys
import tracemalloc
from fractions import Fraction as F

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import KINDS, scores_like
from reference.beam import beam_search, every_sequence

A = [[F(3, 5), F(2, 5)]] * 2
B = [
    [F(1, 2), F(5, 16), F(3, 16)],
    [F(1, 4), F(1, 2), F(1, 4)],
    [F(1, 2), F(1, 8), F(3, 8)],
    [F(1, 3), F(1, 4), F(5, 12)],
]
C = [[F(1, 10), F(9, 10)], [F(9, 10), F(1, 10)], [F(1, 10), F(9, 10)]]
BIGRAM = [[F(1), F(1), F(1)], [F(1), F(1, 4), F(3, 4)], [F(1), F(2, 3), F(1, 3)], [F(1), F(1, 2), F(1, 2)]]


def floats(y):
    return np.array(y, np.float64)


def search(y, kind="probs", **options):
    return fsl.ctc_beam_search(floats(y), input=kind, **options)


def found(beams):
    """Label sequences of a single sequence's result."""
    return [tuple(beams.labels[i, : beams.label_lengths[i]].tolist()) for i in range(beams.n_found)]


def assert_log(actual, expected):
    """Logarithms of fractions, as exact as `ctc_loss` promises."""
    np.testing.assert_allclose(np.exp(actual), [float(p) for p in expected], rtol=1e-12)


def factor(before, label):
    return BIGRAM[3 if before is None else before][label]


LOG_BIGRAM = np.log(floats(BIGRAM))


# ---- goldens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (A, [((1,), F(16, 25)), ((), F(9, 25))]),
        (B, [((1, 2), F(307, 1024)), ((2,), F(299, 2048)), ((1,), F(415, 3072)), ((2, 1), F(575, 6144))]),
        (C, [((1, 1), F(729, 1000)), ((1,), F(262, 1000))]),
    ],
)
def test_best_label_sequences(y, expected):
    every = every_sequence(np.array(y, object), 0)
    assert [(labels, p) for p, labels in every][: len(expected)] == expected
    for rescore in (0, 10):
        beams = search(y, beam=20, n_best=len(every), rescore=rescore)
        assert found(beams)[: len(expected)] == [labels for labels, _ in expected]
        assert_log(beams.log_prob, [p for p, _ in every])
        assert_log(beams.score, [p for p, _ in every])
    assert len(every) == beams.n_found


@pytest.mark.parametrize(
    ("beam", "expected"),
    [
        (1, [((1, 2), F(25, 384))]),
        (2, [((1, 2), F(1627, 6144)), ((1,), F(367, 3072))]),
        (3, [((1, 2), None), ((2,), F(737, 6144)), ((1,), None)]),
        (5, [((1, 2), F(307, 1024)), ((2,), F(299, 2048)), ((1,), F(415, 3072))]),
    ],
)
def test_what_a_narrow_beam_sums(beam, expected):
    beams = search(B, beam=beam, n_best=len(expected), rescore=0)
    assert found(beams) == [labels for labels, _ in expected]
    for score, (_, p) in zip(beams.score, expected, strict=True):
        assert p is None or math.isclose(math.exp(score), p, rel_tol=1e-14)
    np.testing.assert_array_equal(beams.log_prob, beams.score)


@pytest.mark.parametrize(
    ("beam", "expected"),
    [
        (1, [((), F(1, 48))]),
        (2, [((1, 2), F(1627, 16384)), ((1,), F(367, 6144))]),
        (20, [((1, 2), F(921, 8192)), ((2,), F(299, 4096)), ((1,), F(415, 6144))]),
    ],
)
def test_bigram(beam, expected):
    beams = search(B, beam=beam, n_best=len(expected), rescore=0, bigram=LOG_BIGRAM)
    assert found(beams) == [labels for labels, _ in expected]
    assert_log(beams.total, [p for _, p in expected])
    without = [p / math.prod(map(factor, (None, *labels), labels), start=1) for labels, p in expected]
    assert_log(beams.log_prob, without)


# ---- against slow references --------------------------------------------------------------


@st.composite
def small_problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, classes = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    y = rng.dirichlet(np.full(classes, draw(st.sampled_from((0.1, 0.5, 2.0)))), frames)
    if draw(st.booleans()):
        y[rng.random(y.shape) < 0.3] = 0
        y[np.arange(frames), rng.integers(0, classes, frames)] += 0.1
    bigram = np.log(rng.dirichlet(np.ones(classes), classes + 1)) if draw(st.booleans()) else None
    options = {
        "bigram": bigram,
        "lm_weight": draw(st.sampled_from((0.0, 0.5, 1.0))),
        "length_bonus": draw(st.sampled_from((-0.7, 0.0, 1.5))),
    }
    return y, int(rng.integers(classes)), options


def factors(options, classes):
    bigram = np.zeros((classes + 1, classes)) if options["bigram"] is None else options["bigram"]

    def lm(prefix, label):
        row = prefix[-1] if prefix else classes
        return math.exp(options["lm_weight"] * bigram[row, label] + options["length_bonus"])

    return lm


@given(small_problems(), st.sampled_from(KINDS))
def test_wide_beam_finds_what_enumeration_finds(problem, kind):
    y, blank, options = problem
    lm = factors(options, y.shape[1])
    every = every_sequence(y, blank, lm)
    with np.errstate(divide="ignore"):
        scores = y if kind == "probs" else np.log(y)
    if kind == "logits":
        scores = scores + 3.0  # normalised again below
    norm = 0.0 if kind != "logits" else np.log(y.sum(axis=1)).sum()
    for rescore in (0, 400):
        beams = fsl.ctc_beam_search(scores, blank=blank, input=kind, beam=400, n_best=400, rescore=rescore, **options)
        assert beams.n_found == len(every)
        np.testing.assert_allclose(beams.total[: len(every)], np.log([p for p, _ in every]) - norm, atol=1e-11)
        np.testing.assert_allclose(beams.score[: len(every)], beams.total[: len(every)], atol=1e-11)
        expected = {labels: np.log(p) for p, labels in every}
        for labels, total, log_prob in zip(found(beams), beams.total, beams.log_prob, strict=False):
            assert total == pytest.approx(expected[labels] - norm, abs=1e-11)
            of_lm = sum(math.log(lm(labels[:i], label)) for i, label in enumerate(labels))
            assert log_prob == pytest.approx(total - of_lm, abs=1e-11)
        assert np.all(beams.total[len(every) :] == -np.inf)


@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 2, 5, 20)), st.sampled_from((2, 5, 40, 300)), st.booleans())
def test_any_beam_sums_what_the_reference_sums(seed, beam, classes, with_bigram):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(classes, 0.3), 25)
    blank = int(rng.integers(classes))
    bigram = np.log(rng.dirichlet(np.ones(classes), classes + 1)) if with_bigram else None
    options = {"bigram": bigram, "lm_weight": 1.0, "length_bonus": 0.0}
    expected = beam_search(y, blank, beam, factors(options, classes))
    beams = fsl.ctc_beam_search(y, blank=blank, input="probs", beam=beam, n_best=beam, rescore=0, bigram=bigram)
    assert found(beams) == [labels for _, labels in expected]
    np.testing.assert_allclose(beams.score[: beams.n_found], np.log([mass for mass, _ in expected]), atol=1e-11)


@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 30)))
def test_thresholds(seed, beam):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(12, 0.3), 15)
    options = {"input": "probs", "beam": beam, "n_best": beam}
    loose = fsl.ctc_beam_search(y, class_threshold=-1e5, beam_threshold=1e5, **options)
    for a, b in zip(fsl.ctc_beam_search(y, **options)[:6], loose[:6], strict=True):
        np.testing.assert_array_equal(a, b)
    tight = fsl.ctc_beam_search(np.log(y) + 5, beam=beam, n_best=beam, rescore=0, beam_threshold=2.0)
    assert np.all(tight.score[: tight.n_found] >= tight.score[0] - 2.0)
    no_class = fsl.ctc_beam_search(np.log(y) + 5, beam=beam, class_threshold=0.0)
    best = {int(row[1:].argmax()) + 1 for row in y}
    assert set(no_class.labels[0].tolist()) <= best


@pytest.mark.parametrize("kind", KINDS)
def test_class_threshold_is_a_log_probability(kind):
    y = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    scores = scores_like(np.log(y) + (7 if kind == "logits" else 0), kind)
    both = fsl.ctc_beam_search(scores, input=kind, n_best=30, class_threshold=math.log(0.29))
    assert set(found(both)) == {(), (1,), (2,), (1, 2)}
    # Class 2 is not tried at the first frame, where it is not the best label, and is at the second, where it is.
    one = fsl.ctc_beam_search(scores, input=kind, n_best=30, class_threshold=math.log(0.31))
    assert set(found(one)) == {(), (1,), (2,), (1, 2)}
    assert one.score[found(one).index((2,))] == pytest.approx(math.log(0.2 * 0.3))


# ---- the lattice's log-probabilities, threads, ties ----------------------------------------


@pytest.mark.parametrize("name", real_data.NAMES)
@pytest.mark.parametrize("beam", [1, 10])
def test_log_prob_on_real_emissions(name, beam):
    data = real_data.load(name, padding=np.nan)
    options = {"blank": data.blank, "input": data.kind}
    beams = fsl.ctc_beam_search(data.emissions, data.lengths, beam=beam, n_best=min(beam, 4), **options)
    greedy = fsl.ctc_greedy_decode(data.emissions, data.lengths, **options)
    for i in range(beams.labels.shape[1]):
        losses = fsl.ctc_loss(
            data.emissions,
            beams.labels[:, i],
            data.lengths,
            beams.label_lengths[:, i],
            reduction="none",
            **options,
        )
        np.testing.assert_allclose(beams.log_prob[:, i], -losses, rtol=0, atol=1e-9)
    assert np.all(beams.score <= beams.total + 1e-6)
    assert np.all(np.diff(beams.total, axis=1) <= 0)
    if beam > 1:
        labels = greedy.labels, data.lengths, greedy.label_lengths
        assert np.all(
            beams.log_prob[:, 0] >= -fsl.ctc_loss(data.emissions, *labels, reduction="none", **options) - 1e-6
        )


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_bits_do_not_depend_on_threads_or_on_the_batch(threads):
    data = real_data.load("nanopore_chiron_seg")
    arguments = {"blank": data.blank, "beam": 20, "n_best": 5, "align": True}
    one = fsl.ctc_beam_search(data.emissions, data.lengths, num_threads=1, **arguments)
    several = fsl.ctc_beam_search(data.emissions, data.lengths, num_threads=threads, **arguments)
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a, b)
    alone = fsl.ctc_beam_search(data.emissions[7], int(data.lengths[7]), **arguments)
    n = int(alone.label_lengths.max())
    np.testing.assert_array_equal(alone.labels, one.labels[7, :, :n])
    for a, b in zip(alone[1:6], one[1:6], strict=True):
        np.testing.assert_array_equal(a, b[7])
    assert isinstance(alone.n_found, int)


@pytest.mark.parametrize("rescore", [0, 10, 100])
def test_ties(rescore):
    beams = fsl.ctc_beam_search(np.zeros((2, 4)), beam=40, n_best=10, rescore=rescore)
    assert found(beams) == [(1,), (2,), (3,), (), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]
    beams = fsl.ctc_beam_search(np.zeros((1, 4)), n_best=4, rescore=rescore)
    assert found(beams) == [(), (1,), (2,), (3,)]


# ---- beyond the range of float64 -----------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0, 5), st.sampled_from(KINDS[:2]))
def test_scores_far_apart(seed, scale, kind):
    rng = np.random.default_rng(seed)
    frames, classes = int(rng.integers(1, 6)), int(rng.integers(2, 4))
    scores = 10.0**scale * rng.normal(size=(frames, classes))
    log_probs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True) if kind == "logits" else scores
    every = {}
    for path in np.ndindex(*[classes] * frames):
        labels = tuple(fsl.ctc_collapse(path).tolist())
        every[labels] = np.logaddexp(every.get(labels, -np.inf), log_probs[np.arange(frames), path].sum())
    for rescore in (0, 1000):
        beams = fsl.ctc_beam_search(scores, input=kind, beam=1000, n_best=1000, rescore=rescore)
        assert beams.n_found == len(every)
        for labels, log_prob in zip(found(beams), beams.log_prob, strict=False):
            assert log_prob == pytest.approx(every[labels], rel=1e-12, abs=1e-11)


def test_n_best_of_scores_a_thousand_apart():
    scores = np.array([[0.0, 1000, -1000], [1000, 0, -1000], [0, -1000, 1000]])
    beams = fsl.ctc_beam_search(scores, n_best=9)
    assert beams.n_found == 9
    np.testing.assert_allclose(beams.log_prob[:4], [0, -1000, -1000, -2000])
    assert found(beams)[0] == (1, 2)


def test_masses_lost_far_below_others_return():
    """The mass that ends in label 1 falls below the range of float64 while that which ends in the blank does not."""
    log_probs = np.full((12, 2), -1000.0)
    log_probs[0] = [-1000, 0]
    log_probs[1:6, 0] = 0  # the blank; label 1 at -200 each
    log_probs[1:6, 1] = -200
    log_probs[6:9] = [-400, 0]
    log_probs[9:] = [0, -3]
    beams = fsl.ctc_beam_search(log_probs, input="log_probs", n_best=5, rescore=0)
    losses = [fsl.ctc_loss(log_probs, labels, input="log_probs", reduction="sum") for labels in map(list, found(beams))]
    np.testing.assert_allclose(beams.log_prob, -np.array(losses), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_probabilities_of_any_scale(scale):
    y = np.random.default_rng(0).random((30, 6))
    expected = fsl.ctc_beam_search(y, input="probs", n_best=5)
    beams = fsl.ctc_beam_search(scale * y, input="probs", n_best=5)
    np.testing.assert_array_equal(beams.labels, expected.labels)
    np.testing.assert_allclose(beams.score - expected.score, 30 * math.log(scale), rtol=1e-12)
    np.testing.assert_allclose(beams.log_prob - expected.log_prob, 30 * math.log(scale), rtol=1e-12)


def test_large_language_scores():
    y = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    bigram = np.array([[0, 0, 0], [0, -900, 900], [0, 0, -np.inf], [0, 500, -500.0]])
    beams = fsl.ctc_beam_search(y, input="probs", bigram=bigram, beam=500, n_best=100, rescore=0)
    assert not any((2, 2) in itertools.pairwise(labels) for labels in found(beams))
    for labels, total in zip(found(beams), beams.total, strict=False):
        lm = sum(bigram[a, b] for a, b in zip((3, *labels), labels, strict=False))
        log_prob = -fsl.ctc_loss(y, list(labels), input="probs", reduction="sum")
        assert total == pytest.approx(log_prob + lm, rel=1e-12)


# ---- long sequences, memory ---------------------------------------------------------------


def test_prefixes_that_nothing_begins_with_are_forgotten():
    """A beam makes thousands of prefixes, of which few are left at a time."""
    y = np.random.default_rng(0).dirichlet(np.full(40, 0.4), 700)
    expected = beam_search(y[:120], 0, 30)
    start = fsl.ctc_beam_search(y[:120], input="probs", beam=30, n_best=30, rescore=0)
    assert found(start) == [labels for _, labels in expected]
    # The frames that follow leave every prefix as it is, and only the masses shrink.
    y[120:] = np.eye(40)[0] * 0.9
    beams = fsl.ctc_beam_search(y, input="probs", beam=30, n_best=30, rescore=0)
    assert found(beams) == found(start)
    np.testing.assert_allclose(beams.score - start.score, 580 * math.log(0.9), rtol=1e-12)


# ---- forms of input -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes(dtype, kind):
    scores = scores_like(np.random.default_rng(0).normal(size=(2, 9, 5)), kind, np.float32).astype(dtype)
    beams = fsl.ctc_beam_search(scores, [9, 7], input=kind, n_best=3)
    wide = fsl.ctc_beam_search(scores.astype(np.float64), [9, 7], input=kind, n_best=3)
    np.testing.assert_array_equal(beams.labels, wide.labels)
    np.testing.assert_allclose(beams.log_prob, wide.log_prob, atol=1e-5)


def test_layouts():
    scores = np.random.default_rng(0).normal(size=(3, 9, 5))
    expected = fsl.ctc_beam_search(scores, [9, 0, 4], n_best=3, align=True)
    padded = scores.copy()
    padded[1], padded[2, 4:] = np.nan, np.nan
    for given_scores in (
        padded,
        np.ascontiguousarray(padded.swapaxes(0, 1)).swapaxes(0, 1),
        np.ascontiguousarray(padded[:, ::-1])[:, ::-1],
        np.asfortranarray(padded),
    ):
        given_scores.flags.writeable = False
        for a, b in zip(fsl.ctc_beam_search(given_scores, [9, 0, 4], n_best=3, align=True), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert expected.n_found[1] == 1
    assert expected.log_prob[1].tolist() == [0, -np.inf, -np.inf]
    assert np.all(expected.labels[1] == -1)


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4), (2, 5, 1)])
def test_nothing_to_find(shape):
    beams = fsl.ctc_beam_search(np.zeros(shape), n_best=2, align=True)
    assert beams.labels.shape == (shape[0], 2, 0)
    assert beams.frames.shape == (shape[0], 2, 0, 2)
    assert beams.n_found.tolist() == [1] * shape[0]
    np.testing.assert_array_equal(beams.log_prob, np.tile([0, -np.inf], (shape[0], 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stays_in_its_sequence(kind, value):
    scores = np.random.default_rng(0).dirichlet(np.ones(5), (3, 9))
    expected = fsl.ctc_beam_search(scores, input=kind, n_best=2, align=True)
    scores[1, 4, 2] = value
    beams = fsl.ctc_beam_search(scores, input=kind, n_best=2, align=True)
    assert beams.n_found.tolist() == [2, 0, 2]
    for values in (beams.log_prob, beams.total, beams.score):
        assert np.isnan(values[1]).all()
    assert np.all(beams.labels[1] == -1)
    for b in (0, 2):
        np.testing.assert_array_equal(beams.log_prob[b], expected.log_prob[b])
    assert np.isnan(fsl.ctc_beam_search([[0.5, 0.6, -0.1]], input="probs").log_prob[0])


@pytest.mark.parametrize(
    ("classes", "dtype"), [(3, np.float32), (16, np.float64), (17, np.float32), (64, np.float64), (150, np.float32)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_invalid_scores_of_any_class_and_frame(kind, classes, dtype):
    """Also at the blank, and after a frame at which all prefixes are impossible."""
    rng = np.random.default_rng(classes)
    scores = rng.dirichlet(np.ones(classes), (2, 4)).astype(dtype)
    scores[1, 1] = 0 if kind == "probs" else -np.inf
    for c in {0, 1, classes - 1, *rng.integers(0, classes, 3).tolist()}:
        for value in (np.nan, np.inf, -1.0)[: 3 if kind == "probs" else 2]:
            bad = scores.copy()
            bad[:, rng.integers(2, 4), c] = value
            beams = fsl.ctc_beam_search(bad, input=kind, blank=1, beam=4)
            assert beams.n_found.tolist() == [0, 0]
            assert np.isnan([beams.log_prob, beams.total, beams.score]).all()
            assert fsl.ctc_beam_search(bad, [2, 2], input=kind, blank=1, beam=4).n_found.tolist() == [1, 0]


def test_impossible_frame():
    scores = np.zeros((4, 3))
    scores[2] = -np.inf
    for kind in KINDS[:2]:
        beams = fsl.ctc_beam_search(scores, input=kind, n_best=2)
        assert beams.n_found == 0
        assert beams.log_prob.tolist() == [-np.inf, -np.inf]
    assert fsl.ctc_beam_search(np.zeros((1, 3)), input="probs").n_found == 0


# ---- frames and confidences ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["speech_hama_real", "ocr_ppocrv4_feats"])
def test_frames_and_confidences(name):
    data = real_data.load(name, padding=np.nan)
    options = {"blank": data.blank, "input": data.kind}
    beams = fsl.ctc_beam_search(data.emissions, data.lengths, n_best=2, align=True, **options)
    for b, n in enumerate(data.lengths):
        for i in range(2):
            labels = beams.labels[b, i, : beams.label_lengths[b, i]]
            spans = fsl.ctc_align(data.emissions[b, :n], labels, **options).spans()
            assert beams.frames[b, i, : len(labels)].tolist() == [[span.start, span.end] for span in spans]
            confidences = beams.confidences[b, i, : len(labels)]
            alone = fsl.ctc_confidences(data.emissions[b, :n], labels, **options)
            np.testing.assert_array_equal(confidences, alone.confidences)
            posteriors = fsl.ctc_posteriors(data.emissions[b, :n].astype(np.float64), labels, **options)
            np.testing.assert_allclose(confidences, posteriors[:, 1::2].max(axis=0), rtol=0, atol=1e-9)
            assert np.all(beams.frames[b, i, len(labels) :] == -1)
            assert np.all(beams.confidences[b, i, len(labels) :] == 0)


def test_memory_of_confidences():
    """4000 frames and 150 labels: posteriors would take 9 MB for each result."""
    data = real_data.load("nanopore_chiron_long")
    peaks = []
    for align in (False, True):
        tracemalloc.start()
        found = fsl.ctc_beam_search(data.emissions[0], blank=data.blank, input=data.kind, n_best=5, align=align)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found.confidences.shape == found.labels.shape
    assert peaks[1] - peaks[0] < 3e5


# ---- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, "logits has shape", {"logits": np.zeros(3)}),
        (TypeError, "logits has dtype", {"logits": np.zeros((2, 3), int)}),
        (ValueError, "blank is 5", {"blank": 5}),
        (ValueError, "input is 'p'", {"input": "p"}),
        (ValueError, r"logit_lengths\[1\] is 7", {"logit_lengths": [6, 7]}),
        (TypeError, "logit_lengths has dtype", {"logit_lengths": [1.0, 2.0]}),
        (ValueError, "beam is 0; allowed: 1 to 1048576", {"beam": 0}),
        (ValueError, "beam is 1048577", {"beam": 2**20 + 1}),
        (TypeError, "beam must be an integer", {"beam": 2.5}),
        (ValueError, "n_best is 31; allowed: 1 to 30, the beam", {"n_best": 31}),
        (ValueError, "n_best is 0", {"n_best": 0}),
        (ValueError, "rescore is -1; allowed: 0 or more", {"rescore": -1}),
        (TypeError, "rescore must be an integer", {"rescore": True}),
        (ValueError, "class_threshold is nan", {"class_threshold": np.nan}),
        (TypeError, "class_threshold must be a number", {"class_threshold": "-5"}),
        (ValueError, "beam_threshold is -1", {"beam_threshold": -1}),
        (ValueError, r"bigram has shape \(5, 5\); allowed: \[V \+ 1, V\] = \(6, 5\)", {"bigram": np.zeros((5, 5))}),
        (TypeError, "bigram has dtype", {"bigram": np.zeros((6, 5), complex)}),
        (ValueError, r"bigram\[2, 3\] is nan; allowed: finite numbers and -inf", {"bigram": "nan"}),
        (ValueError, r"bigram\[2, 3\] is 1e\+308", {"bigram": "large", "lm_weight": 10}),
        (ValueError, "lm_weight is -1", {"lm_weight": -1}),
        (ValueError, "length_bonus is inf", {"length_bonus": np.inf}),
        (ValueError, "length_bonus is 1e\\+308; allowed: from -1e", {"length_bonus": 1e308}),
        (TypeError, "align must be a bool", {"align": 1}),
        (ValueError, "num_threads is 0", {"num_threads": 0}),
    ],
)
def test_errors(kind, said, wrong):
    if isinstance(wrong.get("bigram"), str):
        wrong = dict(wrong)
        bigram = np.zeros((6, 5))
        bigram[2, 3] = {"nan": np.nan, "large": 1e308}[wrong["bigram"]]
        wrong["bigram"] = bigram
    with pytest.raises(kind, match=said):
        fsl.ctc_beam_search(**{"logits": np.zeros((2, 6, 5))} | wrong)


# ---- words ---------------------------------------------------------------------------------


def occurrences(labels, word):
    """Number of occurrences of a word among the labels, including overlaps."""
    return sum(labels[i : i + len(word)] == word for i in range(len(labels) - len(word) + 1))


def is_of_words(labels, words):
    """True if the labels are words one after the other."""
    ends = {0}
    for end in range(1, len(labels) + 1):
        if any(end - len(word) in ends and labels[end - len(word) : end] == word for word in words):
            ends.add(end)
    return len(labels) in ends


@st.composite
def words_of(draw, classes, blank):
    labels = st.sampled_from([c for c in range(classes) if c != blank])
    return draw(st.lists(st.lists(labels, min_size=1, max_size=3).map(tuple), max_size=4))


@st.composite
def problems_with_words(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, classes = draw(st.integers(0, 5)), draw(st.integers(2, 4))
    y = rng.dirichlet(np.full(classes, draw(st.sampled_from((0.3, 2.0)))), frames)
    blank = int(rng.integers(classes))
    options = {"length_bonus": draw(st.sampled_from((0.0, 0.4)))}
    if draw(st.booleans()):
        scores = st.sampled_from((-1.5, 0.0, 0.7, 3.0, 900.0))
        options["boost"] = [(word, draw(scores)) for word in draw(words_of(classes, blank))]
    if draw(st.booleans()):
        options["lexicon"] = draw(words_of(classes, blank))
    if draw(st.booleans()):
        options["bigram"] = np.log(rng.dirichlet(np.ones(classes), classes + 1))
    return y, blank, options


def language_score(labels, options, classes):
    """Logarithm of the score of labels; -inf if the lexicon excludes them."""
    if "lexicon" in options and not is_of_words(labels, options["lexicon"]):
        return -math.inf
    score = options["length_bonus"] * len(labels)
    if "bigram" in options:
        score += sum(options["bigram"][pair] for pair in zip((classes, *labels), labels, strict=False))
    return score + sum(bonus * occurrences(labels, word) for word, bonus in options.get("boost", ()))


@given(problems_with_words(), st.sampled_from((0, 400)))
def test_words_against_enumeration(problem, rescore):
    y, blank, options = problem
    classes = y.shape[1]
    expected = {}
    for p, labels in every_sequence(y, blank):
        score = language_score(labels, options, classes)
        if score > -math.inf:
            expected[labels] = math.log(p), math.log(p) + score
    beams = fsl.ctc_beam_search(y, blank=blank, input="probs", beam=400, n_best=400, rescore=rescore, **options)
    assert set(found(beams)) == set(expected)
    for labels, *values in zip(found(beams), beams.log_prob, beams.total, beams.score, strict=False):
        log_prob, total = expected[labels]
        assert values == pytest.approx([log_prob, total, total], rel=1e-12, abs=1e-10)
    assert np.all(np.diff(beams.total[: beams.n_found]) <= 0)


def test_boost_finds_a_name_in_a_narrow_beam():
    """The score is paid label by label: a beam of two keeps the name although each label is the second best."""
    y = np.full((8, 6), 0.02)
    y[::2, 0] = 0.9
    y[1::2, 5], y[[1, 3, 5, 7], [1, 2, 3, 4]] = 0.6, 0.3
    assert found(search(y, beam=2))[0] == (5, 5, 5, 5)
    boosted = search(y, beam=2, boost={(1, 2, 3, 4): 4.0})
    assert found(boosted)[0] == (1, 2, 3, 4)
    assert boosted.total[0] == pytest.approx(boosted.log_prob[0] + 4)
    # What was paid for a name that breaks off is taken back.
    assert search(y[:6], boost={(1, 2, 3, 4): 4.0}).total[0] == search(y[:6]).log_prob[0]


def test_lexicon_of_real_emissions():
    data = real_data.load("speech_hama_real")
    options = {"blank": data.blank, "input": data.kind}
    words = [data.labels[b, : data.label_lengths[b]].tolist() for b in range(len(data.lengths))]
    beams = fsl.ctc_beam_search(data.emissions, data.lengths, lexicon=words, **options)
    for b, word in enumerate(words):
        assert beams.labels[b, 0, : beams.label_lengths[b, 0]].tolist() == word
    assert fsl.ctc_beam_search(data.emissions[0], lexicon=[], **options).labels.shape == (1, 0)


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (TypeError, "boost is 'ab'; allowed: a list of pairs", {"boost": "ab"}),
        (TypeError, r"boost is 3; allowed", {"boost": 3}),
        (TypeError, r"boost\[1\] is \[1\]; allowed: a pair \(labels, score\)", {"boost": [([1], 2), [1]]}),
        (ValueError, r"boost\[0\]\[0\]\[1\] is 5; allowed: 0 to 4", {"boost": [([1, 5], 2)]}),
        (ValueError, r"boost\[0\]\[0\]\[1\] is 0, which is the blank", {"boost": [([1, 0], 2)]}),
        (ValueError, r"boost\[0\]\[0\] has no labels", {"boost": {(): 2.0}}),
        (ValueError, r"boost\[0\]\[1\] is nan", {"boost": [([1], np.nan)]}),
        (TypeError, r"boost\[0\]\[1\] must be a number", {"boost": [([1], "2")]}),
        (TypeError, "lexicon is 'ab'; allowed: a list of label sequences", {"lexicon": "ab"}),
        (TypeError, "lexicon is array", {"lexicon": np.array(3)}),
        (TypeError, r"lexicon\[0\] has dtype", {"lexicon": ["ab"]}),
        (ValueError, r"lexicon\[1\] has shape \(\)", {"lexicon": [[1], 2]}),
        (ValueError, r"lexicon\[1\] has no labels", {"lexicon": [[1], []]}),
        (ValueError, r"lexicon\[0\]\[0\] is -1; allowed: 0 to 4", {"lexicon": [[-1]]}),
    ],
)
def test_errors_of_words(kind, said, wrong):
    with pytest.raises(kind, match=said):
        fsl.ctc_beam_search(**{"logits": np.zeros((2, 6, 5))} | wrong)


# ---- long searches ---------------------------------------------------------------------------


@pytest.mark.parametrize("below", [5.0, 200.3])
def test_log_probs_of_long_logits_whose_blanks_are_improbable(below):
    """Sums over frames, of 1e6 and 2e7, are not in the result, which is near 0."""
    n_frames = 100_001
    x = np.random.default_rng(0).normal(size=(n_frames, 3))
    x[:, 0] -= below
    x[np.arange(n_frames), 1 + np.arange(n_frames) // 2000 % 2] += 20
    beams = fsl.ctc_beam_search(x, beam=2, rescore=1)
    assert beams.label_lengths[0] == 51
    assert beams.log_prob[0] == pytest.approx(-fsl.ctc_loss(x, beams.labels[0]), abs=1e-11)


def test_sequences_longer_than_a_region():
    """Searches are paused at the end of a region, and other workers may take them up again."""
    y = np.random.default_rng(0).dirichlet(np.full(6, 0.5), (3, 2500))
    options = {"input": "probs", "beam": 600, "n_best": 3, "rescore": 0}
    together = fsl.ctc_beam_search(y, [2500, 1700, 2400], num_threads=3, **options)
    for b, n in enumerate([2500, 1700, 2400]):
        alone = fsl.ctc_beam_search(y[b, :n], num_threads=1, **options)
        width = alone.labels.shape[1]
        np.testing.assert_array_equal(together.labels[b, :, :width], alone.labels)
        np.testing.assert_array_equal(together.score[b], alone.score)


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_signals_end_the_search_of_one_long_sequence():
    code = """
import os, signal, threading
import numpy as np
import fastseqloss as fsl
y = np.random.default_rng(0).dirichlet(np.ones(30), 20000)
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of shells ignore it
timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
timer.start()
try:
    while True:
        fsl.ctc_beam_search(y, input="probs", beam=100000, rescore=0)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["interrupted"]
