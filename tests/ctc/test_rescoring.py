"""Log-probabilities of ctc_beam_search with rescoring: those of ctc_loss, from the tree of prefixes or one by one."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import KINDS, scores_like
from thoroughness import examples, thorough

beam_search = importlib.import_module("fastseqloss.ctc.beam")


def check(scores, beams, blank, kind):
    """Each log-probability is that of all alignments, and the best comes first."""
    for i in range(beams.n_found):
        labels = beams.labels[i, : beams.label_lengths[i]]
        loss = fsl.ctc_loss(scores, labels, blank=blank, input=kind)
        assert beams.log_prob[i] == pytest.approx(-loss, rel=1e-9, abs=1e-9)
    assert (np.diff(beams.total[: beams.n_found]) <= 0).all()


@pytest.fixture
def _from_trees(monkeypatch):
    """Let no label sequence be scored alone."""

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(beam_search, "_lattice_log_probs", fail)


@examples(3)
@given(
    st.tuples(st.integers(1, 30), st.integers(2, 7)),
    st.sampled_from(KINDS),
    st.sampled_from((np.float32, np.float64)),
    st.sampled_from((0.3, 3.0, 30.0, 1000.0)),
    st.sampled_from((0.0, 0.2)),
    st.integers(0, 2**32 - 1),
)
def test_log_probs_are_those_of_the_loss(shape, kind, dtype, scale, forbidden, seed):
    """From emissions that are all alike to those that leave the range of float64; and -inf among them."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=shape)
    logits[rng.random(shape) < forbidden] = -np.inf
    logits[:, 0] = np.where(np.isneginf(logits).all(axis=1), 0, logits[:, 0])
    with np.errstate(all="ignore"):
        scores = scores_like(logits, kind, dtype)
    blank = int(rng.integers(shape[1]))
    options = {"blank": blank, "input": kind, "beam": 30, "n_best": 10}
    check(scores, fsl.ctc_beam_search(scores, **options), blank, kind)
    check(scores, fsl.ctc_beam_search(scores, rescore=30, length_bonus=0.5, **options), blank, kind)


@pytest.mark.usefixtures("_from_trees")
@pytest.mark.parametrize("name", real_data.NAMES)
@pytest.mark.parametrize("kind", ["logits", thorough("log_probs"), thorough("probs")])
def test_real_emissions(name, kind):
    data = real_data.load(name, padding=np.nan)
    n = int(data.lengths[0])
    scores = scores_like(np.log(np.maximum(data.emissions[0, :n].astype(float), 1e-30)), kind, np.float32)
    if data.kind != "probs":
        scores = scores_like(data.emissions[0, :n].astype(float), kind, np.float32)
    beams = fsl.ctc_beam_search(scores, blank=data.blank, input=kind, n_best=10)
    check(scores, beams, data.blank, kind)


@pytest.mark.usefixtures("_from_trees")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["logits", "log_probs"])
def test_several_trees(threads, kind):
    """More label sequences than a tree has; the same bits on any number of threads, and in any batch."""
    rng = np.random.default_rng(0)
    scores = scores_like(rng.normal(size=(20, 12, 5)), kind)
    lengths = rng.integers(0, 13, 20)
    options = {"input": kind, "beam": 200, "n_best": 150, "rescore": 200}
    found = fsl.ctc_beam_search(scores, lengths, num_threads=threads, **options)
    for b in (0, 7, 19):
        alone = fsl.ctc_beam_search(scores[b, : lengths[b]], **options)
        np.testing.assert_array_equal(found.log_prob[b], alone.log_prob)
        check(scores[b, : lengths[b]], alone, 0, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_improbable_sequences(kind):
    """Probabilities below those that a tree can tell: 2000 frames that are all alike."""
    scores = scores_like(0.01 * np.random.default_rng(0).normal(size=(2000, 6)), kind)
    check(scores, fsl.ctc_beam_search(scores, input=kind, n_best=3), 0, kind)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_shifted_logits(offset):
    """A number added to all logits of a frame does not cost a digit."""
    logits = np.random.default_rng(0).integers(-8, 9, (50, 6)) / 4 + offset * (np.arange(50) % 3)[:, None]
    beams = fsl.ctc_beam_search(logits, n_best=10)
    expected = fsl.ctc_beam_search(logits - offset * (np.arange(50) % 3)[:, None], n_best=10)
    np.testing.assert_allclose(beams.log_prob, expected.log_prob, rtol=0, atol=1e-10)


def test_label_sequences_that_begin_other_label_sequences():
    """The empty one, one that is the beginning of another one, and repeated labels."""
    probs = np.array([[0.4, 0.35, 0.25], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2]])
    beams = fsl.ctc_beam_search(probs, input="probs", beam=30, n_best=30, rescore=30)
    rows = [tuple(row[:n]) for row, n in zip(beams.labels.tolist(), beams.label_lengths, strict=True)]
    assert {(), (1,), (1, 2), (1, 1), (1, 2, 1)} <= {*rows[: beams.n_found]}
    check(probs, beams, 0, "probs")
    assert np.exp(beams.log_prob[: beams.n_found]).sum() == pytest.approx(1, rel=1e-12)
