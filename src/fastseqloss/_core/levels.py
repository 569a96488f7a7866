"""Instruction set levels, and the kernels compiled for the level in use."""

from __future__ import annotations

import importlib.metadata
import os
from types import ModuleType

from .._kernels import cpu


def available_levels() -> list[str]:
    """Return the instruction set levels of this build that this machine can run, best first."""
    level = cpu.x86_64_level()
    if level == 0:
        return ["baseline"]
    return [f"x86_64_v{n}" for n in (4, 3, 2) if n <= level]


def _choose_level() -> str:
    levels = available_levels()
    if not levels:
        raise ImportError("fastseqloss needs an x86-64-v2 CPU (SSE4.2 and POPCNT)")
    wanted = os.environ.get("FASTSEQLOSS_ISA", "")
    if wanted and wanted not in levels:
        raise ImportError(f"FASTSEQLOSS_ISA is {wanted!r}; this machine can run: {', '.join(levels)}")
    return wanted or levels[0]


level = _choose_level()


def load(name: str, isa: str | None = None) -> ModuleType:
    """Return a module of kernels, compiled for the level in use or for `isa`."""
    return importlib.import_module(f"fastseqloss._kernels.{name}_{isa or level}")
