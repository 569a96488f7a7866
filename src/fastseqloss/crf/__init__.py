"""Linear-chain conditional random fields, and the structured hinge loss."""

from .arguments import CRFGradient
from .decoding import CRFPath, crf_decode
from .loss import CRFMarginals, crf_log_partition, crf_loss, crf_marginals
from .structured_hinge import structured_hinge_loss

__all__ = [
    "CRFGradient",
    "CRFMarginals",
    "CRFPath",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "structured_hinge_loss",
]
