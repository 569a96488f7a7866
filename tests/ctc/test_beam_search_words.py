"""ctc_beam_search with words: scores that are paid for some, a lexicon of all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from beam_cases import found, search
from reference.beam import every_sequence


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
