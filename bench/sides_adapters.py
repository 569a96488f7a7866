"""CTC through the adapters: their overhead in a short call, and training steps in each framework."""

import argparse
import importlib.util
from collections.abc import Callable

import numpy as np

import fastseqloss as fsl
from bench import contest, peers
from bench.contest import OPTAX, OURS, TORCH, Call, Calls
from bench.sides_ctc import WORKLOADS, Batch, optax_ctc, random_batch

NOTHING = "PyTorch, a function that does nothing"
LOSS, GRADIENT, BACKWARD = "loss", "with gradient", "with gradient and backward pass"
SHORT = (1, 20, 10, 5)


def short_calls(threads: int) -> Calls:
    """List short calls, whose time is mostly overhead around the kernel."""
    batch = random_batch(SHORT)
    arrays = batch.logits, batch.labels, batch.lengths, batch.label_lengths
    options = {"reduction": "sum", "num_threads": threads}
    numpy = {
        (OURS, LOSS): lambda: fsl.ctc_loss(*arrays, **options),
        (OURS, GRADIENT): lambda: fsl.ctc_loss(*arrays, return_grad=True, **options),
    }
    return numpy | torch_short(batch, threads) | (jax_short(batch) if has_jax() else {})


def torch_short(batch: Batch, threads: int) -> Calls:
    """List calls with tensors."""
    import torch

    from fastseqloss.torch import ctc_loss_from_logits

    torch.set_num_threads(threads)
    leaf, tensors = frames_first(batch)
    plain = leaf.detach()

    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.gradient = x
            return x.new_zeros(())

        @staticmethod
        def backward(ctx, slope):
            return ctx.gradient

    def backward(loss: Callable) -> Call:
        def call() -> None:
            leaf.grad = None
            loss().backward()

        return call

    def ours():
        return ctc_loss_from_logits(leaf, *tensors, reduction="sum")

    def nothing():
        return Nothing.apply(leaf)

    name = "fastseqloss.torch"
    return {
        (name, LOSS): lambda: ctc_loss_from_logits(plain, *tensors, reduction="sum"),
        (name, GRADIENT): ours,
        (NOTHING, GRADIENT): nothing,
        (name, BACKWARD): backward(ours),
        (NOTHING, BACKWARD): backward(nothing),
    }


def frames_first(batch: Batch):
    """Return the leaf [T, B, V], and the other arguments as tensors."""
    import torch

    leaf = torch.from_numpy(batch.logits).swapaxes(0, 1).clone(memory_format=torch.contiguous_format)
    arrays = batch.labels, batch.lengths, batch.label_lengths
    return leaf.requires_grad_(True), tuple(torch.from_numpy(array.astype(np.int64)) for array in arrays)


def jax_short(batch: Batch) -> Calls:
    """List compiled calls with JAX arrays; functions that do nothing measure JAX's own overhead."""
    import jax
    import jax.numpy as jnp

    def host(x, *others):
        return np.float32(0), np.asarray(x)

    def callback(x):
        shapes = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(host, shapes, x, *map(jnp.asarray, (batch.labels, batch.lengths)))

    def nothing(x):
        return jnp.float32(0), x

    name = "fastseqloss.jax"
    loss, gradient, x = jax_ctc(batch)
    return {
        (name, LOSS): peers.jax_call(loss, x),
        (name, BACKWARD): peers.jax_call(gradient, x),
        ("JAX, a compiled function that does nothing", BACKWARD): peers.jax_call(jax.jit(nothing), x),
        ("JAX, a callback that does nothing", BACKWARD): peers.jax_call(jax.jit(callback), x),
    }


def jax_ctc(batch: Batch):
    """Return the jitted loss, the jitted loss with gradient, and the logits."""
    import jax
    import jax.numpy as jnp

    from fastseqloss.jax import ctc_loss_with_lengths

    labels, lengths, label_lengths = map(jnp.asarray, (batch.labels, batch.lengths, batch.label_lengths))

    def loss(x):
        return ctc_loss_with_lengths(x, labels, lengths, label_lengths, blank=batch.blank, reduction="sum")

    return jax.jit(loss), jax.jit(jax.value_and_grad(loss)), jnp.asarray(batch.logits)


def has_jax() -> bool:
    """Return True if JAX and optax are installed."""
    return bool(importlib.util.find_spec("optax"))


def training_calls(batch: Batch, threads: int) -> Calls:
    """List forward and backward passes from logits to their gradient."""
    import torch
    from torch.nn import functional

    import fastseqloss.torch as ours

    torch.set_num_threads(threads)
    leaf, tensors = frames_first(batch)

    def passes(loss: Callable, scale: float = 1.0) -> Call:
        def call() -> None:
            leaf.grad = None
            (loss(leaf) * scale if scale != 1 else loss(leaf)).backward()

        return call

    def fused(x):
        return ours.ctc_loss_from_logits(x, *tensors, reduction="sum")

    calls = {
        (TORCH, "fresh"): passes(lambda x: functional.ctc_loss(x.log_softmax(-1), *tensors, reduction="sum")),
        ("ctc_loss", "fresh"): passes(lambda x: ours.ctc_loss(x.log_softmax(-1), *tensors, reduction="sum")),
        ("ctc_loss_from_logits", "fresh"): passes(fused),
        ("the same, scaled", "fresh"): passes(fused, 0.125),
    }
    if has_jax():
        calls[OPTAX, "fresh"] = peers.jax_calls(*optax_ctc(batch))["fresh"]
        calls["fastseqloss.jax", "fresh"] = peers.jax_calls(*jax_ctc(batch))["fresh"]
    return calls


def compare(options: argparse.Namespace) -> int:
    """Print both tables."""
    cost = {key: contest.microseconds(call, options.seconds) for key, call in short_calls(1).items()}
    lines = [
        {
            "": f"{side}: {mode}",
            "call": f"{total:.1f}",
            "over NumPy's": f"{total - cost[OURS, LOSS if mode == LOSS else GRADIENT]:.1f}",
        }
        for (side, mode), total in cost.items()
    ]
    print(f"\n### B,T,V,S = {','.join(map(str, SHORT))}, float32, 1 thread, microseconds of CPU time\n")
    contest.print_table(lines)
    print(f"\n### Loss and gradient of logits, float32, {contest.unit(options)}\n")
    lines = []
    for threads in options.threads:
        for name, shape in WORKLOADS.items():
            if name in (options.only or WORKLOADS):
                timings = contest.alternate(training_calls(random_batch(shape), threads), options, threads)
                cells = {side: contest.milliseconds(timing.best) for (side, _), timing in timings.items()}
                lines.append({"workload": name, "threads": str(threads)} | cells)
    contest.print_table(lines)
    return 0
