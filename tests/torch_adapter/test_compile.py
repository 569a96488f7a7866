"""`torch.compile` and losses: outside of its graphs, with the same results."""

import subprocess
import sys

import numpy as np
import pytest

# PyTorch's compiler looks at gradients of what is no leaf, and calls what PyTorch has deprecated.
pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import REDUCTIONS, STEP_REDUCTIONS  # noqa: E402

TARGETS, TAGS = torch.tensor([[1, 2, 2], [3, 1, 0]]), torch.tensor([[0, 1, 2, 3, 3], [1, 1, 0, 2, 2]])
MASK = torch.arange(5) < torch.tensor([5, 3])[:, None]
MIXED = torch.full((2, 5, 4), 0.25)


def ctc(loss, x, lengths, **options):
    return loss(x.transpose(0, 1), TARGETS, lengths, [3, 2], **options)


def pairs(x):
    """Logits of an additive joiner."""
    return x[:, :, None] + x[:, None, :4]


class Model(torch.nn.Module):
    """A network whose loss is a module inside of it."""

    def __init__(self, reduction):
        super().__init__()
        self.head = torch.nn.Linear(4, 4)
        self.loss = fst.CTCLoss(reduction=reduction, zero_infinity=True)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(4))

    def forward(self, x, lengths):
        """Return the loss."""
        return ctc(self.loss, self.head(x).log_softmax(-1), lengths)


def compiled_cases():
    for reduction in REDUCTIONS:
        r = {"reduction": reduction}
        yield f"ctc_loss, {reduction}", lambda x, n, r=r: ctc(fst.ctc_loss, x.log_softmax(-1), n, **r)
        yield f"ctc_loss_from_logits, {reduction}", lambda x, n, r=r: ctc(fst.ctc_loss_from_logits, x * 2, n, **r)
        yield f"CTCLoss, {reduction}", lambda x, n, r=r: ctc(fst.CTCLoss(**r), x.log_softmax(-1), n)
        yield f"CTCLoss in a module, {reduction}", Model(reduction)
    for reduction in STEP_REDUCTIONS:
        r = {"reduction": reduction}
        yield f"cross-entropy, {reduction}", lambda x, n, r=r: fst.softmax_cross_entropy(x * 2, TAGS, n, **r)
    yield "cross-entropy, mask", lambda x, n: fst.softmax_cross_entropy(x * 2, TAGS, mask=MASK)
    yield "cross-entropy, distributions", lambda x, n: fst.softmax_cross_entropy(x * 2, MIXED, n)
    for reduction in (*REDUCTIONS, "sequence_mean"):
        yield f"rnnt, {reduction}", lambda x, n, r=reduction: fst.rnnt_loss(pairs(x), TARGETS, n, [3, 2], reduction=r)
        yield f"crf, {reduction}", lambda x, n, r=reduction: fst.crf_loss(x * 2, TAGS, x[0, :4] + 1, n, reduction=r)


CASES = dict(compiled_cases())
KINDS = {"list": list, "array": np.array, "tensor": torch.tensor}


def loss_and_gradient(function, *constants):
    x = torch.linspace(-1, 1, 40).sin().reshape(2, 5, 4).requires_grad_()
    loss = function(x, *constants)
    assert loss.device.type == "cpu"
    return loss.detach(), torch.autograd.grad((loss * 3).sum(), x)[0]


def assert_same(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", CASES)
def test_compiled(name, backend):
    """Lengths are of each kind in turn; the second ones make PyTorch look at the program again."""
    kind = list(KINDS.values())[list(CASES).index(name) % len(KINDS)]
    torch.compiler.reset()
    compiled = torch.compile(CASES[name], backend=backend, fullgraph=True)
    for lengths in ([5, 3], [4, 5]):
        expected = loss_and_gradient(CASES[name], kind(lengths))
        assert_same(loss_and_gradient(compiled, kind(lengths)), expected)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["ctc_loss, mean", "cross-entropy, sequence_mean", "crf, none"])
def test_compiled_lengths(name, kind):
    torch.compiler.reset()
    expected = loss_and_gradient(CASES[name], kind([5, 3]))
    assert_same(loss_and_gradient(torch.compile(CASES[name], backend="eager"), kind([5, 3])), expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_as_they_are(backend):
    """Functions and modules of the package themselves."""
    x = torch.randn(5, 2, 4)
    crossed = torch.zeros(5, 2, dtype=torch.int64)
    for function, constants in (
        (fst.ctc_loss_from_logits, (TARGETS, [5, 4], [3, 2])),
        (fst.CTCLoss(), (TARGETS, [5, 4], [3, 2])),
        (fst.softmax_cross_entropy, (crossed,)),
        (fst.crf_loss, (crossed, torch.zeros(4, 4))),
    ):
        torch.compiler.reset()
        assert_same([torch.compile(function, backend=backend)(x, *constants)], [function(x, *constants)])


@pytest.mark.parametrize("name", ["ctc_loss, mean", "cross-entropy, none", "crf, none", "crf, mean"])
def test_compiled_backward_pass(name):
    """A step that calls `backward` itself; twice, so that the second one computes the gradient again."""

    def step(x):
        loss = CASES[name](x, [5, 3]).sum()
        loss.backward(retain_graph=True)
        (loss * 2).backward()
        return loss.detach()

    torch.compiler.reset()
    results = []
    for function in (step, torch.compile(step, backend="eager")):
        x = torch.linspace(-1, 1, 40).sin().reshape(2, 5, 4).requires_grad_()
        results.append((function(x), x.grad))
    assert_same(results[1], results[0])


def test_compiled_options():
    """Options may be tensors, and have no gradient."""
    x, targets = torch.randn(2, 5, 4, requires_grad=True), torch.zeros(2, 5, dtype=torch.int64)

    def loss(normalizer):
        return fst.softmax_cross_entropy(x, targets, reduction="sum", normalizer=normalizer)

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager")
    for number in (2.0, 3.0):
        assert torch.equal(compiled(torch.tensor(number)), loss(number))
    with pytest.raises(TypeError, match=r"^normalizer requires grad, and this loss has no gradient of it"):
        compiled(torch.tensor(2.0, requires_grad=True))


def test_nothing_is_imported_to_stay_outside():
    code = """
import sys, torch, fastseqloss.torch as fst
x = torch.zeros(3, 1, 2, requires_grad=True)
fst.CTCLoss()(x.log_softmax(-1), torch.tensor([[1]]), [3], [1]).backward()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
