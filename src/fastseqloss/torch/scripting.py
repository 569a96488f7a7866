"""Refusals of TorchScript and of its tracer."""

from __future__ import annotations

from typing import NoReturn

import torch


class Unscriptable:
    """A module that `torch.jit.script` refuses with a message of its own."""

    def __prepare_scriptable__(self) -> NoReturn:  # which torch.jit.script calls first
        raise TypeError(f"{type(self).__name__} cannot be scripted, because it runs outside of PyTorch")


def refuse_tracing(name: str) -> None:
    """Raise RuntimeError if the function with this name is called under `torch.jit.trace`."""
    if torch.jit.is_tracing():
        raise RuntimeError(f"{name} cannot be traced by torch.jit: it runs outside of PyTorch")
