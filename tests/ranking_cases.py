"""Random lists for the losses over lists, and the comparison with the references."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastseqloss as fsl
from reference.ranking import LOSSES, PAIRS, TARGETS

NAMES = tuple(LOSSES)
WEIGHTED = (*PAIRS, "list_softmax_loss")
REDUCTIONS = {
    name: ("per_sequence", "sum", "mean", "sequence_mean") if name in PAIRS else ("none", "sum", "mean")
    for name in NAMES
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "pairwise_hinge_loss": [{}, {"margin": 0.0}, {"margin": 0.5}],
    "pairwise_logistic_loss": [{}, {"lambda_weight": "dcg"}, {"lambda_weight": "ndcg"}],
    "bpr_max_loss": [{}, {"regularization": 0.7}],
}


@dataclass
class Case:
    """A batch of lists; the items that do not count are NaN or junk."""

    name: str
    scores: np.ndarray
    truth: np.ndarray  # relevance or targets
    lengths: np.ndarray | None
    mask: np.ndarray | None
    options: dict[str, Any]
    reducing: dict[str, Any] = field(default_factory=lambda: {"reduction": "sum"})

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a call, by name."""
        given = {"scores": self.scores, "targets" if self.name in TARGETS else "relevance": self.truth}
        given |= {"lengths": self.lengths, "mask": self.mask} | self.options | self.reducing
        return {name: value for name, value in given.items() if value is not None}

    def run(self, **changed: Any) -> Any:
        """Call the loss."""
        return getattr(fsl, self.name)(**self.arguments | changed)

    def counting(self) -> np.ndarray:
        """The items that count."""
        inside = np.ones(self.scores.shape, bool)
        if self.lengths is not None:
            inside &= np.arange(inside.shape[1]) < self.lengths[:, None]
        return inside if self.mask is None else inside & self.mask

    def expected(self) -> tuple[Any, np.ndarray]:
        """Reduced loss and gradient by the reference, in float64."""
        inside, batch = self.counting(), len(self.scores)
        options = {name: value for name, value in self.options.items() if name != "item_weight"}
        weights = self.options.get("item_weight", np.ones(self.scores.shape))
        losses, gradient, counts = np.zeros(batch), np.zeros(self.scores.shape), np.zeros(batch)
        for b in range(batch):
            at = np.flatnonzero(inside[b])
            if not len(at):
                continue
            s = self.scores[b, at].astype(np.float64)
            truth = int(np.flatnonzero(at == self.truth[b])[0]) if self.name in TARGETS else self.truth[b, at] * 1.0
            loss, slopes, counts[b] = LOSSES[self.name](s, truth, weights[b, at], **options)
            losses[b], gradient[b, at] = loss, slopes
        return self._reduced(losses, gradient, counts)

    def _reduced(self, losses, gradient, counts) -> tuple[Any, np.ndarray]:
        weight = self.reducing.get("sample_weight", np.ones(len(losses)))
        scale, reduction = weight.copy(), self.reducing["reduction"]
        if reduction == "sum":
            scale /= self.reducing.get("normalizer", 1)
        elif reduction == "mean":
            scale *= 1 / (weight * counts).sum() if (weight * counts).sum() else 0
        elif reduction == "sequence_mean":
            scale *= 1 / weight.sum() if weight.sum() else 0
            scale = np.divide(scale, counts, out=np.zeros(len(scale)), where=counts > 0)
        each = losses * scale
        return each if reduction in ("none", "per_sequence") else each.sum(), gradient * scale[:, None]

    def check(self, loss, gradient, tolerance: float | None = None) -> None:
        """Compare with the reference, relative to the size of the sums."""
        value, slopes = self.expected()
        if tolerance is None:
            tolerance = {2: 2e-2, 4: 2e-5, 8: 1e-11}[self.scores.itemsize]
        size = max(1.0, float(np.max(np.abs(value), initial=0)))
        np.testing.assert_allclose(loss, value, rtol=0, atol=min(tolerance, 1e-6) * size)
        steep = max(1.0, float(np.abs(slopes).max(initial=0)))
        with np.errstate(over="ignore"):  # beyond the range of float16
            slopes = slopes.astype(gradient.dtype).astype(np.float64)
        np.testing.assert_allclose(gradient.astype(np.float64), slopes, rtol=0, atol=tolerance * steep)


def random_case(
    rng, name, shape, *, dtype=np.float64, scale=1.0, levels=3, lengths=False, holes=0.0, weighted=False, **options
) -> Case:
    """A batch of lists of this shape. With 0 levels, relevance is continuous."""
    batch, n = shape
    scores = rng.normal(scale=scale, size=shape).astype(dtype)
    if n > 2:
        scores[:, 1] = scores[:, 0]  # a tie
    sizes = rng.integers(0, n, batch, endpoint=True) if lengths else None
    mask = rng.random(shape) >= holes if holes else None
    truth = rng.random(shape) if levels == 0 else rng.integers(0, levels, shape).astype(float)
    if weighted:
        options["item_weight"] = rng.choice([0.0, 0.5, 1.0, 3.0], shape)
    case = Case(name, scores, truth, sizes, mask, options)
    inside = case.counting()
    scores[~inside] = np.nan
    if name in TARGETS:
        chances = inside + 1e-9 * ~inside
        case.truth = np.array([rng.choice(n, p=row / row.sum()) if n else 0 for row in chances], np.int64)
        case.truth[~inside.any(axis=1)] = -77
    else:
        truth[~inside] = np.nan
    if "item_weight" in options:
        options["item_weight"][~inside] = np.nan
    return case
