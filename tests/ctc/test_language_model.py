"""Models of labels in ctc_beam_search: functions of the caller, and n-grams."""

import functools
import math
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from reference import ngram
from reference.beam import beam_search, every_sequence
from thoroughness import examples, thorough

# ---- functions of prefixes -----------------------------------------------------------------


@functools.cache
def scores_of(prefix, width, seed=0, forbidden=0.1):
    """Scores of the next label that depend on all labels before it."""
    rng = np.random.default_rng([seed, *prefix])
    return np.where(rng.random(width) < forbidden, -np.inf, rng.normal(-1.0, 1.5, width))


def model_of(width, seed=0, forbidden=0.1):
    """Model that reads the prefixes from its states."""

    def model(prefixes, states):
        assert len(set(prefixes)) <= len(prefixes) == len(states)
        for prefix, state in zip(prefixes, states, strict=True):
            assert state == (prefix[:-1] if prefix else None)
        return [scores_of(prefix, width, seed, forbidden) for prefix in prefixes], prefixes

    return model


def lm_of(prefix_scores, weight=1.0, bonus=0.0):
    return lambda prefix, label: math.exp(weight * prefix_scores(prefix)[label] + bonus)


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, classes = draw(st.integers(0, 5)), draw(st.integers(2, 4))
    y = rng.dirichlet(np.full(classes, draw(st.sampled_from((0.3, 2.0)))), frames)
    blank = int(rng.integers(classes))
    labels = [c for c in range(classes) if c != blank]
    words = st.lists(st.lists(st.sampled_from(labels), min_size=1, max_size=3).map(tuple), max_size=3)
    options = {"lm_weight": draw(st.sampled_from((0.5, 1.0))), "length_bonus": draw(st.sampled_from((0.0, 0.4)))}
    if draw(st.booleans()):
        options["boost"] = [(word, draw(st.sampled_from((-1.5, 0.7, 3.0)))) for word in draw(words)]
    if draw(st.booleans()):
        options["lexicon"] = draw(words)
    if draw(st.booleans()):
        options["bigram"] = np.log(rng.dirichlet(np.ones(classes), classes + 1))
    return y, blank, options


def is_of_words(labels, words):
    return not labels or any(labels[: len(w)] == w and is_of_words(labels[len(w) :], words) for w in words)


def other_scores(labels, options, classes):
    """Score of labels by everything but the model."""
    if "lexicon" in options and not is_of_words(labels, options["lexicon"]):
        return -math.inf
    score = options["length_bonus"] * len(labels)
    for word, bonus in options.get("boost", ()):
        score += bonus * sum(labels[i : i + len(word)] == word for i in range(len(labels)))
    if "bigram" in options:
        pairs = zip((classes, *labels), labels, strict=False)
        score += options["lm_weight"] * sum(options["bigram"][pair] for pair in pairs)
    return score


def assert_every_sequence_is_found(problem, model, model_score):
    """With a beam for all prefixes, the results are those of enumeration."""
    y, blank, options = problem
    expected = {}
    for p, labels in every_sequence(y, blank):
        score = options["lm_weight"] * model_score(labels) + other_scores(labels, options, y.shape[1])
        if score > -math.inf:
            expected[labels] = math.log(p), math.log(p) + score
    for rescore in (0, 400):
        beams = fsl.ctc_beam_search(
            *(y,), blank=blank, input="probs", beam=400, n_best=400, rescore=rescore, language_model=model, **options
        )
        found = [tuple(beams.labels[i, : beams.label_lengths[i]].tolist()) for i in range(beams.n_found)]
        assert set(found) == set(expected)
        for labels, *values in zip(found, beams.log_prob, beams.total, beams.score, strict=False):
            log_prob, total = expected[labels]
            assert values == pytest.approx([log_prob, total, total], rel=1e-12, abs=1e-10)
        assert np.all(np.diff(beams.total[: beams.n_found]) <= 0)


@given(problems(), st.integers(0, 1000), st.booleans())
def test_functions_against_enumeration(problem, seed, with_end):
    classes = problem[0].shape[1]
    width = classes + with_end

    def score(labels):
        total = sum(scores_of(labels[:i], width, seed)[label] for i, label in enumerate(labels))
        return total + (scores_of(labels, width, seed)[-1] if with_end else 0)

    assert_every_sequence_is_found(problem, model_of(width, seed), score)


