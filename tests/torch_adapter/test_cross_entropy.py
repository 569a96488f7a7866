"""`cross_entropy` compared with PyTorch's: differences, errors, layouts of memory, derivatives, the module."""

import copy
import math
import pickle

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402
from thoroughness import spread  # noqa: E402
from torch_cases import FLOATS, REDUCTIONS, assert_close, compiling, gradient_of, logits  # noqa: E402

INF = math.inf
SHAPES = [(5,), (3, 5), (3, 5, 4), (2, 5, 3, 4), (2, 5, 3, 2, 2)]


def classes(shape, seed=0, n=None):
    """Classes for logits of this shape."""
    steps = shape[:1] + shape[2:] if len(shape) > 1 else ()
    return torch.from_numpy(
        np.asarray(np.random.default_rng(seed).integers(0, n or shape[min(1, len(shape) - 1)], steps))
    )


def distributions(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(0.5, size=shape))


def both(x, *arguments, **options):
    """Return loss and gradient here, and PyTorch's."""
    results = []
    for loss in (fst.cross_entropy, functional.cross_entropy):
        scores = x.detach().clone().requires_grad_()
        value = loss(scores, *arguments, **options)
        results.append((value.detach(), gradient_of(value, scores)))
    return results


@pytest.mark.parametrize(
    ("shape", "reduction", "weighted", "smoothing", "kind"),
    spread(SHAPES, REDUCTIONS, [False, True], [0.0, 0.3, 1.0], ["classes", "ignored", "distributions"], every=3),
)
def test_as_pytorch(shape, reduction, weighted, smoothing, kind):
    x = logits(shape)
    y = distributions(shape) if kind == "distributions" else classes(shape)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if kind == "ignored" and y.ndim:
        y.flatten()[1] = options["ignore_index"] = 4
    if weighted:
        options["weight"] = torch.tensor([0.5, 0.0, 2.0, 1.0, 3.0]).double()
    (ours, slope), (theirs, wanted) = both(x, y, **options)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if weighted and kind != "distributions" and theirs.isnan().all():  # the only target has weight 0
        theirs, wanted = torch.zeros_like(theirs), torch.zeros_like(wanted)
    assert_close(ours, theirs)
    assert_close(slope, wanted)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint64"])
def test_dtypes_of_classes(name):
    x, y = logits((3, 5, 2)), classes((3, 5, 2))
    assert_close(fst.cross_entropy(x, y.to(getattr(torch, name))), functional.cross_entropy(x, y), 1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["classes", "distributions"])
def test_dtypes_of_logits(dtype, kind):
    """Half precision gives a loss in float32, and a gradient that is rounded once."""
    x = logits((3, 5, 4), dtype=dtype)
    y = classes((3, 5, 4)) if kind == "classes" else distributions((3, 5, 4)).to(dtype)
    loss = fst.cross_entropy(x, y, weight=torch.ones(5, dtype=dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.dtype == dtype
    wide = x.detach().double().requires_grad_()
    expected = functional.cross_entropy(wide, y.double() if kind == "distributions" else y)
    assert_close(loss, expected, 1e-6)
    assert_close(gradient, gradient_of(expected, wide), torch.finfo(dtype).eps)


@pytest.mark.parametrize("options", [
    {"target": torch.full((2, 3), -100)},
    {"target": torch.full((2, 3), 4), "ignore_index": 4},
    {"target": torch.zeros(2, 3).long(), "weight": torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]).double()},
    {"target": torch.full((2, 3), -100), "label_smoothing": 0.5},
])  # fmt: skip
def test_nothing_counts(options):
    """The mean is 0 here, and NaN in PyTorch; sums agree."""
    x = logits((2, 5, 3))
    (ours, slope), (theirs, _) = both(x, **options)
    assert ours == 0
    assert not slope.any()
    assert theirs.isnan()
    for reduction in ("sum", "none"):
        (ours, _), (theirs, _) = both(x, **options, reduction=reduction)
        if "weight" not in options:
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3), (2, 5, 0)])
def test_empty(shape):
    x = logits(shape)
    for y in (classes(shape, n=5), distributions(shape)):
        (ours, slope), (theirs, _) = both(x, y)
        assert ours == 0
        assert theirs.isnan()
        assert slope.shape == shape
        assert fst.cross_entropy(x, y, reduction="none").shape == shape[:1] + shape[2:]


