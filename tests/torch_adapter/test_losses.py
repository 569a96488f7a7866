"""CRF and cross-entropy of tensors, beside pytorch-crf and PyTorch."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import assert_close, gradient_of, logits  # noqa: E402


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