@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 2, 5, 20)), st.sampled_from((2, 5, 30)))
@example(127, 1, 5)  # the bound of the only class that matters, rounded in another order, is below its mass
def test_any_beam_sums_what_the_reference_sums(seed, beam, classes):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(classes, 0.3), 15)
    blank = int(rng.integers(classes))
    expected = beam_search(y, blank, beam, lm_of(lambda prefix: scores_of(prefix, classes)))
    beams = fsl.ctc_beam_search(
        y, blank=blank, input="probs", beam=beam, n_best=beam, rescore=0, language_model=model_of(classes)
    )
    found = [tuple(beams.labels[i, : beams.label_lengths[i]].tolist()) for i in range(beams.n_found)]
    assert found == [labels for _, labels in expected]
    np.testing.assert_allclose(beams.score[: beams.n_found], np.log([mass for mass, _ in expected]), atol=1e-11)


def test_bigram_as_a_function():
    """The scores of an array of pairs have the same results as a function that looks them up."""
    data = real_data.load("speech_hama_real")
    n = data.emissions.shape[2]
    bigram = np.random.default_rng(0).normal(-3, 1, (n + 1, n))
    options = {"blank": data.blank, "input": data.kind, "n_best": 3, "lm_weight": 0.5, "beam": 10}
    expected = fsl.ctc_beam_search(data.emissions, data.lengths, bigram=bigram, **options)

    def model(prefixes, states):
        return bigram[[prefix[-1] if prefix else n for prefix in prefixes]].astype(np.float32)

    bigram = bigram.astype(np.float32)
    beams = fsl.ctc_beam_search(data.emissions, data.lengths, language_model=model, **options)
    np.testing.assert_array_equal(beams.labels, expected.labels)
    np.testing.assert_allclose(beams.total, expected.total, atol=1e-4)
    losses = fsl.ctc_loss(
        *(data.emissions, beams.labels[:, 0], data.lengths, beams.label_lengths[:, 0]),
        reduction="none",
        **{"blank": data.blank, "input": data.kind},
    )
    np.testing.assert_allclose(beams.log_prob[:, 0], -losses, rtol=0, atol=1e-9)


def test_calls_of_a_function():
    """One call a frame at most, by the calling thread, with the new prefixes of all sequences."""
    calls = []

    def model(prefixes, states):
        assert threading.get_ident() == caller
        calls.append(list(prefixes))
        prefixes.clear()
        scores = [[*scores_of(prefix, 4, forbidden=0), 0.0][:width] for prefix in calls[-1]]
        return scores, (f"after {prefix}" for prefix in calls[-1])

    caller = threading.get_ident()
    y = np.random.default_rng(0).dirichlet(np.ones(4), (3, 9))
    y[2, 3] = np.nan
    for width in (4, 5):
        calls.clear()
        beams = fsl.ctc_beam_search(y, [9, 4, 6], input="probs", beam=5, n_best=5, language_model=model)
        assert len(calls) <= 5 + width  # after the last frame, new prefixes need the score of the end alone
        assert calls[0] == [(), ()]
        assert sorted(calls[1]) == [(1,), (1,), (2,), (2,), (3,), (3,)]
        assert all(new and len(prefix) <= t for t, new in enumerate(calls) for prefix in new)
        assert beams.n_found.tolist() == [5, 5, 0]
        assert np.isnan(beams.total[2]).all()


@pytest.mark.parametrize("width", [6, 7])
def test_threads_and_batches(width):
    y = np.random.default_rng(0).dirichlet(np.full(6, 0.4), (7, 25))
    lengths = [25, 3, 0, 14, 25, 1, 20]
    options = {"input": "probs", "beam": 8, "n_best": 4, "language_model": model_of(width), "align": True}
    together = fsl.ctc_beam_search(y, lengths, num_threads=1, **options)
    for a, b in zip(fsl.ctc_beam_search(y, lengths, num_threads=3, **options), together, strict=True):
        np.testing.assert_array_equal(a, b)
    for b, n in enumerate(lengths):
        alone = fsl.ctc_beam_search(y[b, :n], **options)
        np.testing.assert_array_equal(alone.total, together.total[b])
        np.testing.assert_array_equal(alone.labels, together.labels[b, :, : alone.labels.shape[1]])
    assert together.total[2, 0] == (scores_of((), 7)[-1] if width == 7 else 0)


def test_functions_may_search():
    """A function may call the library, itself included."""
    y = np.random.default_rng(0).dirichlet(np.ones(3), 6)

    def model(prefixes, states):
        inner = fsl.ctc_beam_search(y, input="probs", language_model=lambda p, s: np.zeros((len(p), 3)))
        return np.full((len(prefixes), 3), inner.total[0])

    beams = fsl.ctc_beam_search(y, input="probs", language_model=model)
    assert beams.total[0] == pytest.approx(beams.log_prob[0] + beams.label_lengths[0] * model([()], [None])[0, 0])


