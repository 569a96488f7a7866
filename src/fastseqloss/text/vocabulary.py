"""Text to labels and labels to text, by the tokens of a model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_array
from .._core.labels import Alphabet, check_labels, read_labels
from .._core.messages import brief
from .._core.options import choice
from .tokens import BYTES, EDGE, MARKS, as_class, as_tokens, decode_bytes

Mark = Literal["▁", "Ġ", "##", "@@", "</w>"]

_AMBIGUOUS = ("raise", "longest")
_CHANGES: dict[str, Callable[[str], str]] = {  # of a text whose characters are not tokens
    "text.lower()": str.lower,
    "text.upper()": str.upper,
    'unicodedata.normalize("NFC", text)': partial(unicodedata.normalize, "NFC"),
    'unicodedata.normalize("NFD", text)': partial(unicodedata.normalize, "NFD"),
    'unicodedata.normalize("NFKC", text)': partial(unicodedata.normalize, "NFKC"),
}


class _Spelling(NamedTuple):
    """A text as tokens spell it, with edges of words; `places` are those of its characters in the text."""

    characters: str
    places: Sequence[int]
    text: str
    name: str

    def character(self, i: int) -> str:
        """Return the place and the character of the text at position i, for messages."""
        place = self.places[i]
        shown = self.text[place]
        return f"{self.name}[{place}] is {shown!r} (U+{ord(shown):04X})"


class Vocabulary:
    """Tokens of the classes of a model, which convert text to labels and labels to text.

    Parameters
    ----------
    tokens : sequence of str, or dict of str and int
        Token of each class, including the blank, whose text is ignored; or a dict from tokens to
        classes, as tokenizers export it.
    blank : int or str
        Class of the blank, or its token; a negative class counts from the end.
    separator : int or str, optional
        Class or token between two words, such as ``"|"`` or ``" "``. In texts, it is a space.
    mark : {"▁", "Ġ", "##", "@@", "</w>"}, optional
        Mark of word boundaries in tokens: a word begins with "▁" (SentencePiece) or "Ġ" (byte-level BPE, whose
        characters stand for the bytes of UTF-8), ends with "</w>" (BPE), or continues after "@@" (BPE) or with "##"
        (WordPiece).
    special : sequence of int or str
        Classes or tokens that are not text, such as those of the start and of the end: `encode`
        does not return them, and `decode` leaves them out.

    Attributes
    ----------
    tokens : tuple of str
        Token of each class, "" for a class without one.
    blank : int
        Class of the blank.
    separator : int or None
        Class between two words.
    mark : str or None
        Mark of word boundaries.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above. The message names the argument, the position and the value.

    See Also
    --------
    words_from_spans : words with times and confidences.

    Notes
    -----
    With a separator or a mark, any whitespace in a text ends a word, and `decode` puts one space
    between words. Without them, a space is an ordinary character.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> letters = fsl.Vocabulary("-ehlo|", blank="-", separator="|")
    >>> letters.encode("hello ole")
    array([2, 1, 3, 3, 4, 5, 4, 3, 1])
    >>> letters.decode([2, 1, 3, 3, 4, 5, 4, 3, 1])
    'hello ole'
    >>> pieces = fsl.Vocabulary(["<pad>", "▁he", "ll", "o", "▁ole"], mark="▁")
    >>> pieces.decode([1, 2, 3, 4])
    'hello ole'
    """

    def __init__(
        self,
        tokens: Sequence[str] | Mapping[str, int] | NDArray[np.str_],
        *,
        blank: int | str = 0,
        separator: int | str | None = None,
        mark: Mark | None = None,
        special: Sequence[int | str] = (),
    ) -> None:
        listed = as_tokens(tokens)
        self.tokens = tuple(token or "" for token in listed)
        self.blank = as_class("blank", blank, listed)
        self.separator = None if separator is None else as_class("separator", separator, listed)
        if self.separator == self.blank:
            raise ValueError(f"separator is {brief(separator)}, the blank; allowed: another class")
        if mark is not None:
            choice("mark", mark, tuple(MARKS))
            if separator is not None:
                raise ValueError("separator and mark are both given; allowed: one of them")
        self.mark = mark
        if isinstance(special, str) or not isinstance(special, Sequence):
            raise TypeError(f"special is {brief(special)}; allowed: a sequence of classes or tokens")
        silent = {as_class(f"special[{i}]", value, listed) for i, value in enumerate(special)}
        if self.separator in silent:
            raise ValueError(f"special has {brief(separator)}, the separator; allowed: other classes")
        self._pieces = self._spell_tokens(silent | {self.blank})
        self._classes: dict[str, list[int]] = {}
        for number, piece in enumerate(self._pieces):
            if piece:
                self._classes.setdefault(piece, []).append(number)
        self._lengths = sorted({len(piece) for piece in self._classes}, reverse=True)

    def _spell_tokens(self, silent: set[int]) -> list[str]:
        """Return the text of each class, with the edges of words; "" for classes that are not text."""
        pieces = []
        for number, token in enumerate(self.tokens):
            if number == self.separator:
                pieces.append(EDGE)
            elif number in silent or not token:
                pieces.append("")
            elif self._has_words and EDGE in token:
                allowed = "allowed with a separator or a mark: tokens without U+0000"
                raise ValueError(f"tokens[{number}] is {brief(token)}; {allowed}")
            else:
                pieces.append(token if self.mark is None else MARKS[self.mark](token))
        return pieces

    @property
    def _has_words(self) -> bool:
        """True if a separator or a mark separates words."""
        return self.separator is not None or self.mark is not None

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        options = {"separator": self.separator, "mark": self.mark}
        shown = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
        return f"Vocabulary({len(self)} classes, blank={self.blank}{shown})"

    def index(self, token: str) -> int:
        """Return the class of a token.

        Parameters
        ----------
        token : str
            A token.

        Returns
        -------
        int

        Raises
        ------
        ValueError, TypeError
            If it is not a token, or is the token of several classes.
        """
        if not isinstance(token, str):
            raise TypeError(f"token is {brief(token)}; allowed: a string")
        return as_class("token", token, self.tokens)

    @overload
    def encode(  # type: ignore[overload-overlap]
        self, text: str, *, ambiguous: Literal["raise", "longest"] = ...
    ) -> NDArray[np.int64]: ...
    @overload
    def encode(
        self, text: Sequence[str] | NDArray[np.str_], *, ambiguous: Literal["raise", "longest"] = ...
    ) -> list[NDArray[np.int64]]: ...
    def encode(
        self, text: str | Sequence[str] | NDArray[np.str_], *, ambiguous: Literal["raise", "longest"] = "raise"
    ) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        """Return the labels that spell a text.

        Parameters
        ----------
        text : str, or sequence of str
            A text, or one for each sequence of a batch.
        ambiguous : {"raise", "longest"}
            Result for a text that several sequences of tokens spell: ValueError, or the sequence
            that takes the longest token at each position, from the first on, as in WordPiece.
            Tokenizers of other kinds (BPE, unigrams) choose tokens by their own tables, so take the
            labels from them.

        Returns
        -------
        ndarray of int64 [S], or list of ndarray
            The labels; one array for each text of a batch, a form of labels that `ctc_loss` accepts.

        Raises
        ------
        ValueError, TypeError
            If no sequence of tokens spells the text: the message names the character and its
            position. If several do: it names the tokens.

        Examples
        --------
        >>> import fastseqloss as fsl
        >>> vocabulary = fsl.Vocabulary(["", "s", "h", "sh", "e"])
        >>> vocabulary.encode("she", ambiguous="longest")
        array([3, 4])
        >>> vocabulary.encode("see")
        array([1, 4, 4])
        """
        longest = choice("ambiguous", ambiguous, _AMBIGUOUS) == 1
        if isinstance(text, str):
            return self._encode(str(text), longest, "text")
        rows: Any = text.tolist() if isinstance(text, np.ndarray) else text
        if not isinstance(rows, Sequence) or isinstance(rows, bytes):
            raise TypeError(f"text is {brief(text)}; allowed: a string, or a sequence of strings")
        for b, row in enumerate(rows):
            if not isinstance(row, str):
                raise TypeError(f"text[{b}] is {brief(row)}; allowed: a string")
        return [self._encode(str(row), longest, f"text[{b}]") for b, row in enumerate(rows)]

    def _encode(self, text: str, longest: bool, name: str) -> NDArray[np.int64]:
        spelling = self._spell(text, name)
        ways = None if longest else self._count_ways(spelling)
        labels, i = [], 0
        while i < len(spelling.characters):
            found = self._followers(spelling.characters, i, ways)
            if not found:
                raise self._unknown(spelling, i)
            if len(found) > 1:
                raise self._ambiguity(spelling, i, found)
            labels.append(found[0])
            i += len(self._pieces[found[0]])
        return np.array(labels, np.int64)

    def _followers(self, characters: str, i: int, ways: list[int] | None) -> list[int]:
        """Return the classes that may follow at position i: those that lead to the end, or else the longest."""
        found: list[int] = []
        for size in self._lengths:
            if i + size <= len(characters) and (ways is None or ways[i + size]):
                found += self._classes.get(characters[i : i + size], ())
                if found and ways is None:
                    break
        return found

    def _spell(self, text: str, name: str) -> _Spelling:
        """Return a text as the tokens spell it."""
        if not self._has_words:
            return _Spelling(text, range(len(text)), text, name)
        if EDGE in text:
            allowed = "allowed with a separator or a mark: other characters"
            raise ValueError(f"{name}[{text.index(EDGE)}] is '\\x00' (U+0000); {allowed}")
        characters: list[str] = []
        places: list[int] = []
        for found in re.finditer(r"\S+", text):
            first, last = found.start(), found.end() - 1
            if self.mark in ("▁", "##") or (self.mark == "Ġ" and first > 0) or (self.mark is None and characters):
                characters.append(EDGE)
                places.append(first if self.mark else first - 1)
            for place in range(first, last + 1):
                spelt = text[place]
                if self.mark == "Ġ":
                    spelt = "".join(BYTES[byte] for byte in spelt.encode("utf-8", "surrogatepass"))
                characters.append(spelt)
                places += [place] * len(spelt)
            if self.mark in ("@@", "</w>"):
                characters.append(EDGE)
                places.append(last)
        return _Spelling("".join(characters), places, text, name)

    def _count_ways(self, spelling: _Spelling) -> list[int]:
        """Return the number of ways, at most 2, to spell the text from each position; ValueError if there is none."""
        characters, n = spelling.characters, len(spelling.characters)
        ways = [0] * n + [1]
        for i in range(n - 1, -1, -1):
            for size in self._lengths:
                if i + size <= n and ways[i + size]:
                    classes = self._classes.get(characters[i : i + size], ())
                    ways[i] = min(2, ways[i] + ways[i + size] * len(classes))
        if not ways[0]:
            reached = [True] + [False] * n
            for i in range(n):
                for size in self._lengths if reached[i] else ():
                    if i + size <= n and characters[i : i + size] in self._classes:
                        reached[i + size] = True
            raise self._unknown(spelling, max(i for i in range(n) if reached[i]))
        return ways

    def _unknown(self, spelling: _Spelling, i: int) -> ValueError:
        """Return an error for a position at which no token continues the text."""
        known = {character for piece in self._classes for character in piece}
        text = f"{spelling.character(i)}; allowed: a token of the vocabulary"
        if spelling.characters[i] in known:
            return ValueError(f"{text} at that position")
        for call, change in _CHANGES.items():
            changed = change(spelling.text)
            if changed != spelling.text and known.issuperset("".join(changed.split()) if self._has_words else changed):
                return ValueError(f"{text}; all characters of {call} are known")
        return ValueError(text)

    def _ambiguity(self, spelling: _Spelling, i: int, found: list[int]) -> ValueError:
        """Return an error for a position at which one of several tokens may follow."""
        first, second = found[:2]
        one, other = self.tokens[first], self.tokens[second]
        if one == other:
            problem = f"where {one!r} may follow, the token of classes {first} and {second}"
            return ValueError(f"{spelling.character(i)}, {problem}; allowed: tokens of one class")
        return ValueError(
            f"{spelling.character(i)}, where {one!r} or {other!r} may follow; allowed: texts that one sequence of "
            "tokens spells, so pass ambiguous='longest', or take the labels from the tokenizer or from index()"
        )

    def decode(self, labels: ArrayLike | Sequence[ArrayLike], label_lengths: ArrayLike | None = None) -> Any:
        """Return the text that labels spell.

        Parameters
        ----------
        labels : array_like of int [B, S], or list of B sequences; [S] for one sequence
            Labels in any form that `ctc_loss` accepts, without blanks.
        label_lengths : array_like of int [B], or int for one sequence, optional
            Numbers of labels; all by default.

        Returns
        -------
        str, or list of str
            The text; a list of texts for a batch. The text of an empty list is "".

        Raises
        ------
        ValueError, TypeError
            If shapes, dtypes, lengths or labels are not as above. The message names the argument,
            the position, the value and what is allowed.

        Examples
        --------
        >>> import fastseqloss as fsl
        >>> vocabulary = fsl.Vocabulary("-abc")
        >>> vocabulary.decode([[3, 1, 2], [2, -1, -1]], [3, 1])
        ['cab', 'b']
        """
        lengths = None if label_lengths is None else as_array("label_lengths", label_lengths)
        read = read_labels(labels)
        single, batch = False, 0
        if isinstance(read, list) and not read and lengths is None:
            return ""
        if isinstance(read, list) or read.values.ndim > 1:
            batch = len(read if isinstance(read, list) else read.values)
        elif lengths is None or lengths.ndim == 0:
            single, batch = True, 1
        else:
            batch = len(lengths)
        alphabet = Alphabet(len(self), self.blank)
        values, starts, counts = check_labels(read, lengths, batch, alphabet, single=single)
        rows = zip(starts.tolist(), counts.tolist(), strict=True)
        texts = [self._text(values[start : start + count].tolist()) for start, count in rows]
        return texts[0] if single else texts

    def _text(self, labels: Sequence[int]) -> str:
        """Return the text of checked labels."""
        joined = "".join([self._pieces[label] for label in labels])
        if not self._has_words:
            return joined
        words = filter(None, joined.split(EDGE))
        return " ".join(map(decode_bytes, words) if self.mark == "Ġ" else words)

    def _words(self, labels: Sequence[int]) -> list[tuple[int, int]]:
        """Return the first and the last label of each word of checked labels that has text, the last one excluded."""
        pieces = [self._pieces[label] for label in labels]
        before = [EDGE, *pieces]
        begins = [i for i, piece in enumerate(pieces) if piece.startswith(EDGE) or before[i].endswith(EDGE)]
        words = []
        for first, last in pairwise([*begins, len(pieces)]):
            spelt = [i for i in range(first, last) if pieces[i].strip(EDGE)]
            if spelt:
                words.append((spelt[0], spelt[-1] + 1))
        return words
