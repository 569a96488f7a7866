"""Losses of a vector of scores and a vector of targets at each step, by fastseqloss and PyTorch."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

import fastseqloss as fsl
from bench.contest import Limits, Row
from bench.sides_steps import Loss, classes, composed, random_row, reals

LIMITS = Limits(gradient={1: 2e-7, 10: 2e-6})  # a divergence has terms of the size of log-probabilities
SHAPES = {"1000": (6400, 1000), "32": (8192, 32)}  # N, V
LABELS = 0.01  # share of the classes that are labels, one or more


def shares(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    e = np.exp(rng.standard_normal(shape, dtype=np.float32))
    return e / e.sum(axis=-1, keepdims=True)


def labels(rng: np.random.Generator, shape: tuple[int, ...], share: float = LABELS) -> np.ndarray:
    few = (rng.random(shape) < share).astype(np.float32)
    few[:, 0] = 1
    return few


def torch_kl(x: Any, y: Any, reduction: str) -> Any:
    import torch

    log_p = x.log_softmax(-1)
    if reduction == "none":
        return torch.nn.functional.kl_div(log_p, y, reduction="none").sum(-1)
    return torch.nn.functional.kl_div(log_p, y, reduction="batchmean" if reduction == "mean" else "sum")


def torch_reverse_kl(x: Any, y: Any) -> Any:
    log_p = x.log_softmax(-1)
    return (log_p.exp() * (log_p - y.log())).sum(-1)


def torch_cosine(x: Any, y: Any) -> Any:
    import torch

    return 1 - torch.nn.functional.cosine_similarity(x, y, dim=-1)


def torch_sparsemax(x: Any, y: Any) -> Any:
    """Return the loss by sorting, as in the package entmax."""
    import torch

    ordered = x.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(-1) - 1
    places = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    size = (places * ordered > sums).sum(-1, keepdim=True)
    p = (x - sums.gather(-1, size - 1) / size).relu()
    return (p * x).sum(-1) - (p * p).sum(-1) / 2 + 0.5 - x.gather(-1, y[..., None]).squeeze(-1)


_of_labels = {}


def torch_multilabel(x: Any, y: Any, reduction: str) -> Any:
    """Return PyTorch's loss of lists of labels, which are made once."""
    import torch

    key = y.data_ptr(), tuple(y.shape)
    if key not in _of_labels:
        places = torch.arange(y.shape[-1]).expand(y.shape)
        listed = torch.where(y > 0, places, y.shape[-1]).sort(-1).values
        _of_labels[key] = torch.where(listed == y.shape[-1], -1, listed)
    return torch.nn.functional.multilabel_margin_loss(x, _of_labels[key].to(x.device), reduction=reduction)


LOSSES = {
    "kl_divergence": Loss(fsl.kl_divergence, torch_kl, shares),
    "reverse_kl_divergence": Loss(partial(fsl.kl_divergence, direction="reverse"), composed(torch_reverse_kl), shares),
    "cosine_distance": Loss(fsl.cosine_distance_loss, composed(torch_cosine), reals),
    "sparsemax": Loss(fsl.sparsemax_loss, composed(torch_sparsemax), classes),
    "multilabel_margin": Loss(fsl.multilabel_margin_loss, torch_multilabel, labels),
}
MANY = Loss(fsl.multilabel_margin_loss, torch_multilabel, partial(labels, share=0.5))


@cache
def workloads() -> dict[str, tuple[Loss, tuple[int, int]]]:
    """Return losses and shapes of the scores, by name."""
    made = {f"{name}_{size}": (loss, shape) for name, loss in LOSSES.items() for size, shape in SHAPES.items()}
    return made | {"many_labels_1000": (MANY, (256, 1000))}


def rows() -> list[Row]:
    """List the workloads, timed with ``grad_out`` only."""
    return [random_row(name, loss, shape, ["grad_out"]) for name, (loss, shape) in workloads().items()]
