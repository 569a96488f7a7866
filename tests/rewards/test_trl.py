"""Losses of policies and preferences against TRL's own functions in float64, called with stand-ins for the trainers."""

import warnings
from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl", reason="TRL is not among the extras")
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.kto_trainer import KTOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer

B, T, V = 6, 9, 11
RNG = np.random.default_rng(0)
LENGTHS = np.array([9, 3, 6, 1, 4, 9])
LOGITS, TOKENS = RNG.normal(scale=2, size=(B, T, V)), RNG.integers(0, V, (B, T))
INSIDE = np.arange(T) < LENGTHS[:, None]


def moved(scale) -> np.ndarray:
    """Log-probabilities of the tokens under another policy."""
    return -fsl.softmax_cross_entropy(LOGITS + RNG.normal(scale=scale, size=LOGITS.shape), TOKENS, reduction="none")


OLD, REF = moved(0.3), moved(0.4)
ADVANTAGES, OF_TOKENS = RNG.normal(size=B), RNG.normal(size=(B, T))


def trainer(**attributes) -> SimpleNamespace:
    """A trainer in evaluation, in one process."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x, pad_across_processes=lambda x, dim, pad_index: x,
    )  # fmt: skip
    return SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(training=False), aux_loss_enabled=False,
        _metrics=defaultdict(partial(defaultdict, list)), _total_train_tokens=0, **attributes,
    )  # fmt: skip


def log_probs_and_entropies(logits):
    """Of the tokens, and of each step."""
    log_p = logits.log_softmax(-1)
    taken = log_p.gather(-1, torch.tensor(TOKENS)[..., None])[..., 0]
    return taken, -(log_p.exp() * log_p).sum(-1)


def differentiated(loss, array=LOGITS) -> tuple[float, np.ndarray]:
    """A loss of a tensor in float64, and its gradient."""
    x = torch.tensor(array, requires_grad=True)
    value = loss(x)
    value.backward()
    return value.item(), x.grad.numpy()


def differences(ours, theirs) -> tuple[float, float]:
    """The largest differences of loss and gradient, relative to the loss and to the largest derivative."""
    size = np.abs(theirs[1]).max()
    assert size > 1e-3
    return abs(ours[0] - theirs[0]) / max(abs(theirs[0]), 1e-2), np.abs(ours[1] - theirs[1]).max() / size


# ---- groups of completions -----------------------------------------------------------------------------------------


def grpo(*, advantages=ADVANTAGES, mask=None, **options):
    """`GRPOTrainer._compute_loss`; options are those of `GRPOConfig`."""
    options = {"epsilon": 0.2, "epsilon_high": 0.2, "beta": 0.0, "delta": None, "entropy_coef": 0.0} | options
    stand_in = trainer(
        beta=options["beta"], epsilon_low=options["epsilon"], epsilon_high=options["epsilon_high"],
        loss_type=options["loss_type"], importance_sampling_level=options.get("importance_sampling_level", "token"),
        top_entropy_quantile=options.get("top_entropy_quantile", 1.0), off_policy_mask_threshold=None,
        args=SimpleNamespace(delta=options["delta"], use_bias_correction_kl=False), use_vllm=False,
        vllm_importance_sampling_correction=False, max_completion_length=T, use_adaptive_entropy=False,
        entropy_coef=options["entropy_coef"], _entropy_bonus_enabled=options["entropy_coef"] != 0,
    )  # fmt: skip
    stand_in.get_high_entropy_mask = partial(GRPOTrainer.get_high_entropy_mask, stand_in)
    tokens, inside = torch.tensor(TOKENS), torch.tensor(INSIDE).long()
    counted = inside if mask is None else inside * torch.tensor(mask)
    given = {
        "prompt_ids": tokens[:, :0], "prompt_mask": tokens[:, :0], "completion_ids": tokens, "completion_mask": inside,
        "advantages": torch.tensor(advantages), "old_per_token_logps": torch.tensor(OLD),
        "ref_per_token_logps": torch.tensor(REF), "num_items_in_batch": counted.sum(),
    } | ({} if mask is None else {"tool_mask": torch.tensor(mask)})  # fmt: skip

    def loss(logits):
        stand_in._get_per_token_logps_and_entropies = lambda *_, **__: (*log_probs_and_entropies(logits), None)
        return GRPOTrainer._compute_loss(stand_in, None, given)

    return differentiated(loss)


def policy(*, advantages=ADVANTAGES, **options):
    return fsl.clipped_policy_loss(LOGITS, TOKENS, OLD, advantages, LENGTHS, return_grad=True, **options)


def of_hard_steps(share):
    """The loss of the steps whose entropies are largest, divided by the number of all steps."""
    found = fsl.PolicyDiagnostics()
    policy(diagnostics=found)
    hard = INSIDE & (found.entropies >= np.quantile(found.entropies[INSIDE], 1 - share))
    return policy(mask=hard, reduction="sum", normalizer=INSIDE.sum())


TOOLS = RNG.integers(0, 2, (B, T)) | (np.arange(T) == 0)
OF_SEQUENCES = {"importance_sampling_level": "sequence"}
POLICIES = {
    "GRPO": (
        lambda: policy(ref_log_probs=REF, kl_coef=0.04, reduction="sequence_mean"),
        lambda: grpo(loss_type="grpo", beta=0.04),
    ),
    "BNPO": (policy, lambda: grpo(loss_type="bnpo")),
    "Dr. GRPO": (lambda: policy(reduction="sum", normalizer=B * T), lambda: grpo(loss_type="dr_grpo")),
    "DAPO": (lambda: policy(clip=(0.2, 0.28)), lambda: grpo(loss_type="dapo", epsilon_high=0.28)),
    "dual clip": (lambda: policy(dual_clip=1.3), lambda: grpo(loss_type="bnpo", delta=1.3)),
    "GSPO": (
        lambda: policy(kind="gspo", clip=(0.05, 0.1), reduction="sequence_mean"),
        lambda: grpo(loss_type="grpo", epsilon=0.05, epsilon_high=0.1, **OF_SEQUENCES),
    ),
    "GSPO of tokens": (
        lambda: policy(kind="gspo", advantages=OF_TOKENS, reduction="sequence_mean"),
        lambda: grpo(loss_type="grpo", advantages=OF_TOKENS, **OF_SEQUENCES),
    ),
    "LUSPO": (
        lambda: policy(kind="gspo", clip=0.05, reduction="batch_mean"),
        lambda: grpo(loss_type="luspo", epsilon=0.05, epsilon_high=0.05, **OF_SEQUENCES),
    ),
    "CISPO": (
        lambda: policy(kind="cispo", clip=(1.0, 0.25)),
        lambda: grpo(loss_type="cispo", epsilon_high=1.25),  # the bound itself
    ),
    "advantages of tokens": (
        lambda: policy(advantages=OF_TOKENS),
        lambda: grpo(loss_type="bnpo", advantages=OF_TOKENS),
    ),
    "entropy bonus": (lambda: policy(entropy_coef=0.1), lambda: grpo(loss_type="bnpo", entropy_coef=0.1)),
    "hard steps": (lambda: of_hard_steps(0.3), lambda: grpo(loss_type="bnpo", top_entropy_quantile=0.3)),
    "masked tools": (lambda: policy(mask=TOOLS), lambda: grpo(loss_type="bnpo", mask=TOOLS)),
}


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "GSPO of tokens"])
def test_policies(name):
    ours, theirs = (call() for call in POLICIES[name])
    assert max(differences(ours, theirs)) < 1e-12


def test_ratios_of_sequences_with_advantages_of_tokens():
    """The losses are the same; the gradients are those of GSPO-token here, and of the broadcast ratio in TRL."""
    ours, theirs = (call() for call in POLICIES["GSPO of tokens"])
    of_loss, of_gradient = differences(ours, theirs)
    assert of_loss < 1e-12
    assert of_gradient > 0.1


def test_rloo():
    """The gradient of the first update, in which the ratios are 1."""
    now = log_probs_and_entropies(torch.tensor(LOGITS))[0].numpy()
    stand_in = trainer(epsilon_low=0.2, epsilon_high=0.2)
    tokens = torch.tensor(TOKENS)
    given = {
        "prompt_ids": tokens[:, :0], "prompt_mask": tokens[:, :0], "completion_ids": tokens,
        "completion_mask": torch.tensor(INSIDE).long(), "advantages": torch.tensor(ADVANTAGES),
        "old_logps": torch.tensor((now * INSIDE).sum(1)),
    }  # fmt: skip

    def loss(logits):
        stand_in._get_per_token_logps_and_entropies = lambda *_, **__: (*log_probs_and_entropies(logits), None)
        return RLOOTrainer._compute_loss(stand_in, None, given)

    theirs = differentiated(loss)[1]
    ours = fsl.policy_gradient_loss(LOGITS, TOKENS, ADVANTAGES, LENGTHS, reduction="batch_mean", return_grad=True)[1]
    assert differences((0, ours), (0, theirs))[1] < 1e-12


# ---- preferences ---------------------------------------------------------------------------------------------------

REF_SUMS = (REF * INSIDE).sum(1)  # of three chosen and three rejected sequences


def dpo(loss_type, beta):
    """`DPOTrainer._compute_loss` of completions after a prompt of one token, in the logits of the completions."""
    stand_in = trainer(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", beta=beta, loss_types=[loss_type],
        loss_weights=[1.0], label_smoothing=0.0, use_weighting=False,
    )  # fmt: skip
    given = {
        "input_ids": torch.tensor(np.pad(TOKENS, ((0, 0), (1, 0)))),
        "completion_mask": torch.tensor(np.pad(INSIDE, ((0, 0), (1, 0)))).long(),
        "ref_chosen_logps": torch.tensor(REF_SUMS[:3]), "ref_rejected_logps": torch.tensor(REF_SUMS[3:]),
    }  # fmt: skip
    return differentiated(lambda logits: DPOTrainer._compute_loss(stand_in, model_of(logits), given, False))


def model_of(logits):
    """A model whose log-probabilities of labels, and other outputs, are those of these logits."""
    log_probs, entropy = log_probs_and_entropies(logits)
    inside = torch.tensor(INSIDE)
    outputs = SimpleNamespace(
        log_probs=log_probs * inside, entropy=entropy, mean_logits=logits.mean(-1), is_top1=inside
    )  # fmt: skip
    return lambda **_: outputs


def pairs(loss, *, average=False, ref=False, **options):
    """A loss of pairs, and its gradient with respect to the logits."""
    log_probs = partial(fsl.sequence_log_prob, LOGITS, TOKENS, LENGTHS, average=average)
    given = log_probs()
    refs = np.split(REF_SUMS / (LENGTHS if average else 1), 2) if ref else ()
    value, grad = loss(*np.split(given, 2), *refs, return_grad=True, **options)
    return value, log_probs(slopes=np.concatenate(grad))[1]


class Wide(torch.Tensor):
    """A tensor of float64 that stays one where a function computes in float32."""

    def float(self):
        return self


def orpo(beta):
    """`ORPOTrainer.odds_ratio_loss`, which TRL subtracts from the likelihood of the chosen completions."""

    def loss(logits):
        chosen, rejected = sequence_log_probs(logits, ORPOTrainer, average=True).as_subclass(Wide).chunk(2)
        found = ORPOTrainer.odds_ratio_loss(trainer(beta=beta), chosen, rejected)[0]
        return -found.mean().as_subclass(torch.Tensor)

    return differentiated(loss)


def sequence_log_probs(logits, of, average):
    """`get_batch_logps`, of logits at the steps of the tokens before."""
    ahead = torch.cat([logits, logits[:, :1]], dim=1)
    labels = torch.tensor(np.pad(np.where(INSIDE, TOKENS, -100), ((0, 0), (1, 0)), constant_values=-100))
    return of.get_batch_logps(ahead, labels, average_log_prob=average)


def cpo(loss_type, beta, smoothing=0.0, gamma=0.0):
    """`CPOTrainer.cpo_loss`, without the likelihood of the chosen completions."""
    stand_in = trainer(alpha=0.0, loss_type=loss_type, beta=beta, label_smoothing=smoothing, simpo_gamma=gamma)

    def loss(logits):
        log_probs = sequence_log_probs(logits, CPOTrainer, average=loss_type in ("ipo", "simpo"))
        return CPOTrainer.cpo_loss(stand_in, *log_probs.chunk(2))[0].mean()

    return differentiated(loss)


WANTED = np.array([True, False, False, True, True, False])
REF_KL = REF_SUMS + RNG.normal(-0.5, size=B)  # log-probabilities of answers to other questions


def kto(loss_type, beta, **weights):
    """`KTOTrainer._compute_loss`."""
    stand_in = trainer(
        calculate_KL=loss_type == "kto", precompute_ref_logps=True, loss_type=loss_type, beta=beta,
        _compute_kl_logps=lambda model, batch: torch.tensor(REF_SUMS), **weights,
    )  # fmt: skip
    given = {
        "input_ids": torch.tensor(np.pad(TOKENS, ((0, 0), (1, 0)))), "label": torch.tensor(WANTED),
        "completion_mask": torch.tensor(np.pad(INSIDE, ((0, 0), (1, 0)))).long(),
        "ref_logps": torch.tensor(REF_SUMS), "ref_KL_logps": torch.tensor(REF_KL),
    }  # fmt: skip
    return differentiated(lambda logits: KTOTrainer._compute_loss(stand_in, model_of(logits), given, False))


def single(**options):
    """`kto_loss`, and its gradient with respect to the logits."""
    log_probs = partial(fsl.sequence_log_prob, LOGITS, TOKENS, LENGTHS)
    value, grad = fsl.kto_loss(log_probs(), WANTED, REF_SUMS, return_grad=True, **options)
    return value, log_probs(slopes=grad)[1]


def negative_log_likelihood():
    """The mean over all tokens of the chosen completions."""
    chosen = LENGTHS * (np.arange(B) < 3)
    return fsl.softmax_cross_entropy(LOGITS, TOKENS, chosen, return_grad=True)


WEIGHTS = {"desirable_weight": 1.3, "undesirable_weight": 0.6}
PREFERENCES = {
    "DPO": (lambda: pairs(fsl.dpo_loss, ref=True, beta=0.3), lambda: dpo("sigmoid", 0.3)),
    "DPO of averages": (
        lambda: pairs(fsl.dpo_loss, ref=True, average=True, beta=2.0),
        lambda: dpo("sigmoid_norm", 2.0),
    ),
    "SLiC": (lambda: pairs(fsl.dpo_loss, ref=True, beta=0.2, kind="hinge"), lambda: dpo("hinge", 0.2)),
    "IPO": (lambda: pairs(fsl.dpo_loss, ref=True, average=True, beta=0.4, kind="ipo"), lambda: dpo("ipo", 0.4)),
    "likelihood": (negative_log_likelihood, lambda: dpo("sft", 1.0)),
    "SimPO": (lambda: pairs(fsl.simpo_loss, average=True, beta=2.0, margin=0.5), lambda: cpo("simpo", 2.0, gamma=0.5)),
    "SimPO, smoothed": (
        lambda: pairs(fsl.simpo_loss, average=True, beta=1.5, margin=0.4, label_smoothing=0.1),
        lambda: cpo("simpo", 1.5, 0.1, 0.4),
    ),
    "CPO": (
        lambda: pairs(fsl.dpo_loss, beta=0.1, label_smoothing=0.2),
        lambda: cpo("sigmoid", 0.1, 0.2),
    ),
    "CPO, hinge": (lambda: pairs(fsl.dpo_loss, beta=0.1, kind="hinge"), lambda: cpo("hinge", 0.1)),
    "CPO, IPO": (lambda: pairs(fsl.dpo_loss, average=True, beta=0.5, kind="ipo"), lambda: cpo("ipo", 0.5)),
    "ORPO": (lambda: pairs(fsl.orpo_loss, average=True, beta=0.7, nll_coef=0.0), lambda: orpo(0.7)),
    "KTO": (
        lambda: single(beta=0.3, kl=max(0.0, (REF_SUMS - REF_KL).mean()), **WEIGHTS),
        lambda: kto("kto", 0.3, **WEIGHTS),
    ),
    "APO zero": (lambda: single(beta=0.3, **WEIGHTS), lambda: kto("apo_zero_unpaired", 0.3, **WEIGHTS)),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences(name):
    ours, theirs = (call() for call in PREFERENCES[name])
    assert max(differences(ours, theirs)) < 1e-11
