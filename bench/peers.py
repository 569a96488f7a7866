"""Calls of the peers for any loss: PyTorch eagerly, JAX compiled and confined to some CPUs."""

import contextlib
import os
from collections.abc import Callable, Iterator

from bench.contest import Call

EXTRAS = {"matplotlib": "plot", "ml_dtypes": "test", "threadpoolctl": "test"} | dict.fromkeys(
    ("jax", "optax", "torch", "torchcrf"), "peers"
)


@contextlib.contextmanager
def extras_named() -> Iterator[None]:
    """Exit with the name of the extra that installs a missing package."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if not extra:
            raise
        raise SystemExit(f'this needs {error.name}: python -m pip install ".[{extra}]"') from None


def torch_calls(scores, loss: Callable, threads: int) -> dict[str, Call]:
    """List the timed calls of a PyTorch loss, which cannot write a gradient, only add to an existing one."""
    import torch

    torch.set_num_threads(threads)
    kept = scores.detach().clone().requires_grad_(True)
    kept.grad = torch.zeros_like(kept)

    def fresh() -> None:
        scores.grad = None
        loss(scores).backward()

    def grad_out() -> None:
        kept.grad.zero_()
        loss(kept).backward()

    return {"grad_out": grad_out, "fresh": fresh, "loss": torch.no_grad()(lambda: loss(scores))}


def jax_calls(loss: Callable, gradient: Callable, scores, threads: int) -> dict[str, Call]:
    """List the timed calls of a compiled loss, and of the loss with its gradient."""
    import jax

    def confined(function) -> Call:
        def call() -> None:
            with confine(threads):
                jax.block_until_ready(function(scores))

        return call

    return {"fresh": confined(gradient), "loss": confined(loss)}


@contextlib.contextmanager
def confine(threads: int) -> Iterator[None]:
    """Keep this process on ``threads`` CPUs (on Linux), because JAX's pool has a thread for each CPU."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    _pin(set(sorted(cpus)[:threads]))
    try:
        yield
    finally:
        _pin(cpus)


def _pin(cpus: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)
