"""Programs that PyTorch traces or transforms, in which tensors have no memory."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


def outside_graphs(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make `torch.compile` call a function as it is, without tracing it; its compiler is not imported here."""
    disabled: dict[str, Callable[_P, _R]] = {}

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if "torch._dynamo" not in sys.modules:  # nothing has been compiled
            return function(*args, **kwargs)
        if not disabled:
            disabled["call"] = torch.compiler.disable(function)
        return disabled["call"](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


# A text: the documentation is built beside a stand-in for PyTorch.
_RECENT = tuple(map(int, re.findall(r"\d+", str(torch.__version__))[:2])) >= (2, 13)


def traceable(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let `torch.compile` trace a loss down to its operator; older compilers cannot, and call it as it is."""
    return function if _RECENT else outside_graphs(function)


def is_transformed() -> bool:
    """Return True within a transform of `torch.func`."""
    return torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """Return True if operators are recorded, or have results without memory."""
    return torch._C._len_torch_dispatch_stack() > 0
