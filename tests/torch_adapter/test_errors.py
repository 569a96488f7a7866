"""Errors of losses of tensors."""

import math
import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import B, T, V, assert_close, gradient_of, logits, problem  # noqa: E402


def ctc_arguments(**changed):
    targets, lengths, target_lengths = problem()
    given = {"log_probs": logits(), "targets": targets, "input_lengths": lengths, "target_lengths": target_lengths}
    return given | changed


@pytest.mark.parametrize(("error", "message", "changed"), [
    (TypeError, r"log_probs has dtype torch\.int64; allowed: torch", {"log_probs": torch.ones(T, B, V).long()}),
    (TypeError, "log_probs must be a tensor, got ndarray", {"log_probs": np.zeros((T, B, V))}),
    (TypeError, "log_probs is on device 'meta'", {"log_probs": torch.ones(T, B, V, device="meta")}),
    (TypeError, r"log_probs has layout torch\.sparse_coo; allowed: torch\.strided",
     {"log_probs": torch.ones(T, B, V).to_sparse()}),
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
    (TypeError,
     r"targets\[0, 0\] is nan, a missing entry: leave it out, or put any integer there and pass target_lengths",
     {"targets": torch.full((4, 5), math.nan)}),
    (ValueError, "targets has 3 sequences; allowed: 4, as in log_probs", {"targets": [[1, 2]] * 3}),
    (ValueError, r"targets has shape \(4, 1, 5\); allowed: \[B, S\] padded, \[sum of target_lengths\]",
     {"targets": torch.ones(4, 1, 5).long()}),
    (TypeError, "targets is on device 'meta'", {"targets": torch.ones(4, 5, device="meta").long()}),
    (ValueError, r"targets has shape \(3, 5\); allowed: \[B, S\] with B = 4", {"targets": torch.ones(3, 5).long()}),
    (ValueError, "blank is 6; allowed: -6 to 5", {"blank": 6}),
    (ValueError, "reduction is 'batch'; allowed: 'none', 'mean', 'sum'", {"reduction": "batch"}),
    (ValueError, r"reduction is \['mean'\]; allowed", {"reduction": ["mean"]}),
    (ValueError, r"reduction is .*; allowed: 'none'", {"reduction": np.array(["mean", "sum"])}),
    (TypeError, "zero_infinity must be a bool, got ndarray", {"zero_infinity": np.zeros(2, bool)}),
    (TypeError, "zero_infinity must be a bool, got Tensor", {"zero_infinity": torch.zeros(2)}),
    (TypeError, r"log_probs has layout torch\.sparse_coo; allowed: torch\.strided",
     {"log_probs": torch.ones(T, B, V).bfloat16().to_sparse()}),
])  # fmt: skip
def test_ctc_errors(error, message, changed):
    with pytest.raises(error, match=message):
        fst.ctc_loss(**ctc_arguments(**changed))


def test_errors_name_logits():
    with pytest.raises(ValueError, match=r"logits has shape \(12,\)"):
        fst.ctc_loss_from_logits(torch.zeros(T), *problem())
    with pytest.raises(ValueError, match="targets has 3 sequences; allowed: 4, as in logits"):
        fst.ctc_loss_from_logits(logits(), [[1, 2]] * 3, [T] * 4, [1] * 4)


def test_constants_have_no_gradient():
    x, y = logits((3, 4, 5)), torch.rand(3, 4, 5).double().requires_grad_()
    message = r"targets requires grad, and this loss has no gradient of it; pass targets\.detach\(\)"
    with pytest.raises(TypeError, match=message):
        fst.hinge_loss(x, y)
    with torch.no_grad():
        assert fst.hinge_loss(x, y.sign()) == fst.hinge_loss(x, y.detach().sign())
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="sample_weight requires grad"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), torch.zeros(5, 5), sample_weight=weight)
    with pytest.raises(ValueError, match=r"reduction is .*; allowed: 'none'"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), torch.zeros(5, 5), reduction=np.array(["none", "sum"]))
    with pytest.raises(TypeError, match="transitions must be a tensor, got NoneType"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), None)


