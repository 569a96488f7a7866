"""Vocabulary: texts and labels beside every way to spell them, marks of words, bytes, errors."""

import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from fastseqloss.text.tokens import BYTES

TOKENS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8, unique=True)


def spellings(text, tokens):
    """Every list of tokens, by number, that joined is the text."""
    if not text:
        return [[]]
    return [
        [number, *rest]
        for number, token in enumerate(tokens, 1)
        if text.startswith(token)
        for rest in spellings(text[len(token) :], tokens)
    ]


def farthest(text, tokens):
    """The farthest place that tokens reach."""
    return max([0, *(len(token) + farthest(text[len(token) :], tokens) for token in tokens if text.startswith(token))])


# ---- texts without words ----------------------------------------------------------------------


@given(TOKENS, st.text("abcd", max_size=8))
def test_texts_that_one_list_of_tokens_spells(tokens, text):
    vocabulary = fsl.Vocabulary(["<blank>", *tokens])
    found = spellings(text, tokens)
    if len(found) == 1:
        labels = vocabulary.encode(text)
        assert (labels.dtype, labels.tolist()) == (np.int64, found[0])
        assert vocabulary.decode(labels) == text
        return
    with pytest.raises(ValueError, match=r"^text\[\d+\] is '[a-d]' \(U\+00") as raised:
        vocabulary.encode(text)
    place = int(str(raised.value).partition("[")[2].partition("]")[0])
    if found:
        several = {tuple(labels) for labels in found}
        common = next(i for i in range(len(text)) if len({labels[: i + 1] for labels in several}) > 1)
        assert place == len("".join(tokens[number - 1] for number in found[0][:common]))
        assert "may follow" in str(raised.value)
    else:
        assert place == farthest(text, tokens)
        assert "allowed: a token of the vocabulary" in str(raised.value)


@given(TOKENS, st.text("abcd", max_size=8))
def test_longest_tokens_first(tokens, text):
    vocabulary, expected, rest = fsl.Vocabulary(["", *tokens]), [], text
    while fitting := [token for token in tokens if rest.startswith(token)]:
        token = max(fitting, key=len)
        expected.append(tokens.index(token) + 1)
        rest = rest[len(token) :]
    if rest:
        with pytest.raises(ValueError, match=rf"text\[{len(text) - len(rest)}\] is '{rest[0]}'"):
            vocabulary.encode(text, ambiguous="longest")
    else:
        assert vocabulary.encode(text, ambiguous="longest").tolist() == expected


def test_long_texts():
    """In time that grows with the length, though the number of ways to spell them grows exponentially."""
    vocabulary = fsl.Vocabulary(["", "a", "aa", "aaa", "b"])
    assert vocabulary.encode("a" * 50_000, ambiguous="longest").tolist() == [3] * 16_666 + [2]
    with pytest.raises(ValueError, match=r"text\[0\] is 'a'"):
        vocabulary.encode("a" * 5000)
    with pytest.raises(ValueError, match=r"text\[5000\] is 'c'"):
        vocabulary.encode("a" * 5000 + "c")


# ---- words ------------------------------------------------------------------------------------


def marked(mark, pieces):
    """Tokens of these letters at every place in a word, in the style of a mark."""
    if mark in ("▁", "Ġ"):
        return [*pieces, *(mark + piece for piece in pieces)]
    if mark == "##":
        return [*pieces, *("##" + piece for piece in pieces)]
    return [*pieces, *(piece + mark for piece in pieces)]


@pytest.mark.parametrize("mark", ["▁", "Ġ", "##", "@@", "</w>"])
@given(st.lists(st.text("abc", min_size=2, max_size=3), max_size=4, unique=True), st.text("abc \n\t", max_size=20))
def test_marks(mark, pieces, text):
    tokens = ["<pad>", *marked(mark, ["a", "b", "c", *pieces])]
    vocabulary = fsl.Vocabulary(tokens, mark=mark)
    labels = vocabulary.encode(text, ambiguous="longest")
    assert vocabulary.decode(labels) == " ".join(text.split())
    if not pieces:  # letters alone: there is one way to spell a text
        assert labels.tolist() == vocabulary.encode(text).tolist()


@pytest.mark.parametrize(
    ("mark", "tokens", "text"),
    [
        ("▁", ["▁he", "ll", "o", "▁w"], "hello w"),
        ("Ġ", ["he", "ll", "o", "Ġw"], "hello w"),
        ("##", ["he", "##ll", "##o", "w"], "hello w"),
        ("@@", ["he@@", "ll@@", "o", "w"], "hello w"),
        ("</w>", ["he", "ll", "o</w>", "w</w>"], "hello w"),
        ("▁", ["▁", "he", "▁w▁x", "▁"], "he w x"),
    ],
)
def test_text_of_each_style(mark, tokens, text):
    vocabulary = fsl.Vocabulary([*tokens, "<blank>"], blank=-1, mark=mark)
    assert vocabulary.decode(np.arange(len(tokens))) == text
    if len(set(tokens)) == len(tokens):
        assert vocabulary.encode(text).tolist() == list(range(len(tokens)))


