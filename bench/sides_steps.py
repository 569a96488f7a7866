"""The per-step losses by each side: fastseqloss, PyTorch, optax, NumPy; and their memory traffic."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import fastseqloss as fsl
from bench import peers, sides_ctc
from bench.contest import MODES, NUMPY, OPTAX, OURS, TORCH, TRAFFIC, Call, Calls, Limits, Result, Row
from fastseqloss.steps import registry

LIMITS = Limits(gradient={1: 2e-7, 10: 2e-7})
POWERS = ("poisson", "tweedie", "binary_focal")
# Exponentials and powers in float32 are rounded to 1e-7 of themselves, and losses and gradients are their differences.
POWER_LIMITS = Limits(gradient={1: 1e-6, 10: 1e-6}, loss=3e-6)
CROSS_ENTROPY = {  # N, V
    "words32000": (2048, 32000),
    "words5000": (4096, 5000),
    "bytes64": (65536, 64),
    "letters32": (200000, 32),
    "bases5": (262144, 5),
    "words262144": (64, 262144),
}
ELEMENTS = (4096, 4096)  # B, T of the losses that work element by element
CLASSES = (262144, 64)  # N, V of the multiclass hinge loss
CHECKED = 2**20  # approximate number of scores whose errors are measured
TEN_MILLION = 10**7  # steps of the rows that check the sum of many losses
DELTA, Q, POWER = 0.7, 0.9, 1.5


@dataclass(frozen=True)
class Batch:
    """Scores, and a target for each: classes, signs, probabilities or real numbers."""

    scores: np.ndarray
    targets: np.ndarray

    def scaled(self, scale: int) -> "Batch":
        """Return the same batch with its scores multiplied."""
        return Batch(self.scores * np.float32(scale), self.targets)


@dataclass(frozen=True)
class Loss:
    """One loss: the function of fastseqloss and its equivalents."""

    ours: Callable
    torch: Callable | None  # (scores, targets, reduction) -> loss
    targets: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]  # (rng, shape of the scores)
    numpy: Callable[[np.ndarray, np.ndarray], tuple] | None = None  # (scores, targets) -> (mean, gradient)
    optax: str | None = None

    def batch(self, shape: tuple[int, ...]) -> Batch:
        """Make float32 scores from N(0, 1), and random targets."""
        rng = np.random.default_rng(0)
        return Batch(rng.standard_normal(shape, dtype=np.float32), self.targets(rng, shape))


def classes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, shape[-1], shape[:-1])


def reals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(np.float32)


def counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.poisson(1.0, shape).astype(np.float32)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 2 * bits(rng, shape) - 1


# Typical NumPy expressions of the mean and its gradient in float32, without unnecessary passes over the arrays.


def numpy_mse(x, y):
    d = x - y
    return np.mean(d**2), 2 / d.size * d


def numpy_mae(x, y):
    d = x - y
    return np.mean(np.abs(d)), np.sign(d) / d.size


def numpy_huber(x, y):
    d = x - y
    a = np.abs(d)
    return np.mean(np.where(a <= DELTA, d**2 / 2, DELTA * (a - DELTA / 2))), np.clip(d, -DELTA, DELTA) / d.size


def numpy_quantile(x, y):
    d = y - x
    return np.mean(np.maximum(Q * d, (Q - 1) * d)), ((d < 0) - np.float32(Q)) / d.size


def numpy_hinge(x, y):
    m = 1 - y * x
    return np.mean(np.maximum(m, 0)), (m > 0) * y / -m.size


def numpy_squared_hinge(x, y):
    m = np.maximum(1 - y * x, 0)
    return np.mean(m**2), -2 / m.size * y * m


def numpy_bce(x, y):
    loss = np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))))
    return loss, (1 / (1 + np.exp(-x)) - y) / x.size


def numpy_multiclass_hinge(x, y):
    steps = np.arange(len(x))
    others = x.copy()
    others[steps, y] = -np.inf
    best = others.argmax(-1)
    m = 1 + others[steps, best] - x[steps, y]
    grad = np.zeros_like(x)
    grad[steps, best] = (m > 0) / len(x)
    grad[steps, y] = (m > 0) / -len(x)
    return np.mean(np.maximum(m, 0)), grad


# PyTorch's own functions if they exist. relu, unlike clamp and maximum, has derivative 0 at the kink.


def functional(name: str, **options) -> Callable:
    """Return a loss of ``torch.nn.functional`` as a function of scores, targets and reduction."""

    def loss(x, y, reduction):
        import torch

        return getattr(torch.nn.functional, name)(x, y, reduction=reduction, **options)

    return loss


def composed(steps: Callable) -> Callable:
    """Return the loss whose steps are a PyTorch expression as a function of scores, targets and reduction."""

    def loss(x, y, reduction):
        losses = steps(x, y)
        return losses if reduction == "none" else getattr(losses, reduction)()

    return loss


def torch_multiclass_hinge(x, y):
    target = y.unsqueeze(-1)
    best = x.scatter(-1, target, -np.inf).amax(-1)
    return (1 + best - x.gather(-1, target).squeeze(-1)).relu()


def torch_log_cosh(x, y):
    d = x - y
    return d + _functions().softplus(-2 * d) - math.log(2)


def torch_tweedie(x, y):
    return -y * (x * (1 - POWER)).exp() / (1 - POWER) + (x * (2 - POWER)).exp() / (2 - POWER)


def torch_binary_focal(x, y):
    """Return the expression of torchvision."""
    p = x.sigmoid()
    loss = _functions().binary_cross_entropy_with_logits(x, y, reduction="none")
    return loss * (1 - (p * y + (1 - p) * (1 - y))) ** 2


def torch_softmax_focal(x, y):
    loss = _functions().cross_entropy(x, y, reduction="none")
    return (1 - (-loss).exp()) ** 2 * loss


def _functions():
    import torch

    return torch.nn.functional


ENTROPY = Loss(
    fsl.softmax_cross_entropy, functional("cross_entropy"), classes, optax="softmax_cross_entropy_with_integer_labels"
)
MAKE = {registry.NUMBERS: reals, registry.SIGNS: signs, registry.SHARES: bits, registry.CLASSES: classes}
MAKE[registry.COUNTS] = counts
OPTIONS = {"huber": {"delta": DELTA}, "quantile": {"q": Q}}  # the others' defaults
PEERS = {  # PyTorch's function, and NumPy's
    "binary": (functional("binary_cross_entropy_with_logits"), numpy_bce),
    "binary_focal": (composed(torch_binary_focal), None),
    "hinge": (composed(lambda x, y: (1 - y * x).relu()), numpy_hinge),
    "huber": (functional("huber_loss", delta=DELTA), numpy_huber),
    "log_cosh": (composed(torch_log_cosh), None),
    "mae": (functional("l1_loss"), numpy_mae),
    "mse": (functional("mse_loss"), numpy_mse),
    "multiclass_hinge": (composed(torch_multiclass_hinge), numpy_multiclass_hinge),
    "nll": (functional("nll_loss"), None),
    "poisson": (functional("poisson_nll_loss"), None),
    "quantile": (composed(lambda x, y: Q * (y - x).relu() + (1 - Q) * (x - y).relu()), numpy_quantile),
    "softmax_focal": (composed(torch_softmax_focal), None),
    "squared_hinge": (composed(lambda x, y: (1 - y * x).relu().square()), numpy_squared_hinge),
    "tweedie": (composed(torch_tweedie), None),
}


def of_registry(row: registry.StepLoss) -> Loss:
    """Return a loss of the registry beside its peers, if it has any."""
    options = {**row.options, **OPTIONS.get(row.name, {})}
    torch, numpy = PEERS.get(row.name, (None, None))
    return Loss(partial(getattr(fsl, row.function), **options), torch, MAKE[row.targets], numpy)


def gaussian(scores, targets, *, grad_out=None, return_grad=False, **options):
    """Return the loss of means and logarithms of variances, scores [B, 2, T], for targets [:, 0], and its gradient."""
    outs = None if grad_out is None else (grad_out[:, 0], grad_out[:, 1])
    options |= {"input": "log_variance", "eps": 1e-30, "grad_out": outs, "return_grad": return_grad}
    found = fsl.gaussian_nll_loss(scores[:, 0], targets[:, 0], scores[:, 1], **options)
    if outs is not None:
        return found[0], grad_out
    return (found[0], np.stack(found[1][:2], axis=1)) if return_grad else found


def torch_gaussian(x, y, reduction):
    mean, log_variance = x.unbind(1)
    return _functions().gaussian_nll_loss(mean, y[:, 0], log_variance.exp(), eps=1e-30, reduction=reduction)


GAUSSIAN, MEANS_AND_VARIANCES = Loss(gaussian, torch_gaussian, reals), (2048, 2, 4096)  # B, 2, T

# Random scores are neither probabilities nor rates, and the cross-entropy of classes has workloads of its own.
LOSSES = {
    name: of_registry(row)
    for name, row in registry.LOSSES.items()
    if row.targets in MAKE and row.allowed == registry.NUMBERS
}


def names(chosen: Callable[[registry.StepLoss], bool]) -> list[str]:
    """List those of `LOSSES` whose row of the registry is chosen."""
    return [name for name in LOSSES if chosen(registry.LOSSES[name])]


def cross_entropy_rows(folder: Path | None) -> list[Row]:
    """List the synthetic workloads, ten million steps, and the frames of the real emissions."""
    made = [random_row(name, ENTROPY, shape) for name, shape in CROSS_ENTROPY.items()]
    made.append(_checked_row("ten_million", ENTROPY, (TEN_MILLION, 2)))
    made += [_real_row(name, folder) for name in sides_ctc.real_data.NAMES]
    work = [{"frame": math.prod(row.shape[:-1]), "logit": math.prod(row.shape)} for row in made]
    return [replace(row, work=each) for row, each in zip(made, work, strict=True)]


def elementwise_rows() -> list[Row]:
    """List the losses limited by memory bandwidth, timed with ``grad_out`` only, and ten million steps."""
    made = [random_row(name, loss, shape_of(name), ["grad_out"]) for name, loss in LOSSES.items() if name not in POWERS]
    return [*made, _checked_row("ten_million_mse", LOSSES["mse"], (1000, TEN_MILLION // 1000))]


def power_rows() -> list[Row]:
    """List the losses of exponentials and powers, timed with ``grad_out`` only."""
    made = [random_row(name, LOSSES[name], shape_of(name), ["grad_out"]) for name in POWERS]
    return [*made, random_row("gaussian", GAUSSIAN, MEANS_AND_VARIANCES, ["grad_out"])]


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of the scores that one of `LOSSES` is timed on."""
    return CLASSES if LOSSES[name].targets is classes else ELEMENTS