@pytest.mark.parametrize(("row", "target", "options", "loss", "slope"), [
    ([0.0, -INF, 1.0], 0, {}, None, None),  # masked out: the same in both
    ([0.0, -INF, 1.0], 1, {}, None, None),
    ([0.0, -INF, 1.0], 0, {"label_smoothing": 0.1}, None, None),
    ([-INF, -INF, -INF], 1, {}, INF, [0.0, 0.0, 0.0]),
    ([0.0, -INF, 0.0], [0.5, 0.0, 0.5], {}, math.log(2), [0.0, 0.0, 0.0]),
])  # fmt: skip
def test_infinite_logits(row, target, options, loss, slope):
    x = torch.tensor([row], dtype=torch.float64)
    y = torch.tensor([target], dtype=torch.float64 if isinstance(target, list) else torch.int64)
    ours, theirs = both(x, y, **options)
    if loss is None:
        loss, slope = theirs
    else:
        assert theirs[0].isnan()
    assert_close(ours[0], torch.as_tensor(loss, dtype=torch.float64))
    assert_close(ours[1][0], torch.as_tensor(slope).reshape(3))


X, Y = logits((2, 5, 3)), classes((2, 5, 3))


def changed(tensor, where, value):
    tensor = tensor.clone()
    tensor[where] = value
    return tensor


@pytest.mark.parametrize(("error", "message", "given"), [
    (ValueError, r"^target\[1, 2\] is 5; allowed: 0 to 4, or -100, which is ignore_index$",
     {"target": changed(Y, (1, 2), 5)}),
    (ValueError, r"^target\[0, 1\] is -1; allowed: 0 to 4, or 3, which is ignore_index$",
     {"target": changed(Y, (0, 1), -1), "ignore_index": 3}),
    (ValueError, r"^target is 7; allowed: 0 to 4", {"input": X[0, :, 0], "target": torch.tensor(7)}),
    (ValueError, r"^target\[1, 4, 0\] is -0\.5; allowed: finite, 0 or more$",
     {"target": changed(distributions((2, 5, 3)), (1, 4, 0), -0.5)}),
    (ValueError, r"^target\[1, 4, 0\] is inf; allowed: finite, 0 or more$",
     {"target": changed(distributions((2, 5, 3)), (1, 4, 0), INF)}),
    (ValueError, r"^target has shape \(2, 5\) and dtype torch.int64; allowed: integers of shape \(2, 3\)",
     {"target": Y.new_zeros(2, 5)}),
    (ValueError, r"^target has shape \(2, 3\) and dtype torch.float32; .* or floats of shape \(2, 5, 3\)",
     {"target": Y.float()}),
    (ValueError, r"^target has shape \(2, 5, 3\) and dtype torch.int64; allowed: integers of shape \(2, 3\)",
     {"target": torch.zeros(2, 5, 3).long()}),
    (ValueError, r"^target has shape \(1,\).*; allowed: integers of shape \(\)",
     {"input": X[0, :, 0], "target": torch.tensor([0])}),
    (TypeError, "^target has dtype torch.bool; allowed: integers for classes, floats for distributions",
     {"target": Y > 1}),
    (TypeError, "^target has dtype torch.complex64", {"target": torch.zeros(2, 5, 3, dtype=torch.complex64)}),
    (TypeError, "^target must be a tensor, got list", {"target": [[0, 1, 2]] * 2}),
    (TypeError, "^target is on device 'meta'", {"target": Y.to("meta")}),
    (ValueError, r"^input has shape \(\); allowed: \[C\], \[N, C\] or \[N, C, d1, \.\.\.\], C at least 1",
     {"input": torch.tensor(1.0), "target": torch.tensor(0)}),
    (ValueError, r"^input has shape \(2, 0, 3\); allowed: .*C at least 1", {"input": torch.zeros(2, 0, 3)}),
    (TypeError, "^input must be a tensor, got ndarray", {"input": np.zeros((2, 5, 3))}),
    (TypeError, r"^input has dtype torch\.int64; allowed: torch", {"input": torch.zeros(2, 5, 3).long()}),
    (TypeError, "^input is on device 'meta'", {"input": torch.zeros(2, 5, 3, device="meta")}),
    (ValueError, r"^weight has shape \(3,\); allowed: \(5,\)", {"weight": torch.ones(3)}),
    (ValueError, r"^weight\[1\] is -1\.0; allowed: finite, 0 or more", {"weight": torch.tensor([1.0, -1, 1, 1, 1])}),
    (ValueError, r"^weight\[4\] is nan; allowed: finite", {"weight": torch.tensor([1.0, 1, 1, 1, math.nan])}),
    (ValueError, r"^weight\[0\] is 1e-200; allowed: 0, or from 1e-150", {"weight": torch.ones(5).double() / 1e200}),
    (TypeError, r"^weight requires grad.*pass weight\.detach\(\)", {"weight": torch.ones(5, requires_grad=True)}),
    (ValueError, "^ignore_index is 0, but it does not apply to a target of distributions; allowed: negative integers",
     {"target": distributions((2, 5, 3)), "ignore_index": 0}),
    (TypeError, "^ignore_index must be an integer, got float", {"ignore_index": 1.5}),
    (ValueError, "^label_smoothing is 1.5; allowed: from 0 to 1", {"label_smoothing": 1.5}),
    (ValueError, "^reduction is 'batchmean'; allowed: 'none', 'mean', 'sum'", {"reduction": "batchmean"}),
    (TypeError, "^size_average is False; allowed: None, since PyTorch has deprecated it; pass reduction='sum'",
     {"size_average": False}),
    (TypeError, "^reduce is False; allowed: None, .* pass reduction='none'", {"reduce": False}),
    (TypeError, "^reduce is True; allowed: None, .* pass reduction='mean'", {"reduce": True}),
])  # fmt: skip
def test_errors(error, message, given):
    with pytest.raises(error, match=message):
        fst.cross_entropy(**{"input": X, "target": Y} | given)