@given(st.text("ab \n", max_size=12))
def test_separator(text):
    vocabulary = fsl.Vocabulary({"<pad>": 0, "|": 3, "a": 1, "b": 2}, blank="<pad>", separator="|")
    labels = vocabulary.encode(text)
    assert labels.tolist() == [" ab".index(c) if c != " " else 3 for c in " ".join(text.split())]
    assert vocabulary.decode(labels) == " ".join(text.split())


def test_separator_without_a_token():
    for tokens in (["-", "a", ""], {"-": 0, "a": 1, "b": 3}):
        vocabulary = fsl.Vocabulary(tokens, separator=2)
        assert vocabulary.encode("a a").tolist() == [1, 2, 1]
        assert vocabulary.decode([1, 2, 1]) == "a a"


def test_separators_at_ends_and_in_a_row_are_one_space():
    vocabulary = fsl.Vocabulary("-ab|", separator=-1)
    assert vocabulary.decode([3, 3, 1, 3, 3, 2, 3]) == "a b"
    assert vocabulary.decode([3]) == ""


def test_a_space_is_a_character_without_words():
    vocabulary = fsl.Vocabulary("-a ")
    assert vocabulary.encode(" a  ").tolist() == [2, 1, 2, 2]
    assert vocabulary.decode([2, 1, 2, 2]) == " a  "


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12))
def test_bytes(text):
    """Every text is bytes of UTF-8, and these have tokens."""
    vocabulary = fsl.Vocabulary(["<pad>", *BYTES.values()], mark="Ġ")
    labels = vocabulary.encode(text)
    assert vocabulary.decode(labels) == " ".join(text.split())
    assert len(labels) == len(" ".join(text.split()).encode()) + (text[:1].isspace() and bool(text.strip()))


def test_characters_of_bytes():
    """Those of GPT-2."""
    assert sorted(BYTES) == list(range(256))
    assert len(set(BYTES.values())) == 256
    assert [BYTES[byte] for byte in b" \n!\x00"] == ["Ġ", "Ċ", "!", "Ā"]
    assert [BYTES[byte] for byte in "é".encode()] == ["Ã", "©"]


def test_incomplete_bytes():
    vocabulary = fsl.Vocabulary(["<pad>", "a", "Ã", "日"], mark="Ġ")
    assert vocabulary.decode([1, 2, 3]) == "a\ufffd日"


PIECE = st.one_of(st.sampled_from(["▁", "Ġ", "##", "@@", "</w>", "a", "b", "ab"]), st.text("▁Ġ#@</w>ab é"))


