"""Spans of labels in time, as alignments of every family list them."""

from __future__ import annotations

from typing import NamedTuple


class TokenSpan(NamedTuple):
    """The frames of one label.

    Attributes
    ----------
    label : int
        The class.
    start, end : int
        Its frames: the first one, and the one after the last.
    log_prob : float
        Sum, in nats, of the log-probabilities of the label at those frames.
    """

    label: int
    start: int
    end: int
    log_prob: float

    @property
    def mean_log_prob(self) -> float:
        """Log-probability per frame; its exponential, from 0 to 1, serves as a confidence."""
        return self.log_prob / (self.end - self.start)
