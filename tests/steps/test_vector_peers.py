"""Losses of vectors, and their oracles, against PyTorch and optax in float64: values and gradients by both sides."""

import numpy as np
import pytest

import fastseqloss as fsl
from reference.steps import OF_VECTORS

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
F = torch.nn.functional

N, V = 30, 9
REDUCTIONS = ("none", "sum", "mean")


def scores(seed):
    return np.random.default_rng(seed).normal(size=(N, V))


def shares(seed):
    return np.random.default_rng(seed).dirichlet(np.ones(V), N)


def check(function, x, y, theirs, reduction="none", **options):
    """Ours, the oracle and PyTorch's; `theirs` makes losses [N] of tensors."""
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in (x, y)]
    losses = theirs(*tensors)
    wanted = losses if reduction == "none" else getattr(losses, reduction)()
    wanted.sum().backward()
    slopes = [t.grad for t in tensors if t.grad is not None]
    if len(slopes) == 2:
        first = "predictions" if function is fsl.cosine_distance_loss else "logits"
        options["with_respect_to"] = (first, "targets")
    loss, gradients = function(x, y, reduction=reduction, return_grad=True, **options)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    np.testing.assert_allclose(loss, wanted.detach(), rtol=1e-10, atol=1e-14)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-13)
    options.pop("with_respect_to", None)
    oracle = OF_VECTORS[function.__name__](*(a.astype(np.longdouble) if a.dtype.kind == "f" else a for a in (x, y)),
                                           **options)  # fmt: skip
    np.testing.assert_allclose(oracle[0].astype(float), losses.detach(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_divergence(temperature, log_target, reduction):
    def theirs(x, y):
        return F.kl_div((x / temperature).log_softmax(-1), y, reduction="none", log_target=log_target).sum(-1)

    y = np.log(shares(1)) if log_target else shares(1)
    kind = "log_probs" if log_target else "probs"
    check(fsl.kl_divergence, scores(0), y, theirs, reduction, target_input=kind, temperature=temperature)


def test_average_over_the_batch():
    """PyTorch's "batchmean" is the mean over steps."""
    x, y = torch.tensor(scores(0)), torch.tensor(shares(1))
    theirs = F.kl_div(x.log_softmax(-1), y, reduction="batchmean")
    assert fsl.kl_divergence(x, y) == pytest.approx(theirs.item(), rel=1e-13)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kl_divergence_of_two_models(direction):
    def theirs(x, y):
        p, q = (x, y) if direction == "reverse" else (y, x)
        p, q = (p / 2).log_softmax(-1), (q / 2).log_softmax(-1)
        return (p.exp() * (p - q)).sum(-1)

    options = {"target_input": "logits", "temperature": 2.0, "direction": direction}
    check(fsl.kl_divergence, scores(0), scores(1), theirs, **options)


def test_kl_divergence_of_distributions_of_torch():
    d = torch.distributions
    p, q = shares(0), shares(1)
    theirs = d.kl_divergence(d.Categorical(torch.tensor(p)), d.Categorical(torch.tensor(q)))
    ours = fsl.kl_divergence(p, q, input="probs", direction="reverse", reduction="none")
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cosine_distance(reduction):
    def theirs(x, y):
        return F.cosine_embedding_loss(x, y, torch.ones(N), reduction="none")

    check(fsl.cosine_distance_loss, scores(0), scores(1), theirs, reduction)
    x, y = torch.tensor(scores(0)), torch.tensor(scores(1))
    ours = fsl.cosine_distance_loss(x, y, reduction="none")
    np.testing.assert_allclose(ours, 1 - F.cosine_similarity(x, y, dim=-1), rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_multilabel_margin(reduction, share):
    y = np.random.default_rng(2).random((N, V)) < share
    labels = np.full((N, V), -1)
    for row, given in zip(labels, y, strict=True):
        row[: given.sum()] = np.flatnonzero(given)

    def theirs(x, y):
        return F.multilabel_margin_loss(x, torch.tensor(labels), reduction="none")

    check(fsl.multilabel_margin_loss, scores(0), y, theirs, reduction)


def test_losses_of_optax():
    pytest.importorskip("optax", reason="the extra `peers` installs it")
    import jax
    import optax

    x, y, p = scores(0), scores(1), shares(1)
    classes = np.random.default_rng(3).integers(0, V, N)
    with jax.enable_x64(True):  # for this test alone
        log_p = jax.nn.log_softmax(x)
        for ours, theirs, given in (
            (fsl.sparsemax_loss, optax.losses.multiclass_sparsemax_loss, (x, classes)),
            (fsl.cosine_distance_loss, optax.losses.cosine_distance, (x, y)),
            (fsl.kl_divergence, lambda x, p: optax.losses.kl_divergence(jax.nn.log_softmax(x), p), (x, p)),
        ):
            loss, gradient = ours(*given, reduction="none", return_grad=True)
            np.testing.assert_allclose(loss, theirs(*given), rtol=1e-12, atol=1e-15)
            slopes = jax.grad(lambda x, loss=theirs, y=given[1]: loss(x, y).sum())(x)
            np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-14)
        ours = fsl.kl_divergence(log_p, p, input="log_probs", reduction="none")
        np.testing.assert_allclose(ours, optax.losses.kl_divergence(log_p, p), rtol=1e-12)
