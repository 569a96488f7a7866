"""The table of losses for PyTorch and JAX: complete, and the stubs that are written from it up to date."""

import inspect
import subprocess
import sys

import pytest

import adapter_stubs
import fastseqloss as fsl
from fastseqloss._adapters.table import LOSSES


def test_every_loss_is_in_the_table():
    functions = {name: getattr(fsl, name) for name in fsl.__all__ if inspect.isfunction(getattr(fsl, name))}
    losses = {f for f in functions.values() if "return_grad" in inspect.signature(f).parameters}
    assert losses == {row.function for row in LOSSES.values()}


@pytest.mark.parametrize("framework", adapter_stubs.FRAMEWORKS)
def test_stubs_are_up_to_date(framework):
    """Otherwise run `python tests/adapter_stubs.py`."""
    assert adapter_stubs.path(framework).read_text() == adapter_stubs.stub(framework)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_agree_with_their_functions(name):
    row = LOSSES[name]
    parameters = inspect.signature(row.function).parameters
    assert {*row.scores, *row.shared, *row.static, *row.example} <= parameters.keys()
    assert next(iter(parameters)) == row.scores[0]
    by_targets = "with_respect_to" in parameters
    assert row.by_targets == by_targets


def test_stand_ins_for_the_frameworks():
    """The documentation is built without PyTorch and JAX, too."""
    code = """
import sys
from types import ModuleType
class StandIn(ModuleType):
    __all__, Tensor = (), None  # no class
for name in ("torch", "jax"):
    sys.modules[name] = StandIn(name)
from fastseqloss._adapters.docstrings import Framework, docstring
from fastseqloss._adapters.table import LOSSES
framework = Framework("torch", "Tensor", "", {}, ">>> {first} = {value}", "{value}")
assert all(docstring(row, framework) for row in LOSSES.values())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
