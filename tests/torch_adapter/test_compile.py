"""`torch.compile` and losses: single nodes of its graphs, with the results of eager mode."""

import re
import subprocess
import sys

import numpy as np
import pytest

# PyTorch's compiler reads gradients of tensors that are not leaves, and calls deprecated functions.
pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning"),
]
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from fastseqloss.torch import operators  # noqa: E402
from fastseqloss.torch.loss import Loss  # noqa: E402
from thoroughness import spread, thorough  # noqa: E402
from torch_cases import FLOATS, every_call  # noqa: E402

BACKENDS = ("eager", "aot_eager", "inductor")
TARGETS, TAGS = torch.tensor([[1, 2, 2], [3, 1, 0]]), torch.tensor([[0, 1, 2, 3, 3], [1, 1, 0, 2, 2]])
KINDS = {"list": list, "tuple": tuple, "array": np.array, "tensor": torch.tensor}


def ctc(x, frames, labels, **options):
    return fst.ctc_loss_from_logits((x * 2).transpose(0, 1), TARGETS, frames, labels, **options)


def crf(x, frames, transitions, **options):
    return fst.crf_loss(x * 2, TAGS, transitions, frames, **options)


def scores(n_frames=5, dtype=torch.float32):
    x = torch.linspace(-1, 1, 8 * n_frames).sin().reshape(2, n_frames, 4)
    return x.to(dtype).requires_grad_()


def compiled(function, backend="eager", **options):
    """The function in a graph without breaks."""
    torch.compiler.reset()
    return torch.compile(function, backend=backend, fullgraph=True, **options)


def check(ours, expected, inputs, tolerance=1e-6):
    """Compare losses and gradients of two functions."""
    losses = ours(*inputs), expected(*inputs)
    assert losses[0].dtype == losses[1].dtype
    assert torch.equal(*losses)
    leaves = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    slope = torch.linspace(1, 3, max(losses[0].numel(), 1)).to(losses[0].dtype).reshape(losses[0].shape)
    gradients = [torch.autograd.grad(loss, leaves, slope) for loss in losses]
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_call
def test_every_loss(function, scores):
    leaves = [score.clone().requires_grad_() for score in scores]
    check(compiled(function, "aot_eager"), function, leaves, 1e-12)


@pytest.mark.parametrize(("loss", "reduction", "dynamic"), spread([ctc, crf], ["none", "mean"], [None, True], every=3))
def test_inductor(loss, reduction, dynamic):
    """PyTorch's default compiler; reductions with losses of each shape."""
    transitions = torch.linspace(0, 1, 16).reshape(4, 4).requires_grad_()
    other = [3, 2] if loss is ctc else transitions
    step = compiled(lambda x, other: loss(x, [5, 4], other, reduction=reduction), "inductor", dynamic=dynamic)
    check(step, lambda x, other: loss(x, [5, 4], other, reduction=reduction), [scores(), other])


class Model(torch.nn.Module):
    """A network whose loss is a module inside of it."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 4)
        self.loss = fst.CTCLoss(zero_infinity=True)

    def forward(self, x, frames, labels):
        """Return the loss."""
        return self.loss(self.head(x).transpose(0, 1).log_softmax(-1), TARGETS, frames, labels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_module(backend):
    torch.manual_seed(0)
    model = Model()
    step = compiled(model, backend)
    check(step, model, [scores(), [5, 4], [3, 2]])
    step(scores(), [5, 4], [3, 2]).backward()
    ours = model.head.weight.grad.clone()
    model.zero_grad()
    model(scores(), [5, 4], [3, 2]).backward()
    torch.testing.assert_close(ours, model.head.weight.grad)


@pytest.mark.parametrize(("dtype", "backend"), spread(FLOATS, BACKENDS, every=3))
def test_dtypes(dtype, backend):
    step = compiled(lambda x: ctc(x, [5, 4], [3, 2], reduction="none"), backend)
    x = scores(dtype=dtype)
    loss = step(x)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    check(step, lambda x: ctc(x, [5, 4], [3, 2], reduction="none"), [x])
    large = torch.autograd.grad(loss, x, torch.full_like(loss, 2.0**40))[0]
    eager = ctc(x, [5, 4], [3, 2], reduction="none")
    assert torch.equal(large, torch.autograd.grad(eager, x, torch.full_like(loss, 2.0**40))[0])


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "dynamic"), spread(KINDS, [None, True], every=2))
def test_lengths_change(kind, dynamic):
    """Lengths of each kind, and numbers of frames: after a second time the program is not compiled again."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    step = compiled(ctc, counter, dynamic=dynamic)
    for n in (5, 7, 8, 9, 11, 12, 14):
        check(step, ctc, [scores(n), KINDS[kind]([n, n - 2]), KINDS[kind]([3, 1 + n % 2])])
        frames = counter.frame_count
        if n == 8:
            before = frames
    assert frames == before


