"""Linear-chain conditional random fields, the CTC-CRF, and the structured hinge loss."""

from .arguments import CRFGradient
from .ctc_crf import CTCCRFPath, ctc_crf_decode, ctc_crf_log_partition, ctc_crf_loss, ctc_crf_posteriors
from .decoding import CRFPath, crf_decode
from .loss import CRFMarginals, crf_log_partition, crf_loss, crf_marginals
from .scores import crf_score
from .structured_hinge import structured_hinge_loss

__all__ = [
    "CRFGradient",
    "CRFMarginals",
    "CRFPath",
    "CTCCRFPath",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "crf_score",
    "ctc_crf_decode",
    "ctc_crf_log_partition",
    "ctc_crf_loss",
    "ctc_crf_posteriors",
    "structured_hinge_loss",
]
