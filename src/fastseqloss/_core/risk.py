"""Expected risk of candidates, from the logarithms of their probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RISK_REDUCTIONS = ("none", "sum", "mean")


class ExpectedRisk(NamedTuple):
    """Expected risks, and the factors of their derivatives by the log-probabilities of the candidates."""

    risk: NDArray[np.float64]  # [B]
    share: NDArray[np.float64]  # [B, N], of each candidate in the probability
    half_excess: NDArray[np.float64]  # [B, N], half of the risk beyond the expected one


def expected_risk(x: NDArray[np.float64], risks: NDArray[np.float64], alpha: float) -> ExpectedRisk:
    """Return the expected risks of candidates of log-probabilities `x` [B, N]; derivatives are 2 alpha share excess."""
    most = x.max(axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(all="ignore"):
        # Halves of scores and risks, which are exact, because differences of finite numbers may overflow.
        below = x / 2 - np.where(most == -np.inf, 0, most) / 2
        odds = np.exp(alpha * below * 2)
        total = odds.sum(axis=1, keepdims=True)
        share = odds / np.where(total == 0, 1, total)
        half = (share * (risks / 2)).sum(axis=1)
        return ExpectedRisk(half * 2, share, risks / 2 - half[:, None])
