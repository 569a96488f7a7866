"""Scores of labels after the prefixes of a beam, by a function of the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_doubles, as_real, check_output
from .._core.messages import brief

LARGEST = 1e300  # sums over labels stay finite

Prefix = tuple[int, ...]
PrefixModel = Callable[[list[Prefix], list[Any]], Any]


class PrefixScores:
    """Scores, scaled, that the function has returned for the prefixes of the beams, and its states of them."""

    def __init__(self, model: PrefixModel, weight: float, shape: tuple[int, int, int], blank: int) -> None:
        batch, beam, n_classes = shape
        check_output("the scores of language_model", (batch, beam, n_classes + 1), 8)
        self.rows = np.zeros((batch, beam, n_classes + 1))
        self.asked = np.empty((batch * beam, 4), np.int64)  # sequence, row, row without the last label, last label
        self._model, self._weight, self._blank, self._width = model, weight, blank, 0
        self._kept: dict[tuple[int, int], tuple[Prefix, Any]] = {}  # by sequence and row

    def ask(self, n: int) -> bool:
        """Fill in the rows of the first n entries of `asked`; return True if there are scores of the end."""
        entries = self.asked[:n].tolist()
        begun = ((), None)
        parents = [self._kept.get((b, parent), begun) if label >= 0 else begun for b, _, parent, label in entries]
        prefixes = [
            (*prefix, entry[3]) if entry[3] >= 0 else () for (prefix, _), entry in zip(parents, entries, strict=True)
        ]
        returned = self._model(list(prefixes), [state for _, state in parents])
        scores, states = self._checked(returned, prefixes)
        for (b, row, _, _), prefix, state in zip(entries, prefixes, states, strict=True):
            self._kept[b, row] = prefix, state
        self.rows[self.asked[:n, 0], self.asked[:n, 1], : self._width] = scores
        return self._width == self.rows.shape[2]

    def _checked(self, returned: Any, prefixes: list[Prefix]) -> tuple[NDArray[np.float64], list[Any]]:
        """Return scores [n, V] or [n, V + 1], scaled, and states [n]."""
        n, width = len(prefixes), self.rows.shape[2]
        states: Any = [None] * n
        if isinstance(returned, tuple):
            if len(returned) != 2:
                allowed = "scores, or the tuple (scores, states)"
                raise TypeError(f"language_model returned a tuple of {len(returned)}; allowed: {allowed}")
            returned, states = returned
        if returned is None:
            raise TypeError("language_model returned None; allowed: scores, or the tuple (scores, states)")
        scores = as_doubles(as_real("scores that language_model returned", returned))
        widths = (self._width,) if self._width else (width - 1, width)
        if scores.ndim != 2 or len(scores) != n or scores.shape[1] not in widths:
            shapes = {width - 1: f"({n}, {width - 1})", width: f"({n}, {width}), the score of the end last"}
            shown = " or ".join(shapes[k] for k in widths)
            raise ValueError(f"language_model returned scores of shape {scores.shape}; allowed: {shown}")
        self._width = scores.shape[1]
        if not np.iterable(states):
            kind = type(states).__name__
            raise TypeError(f"language_model returned states of type {kind}; allowed: one for each prefix")
        states = list(states)
        if len(states) != n:
            raise ValueError(f"language_model returned {len(states)} states; allowed: {n}, one for each prefix")
        return self._scaled(scores, prefixes), states

    def _scaled(self, scores: NDArray[np.float64], prefixes: list[Prefix]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            scaled = np.where(scores > -np.inf, self._weight * scores, -np.inf)
            is_bad = ~(scores < np.inf) | (scores > -np.inf) & ~(np.abs(scaled) <= LARGEST)
        scaled[:, self._blank], is_bad[:, self._blank] = -np.inf, False
        bad = np.argwhere(is_bad)
        if len(bad):
            i, k = bad[0].tolist()
            allowed = f"{-LARGEST:g} to {LARGEST:g} when scaled by {self._weight:g}, and -inf"
            raise ValueError(
                f"language_model returned {scores[i, k]} as scores[{i}, {k}], after the labels {brief(prefixes[i])}; "
                f"allowed: {allowed}"
            )
        return scaled
