"""Slow, readable oracles for the losses over lists, from their definitions: of one list, in float64."""

import numpy as np


def _pairs(y):
    """Masks [N, N] of the pairs (i, j) in which item i is preferred to item j."""
    return y[:, None] > y[None, :]


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _softmax(s):
    e = np.exp(s - s.max())
    return e / e.sum()


def _of_pairs(slopes):
    """Gradient by the scores, given the slopes by the differences s_i - s_j."""
    return slopes.sum(axis=1) - slopes.sum(axis=0)


def lambdas(s, y, normalized):
    """Weights of pairs by the change of DCG."""
    rank = np.empty(len(s))
    rank[np.argsort(-s, kind="stable")] = np.arange(1, len(s) + 1)
    gain, discount = 2.0**y - 1, 1 / np.log2(1 + rank)
    if normalized:
        ideal = (np.sort(gain)[::-1] / np.log2(np.arange(2, len(s) + 2))).sum()
        gain = gain / ideal if ideal else 0 * gain
    return len(s) * np.abs(gain[:, None] - gain) * np.abs(discount[:, None] - discount)


def pairwise_hinge(s, y, weight, margin=1.0):
    """Loss, gradient and number of pairs."""
    difference = s[:, None] - s[None, :]
    # A pair costs something by the same rounded comparison as in the definition of the kernel.
    costs = _pairs(y) & (s[None, :] > s[:, None] - margin)
    loss = (weight[:, None] * np.where(costs, margin - difference, 0)).sum()
    return loss, _of_pairs(np.where(costs, -weight[:, None], 0)), _pairs(y).sum()


def pairwise_logistic(s, y, weight, lambda_weight=None):
    """Loss, gradient and number of pairs."""
    difference = s[:, None] - s[None, :]
    factor = _pairs(y) * weight[:, None]
    if lambda_weight is not None:
        factor = factor * lambdas(s, y, lambda_weight == "ndcg")
    return (factor * _softplus(-difference)).sum(), _of_pairs(-factor * _sigmoid(-difference)), _pairs(y).sum()


def list_softmax(s, y, weight):
    """Loss, gradient, and 1 for a list with items."""
    if not len(s):
        return 0.0, np.zeros(0), 0
    labels = y * weight
    p = _softmax(s)
    with np.errstate(divide="ignore"):
        log_p = s - s.max() - np.log(np.exp(s - s.max()).sum())
    return -(labels * log_p).sum(), labels.sum() * p - labels, 1


def list_mle(s, y, weight=None):
    """Loss, gradient, and 1 for a list with items."""
    order = np.argsort(-y, kind="stable")
    loss, gradient = 0.0, np.zeros(len(s))
    for k, i in enumerate(order):
        rest = order[k:]
        most = s[rest].max()
        loss += most + np.log(np.exp(s[rest] - most).sum()) - s[i]
        gradient[rest] += _softmax(s[rest])
        gradient[i] -= 1
    return loss, gradient, int(len(s) > 0)


def bpr_max(s, target, weight=None, regularization=0.0):
    """Loss, gradient, and 1; q_j a_j in logarithms."""
    others = np.flatnonzero(np.arange(len(s)) != target)
    gradient = np.zeros(len(s))
    if not len(others):
        return 0.0, gradient, 1
    x, t = s[others], s[target]
    q, log_a = _softmax(x), -_softplus(x - t)
    terms = x - x.max() + log_a
    shares = _softmax(terms)  # q_j a_j / A
    log_total = terms.max() + np.log(np.exp(terms - terms.max()).sum()) - np.log(np.exp(x - x.max()).sum())
    square = (q * x**2).sum()
    gradient[others] = q - shares * np.exp(log_a) + regularization * q * (x**2 - square + 2 * x)
    gradient[target] = -(shares * _sigmoid(x - t)).sum()
    return -log_total + regularization * square, gradient, 1


def top1_max(s, target, weight=None):
    """Loss, gradient, and 1."""
    others = np.flatnonzero(np.arange(len(s)) != target)
    gradient = np.zeros(len(s))
    if not len(others):
        return 0.0, gradient, 1
    x, t = s[others], s[target]
    q, b, c = _softmax(x), _sigmoid(x - t), _sigmoid(x**2)
    loss = (q * (b + c)).sum()
    gradient[others] = q * (b + c - loss + b * (1 - b) + 2 * x * c * (1 - c))
    gradient[target] = -(q * b * (1 - b)).sum()
    return loss, gradient, 1


LOSSES = {
    "pairwise_hinge_loss": pairwise_hinge,
    "pairwise_logistic_loss": pairwise_logistic,
    "list_softmax_loss": list_softmax,
    "list_mle_loss": list_mle,
    "bpr_max_loss": bpr_max,
    "top1_max_loss": top1_max,
}
PAIRS = ("pairwise_hinge_loss", "pairwise_logistic_loss")
TARGETS = ("bpr_max_loss", "top1_max_loss")
