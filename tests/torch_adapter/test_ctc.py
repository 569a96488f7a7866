"""CTC of tensors: against PyTorch's own, its module, training."""

import copy
import pickle

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import FLOATS, REDUCTIONS, B, S, T, V, assert_close, gradient_of, logits, problem  # noqa: E402


def concatenated(targets, lengths):
    return torch.cat([row[:n] for row, n in zip(targets, lengths, strict=True)])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("form", ["padded", "concatenated", "int32", "tuples", "lists"])
def test_as_pytorch(reduction, zero_infinity, form):
    targets, lengths, target_lengths = problem()
    if form == "concatenated":
        targets = concatenated(targets, target_lengths)
    elif form == "int32":
        targets, lengths, target_lengths = targets.int(), lengths.int(), target_lengths.int()
    elif form in ("tuples", "lists"):
        kind = tuple if form == "tuples" else list
        lengths, target_lengths = kind(lengths.tolist()), kind(target_lengths.tolist())
    arguments = (targets, lengths, target_lengths, 0, reduction, zero_infinity)
    x = logits()
    expected = functional.ctc_loss(x.log_softmax(-1), *arguments)
    slope = gradient_of(expected, x)
    for loss in (fst.ctc_loss(x.log_softmax(-1), *arguments), fst.ctc_loss_from_logits(x, *arguments)):
        assert loss.dtype == expected.dtype
        assert loss.shape == expected.shape
        assert_close(loss, expected)
        assert_close(gradient_of(loss, x), slope)


@pytest.mark.parametrize("blank", [0, 2, V - 1])
def test_blank(blank):
    x, (_, lengths, target_lengths) = logits(), problem()
    targets = torch.from_numpy(np.random.default_rng(1).choice([c for c in range(V) if c != blank], (B, S)))
    arguments = (targets, lengths, target_lengths)
    ours, theirs = (f(x.log_softmax(-1), *arguments, blank=blank) for f in (fst.ctc_loss, functional.ctc_loss))
    assert_close(ours, theirs)
    assert_close(gradient_of(ours, x), gradient_of(theirs, x))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("lengths", [((T,), (3,)), torch.tensor([T, 3]), torch.tensor([[T], [3]])])
def test_one_sequence(reduction, lengths):
    x, targets = logits((T, V)), torch.tensor([1, 2, 2])
    for given in (targets, targets[None]):
        ours, theirs = (
            f(x.log_softmax(-1), given, *lengths, reduction=reduction) for f in (fst.ctc_loss, functional.ctc_loss)
        )
        assert ours.shape == theirs.shape == ()
        assert_close(ours, theirs)
        assert_close(gradient_of(ours, x), gradient_of(theirs, x))
    assert_close(fst.ctc_loss(x.log_softmax(-1), targets, T, 3, reduction=reduction), theirs)


def test_weights_of_losses():
    """The gradient that comes in scales ours, sequence by sequence."""
    x, weight = logits(), torch.tensor([0.5, -2.0, 0.0, 3.0], dtype=torch.float64)
    sides = [
        (f(x.log_softmax(-1), *problem(), reduction="none") * weight).sum() for f in (fst.ctc_loss, functional.ctc_loss)
    ]
    sides.append((fst.ctc_loss_from_logits(x, *problem(), reduction="none") * weight).sum())
    ours, theirs, fused = (gradient_of(side, x) for side in sides)
    assert_close(ours, theirs)
    assert_close(fused, theirs)


@pytest.mark.parametrize("make", [
    lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    lambda x: torch.cat([x, x], 0)[::2],
    lambda x: torch.cat([x, x], -1)[..., ::2],
    lambda x: x[:, :1].expand(T, B, V),
])  # fmt: skip
def test_not_contiguous(make):
    given = make(logits().detach().log_softmax(-1))
    assert not given.is_contiguous()
    x = given.requires_grad_()
    y = given.detach().contiguous().requires_grad_()
    for a in (x, y):
        fst.ctc_loss(a, *problem()).backward()
    assert_close(x.grad, y.grad, 0)
    expected = functional.ctc_loss(y.log_softmax(-1), *problem())
    assert_close(fst.ctc_loss_from_logits(x, *problem()), expected)


