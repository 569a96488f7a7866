"""Slow, readable oracles for the reward-weighted losses, returns and advantages, from their definitions."""

import numpy as np

from reference.steps import WIDE, Steps, counting, log_softmax, widened


def policy_steps(
    logits, actions, advantages, lengths=None, mask=None, *,
    old_log_probs=None, clip=(0.2, 0.2), entropy_coef=0.0, ref_log_probs=None, kl_coef=0.0,
) -> Steps:  # fmt: skip
    """Every step's loss and gradient; without old log-probabilities the plain policy gradient."""
    shape = logits.shape[:-1]
    counts = counting(shape, lengths, mask)
    found = Steps(np.zeros(shape, WIDE), np.zeros(logits.shape, WIDE), counts.astype(WIDE), np.ones(logits.shape, WIDE))
    if np.shape(advantages) != shape:
        advantages = np.broadcast_to(np.reshape(advantages, (-1,) + (1,) * (len(shape) - 1)), shape)
    for i in zip(*np.nonzero(counts), strict=True):
        row = widened(logits[i])
        log_p = log_softmax(row[None])[0][0]
        p, a, gain = np.exp(log_p), actions[i], WIDE(advantages[i])
        if old_log_probs is None:
            loss, slope = -gain * log_p[a], -gain
        else:
            ratio = np.exp(log_p[a] - WIDE(old_log_probs[i]))
            bounded = min(max(ratio, 1 - WIDE(clip[0])), 1 + WIDE(clip[1]))
            loss = -min(ratio * gain, bounded * gain)
            slope = -ratio * gain if ratio * gain <= bounded * gain else WIDE(0)
        if kl_coef:
            r = WIDE(ref_log_probs[i]) - log_p[a]
            loss += WIDE(kl_coef) * (np.expm1(r) - r)
            slope += WIDE(kl_coef) * -np.expm1(r)
        gradient = slope * ((np.arange(len(p)) == a) - p)
        seen = p > 0
        entropy = -(p[seen] * log_p[seen]).sum()
        found.size[i] = np.maximum(1, abs(slope) + WIDE(entropy_coef) * (1 + entropy))
        loss -= WIDE(entropy_coef) * entropy
        gradient[seen] += WIDE(entropy_coef) * p[seen] * (log_p[seen] + entropy)
        found.loss[i], found.gradient[i] = loss, gradient
    return found


def discounted_returns(rewards, discount, done, final) -> np.ndarray:
    """Of one sequence: each step's sum over all later ones, until an episode ends."""
    found = np.zeros(len(rewards))
    for t in range(len(rewards)):
        weight, ended = 1.0, False
        for k in range(t, len(rewards)):
            if not ended:
                found[t] += weight * rewards[k]
                weight, ended = weight * discount, bool(done[k])
        if not ended:
            found[t] += weight * final
    return found


def generalized_advantages(rewards, values, discount, decay, done, final) -> np.ndarray:
    """Of one sequence: the weighted sum of the later steps' surprises, until an episode ends."""
    n = len(rewards)
    following = np.append(values[1:], final) if n else values
    surprise = rewards + discount * np.where(done, 0, following) - values
    found = np.zeros(n)
    for t in range(n):
        for k in range(t, n):
            found[t] += (discount * decay) ** (k - t) * surprise[k]
            if done[k]:
                break
    return found


def expected_risk(log_probs, risks, sharpness) -> tuple[float, np.ndarray]:
    """Of one sequence, and its gradient."""
    weights = np.exp(sharpness * (widened(log_probs) - log_probs.max()))
    q = weights / weights.sum()
    risk = (q * risks).sum()
    return risk, sharpness * q * (risks - risk)
