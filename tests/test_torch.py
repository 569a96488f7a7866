"""Losses of tensors: against PyTorch's own, their gradients, their memory, their errors."""

import gc
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402

B, T, V, S = 4, 12, 6, 5
REDUCTIONS = ("none", "mean", "sum")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def logits(shape=(T, B, V), dtype=torch.float64, seed=0, scale=1.0):
    made = torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=shape))
    return made.to(dtype).requires_grad_()


def problem(seed=0):
    """Targets [B, S], the lengths of scores and targets; one sequence is empty, one has no targets."""
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(rng.integers(1, V, (B, S)))
    return targets, torch.tensor([T, 10, 11, 0]), torch.tensor([3, 5, 0, 0])


def concatenated(targets, lengths):
    return torch.cat([row[:n] for row, n in zip(targets, lengths, strict=True)])


def gradient_of(loss, x):
    return torch.autograd.grad(loss.sum(), x)[0]


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a.detach().double().numpy(), b.detach().double().numpy(), rtol=tolerance, atol=tolerance)


# ---- as PyTorch -----------------------------------------------------------------------------------------------


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


def test_module():
    for options in ({}, {"blank": V - 1, "reduction": "sum", "zero_infinity": True}):
        ours, theirs = fst.CTCLoss(**options), torch.nn.CTCLoss(**options)
        assert isinstance(ours, torch.nn.CTCLoss)
        targets, *lengths = problem()
        x = logits().log_softmax(-1)
        assert_close(ours(x, targets - 1 if options else targets, *lengths),
                     theirs(x, targets - 1 if options else targets, *lengths))  # fmt: skip


# ---- gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", [fst.ctc_loss, fst.ctc_loss_from_logits])
def test_gradcheck_ctc(loss, reduction):
    arguments = *problem(), 0, reduction
    assert torch.autograd.gradcheck(lambda x: loss(x, *arguments), logits())
    log_probs = logits().detach().log_softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *arguments), log_probs)


STEP_REDUCTIONS = ("none", "per_sequence", "sum", "mean", "sequence_mean", "batch_mean")


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


def test_crf_of_one_sequence():
    tags = torch.tensor([0, 2, 1, 1])
    for reduction in ("none", "sum"):
        assert torch.autograd.gradcheck(
            lambda x, a, r=reduction: fst.crf_loss(x, tags, a, reduction=r), [logits((4, 3)), logits((3, 3))]
        )


def test_crf_beside_torchcrf():
    torchcrf = pytest.importorskip("torchcrf", reason="the extra `peers` installs it")
    model = torchcrf.CRF(5, batch_first=True).double()
    x, tags = logits((3, 7, 5)), torch.from_numpy(np.random.default_rng(0).integers(0, 5, (3, 7)))
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = -model(x, tags, mask, reduction="none")
    ours = fst.crf_loss(
        x, tags, model.transitions, mask=mask, start=model.start_transitions, end=model.end_transitions,
        reduction="none",
    )  # fmt: skip
    assert_close(ours, expected)
    weight = torch.tensor([1.0, -0.5, 2.0]).double()
    parameters = [x, model.transitions, model.start_transitions, model.end_transitions]
    both = [torch.autograd.grad((side * weight).sum(), parameters) for side in (ours, expected)]
    for a, b in zip(*both, strict=True):
        assert_close(a, b)


def test_crf_weights_that_are_not_finite():
    """A sequence weighted inf or NaN makes NaN of its own gradient and of the sums; the others keep theirs."""
    x, transitions = logits((3, 4, 3)), logits((3, 3))
    tags = torch.zeros(3, 4, dtype=torch.int64)
    loss = fst.crf_loss(x, tags, transitions, reduction="none")
    weight = torch.tensor([1.0, float("nan"), float("inf")]).double()
    gradients = torch.autograd.grad(loss, [x, transitions], weight)
    assert gradients[0][1:].isnan().all()
    assert gradients[1].isnan().all()
    expected = torch.autograd.grad(fst.crf_loss(x, tags, transitions, reduction="none")[0], x)[0]
    assert_close(gradients[0][0], expected[0])


