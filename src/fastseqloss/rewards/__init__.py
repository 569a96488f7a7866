"""Reward-weighted losses, losses of preferences, and returns."""

from .groups import group_advantages
from .off_policy import VTraceReturns, retrace_returns, vtrace_returns
from .policy import clipped_policy_loss, policy_gradient_loss
from .preference import PreferenceGradient, dpo_loss, kto_loss, orpo_loss, simpo_loss
from .returns import discounted_returns, generalized_advantages, n_step_returns
from .risk import expected_risk_loss
from .terms import PolicyDiagnostics

__all__ = [
    "PolicyDiagnostics",
    "PreferenceGradient",
    "VTraceReturns",
    "clipped_policy_loss",
    "discounted_returns",
    "dpo_loss",
    "expected_risk_loss",
    "generalized_advantages",
    "group_advantages",
    "kto_loss",
    "n_step_returns",
    "orpo_loss",
    "policy_gradient_loss",
    "retrace_returns",
    "simpo_loss",
    "vtrace_returns",
]
