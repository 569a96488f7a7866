"""read_arpa, and n-gram models in ctc_beam_search."""

import gzip
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastseqloss as fsl

DATA = Path(__file__).parents[1] / "data"
LETTERS = fsl.Vocabulary("-ab?")
SPELT = fsl.Vocabulary("-ab|", separator="|")


def language_score(model, labels, classes=4):
    """Score of labels by the model: those that the best path spells, among sequences of them alone."""
    path = [c for label in labels for c in (label, 0)]
    log_probs = np.where(np.arange(classes) == np.array(path).reshape(-1, 1), 0.0, -np.inf)
    beams = fsl.ctc_beam_search(log_probs, input="log_probs", language_model=model)
    assert not beams.n_found or beams.labels[0, : beams.label_lengths[0]].tolist() == list(labels)
    return beams.total[0]


# ---- values computed by hand ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "with_ends", "alone"),
    [
        # log10 p(</s> | <s>) = backoff(<s>) + p(</s>)
        ([], -0.25 - 0.75, 0.0),
        # <s> a, then </s> by the back-offs of <s> a and a
        ([1], -0.25 + (-0.375 - 0.5 - 0.75), -0.5),
        # <s> a, <s> a b, then </s> after b by that of a b, which has a back-off
        ([1, 2], -0.25 - 0.1875 + -0.0625 - 0.4375, -0.5 - 0.625),
        # b by the back-off of <s>; b a
        ([2, 1], -0.25 - 1.0 - 0.3125 + (-0.5 - 0.75), -1.0 - 0.3125),
        # a a: the second one by the back-offs of <s> a and a; then a b
        ([1, 1, 2], -0.25 + (-0.375 - 0.5 - 0.5) - 0.625 + (-0.0625 - 0.4375), -0.5 + (-0.5 - 0.5) - 0.625),
        # Class 3 has no token in the file: <unk>, after which nothing is known.
        ([1, 3, 1], -0.25 + (-0.375 - 0.5 - 1.5) - 0.5 + (-0.5 - 0.75), -0.5 + (-0.5 - 1.5) - 0.5),
    ],
)
def test_labels_of_a_file(labels, with_ends, alone):
    model = fsl.read_arpa(DATA / "letters.arpa", LETTERS)
    assert language_score(model, labels) == pytest.approx(with_ends * math.log(10), abs=1e-12)
    model = fsl.read_arpa(DATA / "letters.arpa", {"a": 1, "b": 2}, start=False, end=False)
    assert language_score(model, labels) == pytest.approx(alone * math.log(10), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", -0.25 - 0.5),
        ("ab", -0.375 + (-0.125 - 0.5)),
        ("ab b", -0.375 - 0.625 - 0.3125),
        ("b ab", (-0.25 - 1.0) + (-0.5 - 0.75) + (-0.125 - 0.5)),
        ("ba ba", (-0.25 - 1.25) - 1.25 - 0.5),
        ("bab b", (-0.25 - 2.0) - 1.0 - 0.3125),  # <unk> has no back-off
        ("ab a", -0.375 + (-0.125 - 2.0) - 0.5),  # the beginning of a word only
    ],
)
def test_words_of_a_file(text, expected):
    model = fsl.read_arpa(DATA / "words.arpa", SPELT, unit="words")
    labels = SPELT.encode(text).tolist()
    assert language_score(model, labels) == pytest.approx(expected * math.log(10), abs=1e-12)
    # Separators at the start, twice, and at the end are no words.
    more = [3, *(3 if label == 3 else label for label in labels), 3]
    assert language_score(model, more) == pytest.approx(expected * math.log(10), abs=1e-12)


