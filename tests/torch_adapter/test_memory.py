"""Memory of tensors: shared, let go, and changed by its owner."""

import copy
import gc
import weakref
from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from fastseqloss.torch import functions  # noqa: E402
from thoroughness import spread  # noqa: E402
from torch_cases import FLOATS, B, T, V, every_loss, logits, problem  # noqa: E402


def watch(monkeypatch, spy):
    """Call `spy` instead of the NumPy functions, which it gets as its first argument."""
    real = functions.Loss
    for module in (fst, functions):
        monkeypatch.setattr(module, "Loss", lambda function, *a, **b: real(partial(spy, function), *a, **b))


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
    """The kernel's caller receives the memory of the tensor, and the gradient has the memory that it returned."""
    seen = {}

    def spy(real, scores, *arguments, **options):
        result = real(scores, *arguments, **options)
        seen["scores"], seen["gradient"] = scores.ctypes.data, result[1].ctypes.data
        return result

    watch(monkeypatch, spy)
    x = logits(dtype=dtype)
    fst.ctc_loss_from_logits(x, *problem(), reduction="sum").backward()
    assert seen == {"scores": x.data_ptr(), "gradient": x.grad.data_ptr()}
    x.grad = None
    (fst.ctc_loss_from_logits(x, *problem(), reduction="sum") * 0.5).backward()  # scaled where it is
    assert seen == {"scores": x.data_ptr(), "gradient": x.grad.data_ptr()}


@pytest.mark.parametrize("dtype", FLOATS[:2])
@pytest.mark.parametrize("name", ["ctc_loss", "softmax_cross_entropy"])
def test_half_precision_takes_one_array(monkeypatch, dtype, name):
    """The gradient is written over the copy of the scores in float32."""
    seen = []

    def spy(real, scores, *arguments, **options):
        result = real(scores, *arguments, **options)
        seen.append((scores.dtype, result[1].dtype, scores.ctypes.data == result[1].ctypes.data))
        return result

    watch(monkeypatch, spy)
    x = logits(dtype=dtype)
    if name == "ctc_loss":
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

    def spy(real, *given, **named):
        seen.append(weakref.ref([*given, *named.values()][0]))
        return real(*given, **named)

    watch(monkeypatch, spy)
    value = loss(logits())
    value.backward()
    gc.collect()
    assert seen
    assert not any(reference() is not None for reference in seen)


def test_memory_is_shared_by_the_crf():
    x, transitions = logits((3, 4, 3)), logits((3, 3))
    loss = fst.crf_loss(x, torch.zeros(3, 4, dtype=torch.int64), transitions)
    kept = {gradient.ctypes.data for gradient in loss.grad_fn.call.gradients[:2]}
    loss.backward()
    assert kept == {x.grad.data_ptr(), transitions.grad.data_ptr()}


def test_gradient_keeps_the_order_of_axes():
    """So that PyTorch takes it as it is: time-major and batch-major leaves."""
    for x in (logits(), logits((B, T, V)).detach().transpose(0, 1).requires_grad_()):
        fst.ctc_loss_from_logits(x, *problem()).backward()
        assert x.grad.stride() == x.stride()


# ---- arguments that their owner changes -----------------------------------------------------------------------------

