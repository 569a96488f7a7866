"""Refusal of TorchScript."""

from __future__ import annotations

from typing import NoReturn


class Unscriptable:
    """A module that `torch.jit.script` refuses with a message of its own."""

    def __prepare_scriptable__(self) -> NoReturn:  # which torch.jit.script calls first
        raise TypeError(f"{type(self).__name__} cannot be scripted, because it runs outside of PyTorch")
