"""Against PyTorch: linear layers and their losses, in float64, and the slopes of losses that share parameters."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

from torch.nn import functional  # noqa: E402

import fastseqloss.torch as fst  # noqa: E402
import linear_cases  # noqa: E402
from linear_cases import OF_LAYER, assert_near  # noqa: E402


def tensors(case):
    """The arguments of a problem as tensors, those of the layer with a gradient."""
    given = case.arguments | {"hidden": case.wide("hidden")}
    made = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    return made | {name: made[name].requires_grad_() for name in OF_LAYER}


def entropy(**options):
    return linear_cases.cross_entropy(np.random.default_rng(0), (3, 5, 4), 7, ignored=0.3, **options)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(softcap, smoothing):
    weights = np.random.default_rng(1).random(7)
    case = entropy(class_weight=weights, label_smoothing=smoothing, softcap=softcap)
    loss, gradients = case.run()
    given = tensors(case)
    logits = functional.linear(given["hidden"], given["weight"], given["bias"])
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    targets, weights = given["targets"].flatten(), torch.from_numpy(weights)
    expected = functional.cross_entropy(logits.flatten(0, 1), targets, weights, label_smoothing=smoothing)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    for name, gradient in zip(OF_LAYER, gradients, strict=True):
        assert_near(gradient, given[name].grad.numpy(), 1e-12)


def test_linear_cross_entropy():
    """PyTorch's own function of hidden states and weight, if it has one."""
    if not hasattr(functional, "linear_cross_entropy"):
        pytest.skip("PyTorch has it from 2.13 on")
    case = entropy()
    given = tensors(case)
    hidden, targets = given["hidden"].flatten(0, 1), given["targets"].flatten()
    expected = functional.linear_cross_entropy(hidden, given["weight"], targets, linear_bias=given["bias"])
    assert case.run(return_grad=False) == pytest.approx(expected.item(), rel=1e-12)


def test_ctc():
    case = linear_cases.ctc(np.random.default_rng(2), (3, 9, 4), 7, 3, lengths=False)
    loss, gradients = case.run(reduction="sum")
    given = tensors(case)
    logits = functional.linear(given["hidden"], given["weight"], given["bias"])
    log_probs = logits.transpose(0, 1).log_softmax(-1)
    expected = functional.ctc_loss(log_probs, given["labels"], [9] * 3, [3] * 3, reduction="sum")
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    for name, gradient in zip(OF_LAYER, gradients, strict=True):
        assert_near(gradient, given[name].grad.numpy(), 1e-11)


SLOPED = {
    "none": lambda: entropy(lengths=True, mask=True, reduction="none"),
    "none, with weights": lambda: entropy(reduction="none", sample_weight=np.array([0.5, 0.0, 2.0])),
    "per_sequence": lambda: entropy(lengths=True, reduction="per_sequence"),
    "ctc": lambda: linear_cases.ctc(np.random.default_rng(3), (4, 9, 4), 7, 2, reduction="none"),
}


@pytest.mark.parametrize("make", SLOPED.values(), ids=SLOPED)
def test_slopes_of_both_signs(make):
    """The gradient of a weighted sum of losses, as PyTorch differentiates the loss of logits in memory."""
    case = make()
    given, same = tensors(case), tensors(case)
    losses = getattr(fst, case.name)(**given)
    slopes = torch.from_numpy(np.random.default_rng(4).normal(size=losses.shape))
    slopes[torch.isinf(losses)] = 0
    losses.backward(slopes)
    function = fst.softmax_cross_entropy if case.name == "linear_cross_entropy" else fst.ctc_loss_with_lengths
    logits = functional.linear(*(same.pop(name) for name in OF_LAYER))
    logits.retain_grad()
    function(logits, **same).backward(slopes)
    scores = logits.grad.reshape(-1, logits.shape[-1])
    hidden = case.wide("hidden").reshape(len(scores), -1)
    assert_near(given["hidden"].grad.numpy(), (logits.grad @ given["weight"].detach()).numpy(), 1e-12)
    assert_near(given["weight"].grad.numpy(), (scores.T @ torch.from_numpy(hidden)).numpy(), 1e-12)
    assert_near(given["bias"].grad.numpy(), scores.sum(0).numpy(), 1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # of PyTorch's own forward mode
def test_tangents():
    """Derivatives in forward mode are those of central differences."""
    case = entropy(reduction="none", lengths=True)
    given = tensors(case)
    rest = {name: value for name, value in given.items() if name not in OF_LAYER}
    primals = tuple(given[name].detach() for name in OF_LAYER)
    tangents = tuple(torch.from_numpy(np.random.default_rng(5).normal(size=x.shape)) for x in primals)

    def losses(hidden, weight, bias):
        return fst.linear_cross_entropy(hidden, weight, bias=bias, **rest)

    _, found = torch.func.jvp(losses, primals, tangents)
    ahead, behind = (losses(*(x + h * t for x, t in zip(primals, tangents, strict=True))) for h in (1e-6, -1e-6))
    assert_near(found.numpy(), ((ahead - behind) / 2e-6).numpy(), 1e-7)


def test_gradients_do_not_change_the_call():
    """The NumPy function and the adapter return the same bits."""
    case = entropy()
    loss, gradients = case.run()
    given = tensors(case)
    found = fst.linear_cross_entropy(**given)
    found.backward()
    assert found.item() == loss
    for name, gradient in zip(OF_LAYER, gradients, strict=True):
        np.testing.assert_array_equal(given[name].grad.numpy(), gradient)
