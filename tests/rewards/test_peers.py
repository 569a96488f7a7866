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


# ---- preferences and groups of completions, by the formulas of the papers -------------------------------------------


def dpo_of_paper(chosen, rejected, ref_chosen, ref_rejected, beta, kind, smoothing):
    """DPO with smoothed labels, SLiC and IPO."""
    logits = (chosen - rejected) - (ref_chosen - ref_rejected)
    log_sigmoid = torch.nn.functional.logsigmoid
    if kind == "hinge":
        return torch.relu(1 - beta * logits)
    if kind == "ipo":
        return (logits - 1 / (2 * beta)) ** 2
    return -log_sigmoid(beta * logits) * (1 - smoothing) - log_sigmoid(-beta * logits) * smoothing


def simpo_of_paper(chosen, rejected, beta, margin, smoothing):
    """SimPO with smoothed labels."""
    logits = chosen - rejected - margin / beta
    log_sigmoid = torch.nn.functional.logsigmoid
    return -log_sigmoid(beta * logits) * (1 - smoothing) - log_sigmoid(-beta * logits) * smoothing


def orpo_of_paper(chosen, rejected, beta):
    """ORPO: the odds ratio, and the likelihood of the chosen sequence."""
    log_odds = (chosen - rejected) - (torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected)))
    return -chosen - beta * torch.nn.functional.logsigmoid(log_odds)


def kto_of_paper(log_probs, desirable, ref, kl, beta, weights):
    """KTO."""
    ratios = log_probs - ref
    wanted = 1 - torch.sigmoid(beta * (ratios - kl))
    unwanted = 1 - torch.sigmoid(beta * (kl - ratios))
    return torch.where(desirable, weights[0] * wanted, weights[1] * unwanted)


def differentiated(loss, *scores):
    """The mean of a loss, and its gradients."""
    inputs = [torch.tensor(x, requires_grad=True) for x in scores]
    value = loss(*inputs).mean()
    return value.item(), [g.numpy() for g in torch.autograd.grad(value, inputs)]


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "hinge"])
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_preferences(kind, beta):
    rng = np.random.default_rng(0)
    chosen, rejected = -rng.exponential(5.0, (2, 20))
    refs = -rng.exponential(5.0, (2, 20))
    smoothing = 0.1 if kind == "sigmoid" else 0.0
    log_probs, kl, desirable = chosen, 0.3, rng.random(20) < 0.5
    tensors = [torch.tensor(ref) for ref in refs]
    cases = [
        (
            lambda c, r: dpo_of_paper(c, r, *tensors, beta, kind, smoothing),
            fsl.dpo_loss(chosen, rejected, *refs, beta=beta, kind=kind, label_smoothing=smoothing, return_grad=True),
        ),
        (
            lambda c, r: simpo_of_paper(c, r, beta, 0.4, smoothing),
            fsl.simpo_loss(chosen, rejected, beta=beta, margin=0.4, label_smoothing=smoothing, return_grad=True),
        ),
        (lambda c, r: orpo_of_paper(c, r, beta), fsl.orpo_loss(chosen, rejected, beta=beta, return_grad=True)),
    ]
    for theirs, (loss, gradients) in cases:
        expected = differentiated(theirs, chosen, rejected)
        assert loss == pytest.approx(expected[0], rel=1e-12)
        np.testing.assert_allclose(gradients, expected[1], rtol=1e-9, atol=1e-13)
    loss, gradient = fsl.kto_loss(
        log_probs, desirable, refs[0], kl=kl, beta=beta, desirable_weight=1.3, undesirable_weight=0.6, return_grad=True
    )
    expected = differentiated(
        lambda x: kto_of_paper(x, torch.tensor(desirable), tensors[0], kl, beta, (1.3, 0.6)), log_probs
    )
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient, expected[1][0], rtol=1e-9, atol=1e-13)


