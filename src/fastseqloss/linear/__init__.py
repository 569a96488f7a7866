"""Losses of the scores of a linear layer, which are computed a chunk of rows at a time and never stored."""

from .cross_entropy import linear_cross_entropy
from .ctc import linear_ctc_loss
from .head import LinearGradient
from .log_prob import linear_sequence_log_prob
from .policy import linear_policy_loss

__all__ = [
    "LinearGradient",
    "linear_cross_entropy",
    "linear_ctc_loss",
    "linear_policy_loss",
    "linear_sequence_log_prob",
]
