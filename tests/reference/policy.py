"""Slow, readable oracles for the reward-weighted losses, returns and advantages, from their definitions."""

import numpy as np

from reference.steps import WIDE, Steps, counting, log_softmax, widened


def policy_steps(
    logits, actions, advantages, lengths=None, mask=None, *,
    old_log_probs=None, clip=(0.2, 0.2), kind="ppo", dual_clip=None, entropy_coef=0.0, entropy_mask=None,
    ref_log_probs=None, kl_coef=0.0, kl_kind="k3", max_log_ratio=None,
) -> Steps:  # fmt: skip
    """Every step's loss and gradient; without old log-probabilities the plain policy gradient."""
    shape = logits.shape[:-1]
    counts = counting(shape, lengths, mask)
    found = Steps(np.zeros(shape, WIDE), np.zeros(logits.shape, WIDE), counts.astype(WIDE), np.ones(logits.shape, WIDE))
    if np.shape(advantages) != shape:
        advantages = np.broadcast_to(np.reshape(advantages, (-1,) + (1,) * (len(shape) - 1)), shape)
    log_ps = {i: log_softmax(widened(logits[i])[None])[0][0] for i in zip(*np.nonzero(counts), strict=True)}
    most = np.inf if max_log_ratio is None else WIDE(max_log_ratio)
    for i, log_p in log_ps.items():
        p, a, gain = np.exp(log_p), actions[i], WIDE(advantages[i])
        if old_log_probs is None:
            loss, slope = -gain * log_p[a], -gain
        else:
            of = [i] if kind != "gspo" else [j for j in log_ps if j[0] == i[0]]
            apart = np.mean([log_ps[j][actions[j]] - WIDE(old_log_probs[j]) for j in of])
            loss, slope = _surrogate(min(max(apart, -most), most), gain, log_p[a], clip, kind, dual_clip)
            slope *= kind == "cispo" or abs(apart) <= most
        if kl_coef:
            r = WIDE(ref_log_probs[i]) - log_p[a]
            inside, r = abs(r) <= most, min(max(r, -most), most)
            loss += WIDE(kl_coef) * {"k1": -r, "k2": r**2 / 2, "k3": np.expm1(r) - r}[kl_kind]
            slope += WIDE(kl_coef) * inside * {"k1": 1, "k2": -r, "k3": -np.expm1(r)}[kl_kind]
        gradient = slope * ((np.arange(len(p)) == a) - p)
        seen = p > 0
        entropy = -(p[seen] * log_p[seen]).sum()
        bonus = WIDE(entropy_coef) * (entropy_mask is None or bool(entropy_mask[i]))
        found.size[i] = np.maximum(1, abs(slope) + bonus * (1 + entropy))
        loss -= bonus * entropy
        gradient[seen] += bonus * p[seen] * (log_p[seen] + entropy)
        found.loss[i], found.gradient[i] = loss, gradient
    return found


def _surrogate(apart, gain, log_prob, clip, kind, dual_clip):
    """The first term, and its derivative by the log-probability of the action, for the logarithm of a ratio."""
    ratio = np.exp(apart)
    clipped = min(max(ratio, 1 - WIDE(clip[0])), 1 + WIDE(clip[1]))
    if kind == "cispo":
        return -clipped * gain * log_prob, -clipped * gain
    worth = min(ratio * gain, clipped * gain)
    if dual_clip is not None and gain < 0:
        worth = max(worth, WIDE(dual_clip) * gain)
    return -worth, -ratio * gain if worth == ratio * gain else WIDE(0)


def discounted_returns(rewards, discount, done, final) -> np.ndarray:
    """For one sequence: the sum of each step over all later ones, until an episode ends."""
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
    """For one sequence: the weighted sum of the later temporal differences, until an episode ends."""
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
    """Expected risk of one sequence, and its gradient."""
    weights = np.exp(sharpness * (widened(log_probs) - log_probs.max()))
    q = weights / weights.sum()
    risk = (q * risks).sum()
    return risk, sharpness * q * (risks - risk)


def returns_of_states(rewards, values, discounts, ends, after, n) -> np.ndarray:
    """For one sequence, the returns of n steps; `after` has the value after each step that ends or is cut off."""
    found = np.zeros(len(rewards))
    for t in range(len(rewards)):
        weight = 1.0
        for k in range(t, len(rewards)):
            found[t] += weight * rewards[k]
            weight *= discounts[k]
            last = k + 1 == len(rewards)
            if ends[k] or last:
                found[t] += weight * after[k]
                break
            if k + 1 - t == n:
                found[t] += weight * values[k + 1]
                break
    return found


def advantages_of_states(rewards, values, discounts, decays, ends, after) -> np.ndarray:
    """For one sequence, generalized advantages with a discount and a decay for each step."""
    n = len(rewards)
    found = np.zeros(n)
    for t in range(n):
        weight = 1.0
        for k in range(t, n):
            stops = ends[k] or k + 1 == n
            found[t] += weight * (rewards[k] + discounts[k] * (after[k] if stops else values[k + 1]) - values[k])
            weight *= discounts[k] * decays[k]
            if stops:
                break
    return found


def vtrace(rewards, values, ratios, discounts, decays, bounds, ends, after) -> tuple[np.ndarray, np.ndarray]:
    """For one sequence: definition (1) of the paper, a sum over the later steps; and the advantages."""
    n = len(rewards)
    rho, c = np.minimum(bounds[0], ratios), decays * np.minimum(bounds[1], ratios)
    targets = np.array(values)
    for s in range(n):
        weight = 1.0
        for t in range(s, n):
            stops = ends[t] or t + 1 == n
            following = after[t] if stops else values[t + 1]
            targets[s] += weight * rho[t] * (rewards[t] + discounts[t] * following - values[t])
            weight *= discounts[t] * c[t]
            if stops:
                break
    gains = np.zeros(n)
    for t in range(n):
        following = after[t] if ends[t] or t + 1 == n else targets[t + 1]
        gains[t] = rho[t] * (rewards[t] + discounts[t] * following - values[t])
    return targets, gains


def retrace(rewards, action_values, values, ratios, discounts, decays, ends, after) -> np.ndarray:
    """For one sequence: definition (4) of the paper, a sum over the later steps."""
    n, c = len(rewards), decays * np.minimum(1, ratios)
    found = np.array(action_values)
    for s in range(n):
        weight = 1.0
        for t in range(s, n):
            if t > s:
                weight *= c[t]
            stops = ends[t] or t + 1 == n
            following = after[t] if stops else values[t + 1]
            found[s] += weight * (rewards[t] + discounts[t] * following - action_values[t])
            weight *= discounts[t]
            if stops:
                break
    return found
