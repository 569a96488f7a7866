"""Derivatives of losses of tensors: of whatever order, mode and precision."""

import numpy as np
import pytest

# PyTorch calls its own deprecated functions at the first use of tangents.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")]
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

from torch.autograd import forward_ad  # noqa: E402

import fastseqloss.torch as fst  # noqa: E402
from thoroughness import spread, thorough  # noqa: E402
from torch_cases import FLOATS, REDUCTIONS, STEP_REDUCTIONS, assert_close, every_loss, logits, problem  # noqa: E402


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
    """Two passes through one graph, each scaled by its incoming gradient; the sums are correct."""
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
    """Gradients that are not required are not computed."""
    from fastseqloss.torch import autograd

    for name in ("_Loss",):
        monkeypatch.setattr(autograd, name, None)
    expected = loss(logits().detach())
    assert not expected.requires_grad
    with torch.no_grad():
        assert loss(logits()) == expected
    with torch.inference_mode():
        assert loss(logits()) == expected


# ---- derivatives of other kinds -------------------------------------------------------------------------------------


def transducers(labels, lengths, sizes, weight, reduction):
    given = {"sample_weight": weight, "reduction": reduction}
    yield (
        f"rnnt_loss, {reduction}",
        lambda x: fst.rnnt_loss(x, labels, lengths, sizes, **given),
        [logits((3, 4, 3, 3))],
    )
    yield (
        f"rnnt_loss of one, {reduction}",
        lambda x: fst.rnnt_loss(x, labels[0], topology="modified", blank_model="hat", reduction=reduction),
        [logits((4, 3, 3))],
    )
    yield (
        f"rnnt_loss, pruned, {reduction}",
        lambda x: fst.rnnt_loss(x, labels.clamp(min=1), ranges=torch.tensor([[0, 0, 1, 1]] * 3), **given),
        [logits((3, 4, 2, 3))],
    )
    yield (
        f"tdt_loss, {reduction}",
        lambda x, d: fst.tdt_loss(x, d, labels, lengths, sizes, durations=[0, 1, 2], sigma=0.1, **given),
        [logits((3, 4, 3, 3)), logits((3, 4, 3, 3), seed=1)],
    )
    yield (
        f"rnnt_simple_loss, {reduction}",
        lambda am, lm: fst.rnnt_simple_loss(am, lm, labels, lengths, sizes, **given),
        [logits((3, 4, 3)), logits((3, 3, 3), seed=1)],
    )


def differentiable():
    """Losses of every reduction, as functions of scores that are free, with the scores."""
    tags = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (3, 4)))
    weight = torch.tensor([0.5, 2.0, 1.0])
    labels, lengths, sizes = torch.tensor([[1, 2], [1, 0], [2, 2]]), [4, 2, 4], [2, 1, 2]
    for reduction in REDUCTIONS:
        for function in (fst.ctc_loss, fst.ctc_loss_from_logits):
            yield (
                f"{function.__name__}, {reduction}",
                lambda x, f=function, r=reduction: f(x, labels, lengths, sizes, reduction=r),
                [logits((4, 3, 3))],
            )
        yield (
            f"ctc_loss of one, {reduction}",
            lambda x, r=reduction: fst.ctc_loss(x, labels[0], 4, 2, reduction=r),
            [logits((4, 3))],
        )
    for reduction in STEP_REDUCTIONS:
        yield (
            f"softmax_cross_entropy, {reduction}",
            lambda x, r=reduction: fst.softmax_cross_entropy(x, tags, lengths, sample_weight=weight, reduction=r),
            [logits((3, 4, 3))],
        )
    for reduction in (*REDUCTIONS, "sequence_mean"):
        yield from transducers(labels, lengths, sizes, weight, reduction)
        yield (
            f"crf_loss, {reduction}",
            lambda x, a, s, e, r=reduction: fst.crf_loss(
                x, tags, a, lengths, start=s, end=e, sample_weight=weight, reduction=r
            ),
            [logits((3, 4, 3)), logits((3, 3)), logits((3,)), logits((3,))],
        )
        yield (
            f"crf_loss without ends, {reduction}",
            lambda x, a, r=reduction: fst.crf_loss(x, tags, a, lengths, reduction=r),
            [logits((3, 4, 3)), logits((3, 3))],
        )
    yield (
        "crf_loss of one, none",
        lambda x, a: fst.crf_loss(x, tags[0], a, reduction="none"),
        [logits((4, 3)), logits((3, 3))],
    )


DIFFERENTIABLE = {name: (function, scores) for name, function, scores in differentiable()}
# Every second one by default: of a loss, and of a reduction, some are among them.
every_reduction = pytest.mark.parametrize(
    ("function", "scores"),
    [(thorough if i % 2 else pytest.param)(*call, id=name) for i, (name, call) in enumerate(DIFFERENTIABLE.items())],
)


