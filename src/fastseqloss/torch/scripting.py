"""Refusal of TorchScript."""

from __future__ import annotations

from typing import NoReturn


class Unscriptable:
    """A module that raises an error with a clear message under `torch.jit.script`."""

    def __prepare_scriptable__(self) -> NoReturn:  # which torch.jit.script calls first
        raise TypeError(f"{type(self).__name__} cannot be scripted, because it runs outside of PyTorch")
