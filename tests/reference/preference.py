"""Losses of preferences as their papers write them, one pair at a time, for log-probabilities of moderate size."""

import math


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def dpo(chosen, rejected, ref_chosen=0.0, ref_rejected=0.0, beta=0.1, kind="sigmoid", label_smoothing=0.0) -> float:
    """DPO with the smoothing of cDPO, IPO, and the calibration of SLiC."""

    def loss(apart: float) -> float:
        if kind == "ipo":
            return (apart - 1 / (2 * beta)) ** 2
        return -log_sigmoid(beta * apart) if kind == "sigmoid" else max(0.0, 1 - beta * apart)

    apart = (chosen - ref_chosen) - (rejected - ref_rejected)
    return (1 - label_smoothing) * loss(apart) + label_smoothing * loss(-apart)


def simpo(chosen, rejected, beta=2.0, margin=0.5, label_smoothing=0.0) -> float:
    apart = beta * (chosen - rejected) - margin
    return -(1 - label_smoothing) * log_sigmoid(apart) - label_smoothing * log_sigmoid(-apart)


def orpo(chosen, rejected, beta=0.1, nll_coef=1.0) -> float:
    odds = [math.exp(x) / -math.expm1(x) for x in (chosen, rejected)]
    return -nll_coef * chosen - beta * log_sigmoid(math.log(odds[0] / odds[1]))


def kto(log_prob, desirable, ref=0.0, kl=0.0, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0) -> float:
    gain = beta * (log_prob - ref - kl)
    if desirable:
        return desirable_weight * (1 - math.exp(log_sigmoid(gain)))
    return undesirable_weight * (1 - math.exp(log_sigmoid(-gain)))