@pytest.mark.filterwarnings("ignore::UserWarning")  # that the arguments are deprecated
@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [True, False])
def test_advice_for_deprecated_arguments(size_average, reduce):
    """The reduction that the message names does what the arguments do in PyTorch."""
    with pytest.raises(TypeError, match="pass reduction=") as caught:
        fst.cross_entropy(X, Y, size_average=size_average, reduce=reduce)
    with pytest.raises(TypeError, match="pass reduction="):
        fst.CrossEntropyLoss(size_average=size_average, reduce=reduce)
    advised = str(caught.value).split("'")[1]
    theirs = functional.cross_entropy(X, Y, size_average=size_average, reduce=reduce)
    assert_close(fst.cross_entropy(X, Y, reduction=advised), theirs)


def test_positional_arguments():
    weight = torch.rand(5).double()
    arguments = (Y, weight, None, 2, None, "sum", 0.2)
    assert_close(fst.cross_entropy(X, *arguments), functional.cross_entropy(X, *arguments))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_of_distributions(shape, reduction, frozen):
    x, weight = logits(shape).requires_grad_(not frozen), torch.tensor([0.5, 0.0, 2.0, 1.0, 3.0]).double()
    options = {"reduction": reduction, "weight": weight, "label_smoothing": 0.1}
    results = []
    for loss in (fst.cross_entropy, functional.cross_entropy):
        y = distributions(shape).requires_grad_()
        value = loss(x, y, **options).sum() * 0.3
        results.append(torch.autograd.grad(value, [y] if frozen else [x, y]))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)


@compiling
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["classes", "distributions"])
def test_compiled(reduction, kind):
    """One graph, with the results of eager mode."""
    criterion = fst.CrossEntropyLoss(torch.rand(5), ignore_index=-1, reduction=reduction, label_smoothing=0.1)
    torch.compiler.reset()
    results = []
    for loss in (criterion, torch.compile(criterion, fullgraph=True, backend="aot_eager")):
        x = logits((3, 5, 4))
        y = classes((3, 5, 4)) if kind == "classes" else distributions((3, 5, 4)).requires_grad_()
        value = loss(x * 2, y)
        results.append([value, *torch.autograd.grad((value * 3).sum(), [x] if kind == "classes" else [x, y])])
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected)


