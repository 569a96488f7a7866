"""Reward-weighted losses and returns."""

from .policy import clipped_policy_loss, policy_gradient_loss
from .returns import discounted_returns, generalized_advantages
from .risk import expected_risk_loss

__all__ = [
    "clipped_policy_loss",
    "discounted_returns",
    "expected_risk_loss",
    "generalized_advantages",
    "policy_gradient_loss",
]