def test_classes_with_the_same_token_have_the_same_scores():
    twice = fsl.Vocabulary(["-", "a", "b", "c", "b", "a"])
    models = [fsl.read_arpa(DATA / "letters.arpa", vocabulary) for vocabulary in (LETTERS, twice)]
    for labels in ([1, 2, 1], [4, 5, 3, 4], [5], [1, 4, 2, 5]):
        once = [{4: 2, 5: 1}.get(label, label) for label in labels]
        assert language_score(models[1], labels, 6) == language_score(models[0], once)


def test_options():
    path = DATA / "letters.arpa"
    for forbidden in (-math.inf, np.float32(-math.inf), np.array(-math.inf)):
        assert language_score(fsl.read_arpa(path, LETTERS, unknown=forbidden), [3]) == -math.inf
    assert repr(fsl.read_arpa(path, LETTERS)) == "NGram(3-grams of labels: 5, 4, 1)"
    assert fsl.read_arpa(path, LETTERS).counts == (5, 4, 1)
    assert language_score(fsl.read_arpa(path, LETTERS, unknown=-7.0, end=False), [3]) == pytest.approx(
        -0.25 * math.log(10) - 7
    )
    assert language_score(fsl.read_arpa(path, LETTERS, unknown=-np.inf), [3]) == -np.inf
    words = fsl.read_arpa(DATA / "words.arpa", {"ab": [1, 2], "b": (2,)}, unit="words", separator=3)
    assert words.unit == "words"
    assert language_score(words, [1, 2, 3, 2]) == pytest.approx((-0.375 - 0.625 - 0.3125) * math.log(10))
    assert language_score(words, [2, 1]) == pytest.approx((-0.25 - 2.0 - 0.5) * math.log(10))
    closed = fsl.read_arpa(DATA / "words.arpa", SPELT, unit="words", unknown=-np.inf)
    assert language_score(closed, [2, 1, 3]) == pytest.approx((-0.25 - 1.25 - 0.5) * math.log(10))
    for labels in ([1], [1, 2, 3, 1], [2, 1, 1], [1, 3, 2]):
        assert language_score(closed, labels) == -np.inf


def test_tokens_of_several_words():
    vocabulary = fsl.Vocabulary(["", "▁a", "b▁a"], mark="▁")
    with pytest.raises(
        ValueError, match=r'vocabulary has the token .b▁a.; allowed with unit="words": tokens of one word'
    ):
        fsl.read_arpa(DATA / "words.arpa", vocabulary, unit="words")


def test_words_with_the_same_labels():
    """The one with the greater score counts."""
    words = fsl.read_arpa(DATA / "words.arpa", {"ab": [1], "b": [1], "ba": [2]}, unit="words", separator=3)
    assert language_score(words, [1]) == pytest.approx((-0.375 - 0.125 - 0.5) * math.log(10))


def test_compressed_files_and_copies(tmp_path):
    text = (DATA / "letters.arpa").read_bytes()
    (tmp_path / "letters").write_bytes(gzip.compress(text))
    model = fsl.read_arpa(str(tmp_path / "letters"), LETTERS)
    expected = language_score(model, [1, 2])
    assert expected == language_score(fsl.read_arpa(DATA / "letters.arpa", LETTERS), [1, 2])
    assert language_score(pickle.loads(pickle.dumps(model)), [1, 2]) == expected
    assert language_score(model, [1, 2], classes=9) == expected  # more classes, which have no token
    assert language_score(model, [8], classes=9) == language_score(model, [3])


# ---- malformed files ------------------------------------------------------------------------

LINES = (DATA / "letters.arpa").read_text().splitlines()


