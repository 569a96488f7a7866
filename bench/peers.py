"""Calls of the peers for any loss: PyTorch eagerly, JAX compiled."""

import contextlib
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


def jax_call(function: Callable, scores) -> Call:
    """Return the timed call of a compiled function, until its results are there."""
    import jax

    return lambda: jax.block_until_ready(function(scores))


def jax_calls(loss: Callable, gradient: Callable, scores) -> dict[str, Call]:
    """List the timed calls of a compiled loss, and of the loss with its gradient."""
    return {"fresh": jax_call(gradient, scores), "loss": jax_call(loss, scores)}
