"""Losses of independent rows of scores, a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import stored
from .._core.engine import StepSum
from .._core.reduction import by_sequence
from .._core.threads import threads_for
from .chunks import Chunk


@dataclass(slots=True)
class RowLosses:
    """The losses of the rows of each chunk, by a kernel of losses at every step."""

    kernel: Callable[..., None]
    parameters: Callable[[NDArray[np.int64]], tuple[Any, ...]]  # last arguments of the kernel, for rows
    per_score: float  # nanoseconds for a score on one thread
    summed: StepSum
    classes: NDArray[np.int64]  # [B R], -1 where a step does not count
    scale: NDArray[np.float64]  # [B], or [1] for the batch, or [B, R]; factors of the derivatives
    with_slopes: bool
    num_threads: int | None
    class_weight: NDArray[np.float64] | None = None
    losses: NDArray[np.float64] = field(init=False)  # [B R], output; 0 where a step has no chunk

    def __post_init__(self) -> None:
        """Allocate the losses."""
        self.losses = np.zeros(self.classes.size)

    def rows(self) -> NDArray[np.int64]:
        """Return the rows that count."""
        rows = np.flatnonzero(self.classes >= 0)
        kept: NDArray[np.int64] = rows[np.broadcast_to(self._scale_of(rows) != 0, rows.shape)]
        return kept

    def _scale_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.scale.ndim == 2:
            return self.scale.reshape(-1)[rows]
        return self.scale if len(self.scale) == 1 else self.scale[rows // self.summed.steps.rows]

    def __call__(self, chunk: Chunk, scores: NDArray[Any]) -> None:
        """Compute the losses of a chunk; overwrite its scores by their derivatives if slopes are wanted."""
        # Without a common scale, each row is a separate sequence.
        scale = self._scale_of(chunk.rows)
        x, kind = stored(scores.reshape(len(scale), -1, scores.shape[-1]))
        losses = np.empty(len(scores))
        self.kernel(
            x,
            kind,
            self.classes[chunk.rows],
            scale,
            self.class_weight,
            losses,
            x if self.with_slopes else None,
            threads_for(self.num_threads, x.size * self.per_score, len(losses)),
            *self.parameters(chunk.rows),
        )
        self.losses[chunk.rows] = losses

    def by_sequence(self) -> NDArray[np.float64]:
        """Return the losses in the form of `reduce_steps`."""
        return by_sequence(self.losses, self.scale)
