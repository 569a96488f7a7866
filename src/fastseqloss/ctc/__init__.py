"""Connectionist temporal classification: loss, alignment, posteriors, decoding."""

from .._core.spans import TokenSpan
from .alignment import CTCAlignment, ctc_align, ctc_alignment_log_prob
from .beam import CTCBeams, ctc_beam_search
from .confidences import CTCConfidences, ctc_confidences
from .decoding import GreedyDecoding, ctc_collapse, ctc_greedy_decode, merge_tokens
from .entropy import ctc_entropy
from .loss import ctc_feasible, ctc_loss, ctc_posteriors
from .risk import ctc_risk_loss
from .windows import ctc_align_windows

__all__ = [
    "CTCAlignment",
    "CTCBeams",
    "CTCConfidences",
    "GreedyDecoding",
    "TokenSpan",
    "ctc_align",
    "ctc_align_windows",
    "ctc_alignment_log_prob",
    "ctc_beam_search",
    "ctc_collapse",
    "ctc_confidences",
    "ctc_entropy",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "ctc_risk_loss",
    "merge_tokens",
]
