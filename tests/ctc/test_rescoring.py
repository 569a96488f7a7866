"""Log-probabilities of the results of the beam search over all alignments, on the tree of their prefixes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import KINDS, scores_like
from fastseqloss._core.arrays import stored
from fastseqloss._core.options import InputKind
from fastseqloss._kernels.ctc import beam as kernel


def rescored(scores, sequences, kind="log_probs", blank=0):
    """Log-probabilities of label sequences, NaN where the tree cannot tell; of log-probabilities or probabilities."""
    frames, n = len(scores), len(sequences)
    lengths = [len(labels) for labels in sequences]
    labels = np.zeros((n, frames), np.int64)
    for row, sequence in zip(labels, sequences, strict=True):
        row[: len(sequence)] = sequence
    unread = np.full(n, -1)
    tables = np.concatenate([unread, unread, lengths, unread, labels.ravel()])[None].astype(np.int64)
    table, out = np.array([[frames], [0], [n]]), np.zeros((1, n))
    kernel.ctc_rescore(*stored(scores[None]), table, tables, InputKind[kind.upper()], blank, out, 1)
    return out[0]


def losses(scores, sequences, **options):
    shared = np.broadcast_to(scores, (len(sequences), *scores.shape))
    return fsl.ctc_loss(shared, [list(labels) for labels in sequences], reduction="none", **options)


def check(scores, sequences, kind="log_probs", blank=0):
    """Check the results of the tree; return True if it has results."""
    values = rescored(scores, sequences, kind, blank)
    right = -losses(scores, sequences, input=kind, blank=blank)
    told = ~np.isnan(values)
    np.testing.assert_allclose(values[told], right[told], rtol=1e-12, atol=1e-9)
    return told


def edited(rng, labels, classes, n):
    """Label sequences like `labels`, with a label replaced, removed or added at a few places."""
    for _ in range(n):
        row = list(labels)
        for _ in range(rng.integers(0, 4)):
            at = int(rng.integers(0, len(row)))
            row[at : at + int(rng.integers(0, 2))] = rng.integers(1, classes, rng.integers(0, 2)).tolist()
        yield row


def peaks(rng, labels, frames, classes, least):
    """Probabilities of a model that is certain of `labels`, each at a frame of its own, but for `least`."""
    y = np.full((frames, classes), least)
    at = np.sort(rng.choice(frames, len(labels), replace=False))
    y[:, 0] = 1
    y[at, 0] = least
    y[at, labels] = 1
    return y / y.sum(axis=1, keepdims=True)


SCALES = st.sampled_from((0.1, 1.0, 30.0, 1000.0))


@given(st.integers(0, 2**32 - 1), st.sampled_from((3, 6)), SCALES, st.sampled_from(KINDS[1:]))
def test_random_scores(seed, classes, scale, kind):
    """Flat ones and some that are a thousand apart, with trees of a few hundred prefixes and branches anywhere."""
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(300, 700))
    labels = rng.integers(1, classes, int(rng.integers(20, frames // 2)))
    logits = scale * rng.normal(size=(frames, classes))
    sequences = [labels.tolist(), *edited(rng, labels, classes, 6), []]
    told = check(scores_like(logits, kind), sequences, kind)
    assert told[:-1].all() or scale > 1


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.1, 1e-3, 1e-9)), st.integers(1, 12))
def test_confident_models(seed, least, n):
    """A band of likely prefixes that passes each label once, in a chain for each early difference."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, 300)
    y = peaks(rng, labels, 900, 5, least)
    sequences = [labels.tolist(), *edited(rng, labels, 5, n)]
    assert check(y, sequences, "probs").all() or least < 1e-3


def test_masses_far_below_others_that_matter_later():
    """The best prefixes at half of the frames have no likely continuation, and others below the range of float64 do."""
    n, behind, rng = 200, 120, np.random.default_rng(0)
    labels = np.tile([1, 2], n)[: 2 * n - behind]
    start = peaks(rng, labels[:n], 2 * n, 3, 1e-3)
    end = peaks(rng, labels[n - behind :], 2 * n, 3, 1e-6)
    y = np.concatenate((start, end))
    log_prob = -fsl.ctc_loss(y, labels, input="probs", reduction="sum")
    assert log_prob < -660 * math.log(2)
    assert not check(y, [labels.tolist()], "probs").any()
    # All of these labels are likely where they are.
    y = np.concatenate((start, peaks(rng, np.tile([1, 2], n)[: n - behind], 2 * n, 3, 1e-6)))
    assert check(y, [labels.tolist(), labels[:-1].tolist()], "probs").all()


def test_logits_of_large_lattices():
    """Offsets of the frames cancel; blanks that are impossible at a frame leave no other way than the first lattice."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 4, 1500)
    logits = np.log(peaks(rng, labels, 3500, 4, 1e-3)) + 1e4 * rng.normal(size=(3500, 1))
    impossible = logits.copy()
    impossible[logits.argmax(axis=1) == labels[0], 0] = -np.inf
    for scores in (logits, impossible):
        beams = fsl.ctc_beam_search(scores, beam=4, n_best=3)
        sequences = [row[:n].tolist() for row, n in zip(beams.labels, beams.label_lengths, strict=True)]
        np.testing.assert_allclose(beams.log_prob, -losses(scores, sequences), rtol=1e-12, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["log_probs", "logits"])
def test_long_read_in_float32(kind):
    """The errors of a loss in float32 add up over 32,000 frames."""
    data = real_data.load("nanopore_chiron_long")
    scores = scores_like(np.tile(data.emissions[0], (8, 1)), kind)
    options = {"blank": data.blank, "input": kind}
    beams = fsl.ctc_beam_search(scores, beam=12, n_best=5, **options)
    sequences = [row[:n].tolist() for row, n in zip(beams.labels, beams.label_lengths, strict=True)]
    np.testing.assert_allclose(beams.log_prob, -losses(scores, sequences, **options), rtol=2e-11, atol=1e-9)


@pytest.mark.parametrize("kind", ["log_probs", "logits", pytest.param("probs", marks=pytest.mark.thorough)])
def test_long_read(kind):
    """A probability below the range of float64, with bounds on the contribution of each frame."""
    data = real_data.load("nanopore_chiron_long")
    scores = scores_like(np.tile(data.emissions[0], (3, 1)).astype(np.float64), kind)
    options = {"blank": data.blank, "input": kind}
    beams = fsl.ctc_beam_search(scores, beam=12, n_best=5, **options)
    sequences = [row[:n].tolist() for row, n in zip(beams.labels, beams.label_lengths, strict=True)]
    np.testing.assert_allclose(beams.log_prob, -losses(scores, sequences, **options), rtol=1e-12)
    assert beams.log_prob[0] < -250
    assert kind == "logits" or check(scores, [*sequences, sequences[0][:-1]], kind, data.blank).all()
