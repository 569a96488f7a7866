"""Soft dynamic time warping: losses of series that differ in time, and their alignments."""

from .arguments import SoftDTWGradient
from .loss import soft_dtw_cost, soft_dtw_loss, soft_dtw_posteriors

__all__ = ["SoftDTWGradient", "soft_dtw_cost", "soft_dtw_loss", "soft_dtw_posteriors"]