def grpo_of_paper(logits, actions, advantages, old, mask, kind, low, high, delta):
    """GRPO with ratios of tokens or of sequences, and CISPO, averaged over all tokens."""
    taken = torch.log_softmax(logits, -1).gather(-1, actions[..., None])[..., 0]
    log_ratio = taken - old
    if kind == "gspo":
        log_ratio = ((log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1))[:, None]
    ratio = log_ratio.exp()
    if kind == "cispo":
        steps = -ratio.clamp(max=1 + high).detach() * advantages[:, None] * taken
    else:
        clipped = ratio.clamp(1 - low, 1 + high)
        if delta is not None:
            ratio = ratio.clamp(max=delta)
        steps = -torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
    return (steps * mask).sum() / mask.sum()


@pytest.mark.parametrize(("kind", "delta"), [("ppo", None), ("ppo", 1.4), ("gspo", None), ("cispo", None)])
def test_groups_of_completions(kind, delta):
    rng = np.random.default_rng(0)
    shape, lengths = (4, 9, 11), np.array([9, 3, 6, 1])
    logits, actions = rng.normal(scale=2, size=shape), rng.integers(0, 11, shape[:2])
    old = -fsl.softmax_cross_entropy(logits + rng.normal(scale=0.3, size=shape), actions, reduction="none")
    rewards = rng.normal(size=(2, 2))
    spread = torch.tensor(rewards).std(dim=1, keepdim=True)
    advantages = ((torch.tensor(rewards) - torch.tensor(rewards).mean(1, keepdim=True)) / (spread + 1e-4)).reshape(-1)
    ours = fsl.group_advantages(rewards, ddof=1).reshape(-1)
    np.testing.assert_allclose(ours, advantages.numpy(), rtol=1e-13)
    x = torch.tensor(logits, requires_grad=True)
    mask = torch.tensor(np.arange(9) < lengths[:, None]).double()
    expected = grpo_of_paper(x, torch.tensor(actions), advantages, torch.tensor(old), mask, kind, 0.1, 0.2, delta)
    expected.backward()
    options = {"kind": kind, "clip": (1.0, 0.2) if kind == "cispo" else (0.1, 0.2), "dual_clip": delta}
    loss, gradient = fsl.clipped_policy_loss(logits, actions, old, ours, lengths, return_grad=True, **options)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-10, atol=1e-14)


# ---- returns, beside rlax ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("varying", [False, True])
def test_returns(varying):
    rlax = pytest.importorskip("rlax", reason="rlax is not among the extras")
    rng = np.random.default_rng(0)
    n = 12
    rewards, taken = rng.normal(size=(2, n)).astype(np.float32)
    values = rng.normal(size=n + 1).astype(np.float32)
    discount = (rng.random(n) if varying else np.full(n, 0.9)).astype(np.float32)
    decay = (rng.random(n) if varying else np.full(n, 0.7)).astype(np.float32)
    ratios = rng.exponential(1.0, n).astype(np.float32)
    options = {"discount": discount, "final_values": values[-1]}
    now, after = values[:-1], values[1:]

    def close(ours, theirs):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=2e-5, atol=2e-6)

    found = fsl.vtrace_returns(rewards, now, np.log(ratios), decay=decay, clip_ratio=2.0, **options)
    close(found.returns - now, rlax.vtrace(now, after, rewards, discount, ratios, decay, 2.0))
    found = fsl.vtrace_returns(rewards, now, np.log(ratios), **options)
    theirs = rlax.vtrace_td_error_and_advantage(now, after, rewards, discount, ratios)
    close(found.returns - now, theirs.errors)
    close(found.advantages, theirs.pg_advantage)
    gains = fsl.generalized_advantages(rewards, now, decay=decay, **options)
    close(gains, rlax.truncated_generalized_advantage_estimation(rewards, discount, decay, values))
    close(fsl.discounted_returns(rewards, **options), rlax.discounted_returns(rewards, discount, values[-1]))
    for steps in (1, 3, 40):
        ours = fsl.n_step_returns(rewards, now, n=steps, **options)
        close(ours, rlax.n_step_bootstrapped_returns(rewards, discount, after, min(steps, n)))
    ours = fsl.retrace_returns(rewards, taken, now, np.log(ratios), **options)
    theirs = rlax.general_off_policy_returns_from_q_and_v(
        taken[1:], after, rewards, discount, np.minimum(ratios, 1)[1:]
    )
    close(ours, theirs)