@pytest.mark.parametrize("name", ["targets", "mask", "ignore_index", "num_threads"])
@pytest.mark.parametrize("transform", [lambda function: function, torch.func.grad])
def test_lists_that_contain_themselves(name, transform):
    endless = [1]
    endless.append(endless)
    given = {"targets": torch.zeros(3, 4, dtype=torch.int64)} | {name: endless}
    with pytest.raises(ValueError, match=f"{name} is nested too deeply; allowed: an array"):
        transform(lambda x: fst.softmax_cross_entropy(x, **given))(logits((3, 4, 5)))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripts_and_traces():
    """Losses run outside of PyTorch, and say so."""
    for model in (fst.CTCLoss(), torch.nn.Sequential(torch.nn.Linear(2, 2), fst.CTCLoss())):
        with pytest.raises(TypeError, match="CTCLoss cannot be scripted"):
            torch.jit.script(model)
    arguments = problem()
    for x in (logits(), logits().detach()):
        with pytest.raises(RuntimeError, match=r"cannot be traced by torch\.jit"):
            torch.jit.trace(lambda z: fst.ctc_loss(z, *arguments), (x,))


@pytest.mark.parametrize("index", [0, 2, 2**40])
def test_ignore_index_beside_distributions(index):
    """It marks classes, of which there are none; PyTorch's own says so too."""
    x, mixed = logits((3, 4, 5)), torch.full((3, 4, 5), 0.2)
    refused = f"ignore_index is {index}, but it does not apply to targets that are distributions"
    with pytest.raises(ValueError, match=refused):
        fst.softmax_cross_entropy(x, mixed, ignore_index=index)
    with pytest.raises(RuntimeError, match="ignore_index is not supported for floating point target"):
        torch.nn.functional.cross_entropy(x[0], mixed[0].double(), ignore_index=index)
    assert fst.softmax_cross_entropy(x, mixed, ignore_index=-1) == fst.softmax_cross_entropy(x, mixed)


@pytest.mark.parametrize("make", [torch.tensor, np.array, int])
def test_one_length_without_an_axis(make):
    """For one sequence, and for a batch of one."""
    x = logits((T, V))
    wanted = fst.ctc_loss(x, torch.tensor([1, 2]), [T], [2])
    slope = gradient_of(wanted, x)
    assert fst.ctc_loss(x, torch.tensor([1, 2]), make(T), make(2)) == wanted
    for targets in (torch.tensor([[1, 2]]), torch.tensor([1, 2])):
        loss = fst.ctc_loss(x[:, None], targets, make(T), make(2))
        assert loss == wanted
        assert_close(gradient_of(loss, x), slope)
    tags = torch.zeros(1, T, dtype=torch.int64)
    for reduction in ("none", "mean"):
        losses = [fst.crf_loss(x[None], tags, torch.zeros(V, V), n, reduction=reduction) for n in (make(3), [3])]
        assert_close(*losses)
        assert_close(*(gradient_of(loss, x) for loss in losses))
    assert fst.softmax_cross_entropy(x[None], tags, make(3)) == fst.softmax_cross_entropy(x[None], tags, [3])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_masks_of_integers(dtype, reduction):
    """Ones and zeros, as pytorch-crf has them."""
    x, tags = logits((3, 4, 5)), torch.zeros(3, 4, dtype=torch.int64)
    mask = torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    for function in (
        lambda m: fst.crf_loss(x, tags, torch.zeros(5, 5), mask=m, reduction=reduction),
        lambda m: fst.softmax_cross_entropy(x, tags, mask=m, reduction=reduction),
    ):
        ours, wanted = function(mask.to(dtype)), function(mask)
        assert torch.equal(ours, wanted)
        assert torch.equal(gradient_of(ours, x), gradient_of(wanted, x))
        with pytest.raises(ValueError, match=r"mask\[0, 0\] is 2; allowed: 0 and 1"):
            function(mask.to(dtype) * 2)


