"""Derivatives of losses of tensors: of whatever order, mode and precision."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import REDUCTIONS, STEP_REDUCTIONS, assert_close, every_loss, logits, problem  # noqa: E402


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", [fst.ctc_loss, fst.ctc_loss_from_logits])
def test_gradcheck_ctc(loss, reduction):
    arguments = *problem(), 0, reduction
    assert torch.autograd.gradcheck(lambda x: loss(x, *arguments), logits())
    log_probs = logits().detach().log_softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *arguments), log_probs)


@pytest.mark.parametrize("reduction", STEP_REDUCTIONS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5), (2, 3, 2, 5)])
def test_gradcheck_cross_entropy(reduction, shape):
    targets = torch.from_numpy(np.random.default_rng(0).integers(0, 5, shape[:-1]))
    options = {"class_weight": torch.rand(5).double(), "label_smoothing": 0.1, "z_loss": 0.01, "reduction": reduction}
    if len(shape) == 3:
        options["lengths"] = [4, 2, 0]
    assert torch.autograd.gradcheck(lambda x: fst.softmax_cross_entropy(x, targets, **options), logits(shape))
    mixed = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(5), shape[:-1]))
    assert torch.autograd.gradcheck(lambda x: fst.softmax_cross_entropy(x, mixed, reduction=reduction), logits(shape))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean"])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck_crf(reduction, ends, weighted):
    tags = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (3, 4)))
    weight = torch.tensor([0.5, 2.0, 1.0]) if weighted else None

    def loss(x, transitions, *others):
        start, end = others or (None, None)
        return fst.crf_loss(
            x, tags, transitions, [4, 2, 0], start=start, end=end, reduction=reduction, sample_weight=weight
        )

    inputs = [logits((3, 4, 3)), logits((3, 3)), *([logits((3,)), logits((3,))] if ends else [])]
    assert torch.autograd.gradcheck(loss, inputs)


@every_loss
def test_scaled_and_again(loss):
    """Two passes through one graph, each scaled by what comes in; the sums are right."""
    x = logits()
    plain = torch.autograd.grad(loss(x), x)[0]
    assert plain.any()
    value = loss(x)
    (value * -3).backward(retain_graph=True)
    assert_close(x.grad, -3 * plain, 1e-14)
    first = x.grad
    value.backward()
    assert_close(x.grad, -2 * plain, 1e-14)
    assert x.grad is first
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


@every_loss
def test_differentiable_once(loss):
    x = logits()
    (gradient,) = torch.autograd.grad(loss(x), x, create_graph=True)
    assert_close(gradient, torch.autograd.grad(loss(x), x)[0], 0)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        gradient.pow(2).sum().backward()
    (gradient,) = torch.autograd.grad(loss(x * 1), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        torch.autograd.grad((gradient * x).sum(), x)
    total = loss(x) + x.pow(3).sum()  # nor may a second derivative silently lack a part
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        torch.autograd.grad(gradient.sum(), x)


@every_loss
def test_loss_alone(loss, monkeypatch):
    """Nothing computes a gradient that nobody wants."""
    from fastseqloss import _autograd

    for name in ("_Loss",):
        monkeypatch.setattr(_autograd, name, None)
    expected = loss(logits().detach())
    assert not expected.requires_grad
    with torch.no_grad():
        assert loss(logits()) == expected
    with torch.inference_mode():
        assert loss(logits()) == expected
