"""Linear-chain conditional random fields, and the structured hinge loss."""

from .arguments import CRFGradient
from .decoding import CRFPath, crf_decode
from .loss import CRFMarginals, crf_log_partition, crf_loss, crf_marginals
from .scores import crf_score
from .structured_hinge import structured_hinge_loss

__all__ = [
    "CRFGradient",
    "CRFMarginals",
    "CRFPath",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "crf_score",
    "structured_hinge_loss",
]