def test_labels_that_a_function_forbids():
    y = np.full((5, 4), 0.25)
    scores = [-np.inf, -np.inf, 0.0, -np.inf]
    beams = fsl.ctc_beam_search(
        y, input="probs", beam=30, n_best=30, language_model=lambda p, s: np.tile(scores, (len(p), 1))
    )
    found = [beams.labels[i, : beams.label_lengths[i]].tolist() for i in range(beams.n_found)]
    assert sorted(found) == [[], [2], [2, 2], [2, 2, 2]]
    never = fsl.ctc_beam_search(y, input="probs", language_model=lambda p, s: np.full((len(p), 5), -np.inf))
    assert never.n_found == 0
    assert never.total[0] == -np.inf


class Failed(Exception):
    pass


def failing(prefixes, states):
    if prefixes[0]:
        raise Failed("no more")
    return np.zeros((len(prefixes), 5))


def widening(prefixes, states):
    return np.zeros((len(prefixes), 5 if prefixes[0] == () else 6))


def filled(value):
    scores = np.zeros((2, 5))
    scores[1, 2] = value
    return scores


@pytest.mark.parametrize(
    ("kind", "said", "model"),
    [
        (Failed, "no more", failing),
        (TypeError, "language_model is the class NGram; allowed: an NGram, or a function .*, such as an", fsl.NGram),
        (TypeError, "language_model is 3; allowed: an NGram, or a function", 3),
        (TypeError, "language_model is 'kenlm.arpa'; allowed", "kenlm.arpa"),
        (TypeError, "argument", lambda prefixes: None),
        (ValueError, r"returned scores of shape \(\d, 6\); allowed: \(\d, 5\)$", widening),
    ],
)
def test_errors_of_functions(kind, said, model):
    with pytest.raises(kind, match=said):
        fsl.ctc_beam_search(np.zeros((2, 6, 5)), language_model=model)


@pytest.mark.parametrize(
    ("kind", "said", "returned"),
    [
        (ValueError, r"returned scores of shape \(4,\); allowed: \(2, 5\) or \(2, 6\), the score of", np.zeros(4)),
        (ValueError, r"returned scores of shape \(5, 2\); allowed", np.zeros((5, 2))),
        (TypeError, r"^language_model returned None; allowed: scores, or the tuple \(scores, states\)$", None),
        (TypeError, "^language_model returned None", (None, [0, 0])),
        (TypeError, "scores that language_model returned has dtype complex", np.zeros((2, 5), complex)),
        (TypeError, "language_model returned a tuple of 3; allowed", (1, 2, 3)),
        (TypeError, "language_model returned states of type int; allowed", (filled(0), 3)),
        (ValueError, "language_model returned 1 states; allowed: 2", (filled(0), [3])),
        (ValueError, r"language_model returned nan as scores\[1, 2\], after the labels \(\); ", filled(np.nan)),
        (ValueError, r"language_model returned inf as scores\[1, 2\]", filled(np.inf)),
        (ValueError, r"language_model returned 1e\+305 as scores\[1, 2\]", filled(1e305)),
    ],
)
def test_errors_of_what_functions_return(kind, said, returned):
    with pytest.raises(kind, match=said):
        fsl.ctc_beam_search(np.zeros((2, 6, 5)), language_model=lambda prefixes, states: returned)


@pytest.mark.parametrize("unused", [np.nan, np.inf, 1e305])
@pytest.mark.parametrize("blank", [0, 2])
def test_scores_of_the_blank_are_not_used(unused, blank):
    y = np.random.default_rng(0).normal(size=(2, 6, 4))
    table = np.random.default_rng(1).normal(size=(5, 4))
    other = table.copy()
    other[blank] = other[:, blank] = unused
    pairs = [fsl.ctc_beam_search(y, blank=blank, n_best=4, bigram=scores).total for scores in (table, other)]
    np.testing.assert_array_equal(*pairs)

    def model_of(scores):
        return lambda prefixes, states: scores[[prefix[-1] if prefix else 4 for prefix in prefixes]]

    for scores in (table, other):
        beams = fsl.ctc_beam_search(y, blank=blank, n_best=4, language_model=model_of(scores))
        np.testing.assert_allclose(beams.total, pairs[0], rtol=1e-12)


