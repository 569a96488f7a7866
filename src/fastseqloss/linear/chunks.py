"""Losses of the scores of a linear layer that are never stored: a chunk of rows at a time.

For each chunk of the rows that count, the scores are products of hidden states and weights in a buffer; a step, the
caller's, computes the losses of the rows and overwrites the scores by their derivatives G; the gradients are products
with G: G W of hidden states, G^T h of the weight, the sum of the rows of the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import check_output
from .head import Head, HeadGradients

_MOST_SCORES = 1 << 24  # of a chunk by default, within the bounds below
_FEWEST_ROWS, _MOST_ROWS = 256, 512  # fewer make products slow, more do not make them faster
_MOST_PRODUCTS = 1 << 21  # with a block of classes, within the bounds below: those stay in the cache
_FEWEST_CLASSES, _MOST_CLASSES = 256, 2048


@dataclass(slots=True)
class Chunk:
    """Rows that are computed together."""

    rows: NDArray[np.int64]  # indices of the flattened steps
    room: int  # rows of the buffer for the step, which holds the scores of `rows` in front


Step = Callable[[Any, NDArray[Any]], None]
"""Function of a chunk and its buffer [room, V], whose first len(rows) rows are scores.

It keeps the losses and, if gradients are wanted, overwrites the scores by the derivatives of the reduced loss.
"""


def even_chunks(head: Head, rows: NDArray[np.int64]) -> list[Chunk]:
    """Divide rows into as few chunks of nearly equal size as the options of the head allow."""
    pieces = np.array_split(rows, -(-len(rows) // rows_at_once(head))) if len(rows) else []
    return [Chunk(piece, len(piece)) for piece in pieces]


def rows_at_once(head: Head) -> int:
    """Return the largest number of rows of scores to hold at a time."""
    return head.chunk or min(max(_MOST_SCORES // head.n_classes, _FEWEST_ROWS), _MOST_ROWS)


def run_chunks(head: Head, gradients: HeadGradients, chunks: Iterable[Chunk], step: Step) -> None:
    """Call the step for the scores of each chunk, and write the gradients of the layer, of all other rows included."""
    chunks = list(chunks)
    with np.errstate(all="ignore"):
        products = _Products(head, gradients, chunks)
        for chunk in chunks:
            products.score(chunk)
            step(chunk, products.scores[: chunk.room])
            if gradients.wanted:
                products.differentiate(chunk)
        products.finish(chunks)


class _Products:
    """Buffers of a chunk, and the products of matrices that fill and read them, a block of classes at a time.

    Python handles signals between two blocks.
    """

    def __init__(self, head: Head, gradients: HeadGradients, chunks: list[Chunk]) -> None:
        self.head, self.gradients = head, gradients
        room = max((chunk.room for chunk in chunks), default=0)
        n_rows = max((len(chunk.rows) for chunk in chunks), default=0)
        n_classes, n_features, dtype = head.n_classes, head.hidden.values.shape[-1], head.dtype
        check_output("scores of a chunk", (room, n_classes), dtype.itemsize)
        self.scores = np.empty((room, n_classes), dtype)
        keeps = head.softcap is not None and gradients.wanted
        self.ratios = np.empty((n_rows if keeps else 0, n_classes), dtype)
        size = min(max(_MOST_PRODUCTS // max(n_features, 1), _FEWEST_CLASSES), _MOST_CLASSES, n_classes)
        self.blocks = [slice(first, first + size) for first in range(0, n_classes, size)]
        self.bias = None if head.bias is None else (head.bias.values * head.scale).astype(dtype)
        self.hidden = np.empty((0, n_features), dtype)  # of the rows of a chunk, scaled
        by_hidden, by_weight = (gradient.values is not None for gradient in (gradients.hidden, gradients.weight))
        self.total = np.empty((n_rows if by_hidden else 0, n_features), dtype)
        # Products with the derivatives of a block, which are added to one gradient before those of the other.
        self.part = np.empty((max(len(self.total), size if by_weight else 0), n_features), dtype)
        self.first = True  # no gradient has been written

    def score(self, chunk: Chunk) -> None:
        """Compute the scores of the rows of a chunk."""
        head, n = self.head, len(chunk.rows)
        of_steps = head.hidden.values
        self.hidden = of_steps[np.divmod(chunk.rows, of_steps.shape[1])].astype(head.dtype, copy=False)
        if head.scale != 1.0:
            self.hidden *= head.scale
        for block in self.blocks:
            scores = self.scores[:n, block]
            np.matmul(self.hidden, head.weight.values[block].T, out=scores)
            if self.bias is not None:
                scores += self.bias[block]
            if head.softcap is not None:
                _cap(scores, head.softcap, self.ratios[:n, block] if self.gradients.wanted else scores)

    def differentiate(self, chunk: Chunk) -> None:
        """Add the gradients of a chunk, whose scores the step has overwritten by derivatives."""
        n = len(chunk.rows)
        total, part = self.total[:n], self.part[:n]
        for block in self.blocks:
            slopes = self.scores[:n, block]
            if self.head.softcap is not None:
                ratios = self.ratios[:n, block]
                slopes *= np.subtract(1.0, np.square(ratios, out=ratios), out=ratios)
            self._add_to_parameters(slopes, block)
            if self.gradients.hidden.values is not None:
                np.matmul(slopes, self.head.weight.values[block], out=part if block.start else total)
                if block.start:
                    total += part
        if self.gradients.hidden.values is not None:
            total *= self.head.scale
            self._write_hidden(chunk.rows, total)
        self.first = False

    def _add_to_parameters(self, slopes: NDArray[Any], block: slice) -> None:
        """Add the gradients of a block of classes; those of the first chunk are written."""
        weight, bias = self.gradients.weight.values, self.gradients.bias.values
        if weight is not None:
            out = weight[block]
            direct = self.first and out.flags.c_contiguous
            product = np.matmul(slopes.T, self.hidden, out=out if direct else self.part[: len(out)])
            if not direct:
                np.add(0.0 if self.first else out, product, out=out)
        if bias is not None:
            total = slopes.sum(axis=0) * self.head.scale
            bias[block] = total if self.first else bias[block] + total

    def _write_hidden(self, rows: NDArray[np.int64], values: NDArray[Any] | float) -> None:
        out = self.gradients.hidden.values
        assert out is not None
        out[np.divmod(rows, out.shape[1])] = values

    def finish(self, chunks: list[Chunk]) -> None:
        """Set the gradients of hidden states without a chunk to 0; without any chunk, all gradients."""
        if self.first:
            for gradient in (self.gradients.weight, self.gradients.bias):
                if gradient.values is not None:
                    gradient.values[...] = 0.0
        out = self.gradients.hidden.values
        if out is not None:
            left = np.ones(out.shape[0] * out.shape[1], np.bool_)
            for chunk in chunks:
                left[chunk.rows] = False
            self._write_hidden(np.flatnonzero(left), 0.0)


def _cap(scores: NDArray[Any], cap: float, ratios: NDArray[Any]) -> None:
    """Replace scores by cap tanh(scores / cap), and keep the hyperbolic tangents in `ratios`."""
    np.multiply(scores, 1.0 / cap, out=ratios)
    np.tanh(ratios, out=ratios)
    np.multiply(ratios, cap, out=scores)
