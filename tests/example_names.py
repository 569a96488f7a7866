"""The scripts in `examples/`, and what they define."""

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def names_of(name: str) -> dict[str, Any]:
    """Names that an example defines, without running it; `.ci/run` runs the short form, which checks the learning."""
    return runpy.run_path(str(EXAMPLES / name))
