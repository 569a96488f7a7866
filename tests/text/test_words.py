"""words_from_spans: groups of labels beside loops, times and confidences, tables, real speech, errors."""

import copy
import pickle
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data

LABELS = st.lists(st.integers(1, 4), max_size=12)


def spans_of(labels, seed=0):
    """Spans of these labels, with gaps and log-probabilities at random."""
    rng, spans, now = np.random.default_rng(seed), [], 0
    for label in labels:
        start = now + int(rng.integers(0, 3))
        now = start + int(rng.integers(1, 4))
        spans.append(fsl.TokenSpan(label, start, now, -float(rng.exponential()) * (now - start)))
    return spans


def assert_words(words, groups, spans):
    """Groups are the positions of the labels of each word."""
    assert [(word.span_start, word.span_end) for word in words] == [(group[0], group[-1] + 1) for group in groups]
    for word, group in zip(words, groups, strict=True):
        own = [spans[i] for i in group]
        confidences = [np.exp(span.log_prob / (span.end - span.start)) for span in own]
        assert (word.start, word.end) == (own[0].start, own[-1].end)
        assert word.mean_confidence == pytest.approx(sum(confidences) / len(own), rel=1e-12)
        assert word.least_confidence == pytest.approx(min(confidences), rel=1e-12)


# ---- where words end --------------------------------------------------------------------------


@given(LABELS, st.integers(0, 2**32 - 1))
def test_separator(labels, seed):
    spans = spans_of(labels, seed)
    found = groupby(range(len(labels)), lambda i: labels[i] == 4)
    groups = [list(group) for silent, group in found if not silent]
    plain = fsl.words_from_spans(spans, separator=4)
    assert_words(plain, groups, spans)
    assert {word.text for word in plain} <= {""}
    vocabulary = fsl.Vocabulary("-abc|", separator="|")
    words = fsl.words_from_spans(spans, vocabulary)
    assert_words(words, groups, spans)
    assert [word.text for word in words] == ["".join("-abc"[labels[i]] for i in group) for group in groups]
    assert " ".join(word.text for word in words) == vocabulary.decode(labels)


@given(st.lists(st.integers(1, 3), max_size=5), st.integers(0, 2**32 - 1))
def test_word_lengths(lengths, seed):
    labels = np.random.default_rng(seed).integers(1, 4, sum(lengths)).tolist()
    spans, ends = spans_of(labels, seed), np.cumsum(lengths, dtype=int)
    groups = [list(range(end - length, end)) for length, end in zip(lengths, ends, strict=True)]
    words = fsl.words_from_spans(spans, fsl.Vocabulary("-abc"), word_lengths=np.array(lengths, np.int32))
    assert_words(words, groups, spans)
    assert [word.text for word in words] == ["".join("-abc"[labels[i]] for i in group) for group in groups]


@pytest.mark.parametrize(
    ("mark", "tokens"),
    [
        ("▁", ["-", "▁a", "b", "▁", "c"]),
        ("Ġ", ["-", "Ġa", "b", "Ġ", "Ã"]),
        ("##", ["-", "a", "##b", "##c", "d"]),
        ("@@", ["-", "a", "b@@", "c@@", "d"]),
        ("</w>", ["-", "a</w>", "b", "c", "d</w>"]),
    ],
)
@given(labels=LABELS)
def test_marks(mark, tokens, labels):
    """Words are those of the decoded text, and every label with text is in one."""
    spans, vocabulary = spans_of(labels), fsl.Vocabulary(tokens, mark=mark)
    words = fsl.words_from_spans(spans, vocabulary)
    assert " ".join(word.text for word in words) == vocabulary.decode(labels)
    inside = [i for word in words for i in range(word.span_start, word.span_end)]
    assert len(set(inside)) == len(inside)
    assert {i for i, label in enumerate(labels) if tokens[label] != mark} <= set(inside)
    assert_words(words, [list(range(word.span_start, word.span_end)) for word in words], spans)


def test_special_tokens_are_in_no_word():
    vocabulary = fsl.Vocabulary(["-", "<s>", "▁a", "b", "</s>"], mark="▁", special=["<s>", "</s>"])
    words = fsl.words_from_spans(spans_of([1, 2, 3, 4, 2]), vocabulary)
    assert [(word.text, word.span_start, word.span_end) for word in words] == [("ab", 1, 3), ("a", 4, 5)]


