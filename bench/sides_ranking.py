"""Losses over lists by each side: fastseqloss, rax if it is installed, and its formulas in jitted JAX.

The peers hold arrays of all pairs, which are limited to PAIRS here: on long lists they are measured on fewer lists, and
their times are scaled up to as many scores. So are ours of the losses that take time for every pair.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastseqloss as fsl
from bench import contest, peers, resident
from bench.contest import OURS, print_table

SCORES = 10**6
LENGTHS = (100, 1000, 10_000)
LEVELS = 5
PAIRS = 10**8  # in an array of a peer
JAX, RAX = "JAX", "rax"
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {  # the function and its options, by the name of a workload
    "hinge": ("pairwise_hinge_loss", {}),
    "logistic": ("pairwise_logistic_loss", {}),
    "lambda": ("pairwise_logistic_loss", {"lambda_weight": "dcg"}),
    "list_softmax": ("list_softmax_loss", {}),
    "list_mle": ("list_mle_loss", {}),
    "bpr_max": ("bpr_max_loss", {}),
    "top1_max": ("top1_max_loss", {}),
}
OF_PAIRS = ("hinge", "logistic", "lambda")
OF_TARGETS = ("bpr_max", "top1_max")
LIMIT = 2e-6  # of the float32 gradient of a list, relative to its largest element, and of the loss


def batch(name: str, n: int, n_lists: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores in float32, and relevance of a few levels or targets."""
    rng = np.random.default_rng(n)
    scores = rng.standard_normal((n_lists, n), dtype=np.float32)
    return scores, rng.integers(0, n, n_lists) if name in OF_TARGETS else rng.integers(0, LEVELS, scores.shape) * 1.0


def ours(name: str, scores: np.ndarray, truth: np.ndarray, threads: int, **options: Any) -> Callable[[], Any]:
    """Return a call with the gradient written to a preallocated array."""
    function, chosen = LOSSES[name]
    kept = truth if name in OF_TARGETS else truth.astype(np.float32)
    return partial(
        getattr(fsl, function), scores, kept, grad_out=np.empty_like(scores), num_threads=threads, **chosen, **options
    )


def formulas() -> dict[str, Callable[..., Any]]:
    """Return the losses as expressions in JAX, with the averages of rax."""
    import jax
    import jax.numpy as jnp

    def over_pairs(cost: Callable[[Any], Any], s: Any, y: Any, weight: Any = 1.0) -> Any:
        preferred = y[:, :, None] > y[:, None, :]
        costs = cost(s[:, :, None] - s[:, None, :]) * weight
        return jnp.where(preferred, costs, 0).sum() / preferred.sum()

    def by_rank(s: Any, y: Any) -> Any:
        rank = jnp.argsort(jnp.argsort(-s, axis=1, stable=True), axis=1) + 1
        gain, discount = 2.0**y - 1, 1 / jnp.log2(1 + rank)
        difference = jnp.abs(gain[:, :, None] - gain[:, None, :]) * jnp.abs(discount[:, :, None] - discount[:, None, :])
        return jax.lax.stop_gradient(s.shape[1] * difference)

    def list_mle(s: Any, y: Any) -> Any:
        ordered = jnp.take_along_axis(s, jnp.argsort(-y, axis=1, stable=True), axis=1)
        return (jax.lax.cumlogsumexp(ordered, axis=1, reverse=True) - ordered).sum() / len(s)

    def of_target(term: Callable[[Any, Any], Any], s: Any, t: Any) -> Any:
        negative = jnp.arange(s.shape[1]) != t[:, None]
        q = jnp.where(negative, jax.nn.softmax(jnp.where(negative, s, -jnp.inf), axis=1), 0)
        return (q * term(jnp.take_along_axis(s, t[:, None], axis=1), s)).sum(axis=1)

    hinge, logistic = lambda d: jax.nn.relu(1 - d), lambda d: jax.nn.softplus(-d)
    return {
        "hinge": partial(over_pairs, hinge),
        "logistic": partial(over_pairs, logistic),
        "lambda": lambda s, y: over_pairs(logistic, s, y, by_rank(s, y)),
        "list_softmax": lambda s, y: -(y * jax.nn.log_softmax(s, axis=1)).sum() / len(s),
        "list_mle": list_mle,
        "bpr_max": lambda s, t: -jnp.log(of_target(lambda a, x: jax.nn.sigmoid(a - x), s, t)).mean(),
        "top1_max": lambda s, t: of_target(lambda a, x: jax.nn.sigmoid(x - a) + jax.nn.sigmoid(x * x), s, t).mean(),
    }