@pytest.mark.parametrize("own", [list, np.array, torch.tensor])
def test_labels_of_each_sequence(own):
    """A list of lists, of arrays and of tensors; their lengths differ."""
    step = compiled(lambda x, labels: fst.rnnt_loss(x[:, :, None] * torch.ones(4, 1), labels), "aot_eager")
    for labels in ([own([1, 2]), own([3])], [own([1, 2, 3]), own([2, 2])]):
        check(step, lambda x, labels: fst.rnnt_loss(x[:, :, None] * torch.ones(4, 1), labels), [scores(), labels])


@pytest.mark.parametrize("backend", [*BACKENDS[:2], thorough("inductor")])
def test_some_scores(backend):
    """Parameters that are frozen, or left out."""
    frozen = torch.linspace(0, 1, 16).reshape(4, 4)
    start = torch.linspace(-1, 0, 4).requires_grad_()
    for options in ({"reduction": "none"}, {"reduction": "mean"}):
        for parameters in ({}, {"start": start}, {"end": frozen[0]}):
            given = list(parameters.values())

            def loss(x, *rest, options=options, names=tuple(parameters)):
                return crf(x, [5, 4], frozen, **options, **dict(zip(names, rest, strict=True)))

            check(compiled(loss, backend), loss, [scores(), *given])


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_changed_after_the_call(backend):
    frames, labels = torch.tensor([5, 4]), torch.tensor([3, 2])
    x = scores()
    for loss, step in ((ctc, compiled(ctc, backend)), (crf, compiled(crf, backend))):
        transitions = torch.linspace(0, 1, 16).reshape(4, 4)
        other = labels if loss is ctc else transitions
        eager = torch.autograd.grad(loss(x, [5, 4], other, reduction="none"), x, torch.full((2,), 2.0**40))[0]
        now = frames.clone()
        value = step(x, now, other, reduction="none")
        now.fill_(0)
        assert torch.equal(torch.autograd.grad(value, x, torch.full((2,), 2.0**40))[0], eager)


def test_distributions_are_not_copied():
    targets = torch.full((2, 5, 4), 0.25)
    x = scores()
    step = compiled(lambda x, targets: fst.softmax_cross_entropy(x * 2, targets), "aot_eager")
    check(step, lambda x, targets: fst.softmax_cross_entropy(x * 2, targets), [x, targets])
    loss = step(x, targets)
    targets.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- modes and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_alone(backend, monkeypatch):
    """No gradient is computed where none is wanted."""
    step = compiled(lambda x: ctc(x, [5, 4], [3, 2]), backend)
    x = scores()
    expected = step(x)
    assert expected.requires_grad
    monkeypatch.setattr(Loss, "differentiated", None)
    with torch.no_grad():
        assert torch.equal(step(x), expected)
    with torch.inference_mode():
        assert torch.equal(step(x), expected)
    assert torch.equal(step(x.detach()), expected)


@pytest.mark.parametrize(("backend", "fullgraph"), spread(BACKENDS, [True, False], every=2))
def test_errors(backend, fullgraph):
    """Values are checked when the program runs, and the rest when it is made; with the messages of eager mode."""
    torch.compiler.reset()
    step = torch.compile(ctc, backend=backend, fullgraph=fullgraph)
    x = scores()
    for call, message in {
        lambda: step(x, [9, 4], [3, 2]): r"input_lengths\[0\] is 9; allowed: 0 to 5",
        lambda: step(x, [5, 4], [3, 2], blank=7): "blank is 7; allowed: -4 to 3",
        lambda: step(x, torch.tensor([5.0, 4.0]), [3, 2]): "input_lengths has dtype float64|has dtype float32",
        lambda: step(x, [5, 4], [3, 2], reduction="avg"): "reduction is 'avg'; allowed",
        lambda: step(x.long(), [5, 4], [3, 2]): "logits has dtype torch.int64; allowed",
    }.items():
        with pytest.raises((ValueError, TypeError, torch._dynamo.exc.Unsupported), match=message):
            call()
    check(step, ctc, [x, [5, 4], [3, 2]])


