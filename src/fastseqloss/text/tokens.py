"""Marks of word boundaries, replaced by one character; bytes of byte-level tokens; checked lists of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._core.messages import brief
from .._core.options import as_index, as_integer

EDGE = "\0"  # of a word, in place of every mark and separator
_MOST_CLASSES = 2**24


def _continued(token: str) -> str:
    return token[2:] if token.startswith("##") else EDGE + token


def _unfinished(token: str) -> str:
    return token[:-2] if token.endswith("@@") else token + EDGE


def _finished(token: str) -> str:
    return token.removesuffix("</w>") + EDGE if token.endswith("</w>") else token


# Text of a token, with the edges of words, for each mark.
MARKS: dict[str, Callable[[str], str]] = {
    "▁": lambda token: token.replace("▁", EDGE),
    "Ġ": lambda token: token.replace("Ġ", EDGE),
    "##": _continued,
    "@@": _unfinished,
    "</w>": _finished,
}

# Characters that stand for bytes in byte-level vocabularies: printable ones for themselves, others from U+0100 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
_OF_CHARACTERS = {character: bytes([byte]) for byte, character in BYTES.items()}


def decode_bytes(text: str) -> str:
    """Return the text of byte-level characters; invalid UTF-8 becomes U+FFFD."""
    parts = (_OF_CHARACTERS.get(character) or character.encode("utf-8", "replace") for character in text)
    return b"".join(parts).decode("utf-8", "replace")


def as_tokens(tokens: Any) -> list[str | None]:
    """Return the token of each class, None for a class without one."""
    if isinstance(tokens, Mapping):
        return _of_mapping(tokens)
    if isinstance(tokens, np.ndarray):
        tokens = tokens.tolist()
    if not isinstance(tokens, Sequence) or isinstance(tokens, bytes):
        kind = type(tokens).__name__
        raise TypeError(f"tokens is a {kind}; allowed: a sequence of strings, or a dict of tokens and their classes")
    found = list(tokens)
    for i, token in enumerate(found):
        if not isinstance(token, str):
            raise TypeError(f"tokens[{i}] is {brief(token)}; allowed: a string")
    if not found:
        raise ValueError("tokens has length 0; allowed: a token for each class, the blank among them")
    return [str(token) for token in found]


def _of_mapping(tokens: Mapping[Any, Any]) -> list[str | None]:
    classes: dict[int, str] = {}
    for token, value in tokens.items():
        if not isinstance(token, str):
            raise TypeError(f"tokens has the key {brief(token)}; allowed: strings, with their classes as values")
        name = f"tokens[{brief(token)}]"
        number = as_integer(name, value)
        if not 0 <= number < _MOST_CLASSES:
            raise ValueError(f"{name} is {number}; allowed: 0 to {_MOST_CLASSES - 1}")
        if number in classes:
            raise ValueError(f"{name} is {number}, the class of {brief(classes[number])}; allowed: another class")
        classes[number] = str(token)
    if not classes:
        raise ValueError("tokens has length 0; allowed: a token for each class, the blank among them")
    return [classes.get(number) for number in range(max(classes) + 1)]


def as_class(name: str, value: Any, tokens: Sequence[str | None]) -> int:
    """Return a class that is given by its number, or by its token."""
    if not isinstance(value, str):
        return as_index(name, value, len(tokens))
    found = [number for number, token in enumerate(tokens) if token == value]
    if len(found) != 1:
        problem = f"the token of classes {found[0]} and {found[1]}" if found else "not a token"
        raise ValueError(f"{name} is {brief(value)}, {problem}; allowed: a token of one class, or a class")
    return found[0]
