"""Connectionist temporal classification: loss, alignment, posteriors, decoding."""

from .._core.spans import TokenSpan
from .alignment import CTCAlignment, ctc_align, ctc_alignment_log_prob
from .beam import CTCBeams, ctc_beam_search
from .confidences import CTCConfidences, ctc_confidences
from .decoding import GreedyDecoding, ctc_collapse, ctc_greedy_decode, merge_tokens
from .loss import ctc_feasible, ctc_loss, ctc_posteriors

__all__ = [
    "CTCAlignment",
    "CTCBeams",
    "CTCConfidences",
    "GreedyDecoding",
    "TokenSpan",
    "ctc_align",
    "ctc_alignment_log_prob",
    "ctc_beam_search",
    "ctc_collapse",
    "ctc_confidences",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "merge_tokens",
]
