"""Transducers: loss, posteriors, alignment."""

from .alignment import RNNTAlignment, rnnt_align
from .loss import RNNTPosteriors, rnnt_loss, rnnt_posteriors

__all__ = ["RNNTAlignment", "RNNTPosteriors", "rnnt_align", "rnnt_loss", "rnnt_posteriors"]
