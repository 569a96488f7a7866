"""Scores, targets and losses that the tests of `fastseqloss.torch` share."""

from functools import cache, partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from adapter_cases import LOSSES as TABLE  # noqa: E402
from adapter_cases import differentiable, reducing  # noqa: E402
from thoroughness import thorough  # noqa: E402

B, T, V, S = 4, 12, 6, 5
REDUCTIONS = ("none", "mean", "sum")
STEP_REDUCTIONS = ("none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean")
# PyTorch's compiler reads gradients of tensors that are not leaves, and calls deprecated functions.
compiling = pytest.mark.filterwarnings(
    "ignore:The .grad attribute:UserWarning", "ignore:`torch.jit.script:DeprecationWarning"
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def logits(shape=(T, B, V), dtype=torch.float64, seed=0, scale=1.0):
    made = torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=shape))
    return made.to(dtype).requires_grad_()


def problem(seed=0):
    """Targets [B, S], the lengths of scores and targets; one sequence is empty, one has no targets."""
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(rng.integers(1, V, (B, S)))
    return targets, torch.tensor([T, 10, 11, 0]), torch.tensor([3, 5, 0, 0])


def gradient_of(loss, x):
    return torch.autograd.grad(loss.sum(), x)[0]


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a.detach().double().numpy(), b.detach().double().numpy(), rtol=tolerance, atol=tolerance)


LABELS = torch.tensor([[1, 2, 2]])
PROBLEM, ones, zeros = problem(), torch.ones(T, B, dtype=torch.int64), torch.zeros(V, V)
LOSSES = {
    "ctc_loss": lambda x: fst.ctc_loss(x, *PROBLEM),
    "ctc_loss, none": lambda x: fst.ctc_loss(x, *PROBLEM, reduction="none").sum(),
    "ctc_loss_from_logits": lambda x: fst.ctc_loss_from_logits(x, *PROBLEM),
    "softmax_cross_entropy": lambda x: fst.softmax_cross_entropy(x, ones),
    "softmax_cross_entropy, none": lambda x: fst.softmax_cross_entropy(x, ones, reduction="none").sum(),
    "rnnt_loss": lambda x: fst.rnnt_loss(x, [1, 2, 2]),  # one sequence of T frames and B - 1 labels
    "rnnt_loss, none": lambda x: fst.rnnt_loss(x[None], LABELS, reduction="none").sum(),
    "rnnt_simple_loss": lambda x: fst.rnnt_simple_loss(x, x[:, 1:], ones[:, 2:]),
    "tdt_loss": lambda x: fst.tdt_loss(x, x[..., :3], [1, 2, 2], durations=[0, 1, 2]),
    "crf_loss": lambda x: fst.crf_loss(x, ones, zeros),
    "crf_loss, none": lambda x: fst.crf_loss(x, ones, zeros, reduction="none").sum(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


# ---- every loss -----------------------------------------------------------------------------------------------------


def as_tensors(value):
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


@cache
def calls_of_losses():
    """A function of scores in float64, and the scores: of every loss, with reductions of each shape."""
    calls = {}
    x, targets = logits((5, 2, 4)).detach(), torch.tensor([[1, 2, 2], [3, 1, 0]])
    for reduction in ("none", "mean"):
        for name in ("ctc_loss", "ctc_loss_from_logits"):
            function = partial(getattr(fst, name), targets=targets, input_lengths=[5, 4], target_lengths=[3, 2])
            calls[f"{name}, {reduction}"] = (partial(function, reduction=reduction), (x,))
        swapped, classes = x.permute(1, 2, 0), targets[:, [0, 1, 2, 0, 1]]
        if hasattr(fst, "cross_entropy"):
            function = partial(fst.cross_entropy, target=classes, reduction=reduction)
            calls[f"cross_entropy, {reduction}"] = (function, (swapped,))
    for name, row in TABLE.items():
        given = {key: as_tensors(value) for key, value in differentiable(row).items()}
        keys = [key for key in row.scores if key in given]
        constants = {key: value for key, value in given.items() if key not in keys}
        for reduction in sorted({"none", "per_sequence", "mean"}.intersection(row.reductions)):
            rest = constants | reducing(row, reduction)

            # By name, since optional scores may be the last of a signature, or by keyword alone.
            def call(*scores, name=name, keys=keys, rest=rest):
                return getattr(fst, name)(**dict(zip(keys, scores, strict=True)), **rest)

            calls[f"{name}, {reduction}"] = (call, tuple(given[key] for key in keys))
    return calls


def _in_turn():
    """Parameter sets of every loss with one of its reductions; with the others in thorough runs."""
    groups = {}
    for name, call in calls_of_losses().items():
        groups.setdefault(name.partition(",")[0], []).append((name, call))
    for i, group in enumerate(groups.values()):
        for j, (name, call) in enumerate(group):
            yield (pytest.param if j == i % len(group) else thorough)(*call, id=name)


every_call = pytest.mark.parametrize(("function", "scores"), _in_turn())
