"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

from ._runtime import get_num_threads, set_num_threads, show_config
from .ctc import ctc_feasible, ctc_loss

__version__ = "0.1.0"
__all__ = [
    "ctc_feasible",
    "ctc_loss",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]
