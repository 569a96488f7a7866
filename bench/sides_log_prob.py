"""Log-probabilities of sequences by each side: fastseqloss, and the PyTorch expression.

The gradient is that of a sum of the log-probabilities times slopes, or that of a preference loss.
"""

import numpy as np

import fastseqloss as fsl
from bench.contest import Limits, Row
from bench.sides_steps import Loss, classes, our_calls, random_row

WORKLOADS = {  # B, T, V
    "words32000": (8, 128, 32000),
    "words5000": (16, 256, 5000),
    "letters32": (64, 3000, 32),
}
LIMITS = Limits(gradient={1: 4e-7, 10: 4e-7})


def slopes(batch: int) -> np.ndarray:
    """Return the derivatives of a loss by the log-probabilities of a batch."""
    return np.random.default_rng(1).uniform(-1, 1, batch)


def ours(scores: np.ndarray, targets: np.ndarray, reduction: str = "mean", **options):
    """Call the function, with slopes if the gradient is requested; the sum of the products unless "none"."""
    factors = slopes(len(scores))
    if "grad_out" not in options and "return_grad" not in options:
        terms = fsl.sequence_log_prob(scores, targets, **options) * factors
        return terms if reduction == "none" else terms.sum()
    log_prob, gradient = fsl.sequence_log_prob(scores, targets, slopes=factors, **options)
    terms = log_prob * factors
    return (terms if reduction == "none" else terms.sum()), gradient


def expression(scores, targets, reduction):
    """Compute the same in PyTorch, as training scripts do."""
    import torch

    taken = torch.log_softmax(scores, -1).gather(-1, targets[..., None])[..., 0]
    terms = taken.sum(-1) * torch.from_numpy(slopes(len(scores))).to(scores.dtype)
    return terms if reduction == "none" else terms.sum()


LOSS = Loss(ours, expression, classes)


def preference(scores: np.ndarray, targets: np.ndarray, reduction: str = "mean", **options):
    """Call the step of DPO without a reference: the first half of the sequences is chosen, the second rejected."""
    log_prob = fsl.sequence_log_prob(scores, targets, num_threads=options.get("num_threads"))
    if "grad_out" not in options and "return_grad" not in options:
        return fsl.dpo_loss(*np.split(log_prob, 2), reduction=reduction)
    loss, slopes = fsl.dpo_loss(*np.split(log_prob, 2), reduction=reduction, return_grad=True)
    return loss, fsl.sequence_log_prob(scores, targets, slopes=np.concatenate(slopes), **options)[1]


def preference_expression(scores, targets, reduction):
    """Compute the same in PyTorch, as training scripts do."""
    import torch

    taken = torch.log_softmax(scores, -1).gather(-1, targets[..., None])[..., 0].sum(-1)
    chosen, rejected = taken.chunk(2)
    losses = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected))
    return losses if reduction == "none" else getattr(losses, reduction)()


PREFERENCE = Loss(preference, preference_expression, classes)
PAIRS = {"pairs32000": (16, 512, 32000), "pairs5000": (16, 256, 5000)}


def rows() -> list[Row]:
    """List the workloads, from vocabularies to letters, and the step of a preference loss."""
    pairs = [random_row(name, PREFERENCE, shape, few=(4, 32, shape[-1])) for name, shape in PAIRS.items()]
    return [random_row(name, LOSS, shape) for name, shape in WORKLOADS.items()] + pairs


def calls(name: str, threads: int):
    """List the calls of one workload that asv times."""
    loss, shape = (PREFERENCE, PAIRS[name]) if name in PAIRS else (LOSS, WORKLOADS[name])
    return our_calls(loss, loss.batch(shape), threads)
