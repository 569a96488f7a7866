"""The policy losses against PyTorch's autograd in float64."""

import numpy as np
import pytest

import fastseqloss as fsl
from step_cases import assert_same

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")


def torch_loss(logits, actions, advantages, old, ref, clip, entropy_coef, kl_coef):
    log_p = torch.log_softmax(logits, -1)
    taken = log_p.gather(-1, actions[..., None])[..., 0]
    if old is None:
        loss = -advantages * taken
    else:
        ratio = (taken - old).exp()
        loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip[0], 1 + clip[1]) * advantages)
    r = ref - taken
    entropy = -(log_p.exp() * log_p).sum(-1)
    return loss + kl_coef * (r.exp() - r - 1) - entropy_coef * entropy


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("coefficients", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.2, 0.4)])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean", "batch_mean"])
def test_policy_losses(plain, coefficients, reduction):
    rng = np.random.default_rng(0)
    shape, lengths = (4, 9, 11), np.array([9, 3, 6, 1])
    logits, actions = rng.normal(scale=2, size=shape), rng.integers(0, 11, shape[:2])
    ref = -fsl.softmax_cross_entropy(logits + rng.normal(scale=0.2, size=shape), actions, reduction="none")
    old = -fsl.softmax_cross_entropy(logits + rng.normal(scale=0.3, size=shape), actions, reduction="none")
    advantages, clip = rng.normal(size=shape[:2]), (0.1, 0.25)
    entropy_coef, kl_coef = coefficients

    x = torch.tensor(logits, requires_grad=True)
    constants = [torch.tensor(a) for a in (actions, advantages, old, ref)]
    steps = torch_loss(x, *constants[:2], None if plain else constants[2], constants[3], clip, entropy_coef, kl_coef)
    inside = torch.arange(9) < torch.tensor(lengths)[:, None]
    steps = steps * inside
    expected = {
        "none": steps,
        "sum": steps.sum(),
        "mean": steps.sum() / inside.sum(),
        "sequence_mean": (steps.sum(1) / inside.sum(1)).mean(),
        "batch_mean": steps.sum() / 4,
    }[reduction]
    expected.sum().backward()

    options = {"entropy_coef": entropy_coef, "kl_coef": kl_coef, "ref_log_probs": ref, "reduction": reduction}
    if plain:
        result = fsl.policy_gradient_loss(logits, actions, advantages, lengths, return_grad=True, **options)
    else:
        options["clip"] = clip
        result = fsl.clipped_policy_loss(logits, actions, old, advantages, lengths, return_grad=True, **options)
    np.testing.assert_allclose(result[0], expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(result[1], x.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_expected_risk():
    rng = np.random.default_rng(0)
    log_probs, risks = rng.normal(size=(5, 8)), rng.random((5, 8))
    x = torch.tensor(log_probs, requires_grad=True)
    expected = (torch.softmax(0.3 * x, -1) * torch.tensor(risks)).sum(-1).mean()
    expected.backward()
    loss, gradient = fsl.expected_risk_loss(log_probs, risks, sharpness=0.3, return_grad=True)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-13)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-14)


def test_nothing_is_written_to_constants():
    rng = np.random.default_rng(0)
    constants = [rng.integers(0, 3, (2, 4)), -rng.random((2, 4)), rng.normal(size=(2, 4))]
    before = [a.copy() for a in constants]
    fsl.clipped_policy_loss(rng.normal(size=(2, 4, 3)), *constants, return_grad=True)
    assert_same(constants, before)
