"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

from . import plot
from ._runtime import get_num_threads, set_num_threads, show_config
from .ctc import ctc_feasible, ctc_loss, ctc_posteriors
from .ctc_alignment import (
    CTCAlignment,
    GreedyDecoding,
    TokenSpan,
    ctc_align,
    ctc_alignment_log_prob,
    ctc_collapse,
    ctc_greedy_decode,
)

__version__ = "0.1.0"
__all__ = [
    "CTCAlignment",
    "GreedyDecoding",
    "TokenSpan",
    "ctc_align",
    "ctc_alignment_log_prob",
    "ctc_collapse",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "get_num_threads",
    "plot",
    "set_num_threads",
    "show_config",
]
