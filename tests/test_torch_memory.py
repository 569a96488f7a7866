"""Memory of tensors: shared, let go, and changed by its owner."""

import gc
import weakref

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import FLOATS, B, T, V, every_loss, logits, problem  # noqa: E402


@every_loss
def test_changed_in_between(loss):
    """PyTorch notices when a pass would compute with scores that have been changed since."""
    x = logits()
    y = x * 1
    value = loss(y)
    torch.autograd.grad(value, x, retain_graph=True)
    with torch.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("dtype", FLOATS[2:])
def test_memory_is_shared(monkeypatch, dtype):
    """What the kernel's caller gets is the tensor's memory, and the gradient's memory is what it returned."""
    seen = {}
    real = fst._ctc_loss

    def spy(scores, *arguments, **options):
        result = real(scores, *arguments, **options)
        seen["scores"], seen["gradient"] = scores.ctypes.data, result[1].ctypes.data
        return result

    monkeypatch.setattr(fst, "_ctc_loss", spy)
    x = logits(dtype=dtype)
    fst.ctc_loss_from_logits(x, *problem(), reduction="sum").backward()
    assert seen == {"scores": x.data_ptr(), "gradient": x.grad.data_ptr()}
    x.grad = None
    (fst.ctc_loss_from_logits(x, *problem(), reduction="sum") * 0.5).backward()  # scaled where it is
    assert seen == {"scores": x.data_ptr(), "gradient": x.grad.data_ptr()}


@pytest.mark.parametrize("dtype", FLOATS[:2])
@pytest.mark.parametrize("name", ["_ctc_loss", "_softmax_cross_entropy"])
def test_half_precision_takes_one_array(monkeypatch, dtype, name):
    """The gradient is written over the copy of the scores in float32."""
    seen = []
    real = getattr(fst, name)

    def spy(scores, *arguments, **options):
        result = real(scores, *arguments, **options)
        seen.append((scores.dtype, result[1].dtype, scores.ctypes.data == result[1].ctypes.data))
        return result

    monkeypatch.setattr(fst, name, spy)
    x = logits(dtype=dtype)
    if name == "_ctc_loss":
        loss = fst.ctc_loss_from_logits(x, *problem())
    else:
        loss = fst.softmax_cross_entropy(x, torch.ones(T, B, dtype=torch.int64))
    loss.backward()
    assert seen == [(np.float32, np.float32, True)]
    assert x.grad.dtype == dtype


@every_loss
def test_scores_are_let_go(loss, monkeypatch):
    """Who keeps a loss after its backward pass keeps no scores."""
    seen = []
    for name in ("_ctc_loss", "_softmax_cross_entropy", "_crf_loss"):
        real = getattr(fst, name)
        monkeypatch.setattr(fst, name, lambda x, *a, real=real, **b: (seen.append(weakref.ref(x)), real(x, *a, **b))[1])
    value = loss(logits())
    value.backward()
    gc.collect()
    assert seen
    assert not any(reference() is not None for reference in seen)


def test_memory_is_shared_by_the_crf():
    x, transitions = logits((3, 4, 3)), logits((3, 3))
    loss = fst.crf_loss(x, torch.zeros(3, 4, dtype=torch.int64), transitions)
    kept = {gradient.data_ptr() for gradient in loss.grad_fn.gradients[:2]}
    loss.backward()
    assert kept == {x.grad.data_ptr(), transitions.grad.data_ptr()}


def test_gradient_keeps_the_order_of_axes():
    """So that PyTorch takes it as it is: time-major and batch-major leaves."""
    for x in (logits(), logits((B, T, V)).detach().transpose(0, 1).requires_grad_()):
        fst.ctc_loss_from_logits(x, *problem()).backward()
        assert x.grad.stride() == x.stride()
