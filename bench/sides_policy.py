"""The clipped policy loss by each side: fastseqloss, and the PyTorch expression."""

from functools import cache

import numpy as np

import fastseqloss as fsl
from bench.contest import Limits, Row
from bench.sides_steps import Loss, classes, our_calls, random_row

WORKLOADS = {  # N, A
    "words32000": (1024, 32000),
    "words5000": (4096, 5000),
    "actions64": (65536, 64),
    "actions4": (262144, 4),
}
# Rounding x - max changes float32 probabilities by 4e-7 at scale 1 and 4e-6 at scale 10; weights of exp(r) amplify it.
LIMITS = Limits(gradient={1: 5e-7, 10: 5e-6})
CLIP, ENTROPY, KL = (0.2, 0.28), 0.01, 0.04


@cache
def constants(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return advantages, old and reference log-probabilities of steps of that shape, in float32."""
    rng = np.random.default_rng(1)
    advantages, old, ref = rng.standard_normal((3, *shape[:-1]), dtype=np.float32)
    return advantages, 0.3 * old - np.float32(np.log(shape[-1])), 0.3 * ref - np.float32(np.log(shape[-1]))


def ours(scores: np.ndarray, actions: np.ndarray, **options):
    """Call the loss with every term."""
    advantages, old, ref = constants(scores.shape)
    return fsl.clipped_policy_loss(
        scores, actions, old, advantages, clip=CLIP, entropy_coef=ENTROPY, ref_log_probs=ref, kl_coef=KL, **options
    )


def expression(scores, actions, reduction):
    """Compute the same in PyTorch, as training scripts do."""
    import torch

    advantages, old, ref = (torch.from_numpy(a).to(scores.dtype) for a in constants(tuple(scores.shape)))
    log_probs = torch.log_softmax(scores, -1)
    taken = log_probs.gather(-1, actions[..., None])[..., 0]
    ratio, r = (taken - old).exp(), ref - taken
    losses = -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP[0], 1 + CLIP[1]) * advantages)
    losses = losses + KL * (r.exp() - r - 1) + ENTROPY * (log_probs.exp() * log_probs).sum(-1)
    return losses if reduction == "none" else getattr(losses, reduction)()


LOSS = Loss(ours, expression, classes)


def rows() -> list[Row]:
    """List the workloads, from vocabularies to small action spaces."""
    return [random_row(name, LOSS, shape) for name, shape in WORKLOADS.items()]


def calls(name: str, threads: int):
    """List the calls of one workload that asv times."""
    return our_calls(LOSS, LOSS.batch(WORKLOADS[name]), threads)
