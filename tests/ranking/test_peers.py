"""Losses over lists against the formulas of others in float64, differentiated by PyTorch, and against optax."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl
from ranking_cases import OPTIONS, WEIGHTED, random_case
from reference.ranking import PAIRS, TARGETS

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional


def _pairwise(cost):
    def loss(s, y, w, **options):
        preferred = y[:, None] > y[None, :]
        return (preferred * w[:, None] * cost(s[:, None] - s[None, :], **options)).sum()

    return loss


def _softmax(s, y, w):
    return -(w * y * s.log_softmax(0)).sum()


def _list_mle(s, y, w):
    ordered = s[torch.argsort(y, descending=True, stable=True)]
    return (ordered.flip(0).logcumsumexp(0).flip(0) - ordered).sum()


def _of_target(formula):
    def loss(s, t, w, **options):
        negatives = torch.cat([s[:t], s[t + 1 :]])
        return formula(s[t], negatives, negatives.softmax(0), **options) if len(negatives) else 0 * s.sum()

    return loss


FORMULAS = {
    "pairwise_hinge_loss": _pairwise(lambda d, margin=1.0: functional.relu(margin - d)),
    "pairwise_logistic_loss": _pairwise(lambda d: functional.softplus(-d)),
    "list_softmax_loss": _softmax,
    "list_mle_loss": _list_mle,
    "bpr_max_loss": _of_target(
        lambda t, x, q, regularization=0.0: -(q * (t - x).sigmoid()).sum().log() + regularization * (q * x**2).sum()
    ),
    "top1_max_loss": _of_target(lambda t, x, q: (q * ((x - t).sigmoid() + (x**2).sigmoid())).sum()),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_torch(name):
    rng = np.random.default_rng(0)
    for options in OPTIONS.get(name, [{}]):
        if "lambda_weight" in options:
            continue
        case = random_case(rng, name, (4, 13), lengths=True, holes=0.2, weighted=name in WEIGHTED, **options)
        loss, gradient = case.run(return_grad=True)
        total = 0.0
        for b, inside in enumerate(case.counting()):
            at = np.flatnonzero(inside)
            if not len(at):
                continue
            s = torch.tensor(case.scores[b, at], requires_grad=True)
            truth = int(np.searchsorted(at, case.truth[b])) if name in TARGETS else torch.tensor(case.truth[b, at])
            weight = torch.tensor(case.options["item_weight"][b, at]) if name in WEIGHTED else None
            value = FORMULAS[name](s, truth, weight, **options)
            value.backward()
            total += value.item()
            np.testing.assert_allclose(gradient[b, at], s.grad.numpy(), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(loss, total, rtol=1e-12)


def test_optax():
    losses = pytest.importorskip("optax", reason="the extra `peers` installs it").losses
    case = random_case(np.random.default_rng(1), "list_softmax_loss", (3, 9), dtype=np.float32)
    weight = np.random.default_rng(2).random((3, 9))
    theirs = losses.ranking_softmax_loss(case.scores, case.truth.astype(np.float32), weights=weight.astype(np.float32))
    np.testing.assert_allclose(case.run(reduction="mean", item_weight=weight), theirs, rtol=1e-6)


@pytest.mark.parametrize("name", [*PAIRS, "list_mle_loss"])
def test_rax(name):
    rax = pytest.importorskip("rax", reason="rax is not among the extras")
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4, 11)).astype(np.float32)
    relevance = np.float32(
        rng.permuted(np.tile(np.arange(11), (4, 1)), axis=1) % (11 if name == "list_mle_loss" else 4)
    )
    mask = rng.random((4, 11)) > 0.2
    theirs = getattr(rax, name.replace("list_mle", "listmle"))(scores, relevance, where=mask)
    np.testing.assert_allclose(getattr(fsl, name)(scores, relevance, mask=mask), theirs, rtol=1e-5)
    if name == "pairwise_logistic_loss":  # rax multiplies by the length of the list, padding included
        for way, normalize in (("dcg", False), ("ndcg", True)):
            lambdas = partial(rax.dcg_lambdaweight, normalize=normalize)
            theirs = rax.pairwise_logistic_loss(scores, relevance, lambdaweight_fn=lambdas)
            np.testing.assert_allclose(
                fsl.pairwise_logistic_loss(scores, relevance, lambda_weight=way), theirs, rtol=1e-5
            )