def fresh(scores):
    return [score.detach().clone().requires_grad_() for score in scores]


@every_reduction
def test_derivative_by_the_slope(function, scores):
    """A gradient is linear in the factors of the losses: derivatives with respect to them are correct."""
    scores = fresh(scores)
    losses = function(*scores)
    slope = torch.linspace(-1, 2, max(losses.numel(), 1)).double().reshape(losses.shape).requires_grad_()
    factors = [torch.from_numpy(np.random.default_rng(i).normal(size=s.shape)) for i, s in enumerate(scores)]
    gradients = torch.autograd.grad(losses, scores, slope, create_graph=True)
    product = sum((gradient * factor).sum() for gradient, factor in zip(gradients, factors, strict=True))
    asked = [{}, {"allow_unused": True}, {"allow_unused": True, "materialize_grads": True}]
    found, *same = (torch.autograd.grad(product, slope, retain_graph=True, **how)[0] for how in asked)
    assert all(torch.equal(other, found) for other in same)
    step = 1e-6
    moved = [
        function(*[s.detach() + sign * step * f for s, f in zip(scores, factors, strict=True)]) for sign in (1, -1)
    ]
    assert_close(found, (moved[0] - moved[1]) / (2 * step), 1e-7)
    for how in asked:
        with pytest.raises(RuntimeError, match="differentiated once, not twice"):
            torch.autograd.grad(product, [*scores, slope], retain_graph=True, **how)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        product.backward()


@every_reduction
def test_forward_mode(function, scores):
    assert torch.autograd.gradcheck(function, fresh(scores), check_forward_ad=True)
    plain = [score.detach() for score in scores]
    tangents = [torch.from_numpy(np.random.default_rng(i).normal(size=s.shape)) for i, s in enumerate(scores)]
    expected = torch.autograd.functional.jvp(function, tuple(plain), tuple(tangents))[1]  # by the slope, twice
    with forward_ad.dual_level(), torch.no_grad():
        duals = [forward_ad.make_dual(score, tangent) for score, tangent in zip(plain, tangents, strict=True)]
        assert_close(forward_ad.unpack_dual(function(*duals)).tangent, expected)
        one = forward_ad.unpack_dual(function(duals[0], *plain[1:])).tangent
        assert one.shape == expected.shape
        assert torch.equal(one, expected) == (len(plain) == 1)


@every_reduction
def test_modes_mixed(function, scores):
    """Second derivatives are errors in whatever mode they are asked for."""
    scores = fresh(scores)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(score, torch.ones_like(score)) for score in scores]
        losses = function(*duals)
        with pytest.raises(RuntimeError, match="differentiated once, not twice"):
            torch.autograd.grad(losses.sum(), duals, retain_graph=True)
        with pytest.raises(RuntimeError, match="differentiated once, not twice"):
            torch.autograd.grad(forward_ad.unpack_dual(losses).tangent.sum(), scores)
    with forward_ad.dual_level():  # a tangent of the slope alone, from which a gradient takes its own
        slope = forward_ad.make_dual(torch.ones((), dtype=torch.float64), torch.tensor(3.0).double())
        losses = function(*scores)
        if losses.grad_fn.call.loss.late:
            with pytest.raises(RuntimeError, match="differentiated once, not twice"):
                torch.autograd.grad((losses * slope).sum(), scores)
        else:
            gradient = torch.autograd.grad((losses * slope).sum(), scores)[0]
            assert_close(forward_ad.unpack_dual(gradient).tangent, 3 * forward_ad.unpack_dual(gradient).primal)


@every_reduction
def test_batched_gradients(function, scores):
    """Several slopes at a time, as of `torch.autograd.functional.jacobian(vectorize=True)`."""
    scores = fresh(scores)
    losses = function(*scores)
    slopes = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *losses.shape)))
    if losses.grad_fn.call.loss.late:
        message = r"^(crf|structured_hinge)_loss with reduction='none' has no batched gradients"
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(losses, scores, slopes, is_grads_batched=True)
        return
    batched = torch.autograd.grad(losses, scores, slopes, is_grads_batched=True, retain_graph=True)
    for k in range(2):
        rows = torch.autograd.grad(losses, scores, slopes[k], retain_graph=True)
        for row, whole in zip(rows, batched, strict=True):
            assert_close(whole[k], row, 1e-14)