TAGS = [[0, 1, 2, 2], [1, 1, 0, 2], [2, 0, 1, 1]]
CHANGING = {  # a loss of scores [3, 4, 3], and its other arguments, with others that are allowed too
    "ctc_loss": (
        lambda x, given, r: fst.ctc_loss(x.transpose(0, 1), *given.values(), reduction=r),
        {
            "targets": ([[1, 2], [1, 1], [2, 1]], [[2, 1], [2, 2], [1, 2]]),
            "input_lengths": ([4, 4, 3], [3, 3, 4]),
            "target_lengths": ([2, 1, 2], [1, 2, 1]),
        },
    ),
    "softmax_cross_entropy": (
        lambda x, given, r: fst.softmax_cross_entropy(x, **given, reduction=r),
        {
            "targets": (TAGS, [[0] * 4] * 3),
            "lengths": ([4, 2, 3], [1, 1, 4]),
            "mask": ([[True, True, False, True]] * 3, [[False, True, True, True]] * 3),
            "class_weight": ([1.0, 2.0, 0.5], [3.0, 3.0, 3.0]),
            "sample_weight": ([1.0, 2.0, 0.5], [3.0, 0.0, 3.0]),
        },
    ),
    "crf_loss": (
        lambda x, given, r: fst.crf_loss(x, transitions=x.detach()[0, :3] * 1, **given, reduction=r),
        {
            "tags": (TAGS, [[0] * 4] * 3),
            "lengths": ([4, 2, 3], [1, 1, 4]),
            "sample_weight": ([1.0, 2.0, 0.5], [3.0, 0.0, 3.0]),
        },
    ),
    "crf_loss, mask": (
        lambda x, given, r: fst.crf_loss(x, transitions=x.detach()[0, :3] * 1, **given, reduction=r),
        {"tags": (TAGS, [[0] * 4] * 3), "mask": ([[True] * 4] * 3, [[True, False, False, False]] * 3)},
    ),
}


def refill(value, new):
    """Change an argument where it is, as a data loader does that uses its buffers again."""
    if isinstance(value, list) and isinstance(value[0], (list, np.ndarray, torch.Tensor)):
        for row, other in zip(value, new, strict=True):
            refill(row, other)
    elif isinstance(value, list):
        value[:] = new
    elif isinstance(value, np.ndarray):
        value[...] = new
    else:
        value.copy_(torch.tensor(new))


OWNERS = {
    "lists": copy.deepcopy,
    "arrays": np.array,
    "tensors": torch.tensor,
    "tensors of arrays": lambda value: torch.from_numpy(np.array(value)),
    "lists of arrays": lambda value: [np.array(row) for row in value],
    "lists of tensors": lambda value: [torch.tensor(row) for row in value],
}


@pytest.mark.parametrize(("name", "reduction", "owner"), spread(CHANGING, ["none", "mean", "sum"], OWNERS, every=3))
def test_arguments_changed_after_the_call(name, reduction, owner):
    """The gradient is that of the loss that was computed, in the first pass and in others."""
    own, (function, arguments) = OWNERS[owner], CHANGING[name]
    x = logits((3, 4, 3))
    expected = torch.autograd.grad(function(x, {k: old for k, (old, _) in arguments.items()}, reduction).sum(), x)[0]
    for changed in arguments:
        given = {k: own(old) for k, (old, _) in arguments.items()}
        loss = function(x, given, reduction).sum()
        refill(given[changed], arguments[changed][1])
        for _ in range(3):
            assert torch.equal(torch.autograd.grad(loss, x, retain_graph=True)[0], expected), changed


def test_distributions_changed_after_the_call():
    """They are as large as the scores: a tensor is checked by PyTorch, an array is copied."""
    x, mixed = logits((3, 4, 3)), torch.full((3, 4, 3), 1 / 3, dtype=torch.float64)
    loss = fst.softmax_cross_entropy(x, mixed)
    (expected,) = torch.autograd.grad(loss, x, retain_graph=True)
    mixed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, x)
    array = np.full((3, 4, 3), 1 / 3)
    loss = fst.softmax_cross_entropy(x, array)
    torch.autograd.grad(loss, x, retain_graph=True)
    array += 1
    assert torch.equal(torch.autograd.grad(loss, x)[0], expected)


@pytest.mark.parametrize("changed", ["emissions", "transitions", "start", "end"])
def test_parameters_changed_before_the_pass(changed):
    """As an optimiser does between a loss and its backward pass."""
    given = {"emissions": (3, 4, 3), "transitions": (3, 3), "start": (3,), "end": (3,)}
    given = {name: logits(shape) for name, shape in given.items()}
    loss = fst.crf_loss(tags=TAGS, reduction="none", **given)
    with torch.no_grad():
        given[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()