X3, STEPS = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
CALLS = {  # of one tensor, by the name that errors give it
    "input": lambda x: fst.cross_entropy(x, STEPS),
    "target": lambda x: fst.cross_entropy(X3.mT, x),
    "weight": lambda x: fst.cross_entropy(X3.mT, STEPS, x),
    "emissions": lambda x: fst.CRF(4)(x, STEPS),
    "tags": lambda x: fst.CRF(4)(X3, x),
    "mask": lambda x: fst.CRF(4).decode(X3, x),
    "log_probs": lambda x: fst.forced_align(x, STEPS),
    "targets": lambda x: fst.ctc_loss(X3[0], x, 2, 1),
    "tokens": lambda x: fst.merge_tokens(x.long(), X3[0, 0]),
    "scores": lambda x: fst.merge_tokens(STEPS[0], x),
    "logits": lambda x: fst.softmax_cross_entropy(x, STEPS),
    "transitions": lambda x: fst.crf_loss(X3, STEPS, x),
}


@pytest.mark.parametrize("name", CALLS)
def test_layouts_without_strides(name):
    """PyTorch's own functions end the process for some of these tensors."""
    for shape in ((2, 3, 4), (2, 0, 4)):
        dense = torch.zeros(shape)
        with warnings.catch_warnings(action="ignore"):  # of prototypes
            ragged = torch.nested.nested_tensor([dense[0], dense[1]])
        for x, message in (
            (ragged, f"{name} is a nested tensor; allowed: tensors of one shape"),
            (dense.to_sparse(), f"{name} (has layout torch.sparse_coo; allowed: torch.strided|is not a tensor that)"),
            (dense.to_mkldnn(), f"{name} (has layout torch._mkldnn; allowed: torch.strided|is not a tensor that)"),
        ):
            if name == "tokens" and x.is_mkldnn:  # which are floats
                continue
            with pytest.raises(TypeError, match=message):
                CALLS[name](x)


def test_lists_without_end():
    endless = [1]
    endless.append(endless)
    for scores in (X3, X3.clone().requires_grad_()):
        with pytest.raises(ValueError, match=r"^lengths is nested too deeply; allowed: an array"):
            fst.softmax_cross_entropy(scores, STEPS, endless)
        with pytest.raises(ValueError, match=r"^normalizer is nested too deeply; allowed: an array"):
            fst.softmax_cross_entropy(scores, STEPS, reduction="sum", normalizer=endless)
        with pytest.raises(ValueError, match=r"^lengths is nested too deeply; allowed: an array"):
            torch.func.vjp(lambda x: fst.softmax_cross_entropy(x, STEPS, endless), scores.detach())


def test_more_than_memory_holds():
    large = torch.zeros(1, 3, dtype=torch.bfloat16).expand(2**45, 3).requires_grad_()
    with pytest.raises(MemoryError, match=r"^transitions has shape \(35184372088832, 3\): no memory holds a copy"):
        fst.crf_loss(X3[..., :3], STEPS, large)
    for n in (2**31, 2**63, 10**30):
        with pytest.raises(MemoryError, match=f"^num_tags is {n}: no memory holds"):
            fst.CRF(n)


def test_errors_of_options_of_cross_entropy():
    with pytest.raises(TypeError, match=r"^weight must be a tensor, got list"):
        fst.CrossEntropyLoss([1.0, 2.0])
    empty = torch.zeros(0, 4, 3, requires_grad=True)
    with pytest.raises(TypeError, match=r"^ignore_index must be an integer"):
        fst.cross_entropy(empty, STEPS[:0], ignore_index=torch.tensor([1.0, 2.0]))
    with warnings.catch_warnings(action="ignore"):  # of deprecation
        odd = torch.quantize_per_tensor(torch.zeros(()), 0.1, 0, torch.quint8)
    with pytest.raises(TypeError, match=r"^ignore_index is not a tensor that NumPy can see"):
        fst.cross_entropy(X3.mT, torch.full((2, 4, 3), 0.25), ignore_index=odd)
    odd = torch.zeros(2, 4, 3).to(torch.float8_e5m2).requires_grad_()
    with pytest.raises(TypeError, match=r"^target has dtype torch\.float8_e5m2; allowed"):
        fst.cross_entropy(X3.mT, odd)
    with pytest.raises(TypeError, match=r"^targets has dtype torch\.float8_e5m2; allowed"):
        fst.mse_loss(X3.mT, odd)