def changed(tensor, where, value):
    tensor = tensor.clone()
    tensor[where] = value
    return tensor


CLASSES, SHARES = torch.ones(2, 5, dtype=torch.int64), torch.full((2, 4, 5), 0.25)
ENDLESS = changed(SHARES, (1, 0, 3), torch.inf).requires_grad_()
CHAIN = fst.CRF(4)  # time first
STEPS = torch.ones(5, 2, dtype=torch.int64)
BROKEN = fst.CRF(4, batch_first=True)
torch.nn.init.constant_(BROKEN.end_transitions[2], torch.nan)
WRONG = {
    "target[1, 3] is 4; allowed: 0 to 3": lambda x: fst.cross_entropy(x.mT, changed(CLASSES, (1, 3), 4)),
    "target[1, 2, 3] is -1.0; allowed": lambda x: fst.cross_entropy(x.mT, changed(SHARES, (1, 2, 3), -1)),
    "target[1, 0, 3] is inf; allowed": lambda x: fst.cross_entropy(x.mT, ENDLESS),
    "weight[2] is -1.0; allowed": lambda x: fst.cross_entropy(x.mT, CLASSES, changed(torch.ones(4), 2, -1)),
    "weight has shape (5,); allowed: (4,)": lambda x: fst.cross_entropy(x.mT, CLASSES, torch.ones(5)),
    "label_smoothing is 2.0; allowed": lambda x: fst.cross_entropy(x.mT, CLASSES, label_smoothing=2.0),
    "tags[3, 1] is 4; allowed: 0 to 3": lambda x: CHAIN(x.transpose(0, 1), changed(STEPS, (3, 1), 4)),
    "mask[4, 0] is 2; allowed: 0 and 1": lambda x: CHAIN(x.transpose(0, 1), STEPS, changed(STEPS, (4, 0), 2)),
    "end_transitions[2] is nan; allowed": lambda x: BROKEN(x, STEPS.T),
}


@pytest.mark.parametrize(("message", "backend"), spread(WRONG, [None, *BACKENDS[:2]], every=3))
def test_errors_of_replacements(message, backend):
    """They have the names and positions of their own arguments, in eager mode, compiled, and transformed."""
    function = WRONG[message]
    torch.compiler.reset()
    ways = [torch.compile(function, backend=backend)] if backend else [function, torch.func.grad(function)]
    for call in ways:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            call(scores())


