"""Transducer losses of tensors: the same as of arrays, in every dtype, with the gradient of FastEmit."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss as fsl  # noqa: E402
import fastseqloss.torch as fst  # noqa: E402
from thoroughness import spread  # noqa: E402
from torch_cases import FLOATS, assert_close, gradient_of, logits  # noqa: E402

LABELS = torch.tensor([[1, 2, 3], [2, 2, -5], [4, -5, -5]])
LENGTHS, COUNTS = torch.tensor([6, 4, 5]), torch.tensor([3, 2, 1])
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
OPTIONS = {
    "plain": {},
    "hat": {"blank_model": "hat"},
    "modified": {"topology": "modified"},
    "fastemit": {"fastemit": 0.5},
    "zero": {"infeasible": "zero"},
}


@pytest.mark.parametrize(("reduction", "dtype", "options"), spread(REDUCTIONS, FLOATS, OPTIONS, every=3))
def test_as_numpy(reduction, dtype, options):
    x = logits((3, 6, 4, 5), dtype=dtype)
    given = OPTIONS[options] | {"reduction": reduction, "sample_weight": [1.0, 0.5, 2.0]}
    loss = fst.rnnt_loss(x, LABELS, LENGTHS, COUNTS, **given)
    wide = x.detach() if dtype == torch.float64 else x.detach().float()
    expected, gradient = fsl.rnnt_loss(wide, LABELS, LENGTHS, COUNTS, return_grad=True, **given)
    assert loss.dtype == wide.dtype
    assert_close(loss, torch.as_tensor(expected, dtype=torch.float64), 1e-14 if dtype == torch.float64 else 1e-6)
    found = gradient_of(loss, x)
    assert found.dtype == dtype
    assert torch.equal(found, torch.from_numpy(gradient).to(dtype))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_several_scores(reduction):
    am, lm, x, d = logits((3, 6, 5)), logits((3, 4, 5)), logits((3, 6, 4, 5)), logits((3, 6, 4, 3))
    for function, scores, options in (
        (fst.rnnt_simple_loss, (am, lm), {}),
        (fst.tdt_loss, (x, d), {"durations": (0, 1, 3), "sigma": 0.05}),
    ):
        loss = function(*scores, LABELS, LENGTHS, COUNTS, reduction=reduction, **options)
        same = getattr(fsl, function.__name__)
        arrays = [score.detach() for score in scores]
        expected, gradients = same(*arrays, LABELS, LENGTHS, COUNTS, reduction=reduction, return_grad=True, **options)
        assert_close(loss, torch.as_tensor(expected, dtype=torch.float64), 1e-14)
        for found, gradient in zip(torch.autograd.grad(loss.sum(), scores, retain_graph=True), gradients, strict=True):
            assert_close(found, torch.from_numpy(gradient), 1e-14)
        (second,) = torch.autograd.grad(loss.sum() * -2, scores[1])
        assert_close(second, -2 * torch.from_numpy(gradients[1]), 1e-14)


def test_pruned():
    x, ranges = logits((1, 4, 2, 5)), torch.tensor([[0, 0, 1, 2]])
    loss = fst.rnnt_loss(x, torch.tensor([[1, 3, 3]]), ranges=ranges)
    expected, gradient = fsl.rnnt_loss(x.detach(), [[1, 3, 3]], ranges=ranges, return_grad=True)
    assert loss.item() == expected
    found = gradient_of(loss, x)
    ranges.zero_()  # which are copied
    assert_close(found, torch.from_numpy(gradient), 1e-14)


def test_lists_of_labels():
    x = logits((3, 6, 4, 5))
    tokens = [[1, 2, 3], torch.tensor([2, 2]), (4,)]
    assert fst.rnnt_loss(x, tokens, LENGTHS) == fst.rnnt_loss(x, LABELS, LENGTHS, COUNTS)


@pytest.mark.parametrize(("error", "message", "call"), [
    (TypeError, "logits must be a tensor, got ndarray", lambda: fst.rnnt_loss(np.zeros((1, 2, 2, 3)), [[1]])),
    (TypeError, "logits is on device 'meta'", lambda: fst.rnnt_loss(torch.zeros(1, 2, 2, 3, device="meta"), [[1]])),
    (TypeError, "duration_logits must be a tensor, got list",
     lambda: fst.tdt_loss(logits((1, 2, 2, 3)), [0], [[1]], durations=[1])),
    (TypeError, r"lm has dtype torch\.int64",
     lambda: fst.rnnt_simple_loss(logits((2, 3)), torch.ones(2, 3).long(), [1])),
    (TypeError, "sample_weight requires grad", lambda: fst.rnnt_loss(
        logits((1, 2, 2, 3)), [[1]], sample_weight=torch.ones(1, requires_grad=True))),
    (ValueError, r"labels\[0\]\[0\] is 3; allowed: 0 to 2, except 0",
     lambda: fst.rnnt_loss(logits((1, 2, 2, 3)), [[3]])),
    (ValueError, "reduction is 'batch'", lambda: fst.rnnt_loss(logits((1, 2, 2, 3)), [[1]], reduction="batch")),
])  # fmt: skip
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
