"""Losses at every step of padded sequences."""

from .classification import binary_cross_entropy, nll_loss, softmax_cross_entropy
from .margin import hinge_loss, multiclass_hinge_loss
from .regression import huber_loss, mae_loss, mse_loss, quantile_loss

__all__ = [
    "binary_cross_entropy",
    "hinge_loss",
    "huber_loss",
    "mae_loss",
    "mse_loss",
    "multiclass_hinge_loss",
    "nll_loss",
    "quantile_loss",
    "softmax_cross_entropy",
]
