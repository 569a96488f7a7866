"""Losses of lists of items: pairs, orders, and recommendation by a target and negatives."""

from .listwise import list_mle_loss, list_softmax_loss
from .pairwise import pairwise_hinge_loss, pairwise_logistic_loss
from .sampled import bpr_max_loss, top1_max_loss

__all__ = [
    "bpr_max_loss",
    "list_mle_loss",
    "list_softmax_loss",
    "pairwise_hinge_loss",
    "pairwise_logistic_loss",
    "top1_max_loss",
]