def test_arguments_come_before_the_vocabulary():
    spans, vocabulary = spans_of([1, 2, 3]), fsl.Vocabulary(["-", "▁a", "▁b", "c"], mark="▁")
    assert [word.text for word in fsl.words_from_spans(spans, vocabulary, word_lengths=[2, 1])] == ["a b", "c"]
    assert [word.text for word in fsl.words_from_spans(spans, vocabulary, separator=2)] == ["a", "c"]


# ---- times, confidences, tables ---------------------------------------------------------------


def test_seconds():
    spans = spans_of([1, 4, 2, 3])
    for word in fsl.words_from_spans(spans, separator=4, frame_seconds=0.02):
        assert (word.start_seconds, word.end_seconds) == (word.start * 0.02, word.end * 0.02)
    for word in fsl.words_from_spans(spans, separator=4):
        assert np.isnan([word.start_seconds, word.end_seconds]).all()


def test_confidences_of_the_caller():
    words = fsl.words_from_spans(spans_of([1, 4, 2, 3]), separator=4, confidences=np.float32([0.5, 0, 0.25, 1]))
    assert [(word.mean_confidence, word.least_confidence) for word in words] == [(0.5, 0.5), (0.625, 0.25)]


def test_impossible_labels():
    with np.errstate(all="raise"):
        [word] = fsl.words_from_spans([fsl.TokenSpan(1, 0, 1, -np.inf), fsl.TokenSpan(1, 2, 3, -1e9)], word_lengths=[2])
    assert (word.mean_confidence, word.least_confidence) == (0, 0)


DTYPES = {"text": "U", "start": "i", "end": "i", "span_start": "i", "span_end": "i"}


@pytest.mark.parametrize("labels", [[1, 4, 2, 3], []])
def test_columns(labels):
    words = fsl.words_from_spans(spans_of(labels), fsl.Vocabulary("-abc|", separator="|"), frame_seconds=0.5)
    columns = words.to_dict()
    assert list(columns) == list(fsl.WordSpan._fields)
    for name, column in columns.items():
        assert column.dtype.kind == DTYPES.get(name, "f")
        assert column.tolist() == [getattr(word, name) for word in words]
    assert all(type(x) in (int, float, str) for word in words for x in word)


@pytest.mark.peers
@pytest.mark.parametrize("labels", [[1, 4, 2, 3], []])
def test_tables(labels):
    pandas = pytest.importorskip("pandas", reason="the extra `peers` installs it")
    polars = pytest.importorskip("polars", reason="the extra `peers` installs it")
    words = fsl.words_from_spans(spans_of(labels), fsl.Vocabulary("-abc|", separator="|"), frame_seconds=0.5)
    for table in (pandas.DataFrame(words.to_dict()), polars.DataFrame(words.to_dict())):
        assert list(table.columns) == list(fsl.WordSpan._fields)
        assert table["text"].to_list() == [word.text for word in words]
        assert table["end_seconds"].to_list() == [word.end_seconds for word in words]


def test_repr_and_copies():
    words = fsl.words_from_spans(spans_of([1, 4, 2, 3]), separator=4)
    assert repr(words) == f"Words(2 words, frames {words[0].start} to {words[1].end})"
    assert repr(fsl.words_from_spans([], separator=4)) == "Words(0 words)"
    assert repr(fsl.Words(words[:1])).startswith("Words(1 word, ")
    for same in (pickle.loads(pickle.dumps(words)), copy.deepcopy(words)):
        assert type(same) is fsl.Words
        assert repr(same.to_dict()) == repr(words.to_dict())


# ---- real scores, other sources of spans ------------------------------------------------------


def test_words_of_real_speech():
    with np.load(real_data.DATA / "speech_austen.npz") as file:
        log_probs, blank = file["emissions"] * file["unit"], int(file["blank"])
        labels, text, seconds = file["labels"], str(file["text"]), float(file["frame_seconds"])
        vocabulary = fsl.Vocabulary(file["names"], blank=blank, separator="<wb>")
    spans = fsl.ctc_align(log_probs, labels, blank=blank, input="log_probs").spans()
    words = fsl.words_from_spans(spans, vocabulary, frame_seconds=seconds)
    assert len(words) == len(text.split())
    assert " ".join(word.text for word in words) == vocabulary.decode(labels)
    assert all(before.end_seconds <= after.start_seconds for before, after in pairwise(words))
    assert words[-1].end_seconds <= len(log_probs) * seconds
    greedy = fsl.ctc_greedy_decode(log_probs, blank=blank, input="log_probs")
    found = fsl.words_from_spans(greedy.spans(), vocabulary, confidences=greedy.confidences)
    assert [word.text for word in found][:3] == ["hi", "wɑz", "nɑt"]
    assert repr(found.to_dict()) == repr(fsl.words_from_spans(greedy.spans(), vocabulary).to_dict())


