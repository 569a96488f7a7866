"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

from ._crf_arguments import CRFGradient
from ._runtime import get_num_threads, set_num_threads, show_config
from .crf import CRFMarginals, CRFPath, crf_decode, crf_log_partition, crf_loss, crf_marginals
from .ctc import ctc_feasible, ctc_loss
from .structured_hinge import structured_hinge_loss

__version__ = "0.1.0"
__all__ = [
    "CRFGradient",
    "CRFMarginals",
    "CRFPath",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "ctc_feasible",
    "ctc_loss",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "structured_hinge_loss",
]