@compiling
def test_transforms():
    """`torch.func.grad` by logits and distributions, and `vmap`."""
    x, y, mixed = X.detach(), Y, distributions((2, 5, 3))
    for place, target in ((0, y), (0, mixed), (1, mixed)):
        ours, theirs = (
            torch.func.grad(loss, argnums=place)(x, target) for loss in (fst.cross_entropy, functional.cross_entropy)
        )
        assert_close(ours, theirs)
    wanted = torch.stack([functional.cross_entropy(*pair) for pair in zip(x.mT, y, strict=True)])
    assert_close(torch.func.vmap(fst.cross_entropy)(x.mT, y), wanted)


LAYOUTS = {
    "contiguous": lambda x: x,
    "classes adjacent": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "batch last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "part of a larger one": lambda x: torch.cat([x, x], 1)[:, ::2],
    "expanded": lambda x: x[:1].expand(*x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["classes", "distributions"])
@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 4), (2, 6, 3, 4)])
def test_layouts(layout, kind, shape):
    x = LAYOUTS[layout](logits(shape).detach())
    y = classes(shape) if kind == "classes" else LAYOUTS[layout](distributions(shape))
    kept = x.clone()
    (ours, slope), (theirs, wanted) = both(x, y, reduction="none")
    assert_close(ours, theirs)
    assert_close(slope, wanted)
    assert torch.equal(x, kept)
    given = x.requires_grad_()
    assert_close(torch.autograd.grad(fst.cross_entropy(given, y, reduction="none").sum(), given)[0], wanted)
    assert torch.equal(x, kept)


def test_gradient_of_adjacent_classes_has_their_layout():
    """A view of logits [N, T, C] gives a gradient of them that is contiguous."""
    x = logits((3, 4, 5))
    (gradient,) = torch.autograd.grad(fst.cross_entropy(x.transpose(1, 2), classes((3, 5, 4))), x)
    assert gradient.is_contiguous()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of the check of batched gradients
@pytest.mark.parametrize("kind", ["classes", "distributions"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck(kind, reduction, shape):
    y = classes(shape) if kind == "classes" else distributions(shape)
    assert torch.autograd.gradcheck(
        lambda x: fst.cross_entropy(x, y, reduction=reduction, label_smoothing=0.1),
        [logits(shape)],
        check_forward_ad=True,
        check_batched_grad=True,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_passes_through_one_graph(shape):
    """Weights of losses, a second pass, and the error of second derivatives."""
    x, y = logits(shape), classes(shape)
    weight = torch.rand(y.shape).double() - 0.5
    loss = (fst.cross_entropy(x, y, reduction="none") * weight).sum()
    wanted = gradient_of((functional.cross_entropy(x, y, reduction="none") * weight).sum(), x)
    for _ in range(2):
        assert_close(torch.autograd.grad(loss, x, retain_graph=True)[0], wanted)
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once, not twice"):
        torch.autograd.grad(slope.sum(), x)


@pytest.mark.parametrize("options", [{}, {"weight": torch.rand(5).double(), "label_smoothing": 0.1}])
def test_module(options):
    """It trains as PyTorch's, whose state it takes; copies and pickles work."""
    ours, theirs = fst.CrossEntropyLoss(**options, ignore_index=2), torch.nn.CrossEntropyLoss(**options, ignore_index=2)
    assert isinstance(ours, torch.nn.CrossEntropyLoss)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x, y = logits((4, 5, 3)), classes((4, 5, 3))
    for module in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        curves = []
        for criterion in (module, theirs):
            torch.manual_seed(0)
            head = torch.nn.Conv1d(5, 5, 1).double()
            optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
            losses = []
            for _ in range(10):
                optimizer.zero_grad()
                loss = criterion(head(x.detach()), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            curves.append(losses)
        np.testing.assert_allclose(*curves, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("module", [fst.CrossEntropyLoss(), fst.CRF(3), fst.CTCLoss()])
def test_scripts(module):
    for model in (module, torch.nn.Sequential(torch.nn.Linear(2, 2), module)):
        with pytest.raises(TypeError, match=f"{type(module).__name__} cannot be scripted"):
            torch.jit.script(model)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_traces():
    with pytest.raises(RuntimeError, match=r"cannot be traced by torch\.jit"):
        torch.jit.trace(lambda x: fst.cross_entropy(x, Y), (X,))
