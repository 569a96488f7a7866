"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

from ._runtime import get_num_threads, set_num_threads, show_config
from .cross_entropy import binary_cross_entropy, nll_loss, softmax_cross_entropy
from .ctc import ctc_feasible, ctc_loss
from .hinge import hinge_loss, multiclass_hinge_loss
from .regression import huber_loss, mae_loss, mse_loss, quantile_loss

__version__ = "0.1.0"
__all__ = [
    "binary_cross_entropy",
    "ctc_feasible",
    "ctc_loss",
    "get_num_threads",
    "hinge_loss",
    "huber_loss",
    "mae_loss",
    "mse_loss",
    "multiclass_hinge_loss",
    "nll_loss",
    "quantile_loss",
    "set_num_threads",
    "show_config",
    "softmax_cross_entropy",
]