@pytest.mark.parametrize("targets", ["classes", "distributions"])
def test_cross_entropy_as_pytorch(targets):
    x = logits((3, 4, 5))
    rng = np.random.default_rng(0)
    if targets == "classes":
        y = torch.from_numpy(rng.integers(0, 5, (3, 4)))
        y[1, 2] = -100
    else:
        y = torch.from_numpy(rng.dirichlet(np.ones(5), (3, 4)))
    ours = fst.softmax_cross_entropy(x, y, label_smoothing=0.2)
    theirs = functional.cross_entropy(
        x.reshape(-1, 5), y.reshape(-1) if targets == "classes" else y.reshape(-1, 5), label_smoothing=0.2
    )
    assert_close(ours, theirs)
    assert_close(gradient_of(ours, x), gradient_of(theirs, x))


LOSSES = {
    "ctc_loss": lambda x: fst.ctc_loss(x, *problem()),
    "ctc_loss, none": lambda x: fst.ctc_loss(x, *problem(), reduction="none").sum(),
    "ctc_loss_from_logits": lambda x: fst.ctc_loss_from_logits(x, *problem()),
    "softmax_cross_entropy": lambda x: fst.softmax_cross_entropy(x, torch.ones(T, B, dtype=torch.int64)),
    "softmax_cross_entropy, none": lambda x: fst.softmax_cross_entropy(
        x, torch.ones(T, B, dtype=torch.int64), reduction="none"
    ).sum(),
    "crf_loss": lambda x: fst.crf_loss(x, torch.ones(T, B, dtype=torch.int64), torch.zeros(V, V)),
    "crf_loss, none": lambda x: fst.crf_loss(
        x, torch.ones(T, B, dtype=torch.int64), torch.zeros(V, V), reduction="none"
    ).sum(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


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

    for name in ("_Loss", "_CRFLoss"):
        monkeypatch.setattr(_autograd, name, None)
    expected = loss(logits().detach())
    assert not expected.requires_grad
    with torch.no_grad():
        assert loss(logits()) == expected
    with torch.inference_mode():
        assert loss(logits()) == expected


# ---- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
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
    kept = {array.ctypes.data for array in loss.grad_fn.gradients[:2]}
    loss.backward()
    assert kept == {x.grad.data_ptr(), transitions.grad.data_ptr()}


def test_gradient_keeps_the_order_of_axes():
    """So that PyTorch takes it as it is: time-major and batch-major leaves."""
    for x in (logits(), logits((B, T, V)).detach().transpose(0, 1).requires_grad_()):
        fst.ctc_loss_from_logits(x, *problem()).backward()
        assert x.grad.stride() == x.stride()


# ---- tensors and NumPy's functions ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_functions_take_tensors(dtype):
    """Scores, integers, masks, weights; the gradient goes to a tensor's memory, the scores' own too."""
    x = logits((3, 5, 4), dtype=dtype).detach()
    targets, lengths, weight = torch.ones(3, 5, dtype=torch.int32), torch.tensor([5, 2, 4]), torch.rand(3)
    array = x.float().numpy().astype({torch.bfloat16: ml_dtypes.bfloat16}.get(dtype, str(dtype)[6:]))
    if dtype == torch.float64:
        array = x.numpy().copy()
    calls = {
        "ctc_loss": (fsl.ctc_loss, (targets, lengths), {"label_lengths": torch.tensor([2, 1, 0])}),
        "crf_loss": (fsl.crf_loss, (targets, torch.zeros(4, 4), lengths), {}),
        "softmax_cross_entropy": (fsl.softmax_cross_entropy, (targets, lengths), {}),
        "mse_loss": (fsl.mse_loss, (x + 1, lengths), {}),
        "multiclass_hinge_loss": (fsl.multiclass_hinge_loss, (targets, lengths), {}),
    }
    for name, (loss, constants, options) in calls.items():
        options = options | {"sample_weight": weight}
        expected = loss(array, *constants, **options, return_grad=True)
        expected = expected[0], getattr(expected[1], "emissions", expected[1])
        fresh = loss(x, *constants, **options, return_grad=True)
        assert fresh[0] == expected[0], name
        over = x.clone()
        for scores, out in ((x, torch.empty_like(x)), (over, over)):
            value, gradient = loss(scores, *constants, **options, grad_out=out)
            gradient = getattr(gradient, "emissions", gradient)
            assert value == expected[0], name
            assert gradient.ctypes.data == out.data_ptr(), name
            np.testing.assert_array_equal(gradient.astype(np.float64), expected[1].astype(np.float64), err_msg=name)
            np.testing.assert_array_equal(out.double().numpy(), expected[1].astype(np.float64), err_msg=name)
    total = fsl.weighted_sum([(1.0, lambda scores: (0.0, np.zeros_like(scores)))])
    out = torch.ones_like(x)
    assert total(x, grad_out=out)[0] == 0
    assert not out.any()


def test_crf_gradients_into_tensors():
    x, tags = logits((3, 5, 4)).detach(), torch.zeros(3, 5, dtype=torch.int64)
    a, start = torch.zeros(4, 4), torch.zeros(4)
    outs = fsl.CRFGradient(torch.empty_like(x), torch.empty_like(a), torch.empty_like(start), None)
    fsl.crf_loss(x, tags, a, start=start, grad_out=outs)
    expected = fsl.crf_loss(x, tags, a, start=start, return_grad=True)[1]
    for ours, wanted in zip(outs[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(ours.numpy(), wanted)


def test_numpy_functions_say_what_is_wrong():
    x = logits((3, 5, 4))
    targets = torch.zeros(3, 5, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"logits requires grad, and NumPy cannot hand it on; pass logits\.detach\(\)"):
        fsl.softmax_cross_entropy(x, targets)
    with pytest.raises(TypeError, match="grad_out requires grad"):
        fsl.softmax_cross_entropy(x.detach(), targets, grad_out=x)
    with pytest.raises(TypeError, match=r"logits is on device 'meta'; allowed: 'cpu', so pass logits\.cpu\(\)"):
        fsl.softmax_cross_entropy(x.detach().to("meta"), targets)
    with pytest.raises(TypeError, match="targets is on device 'meta'"):
        fsl.softmax_cross_entropy(x.detach(), targets.to("meta"))
    with pytest.raises(TypeError, match="logits is not a tensor that NumPy can see"):
        fsl.softmax_cross_entropy(x.detach().to_sparse(), targets)
    with pytest.raises(TypeError, match="logits has dtype int64"):
        fsl.softmax_cross_entropy(x.detach().long(), targets)


def test_negated_views():
    """Imaginary parts of a conjugate are views that NumPy cannot express."""
    z = torch.complex(logits((3, 5, 4)).detach(), logits((3, 5, 4), seed=1).detach())
    x = z.conj().imag
    assert x.is_neg()
    targets = torch.zeros(3, 5, dtype=torch.int64)
    assert fsl.softmax_cross_entropy(x, targets) == fsl.softmax_cross_entropy(-z.imag, targets)


def test_bfloat16_needs_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="logits has dtype bfloat16, for which NumPy needs the package ml_dtypes"):
        fsl.softmax_cross_entropy(torch.zeros(2, 3, dtype=torch.bfloat16), [0, 1])


# ---- errors -----------------------------------------------------------------------------------------------------


def ctc_arguments(**changed):
    targets, lengths, target_lengths = problem()
    given = {"log_probs": logits(), "targets": targets, "input_lengths": lengths, "target_lengths": target_lengths}
    return given | changed


@pytest.mark.parametrize(("error", "message", "changed"), [
    (TypeError, r"log_probs has dtype torch\.int64; allowed: torch", {"log_probs": torch.ones(T, B, V).long()}),
    (TypeError, "log_probs must be a tensor, got ndarray", {"log_probs": np.zeros((T, B, V))}),
    (TypeError, "log_probs is on device 'meta'", {"log_probs": torch.ones(T, B, V, device="meta")}),
    (TypeError, "log_probs is not a tensor that NumPy can see", {"log_probs": torch.ones(T, B, V).to_sparse()}),
    (ValueError, r"log_probs has shape \(1, 12, 4, 6\); allowed: \[T, B, V\]", {"log_probs": logits((1, T, B, V))}),
    (ValueError, r"input_lengths\[0\] is 13; allowed: 0 to 12", {"input_lengths": [13, 1, 1, 1]}),
    (ValueError, r"input_lengths\[1\] is -1; allowed: 0 to 12", {"input_lengths": [1, -1, 1, 1]}),
    (TypeError, "input_lengths has dtype float32; allowed: any integer", {"input_lengths": torch.ones(4)}),
    (ValueError, r"input_lengths has shape \(3,\); allowed: \(4,\)", {"input_lengths": [1, 1, 1]}),
    (ValueError, r"target_lengths\[0\] is 6; allowed: 0 to 5", {"target_lengths": [6, 1, 1, 1]}),
    (ValueError, r"target_lengths\[0\] is -1; allowed: 0 to 5", {"target_lengths": [-1, 1, 1, 1]}),
    (ValueError, r"target_lengths add up to 7; allowed: 8, as in targets",
     {"targets": torch.ones(8).long(), "target_lengths": [7, 0, 0, 0]}),
    (ValueError, r"targets\[0, 1\] is 6; allowed: 0 to 5, except 0, which is the blank",
     {"targets": torch.tensor([[1, 6, 1, 1, 1]] * 4)}),
    (ValueError, r"targets\[0, 1\] is 0; allowed: 0 to 5, except 0, which is the blank",
     {"targets": torch.tensor([[1, 0, 1, 1, 1]] * 4)}),
    (TypeError, "targets has dtype float32; allowed: any integer dtype", {"targets": torch.ones(4, 5)}),
    (TypeError, "targets is on device 'meta'", {"targets": torch.ones(4, 5, device="meta").long()}),
    (ValueError, r"targets has shape \(3, 5\); allowed: \[B, S\] with B = 4", {"targets": torch.ones(3, 5).long()}),
    (ValueError, "blank is 6; allowed: -6 to 5", {"blank": 6}),
    (ValueError, "reduction is 'batch'; allowed: 'none', 'mean', 'sum'", {"reduction": "batch"}),
])  # fmt: skip
def test_ctc_errors(error, message, changed):
    with pytest.raises(error, match=message):
        fst.ctc_loss(**ctc_arguments(**changed))


def test_errors_name_logits():
    with pytest.raises(ValueError, match=r"logits has shape \(12,\)"):
        fst.ctc_loss_from_logits(torch.zeros(T), *problem())


def test_constants_have_no_gradient():
    x, y = logits((3, 4, 5)), torch.rand(3, 4, 5).double().requires_grad_()
    message = r"targets requires grad, and this loss has no gradient of it; pass targets\.detach\(\)"
    with pytest.raises(TypeError, match=message):
        fst.softmax_cross_entropy(x, y)
    with torch.no_grad():
        assert fst.softmax_cross_entropy(x, y) == fst.softmax_cross_entropy(x, y.detach())
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="sample_weight requires grad"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), torch.zeros(5, 5), sample_weight=weight)
    with pytest.raises(TypeError, match="transitions must be a tensor, got NoneType"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), None)


# ---- training -----------------------------------------------------------------------------------------------------


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


# ---- threads, imports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours", "expected"), [(1, None, 1), (2, 1, 1)])
def test_threads_of_both(monkeypatch, theirs, ours, expected):
    from fastseqloss import _autograd

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(theirs)
        fsl.set_num_threads(ours)
        assert _autograd.threads(None) == expected
        assert _autograd.threads(7) == 7
    finally:
        torch.set_num_threads(before)
        fsl.set_num_threads(None)


def test_imports():
    """The package needs neither library; its modules of their names do not hide them."""
    code = """
import sys, fastseqloss
assert not {"torch", "jax", "ml_dtypes"} & set(sys.modules), "imported with the package"
from fastseqloss import torch as ours
import torch
assert torch is not ours and torch is sys.modules["torch"] and hasattr(torch, "Tensor")
assert ours is sys.modules["fastseqloss.torch"] and "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