def random_row(
    name: str, loss: Loss, shape: tuple[int, ...], modes: list[str] | None = None, few: tuple[int, ...] | None = None
) -> Row:
    """Return a row that is timed at full size, with errors measured on fewer steps of the same length."""
    few = few or (max(1, min(shape[0], CHECKED // int(np.prod(shape[1:])))), *shape[1:])
    return _row(name, loss, partial(loss.batch, shape), partial(loss.batch, few), shape, modes=modes)


def _checked_row(name: str, loss: Loss, shape: tuple[int, ...]) -> Row:
    return _row(name, loss, None, partial(loss.batch, shape), shape)


def _real_row(name: str, folder: Path | None) -> Row:
    """Return a row of real frames with the best class of each as the target, as after training."""
    batch = sides_ctc.real_batch(name, folder)
    scores = batch.logits[np.arange(batch.logits.shape[1]) < batch.lengths[:, None]]
    frames = Batch(scores, scores.argmax(-1))
    return _row(name, ENTROPY, lambda: frames, lambda: frames, scores.shape, real=True)


def _row(
    name: str,
    loss: Loss,
    timed: Callable[[], Batch] | None,
    checked: Callable[[], Batch],
    shape: tuple[int, ...],
    *,
    real: bool = False,
    modes: list[str] | None = None,
) -> Row:
    def results(scale: int) -> dict[str, Callable[[], Result]]:
        batch = checked().scaled(scale)
        found = {OURS: lambda: our_result(loss, batch)}
        found |= {TORCH: lambda: torch_result(loss, batch, "float32")} if loss.torch else {}
        return found | ({OPTAX: lambda: optax_result(loss, batch)} if has_optax(loss) else {})

    def reference(scale: int) -> Result:
        batch = checked().scaled(scale)
        if loss.torch:
            return torch_result(loss, batch, "float64")
        return our_result(
            loss, Batch(batch.scores.astype(np.float64), batch.targets)
        )  # the tests hold it to a reference

    calls = timed and (lambda threads: all_calls(loss, timed(), threads, modes))
    return Row(name, shape, real, calls, results, reference)


def all_calls(loss: Loss, batch: Batch, threads: int, modes: list[str] | None) -> Calls:
    """List the timed calls of every side; NumPy's expression and the memory traffic use one thread."""
    ours = our_calls(loss, batch, threads)
    of = {OURS: {mode: ours[mode] for mode in modes or MODES}}
    if loss.torch:
        of[TORCH] = torch_calls(loss, batch, threads)
        if modes:
            del of[TORCH]["loss"]
    if has_optax(loss):
        of[OPTAX] = optax_calls(loss, batch)
    if threads == 1:
        of[TRAFFIC] = {"grad_out": traffic(batch)}
        if loss.numpy:
            of[NUMPY] = {"grad_out": lambda: loss.numpy(batch.scores, batch.targets)}
    return {(side, mode): of[side][mode] for mode in MODES for side in of if mode in of[side]}


def traffic(batch: Batch) -> Call:
    """Return the NumPy call that reads the scores, and targets of the same size, and writes a gradient."""
    grad = np.zeros_like(batch.scores)
    if batch.targets.shape == batch.scores.shape:
        return lambda: np.add(batch.scores, batch.targets, out=grad)
    return lambda: np.copyto(grad, batch.scores)


def our_calls(loss: Loss, batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    grad = np.zeros_like(batch.scores)
    call = partial(loss.ours, batch.scores, batch.targets, num_threads=threads)
    return {"grad_out": partial(call, grad_out=grad), "fresh": partial(call, return_grad=True), "loss": call}


def our_result(loss: Loss, batch: Batch) -> Result:
    """Compute the losses of the steps, their sum and its gradient in fastseqloss."""
    losses, grad = loss.ours(batch.scores, batch.targets, reduction="none", return_grad=True)
    return np.append(losses, loss.ours(batch.scores, batch.targets, reduction="sum")), grad


def torch_leaf(batch: Batch, dtype: str):
    """Return scores and targets as tensors; integers stay integers."""
    import torch

    floating = getattr(torch, dtype)
    scores, targets = torch.from_numpy(batch.scores).to(floating), torch.from_numpy(batch.targets)
    return scores.requires_grad_(True), targets.to(floating) if targets.is_floating_point() else targets


def torch_calls(loss: Loss, batch: Batch, threads: int) -> dict[str, Call]:
    """List the timed calls of PyTorch."""
    scores, targets = torch_leaf(batch, "float32")
    return peers.torch_calls(scores, lambda x: loss.torch(x, targets, "mean"), threads)


def torch_result(loss: Loss, batch: Batch, dtype: str) -> Result:
    """Compute the losses of the steps, their sum and its gradient in PyTorch."""
    scores, targets = torch_leaf(batch, dtype)
    losses = loss.torch(scores, targets, "none")
    losses.sum().backward()
    total = loss.torch(scores.detach(), targets, "sum")
    return np.append(losses.detach().numpy(), total.numpy()).astype(np.float64), scores.grad.numpy()


def has_optax(loss: Loss) -> bool:
    """Return True if optax is installed and has the loss."""
    return bool(loss.optax and importlib.util.find_spec("optax"))


def optax_loss(loss: Loss, batch: Batch):
    """Return the jitted mean, the jitted mean with gradient, and the scores."""
    import jax
    import jax.numpy as jnp
    import optax

    targets = jnp.asarray(batch.targets)

    def mean(x):
        return getattr(optax, loss.optax)(x, targets).mean()

    return jax.jit(mean), jax.jit(jax.value_and_grad(mean)), jnp.asarray(batch.scores)


def optax_calls(loss: Loss, batch: Batch) -> dict[str, Call]:
    """List the timed calls of optax."""
    return peers.jax_calls(*optax_loss(loss, batch))


def optax_result(loss: Loss, batch: Batch) -> Result:
    """Compute the losses of the steps, their sum and its gradient in optax."""
    import jax
    import optax

    def steps(x):
        losses = getattr(optax, loss.optax)(x, batch.targets)
        return losses.sum(), losses

    (total, losses), grad = jax.value_and_grad(steps, has_aux=True)(batch.scores)
    return np.append(losses, total).astype(np.float64), np.asarray(grad)


def forms(shape: tuple[int, ...]) -> tuple[Calls, Calls]:
    """List a copy, several calls of the cross-entropy on one thread, and the preparation of in-place calls."""
    import ml_dtypes

    batch = ENTROPY.batch(shape)
    scores, grad, work = batch.scores, np.zeros_like(batch.scores), batch.scores.copy()
    call = partial(ENTROPY.ours, targets=batch.targets, num_threads=1)
    calls: Calls = {
        ("np.copyto", "float32"): lambda: np.copyto(grad, scores),
        ("grad_out", "float32"): lambda: call(scores, grad_out=grad),
        ("grad_out=logits", "float32"): lambda: call(work, grad_out=work),
    }
    for dtype in (ml_dtypes.bfloat16, np.float16):
        half = scores.astype(dtype)
        calls["grad_out", np.dtype(dtype).name] = partial(call, half, grad_out=np.zeros_like(half))
    return calls, {("grad_out=logits", "float32"): lambda: np.copyto(work, scores)}