def changed(number, line):
    """The file with another line (counted from 1), or without it."""
    lines = [*LINES]
    lines[number - 1 : number] = [] if line is None else [line]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", r"broken.arpa is empty; allowed: an ARPA file, which has a line \\data\\"),
        (b"some\ntext\n", r"broken.arpa has 2 lines, none of them \\data\\; allowed: an ARPA file"),
        ("\\data\\".encode("utf-16"), "line 1 is UTF-16; allowed: UTF-8"),
        (gzip.compress(b"some text", mtime=0)[:10], "broken.arpa is damaged: Compressed file ended"),
        (
            b"mmap lm http://kheafield.com/code format version 5\n",
            "line 1 is a binary model of KenLM; allowed: the ARPA",
        ),
        (b"\\data\\\n\\1-grams:\n", r"line 2 is '.*1-grams:'; allowed: a line ngram 1=N"),
        (changed(2, "ngram one=5"), r"line 2 is 'ngram one=5'; allowed: ngram 1=N"),
        (changed(3, "ngram 3=4"), "line 3 is 'ngram 3=4'; allowed: ngram 2=N"),
        (changed(2, "ngram 1=6"), r"line 13 ends the 1-grams after 5; allowed: 6, as ngram 1=6 says"),
        (changed(6, "\\2-grams:"), r"line 6 is '.*2-grams:'; allowed: \\1-grams:"),
        (changed(7, "-1.5"), "line 7 has 1 fields; allowed: a score, 1 tokens, and a back-off or none"),
        (changed(7, "-1.5 <unk> -0.1 2"), "line 7 has 4 fields"),
        (changed(7, "x <unk>"), "line 7 has the score 'x'; allowed: a number"),
        (changed(7, "nan <unk>"), "line 7 has the score 'nan'; allowed: a number"),
        (changed(7, "1_0 <unk>"), "line 7 has the score '1_0'; allowed: a number"),
        (changed(7, "1e-3 <unk>"), "line 7 has the score '1e-3'; allowed: 0 or less, the logarithm to base 10"),
        (changed(10, "-0.5 a inf"), "line 10 has the back-off 'inf'; allowed: a number"),
        (changed(10, "-0.5 a -inf"), "line 10 has the back-off -inf; allowed: finite"),
        (changed(11, "-1.0 a"), "line 11 repeats 'a'; allowed: an n-gram once"),
        (changed(14, "-0.25 <s> c"), "line 14 has the token 'c'; allowed: those of the 1-grams"),
        (changed(20, "-0.25 <s> a b -0.5"), "line 20 has 5 fields; allowed: a score, 3 tokens$"),
        (changed(22, None), r"line 20 is the last one; allowed: \\end\\ after it"),
        (changed(22, "\\4-grams:"), r"line 22 is '.*4-grams:'; allowed: \\end\\"),
        (changed(10, "-0.5 \xff").replace("\xff".encode(), b"\xff"), r"line 10 has the token '.*xff'; allowed: UTF-8"),
        (gzip.compress(changed(1, "\\data\\"), mtime=0)[:-20], "is damaged: Compressed file ended"),
    ],
)
def test_malformed_files(text, said, tmp_path):
    path = tmp_path / "broken.arpa"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=f"^{path.parent}.*{said}"):
        fsl.read_arpa(path, LETTERS)


def test_tolerated_files(tmp_path):
    """Windows lines, a byte order mark, other spaces, comments before the data, and 1-grams of probability 0."""
    text = (DATA / "letters.arpa").read_text()
    odd = "made by hand\n\n" + text.replace("\t", "  ").replace("ngram 1=5", "ngram  1 = 5").replace("\n", "\r\n")
    (tmp_path / "odd").write_bytes(odd.encode())
    model = fsl.read_arpa(tmp_path / "odd", LETTERS)
    assert language_score(model, [1, 2]) == language_score(fsl.read_arpa(DATA / "letters.arpa", LETTERS), [1, 2])
    (tmp_path / "marked").write_text(text, "utf-8-sig")
    assert language_score(fsl.read_arpa(tmp_path / "marked", LETTERS), [1, 2]) == language_score(model, [1, 2])
    (tmp_path / "zero").write_bytes(changed(7, "-inf <unk>"))
    model = fsl.read_arpa(tmp_path / "zero", LETTERS)
    assert language_score(model, [3]) == -np.inf
    assert language_score(model, [1]) > -np.inf


