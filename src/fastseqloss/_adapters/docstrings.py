"""Docstrings of the adapters' functions, derived from those of the NumPy functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import fastseqloss

from .table import LOSSES, Loss

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\S)", re.MULTILINE)
_OF_NUMPY = re.compile(r"[^.]*\b(grad_out|return_grad|slopes)\b[^.]*\.")  # a sentence
_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEPT = ("Notes", "References")


@dataclass(frozen=True)
class Framework:
    """The parts of a docstring that depend on the framework."""

    module: str  # of fastseqloss
    array: str  # the name of its arrays
    raises: str  # errors beyond those of the NumPy function
    parameters: Mapping[str, str]  # entries that replace those of the NumPy function
    example: str  # lines with the fields `module`, `name`, `first`, `value`, `call` and `loss`
    literal: str  # of an array, with the field `value`


def docstring(row: Loss, framework: Framework) -> str | None:
    """Return the docstring of the function of a loss for a framework; None if Python has stripped docstrings."""
    if row.function.__doc__ is None:
        return None
    summary, given = _sections(inspect.cleandoc(row.function.__doc__))
    summary = re.sub(r",? and its (sub)?gradients?\.", ".", summary, count=1)
    parts = {
        "Parameters": _parameters(row, given["Parameters"], framework),
        "Returns": _returns(row, given["Returns"], framework),
        "Raises": _raises(given["Raises"], framework),
        "See Also": f"fastseqloss.{row.function.__name__} : the same for NumPy arrays.",
        **{name: _OF_NUMPY.sub("", given[name]) for name in _KEPT if name in given},
        "Examples": _example(row, framework),
    }
    sections = [f"{name}\n{'-' * len(name)}\n{text}" for name, text in parts.items()]
    return _qualified(row, "\n\n".join([summary, *sections]))


def _sections(text: str) -> tuple[str, dict[str, str]]:
    """Return what precedes the first heading, and the text below each of them."""
    summary, *rest = _HEADING.split(text)
    return summary.strip(), {name: body.strip("\n") for name, body in zip(rest[::2], rest[1::2], strict=True)}


def _parameters(row: Loss, text: str, framework: Framework) -> str:
    entries = []
    for entry in filter(None, _ENTRY.split(text)):
        head, colon, rest = entry.rstrip().partition(" : ")
        first, newline, body = head.partition("\n")
        names = [name for name in first.split(", ") if name in row.parameters]
        if len(names) == 1 and names[0] in framework.parameters and not row.of_candidates:
            entries.append(framework.parameters[names[0]])
        elif names:
            kind = re.sub(r"array_like|ndarray", framework.array, rest.partition("\n")[0])
            entries.append(", ".join(names) + newline + body + colon + kind + "".join(rest.partition("\n")[1:]))
    return "\n".join(entries)


def _returns(row: Loss, text: str, framework: Framework) -> str:
    loss = next(filter(None, _ENTRY.split(text)))
    kind, _, body = re.sub(r"^\w+ : (float, or )?ndarray of float64", "", loss.rstrip()).partition("\n")
    first = row.scores[0]
    kind = f"{framework.array}{kind}, else scalar" if kind else framework.array
    return f"{kind}\n{body}\n    Of the dtype of `{first}`, or float32 for half precision.\n    {_derivatives(row)}"


def _derivatives(row: Loss) -> str:
    """Return the sentence about the arguments that have a gradient."""
    names = [f"`{name}`" for name in row.scores]
    if row.by_targets:
        names.append("`targets` of a float dtype")
    *others, last = names
    return f"Differentiable with respect to {', '.join(others)}{' and ' if others else ''}{last}."


def _qualified(row: Loss, text: str) -> str:
    """Return a text with the full names of functions of this package that the adapters do not have."""

    def full(found: re.Match[str]) -> str:
        name = found[1]
        elsewhere = name in fastseqloss.__all__ and name not in LOSSES and name not in row.parameters
        return f"`fastseqloss.{name}`" if elsewhere else found[0]

    return re.sub(r"(?<!`)`(\w+)`(?!`)", full, text)


def _raises(text: str, framework: Framework) -> str:
    return re.sub(r"\s+In\s+that\s+case,\s+nothing\s+has\s+been\s+written\.", "", text) + "\n" + framework.raises


def _example(row: Loss, framework: Framework) -> str:
    # All are arrays of NumPy: pages are also built with stand-ins for the frameworks, which no other check survives.
    arrays = {name: np.array(value, np.float32 if name in row.scores else None) for name, value in row.example.items()}
    loss = row.function(**arrays)
    first, *others = row.scores
    setup = [f"{name} = {framework.literal.format(value=row.example[name])}" for name in others if name in row.example]
    names = [name for name in row.parameters if name in row.example]
    shown = {name: name if name in row.scores else str(row.example[name]) for name in names}
    call = [
        shown[name] if name in row.required and row.parameters[name].kind is _POSITIONAL else f"{name}={shown[name]}"
        for name in names
    ]
    lines = framework.example.format(
        name=row.name,
        module=framework.module,
        first=first,
        value=row.example[first],
        call=f"{row.name}({', '.join(call)})" + (".sum()" if np.ndim(loss) else ""),
        loss=round(float(np.sum(loss)), 4),
    ).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f">>> {first} ="))
    return "\n".join([*lines[: at + 1], *(f">>> {line}" for line in setup), *lines[at + 1 :]])