# ---- n-grams -------------------------------------------------------------------------------


@st.composite
def arpa_texts(draw, tokens):
    """A file with some of the n-grams of some tokens; contexts and ends of n-grams may lack."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.integers(1, 4))
    listed = [tokens[0], *(token for token in tokens[1:] if rng.random() < 0.8)]
    special = draw(st.lists(st.sampled_from(["<s>", "</s>", "<unk>"]), unique=True))
    found = [[(token,) for token in [*special, *listed]]]
    for length in range(2, order + 1):
        firsts = [token for token in [*listed, *special] if token != "</s>"]
        lasts = [token for token in [*listed, *special] if token != "<s>"]
        inner = [token for token in firsts if token != "<s>"]
        every = {
            (str(rng.choice(firsts)), *(str(rng.choice(inner)) for _ in range(length - 2)), str(rng.choice(lasts)))
            for _ in range(draw(st.integers(0, 8)) if inner and lasts else 0)
        }
        found.append(sorted(every))
    lines = ["\\data\\", *(f"ngram {i}={len(each)}" for i, each in enumerate(found, 1))]
    for length, each in enumerate(found, 1):
        lines.append(f"\\{length}-grams:")
        for tokens_of in each:
            backoff = f"\t{rng.normal(0, 0.5)}" if length < order and rng.random() < 0.8 else ""
            lines.append(f"{-abs(rng.normal(1, 0.5))}\t{' '.join(tokens_of)}{backoff}")
    return "\n".join([*lines, "\\end\\"])


def read(text, *arguments, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.arpa")
        path.write_text(text)
        return fsl.read_arpa(path, *arguments, **options)


def ends_of(text, options):
    """Pair of bools: the start and the end have scores, if requested and if the file contains them."""
    one = ngram.read(text)
    return {name: options[name] and (token,) in one for name, token in (("start", "<s>"), ("end", "</s>"))}


@given(problems(), st.data())
def test_ngrams_of_labels_against_enumeration(problem, data):
    y, blank, _ = problem
    tokens = {token: c for token, c in zip("abcd", range(y.shape[1]), strict=False) if c != blank}
    text = data.draw(arpa_texts(list(tokens)))
    options = {
        "start": data.draw(st.booleans()),
        "end": data.draw(st.booleans()),
        "unknown": data.draw(st.sampled_from((None, -2.5, -math.inf))),
    }
    model = read(text, tokens, **options)
    token_of = {c: token for token, c in tokens.items()}
    options |= ends_of(text, options)

    def score(labels):
        return ngram.score(ngram.read(text), [token_of[c] for c in labels], **options)

    assert_every_sequence_is_found(problem, model, score)


@given(problems(), st.data())
def test_ngrams_of_words_against_enumeration(problem, data):
    y, blank, _ = problem
    labels = [c for c in range(y.shape[1]) if c != blank]
    separator, letters = labels[0], labels[1:]
    spellings = {
        f"w{i}": word for i, word in enumerate([(c,) for c in letters] + [(a, b) for a in letters for b in letters])
    }
    if not spellings:
        return
    text = data.draw(arpa_texts(list(spellings)))
    options = {
        "start": data.draw(st.booleans()),
        "end": data.draw(st.booleans()),
        "unknown": data.draw(st.sampled_from((None, -2.5, -math.inf))),
    }
    model = read(text, spellings, unit="words", separator=separator, **options)
    word_of = {word: name for name, word in spellings.items()}
    options |= ends_of(text, options)

    def score(found):
        words = "".join(map(chr, found)).split(chr(separator))
        return ngram.score(ngram.read(text), [word_of.get(tuple(map(ord, w)), "?") for w in words if w], **options)

    assert_every_sequence_is_found(problem, model, score)


@pytest.mark.parametrize(
    ("tokens", "marks"),
    [
        (["", "a", "ab", "b", "|"], {"separator": "|"}),
        (["", "▁a", "b", "▁", "▁ab"], {"mark": "▁"}),
        thorough(["", "Ġa", "b", "Ġb", "ab"], {"mark": "Ġ"}),
        thorough(["", "a", "##b", "b", "ab"], {"mark": "##"}),
        (["", "a@@", "b", "b@@", "ab"], {"mark": "@@"}),
        thorough(["", "a", "b</w>", "ab</w>", "</w>"], {"mark": "</w>"}),
        (["", "a", "s", "b", " "], {"separator": " ", "special": ["s"]}),
    ],
)
@examples(0.5)
@given(st.data())
def test_words_of_a_vocabulary(tokens, marks, data):
    """The words are those of the text, however the tokens divide them."""
    vocabulary = fsl.Vocabulary(tokens, **marks)
    text = data.draw(arpa_texts(["a", "b", "ab", "ba", "abb"]))
    unknown = data.draw(st.sampled_from((None, -2.5, -math.inf)))
    has = ends_of(text, {"start": True, "end": True})
    special = [vocabulary.index("s")] if "special" in marks else []

    def score(labels):
        # A special label has no text; the word in which it is counts as unknown.
        found = "".join("?" if c in special else vocabulary._pieces[c] for c in labels).split("\0")
        return ngram.score(ngram.read(text), [word for word in found if word], **has, unknown=unknown)

    y = np.random.default_rng(data.draw(st.integers(0, 1000))).dirichlet(np.full(5, 0.5), 4)
    model = read(text, vocabulary, unit="words", unknown=unknown)
    assert_every_sequence_is_found((y, 0, {"lm_weight": 0.5, "length_bonus": 0.0}), model, score)


def assert_search_is_that_of_the_reference(y, blank, beam, model, paid, total):
    """A narrow beam keeps the prefixes with the largest masses, including the scores `paid` for their labels."""

    def lm(prefix, label):
        before, after = paid(prefix), paid((*prefix, label))
        return math.exp(after - before) if after > -math.inf else 0.0

    masses = [
        (math.log(mass) - paid(labels) + total(labels), labels) for mass, labels in beam_search(y, blank, beam, lm)
    ]
    expected = sorted((-score, len(labels), labels) for score, labels in masses if score > -math.inf)
    beams = fsl.ctc_beam_search(y, blank=blank, input="probs", beam=beam, n_best=beam, rescore=0, language_model=model)
    found = [tuple(beams.labels[i, : beams.label_lengths[i]].tolist()) for i in range(beams.n_found)]
    assert found == [labels for _, _, labels in expected]
    np.testing.assert_allclose(beams.score[: beams.n_found], [-score for score, _, _ in expected], atol=1e-11)


@examples(0.5)
@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 20)), st.sampled_from((5, 30)), st.data())
def test_beams_of_any_width_with_ngrams_of_labels(seed, beam, classes, data):
    y = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), 10)
    token_of = {c: f"t{c}" for c in range(1, classes)}
    text = data.draw(arpa_texts(list(token_of.values())))
    model = read(text, {token: c for c, token in token_of.items()})
    parsed, has = ngram.read(text), ends_of(text, {"start": True, "end": True})

    @functools.cache
    def paid(labels, end=False):
        return ngram.score(parsed, [token_of[c] for c in labels], has["start"], end)

    assert_search_is_that_of_the_reference(y, 0, beam, model, paid, lambda labels: paid(labels, has["end"]))


@examples(0.5)
@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 20)), st.sampled_from((5, 25)), st.booleans(), st.data())
def test_beams_of_any_width_with_ngrams_of_words(seed, beam, classes, is_open, data):
    """The labels of an incomplete word have the score of the best word that begins with them, or of an unknown one."""
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(classes, 0.3), 10)
    spellings = {f"w{i}": tuple(rng.integers(2, classes, rng.integers(1, 4)).tolist()) for i in range(12)}
    spellings = {name: word for word, name in {word: name for name, word in spellings.items()}.items()}
    text = data.draw(arpa_texts(list(spellings)))
    unknown = None if is_open else -math.inf
    model = read(text, spellings, unit="words", separator=1, unknown=unknown)
    parsed, has = ngram.read(text), ends_of(text, {"start": True, "end": True})
    rest = ngram.score(parsed, ["?"], start=False, end=False, unknown=unknown)

    def words_of(labels):
        parts = [()]
        for label in labels:
            parts = [*parts, ()] if label == 1 else [*parts[:-1], (*parts[-1], label)]
        return parts

    @functools.cache
    def total(words, end):
        names = {word: name for name, word in spellings.items()}
        return ngram.score(parsed, [names.get(word, "?") for word in words if word], has["start"], end, unknown)

    def paid(labels):
        *words, last = words_of(labels)
        begun = [
            parsed[name,][0] * math.log(10)
            for name, word in spellings.items()
            if word[: len(last)] == last and (name,) in parsed
        ]
        return total(tuple(words), False) + (max([*begun, rest]) if last else 0.0)

    assert_search_is_that_of_the_reference(
        y, 0, beam, model, paid, lambda labels: total(tuple(words_of(labels)), has["end"])
    )