WORDS = {"unit": "words", "separator": 3}


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (TypeError, "path is 3; allowed: the path of an ARPA file", {"path": 3}),
        (FileNotFoundError, "none.arpa", {"path": DATA / "none.arpa"}),
        (TypeError, "vocabulary is 'ab'; allowed: a Vocabulary, or a dict of tokens", {"vocabulary": "ab"}),
        (TypeError, "vocabulary has the key 3; allowed: strings", {"vocabulary": {3: 1}}),
        (TypeError, r"vocabulary\['a'\] must be an integer", {"vocabulary": {"a": 1.5}}),
        (ValueError, r"vocabulary\['a'\] is -1; allowed: 0 or more", {"vocabulary": {"a": -1}}),
        (ValueError, r"vocabulary\['b'\] is 1, the class of 'a'; allowed: another", {"vocabulary": {"a": 1, "b": 1}}),
        (ValueError, "vocabulary has none of the tokens of .*, 'a', 'b'; allowed: tokens of", {"vocabulary": {"x": 1}}),
        (ValueError, "unit is 'letters'; allowed: 'labels', 'words'", {"unit": "letters"}),
        (ValueError, "separator is given; allowed: None", {"separator": 3}),
        (TypeError, "start must be a bool", {"start": 1}),
        (TypeError, "end must be a bool", {"end": None}),
        (ValueError, "unknown is 1; allowed: from -1e\\+06 to 0, and -inf", {"unknown": 1}),
        (ValueError, "unknown is nan", {"unknown": math.nan}),
        (ValueError, "separator is None; allowed: a class, or None with a vocabulary that has", {"unit": "words"}),
        (ValueError, "separator is -1; allowed: a class", {"unit": "words", "separator": -1}),
        (TypeError, "vocabulary is 3; allowed: a Vocabulary, or a dict of words", {"vocabulary": 3, **WORDS}),
        (ValueError, "allowed: words that the vocabulary spells", {"vocabulary": {"x": [1]}, **WORDS}),
        (ValueError, r"vocabulary\['a'\] has shape \(\); allowed", {"vocabulary": {"a": 1}, **WORDS}),
        (ValueError, r"vocabulary\['a'\] has shape \(0,\); allowed", {"vocabulary": {"a": []}, **WORDS}),
        (ValueError, r"vocabulary\['a'\]\[1\] is 3, the separator; allowed", {"vocabulary": {"a": [1, 3]}, **WORDS}),
        (ValueError, r"vocabulary\['a'\]\[0\] is -1; allowed", {"vocabulary": {"a": [-1]}, **WORDS}),
    ],
)
def test_errors(kind, said, wrong):
    with pytest.raises(kind, match=said):
        fsl.read_arpa(**{"path": DATA / "letters.arpa", "vocabulary": LETTERS} | wrong)


def test_errors_of_searches():
    labels = fsl.read_arpa(DATA / "letters.arpa", LETTERS)
    with pytest.raises(ValueError, match="language_model has the class 2; allowed: 0 to 1, as logits has 2 classes"):
        fsl.ctc_beam_search(np.zeros((3, 2)), language_model=labels)
    with pytest.raises(ValueError, match="language_model has the class 1, which is the blank; allowed: labels"):
        fsl.ctc_beam_search(np.zeros((3, 4)), language_model=labels, blank=1)
    with pytest.raises(ValueError, match="lm_weight is 1e\\+07; allowed with an NGram: 0 to 1e\\+06"):
        fsl.ctc_beam_search(np.zeros((3, 4)), language_model=labels, lm_weight=1e7)
    words = fsl.read_arpa(DATA / "words.arpa", SPELT, unit="words")
    with pytest.raises(ValueError, match="language_model has the class 3, which is the blank; allowed: labels"):
        fsl.ctc_beam_search(np.zeros((3, 4)), language_model=words, blank=3)