@pytest.mark.parametrize("name", ["ctc", "crf, none", "crf, mean"])
def test_differentiable_once(name):
    """The backward pass is an operator without a derivative, by whatever a gradient depends on."""
    transitions = torch.linspace(0, 1, 16).reshape(4, 4).requires_grad_()
    loss = {
        "ctc": lambda x: ctc(x, [5, 4], [3, 2]),
        "crf, none": lambda x: crf(x, [5, 4], transitions, reduction="none").sum(),
        "crf, mean": lambda x: crf(x, [5, 4], transitions),
    }[name]
    x = scores()
    (gradient,) = torch.autograd.grad(compiled(loss)(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        torch.autograd.grad((gradient * x.detach()).sum(), x, allow_unused=True)
    refused = "once, not twice", "not currently support double backward", "requires create_graph=False"
    for backend in BACKENDS if name == "ctc" else BACKENDS[:2]:
        value = compiled(loss, backend)(x)
        with pytest.raises(RuntimeError, match="|".join(refused)):
            (value + torch.autograd.grad(value, x, create_graph=True)[0].pow(2).sum()).backward()


@pytest.mark.parametrize("loss", [ctc, crf])
def test_backward_pass_within(loss):
    """A step that calls `backward` itself; twice, so that the second pass scales the gradient again."""
    other = [3, 2] if loss is ctc else torch.linspace(0, 1, 16).reshape(4, 4)

    def step(x):
        value = loss(x, [5, 4], other, reduction="none").sum()
        value.backward(retain_graph=True)
        (value * 2).backward()
        return value.detach()

    torch.compiler.reset()
    results = []
    for function in (step, torch.compile(step, backend="eager")):
        x = scores()
        results.append((function(x), x.grad))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_eager_losses_beside_compiled_programs():
    """Backward passes of eager losses are not compiled, where the call of `backward` is."""
    x = scores()

    @torch.compile(backend="eager")
    def step(loss):
        loss.backward()

    step(ctc(x, [5, 4], [3, 2]))
    assert torch.equal(x.grad, torch.autograd.grad(ctc(x, [5, 4], [3, 2]), x)[0])


def test_transforms():
    """Within the transforms of `torch.func` losses are called as they are."""
    x = scores().detach()
    gradient = torch.func.grad(lambda x: ctc(x, [5, 4], [3, 2]))
    for function, given in ((gradient, x), (torch.vmap(gradient), torch.stack([x, x + 1]))):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"not compiled within transforms of torch\.func"):
            compiled(function)(given)
        torch.compiler.reset()
        torch.testing.assert_close(torch.compile(function, backend="aot_eager")(given), function(given))


# ---- the operators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "wanted", "reduction"), spread(FLOATS, [True, False], ["none", "mean"], every=3))
def test_opcheck(dtype, wanted, reduction):
    x = scores(dtype=dtype).detach().transpose(0, 1).requires_grad_(wanted)
    constants = {"targets": TARGETS, "input_lengths": [5, 4], "target_lengths": torch.tensor([3, 2])}
    options = {"blank": 0, "input": "logits", "infeasible": "inf", "reduction": reduction, "num_threads": None}
    loss = Loss(fst._ctc_loss, ("logits",), constants, options, swapped=True, core_ndim=2)
    described = operators.describe(loss, (x,), [wanted], keep=True)
    torch.library.opcheck(torch.ops.fastseqloss.loss.default, tuple(described))
    if wanted:
        value, *known = torch.ops.fastseqloss.loss(*described)
        known = [gradient.detach() for gradient in known[:1]]
        arguments = (described[0], [x.detach()], *described[2:], torch.ones_like(value).detach(), known)
        torch.library.opcheck(torch.ops.fastseqloss.gradients.default, arguments)


@pytest.mark.parametrize("strict", [True, False])
def test_export(strict):
    class Exported(torch.nn.Module):
        def forward(self, x, frames):
            return ctc(x, frames, torch.tensor([3, 2]))

    x = scores().detach()
    sizes = {"x": {1: torch.export.Dim("frames", min=3, max=50)}, "frames": None}
    program = torch.export.export(Exported(), (x, torch.tensor([5, 4])), dynamic_shapes=sizes, strict=strict).module()
    for n in (5, 9):
        x, frames = scores(n).detach(), torch.tensor([n, 4])
        assert torch.equal(program(x, frames), Exported()(x, frames))


def test_recorded():
    """Operators are recorded where they are watched, or run on tensors without memory."""
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    x = scores().detach()
    program = make_fx(lambda x: ctc(x, [5, 4], [3, 2]))(x)
    assert torch.equal(program(x + 1), ctc(x + 1, [5, 4], [3, 2]))
    with FakeTensorMode():
        made = torch.zeros(2, 5, 4), torch.zeros(2, 5, dtype=torch.int64)
    for reduction, shape in {"none": (2, 5), "per_sequence": (2,), "mean": ()}.items():
        assert fst.softmax_cross_entropy(*made, reduction=reduction).shape == shape
    leaf = scores()
    with FlopCounterMode(display=False):
        (gradient,) = torch.autograd.grad(ctc(leaf, [5, 4], [3, 2]), leaf)
    assert torch.equal(gradient, torch.autograd.grad(ctc(leaf, [5, 4], [3, 2]), leaf)[0])


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


def test_the_compiler_is_not_imported():
    code = """
import sys, torch, fastseqloss.torch as fst
x = torch.zeros(3, 1, 2, requires_grad=True)
fst.CTCLoss()(x.log_softmax(-1), torch.tensor([[1]]), [3], [1]).backward()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
