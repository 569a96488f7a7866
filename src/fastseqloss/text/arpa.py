"""Reader of n-gram models in the ARPA format."""

from __future__ import annotations

import codecs
import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from .._core.messages import brief

_LOG_10 = math.log(10.0)
_MOST_TOKENS = 20  # of an n-gram
_LARGEST = 1e6  # score or back-off; sums over labels stay finite

Entry = tuple[float, float]  # score and back-off, in nats


class Arpa(NamedTuple):
    """Tokens, and for each number of tokens the n-grams of that many."""

    path: str
    tokens: list[str]
    ngrams: list[dict[tuple[int, ...], Entry]]


def read(path: Any) -> Arpa:
    """Read a file, which may be compressed by gzip."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise TypeError(f"path is {brief(path)}; allowed: the path of an ARPA file") from None
    with open(name, "rb") as plain:
        is_compressed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        source = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if is_compressed else plain
        reader = _Reader(os.fsdecode(name), source)
        try:
            return reader.read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise reader.error(f"is damaged: {error}") from None


class _Reader:
    """Lines of a file, and the tokens that it has listed."""

    def __init__(self, path: str, source: BinaryIO) -> None:
        self.path, self.number = path, 0
        self._lines = self._read_lines(source)
        self._ids: dict[bytes, int] = {}
        self._tokens: list[str] = []

    def _read_lines(self, source: BinaryIO) -> Iterator[bytes]:
        for line in source:
            self.number += 1
            if self.number == 1:
                line = self._without_mark(line)
            stripped = line.strip()
            if stripped:
                yield stripped

    def _without_mark(self, line: bytes) -> bytes:
        """Return the first line without a byte order mark, which editors on Windows write."""
        if line.startswith(b"mmap lm "):
            raise self.error("is a binary model of KenLM; allowed: the ARPA file that it was made from")
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise self.error("is UTF-16; allowed: UTF-8")
        return line.removeprefix(codecs.BOM_UTF8)

    def error(self, problem: str) -> ValueError:
        """Return an error at the current line."""
        where = f", line {self.number}" if self.number else ""
        return ValueError(f"{self.path}{where} {problem}")

    def _next(self, expected: str) -> bytes:
        line = next(self._lines, None)
        if line is None:
            raise self.error(f"is the last one; allowed: {expected} after it, so the file may be cut short")
        return line

    def read(self) -> Arpa:
        """Return the model."""
        self._skip_comments()
        counts: list[int] = []
        line = self._next("a line ngram 1=N")
        while not line.startswith(b"\\"):
            counts.append(self._count(line, len(counts) + 1))
            line = self._next("a line \\1-grams:")
        if not counts:
            raise self.error(f"is {_shown(line)}; allowed: a line ngram 1=N, after \\data\\")
        ngrams = []
        for length, count in enumerate(counts, 1):
            if line != b"\\%d-grams:" % length:
                raise self.error(f"is {_shown(line)}; allowed: \\{length}-grams:")
            found, line = self._section(length, length == len(counts))
            if len(found) != count:
                raise self.error(
                    f"ends the {length}-grams after {len(found)}; allowed: {count}, as ngram {length}={count} says"
                )
            ngrams.append(found)
        if line != b"\\end\\":
            raise self.error(f"is {_shown(line)}; allowed: \\end\\")
        return Arpa(self.path, self._tokens, ngrams)

    def _skip_comments(self) -> None:
        """Read lines up to the one that the data follow."""
        while (line := next(self._lines, None)) != b"\\data\\":
            if line is None:
                problem = f"has {self.number} lines, none of them \\data\\" if self.number else "is empty"
                raise ValueError(f"{self.path} {problem}; allowed: an ARPA file, which has a line \\data\\")

    def _count(self, line: bytes, length: int) -> int:
        found = re.fullmatch(rb"ngram\s+(\d{1,2})\s*=\s*(\d{1,18})", line)
        if found is None or int(found[1]) != length:
            raise self.error(f"is {_shown(line)}; allowed: ngram {length}=N")
        if length > _MOST_TOKENS:
            raise self.error(f"has n-grams of {length} tokens; allowed: 1 to {_MOST_TOKENS}")
        return int(found[2])

    def _section(self, length: int, is_last: bool) -> tuple[dict[tuple[int, ...], Entry], bytes]:
        """Return the n-grams of a length, and the line after them."""
        found: dict[tuple[int, ...], Entry] = {}
        while not (line := self._next("\\end\\")).startswith(b"\\"):
            fields = line.split()
            n = len(fields) - 1
            if n != length and (is_last or n != length + 1):
                more = "" if is_last else ", and a back-off or none"
                raise self.error(f"has {n + 1} fields; allowed: a score, {length} tokens{more}")
            ngram = self._ngram(fields[1 : length + 1])
            if ngram in found:
                raise self.error(f"repeats {_shown(b' '.join(fields[1 : length + 1]))}; allowed: an n-gram once")
            score = self._number("score", fields[0])
            if score > 0.0:
                raise self.error(f"has the score {_shown(fields[0])}; allowed: 0 or less, the logarithm to base 10")
            backoff = self._number("back-off", fields[-1]) if n > length else 0.0
            if backoff == -math.inf:
                raise self.error("has the back-off -inf; allowed: finite")
            found[ngram] = score * _LOG_10, backoff * _LOG_10
        return found, line

    def _ngram(self, tokens: list[bytes]) -> tuple[int, ...]:
        """Return the numbers of tokens; a token alone is a new one."""
        if len(tokens) == 1 and tokens[0] not in self._ids:
            try:
                self._tokens.append(tokens[0].decode())
            except UnicodeDecodeError:
                raise self.error(f"has the token {_shown(tokens[0])}; allowed: UTF-8") from None
            self._ids[tokens[0]] = len(self._ids)
        try:
            return tuple([self._ids[token] for token in tokens])
        except KeyError as missing:
            raise self.error(f"has the token {_shown(missing.args[0])}; allowed: those of the 1-grams") from None

    def _number(self, name: str, field: bytes) -> float:
        try:
            number = float(field)
        except ValueError:
            number = math.nan
        if b"_" in field or not (abs(number) <= _LARGEST or number == -math.inf):
            raise self.error(f"has the {name} {_shown(field)}; allowed: a number, {-_LARGEST:g} to {_LARGEST:g}")
        return number


def _shown(line: bytes) -> str:
    return brief(line.decode("utf-8", "backslashreplace"))