def tried(function, *arguments, **options):
    """The result, or the message of ValueError."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        return str(error)


@given(
    st.lists(PIECE, max_size=9),
    st.sampled_from([None, "|", "▁", "Ġ", "##", "@@", "</w>"]),
    st.text("▁Ġ#@</w>ab é|\0"),
    st.data(),
)
def test_any_tokens(tokens, mark, text, data):
    """A text is spelt, or an error names a place in it; the words of labels are those of their text."""
    words = {"separator": "|"} if mark == "|" else {"mark": mark}
    vocabulary = fsl.Vocabulary(["<pad>", *tokens, "|"], **words)
    for ambiguous in ("raise", "longest"):
        found = tried(vocabulary.encode, text, ambiguous=ambiguous)
        if isinstance(found, str):
            place = int(found.partition("[")[2].partition("]")[0])
            assert f"text[{place}] is {text[place]!r}" in found
        else:
            assert vocabulary.decode(found) == (text if mark is None else " ".join(text.split()))
    labels = data.draw(st.lists(st.integers(1, len(vocabulary) - 1), max_size=9))
    spans = [fsl.TokenSpan(label, t, t + 1, -0.5) for t, label in enumerate(labels)]
    if mark is not None:
        assert " ".join(word.text for word in fsl.words_from_spans(spans, vocabulary)) == vocabulary.decode(labels)


# ---- special tokens, forms of labels ----------------------------------------------------------


def test_special_tokens_are_not_text():
    vocabulary = fsl.Vocabulary(["<pad>", "<s>", "<", "s", ">", "</s>"], special=["<s>", -1])
    assert vocabulary.encode("<s>").tolist() == [2, 3, 4]
    assert vocabulary.decode([1, 3, 5]) == "s"


def test_tokens_by_class():
    vocabulary = fsl.Vocabulary({"b": 3, "a": 1, "<pad>": 0})
    assert vocabulary.tokens == ("<pad>", "a", "", "b")
    assert vocabulary.decode([1, 2, 3]) == "ab"
    assert fsl.Vocabulary(np.array(["-", "a"])).tokens == ("-", "a")
    assert [vocabulary.index(token) for token in ("a", "b")] == [1, 3]


def test_forms_of_labels():
    vocabulary = fsl.Vocabulary("-abc")
    texts = ["cab", "", "b"]
    padded, lengths = np.array([[3, 1, 2], [-1, -1, -1], [2, 0, 0]]), [3, 0, 1]
    assert vocabulary.decode(padded, lengths) == texts
    assert vocabulary.decode([[3, 1, 2], [], [2]]) == texts
    assert vocabulary.decode([3, 1, 2, 2], lengths) == texts
    assert vocabulary.decode(padded[0]) == "cab"
    assert vocabulary.decode(padded[2], 1) == "b"
    assert vocabulary.decode(padded[2], np.int32(1)) == "b"
    assert vocabulary.decode([]) == ""
    assert vocabulary.decode(np.zeros((0, 3), int)) == []
    decoded = fsl.ctc_greedy_decode(np.eye(4)[[[0, 3, 3], [1, 0, 1]]])
    assert vocabulary.decode(decoded.labels, decoded.label_lengths) == ["c", "aa"]


def test_texts_of_a_batch_are_labels():
    vocabulary = fsl.Vocabulary("-abc")
    labels = vocabulary.encode(["ab", "", "c"])
    assert [row.tolist() for row in labels] == [[1, 2], [], [3]]
    assert fsl.ctc_loss(np.zeros((3, 4, 4)), labels) > 0
    assert [row.tolist() for row in vocabulary.encode(np.array(["ab", "c"]))] == [[1, 2], [3]]


def test_repr_is_short_and_copies_work():
    vocabulary = fsl.Vocabulary("-ab|", separator="|")
    assert repr(vocabulary) == "Vocabulary(4 classes, blank=0, separator=3)"
    assert repr(fsl.Vocabulary(["-", "▁a"], mark="▁")) == "Vocabulary(2 classes, blank=0, mark='▁')"
    assert pickle.loads(pickle.dumps(vocabulary)).encode("a b").tolist() == [1, 3, 2]
    assert len(vocabulary) == 4


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said", "arguments"),
    [
        (TypeError, r"tokens is a int; allowed: a sequence of strings, or a dict", {"tokens": 3}),
        (TypeError, r"tokens is a bytes; allowed", {"tokens": b"-a"}),
        (TypeError, r"tokens is a set; allowed", {"tokens": {"a", "b"}}),
        (TypeError, r"tokens\[1\] is None; allowed: a string", {"tokens": ["-", None]}),
        (TypeError, r"tokens\[0\] is 1\.5; allowed: a string", {"tokens": np.array([1.5])}),
        (TypeError, r"tokens has the key 0; allowed: strings, with their classes as values", {"tokens": {0: "a"}}),
        (TypeError, r"tokens\['a'\] must be an integer, got str", {"tokens": {"a": "0"}}),
        (ValueError, r"tokens\['a'\] is -1; allowed: 0 to", {"tokens": {"a": -1}}),
        (ValueError, r"tokens\['a'\] is 1152921504606846976; allowed: 0 to", {"tokens": {"a": 2**60}}),
        (ValueError, r"tokens\['b'\] is 0, the class of 'a'; allowed: another class", {"tokens": {"a": 0, "b": 0}}),
        (ValueError, r"tokens has length 0", {"tokens": []}),
        (ValueError, r"tokens has length 0", {"tokens": {}}),
        (ValueError, r"blank is 3; allowed: -3 to 2", {"blank": 3}),
        (ValueError, r"blank is 'x', not a token", {"blank": "x"}),
        (ValueError, r"blank is 'a', the token of classes 1 and 2", {"tokens": "-aa", "blank": "a"}),
        (TypeError, r"blank must be an integer, got float", {"blank": 0.5}),
        (ValueError, r"separator is '-', the blank; allowed: another class", {"separator": "-"}),
        (ValueError, r"separator is 9; allowed", {"separator": 9}),
        (ValueError, r"mark is '_'; allowed: '▁', 'Ġ', '##', '@@', '</w>'", {"mark": "_"}),
        (ValueError, r"separator and mark are both given; allowed: one of them", {"separator": 1, "mark": "▁"}),
        (TypeError, r"special is 'ab'; allowed: a sequence", {"special": "ab"}),
        (ValueError, r"special\[1\] is 'x', not a token", {"special": [1, "x"]}),
        (ValueError, r"special has 1, the separator; allowed: other classes", {"special": [1], "separator": 1}),
        (ValueError, r"tokens\[1\] is 'a\\x00'; allowed with", {"tokens": ["-", "a\0"], "mark": "▁"}),
    ],
)
def test_errors(error, said, arguments):
    with pytest.raises(error, match=said):
        fsl.Vocabulary(**{"tokens": "-ab"} | arguments)


@pytest.mark.parametrize(
    ("options", "text", "said"),
    [
        ({}, "aXb", r"^text\[1\] is 'X' \(U\+0058\); allowed: a token of the vocabulary$"),
        ({}, "-", r"^text\[0\] is '-' \(U\+002D\); allowed: a token of the vocabulary$"),
        ({}, "abA", r"^text\[2\] is 'A' \(U\+0041\); allowed: .*; all characters of text\.lower\(\) are known$"),
        ({"tokens": "-AB"}, "Ab", r"^text\[1\] is 'b' .* all characters of text\.upper\(\) are known$"),
        ({"tokens": "-é"}, "e\u0301", r'^text\[0\] is \'e\' .* of unicodedata\.normalize\("NFC", text\) are known$'),
        ({"tokens": "-e\u0301"}, "é", r'^text\[0\] is \'é\' .* of unicodedata\.normalize\("NFD", text\) are known$'),
        ({"tokens": "-ab|", "separator": "|"}, "ab  a|b", r"^text\[5\] is '\|'"),
        ({"tokens": ["", "▁a", "b"], "mark": "▁"}, "a\n ca", r"^text\[3\] is 'c'"),
        ({"tokens": ["", "▁a", "b"], "mark": "▁"}, "ab b", r"^text\[3\] is 'b' .*at that position$"),
        ({"tokens": ["", "a</w>", "b"], "mark": "</w>"}, "a ab", r"^text\[2\] is 'a' .*at that position$"),
        ({"tokens": ["", "a</w>", "b"], "mark": "</w>"}, "a bb", r"^text\[3\] is 'b' .*at that position$"),
        ({"tokens": ["", "Ã", "©", "a"], "mark": "Ġ"}, "aéè", r"^text\[2\] is 'è'"),
        ({"tokens": ["", "▁a"], "mark": "▁"}, "a\0", r"^text\[1\] is '\\x00' \(U\+0000\); allowed with"),
        ({"tokens": "-aa"}, "a", r"^text\[0\] is 'a' .* where 'a' may follow, the token of classes 1 and 2"),
    ],
)
def test_characters_without_a_token(options, text, said):
    vocabulary = fsl.Vocabulary(**{"tokens": "-ab"} | options)
    with pytest.raises(ValueError, match=said):
        vocabulary.encode(text)
    with pytest.raises(ValueError, match=said.replace(r"^text", r"^text\[1\]")):
        vocabulary.encode(["", text])


@pytest.mark.parametrize(
    ("error", "said", "call"),
    [
        (TypeError, r"text is 3; allowed: a string", lambda v: v.encode(3)),
        (TypeError, r"text is b'ab'; allowed: a string", lambda v: v.encode(b"ab")),
        (TypeError, r"text\[1\] is None; allowed: a string", lambda v: v.encode(["a", None])),
        (ValueError, r"ambiguous is 'first'; allowed: 'raise', 'longest'", lambda v: v.encode("a", ambiguous="first")),
        (ValueError, r"labels\[1\] is 0; .* which is the blank", lambda v: v.decode([1, 0])),
        (ValueError, r"labels\[0\] is 3; allowed: 0 to 2", lambda v: v.decode([3])),
        (ValueError, r"labels\[1, 1\] is -1; .* pass label_lengths", lambda v: v.decode(np.array([[1, 2], [1, -1]]))),
        (TypeError, r"labels has dtype float64", lambda v: v.decode([0.5])),
        (ValueError, r"labels has shape \(\)", lambda v: v.decode(1)),
        (ValueError, r"labels has shape \(1, 1, 1\)", lambda v: v.decode(np.ones((1, 1, 1), int))),
        (ValueError, r"label_lengths is 3; allowed: 0 to 2", lambda v: v.decode([1, 2], 3)),
        (ValueError, r"label_lengths\[1\] is 3; allowed: 0 to 2", lambda v: v.decode([[1, 2], [1, 2]], [1, 3])),
        (TypeError, r"token is 1; allowed: a string", lambda v: v.index(1)),
        (ValueError, r"token is 'c', not a token", lambda v: v.index("c")),
    ],
)
def test_errors_of_methods(error, said, call):
    with pytest.raises(error, match=said):
        call(fsl.Vocabulary("-ab"))


def test_every_pair_of_letters_round_trips():
    vocabulary = fsl.Vocabulary(["-", "a", "b", "ch", "sh"])
    for labels in product(range(1, 5), repeat=3):
        assert vocabulary.encode(vocabulary.decode(labels)).tolist() == list(labels)
