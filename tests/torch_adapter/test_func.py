"""Losses within the transforms of `torch.func`: the values and derivatives of autograd."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest

# PyTorch calls its own deprecated functions at the first use of tangents.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")]
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap  # noqa: E402

import fastseqloss as fsl  # noqa: E402
import fastseqloss.torch as fst  # noqa: E402
from torch_cases import FLOATS, assert_close, calls_of_losses, every_call, logits  # noqa: E402

ONCE = "differentiated once, not twice"


def reference(function, scores, slope=None):
    """The loss and its gradients, by autograd."""
    leaves = [score.clone().requires_grad_() for score in scores]
    loss = function(*leaves)
    return loss.detach(), torch.autograd.grad(loss, leaves, torch.ones_like(loss) if slope is None else slope)


def slope_for(loss):
    return torch.linspace(-1, 2, max(loss.numel(), 1)).to(loss.dtype).reshape(loss.shape)


def moved(scores, seed):
    """Scores a little apart from these, in which -inf stays -inf."""
    rng = np.random.default_rng(seed)
    return tuple(score + torch.from_numpy(rng.normal(scale=0.1, size=score.shape)) for score in scores)


def close(found, expected, tolerance=1e-12):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert_close(ours, theirs, tolerance)


@every_call
def test_gradients(function, scores):
    loss, gradients = reference(function, scores)
    by = tuple(range(len(scores)))
    close(grad(lambda *x: function(*x).sum(), by)(*scores), gradients)
    for k in by:
        close([grad(lambda *x: function(*x).sum(), k)(*scores)], gradients[k : k + 1])
    value, pull = vjp(function, *scores)
    assert torch.equal(value, loss)
    slope = slope_for(loss)
    close(pull(slope), reference(function, scores, slope)[1])


@every_call
def test_jacobians(function, scores):
    """Jacobians of all losses with respect to all scores, by rows and by columns."""
    loss, _ = reference(function, scores)
    by = tuple(range(len(scores)))
    rows = jacrev(function, by)(*scores)
    for k in range(loss.numel()):
        slope = torch.zeros(loss.numel(), dtype=loss.dtype)
        slope[k] = 1
        _, expected = reference(function, scores, slope.reshape(loss.shape))
        close([row.reshape(loss.numel(), *x.shape)[k] for row, x in zip(rows, scores, strict=True)], expected)
    close(jacfwd(function, len(scores) - 1)(*scores)[None], rows[-1][None])


@every_call
def test_tangents(function, scores):
    loss, _ = reference(function, scores)
    tangents = moved([torch.zeros_like(score) for score in scores], 1)
    value, found = jvp(function, scores, tangents)
    assert torch.equal(value, loss)
    expected = torch.zeros_like(loss)
    for row, tangent in zip(jacrev(function, tuple(range(len(scores))))(*scores), tangents, strict=True):
        expected += (row * tangent).flatten(loss.ndim).sum(-1)
    assert_close(found, expected, 1e-12)
    one = jvp(lambda first: function(first, *scores[1:]), scores[:1], tangents[:1])[1]
    assert one.shape == loss.shape


@every_call
def test_mapped(function, scores):
    """Losses of several sets of scores, and their gradients, one by one."""
    sets = [scores, moved(scores, 1), moved(scores, 2)]
    batches = [torch.stack(column, dim=column[0].ndim) for column in zip(*sets, strict=True)]
    last = tuple(score.ndim for score in scores)
    losses = torch.stack([function(*each) for each in sets])
    assert torch.equal(vmap(function, last)(*batches), losses)
    mixed = vmap(function, (last[0], *[None] * (len(scores) - 1)))(batches[0], *scores[1:])
    assert torch.equal(mixed, torch.stack([function(each[0], *scores[1:]) for each in sets]))

    by = tuple(range(len(scores)))
    gradients = vmap(grad(lambda *x: function(*x).sum(), by), last)(*batches)
    for k, each in enumerate(sets):
        close([gradient[k] for gradient in gradients], reference(function, each)[1])
    close(
        grad(lambda *x: vmap(function, last)(*x).sum(), by)(*batches),
        [gradient.movedim(0, -1) for gradient in gradients],
    )
    twice = vmap(vmap(function, last), in_dims=0)(*[torch.stack([batch, batch]) for batch in batches])
    assert torch.equal(twice, torch.stack([losses, losses]))
    none = vmap(function, last)(*[batch[..., :0] for batch in batches])
    assert none.shape == (0, *losses.shape[1:])


@every_call
def test_no_second_derivatives(function, scores):
    def total(*arguments):
        return function(*arguments).sum()

    for call in (
        lambda: grad(lambda x: grad(total)(x, *scores[1:]).sum())(scores[0]),
        lambda: hessian(total)(*scores),
        lambda: jacrev(jacrev(total))(*scores),
        lambda: jvp(grad(total), scores, scores),
        lambda: vmap(hessian(total))(*[torch.stack([score, score]) for score in scores]),
    ):
        with pytest.raises(RuntimeError, match=ONCE):
            call()


@pytest.mark.parametrize("dtype", FLOATS)
def test_dtypes(dtype):
    x, targets = logits((3, 4, 5)).detach().to(dtype), torch.ones(3, 4, dtype=torch.int64)

    def loss(scores):
        return fst.softmax_cross_entropy(scores, targets)

    value, gradients = reference(loss, [x])
    assert torch.equal(grad(loss)(x), gradients[0])
    assert grad(loss)(x).dtype == dtype
    assert vmap(loss)(x[None]).dtype == value.dtype
    assert jvp(loss, (x,), (x,))[1].dtype == value.dtype


def test_examples_of_a_batch():
    """The gradient of each sequence by the weights of a network; labels and lengths are mapped over, too."""
    torch.manual_seed(0)
    net, loss = torch.nn.Linear(3, 4), fst.CTCLoss()
    x, targets = torch.randn(2, 5, 3), torch.tensor([[1, 2, 2], [3, 1, 0]])
    frames, labels = torch.tensor([5, 4]), torch.tensor([3, 2])
    weights = dict(net.named_parameters())

    def of_one(weights, x, *rest):
        return loss(functional_call(net, weights, (x,)).log_softmax(-1), *rest)

    found = vmap(grad(of_one), in_dims=(None, 0, 0, 0, 0))(weights, x, targets, frames, labels)
    for b in range(2):
        net.zero_grad()
        loss(net(x[b]).log_softmax(-1), targets[b], frames[b], labels[b]).backward()
        for name, parameter in net.named_parameters():
            assert_close(found[name][b], parameter.grad, 1e-6)


def test_lists_and_arrays():
    x = logits((2, 4, 3, 4)).detach()
    for labels in ([[1, 2], [3]], [np.array([1, 2]), np.array([3])], [torch.tensor([1, 2]), torch.tensor([3])]):
        loss = partial(fst.rnnt_loss, labels=labels, logit_lengths=np.array([4, 3]))
        assert_close(grad(loss)(x), reference(loss, [x])[1][0])
        assert torch.equal(vmap(loss)(x[None])[0], loss(x))


def test_constants():
    """Derivatives by arguments that losses have none by are errors, of one level of transforms or several."""
    x, tags = logits((3, 4, 5)).detach(), torch.zeros(3, 4, dtype=torch.int64)
    weight = torch.ones(3, dtype=torch.float64)

    def loss(weight):
        return fst.crf_loss(x, tags, torch.zeros(5, 5).double(), sample_weight=weight, reduction="sum")

    for call in (
        lambda: grad(loss)(weight),
        lambda: jvp(loss, (weight,), (weight,)),
        lambda: jacrev(loss)(weight),
        lambda: grad(lambda w: vmap(loss)(w).sum())(torch.stack([weight, weight])),
    ):
        with pytest.raises(TypeError, match=r"has no (derivative by|gradient of it)"):
            call()


def test_targets():
    """Targets have a gradient where the NumPy function has one."""
    x, y = logits((3, 4)).detach(), logits((3, 4), seed=1).detach()
    expected = reference(fst.mse_loss, [x, y])[1]
    close(grad(fst.mse_loss, (0, 1))(x, y), expected)
    close([grad(fst.mse_loss, 1)(x, y)], expected[1:])
    close([grad(lambda y: vmap(fst.mse_loss)(x[None], y[None]).sum())(y)], expected[1:])


@pytest.mark.parametrize("kind", [">f8", ">f4", "longdouble", "bfloat16", "ulonglong", ">i2", "strided", "frozen"])
def test_arrays_of_other_kinds(kind):
    """Arrays that PyTorch cannot hold as they are."""
    x, weight = logits((2, 3, 4)).detach(), np.array([1, 0, 2, 3])
    if kind == "strided":
        weight = np.repeat(weight, 2)[::-2]
    elif kind == "frozen":
        weight.flags.writeable = False
    else:
        weight = weight.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    targets = np.zeros((2, 3), ">i4" if kind.startswith(">") else int)
    expected = fsl.softmax_cross_entropy(x.numpy(), targets, class_weight=weight, return_grad=True)
    value, pullback = torch.func.vjp(lambda x: fst.softmax_cross_entropy(x, targets, class_weight=weight), x)
    assert value == expected[0]
    np.testing.assert_array_equal(pullback(torch.ones_like(value))[0].numpy(), expected[1])


@pytest.mark.parametrize(("message", "options"), [
    ("ignore_index is 1000000000000000000000; allowed: integers of 64 bits", {"ignore_index": 10**21}),
    ("lengths.1. is 1000000000000000000000; allowed: integers of 64 bits", {"lengths": [1, 10**21]}),
    ("lengths has dtype object; allowed", {"lengths": [1, None]}),
    ("lengths has dtype .*S1; allowed", {"lengths": np.array([b"1", b"2"])}),
    ("lengths is on device 'meta'", {"lengths": torch.ones(2, device="meta")}),
    (r"reduction is np.str_\('avg'\); allowed", {"reduction": np.str_("avg")}),
    ("label_smoothing is inf; allowed", {"label_smoothing": np.longdouble(10) ** 400}),
])  # fmt: skip
def test_errors_of_constants(message, options):
    targets = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        grad(lambda x: fst.softmax_cross_entropy(x, targets, **options))(torch.zeros(2, 3, 4))


def test_errors_are_those_of_the_losses():
    x = logits((2, 5, 4)).detach()
    with pytest.raises(ValueError, match=r"lengths\[0\] is 9"):
        grad(lambda x: fst.softmax_cross_entropy(x, torch.zeros(2, 5, dtype=torch.int64), [9, 1]))(x)
    with pytest.raises(ValueError, match="reduction is 'avg'"):
        vmap(lambda x: fst.softmax_cross_entropy(x, torch.zeros(5, dtype=torch.int64), reduction="avg"))(x)
    with pytest.raises(TypeError, match="logits has dtype"):
        vmap(lambda x: fst.softmax_cross_entropy(x, torch.zeros(5, dtype=torch.int64)))(x.long())


def test_every_loss_is_tried():
    tried = {name.partition(",")[0] for name in calls_of_losses()}
    losses = {name for name in fst.__all__ if name.endswith(("_loss", "_entropy")) or "_loss_" in name}
    assert losses
    assert losses <= tried
