"""Instruction set levels, and the kernels compiled for the level in use."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from types import ModuleType

from .._kernels import cpu


@functools.cache
def _is_built(level: str, name: str = "ctc.loss") -> bool:
    return importlib.util.find_spec(f"fastseqloss._kernels.{name}_{level}") is not None


def available_levels() -> list[str]:
    """Return the instruction set levels of this build that this machine can run, best first."""
    highest = cpu.x86_64_level()
    if highest == 0:
        return ["baseline"]
    return [name for name in (f"x86_64_v{n}" for n in range(highest, 1, -1)) if _is_built(name)]


def _choose_level() -> str:
    levels = available_levels()
    if not levels:
        raise ImportError(
            "this build of fastseqloss has no kernels for this CPU: wheels need x86-64-v2 (SSE4.2 and POPCNT), a build "
            "with FASTSEQLOSS_LEVELS needs one of those levels"
        )
    wanted = os.environ.get("FASTSEQLOSS_ISA", "")
    if wanted and wanted not in levels:
        raise ImportError(f"FASTSEQLOSS_ISA is {wanted!r}; this machine can run: {', '.join(levels)}")
    return wanted or levels[0]


level = _choose_level()


def load(name: str, isa: str | None = None) -> ModuleType:
    """Return a module of kernels, compiled for the level in use or for `isa`, or for the one below AVX-512."""
    wanted = isa or level
    if wanted == "x86_64_v4" and not _is_built(wanted, name):
        wanted = "x86_64_v3"
    return importlib.import_module(f"fastseqloss._kernels.{name}_{wanted}")