def of_rax() -> dict[str, Callable[..., Any]]:
    """Return the losses of rax, none if it is not installed."""
    try:
        import rax
    except ImportError:
        return {}
    return {
        "hinge": rax.pairwise_hinge_loss,
        "logistic": rax.pairwise_logistic_loss,
        "lambda": partial(rax.pairwise_logistic_loss, lambdaweight_fn=rax.dcg_lambdaweight),
        "list_softmax": rax.softmax_loss,
        "list_mle": rax.listmle_loss,
    }


def _jitted(loss: Callable[..., Any], scores: np.ndarray, truth: np.ndarray) -> Callable[[], None]:
    import jax
    import jax.numpy as jnp

    given = jnp.asarray(truth, jnp.int32 if truth.ndim == 1 else jnp.float32)
    gradient = jax.jit(jax.value_and_grad(loss))
    return peers.jax_call(lambda s: gradient(s, given), jnp.asarray(scores))


def _line(name: str, n: int, options: argparse.Namespace, sides: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Time one workload by all sides."""
    n_lists = SCORES // n
    fewer = max(1, min(n_lists, PAIRS // n**2)) if name in OF_PAIRS else n_lists
    own = fewer if name in ("logistic", "lambda") else n_lists
    scores, truth = batch(name, n, own)
    calls: contest.Calls = {(OURS, "grad_out"): ours(name, scores, truth, 1)}
    for side, losses in sides.items():
        if name in losses:
            calls[side, "grad_out"] = _jitted(losses[name], scores[:fewer], truth[:fewer])
    found = {side: timing.best for (side, _), timing in contest.alternate(calls, options, 1).items()}
    found[OURS] *= n_lists / own
    line = {"loss": name, "N": str(n), "lists": str(n_lists), OURS: contest.milliseconds(found[OURS])}
    for side in sides:
        scaled = found.get(side, 0.0) * (n_lists / fewer)
        note = f" ({fewer} lists)" if fewer < n_lists else ""
        line[side] = contest.milliseconds(scaled) + note if scaled else ""
        line[f"{side} ratio"] = contest.times(scaled / found[OURS]) if scaled else ""
    return line


def _errors(name: str) -> tuple[float, float]:
    """Return the largest errors of gradients and losses of float32 scores, against our own of float64."""
    scores, truth = batch(name, 1000, 20)
    reduction = "per_sequence" if name in OF_PAIRS else "none"
    loss, gradient = ours(name, scores, truth, 1, reduction=reduction)()
    exact, slopes = ours(name, scores.astype(np.float64), truth, 1, reduction=reduction)()
    largest = np.abs(slopes).max(axis=1, keepdims=True)
    return float(np.max(np.abs(gradient - slopes) / largest)), float(
        np.max(np.abs(loss - exact) / np.maximum(1, exact))
    )


def growth(name: str) -> int:
    """Return the bytes by which the peak memory grows in a call on lists of 10,000, the gradient aside."""
    ours(name, *batch(name, 100, 2), 1)()
    return resident.growth(ours(name, *batch(name, LENGTHS[-1], SCORES // LENGTHS[-1]), 1))


def compare(options: argparse.Namespace) -> int:
    """Print times, memory and errors; return 1 if errors exceed the limit."""
    if options.side:
        print(growth(options.side))
        return 0
    names = [name for name in LOSSES if name in (options.only or LOSSES)]
    if not options.accuracy_only:
        sides = {side: losses for side, losses in ((RAX, of_rax()), (JAX, formulas())) if losses}
        lines = [_line(name, n, options, sides) for name in names for n in LENGTHS]
        print(f"\n### 10^6 scores, {LEVELS} levels, float32, loss and gradient, 1 thread, {contest.unit(options)}\n")
        print_table(lines)
        print(f"- {contest.RATIO}; times of fewer lists are scaled up to all scores\n")
        script = str(Path(__file__).with_name("compare.py"))
        grown = {name: resident.printed_by([sys.executable, script, "ranking", "--side", name]) for name in names}
        print("### Working memory on 100 lists of 10,000 scores (4 MB), in MB\n")
        print_table([{"loss": name, "MB": f"{int(size) / 1e6:.1f}"} for name, size in grown.items()])
    errors = {name: _errors(name) for name in names}
    print("### Largest errors of float32 scores against float64\n")
    print_table([{"loss": name, "gradient": f"{e[0]:.1e}", "value": f"{e[1]:.1e}"} for name, e in errors.items()])
    failed = sum(not max(e) <= LIMIT for e in errors.values())
    print(f"accuracy: {len(errors) - failed} passed, {failed} failed")
    return int(failed > 0)