def test_words_of_transducers_and_other_paths():
    probs = np.full((4, 3, 4), 0.25)
    spans = fsl.rnnt_align(probs, [1, 2], input="probs").spans()
    assert len(fsl.words_from_spans(spans, word_lengths=[1, 1])) == 2
    merged = fsl.merge_tokens([0, 1, 1, 3, 2], np.log([0.5, 0.5, 0.5, 0.9, 0.2]))
    assert [(word.start, word.end) for word in fsl.words_from_spans(merged, separator=3)] == [(1, 3), (4, 5)]


# ---- errors -----------------------------------------------------------------------------------

WORDLESS = fsl.Vocabulary("-abc")


@pytest.mark.parametrize(
    ("error", "said", "given"),
    [
        (TypeError, r"spans\[0\] is a list; allowed: TokenSpan, as in .*spans\(\)\[b\]", {"spans": [spans_of([1])]}),
        (TypeError, r"spans is a NoneType; allowed: a list of TokenSpan", {"spans": None}),
        (TypeError, r"spans is a TokenSpan; allowed", {"spans": spans_of([1])[0]}),
        (
            ValueError,
            r"spans\[1\]\.start is 2; allowed: 4, of the span before, or more",
            {"spans": spans_of([1, 2])[::-1]},
        ),
        (ValueError, r"spans\[0\]\.log_prob is nan", {"spans": [fsl.TokenSpan(1, 0, 1, np.nan)]}),
        (ValueError, r"separator and word_lengths are None; allowed: one of them, or a vocabulary", {}),
        (ValueError, r"separator and word_lengths are None; .* separator or a mark", {"vocabulary": WORDLESS}),
        (ValueError, r"separator and word_lengths are both given", {"separator": 1, "word_lengths": [2]}),
        (TypeError, r"vocabulary is a str; allowed: Vocabulary, or None", {"vocabulary": "-ab"}),
        (ValueError, r"spans\[1\]\.label is 2; allowed: 0 to 1, .* except 0", {"vocabulary": fsl.Vocabulary("-a")}),
        (ValueError, r"spans\[0\]\.label is 1; .* except 1", {"vocabulary": fsl.Vocabulary("a-b", blank=1)}),
        (TypeError, r"separator must be an integer, got str", {"separator": "|"}),
        (ValueError, r"word_lengths\[1\] is 0; allowed: 1 to 2, .* without labels", {"word_lengths": [2, 0]}),
        (ValueError, r"word_lengths\[0\] is 3; allowed: 1 to 2", {"word_lengths": [3]}),
        (ValueError, r"word_lengths\[0\] is 18446744073709551615", {"word_lengths": np.array([2**64 - 1], np.uint64)}),
        (ValueError, r"word_lengths add up to 1; allowed: 2, the number of spans", {"word_lengths": [1]}),
        (ValueError, r"word_lengths has shape \(\); allowed: \[W\]", {"word_lengths": 2}),
        (TypeError, r"word_lengths has dtype float64", {"word_lengths": [2.0]}),
        (ValueError, r"confidences has shape \(1,\); allowed: \(2,\)", {"separator": 3, "confidences": [0.5]}),
        (ValueError, r"confidences\[1\] is nan; allowed", {"separator": 3, "confidences": [0.5, np.nan]}),
        (ValueError, r"confidences\[0\] is -0\.5; allowed", {"separator": 3, "confidences": [-0.5, 1]}),
        (ValueError, r"frame_seconds is 0; allowed: finite, above 0", {"separator": 3, "frame_seconds": 0}),
        (TypeError, r"frame_seconds must be a number, got str", {"separator": 3, "frame_seconds": "a"}),
    ],
)
def test_errors(error, said, given):
    with pytest.raises(error, match=said):
        fsl.words_from_spans(**{"spans": spans_of([1, 2])} | given)
