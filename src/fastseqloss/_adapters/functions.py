"""Names of functions of this package, by which the texts in compiled programs refer to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function of a module, such as "fastseqloss.ctc.loss.ctc_loss"."""
    return f"{function.__module__}.{function.__name__}"


def function_named(name: str) -> Callable[..., Any]:
    """Return the function that has a name."""
    module, _, attribute = name.rpartition(".")
    function: Callable[..., Any] = getattr(sys.modules[module], attribute)
    return function