@pytest.mark.parametrize("loss", [fst.crf_loss, fst.structured_hinge_loss])
def test_batched_tangents(loss):
    tags, transitions = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=f"^{loss.__name__} with reduction='none' has no batched tangents"):
        torch.autograd.functional.jacobian(
            lambda x: loss(x, tags, transitions, reduction="none"),
            logits((2, 3, 4)).detach(),
            strategy="forward-mode",
            vectorize=True,
        )


def test_constants_have_no_tangents():
    x, tags = logits((3, 4, 5)).detach(), torch.zeros(3, 4, dtype=torch.int64)
    mixed, weight, factor = torch.rand(3, 4, 5), torch.rand(5), torch.rand(3)
    with forward_ad.dual_level():
        mixed, weight, factor = (forward_ad.make_dual(value, value) for value in (mixed, weight, factor))
        for name, call in {
            "targets": lambda: fst.hinge_loss(x, mixed),
            "class_weight": lambda: fst.softmax_cross_entropy(x, tags, class_weight=weight),
            r"class_weight\[1\]": lambda: fst.softmax_cross_entropy(x, tags, class_weight=[1.0, weight[0]]),
            "sample_weight": lambda: fst.crf_loss(x, tags, torch.zeros(5, 5), sample_weight=factor),
        }.items():
            with pytest.raises(TypeError, match=f"{name} has a tangent"):
                call()


# ---- precision ------------------------------------------------------------------------------------------------------


def exact_gradients(function, scores, slope):
    wide = [score.detach().double().requires_grad_() for score in scores]
    return torch.autograd.grad((function(*wide) * slope).sum(), wide)


@pytest.mark.parametrize(
    ("name", "dtype", "slope"), spread(DIFFERENTIABLE, FLOATS[:3], [1.0, 2.0**-12, 2.0**12, -3.0], every=4)
)
def test_rounded_once(name, dtype, slope):
    """Losses divided by as much as they are multiplied with later: the gradient is that of the product."""
    function, scores = DIFFERENTIABLE[name]
    scores = [score.detach().to(dtype).requires_grad_() for score in scores]
    shrink = 2.0**-26  # which shrinks numbers of half precision below its range

    def shrunk(*values):
        return function(*values) * shrink

    found = torch.autograd.grad((shrunk(*scores) * (slope / shrink)).sum(), scores)
    for gradient, expected in zip(found, exact_gradients(function, scores, slope), strict=True):
        assert gradient.dtype == dtype
        unit = torch.finfo(dtype).eps / 2
        smallest = torch.finfo(dtype).smallest_normal * unit * 2
        error = (gradient.double() - expected).abs()
        bound = unit * expected.abs() + smallest + 2e-6 * abs(slope)
        assert bool((error <= bound).all())


@pytest.mark.parametrize("dtype", FLOATS[:2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_scaling(dtype, reduction):
    """Gradients below the range of half precision, brought into it by the slope, step by step and in all."""
    x = logits((64, 2000), dtype=dtype)
    targets = torch.from_numpy(np.random.default_rng(0).integers(0, 2000, 64))
    options = {"reduction": reduction, "normalizer": 5e5 if reduction == "sum" else None}

    def loss(z):
        return fst.softmax_cross_entropy(z, targets, **options)

    for slope in (2.0**14, -(2.0**10)):
        (gradient,) = torch.autograd.grad(loss(x) * slope, x)
        (expected,) = exact_gradients(loss, [x], slope)
        normal = expected.abs() > torch.finfo(dtype).smallest_normal
        assert bool(normal.any())
        unit = torch.finfo(dtype).eps
        assert bool(((gradient.double() - expected).abs()[normal] <= unit * expected.abs()[normal]).all())


@every_loss
@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_again_in_every_precision(loss, dtype):
    """A second pass gives the bits of the first one."""
    x = logits(dtype=dtype)
    value = loss(x) * 3
    first, second = (torch.autograd.grad(value, x, retain_graph=True)[0] for _ in range(2))
    assert first.dtype == dtype
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_huge_slopes(dtype):
    """Values below the range of float32 are not lost if the slope scales them up."""
    x = logits((3, 4, 5), dtype=dtype)
    tags, transitions = torch.ones(3, 4, dtype=torch.int64), torch.zeros(5, 5, dtype=dtype)
    for function in (
        lambda z, n: fst.softmax_cross_entropy(z, tags, reduction="sum", normalizer=n),
        lambda z, n: fst.crf_loss(z, tags, transitions.to(z.dtype), reduction="sum", normalizer=n),
    ):
        (expected,) = exact_gradients(lambda z, f=function: f(z, 1.0), [x], 1.0)
        for normalizer in (1e30, 1e38):
            (gradient,) = torch.autograd.grad(function(x, normalizer) * normalizer, x)
            error = (gradient.double() - expected).abs().max()
            assert error <= torch.finfo(dtype).eps
