"""Types of the adapters' functions, which the table makes at run time: `python tests/adapter_stubs.py` writes them."""

import re
from pathlib import Path
from typing import Literal, get_origin

import fastseqloss
from fastseqloss._adapters.table import LOSSES, Loss
from fastseqloss._core import types
from package_stub import declarations

FRAMEWORKS = {"torch": ("from torch import Tensor", "Tensor"), "jax": ("from jax import Array", "Array")}


def path(framework: str) -> Path:
    return Path(fastseqloss.__file__).parent / framework / "losses.pyi"


def stub(framework: str) -> str:
    """The stub of the module `losses` of an adapter, as ruff formats it."""
    imported, array = FRAMEWORKS[framework]
    functions = "".join(_function(LOSSES[name], array) for name in sorted(LOSSES))
    aliases = [name for name, kind in vars(types).items() if get_origin(kind) is Literal]
    used = sorted(name for name in aliases if re.search(rf"\b{name}\b", functions))
    names = "".join(f'    "{name}",\n' for name in sorted(LOSSES))
    imports = "\n".join(sorted(["from numpy.typing import ArrayLike", imported]))
    lines = "".join(f"    {name},\n" for name in used)
    return f"""# Written by tests/adapter_stubs.py from the table of losses.

from typing import Literal

{imports}

from .._core.types import (
{lines})

__all__ = [
{names}]

{functions}"""


def _function(row: Loss, array: str) -> str:
    lines = declarations(
        row.signature(array, array).parameters.values(),
        lambda parameter: parameter.annotation + ("" if parameter.default is parameter.empty else " = ..."),
    )
    return f"def {row.name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {array}: ...\n"


if __name__ == "__main__":
    for framework in FRAMEWORKS:
        path(framework).write_text(stub(framework))
