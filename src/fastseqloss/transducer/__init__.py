"""Transducers: losses, posteriors, alignment, ranges of labels, decoding."""

from .alignment import RNNTAlignment, rnnt_align
from .decoding import RNNTDecoding, rnnt_greedy_decode
from .loss import RNNTPosteriors, rnnt_loss, rnnt_posteriors
from .pruning import rnnt_prune_ranges
from .simple import RNNTSimpleGradient, rnnt_simple_loss, rnnt_simple_posteriors
from .tdt import TDTGradient, tdt_loss

__all__ = [
    "RNNTAlignment",
    "RNNTDecoding",
    "RNNTPosteriors",
    "RNNTSimpleGradient",
    "TDTGradient",
    "rnnt_align",
    "rnnt_greedy_decode",
    "rnnt_loss",
    "rnnt_posteriors",
    "rnnt_prune_ranges",
    "rnnt_simple_loss",
    "rnnt_simple_posteriors",
    "tdt_loss",
]