def test_empty_targets():
    x = logits()
    none = torch.zeros(B, 0, dtype=torch.int64)
    arguments = (none, [T] * B, [0] * B)
    ours, theirs = (f(x.log_softmax(-1), *arguments, reduction="none") for f in (fst.ctc_loss, functional.ctc_loss))
    assert_close(ours, theirs)
    assert_close(ours, -x.log_softmax(-1)[..., 0].sum(0))
    assert_close(gradient_of(ours, x), gradient_of(theirs, x))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_infeasible(reduction):
    """The losses are PyTorch's; gradients are 0 where PyTorch's are NaN without zero_infinity."""
    x = logits()
    targets = torch.tensor([[1, 1, 1], [1, 2, 3], [1, 2, 3], [1, 2, 2]])
    arguments = (targets, [4, 5, 2, 0], [3, 3, 3, 3])
    for zero_infinity in (True, False):
        options = {"reduction": reduction, "zero_infinity": zero_infinity}
        ours, theirs = (f(x.log_softmax(-1), *arguments, **options) for f in (fst.ctc_loss, functional.ctc_loss))
        assert_close(ours, theirs)
        gradient, expected = gradient_of(ours, x), gradient_of(theirs, x)
        if zero_infinity:
            assert_close(gradient, expected)
            wanted = gradient
        else:
            assert bool(expected.isnan().any())
            assert_close(gradient, wanted)
    assert not gradient[:, [0, 2, 3]].any()


def test_true_derivative():
    """Free log-probabilities: minus the posterior, which PyTorch's gradient exceeds by exp(log_probs)."""
    x = logits().detach().log_softmax(-1).requires_grad_()
    targets, lengths, target_lengths = problem()
    ours, theirs = (gradient_of(f(x, targets, lengths, target_lengths), x) for f in (fst.ctc_loss, functional.ctc_loss))
    scale = 1 / (target_lengths.clamp(min=1) * B).double()
    valid = torch.arange(T)[:, None] < lengths
    assert_close(ours + x.exp() * (valid * scale)[..., None], theirs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fused", [False, True])
def test_dtypes(dtype, fused):
    x = logits(dtype=dtype)
    y = x.detach().double().requires_grad_()
    loss = fst.ctc_loss_from_logits(x, *problem()) if fused else fst.ctc_loss(x.log_softmax(-1), *problem())
    expected = functional.ctc_loss(y.log_softmax(-1), *problem())
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    loss.backward()
    expected.backward()
    assert x.grad.dtype == dtype
    # One rounding of the gradient if fused; else log-probabilities are rounded too, each frame adding to the loss.
    unit = torch.finfo(dtype).eps
    largest = float(x.detach().log_softmax(-1).abs().max())
    loss_error = torch.finfo(loss.dtype).eps if fused else unit * largest * T / 2
    assert abs(loss.double() - expected.double()) <= loss_error * float(expected.detach()) * 4 + loss_error
    error = (x.grad.double() - y.grad).abs().max()
    assert error <= max(unit if fused else unit * largest * T / 2, 1e-13)  # PyTorch's own, in float64


@pytest.mark.parametrize("arguments", [(), (V - 1, "sum", True), (V - 1, "none")])
def test_module(arguments):
    ours, theirs = fst.CTCLoss(*arguments), torch.nn.CTCLoss(*arguments)
    assert isinstance(ours, torch.nn.CTCLoss)
    assert repr(ours) == repr(theirs)
    assert ours.state_dict() == theirs.state_dict()
    assert all(getattr(ours, name) == getattr(theirs, name) for name in ("blank", "reduction", "zero_infinity"))
    targets, *lengths = problem()
    x = logits().log_softmax(-1)
    if arguments:
        targets = targets - 1
    for module in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_close(module(x, targets, *lengths), theirs(x, targets, *lengths))


def train(loss, dtype, steps=30):
    """A recurrent network learns to read noise; returns its losses and parameters."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(20, 8, 5))).to(dtype)
    targets = torch.from_numpy(rng.integers(1, 7, (8, 6)))
    lengths, target_lengths = torch.from_numpy(rng.integers(14, 21, 8)), torch.from_numpy(rng.integers(1, 7, 8))
    hidden, head = torch.nn.GRU(5, 16, bidirectional=True).to(dtype), torch.nn.Linear(32, 7).to(dtype)
    parameters = [*hidden.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(head(hidden(x)[0]).log_softmax(-1), targets, lengths, target_lengths)
        value.backward()
        optimizer.step()
        curve.append(value.item())
    return np.array(curve), torch.cat([p.detach().reshape(-1) for p in parameters]).numpy()


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_same_curve(zero_infinity):
    curves = {}
    for name, make in (("PyTorch", torch.nn.CTCLoss), ("ours", fst.CTCLoss)):
        curves[name] = train(make(zero_infinity=zero_infinity), torch.float64)
    assert curves["ours"][0][-1] < 0.5 * curves["ours"][0][0]
    for ours, theirs in zip(curves["ours"], curves["PyTorch"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_same_curve_fused():
    fused = train(lambda x, *arguments: fst.ctc_loss_from_logits(x, *arguments), torch.float64)
    np.testing.assert_allclose(fused[0], train(torch.nn.CTCLoss(), torch.float64)[0], rtol=1e-9, atol=1e-9)
